"""The state machine of an execution: the allowed transitions, and the statements that record them.

PENDING becomes RUNNING or an end; RUNNING becomes an end; an end is final. The one exception: an end recorded by
`close_interrupted` is a guess, so a start or an end that the run's own recorder reports later replaces it. Each
function runs inside its caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.language.errors import Conflict, NotFound, StoreUnreadable, shown
from jobstore.language.fields import LARGEST_DURATION_MS, refuse
from jobstore.language.instants import MICROSECONDS
from jobstore.language.models import STATUS_CODES, STATUS_OF_CODE, Status
from jobstore.language.search import fold
from jobstore.recording.definitions import asked_name, no_job
from jobstore.storage.processes import OWNER_COLUMNS, Owner, is_alive, is_gone, this_process
from jobstore.storage.rows import is_server
from jobstore.storage.schema import IS_NO_SUCCESS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

PENDING: Final = STATUS_CODES[Status.PENDING]
RUNNING: Final = STATUS_CODES[Status.RUNNING]
GUESSED: Final = 0
"""In ``enqueued_by``: the end is a guess of `close_interrupted`."""
FORGOTTEN_EVERY: Final = 64
"""New processes between two deletions of those without an open execution."""
_LAST_ID: Final = 2**63 - 1
_LONGEST_ID: Final = len(str(_LAST_ID))


# --- allowed transitions --------------------------------------------------------------------------


class Closing(NamedTuple):
    """Which open executions `close_interrupted` ends, besides those whose process is seen to be gone.

    Attributes:
        grace_seconds: how much longer than its job's timeout a run may take.
        workers: worker ids of processes that the caller knows to be gone.
        hosts: host names of processes that the caller knows to be gone.
    """

    now_us: int
    grace_seconds: int
    workers: frozenset[str]
    hosts: frozenset[str]


class Open(NamedTuple):
    """An open execution and the process that enqueued or runs it."""

    id: int
    status: int
    effective_us: int
    timeout_seconds: int | None
    worker: str | None
    owner: Owner | None


def interruption(found: Open, closing: Closing) -> tuple[Status, str] | None:
    """The end of an open execution that no process will finish, and the reason; None if a process may finish it."""
    owner, did = found.owner, "ran" if found.status == RUNNING else "enqueued"
    if owner is not None and is_gone(owner):
        return Status.FAILURE, f"Interrupted: process {owner.pid} on {owner.host}, which {did} it, is gone"
    if not (owner is not None and is_alive(owner)):
        if found.worker in closing.workers:
            return Status.FAILURE, f"Interrupted: the worker {found.worker} is gone"
        if owner is not None and owner.host in closing.hosts:
            return Status.FAILURE, f"Interrupted: the host {owner.host}, which {did} it, is gone"
    if found.status == PENDING or found.timeout_seconds is None:
        return None
    seconds, allowed = (closing.now_us - found.effective_us) // MICROSECONDS, found.timeout_seconds
    if closing.now_us - found.effective_us <= (allowed + closing.grace_seconds) * MICROSECONDS:
        return None
    return Status.TIMEOUT, f"Timed out: not finished {seconds} s after its start; its job allows {allowed} s"


def _conflict(number: int, now: int, wanted: int) -> Conflict:
    return Conflict(f"Execution {number} is already {STATUS_OF_CODE[now]}; it cannot become {STATUS_OF_CODE[wanted]}")


# --- a new execution ------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A new execution, before its texts are replaced by keys."""

    at_us: int
    worker_id: str | None
    trace_id: str | None
    parameters: str | None


_IS_THIS_PROCESS = " AND ".join(f"{column} = ?" for column in Owner._fields)
_KEYS = f"""
SELECT number, parameters, (SELECT process_id FROM process WHERE {_IS_THIS_PROCESS}),
    (SELECT name_id FROM job_name WHERE job_number = job.number AND job_name.name = job.name),
    (SELECT worker_id FROM worker WHERE worker.name = ?),
    (SELECT parameter_set_id FROM parameter_set WHERE parameter_set.parameters = coalesce(?, job.parameters))
FROM job WHERE name = ?
"""
"""Looks up a job, this process, and the dictionary keys of the job's next execution, in one query."""


def enqueue(connection: sqlite3.Connection, name: str, entry: Entry, *, outlives_process: bool = False) -> int:
    """Add a PENDING execution of the job; returns its number."""
    return _insert(connection, name, entry, PENDING, outlives_process=outlives_process)


def begin(connection: sqlite3.Connection, name: str, entry: Entry) -> int:
    """Add a RUNNING execution of the job; returns its number."""
    number = _insert(connection, name, entry, RUNNING)
    _note_start(connection, number, entry.at_us)
    return number


