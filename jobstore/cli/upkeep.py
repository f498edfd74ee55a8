"""``prune``, ``check`` and ``backup``: what keeps a store small and sound."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from jobstore.cli.command import Command
from jobstore.cli.options import FileArgument, ascii_integer, flag, once, store_path, two_places
from jobstore.cli.phrases import count, plain
from jobstore.cli.progress import progress
from jobstore.cli.screen import say, stdout_in_utf8
from jobstore.language.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

CHECK_FAILED = 1
PAGE_BYTES = 4096


def _prune(
    file: str | None, keep_last: str | None, archive: str | None, dry_run: bool, emergency: bool, **bounds: str | None
) -> None:
    path = store_path(file)
    keep = ascii_integer(keep_last, "--keep-last", 0)
    if emergency and not dry_run:
        from jobstore.transfer.backup import give_up_reserve  # noqa: PLC0415 - for this alone

        give_up_reserve(path)  # before anything opens the file: on a full disk that may need room itself
    total = _executions(path)
    from jobstore.recording.recorder import Recorder  # noqa: PLC0415 - writers are heavy

    rules: dict[str, Any] = {**bounds, "keep_last": keep, "emergency": emergency}
    with Recorder(path) as recorder:
        going = recorder.prune(**rules, dry_run=True)
        if dry_run:
            say(f"jobstore: would remove {count(going, 'execution')} of {total:,}; nothing was changed")
            return
        with progress(f"Pruning {path}", going) as tally:
            gone = recorder.prune(**rules, archive=archive, progress=tally)
    archived = f", archived in {archive}" if archive else ""
    say(f"jobstore: removed {count(gone, 'execution')} of {total:,}{archived}")


def _executions(path: Path) -> int:
    """How many there are; a recorder would make the file that is not there."""
    from jobstore.store import open as open_store  # noqa: PLC0415 - a refusal needs no store

    with open_store(path) as store:
        return store.list_job_executions(limit=1)["pagination"]["total"]


def _known_executions(path: Path) -> int | None:
    """The same of a file that may be damaged."""
    with suppress(StoreError):
        return _executions(path)
    return None


def _pages(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_size // PAGE_BYTES
    return None


def _check(file: str | None) -> int:
    path = store_path(file)
    from jobstore.transfer.backup import check as find_problems  # noqa: PLC0415 - beside its only use

    with progress(f"Checking {path}", _known_executions(path)) as tally:
        problems = find_problems(path, progress=tally)
    for problem in problems:
        stdout_in_utf8().write(f"{plain(problem)}\n")
    if problems:
        say(f"jobstore: {path} has {count(len(problems), 'problem')}; restore a backup, or dump it and load it anew")
        return CHECK_FAILED
    say(f"jobstore: {path} is sound")
    return 0


def _backup(file: str | None, target: str | None) -> None:
    path, to = two_places(file, target, "TARGET", required=True, is_path=True)
    from jobstore.transfer.backup import backup as copy  # noqa: PLC0415 - beside its only use

    with progress(f"Copying {path}", _pages(path)) as tally:
        copy(path, to or "", progress=tally)
    say(f"jobstore: copied {path} to {to} in {tally.seconds:.1f} s")


prune = Command(
    "prune",
    callback=_prune,
    help="""Remove old executions: those that started before a time, but none of the last N of each job.

    One of the two rules must be given. Executions that wait or run stay, and recording goes on meanwhile.""",
    params=[
        FileArgument(),
        once("--before", metavar="TIME", help="What started before this goes: RFC 3339, or a date for its 00:00 UTC."),
        once("--keep-last", metavar="N", help="Keep the last N of each job, whatever their age."),
        once(
            "--keep-failures-before", metavar="TIME", help="Of FAILURE and TIMEOUT only what started before this goes."
        ),
        once("--archive", metavar="OUT", help="First write what goes to this file, as JSON lines.", type=click.Path()),
        flag("--dry-run", "Say what would go, and change nothing."),
        flag("--emergency", "The disk is full: give up the reserve beside the store and work in its room."),
    ],
    examples=[
        (
            "jobstore prune jobs.db --before \"$(date -d '90 days ago' +%F)\" --keep-last 20",
            "from cron: three months, and twenty runs of each job",
        ),
        ("jobstore prune jobs.db --before 2026-01-01 --archive 2025.jsonl", ""),
        ("jobstore prune jobs.db --keep-last 1000 --dry-run", ""),
    ],
)
check = Command(
    "check",
    callback=_check,
    help="Look for damage and contradictions. Prints one problem a line; exit code 1 if there is any.",
    params=[FileArgument()],
    examples=[("jobstore check jobs.db && jobstore backup jobs.db jobs-backup.db", "")],
)
backup = Command(
    "backup",
    callback=_backup,
    help="Copy a store to TARGET, also while it is being written. A TARGET that is there already is refused.",
    params=[
        FileArgument(),
        click.Argument(["target"], required=False, metavar="TARGET", type=click.Path(), help="Where the copy goes."),
    ],
    examples=[('jobstore backup jobs.db "backup/jobs-$(date +%F).db"', "")],
)
