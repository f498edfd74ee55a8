"""The scheduler's side: `Recorder`, the only thing that writes to a store.

Every call is one transaction, on the disk when the call returns.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from jobstore.engine.rows import JOB_SELECT, JobRow
from jobstore.engine.writing import TIMEOUT_SECONDS, Writer
from jobstore.errors import Conflict, InvalidRecord, JobStoreError, NotFound, shown
from jobstore.instants import instant_us
from jobstore.liveness import this_process
from jobstore.models import STATUS_CODES, STATUS_OF_CODE, Status
from jobstore.records import Job, changed_job, folded_job, instant_or_now, new_job
from jobstore.search import UNICODE_VERSION, fold
from jobstore.values import (
    LARGEST_ID,
    bounded_error,
    checked_duration,
    checked_end,
    checked_label,
    checked_name,
    json_text,
    refuse,
)

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

_log = logging.getLogger("jobstore")
_T = TypeVar("_T")
_PENDING, _RUNNING = STATUS_CODES[Status.PENDING], STATUS_CODES[Status.RUNNING]
_OPEN: Final = frozenset({_PENDING, _RUNNING})


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


class _Standing(NamedTuple):
    """An execution, as far as its next state depends on it."""

    status: int
    effective_us: int
    is_started: int


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
    ) -> None:
        """Opens the store, or makes it.

        Args:
            path: the file.
            timezone: the IANA name of the zone that cron expressions are read in; ``UTC`` for a new file
                unless given, and what the file says for one that is there.
            clock: returns an aware datetime; every "now" comes from it.
            timeout_seconds: how long a call waits for other writers before it raises `StoreBusy`.

        Raises:
            Conflict: the file has another zone.
            InvalidRecord: `timezone` is no zone that is known.
            StoreError: the file is no store, of a newer version, or cannot be written; it is left as it was.
        """
        self._clock = clock or _system_clock
        self._writer = Writer(path, timezone=_checked_zone(timezone), timeout_seconds=timeout_seconds)
        try:
            with self._writer.transaction() as connection:
                _check_settings(connection, self._writer.path, timezone)
        except BaseException:
            self._writer.close()
            raise

    @property
    def path(self) -> Path:
        """The file, as it was given."""
        return self._writer.path

    def __repr__(self) -> str:
        return f"Recorder({str(self.path)!r})"

    def __enter__(self) -> Recorder:
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
                _update_job(connection, JobRow._make(row), definition, now_us)

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
            number = _job_number(connection, old)
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
            connection.execute("DELETE FROM job WHERE number = ?", (_job_number(connection, name),))

    # --- executions

    def enqueue(
        self,
        name: str,
        *,
        trace_id: str | None = None,
        worker_id: str | None = None,
        parameters: Any = None,  # noqa: ANN401 - JSON is any value
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
            return str(_insert_execution(connection, name, entry))

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
        number = _execution_number(execution_id)
        worker_id, trace_id = checked_label(worker_id, "worker_id"), checked_label(trace_id, "trace_id")
        at_us = instant_or_now(at, self._now_us())
        with self._writer.transaction() as connection:
            standing = _standing(connection, number, execution_id)
            if standing.status != _PENDING:
                raise _conflict(number, standing.status, _RUNNING)
            connection.execute(
                """
                UPDATE execution
                SET status = ?, is_started = 1, effective_us = ?, worker_id = coalesce(?, worker_id),
                    trace_id = coalesce(?, trace_id)
                WHERE id = ?
                """,
                (_RUNNING, at_us, _worker_key(connection, worker_id), trace_id, number),
            )
            _note_start(connection, number, at_us)

    def finish(
        self,
        execution_id: str | int,
        status: str,
        *,
        result: Any = None,  # noqa: ANN401 - JSON is any value
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
        number, code = _execution_number(execution_id), checked_end(status)
        stored, error = json_text(result, "result"), bounded_error(error)
        duration_ms = checked_duration(duration_ms)
        at_us = instant_or_now(at, self._now_us())
        with self._writer.transaction() as connection:
            standing = _standing(connection, number, execution_id)
            if standing.status not in _OPEN:
                raise _conflict(number, standing.status, code)
            if duration_ms is None and standing.is_started:
                duration_ms = max(0, at_us - standing.effective_us) // 1000
            connection.execute(
                "UPDATE execution SET status = ?, completed_us = ?, duration_ms = ?, result = ?, error = ? WHERE id = ?",
                (code, at_us, duration_ms, stored, error, number),
            )
            connection.execute("DELETE FROM running WHERE execution_id = ?", (number,))

    @contextmanager
    def run(
        self,
        name: str,
        *,
        worker_id: str | None = None,
        trace_id: str | None = None,
        parameters: Any = None,  # noqa: ANN401 - JSON is any value
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
            number = _insert_execution(connection, name, entry._replace(status=_RUNNING, is_started=1))
            _note_start(connection, number, entry.at_us)
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

    def _finish_failed(self, run: Run, error: BaseException) -> None:
        """Records the failure if it can; the exception of the job is worth more than ours."""
        try:
            self.finish(run.execution_id, Status.FAILURE, error=_described(error))
        except JobStoreError as ours:
            _log.warning("execution %s failed, and the store could not record it: %s", run.execution_id, ours)
            error.add_note(f"jobstore could not record this failure: {ours}")

    def _entry(self, trace_id: object, worker_id: object, parameters: object, at: object) -> _Entry:
        at_us = instant_or_now(at, self._now_us())
        return _Entry(
            _PENDING, 0, at_us, checked_label(worker_id, "worker_id"), checked_label(trace_id, "trace_id"),
            json_text(parameters, "parameters"),
        )  # fmt: skip

    def _now_us(self) -> int:
        try:
            return instant_us(self._clock())
        except ValueError as error:
            raise InvalidRecord(f"the clock must return an aware datetime: {error}") from None


class _Entry(NamedTuple):
    """A new execution, before its names are looked up."""

    status: int
    is_started: int
    at_us: int
    worker_id: str | None
    trace_id: str | None
    parameters: str | None


def _system_clock() -> datetime:
    return datetime.now(UTC)


def _checked_zone(timezone: str | None) -> str:
    if timezone is None or timezone == "UTC":
        return "UTC"
    from jobstore.schedule import check_timezone  # noqa: PLC0415 - croniter is heavy

    return check_timezone(timezone)


def _check_settings(connection: sqlite3.Connection, path: Path, timezone: str | None) -> None:
    """The zone must be the file's; texts folded with another Unicode version are folded again."""
    settings = dict(connection.execute("SELECT key, value FROM setting"))
    if timezone is not None and settings.get("timezone") != timezone:
        raise Conflict(
            f"{path} has the time zone {settings.get('timezone')}, not {timezone}; leave timezone out to keep it"
        )
    if settings.get("unicode_version") != UNICODE_VERSION:
        _fold_again(connection)


