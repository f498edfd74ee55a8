"""Records the run of a command in a thread, so that no error and no delay of the store affects the command.

The store may be busy, the disk may hang, or our own code may fail. The thread retries while there is time; the caller
waits for it at most two seconds before the command and thirty seconds after it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from jobstore.integrations.names import job_name
from jobstore.integrations.output import say
from jobstore.language.address import Address, is_address, location_of
from jobstore.language.errors import (
    Conflict,
    InvalidRecord,
    InvalidSchedule,
    JobStoreError,
    NotAStore,
    NotFound,
    StoreBusy,
    StoreNotFound,
)
from jobstore.language.models import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobstore.integrations.processgroup import Ended
    from jobstore.language.address import Location, Where
    from jobstore.recording.recorder import Recorder

PATIENCE_BEFORE_SECONDS: Final = 2.0
"""How long recording the start may delay the command; after that, it continues beside the command."""
PATIENCE_AFTER_SECONDS: Final = 30.0
TRIES: Final = 3
"""How often to try a step that fails; with a busy store or a server that is away, it is tried until the deadline."""
DEFAULTS: Final = {"job_type": "command", "job_category": "scheduled"}
"""The fields of a new job."""

LARGEST_OUTPUT_BYTES: Final = 60 * 1024
"""The most output to keep: a result may have 64 KiB of JSON."""

_SCHEDULE: Final = "schedule", frozenset({"schedule", "interval_seconds"})
_LEFT_OUT: Final = (
    ("category", frozenset({"job_category"})),
    ("type", frozenset({"job_type"})),
    ("timeout", frozenset({"timeout_seconds"})),
    ("command line", frozenset({"parameters"})),
)
_CALL_SECONDS = PATIENCE_AFTER_SECONDS
"""The timeout of one call: as long as the caller waits, so that the call keeps its place in the queue for the lock."""
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
"""Between tries, ever longer: a command may take hours, and its server may be away as long."""
_ERROR_TAIL_BYTES = 8 * 1024
_LONGEST_IN_JSON = 6
"""The most bytes that JSON takes for a byte of output: a control character becomes a backslash, a u and four digits."""


class RunRecord:
    """The record of one run: call `begin` before the command and `end` after it."""

    def __init__(
        self,
        store: Where,
        job: str,
        definition: dict[str, Any],
        *,
        timezone: str | None = None,
        keeps_always: bool = False,
    ) -> None:
        self._store, self._job, self._definition = store, job, definition
        self._name = job_name(job)
        self._timezone, self._keeps_always = timezone, keeps_always
        self._started_at = self._ended_at = datetime.now(UTC)
        self._is_running, self._has_thread = False, True
        self._recorder: Recorder | None = None
        self._execution_id: str | None = None
        self._ended: Ended | None = None
        self._deadline = float("inf")
        self._problem: str | None = "the store did not answer in time"
        self._start_is_tried, self._is_ended, self._is_over = threading.Event(), threading.Event(), threading.Event()

    def begin(self) -> None:
        """Start recording the start, and wait for that for at most two seconds."""
        thread = threading.Thread(target=self._work, name="jobstore-record", daemon=True)
        try:
            thread.start()
        except BaseException:  # noqa: BLE001 - without a thread, `end` records both the start and the end
            self._has_thread = False
            self._start_is_tried.set()
        if not self._start_is_tried.wait(PATIENCE_BEFORE_SECONDS):
            self._started_at = datetime.now(UTC)
        self._is_running = True

    def end(self, ended: Ended) -> None:
        """Record the end, and the start if that is still missing; print a message if there is not enough time."""
        self._ended, self._ended_at = ended, datetime.now(UTC)
        self._deadline = time.monotonic() + PATIENCE_AFTER_SECONDS
        self._is_ended.set()
        if not self._has_thread:
            self._work()
        self._is_over.wait(PATIENCE_AFTER_SECONDS)
        if self._problem is not None:
            say(f"this run of {self._job} is not recorded: {self._problem}")

    def facts(self) -> dict[str, str]:
        """Return the environment variables that describe the run to a hook, without their prefix."""
        ended = self._ended
        status = "" if ended is None else str(_status(ended))
        error = "" if ended is None else _error(ended) or ""
        store = self._store.secret if isinstance(self._store, Address) else os.fspath(self._store)
        if not is_address(store):
            with suppress(OSError):  # the current folder may be gone
                store = str(Path(store).absolute())
        return {
            "JOB": self._name, "EXECUTION_ID": self._execution_id or "", "STATUS": status, "ERROR": error,
            "DB": store,
        }  # fmt: skip

    @property
    def _path(self) -> Location:
        """The store's location, parsed only when it is opened: a malformed address must not stop the command."""
        return location_of(self._store)

    def _work(self) -> None:
        self._attempt(self._record_start, self._is_ended.is_set)
        self._start_is_tried.set()
        self._is_ended.wait()
        self._problem = self._attempt(self._record_end, lambda: time.monotonic() > self._deadline)
        self._drop()
        self._is_over.set()

    def _attempt(self, step: Callable[[Recorder], None], is_too_late: Callable[[], bool]) -> str | None:
        """Try a step until it succeeds or it is too late; return None, or the problem."""
        failures, pause = 0, _PAUSE_SECONDS
        while True:
            try:
                step(self._opened())
            except StoreBusy as error:
                problem = error.message
            except BaseException as error:  # noqa: BLE001 - a broken module may even exit
                if not getattr(error, "may_repeat", False):  # a server that is away may come back
                    failures += 1
                    self._drop()
                problem = f"{getattr(error, 'message', '') or f'{type(error).__name__}: {error}'}"
            else:
                return None
            if failures >= TRIES or is_too_late():
                return problem
            self._problem = problem
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _opened(self) -> Recorder:
        if self._recorder is None:
            self._recorder = self._open()
        return self._recorder

    def _drop(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            with suppress(BaseException):
                recorder.close()

    def _record_start(self, recorder: Recorder) -> None:
        if self._execution_id is not None:
            return
        self._execution_id = self._begun(recorder)
        with suppress(BaseException):  # an earlier exec may have been killed during a run
            recorder.close_interrupted()

    def _begun(self, recorder: Recorder) -> str:
        """Record the start; leave out an option that is not valid for a job, with a message."""
        while True:
            try:
                return self._begin(recorder)
            except (InvalidSchedule, InvalidRecord) as error:
                words, fields = _named_in(error)
                if not fields & self._definition.keys():
                    raise
                say(f"the job {self._job} is recorded without its {words}: {error}")
                self._definition = {key: value for key, value in self._definition.items() if key not in fields}

    def _begin(self, recorder: Recorder) -> str:
        if not self._is_running:  # the time for opening the store does not count as the command's
            self._started_at = datetime.now(UTC)
        description = {} if self._name == self._job else {"description": _readable(self._job)}
        return recorder.begin(
            self._name, self._definition, defaults={**DEFAULTS, **description}, worker_id=socket.gethostname() or None,
            at=self._started_at,
        )  # fmt: skip

    def _record_end(self, recorder: Recorder) -> None:
        self._record_start(recorder)
        ended = self._ended
        assert ended is not None  # noqa: S101 - set before this is called
        assert self._execution_id is not None  # noqa: S101 - set by `_record_start`
        try:
            recorder.finish(
                self._execution_id, _status(ended), result=_result(ended, self._keeps_always), error=_error(ended),
                at=max(self._ended_at, self._started_at), duration_ms=round((ended.seconds or 0) * 1000),
            )  # fmt: skip
        except NotFound:  # the store was replaced by one that lacks the start; the next try records both
            self._execution_id = None
            raise

    def _open(self) -> Recorder:
        """Open the recorder; a store that is created gets this machine's time zone."""
        from jobstore.recording.recorder import Recorder  # slow, and if it fails, the command must still run

        if self._timezone is not None:
            try:
                return Recorder(self._path, timezone=self._timezone, timeout_seconds=_CALL_SECONDS)
            except (Conflict, InvalidRecord) as error:
                say(f"--timezone is ignored: {error.message}")
                self._timezone = None
        if self._is_there():
            self._refuse_other_file()
            return Recorder(self._path, timeout_seconds=_CALL_SECONDS)
        return self._create(Recorder)

    def _is_there(self) -> bool:
        if isinstance(self._path, Path):
            return self._path.exists()
        from jobstore.store import open as open_store

        try:
            open_store(self._path).close()
        except StoreNotFound:
            return False
        return True

    def _refuse_other_file(self) -> None:
        """Raise for a file that is no store: a recorder would leave its lock beside it. Beside a store it is there."""
        from jobstore.store import open as open_store

        path = self._path
        if isinstance(path, Path) and not Path(f"{os.path.realpath(path)}.lock").exists():
            try:
                open_store(path).close()
            except NotAStore:
                raise
            except (JobStoreError, OSError):  # the recorder knows better what may be done about it
                pass

    def _create(self, recorder: type[Recorder]) -> Recorder:
        from jobstore.integrations.localzone import local_timezone

        zone = local_timezone()
        try:
            made = recorder(self._path, timezone=zone.name, timeout_seconds=_CALL_SECONDS)
        except Conflict:  # another process has just created it
            return recorder(self._path, timeout_seconds=_CALL_SECONDS)
        if zone.doubt:
            say(f"{self._path} reads cron expressions in {zone.name}: {zone.doubt}; change it with 'jobstore timezone'")
        return made


def _named_in(error: JobStoreError) -> tuple[str, frozenset[str]]:
    """Return the part of the definition that an error is about: its message begins with the field's name."""
    named = (part for part in _LEFT_OUT if error.message.startswith(tuple(part[1])))
    return next(named, _SCHEDULE)


def _status(ended: Ended) -> Status:
    if ended.timed_out:
        return Status.TIMEOUT
    return Status.SUCCESS if ended.exit_code == 0 else Status.FAILURE


def _error(ended: Ended) -> str | None:
    return None if ended.reason is None else f"{ended.reason}\n{ended.tail.text(_ERROR_TAIL_BYTES)}".rstrip()


def _result(ended: Ended, keeps_always: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"exit_code": ended.exit_code, **({"output_lost": ended.lost} if ended.lost else {})}
    limit = LARGEST_OUTPUT_BYTES if keeps_always or ended.reason is None else 0
    text = ended.tail.text(limit) if limit else ""
    while (over := len(orjson.dumps(text)) - LARGEST_OUTPUT_BYTES) > 0:
        limit -= -(-over // _LONGEST_IN_JSON)
        text = ended.tail.text(limit)
    return {**result, "output": text} if text else result


def _readable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()[:200]