def _insert(
    connection: sqlite3.Connection, name: str, entry: Entry, status: int, *, outlives_process: bool = False
) -> int:
    """Add an execution, with the job's parameters unless it has its own."""
    own = this_process()
    found = connection.execute(_KEYS, (*own, entry.worker_id, entry.parameters, asked_name(name))).fetchone()
    if found is None:
        raise no_job(name)
    job_number, default, process, name_id, worker_id, set_id = found
    owner = None if outlives_process else process or _add_process(connection, own)
    started_by, enqueued_by = (owner, None) if status == RUNNING else (0, owner)
    parameters = None
    if set_id is None:
        set_id, parameters = _parameters_key(connection, default, entry.parameters, is_first=name_id is None)
    return _added(
        connection,
        """
        INSERT INTO execution (
            name_id, status, effective_us, started_by, created_us, worker_id, parameter_set_id, parameters, trace_id,
            enqueued_by
        ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
        """,
        (
            name_id or _name_key(connection, job_number, name), status, entry.at_us, started_by, entry.at_us,
            worker_id or worker_key(connection, entry.worker_id), set_id, parameters, entry.trace_id, enqueued_by,
        ),
    )  # fmt: skip


def _parameters_key(
    connection: sqlite3.Connection, own: str | None, given: str | None, *, is_first: bool
) -> tuple[int | None, str | None]:
    """Where to store parameters that are not in the dictionary: the job's own there, others in the execution.

    A job's first execution stores even the job's own: a job that runs once would leave them in the dictionary forever.
    """
    text = own if given is None else given
    if text is None or text != own or is_first:
        return None, text
    sql = "INSERT INTO parameter_set (parameters) VALUES (?) RETURNING parameter_set_id"
    return _added(connection, sql, (text,)), None


def _name_key(connection: sqlite3.Connection, job_number: int, name: str) -> int:
    """Add a name under which the job was not recorded before; returns its key."""
    sql = "INSERT INTO job_name (job_number, name, folded) VALUES (?, ?, ?) RETURNING name_id"
    return _added(connection, sql, (job_number, name, fold(name)))


def _added(connection: sqlite3.Connection, insertion: str, values: Sequence[int | str | None]) -> int:
    row = connection.execute(insertion, values).fetchone()
    if row is None:
        raise StoreUnreadable(
            "The store discards new rows; a trigger of another program may be the cause: see 'jobstore check'"
        )
    return int(row[0])


def worker_key(connection: sqlite3.Connection, worker: str | None) -> int | None:
    """The key of a worker's name; a new name is added."""
    if worker is None:
        return None
    found = connection.execute("SELECT worker_id FROM worker WHERE name = ?", (worker,)).fetchone()
    if found is not None:
        return int(found[0])
    return _added(connection, "INSERT INTO worker (name) VALUES (?) RETURNING worker_id", (worker,))


def process_key(connection: sqlite3.Connection) -> int:
    """The key of this process; a new process is added."""
    owner = this_process()
    found = connection.execute(_PROCESS, owner).fetchone()
    return _add_process(connection, owner) if found is None else int(found[0])


def _add_process(connection: sqlite3.Connection, owner: Owner) -> int:
    if is_server(connection):
        return _added(connection, _ADD_PROCESS_THERE, owner)
    key = _added(connection, _ADD_PROCESS, owner)
    if key % FORGOTTEN_EVERY == 0:
        _forget_processes(connection, key)
    return key


_ADD_PROCESS = """
INSERT INTO process SELECT coalesce(max(process_id), 1) + 1, ?, ?, ?, ?, ? FROM process RETURNING process_id
"""
_ADD_PROCESS_THERE = f"""
INSERT INTO process ({", ".join(Owner._fields)}) VALUES (?, ?, ?, ?, ?) RETURNING process_id
"""
"""On a server, where two new processes at once must not take the same number."""
_PROCESS = f"SELECT process_id FROM process WHERE {_IS_THIS_PROCESS}"


def _forget_processes(connection: sqlite3.Connection, but: int) -> None:
    """Delete processes without an open execution; if each run has its own process, there would be one per run."""
    connection.execute(
        f"""
        DELETE FROM process WHERE process_id <> ?
            AND process_id NOT IN (SELECT started_by FROM execution WHERE {IS_NO_SUCCESS} AND status = {RUNNING})
            AND process_id NOT IN (
                SELECT enqueued_by FROM execution
                WHERE {IS_NO_SUCCESS} AND status = {PENDING} AND enqueued_by IS NOT NULL
            )
        """,
        (but,),
    )


# --- transitions ----------------------------------------------------------------------------------


def execution_number(execution_id: str | int) -> int:
    """The number in an id; for text that is not a number, raise `NotFound`."""
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


def _standing_of(connection: sqlite3.Connection, number: int, created_us: int | None) -> tuple[int, bool, int]:
    """The status of an execution, whether it may start, and when it was created.

    Raises:
        NotFound: there is no such execution, or none that was created then (None: whenever it was).
    """
    found = connection.execute(
        "SELECT status, started_by, enqueued_by, created_us FROM execution WHERE id = ?", (number,)
    ).fetchone()
    if found is None:
        raise NotFound(f"Execution not found: {number}")
    status, started_by, enqueued_by, then_us = found
    if created_us not in {None, then_us}:
        raise NotFound(f"Execution not found: {number} now belongs to another run; an older copy replaced the store")
    return status, status == PENDING or (enqueued_by == GUESSED and not started_by), then_us


