"""The statements of the write side, each inside the transaction that its caller has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobstore.language.errors import Conflict, InvalidRecord, NotFound, shown
from jobstore.language.fields import NAME_CHARACTERS, checked_name, refuse
from jobstore.language.instants import MICROSECONDS
from jobstore.language.models import STATUS_CODES, STATUS_OF_CODE, Status
from jobstore.language.records import Job, changed_job, folded_job
from jobstore.language.search import UNICODE_VERSION, fold
from jobstore.storage.processes import OWNER_COLUMNS, Owner, is_gone, this_process

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from jobstore.storage.rows import JobRow

PENDING: Final = STATUS_CODES[Status.PENDING]
RUNNING: Final = STATUS_CODES[Status.RUNNING]
OPEN: Final = frozenset({PENDING, RUNNING})
"""The statuses that can still change."""
FORGOTTEN_EVERY: Final = 64
"""Processes that are met between two looks for those that run nothing any longer."""
_LAST_ID: Final = 2**63 - 1
_LONGEST_ID: Final = len(str(_LAST_ID))


class Standing(NamedTuple):
    """An execution, as far as its next state depends on it."""

    status: int
    effective_us: int
    started_by: int


class Entry(NamedTuple):
    """A new execution, before its names are looked up."""

    status: int
    started_by: int
    at_us: int
    worker_id: str | None
    trace_id: str | None
    parameters: str | None


def check_settings(connection: sqlite3.Connection, path: Path, timezone: str | None) -> None:
    """The zone must be the file's; texts folded with another Unicode version are folded again."""
    settings = dict(connection.execute("SELECT key, value FROM setting"))
    if timezone is not None and settings.get("timezone") != timezone:
        raise Conflict(
            f"{path} has the time zone {settings.get('timezone')}, not {timezone}; leave timezone out to keep it"
        )
    if settings.get("unicode_version") != UNICODE_VERSION:
        fold_again(connection)


def fold_again(connection: sqlite3.Connection) -> None:
    """Folds every name with this process's Unicode version, so that terms and texts are folded alike."""
    jobs = connection.execute("SELECT name, job_type, job_category, number FROM job").fetchall()
    connection.executemany(
        "UPDATE job SET folded = :folded WHERE number = :number AND folded <> :folded",
        [{"folded": folded_job(*words), "number": number} for *words, number in jobs],
    )
    names = connection.execute("SELECT name, name_id FROM job_name").fetchall()
    connection.executemany(
        "UPDATE job_name SET folded = :folded WHERE name_id = :key AND folded <> :folded",
        [{"folded": fold(name), "key": key} for name, key in names],
    )
    connection.execute(
        "INSERT INTO setting VALUES ('unicode_version', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        (UNICODE_VERSION,),
    )


_INSERT_JOB = f"INSERT INTO job (number, {', '.join(Job._fields)}) VALUES ({', '.join('?' * (len(Job._fields) + 1))})"
_UPDATE_JOB = f"UPDATE job SET {', '.join(f'{column} = ?' for column in Job._fields)} WHERE number = ?"


def insert_job(connection: sqlite3.Connection, number: int | None, job: Job) -> None:
    """Adds a job under a number, or under the next one that was never given."""
    connection.execute(_INSERT_JOB, (number, *job))


def update_job(connection: sqlite3.Connection, row: JobRow, definition: dict[str, Any], now_us: int) -> None:
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


def job_number_of(connection: sqlite3.Connection, name: object) -> int:
    """The number of the job of that name.

    Raises:
        NotFound: there is none.
    """
    found = connection.execute("SELECT number FROM job WHERE name = ?", (asked_name(name),)).fetchone()
    if found is None:
        raise _no_job(name)
    return int(found[0])


def asked_name(name: object) -> str:
    """A name to look for: what could be no job's name is simply not there."""
    try:
        return checked_name(name)
    except InvalidRecord:
        if isinstance(name, str):
            raise _no_job(name) from None
        raise


def _no_job(name: object) -> NotFound:
    text = str(name).encode("utf-8", "backslashreplace").decode()
    return NotFound(f"Job not found: {text if len(text) <= NAME_CHARACTERS else shown(name)}")


