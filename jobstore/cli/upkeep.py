"""``prune``, ``check``, ``backup`` and ``restore``: keep a store small and safe."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from jobstore.cli.command import Command
from jobstore.cli.endings import ending_cleanly
from jobstore.cli.options import (
    FILE_ONLY_HELP,
    FileArgument,
    ascii_integer,
    flag,
    once,
    optional,
    store_path,
    two_places,
    utc_option,
)
from jobstore.cli.phrases import count, plain
from jobstore.cli.progress import progress
from jobstore.cli.screen import say, stdout_in_utf8
from jobstore.cli.when import instant_text, length_option
from jobstore.language.address import Address, file_of, location_of
from jobstore.language.errors import InvalidParameter, StoreError, shown

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path

    from jobstore.language.address import Location

CHECK_FAILED = 1
PAGE_BYTES = 4096


def _prune(
    file: str | None,
    older_than: str | None,
    keep_last: str | None,
    archive: str | None,
    dry_run: bool,
    emergency: bool,
    utc: bool,
    **bounds: str | None,
) -> None:
    path = store_path(file)
    keep = ascii_integer(keep_last, "--keep-last", 0)
    bounds = _bounds(older_than, bounds, UTC if utc else None)
    if keep is None and bounds["before"] is None and not emergency:
        raise InvalidParameter(
            "prune needs --older-than, --before or --keep-last; without one it would delete the whole history"
        )
    if emergency and not dry_run:
        from jobstore.transfer.backup import give_up_reserve

        # Before anything opens the store: on a full disk, opening may need space, too.
        if give_up_reserve(file_of(path, "prune --emergency", "run prune without it")):
            say("jobstore: freed the space of the reserve")
    total = _executions(path)
    from jobstore.recording.recorder import Recorder

    rules: dict[str, Any] = {**bounds, "keep_last": keep, "emergency": emergency}
    with Recorder(path) as recorder:
        going = recorder.prune(**rules, dry_run=True)
        if dry_run:
            say(f"jobstore: would delete {count(going, 'execution')} of {total:,}; nothing was changed")
            return
        with progress(f"Pruning {path}", going) as tally:
            gone = recorder.prune(**rules, archive=archive, progress=tally)
    archived = f", archived in {archive}" if archive else ""
    is_bounded = keep is not None or bounds["before"] is not None
    advice = "" if is_bounded else "; add --older-than to delete"
    say(f"jobstore: deleted {count(gone, 'execution')} of {total:,}{archived}{advice}")


def _bounds(older_than: str | None, bounds: dict[str, str | None], zone: tzinfo | None) -> dict[str, str | None]:
    """Return the bounds in UTC; ``--older-than 90d`` becomes ``before``, 90 days ago."""
    now = datetime.now(UTC)
    found = {name: None if text is None else instant_text(text, zone, now) for name, text in bounds.items()}
    seconds = length_option(older_than, "--older-than")
    if seconds is None:
        return found
    if found["before"] is not None:
        raise click.UsageError("--older-than and --before exclude each other; give one.", click.get_current_context())
    before = instant_text(length := f"{seconds}s", UTC, now)
    if before == length:
        raise InvalidParameter(f"--older-than must not reach back before the year 1; received {shown(older_than)}")
    return {**found, "before": before}


def _executions(path: Location) -> int:
    """Count the executions, and fail if the store does not exist; a recorder would create it."""
    from jobstore.store import open as open_store

    with open_store(path) as store:
        return store.list_job_executions(limit=1)["pagination"]["total"]


def _known_executions(path: Location) -> int | None:
    """Count the executions, or return None if the store is damaged."""
    with suppress(StoreError):
        return _executions(path)
    return None


def _pages(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_size // PAGE_BYTES
    return None


def _check(file: str | None) -> int:
    path = store_path(file)
    from jobstore.transfer.backup import check as find_problems

    with progress(f"Checking {path}", _known_executions(path)) as tally:
        problems = find_problems(path, progress=tally)
    for problem in problems:
        stdout_in_utf8().write(f"{plain(problem)}\n")
    if problems:
        say(f"jobstore: {path} has {count(len(problems), 'problem')}; restore a backup, or load a dump into a new file")
        return CHECK_FAILED
    say(f"jobstore: {path} is sound{_standing(path)}")
    return 0


def _standing(path: Location) -> str:
    """Describe how far a PostgreSQL standby is behind its primary; "" if the store is no standby."""
    if not isinstance(path, Address):
        return ""
    from jobstore.transfer.server import lag

    behind = lag(path)
    return f" ({behind})" if behind else ""


def _backup(file: str | None, target: str | None) -> None:
    location, to = two_places(file, target, "TARGET", required=True, is_path=True)
    from jobstore.transfer.backup import PG_DUMP
    from jobstore.transfer.backup import backup as copy

    path = file_of(location, "backup", PG_DUMP)

    with ending_cleanly(), progress(f"Copying {path}", _pages(path)) as tally:
        copy(path, to or "", progress=tally)
    say(f"jobstore: copied {path} to {to} in {tally.seconds:.1f} s")


def _restore(source: str | None, file: str | None) -> None:
    if source is None:
        raise click.UsageError("Missing argument 'BACKUP'.")
    path = store_path(file)
    from jobstore.transfer.backup import restore as put_back

    with ending_cleanly(), progress(f"Checking {source}", _known_executions(location_of(source))) as tally:
        put_back(source, path, progress=tally)
    say(f"jobstore: restored {path} from {source} in {tally.seconds:.1f} s")


prune = Command(
    "prune",
    callback=_prune,
    help="""Delete old executions.

    Give --older-than, --before or --keep-last; --emergency alone only frees the reserve. Waiting and running executions
    are never deleted. Other processes may record meanwhile.""",
    params=[
        FileArgument(),
        once("--older-than", "LENGTH", "Delete executions that started longer ago than this, such as 90d."),
        once("--before", "TIME", "Delete executions that started before this time."),
        once("--keep-last", "N", "Always keep each job's newest N executions."),
        once("--keep-failures-before", "TIME", "Delete failures and timeouts only if they started before this time."),
        once("--archive", "OUT", "Write the executions to this file before they are deleted.", is_path=True),
        flag("--dry-run", "Print how many executions would be deleted; change nothing."),
        flag("--emergency", "For a full disk: use up the reserve file beside the store to make room."),
        utc_option(),
    ],
    examples=[
        (
            "jobstore prune jobs.db --older-than 90d --keep-last 20",
            "from cron: keep three months, and twenty runs of each job",
        ),
        ("jobstore prune jobs.db --before 2026-01-01 --archive 2025.jsonl", ""),
        ("jobstore prune jobs.db --keep-last 1000 --dry-run", ""),
    ],
)
check = Command(
    "check",
    callback=_check,
    help="Check a store for damage. Prints one problem per line; exits with code 1 if there is any.",
    params=[FileArgument()],
    examples=[("jobstore check jobs.db && jobstore backup jobs.db jobs-backup.db", "")],
)
backup = Command(
    "backup",
    callback=_backup,
    help="Copy a store to TARGET, even while it is being written. TARGET must not exist yet.",
    params=[
        FileArgument(FILE_ONLY_HELP),
        optional("target", "TARGET", "The file to create.", is_path=True),
    ],
    examples=[('jobstore backup jobs.db "backup/jobs-$(date +%F).db"', "")],
)
restore = Command(
    "restore",
    callback=_restore,
    help="""Replace the store FILE with a copy of BACKUP.

    The backup is checked first and is not changed. What FILE holds is lost: back it up before you restore an older
    backup. Readers and recorders need not stop; they use the restored store from their next call on.""",
    params=[
        optional("source", "BACKUP", "The backup.", is_path=True),
        FileArgument(FILE_ONLY_HELP),
    ],
    examples=[("jobstore restore backup/jobs-2026-03-01.db jobs.db", "")],
)
