"""The scheduler's side: `Recorder`, the only thing that writes to a store.

Every call is one transaction, on the disk when the call returns.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from jobstore.engine.sealing import SEALED_EVERY
from jobstore.language.errors import Conflict, InvalidParameter, InvalidRecord, JobStoreError
from jobstore.language.fields import (
    LARGEST_SECONDS,
    bounded_error,
    checked_duration,
    checked_end,
    checked_integer,
    checked_label,
    checked_name,
    json_text,
)
from jobstore.language.instants import instant_us
from jobstore.language.models import Status
from jobstore.language.records import folded_job, instant_or_now, new_job
from jobstore.recording.prune import (
    Chooser,
    Keeper,
    Retention,
    count_prunable,
    prune,
    prune_emergency,
    rules,
    seal_next,
)
from jobstore.recording.transitions import (
    OPEN,
    PENDING,
    RUNNING,
    Entry,
    check_settings,
    close_interrupted,
    conflict,
    end_execution,
    execution_number,
    insert_execution,
    insert_job,
    job_number_of,
    note_start,
    process_key,
    standing_of,
    start_execution,
    update_job,
)
from jobstore.storage.reserve import keep_reserve
from jobstore.storage.rows import JOB_SELECT, JobRow
from jobstore.storage.writer import TIMEOUT_SECONDS, Writer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

_log = logging.getLogger("jobstore")
_T = TypeVar("_T")


class _Unset(Generic[_T]):
    """The default of an argument that an update leaves as it is; a new job gets the value it shows."""

    def __init__(self, value: _T) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


_NONE: Final[_Unset[None]] = _Unset(None)
_ONE: Final = _Unset(1)
_TRUE: Final = _Unset(True)


class Run:
    """A run that `Recorder.run` records.

    Attributes:
        execution_id: the number of the execution, as text.
        result: what the run gave, a JSON value; set it before the block ends.
    """

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.result: Any = None

    def __repr__(self) -> str:
        return f"Run({self.execution_id!r})"


class Recorder:
    """Writes jobs and their runs into the store at `path`, and makes the file if there is none.

    May be used from several threads; several processes may each have one on the same file. A context manager.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timezone: str | None = None,
        clock: Callable[[], datetime] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retention: Retention | None = None,
    ) -> None:
        """Opens the store, or makes it.

        Args:
            path: the file.
            timezone: the IANA name of the zone that cron expressions are read in; ``UTC`` for a new file
                unless given, and what the file says for one that is there.
            clock: returns an aware datetime; every "now" comes from it.
            timeout_seconds: how long a call waits for other writers before it raises `StoreBusy`.
            retention: what `finish` prunes now and then; nothing unless given.

        Raises:
            Conflict: the file has another zone.
            InvalidRecord: `timezone` is no zone that is known.
            StoreError: the file is no store, of a newer version, or cannot be written; it is left as it was.
        """
        self._clock = clock or _system_clock
        self._writer = Writer(path, timezone=_checked_zone(timezone), timeout_seconds=timeout_seconds)
        try:
            with self._writer.transaction() as connection:
                check_settings(connection, self._writer.path, timezone)
            keep_reserve(self._writer.file)
            self._keeper = None if retention is None else Keeper(retention, self._writer, self._clock)
        except BaseException:
            self._writer.close()
            raise

    @property
    def path(self) -> Path:
        """The file, as it was given."""
        return self._writer.path

    def __repr__(self) -> str:
        return f"Recorder({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; closing twice does nothing."""
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
        """Adds the job, or updates the one of that name: what is not given stays as it is, None clears.

        Args:
            name: 1 to 200 characters; see the rule of names in the documentation.
            job_type: the seed's are ``kline``, ``symbol``, ...; the set is open.
            job_category: the seed's are ``backfill``, ``sync``, ``monitor``, ``cleanup``; the set is open.
            schedule: a cron expression. It takes the place of an interval.
            interval_seconds: seconds between two runs. It takes the place of a cron expression. A job
                with neither has an external schedule.
            description: for people.
            parameters: a JSON value of up to 64 KiB; each execution keeps a snapshot.
            timeout_seconds: how long a run may take.
            max_instances: runs that may overlap; recorded, not enforced.
            enabled: whether it runs at all.
            anchor_at: a moment on the grid of an interval.
            next_run_at: when an external schedule fires next.

        Raises:
            InvalidRecord: a value breaks its rule.
            InvalidSchedule: the schedule could never be computed, or there are two.
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
        with self._writer.transaction() as connection:
            row = connection.execute(f"{JOB_SELECT}WHERE name = ?", (name,)).fetchone()
            if row is None:
                insert_job(connection, None, new_job(name, definition, now_us))
            else:
                update_job(connection, JobRow._make(row), definition, now_us)

    def rename_job(self, old: str, new: str) -> None:
        """Gives a job another name; it keeps its number and so its history, which keeps the name of its time.

        Raises:
            NotFound: there is no job of the old name.
            Conflict: there is one of the new name.
            InvalidRecord: the new name breaks the rule.
        """
        new = checked_name(new, "new")
        now_us = self._now_us()
        with self._writer.transaction() as connection:
            number = job_number_of(connection, old)
            if old == new:
                return
            if connection.execute("SELECT 1 FROM job WHERE name = ?", (new,)).fetchone():
                raise Conflict(f"There is a job {new} already; choose another name or remove that one first")
            (job_type, job_category) = connection.execute(
                "SELECT job_type, job_category FROM job WHERE number = ?", (number,)
            ).fetchone()
            connection.execute(
                "UPDATE job SET name = ?, folded = ?, updated_us = ? WHERE number = ?",
                (new, folded_job(new, job_type, job_category), now_us, number),
            )

    def remove_job(self, name: str) -> None:
        """Removes a job; its executions stay in the list over all jobs, and its number is never given again.

        Raises:
            NotFound: there is no job of that name.
        """
        with self._writer.transaction() as connection:
            connection.execute("DELETE FROM job WHERE number = ?", (job_number_of(connection, name),))

    # --- executions

    def enqueue(
        self,
        name: str,
        *,
        trace_id: str | None = None,
        worker_id: str | None = None,
        parameters: Any = None,
        at: datetime | str | None = None,
    ) -> str:
        """Records that a run of the job waits (PENDING) and returns the execution's id.

        Args:
            name: the job.
            trace_id: 1 to 512 characters.
            worker_id: 1 to 512 characters.
            parameters: the snapshot; the job's own parameters unless given.
            at: when it was created; now unless given.

        Raises:
            NotFound: there is no such job.
            InvalidRecord: a value breaks its rule.
        """
        entry = self._entry(trace_id, worker_id, parameters, at)
        with self._writer.transaction() as connection:
            number = insert_execution(connection, name, entry)
        self._seal_if_due(number)
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

        For programs that live as long as one run. `finish` ends it.

        Args:
            name: the job; it is created if it does not exist.
            definition: arguments of `save_job`; what is not given stays as it is.
            defaults: what a new job has beside them.
            worker_id: 1 to 512 characters.
            at: when the run started; now unless given.

        Raises:
            InvalidRecord: a value breaks its rule.
            InvalidSchedule: the schedule could never be computed, or there are two.
        """
        name = checked_name(name)
        entry = self._entry(worker_id=worker_id, trace_id=None, parameters=None, at=at)
        now_us = self._now_us()
        with self._writer.transaction() as connection:
            row = connection.execute(f"{JOB_SELECT}WHERE name = ?", (name,)).fetchone()
            if row is None:
                insert_job(connection, None, new_job(name, {**defaults, **definition}, now_us))
            else:
                job = JobRow._make(row)
                words = {"job_type": job.job_type, "job_category": job.job_category}
                update_job(connection, job, {**words, **definition}, now_us)
            started = entry._replace(status=RUNNING, started_by=process_key(connection))
            number = insert_execution(connection, name, started)
            note_start(connection, number, entry.at_us)
        self._seal_if_due(number)
        return str(number)

    def start(
        self,
        execution_id: str | int,
        *,
        worker_id: str | None = None,
        trace_id: str | None = None,
        at: datetime | str | None = None,
    ) -> None:
        """Records that a waiting run has started (RUNNING), in this process.

        Args:
            execution_id: from `enqueue`.
            worker_id: takes the place of the one given before.
            trace_id: takes the place of the one given before.
            at: when it started; now unless given.

        Raises:
            NotFound: there is no such execution.
            Conflict: it has started or ended already.
            InvalidRecord: a value breaks its rule.
        """
        number = execution_number(execution_id)
        worker_id, trace_id = checked_label(worker_id, "worker_id"), checked_label(trace_id, "trace_id")
        at_us = instant_or_now(at, self._now_us())
        with self._writer.transaction() as connection:
            standing = standing_of(connection, number, execution_id)
            if standing.status != PENDING:
                raise conflict(number, standing.status, RUNNING)
            start_execution(connection, number, at_us, worker_id, trace_id)

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
        """Records how a run ended.

        Args:
            execution_id: from `enqueue` or `run`.
            status: SUCCESS, FAILURE or TIMEOUT.
            result: a JSON value of up to 64 KiB.
            error: what went wrong; beyond 64 KiB it is cut, with a mark.
            at: when it ended; now unless given.
            duration_ms: from start to end unless given (0 if the clock was set back in between), and
                null for a run that never started.

        Raises:
            NotFound: there is no such execution.
            Conflict: it has ended already.
            InvalidRecord: a value breaks its rule.
        """
        number, code = execution_number(execution_id), checked_end(status)
        stored, error = json_text(result, "result"), bounded_error(error)
        duration_ms = checked_duration(duration_ms)
        at_us = instant_or_now(at, self._now_us())
        with self._writer.transaction() as connection:
            standing = standing_of(connection, number, execution_id)
            if standing.status not in OPEN:
                raise conflict(number, standing.status, code)
            if duration_ms is None and standing.started_by:
                duration_ms = max(0, at_us - standing.effective_us) // 1000
            end_execution(connection, number, code, at_us, duration_ms, stored, error)
        self._prune_if_due()

    @contextmanager
    def run(
        self,
        name: str,
        *,
        worker_id: str | None = None,
        trace_id: str | None = None,
        parameters: Any = None,
    ) -> Iterator[Run]:
        """Records the block as a run of the job: RUNNING, then SUCCESS with `Run.result`.

        Any exception, `KeyboardInterrupt` and `SystemExit` included, records FAILURE with its type and
        message and is raised again, also when the store cannot be written then. A result that is no JSON
        records FAILURE and raises.

        Raises:
            NotFound: there is no such job.
            InvalidRecord: a value breaks its rule.
        """
        entry = self._entry(trace_id, worker_id, parameters, None)
        with self._writer.transaction() as connection:
            started = entry._replace(status=RUNNING, started_by=process_key(connection))
            number = insert_execution(connection, name, started)
            note_start(connection, number, entry.at_us)
        self._seal_if_due(number)
        run = Run(str(number))
        try:
            yield run
        except BaseException as error:
            self._finish_failed(run, error)
            raise
        try:
            self.finish(run.execution_id, Status.SUCCESS, result=run.result)
        except InvalidRecord as error:
            self._finish_failed(run, error)
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
        """Removes finished executions and returns how many; those that wait or run stay.

        It works in short batches, oldest first, so that recording goes on.

        Args:
            before: those go whose effective start is earlier; of any age unless given.
            keep_last: none of the newest so many of each job go.
            keep_failures_before: failures and time-outs go only when earlier than this.
            archive: a file that gets the documents first, as JSON lines. After a crash nothing is lost, and the
                next prune with an archive ends what this one began.
            dry_run: counts what would go and changes nothing.
            emergency: the disk is full: gives up the reserve beside the store and works in its room, without an
                archive. With neither `before` nor `keep_last` nothing but the reserve goes.
            progress: is called with the number of executions that went, after each batch.

        Raises:
            InvalidParameter: a bound breaks its rule, or there is neither `before` nor `keep_last`.
            Conflict: another prune writes to the archive.
            StoreError: store or archive cannot be written.
        """
        if emergency and archive is not None:
            raise InvalidParameter("archive needs room that an emergency prune does not have; leave one of them out")
        is_bounded = not (emergency and before is None and keep_last is None)
        bounds = rules(before, keep_last, keep_failures_before) if is_bounded else None
        if dry_run:
            return 0 if bounds is None else count_prunable(self.path, bounds)
        if emergency or bounds is None:
            return prune_emergency(self._writer, bounds, progress)
        gone, _ = prune(self._writer, Chooser(bounds), archive=archive, progress=progress)
        return gone

    def close_interrupted(self, *, grace_seconds: int = 60) -> int:
        """Ends executions that nobody will finish, and returns how many.

        FAILURE where the process that started it is gone; TIMEOUT where it ran past its job's time-out and the
        grace. The reason is in ``error``. A process on another host is never held to be gone.

        Raises:
            InvalidRecord: `grace_seconds` is no integer from 0 to a hundred years.
        """
        checked_integer(grace_seconds, "grace_seconds", 0, LARGEST_SECONDS)
        now_us = self._now_us()
        with self._writer.transaction() as connection:
            return close_interrupted(connection, now_us, grace_seconds)

    def _prune_if_due(self) -> None:
        if self._keeper is not None:
            self._keeper.prune_if_due()

    def _seal_if_due(self, number: int) -> None:
        """Now and then writes a digest of executions that are complete: a tenth of a second, once in thousands."""
        if number % SEALED_EVERY == 0:
            seal_next(self._writer)

    def _finish_failed(self, run: Run, error: BaseException) -> None:
        """Records the failure if it can; the exception of the job is worth more than ours."""
        try:
            self.finish(run.execution_id, Status.FAILURE, error=_described(error))
        except JobStoreError as ours:
            _log.warning("execution %s failed, and the store could not record it: %s", run.execution_id, ours)
            error.add_note(f"jobstore could not record this failure: {ours}")

    def _entry(self, trace_id: object, worker_id: object, parameters: object, at: object) -> Entry:
        at_us = instant_or_now(at, self._now_us())
        return Entry(
            PENDING, 0, at_us, checked_label(worker_id, "worker_id"), checked_label(trace_id, "trace_id"),
            json_text(parameters, "parameters"),
        )  # fmt: skip

    def _now_us(self) -> int:
        try:
            return instant_us(self._clock())
        except ValueError as error:
            raise InvalidRecord(f"the clock must return an aware datetime: {error}") from None


def _system_clock() -> datetime:
    return datetime.now(UTC)


def _described(error: BaseException) -> str:
    """The type and message of an exception, on as many lines as the message has."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ of the job's must not hide the job's failure
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _checked_zone(timezone: str | None) -> str:
    if timezone is None or timezone == "UTC":
        return "UTC"
    from jobstore.language.schedule import check_timezone  # croniter is heavy

    return check_timezone(timezone)