_KEYS = """
SELECT number, parameters,
    (SELECT name_id FROM job_name WHERE job_number = job.number AND job_name.name = job.name),
    (SELECT worker_id FROM worker WHERE worker.name = :worker),
    (SELECT parameter_set_id FROM parameter_set WHERE parameter_set.parameters = coalesce(:parameters, job.parameters))
FROM job WHERE name = :name
"""
"""A job and what the dictionaries have for its next execution, in one look."""


def insert_execution(connection: sqlite3.Connection, name: str, entry: Entry) -> int:
    """Adds an execution of the job, with the job's parameters unless it brings its own."""
    found = connection.execute(
        _KEYS, {"name": asked_name(name), "worker": entry.worker_id, "parameters": entry.parameters}
    ).fetchone()
    if found is None:
        raise _no_job(name)
    job_number, own_parameters, name_id, worker_id, set_id = found
    parameters = None
    if set_id is None:
        set_id, parameters = _parameters_key(connection, own_parameters, entry.parameters)
    inserted = connection.execute(
        """
        INSERT INTO execution (
            name_id, status, effective_us, started_by, created_us, worker_id, parameter_set_id, parameters, trace_id
        ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            name_id or _name_key(connection, job_number, name), entry.status, entry.at_us, entry.started_by,
            entry.at_us, worker_id or worker_key(connection, entry.worker_id), set_id, parameters, entry.trace_id,
        ),
    )  # fmt: skip
    return int(inserted.lastrowid or 0)


def _parameters_key(
    connection: sqlite3.Connection, own: str | None, given: str | None
) -> tuple[int | None, str | None]:
    """Where a snapshot is kept that is not in the dictionary: the job's own there, another in the execution."""
    text = own if given is None else given
    if text is None or text != own:
        return None, text
    return connection.execute("INSERT INTO parameter_set (parameters) VALUES (?)", (text,)).lastrowid, None


def _name_key(connection: sqlite3.Connection, job_number: int, name: str) -> int:
    """The key of a name under which the job was not recorded before."""
    added = connection.execute(
        "INSERT INTO job_name (job_number, name, folded) VALUES (?, ?, ?)", (job_number, name, fold(name))
    )
    return int(added.lastrowid or 0)


def worker_key(connection: sqlite3.Connection, worker: str | None) -> int | None:
    """The key of a worker's name, which is added if it is new."""
    if worker is None:
        return None
    found = connection.execute("SELECT worker_id FROM worker WHERE name = ?", (worker,)).fetchone()
    if found is not None:
        return int(found[0])
    return connection.execute("INSERT INTO worker (name) VALUES (?)", (worker,)).lastrowid


def process_key(connection: sqlite3.Connection) -> int:
    """The key of this process, which is added if it is new."""
    owner = this_process()
    found = connection.execute(_PROCESS, owner).fetchone()
    if found is not None:
        return int(found[0])
    added = connection.execute(
        "INSERT INTO process SELECT max(coalesce(max(process_id), 0), 1) + 1, ?, ?, ?, ?, ? FROM process", owner
    )
    key = int(added.lastrowid or 0)
    if key % FORGOTTEN_EVERY == 0:
        _forget_processes(connection, key)
    return key


_PROCESS = f"SELECT process_id FROM process WHERE {' AND '.join(f'{column} = ?' for column in Owner._fields)}"


def _forget_processes(connection: sqlite3.Connection, but: int) -> None:
    """Removes the processes that run nothing; where each run has its own, there would be as many as runs."""
    at_work = "SELECT started_by FROM execution WHERE status = ?"
    connection.execute(f"DELETE FROM process WHERE process_id <> ? AND process_id NOT IN ({at_work})", (but, RUNNING))


def note_start(connection: sqlite3.Connection, number: int, at_us: int) -> None:
    """Moves the job's last run and update."""
    connection.execute(
        """
        UPDATE job SET last_run_us = max(coalesce(last_run_us, :at), :at), updated_us = max(updated_us, :at)
        WHERE number = (SELECT n.job_number FROM execution AS e JOIN job_name AS n USING (name_id) WHERE e.id = :id)
        """,
        {"at": at_us, "id": number},
    )


def execution_number(execution_id: str | int) -> int:
    """The number in an id; text that is none names no execution."""
    if type(execution_id) is int:
        number = execution_id
    elif isinstance(execution_id, str):
        is_number = execution_id.isascii() and execution_id.isdecimal() and len(execution_id) <= _LONGEST_ID
        number = int(execution_id) if is_number else 0
    else:
        refuse("execution_id", "the id that enqueue returned", execution_id)
    if not 1 <= number <= _LAST_ID:
        raise NotFound(f"Execution not found: {shown(execution_id)}")
    return number


def standing_of(connection: sqlite3.Connection, number: int, execution_id: object) -> Standing:
    """Where an execution stands.

    Raises:
        NotFound: there is no such execution.
    """
    found = connection.execute(
        "SELECT status, effective_us, started_by FROM execution WHERE id = ?", (number,)
    ).fetchone()
    if found is None:
        raise NotFound(f"Execution not found: {execution_id}")
    return Standing._make(found)


def conflict(number: int, now: int, wanted: int) -> Conflict:
    """The error for a state that cannot follow."""
    return Conflict(f"Execution {number} is already {STATUS_OF_CODE[now]}; it cannot become {STATUS_OF_CODE[wanted]}")


def start_execution(
    connection: sqlite3.Connection, number: int, at_us: int, worker_id: str | None, trace_id: str | None
) -> None:
    """Makes a waiting execution a running one of this process; labels that are given take the place of earlier ones."""
    connection.execute(
        """
        UPDATE execution
        SET status = ?, started_by = ?, effective_us = ?, worker_id = coalesce(?, worker_id),
            trace_id = coalesce(?, trace_id)
        WHERE id = ?
        """,
        (RUNNING, process_key(connection), at_us, worker_key(connection, worker_id), trace_id, number),
    )
    note_start(connection, number, at_us)


def end_execution(
    connection: sqlite3.Connection,
    number: int,
    code: int,
    at_us: int,
    duration_ms: int | None,
    result: str | None,
    error: str | None,
) -> None:
    """Gives an execution its end; nobody runs it any longer."""
    connection.execute(
        """
        UPDATE execution
        SET status = ?, started_by = min(started_by, 1), completed_us = ?, duration_ms = ?, result = ?, error = ?
        WHERE id = ?
        """,
        (code, at_us, duration_ms, result, error, number),
    )


def close_interrupted(connection: sqlite3.Connection, now_us: int, grace_seconds: int) -> int:
    """Ends the running executions whose process is gone, and those that ran past their time-out and the grace.

    Of an execution that was loaded no process is known; only its time-out counts.
    """
    rows = connection.execute(
        f"""
        SELECT e.id, e.effective_us, j.timeout_seconds, {OWNER_COLUMNS}
        FROM execution AS e
        JOIN job_name AS n ON n.name_id = e.name_id
        LEFT JOIN job AS j ON j.number = n.job_number
        LEFT JOIN process AS p ON p.process_id = e.started_by
        WHERE e.status = ?
        """,
        (RUNNING,),
    ).fetchall()
    closed = 0
    for number, start_us, timeout_seconds, host, *process in rows:
        owner = None if host is None else Owner(host, *process)
        end = _interruption(owner, now_us - start_us, timeout_seconds, grace_seconds)
        if end is not None:
            status, reason = end
            duration_ms = max(0, now_us - start_us) // 1000
            end_execution(connection, number, STATUS_CODES[status], now_us, duration_ms, None, reason)
            closed += 1
    return closed


def _interruption(
    owner: Owner | None, ran_us: int, timeout_seconds: int | None, grace_seconds: int
) -> tuple[Status, str] | None:
    """The end of an execution that should run no more, and why."""
    if owner is not None and is_gone(owner):
        return Status.FAILURE, f"Interrupted: process {owner.pid} on {owner.host}, which ran it, is gone"
    if timeout_seconds is not None and ran_us > (timeout_seconds + grace_seconds) * MICROSECONDS:
        seconds = ran_us // MICROSECONDS
        return (
            Status.TIMEOUT,
            f"Timed out: not finished {seconds} s after its start; its job allows {timeout_seconds} s",
        )
    return None
