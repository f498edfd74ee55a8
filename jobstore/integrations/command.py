"""``jobstore exec``: a command run and recorded, for crontab and systemd.

The command comes first: whatever is wrong with the store is told on stderr, and the command runs all
the same, with its own output and exit code.
"""

from __future__ import annotations

import os
import socket
import sys
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobstore.integrations.processgroup import GRACE_SECONDS, NOT_EXECUTABLE, Ended, Group, signals_passed_on
from jobstore.language.errors import Conflict, InvalidParameter, InvalidSchedule, JobStoreError, NotFound
from jobstore.language.models import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobstore.recording.recorder import Recorder

DEFAULT_CATEGORY: Final = "scheduled"
DEFAULT_TYPE: Final = "command"
PATIENCE_BEFORE_SECONDS: Final = 2.0
"""How long a busy store may keep the command from starting; its start is then recorded with its end."""
PATIENCE_AFTER_SECONDS: Final = 30.0

_LONGEST_COMMAND = 4000
_LOCALTIME = Path("/etc/localtime")


def run(
    path: str | os.PathLike[str],
    job: str,
    command: Sequence[str],
    *,
    schedule: str | None = None,
    interval_seconds: int | None = None,
    timeout_seconds: float | None = None,
    category: str | None = None,
    job_type: str | None = None,
    grace_seconds: float = GRACE_SECONDS,
    stdout: int = 1,
    stderr: int = 2,
) -> int:
    """Runs a command, records the run as an execution of `job` and returns the exit code for the shell.

    The store and the job are made if they are not there, the store in the zone of this machine, which is
    the one that crontab reads its lines in. Output goes on as it comes. SIGTERM, SIGINT, SIGHUP and
    SIGQUIT are passed on to the command and all it started.

    Args:
        path: the store.
        job: the name of the job.
        command: the program and its arguments; no shell.
        schedule: the cron expression, so that the next run is known. Not given, what the job has stays.
        interval_seconds: or the interval.
        timeout_seconds: after so long the whole process group gets SIGTERM, then SIGKILL.
        category: the job's category; ``scheduled`` for a new job unless given.
        job_type: the job's type; ``command`` for a new job unless given.
        grace_seconds: between SIGTERM and SIGKILL.
        stdout: the file descriptor that gets the command's output.
        stderr: the one that gets the rest.

    Returns:
        The command's own exit code; 128 and the signal's number where a signal killed it, 124 after a
        time-out, 127 where there is no such command, 126 where it cannot be executed.

    Raises:
        InvalidParameter: the command is empty.
    """
    if not command:
        raise InvalidParameter("command must name a program; received none")
    definition = {
        "schedule": schedule,
        "interval_seconds": interval_seconds,
        "timeout_seconds": None if timeout_seconds is None else max(1, ceil(timeout_seconds)),
        "job_category": category,
        "job_type": job_type,
    }
    given = {key: value for key, value in definition.items() if value is not None}
    record = _Record(Path(path), job, {**given, "parameters": {"command": _shown_command(command)}})
    group = Group(command, stdout=stdout, stderr=stderr)
    with signals_passed_on(group):
        record.begin()
        ended = group.start() or group.wait(timeout_seconds=timeout_seconds, grace_seconds=grace_seconds)
        record.end(ended)
    group.drain()
    if ended.exit_code >= NOT_EXECUTABLE and ended.reason and not ended.tail:
        _say(ended.reason)
    return ended.exit_code