def _fold_again(connection: sqlite3.Connection) -> None:
    jobs = connection.execute("SELECT name, job_type, job_category, number FROM job").fetchall()
    connection.executemany(
        "UPDATE job SET folded = ?1 WHERE number = ?2 AND folded <> ?1",
        [(folded_job(*words), number) for *words, number in jobs],
    )
    names = connection.execute("SELECT name, name_id FROM job_name").fetchall()
    connection.executemany(
        "UPDATE job_name SET folded = ?1 WHERE name_id = ?2 AND folded <> ?1",
        [(fold(name), key) for name, key in names],
    )
    connection.execute(
        "INSERT INTO setting VALUES ('unicode_version', ?1) ON CONFLICT DO UPDATE SET value = ?1", (UNICODE_VERSION,)
    )


def _described(error: BaseException) -> str:
    """The type and message of an exception, on as many lines as the message has."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ of the job's must not hide the job's failure
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


# --- statements -----------------------------------------------------------------------------------

_INSERT_JOB = f"INSERT INTO job (number, {', '.join(Job._fields)}) VALUES ({', '.join('?' * (len(Job._fields) + 1))})"
_UPDATE_JOB = f"UPDATE job SET {', '.join(f'{column} = ?' for column in Job._fields)} WHERE number = ?"


def insert_job(connection: sqlite3.Connection, number: int | None, job: Job) -> None:
    """Adds a job under a number, or under the next one that was never given."""
    connection.execute(_INSERT_JOB, (number, *job))


def _update_job(connection: sqlite3.Connection, row: JobRow, definition: dict[str, Any], now_us: int) -> None:
    """Writes what has changed; nothing if nothing has."""
    old = Job(
        row.name, row.job_type, row.job_category, folded_job(row.name, row.job_type, row.job_category),
        row.description, row.schedule, row.interval_seconds, row.parameters, row.timeout_seconds,
        row.max_instances, row.enabled, row.anchor_us, row.next_run_us, row.last_run_us, row.created_us,
        row.updated_us,
    )  # fmt: skip
    new = changed_job(old, definition, now_us)
    if new is not old:
        connection.execute(_UPDATE_JOB, (*new, row.number))


def _job_number(connection: sqlite3.Connection, name: object) -> int:
    found = connection.execute("SELECT number FROM job WHERE name = ?", (_asked_name(name),)).fetchone()
    if found is None:
        raise _no_job(name)
    return int(found[0])


def _asked_name(name: object) -> str:
    """A name to look for: what could be no job's name is simply not there."""
    try:
        return checked_name(name)
    except InvalidRecord:
        if isinstance(name, str):
            raise _no_job(name) from None
        raise


