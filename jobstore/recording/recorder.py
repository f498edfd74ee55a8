"""`Recorder`, for schedulers: the only class that writes to a store.

A call returns when its record is on the disk. Calls of threads that wait for each other share a transaction.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from jobstore.language.errors import (
    Conflict,
    InvalidParameter,
    InvalidRecord,
    JobStoreError,
    NotFound,
    StoreError,
    shown,
)
from jobstore.language.fields import (
    LARGEST_SECONDS,
    bounded_error,
    checked_duration,
    checked_end,
    checked_integer,
    checked_label,
    checked_measure,
    checked_name,
    json_text,
)
from jobstore.language.instants import instant_us
from jobstore.language.models import STATUS_CODES, Status
from jobstore.language.records import instant_or_now
from jobstore.language.results import result_text
from jobstore.recording import definitions, transitions
from jobstore.recording.disk import compact, file_writer, prune_emergency
from jobstore.recording.leftovers import forget_unused
from jobstore.recording.logs import captured_logs
from jobstore.recording.prune import Chooser, count_prunable, prune, rules
from jobstore.recording.retention import Keeper, Retention
from jobstore.recording.run import Ending, Run, Stopwatch, described
from jobstore.recording.together import Together
from jobstore.recording.traces import current_trace_id
from jobstore.recording.transitions import Closing, End, Entry, execution_number
from jobstore.storage.documents import execution_document
from jobstore.storage.limits import LONGEST_TIMEOUT_SECONDS, TIMEOUT_SECONDS
from jobstore.storage.lock import AlreadyWriting
from jobstore.storage.processes import this_process
from jobstore.storage.rows import fetch_executions
from jobstore.storage.transactions import WriterClosed
from jobstore.storage.writer import open_writer

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Collection, Iterator, Mapping

    from jobstore.language.address import Location, Where
    from jobstore.language.models import ExecutionDocument

    OnFinish = Callable[[ExecutionDocument], object]

_log = logging.getLogger("jobstore")
_T = TypeVar("_T")


class _Unset(Generic[_T]):
    """The default of an optional argument: an update keeps the old value, a new job gets the value shown."""

    def __init__(self, value: _T) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


OWN_REMEMBERED: Final = 10_000
"""The most unfinished runs of which a recorder remembers when they were created and started."""

_UNKNOWN: Final = (None, None)
_NONE: Final[_Unset[None]] = _Unset(None)
_ONE: Final = _Unset(1)
_TRUE: Final = _Unset(True)


class Recorder:
    """Writes jobs and their runs to the store at `path`, a file or a ``postgresql://`` address; creates it if needed.

    One recorder may be used from several threads: calls that wait for each other are written in one transaction, each
    with its own error. Several processes may each have a recorder on the same store. As a context manager it closes
    itself at the end of the block. A signal handler that records while its own thread is in a call mostly gets
    `StoreBusy`: let it set a flag, and record in the program itself.
    """

    def __init__(
        self,
        path: Where,
        *,
        timezone: str | None = None,
        clock: Callable[[], datetime] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retention: Retention | None = None,
        on_finish: OnFinish | None = None,
    ) -> None:
        """Open the store, or create it.

        Args:
            path: the file, or the address of a database.
            timezone: the IANA name of the zone in which cron expressions are read. Default: ``UTC`` for a new store,
                its own for an existing one.
            clock: returns an aware datetime, for every "now" and for durations. Default: the system clock, with
                durations measured, so that setting the system clock does not change them.
            timeout_seconds: how long a call waits for other writers, or for an unreachable server, before it raises.
            retention: what to prune from time to time after a `finish`. Default: nothing.
            on_finish: called with the execution's document after an end is on the disk, on the thread that recorded
                it, also for executions that `close_interrupted` ends. Exceptions that it raises are logged.

        Raises:
            Conflict: the store has another time zone.
            InvalidRecord: `timezone` is not a known zone.
            InvalidParameter: `timeout_seconds` or a part of `retention` breaks its rule.
            StoreError: the file is not a store, has a newer format, or cannot be written; it is left unchanged.
        """
        self._clock = clock or _system_clock
        self._is_measured = clock is None
        self._on_finish = on_finish
        self._own: dict[int, tuple[int, int | None]] = {}
        """For each unfinished run that came through here: when it was created, and when its measured work began."""
        timeout_seconds = checked_measure(timeout_seconds, "timeout_seconds", LONGEST_TIMEOUT_SECONDS)
        self._writer = open_writer(path, timezone=_checked_zone(timezone), timeout_seconds=timeout_seconds)
        self._together = Together(self._writer, timeout_seconds)
        self._write = self._together.write
        try:
            self._check_settings(timezone)  # in its own frame, which releases what it refers to
            self._keeper = (
                None if retention is None else Keeper(retention, self._writer, self._clock, is_system=clock is None)
            )
        except BaseException:
            self._writer.close()
            raise

    def _check_settings(self, timezone: str | None) -> None:
        path = self._writer.path
        self._writer.write(lambda connection: definitions.check_settings(connection, path, timezone))

    @property
    def path(self) -> Location:
        """The path as given; for a store on a server, the address, which does not show its password."""
        return self._writer.path

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the file that was written last: a restore changes them. None for a server."""
        return self._writer.identity

    def __repr__(self) -> str:
        return f"Recorder({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the recorder. Safe to call twice."""
        with suppress(JobStoreError):
            self._together.settle()
        self._writer.close()

    # --- jobs

    def save_job(
        self,
        name: str,
        *,
        job_type: str,
        job_category: str,
        schedule: str | _Unset[None] | None = _NONE,
        interval_seconds: int | _Unset[None] | None = _NONE,
        description: str | _Unset[None] | None = _NONE,
        parameters: Any | _Unset[None] = _NONE,
        timeout_seconds: int | _Unset[None] | None = _NONE,
        max_instances: int | _Unset[int] = _ONE,
        enabled: bool | _Unset[bool] = _TRUE,
        anchor_at: datetime | str | _Unset[None] | None = _NONE,
        next_run_at: datetime | str | _Unset[None] | None = _NONE,
    ) -> None:
        """Add the job, or update the one with this name: an omitted argument keeps its value, None clears it.

        Args:
            name: 1 to 200 characters; ``docs/integrations.md`` has the rule for names.
            job_type: any word; the job API knows ``kline``, ``symbol``, ``balance`` and others.
            job_category: any word; the job API knows ``backfill``, ``sync``, ``monitor`` and ``cleanup``.
            schedule: a cron expression. It replaces an interval.
            interval_seconds: seconds between two runs. It replaces a cron expression. A job with neither has an
                external schedule.
            description: for people.
            parameters: a JSON value of up to 64 KiB; each execution keeps a snapshot.
            timeout_seconds: how long a run may take.
            max_instances: how many runs may overlap; recorded, not enforced.
            enabled: whether the job runs at all.
            anchor_at: a moment at which an interval fires.
            next_run_at: when an external schedule fires next.

        Raises:
            InvalidRecord: a value breaks its rule.
            InvalidSchedule: the schedule is not valid or never fires, or an interval is given, too.
        """
        name = checked_name(name)
        given = {
            "job_type": job_type, "job_category": job_category, "schedule": schedule,
            "interval_seconds": interval_seconds, "description": description, "parameters": parameters,
            "timeout_seconds": timeout_seconds, "max_instances": max_instances, "enabled": enabled,
            "anchor_at": anchor_at, "next_run_at": next_run_at,
        }  # fmt: skip
        definition = {key: value for key, value in given.items() if not isinstance(value, _Unset)}
        now_us = self._now_us()
        self._write(lambda connection: definitions.save_job(connection, name, definition, now_us))

    def rename_job(self, old: str, new: str) -> None:
        """Rename a job. It keeps its number and its history; past executions keep the name they were recorded under.

        Raises:
            NotFound: there is no job with the old name.
            Conflict: the new name is already in use.
            InvalidRecord: the new name breaks the rule for names.
        """
        new = checked_name(new, "new")
        now_us = self._now_us()
        self._write(lambda connection: definitions.rename_job(connection, old, new, now_us))

    def set_timezone(self, timezone: str) -> None:
        """Change the time zone of cron expressions: the expressions stay the same, their next runs move.

        Args:
            timezone: an IANA name, such as ``Europe/Berlin``.

        Raises:
            InvalidRecord: `timezone` is not a known zone.
        """
        zone = _checked_zone(timezone)
        self._write(lambda connection: definitions.set_timezone(connection, zone))

    def remove_job(self, name: str) -> None:
        """Remove a job; its executions stay in the list over all jobs, and its number is never reused.

        Raises:
            NotFound: there is no job with that name.
        """
        self._write(lambda connection: definitions.remove_job(connection, name))

    # --- executions

    def enqueue(
        self,
        name: str,
        *,
        trace_id: str | None = None,
        worker_id: str | None = None,
        parameters: Any = None,
        at: datetime | str | None = None,
        outlives_process: bool = False,
    ) -> str:
        """Record that a run of the job is waiting (PENDING) and return the execution's id.

        Args:
            name: the job.
            trace_id: 1 to 512 characters. Default: the trace id of the current OpenTelemetry span.
            worker_id: 1 to 512 characters.
            parameters: the snapshot. Default: the job's own parameters.
            at: when it was created. Default: now.
            outlives_process: the run waits in a queue that outlives this process, so `close_interrupted` leaves it
                alone while it waits.

        Raises:
            NotFound: there is no such job.
            InvalidRecord: a value breaks its rule.
        """
        entry = self._entry(trace_id, worker_id, parameters, at)
        number = self._write(
            lambda connection: transitions.enqueue(connection, name, entry, outlives_process=outlives_process)
        )
        self._note(number, entry.at_us, None)
        return str(number)

    def begin(
        self,
        name: str,
        definition: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any],
        worker_id: str | None = None,
        at: datetime | str | None = None,
    ) -> str:
        """Save a job and record that a run of it has started (RUNNING), in one transaction; returns the execution's id.

        For programs that exit after one run. `finish` ends it.

        Args:
            name: the job; it is created if it does not exist.
            definition: arguments of `save_job`; omitted ones keep their values.
            defaults: further values for a new job.
            worker_id: 1 to 512 characters.
            at: when the run started. Default: now.

        Raises:
            InvalidRecord: a value breaks its rule.
            InvalidSchedule: the schedule is not valid or never fires, or an interval is given, too.
        """
        name = checked_name(name)
        entry = self._entry(trace_id=None, worker_id=worker_id, parameters=None, at=at)
        now_us = self._now_us()

        def save_and_begin(connection: sqlite3.Connection) -> int:
            definitions.save_job(connection, name, definition, now_us, defaults)
            return transitions.begin(connection, name, entry)

        number = self._write(save_and_begin)
        self._note(number, entry.at_us, None)
        return str(number)

    def start(
        self,
        execution_id: str | int,
        *,
        worker_id: str | None = None,
        trace_id: str | None = None,
        at: datetime | str | None = None,
    ) -> None:
        """Record that a waiting run has started (RUNNING), in this process.

        This also works if `close_interrupted` had ended it while it waited.

        Args:
            execution_id: from `enqueue`.
            worker_id: replaces the one given before.
            trace_id: replaces the one given before.
            at: when it started. Default: now.

        Raises:
            NotFound: there is no such execution, or its number is another run's by now (see `finish`).
            Conflict: it has already started or ended.
            InvalidRecord: a value breaks its rule.
        """
        number = execution_number(execution_id)
        worker_id, trace_id = checked_label(worker_id, "worker_id"), checked_label(trace_id, "trace_id")
        at_us = instant_or_now(at, self._now_us())
        known_us, _ = self._own.get(number, _UNKNOWN)
        labels = worker_id, trace_id
        created_us = self._write(lambda connection: transitions.start(connection, number, known_us, at_us, *labels))
        self._note(number, created_us, time.monotonic_ns() if at is None and self._is_measured else None)

    def finish(
        self,
        execution_id: str | int,
        status: str,
        *,
        result: Any = None,
        error: str | None = None,
        at: datetime | str | None = None,
        duration_ms: int | None = None,
    ) -> None:
        """Record how a run ended.

        This also works if `close_interrupted` had ended it: the true end replaces the guess. A call that raises has
        changed nothing and may be repeated. The exception is a lost connection to a server, if the message says that
        the outcome is not known: then the repeated call raises `Conflict` if the end was recorded.

        Args:
            execution_id: from `enqueue` or `run`.
            status: SUCCESS, FAILURE or TIMEOUT.
            result: a JSON value of up to 64 KiB.
            error: what went wrong; over 64 KiB it is cut and marked.
            at: when it ended. Default: now.
            duration_ms: how long the work itself took. Default: the time from the end of `start` to this call, if both
                were called without `at` on this recorder, else from the start to the end (0 if the clock was set back
                in between); null for a run that never started.

        Raises:
            NotFound: there is no such execution; or this recorder has enqueued or started it, and the store, replaced
                by an older copy or a standby that lacked it, has given its number to another run.
            Conflict: it has already ended.
            InvalidRecord: a value breaks its rule.
        """
        ended_ns = time.monotonic_ns()
        number, code = execution_number(execution_id), checked_end(status)
        stored, error = json_text(result, "result"), bounded_error(error)
        duration_ms = checked_duration(duration_ms)
        created_us, begun_ns = self._own.get(number, _UNKNOWN)
        if duration_ms is None and begun_ns is not None and at is None:
            duration_ms = max(0, ended_ns - begun_ns) // 1_000_000  # a test may freeze the clock in between
        self._finish(number, created_us, End(code, instant_or_now(at, self._now_us()), duration_ms, stored, error))

    def run(
        self,
        name: str,
        *,
        worker_id: str | None = None,
        trace_id: str | None = None,
        parameters: Any = None,
        capture_logs: bool = False,
    ) -> AbstractContextManager[Run]:
        """Record the block as a run of the job: RUNNING, then SUCCESS with `Run.result`.

        Any exception, `KeyboardInterrupt` and `SystemExit` included, records FAILURE with its type and message and is
        raised again, even if the store cannot be written. ``duration_ms`` is the time of the block alone, without waits
        for the store. A child that was forked inside the block records nothing, unless its parent is gone. If another
        process has ended the execution meanwhile, that end stays (unless it is a guess of `close_interrupted`), and a
        warning is logged: the work itself has succeeded.

        Args:
            name: the job.
            worker_id: 1 to 512 characters.
            trace_id: 1 to 512 characters. Default: the trace id of the current OpenTelemetry span.
            parameters: the snapshot. Default: the job's own parameters.
            capture_logs: keep the end of what the block logs (on its own thread, or in its own asyncio task) in
                ``result["output"]``, at most 64 KiB, whether it succeeds or fails. A result that is not an object
                becomes ``{"value": result, "output": ...}``; one with an ``output`` of its own stays as it is. The
                program's log filters do not apply: what they mask or drop is kept.

        Raises:
            NotFound: there is no such job.
            InvalidRecord: a value breaks its rule.
        """
        return self._running(name, (trace_id, worker_id, parameters), is_logged=capture_logs)

    @contextmanager
    def _running(self, name: str, labels: tuple[object, object, object], *, is_logged: bool) -> Iterator[Run]:
        entry = self._entry(*labels, None)
        begun: list[int] = []
        run, stopwatch = Run(""), Stopwatch(self._now_us, is_measured=self._is_measured)
        ending = Ending(this_process(), entry.at_us, stopwatch)
        try:
            self._write(lambda connection: transitions.begin(connection, name, entry), begun)
            run.execution_id = str(begun[0])
            with captured_logs() if is_logged else nullcontext() as ending.logs:
                stopwatch.start()
                try:
                    yield run
                finally:
                    stopwatch.stop()
        except BaseException as error:
            if begun:  # also if an interrupt came while the start was being written
                try:
                    self._finish_failed(begun[0], error, ending)
                except BaseException:  # an interrupt while the end was being written: no one else will report it
                    self._finish_failed(begun[0], error, ending, is_last=True)
                    raise
            raise
        try:
            self._finish_well(begun[0], run, ending)
        except WriterClosed:
            raise
        except (Conflict, NotFound) as ours:
            _log.warning("execution %s succeeded, but its end could not be recorded: %s", begun[0], ours)
        except BaseException as error:
            # Other errors of ours are the store's; this one comes from a signal handler that recorded during the call.
            if isinstance(error, AlreadyWriting) or not isinstance(error, JobStoreError):
                with suppress(JobStoreError):  # it may have been written already
                    self._finish_well(begun[0], run, ending, is_last=True)
            raise

    # --- upkeep

    def prune(
        self,
        *,
        before: datetime | str | None = None,
        keep_last: int | None = None,
        keep_failures_before: datetime | str | None = None,
        archive: str | os.PathLike[str] | None = None,
        dry_run: bool = False,
        emergency: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete finished executions and return how many; PENDING and RUNNING ones stay.

        It works in short batches, oldest first, so that others can record in between. Names, worker ids and parameters
        that no execution uses any more are deleted as well. The file keeps its size: free pages are reused, and
        `compact` returns them to the disk.

        Args:
            before: delete executions that started before this time. Default: no age limit.
            keep_last: always keep each job's newest N executions.
            keep_failures_before: delete failures and timeouts only if they started before this time.
            archive: append the documents to this file first, as JSON lines. After a crash nothing is lost, and the
                next prune with an archive finishes what this one began.
            dry_run: count what would be deleted and change nothing.
            emergency: the disk is full: free the reserve beside the store and work in its space, without an archive.
                With neither `before` nor `keep_last`, free the reserve only.
            progress: called with the number of executions deleted, after each batch.

        Raises:
            InvalidParameter: a bound breaks its rule, or neither `before` nor `keep_last` is given.
            Conflict: another prune is writing to the archive.
            StoreError: the store or the archive cannot be written.
        """
        if emergency and archive is not None:
            raise InvalidParameter("an emergency prune has no room for an archive; leave out archive or emergency")
        is_bounded = not (emergency and before is None and keep_last is None)
        bounds = rules(before, keep_last, keep_failures_before) if is_bounded else None
        if dry_run:
            return 0 if bounds is None else count_prunable(self._writer, bounds)
        if emergency or bounds is None:
            instead = "free space on the server's disk, then prune without emergency"
            return prune_emergency(file_writer(self._writer, "An emergency prune", instead), bounds, progress)
        gone, _ = prune(self._writer, Chooser(bounds), archive=archive, progress=progress)
        if gone:
            try:
                forget_unused(self._writer)
            except StoreError as error:  # nothing is lost: the next prune tries again
                _log.warning("unused names and parameters of %s were not deleted: %s", self._writer.path, error)
        return gone

    def compact(self, *, progress: Callable[[int], None] | None = None) -> int:
        """Return free pages to the disk after a large prune; returns how many bytes smaller the file is.

        It moves a few pages at a time, so others may record and read meanwhile.

        Args:
            progress: called with the number of bytes, after each step.

        Raises:
            StoreError: the file cannot be written.
        """
        instead = "autovacuum frees space for new rows, and VACUUM FULL returns it to the disk"
        return compact(file_writer(self._writer, "compact", instead), progress)

    def close_interrupted(
        self,
        *,
        grace_seconds: int = 60,
        worker_id: str | Collection[str] | None = None,
        hosts: str | Collection[str] | None = None,
    ) -> int:
        """Close executions whose process is gone; return how many.

        RUNNING and PENDING ones whose process is gone become FAILURE; RUNNING ones past their job's timeout and the
        grace become TIMEOUT; ``error`` holds the reason. A process on another host or in another PID namespace (a
        container) is not assumed to be gone: name its worker or host if you know that it is. A process that is seen
        running is never assumed to be gone. Each end is a guess: a start or an end that the run's own recorder reports
        later replaces it.

        Args:
            grace_seconds: how much longer than its timeout a run may take.
            worker_id: one or several worker ids whose processes are gone, as when a container is recreated.
            hosts: one or several names of hosts that are gone.

        Raises:
            InvalidRecord: `grace_seconds` is not an integer from 0 to a hundred years, or a name is not text.
        """
        checked_integer(grace_seconds, "grace_seconds", 0, LARGEST_SECONDS)
        closing = Closing(self._now_us(), grace_seconds, _names(worker_id, "worker_id"), _names(hosts, "hosts"))

        def close(connection: sqlite3.Connection) -> tuple[int, list[ExecutionDocument]]:
            closed = transitions.close_interrupted(connection, closing)
            return len(closed), self._documents(connection, closed)

        number, documents = self._write(close)
        self._tell(documents)
        return number

    # --- inside

    def _finish(self, number: int, created_us: int | None, end: End) -> None:
        def finish(connection: sqlite3.Connection) -> list[ExecutionDocument]:
            transitions.finish(connection, number, created_us, end)
            return self._documents(connection, [number])

        self._tell(self._write(finish))
        self._own.pop(number, None)
        if self._keeper is not None:
            self._keeper.prune_if_due()

    def _documents(self, connection: sqlite3.Connection, numbers: list[int]) -> list[ExecutionDocument]:
        """The documents for `on_finish`, as of this transaction."""
        if self._on_finish is None:
            return []
        return [execution_document(row) for row in fetch_executions(connection, numbers)]

    def _tell(self, documents: list[ExecutionDocument]) -> None:
        for document in documents:
            try:
                assert self._on_finish is not None  # noqa: S101 - else there are no documents
                self._on_finish(document)
            except Exception:  # noqa: BLE001 - the run is recorded, and its recorder goes on
                _log.exception("on_finish failed for execution %s", document["id"])

    def _note(self, number: int, created_us: int, begun_ns: int | None) -> None:
        """Remember a run until it ends. Only the newest are kept, because some never end here."""
        self._own[number] = created_us, begun_ns
        if len(self._own) > OWN_REMEMBERED:
            with suppress(StopIteration, RuntimeError):
                self._own.pop(next(iter(self._own)), None)

    def _finish_well(self, number: int, run: Run, ending: Ending, *, is_last: bool = False) -> None:
        """Record the success; the `is_last` try does so without a result that cannot be converted."""
        if not ending.is_own():
            return
        try:
            result = ending.with_output(result_text(run.result, is_inner=ending.logs is not None))
        except BaseException:
            if not is_last:
                raise
            result = None
        end = End(STATUS_CODES[Status.SUCCESS], *ending.stopwatch.end(), result, None)
        self._finish(number, ending.created_us, end)

    def _finish_failed(self, number: int, error: BaseException, ending: Ending, *, is_last: bool = False) -> None:
        """Try to record the failure; the job's exception matters more than ours."""
        if not ending.is_own():
            return
        reason = bounded_error(described(error, BaseException if is_last else Exception))
        try:
            end = End(STATUS_CODES[Status.FAILURE], *ending.stopwatch.end(), ending.with_output(None), reason)
            self._finish(number, ending.created_us, end)
        except AlreadyWriting:  # a generator that was collected, a task that nobody keeps
            self._together.later(lambda connection: transitions.finish(connection, number, ending.created_us, end))
        except JobStoreError as ours:
            _log.warning("execution %s failed, but the store could not record it: %s", number, ours)
            with suppress(Exception):  # an exception may be frozen
                error.add_note(f"jobstore could not record this failure: {ours}")

    def _entry(self, trace_id: object, worker_id: object, parameters: object, at: object) -> Entry:
        at_us = instant_or_now(at, self._now_us())
        trace = current_trace_id() if trace_id is None else checked_label(trace_id, "trace_id")
        return Entry(at_us, checked_label(worker_id, "worker_id"), trace, json_text(parameters, "parameters"))

    def _now_us(self) -> int:
        try:
            return instant_us(self._clock())
        except (AttributeError, ValueError) as error:  # time.time gives a float
            raise InvalidRecord(f"the clock must return an aware datetime: {error}") from None


def _system_clock() -> datetime:
    return datetime.now(UTC)


def _names(value: object, field: str) -> frozenset[str]:
    if value is None:
        return frozenset()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple | set | frozenset):
        raise InvalidRecord(f"{field} must be text or a list of text; received {shown(value)}")
    return frozenset(str(checked_label(name, field)) for name in given if name is not None)


def _checked_zone(timezone: str | None) -> str:
    if timezone is None or timezone == "UTC":
        return "UTC"
    from jobstore.language.zones import check_timezone  # zoneinfo is slow to import

    return check_timezone(timezone)