class _Record:
    """The run on its way into the store; nothing of it raises."""

    def __init__(self, path: Path, job: str, definition: dict[str, Any]) -> None:
        self._path, self._job, self._definition = path, job, definition
        self._started_at = datetime.now(UTC)
        self._recorder: Recorder | None = None
        self._execution_id: str | None = None
        self._is_started = False

    def begin(self) -> None:
        """Records the start, if that is quickly done; else it is tried again at the end."""
        self._attempt(self._record_start, PATIENCE_BEFORE_SECONDS)

    def end(self, ended: Ended) -> None:
        """Records the end, and the start if that could not be done before."""
        at = datetime.now(UTC)
        problem = self._attempt(lambda recorder: self._record_end(recorder, ended, at), PATIENCE_AFTER_SECONDS)
        if problem is not None:
            _say(f"this run of {self._job} is not recorded: {problem}")
        if self._recorder is not None:
            self._recorder.close()

    def _attempt(self, step: Callable[[Recorder], None], patience_seconds: float) -> str | None:
        """What kept the step from being taken; none if it was."""
        try:
            if self._recorder is not None:
                self._recorder.close()
            self._recorder = _open(self._path, patience_seconds)
            step(self._recorder)
        except JobStoreError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - the command comes first
            return f"{type(error).__name__}: {error}"
        return None

    def _record_start(self, recorder: Recorder) -> None:
        if self._execution_id is None:
            self._save_job(recorder)
            self._execution_id = recorder.enqueue(self._job, worker_id=socket.gethostname(), at=self._started_at)
        if not self._is_started:
            recorder.start(self._execution_id, at=self._started_at)
            self._is_started = True

    def _record_end(self, recorder: Recorder, ended: Ended, at: datetime) -> None:
        self._record_start(recorder)
        assert self._execution_id is not None  # noqa: S101 - the line above gave it
        result: dict[str, Any] = {"exit_code": ended.exit_code}
        error = None
        if ended.reason is None:
            result |= {"output": ended.tail} if ended.tail else {}
        else:
            error = f"{ended.reason}\n{ended.tail}".rstrip()
        recorder.finish(self._execution_id, _status(ended), result=result, error=error, at=at)

    def _save_job(self, recorder: Recorder) -> None:
        """Adds the job or updates it by what was given; a schedule that cannot be is left out and said."""
        definition = {**self._words_kept(), **self._definition}
        try:
            recorder.save_job(self._job, **definition)
        except InvalidSchedule as error:
            _say(f"the job {self._job} is recorded without its schedule: {error}")
            unscheduled = {key: definition[key] for key in definition if key not in ("schedule", "interval_seconds")}
            recorder.save_job(self._job, **unscheduled)

    def _words_kept(self) -> dict[str, str]:
        """The type and the category of a job that is there."""
        from jobstore.store import open as open_store  # noqa: PLC0415 - beside its use, as all that may fail

        with open_store(self._path) as store:
            try:
                found = store.get_job(self._job)
            except (NotFound, InvalidParameter):
                return {"job_type": DEFAULT_TYPE, "job_category": DEFAULT_CATEGORY}
        return {"job_type": found["job_type"], "job_category": found["job_category"]}


def _open(path: Path, timeout_seconds: float) -> Recorder:
    """The recorder; a store that is made has the zone of this machine."""
    from jobstore.recording.recorder import Recorder  # noqa: PLC0415 - heavy, and the command must run without it, too

    if path.exists():
        return Recorder(path, timeout_seconds=timeout_seconds)
    try:
        return Recorder(path, timezone=local_timezone(), timeout_seconds=timeout_seconds)
    except Conflict:  # another process has just made it
        return Recorder(path, timeout_seconds=timeout_seconds)


def local_timezone() -> str:
    """The IANA name of this machine's time zone, ``UTC`` where it does not tell."""
    from jobstore.language.errors import InvalidRecord  # noqa: PLC0415
    from jobstore.language.schedule import check_timezone  # noqa: PLC0415 - croniter is heavy

    linked = os.path.realpath(_LOCALTIME).partition("zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").removeprefix(":"), linked):
        try:
            return check_timezone(name)
        except InvalidRecord:
            continue
    return "UTC"


def _status(ended: Ended) -> Status:
    if ended.timed_out:
        return Status.TIMEOUT
    return Status.SUCCESS if ended.exit_code == 0 else Status.FAILURE


def _shown_command(command: Sequence[str]) -> list[str]:
    """The command as JSON can hold it; a very long one is cut."""
    shown, room = [], _LONGEST_COMMAND
    for word in command:
        text = os.fsencode(word).decode("utf-8", "backslashreplace")
        shown.append(text if len(text) <= room else f"{text[:room]}…")
        room -= len(text)
        if room <= 0:
            break
    return shown


def _say(message: str) -> None:
    print(f"jobstore: {message}", file=sys.stderr, flush=True)  # noqa: T201 - of a command line