def _no_job(name: object) -> NotFound:
    text = str(name).encode("utf-8", "backslashreplace").decode()
    return NotFound(f"Job not found: {text if len(text) <= 200 else shown(name)}")


def _insert_execution(connection: sqlite3.Connection, name: str, entry: _Entry) -> int:
    """Adds an execution of the job, with the job's parameters unless it brings its own."""
    found = connection.execute("SELECT number, parameters FROM job WHERE name = ?", (_asked_name(name),)).fetchone()
    if found is None:
        raise _no_job(name)
    job_number, own_parameters = found
    set_id, parameters = _parameters_key(connection, own_parameters, entry.parameters)
    inserted = connection.execute(
        """
        INSERT INTO execution (
            name_id, status, effective_us, is_started, created_us, worker_id, parameter_set_id, parameters, trace_id
        ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            _name_key(connection, job_number, name), entry.status, entry.at_us, entry.is_started, entry.at_us,
            _worker_key(connection, entry.worker_id), set_id, parameters, entry.trace_id,
        ),
    )  # fmt: skip
    return int(inserted.lastrowid or 0)


def _parameters_key(
    connection: sqlite3.Connection, own: str | None, given: str | None
) -> tuple[int | None, str | None]:
    """Where the snapshot is kept: the job's own in the dictionary, another only if it is there already."""
    text = own if given is None else given
    if text is None:
        return None, None
    found = connection.execute("SELECT parameter_set_id FROM parameter_set WHERE parameters = ?", (text,)).fetchone()
    if found is not None:
        return int(found[0]), None
    if text != own:
        return None, text
    return connection.execute("INSERT INTO parameter_set (parameters) VALUES (?)", (text,)).lastrowid, None


def _name_key(connection: sqlite3.Connection, job_number: int, name: str) -> int:
    found = connection.execute(
        "SELECT name_id FROM job_name WHERE job_number = ? AND name = ?", (job_number, name)
    ).fetchone()
    if found is not None:
        return int(found[0])
    added = connection.execute(
        "INSERT INTO job_name (job_number, name, folded) VALUES (?, ?, ?)", (job_number, name, fold(name))
    )
    return int(added.lastrowid or 0)


def _worker_key(connection: sqlite3.Connection, worker: str | None) -> int | None:
    if worker is None:
        return None
    found = connection.execute("SELECT worker_id FROM worker WHERE name = ?", (worker,)).fetchone()
    if found is not None:
        return int(found[0])
    return connection.execute("INSERT INTO worker (name) VALUES (?)", (worker,)).lastrowid


def _note_start(connection: sqlite3.Connection, number: int, at_us: int) -> None:
    """Keeps who runs it, and moves the job's last run and update."""
    connection.execute("INSERT INTO running VALUES (?, ?, ?, ?, ?)", (number, *this_process()))
    connection.execute(
        """
        UPDATE job SET last_run_us = max(coalesce(last_run_us, ?1), ?1), updated_us = max(updated_us, ?1)
        WHERE number = (SELECT n.job_number FROM execution AS e JOIN job_name AS n USING (name_id) WHERE e.id = ?2)
        """,
        (at_us, number),
    )


def _execution_number(execution_id: str | int) -> int:
    """The number in an id; text that is none names no execution."""
    if type(execution_id) is int:
        number = execution_id
    elif isinstance(execution_id, str):
        canonical = execution_id.isascii() and execution_id.isdecimal() and len(execution_id) < 20
        number = int(execution_id) if canonical else 0
    else:
        refuse("execution_id", "the id that enqueue returned", execution_id)
    if not 1 <= number <= LARGEST_ID * 2 - 1:
        raise NotFound(f"Execution not found: {shown(execution_id)}")
    return number


def _standing(connection: sqlite3.Connection, number: int, execution_id: object) -> _Standing:
    found = connection.execute(
        "SELECT status, effective_us, is_started FROM execution WHERE id = ?", (number,)
    ).fetchone()
    if found is None:
        raise NotFound(f"Execution not found: {execution_id}")
    return _Standing._make(found)


def _conflict(number: int, now: int, wanted: int) -> Conflict:
    return Conflict(f"Execution {number} is already {STATUS_OF_CODE[now]}; it cannot become {STATUS_OF_CODE[wanted]}")
