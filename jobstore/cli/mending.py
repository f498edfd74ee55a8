"""``timezone``, ``close-interrupted`` and ``compact``: manual repairs."""

from __future__ import annotations

from typing import Any

from jobstore.cli.command import Command
from jobstore.cli.options import FILE_ONLY_HELP, FileArgument, ascii_integer, once, optional, repeated, two_places
from jobstore.cli.phrases import count
from jobstore.cli.screen import output, say


def _timezone(file: str | None, zone: str | None) -> None:
    path, wanted = two_places(file, zone, "ZONE", is_path=True)
    from jobstore.store import open as open_store

    with open_store(path) as store:
        current = store.timezone
    if wanted is None:
        with output(None) as stream:
            stream.write(f"{current}\n")
        return
    from jobstore.recording.recorder import Recorder

    with Recorder(path) as recorder:
        recorder.set_timezone(wanted)
    changed = f"now read in {wanted}; before, in {current}" if wanted != current else f"already read in {wanted}"
    say(f"jobstore: cron expressions in {path} are {changed}")


timezone = Command(
    "timezone",
    callback=_timezone,
    help="""Print or change the time zone of cron expressions.

    A change moves the next runs; the expressions and the history, which is in UTC, stay as they are. Programs
    that have the store open use the new zone from their next query on.""",
    params=[FileArgument(), optional("zone", "[ZONE]", "An IANA name. Without it, the current zone is printed.")],
    examples=[
        ("jobstore timezone jobs.db", "print it"),
        ("jobstore timezone jobs.db Europe/Berlin", "change it"),
    ],
)


def _close_interrupted(file: str | None, grace: str | None, worker_id: tuple[str, ...], host: tuple[str, ...]) -> None:
    path, _ = two_places(file, None, "")
    seconds = ascii_integer(grace, "--grace", 0)
    from jobstore.recording.recorder import Recorder
    from jobstore.store import open as open_store

    with open_store(path):
        pass  # a recorder would create the file
    gone: dict[str, Any] = {"worker_id": worker_id or None, "hosts": host or None, "grace_seconds": seconds}
    with Recorder(path) as recorder:
        closed = recorder.close_interrupted(**{key: value for key, value in gone.items() if value is not None})
    say(f"jobstore: closed {count(closed, 'execution')}")


close_interrupted = Command(
    "close-interrupted",
    callback=_close_interrupted,
    help="""Close executions whose process is gone.

    RUNNING and PENDING executions whose process has died become FAILURE. RUNNING executions that exceeded their job's
    timeout plus the grace become TIMEOUT. This command cannot see processes on another host or in another container:
    if you know that one is gone, name its worker or its host.""",
    params=[
        FileArgument(),
        once("--grace", "SECONDS", "How long a run may exceed its timeout. [default: 60]"),
        repeated("--worker-id", "ID", "A worker that is gone. May be repeated."),
        repeated("--host", "NAME", "A host that is gone. May be repeated."),
    ],
    examples=[
        ("jobstore close-interrupted jobs.db", ""),
        ("jobstore close-interrupted jobs.db --host web-7f9c", "a container that was replaced"),
    ],
)


def _compact(file: str | None) -> None:
    path, _ = two_places(file, None, "")
    from jobstore.recording.recorder import Recorder
    from jobstore.store import open as open_store

    with open_store(path):
        pass  # a recorder would create the file
    with Recorder(path) as recorder:
        freed = recorder.compact()
    say(f"jobstore: {path} is {freed:,} bytes smaller")


compact = Command(
    "compact",
    callback=_compact,
    help="""Return the space of deleted executions to the disk.

    After a prune the file keeps its size and reuses the space, so compact only after a large prune. Other processes may
    record and read meanwhile.""",
    params=[FileArgument(FILE_ONLY_HELP)],
    examples=[("jobstore compact jobs.db", "after 'jobstore prune jobs.db ...'")],
)