def start(
    connection: sqlite3.Connection,
    number: int,
    created_us: int | None,
    at_us: int,
    worker_id: str | None,
    trace_id: str | None,
) -> int:
    """Make a waiting execution RUNNING in this process; returns when it was created.

    Given labels replace earlier ones. If `created_us` is known, an execution that has the number now and was created at
    another moment is not the one that is meant.

    Raises:
        NotFound: there is no such execution.
        Conflict: it has already started or ended.
    """
    status, may_start, created_us = _standing_of(connection, number, created_us)
    if not may_start:
        raise _conflict(number, status, RUNNING)
    connection.execute(
        """
        UPDATE execution
        SET status = ?, started_by = ?, effective_us = ?, enqueued_by = NULL, completed_us = NULL, error = NULL,
            worker_id = coalesce(?, worker_id), trace_id = coalesce(?, trace_id)
        WHERE id = ?
        """,
        (RUNNING, process_key(connection), at_us, worker_key(connection, worker_id), trace_id, number),
    )
    _note_start(connection, number, at_us)
    return created_us


def _note_start(connection: sqlite3.Connection, number: int, at_us: int) -> None:
    """Advance the job's last run and update; on a server, readers take both from the change log."""
    if is_server(connection):
        return
    connection.execute(
        """
        UPDATE job SET last_run_us = max(coalesce(last_run_us, ?), ?), updated_us = max(updated_us, ?)
        WHERE number = (SELECT n.job_number FROM execution AS e JOIN job_name AS n USING (name_id) WHERE e.id = ?)
        """,
        (at_us, at_us, at_us, number),
    )


class End(NamedTuple):
    """How a run ended.

    If `duration_ms` is None, it is computed from start to end: 0 if the clock was set back, null if it never started.
    """

    code: int
    at_us: int
    duration_ms: int | None
    result: str | None
    error: str | None


def finish(connection: sqlite3.Connection, number: int, created_us: int | None, end: End) -> None:
    """Record the end of an open execution, created at a known moment or whenever (None).

    Raises:
        NotFound: there is no such execution.
        Conflict: it has ended, and that end is not a guess.
    """
    if not _end(connection, number, end, None, created_us):
        status, *_ = _standing_of(connection, number, created_us)
        raise _conflict(number, status, end.code)


_END = f"""
UPDATE execution
SET status = ?, completed_us = ?, duration_ms = coalesce(
        ?, CASE WHEN started_by = 0 THEN NULL WHEN effective_us > ? THEN 0
        WHEN effective_us < ? THEN {LARGEST_DURATION_MS} ELSE (? - effective_us) / 1000 END
    ),
    result = ?, error = ?, started_by = CASE started_by WHEN 0 THEN 0 ELSE 1 END, enqueued_by = ?
WHERE id = ? AND created_us = coalesce(?, created_us)
    AND (status IN ({PENDING}, {RUNNING}) OR enqueued_by = {GUESSED})
"""


def _end(
    connection: sqlite3.Connection, number: int, end: End, enqueued_by: int | None, created_us: int | None = None
) -> bool:
    """Record an end; False if there is no such execution or it may not end."""
    code, at_us, duration_ms, result, error = end
    longest_us = at_us - LARGEST_DURATION_MS * 1000
    values = (code, at_us, duration_ms, at_us, longest_us, at_us, result, error, enqueued_by, number, created_us)
    return connection.execute(_END, values).rowcount == 1


def close_interrupted(connection: sqlite3.Connection, closing: Closing) -> list[int]:
    """End the open executions that no process will finish; returns their numbers.

    The process of a loaded execution is not known, so only its worker and its timeout count.
    """
    closed = []
    for found in _open_executions(connection):
        ended = interruption(found, closing)
        if ended is not None:
            status, reason = ended
            ran_us = max(0, closing.now_us - found.effective_us)
            ran_ms = min(ran_us // 1000, LARGEST_DURATION_MS) if found.status == RUNNING else None
            end = End(STATUS_CODES[status], closing.now_us, ran_ms, None, reason)
            _end(connection, found.id, end, GUESSED)
            closed.append(found.id)
    return closed


def _open_executions(connection: sqlite3.Connection) -> list[Open]:
    rows = connection.execute(
        f"""
        SELECT e.id, e.status, e.effective_us, j.timeout_seconds, w.name, {OWNER_COLUMNS}
        FROM execution AS e
        JOIN job_name AS n ON n.name_id = e.name_id
        LEFT JOIN job AS j ON j.number = n.job_number
        LEFT JOIN worker AS w ON w.worker_id = e.worker_id
        LEFT JOIN process AS p ON p.process_id = CASE e.status
            WHEN {PENDING} THEN e.enqueued_by ELSE e.started_by END
        WHERE e.{IS_NO_SUCCESS} AND e.status IN ({PENDING}, {RUNNING})
        """
    ).fetchall()
    return [Open._make((*row[:5], None if row[5] is None else Owner(*row[5:]))) for row in rows]
