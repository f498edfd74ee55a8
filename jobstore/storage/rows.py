"""Reads rows by their keys: the last step of every page, whose cost no page can avoid."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence  # noqa: TC003 - a named tuple looks its types up
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jobstore.language.models import STATUS_CODES, Status
from jobstore.language.records import Job
from jobstore.storage.schema import IS_NO_SUCCESS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# Below SQLite's oldest limit of 999 values in a statement, leaving room for a few others.
KEYS_PER_STATEMENT = 500
SUCCESS = STATUS_CODES[Status.SUCCESS]


ExecutionRow = tuple[
    int, int, str, int, int, int, int, int | None, int | None, str | None, str | None, str | None, str | None,
    str | None,
]  # fmt: skip
"""An execution as `EXECUTION_SELECT` reads it: the driver's plain tuple, since pages consist of these."""


_EXECUTION_COLUMNS = """
SELECT e.id, n.job_number, n.name, e.status, e.effective_us, e.started_by, e.created_us, e.completed_us,
       e.duration_ms, w.name AS worker, coalesce(p.parameters, e.parameters), e.trace_id, e.result, e.error"""
# CROSS JOIN: SQLite must find the executions by their ids first, not begin with the names.
_EXECUTION_WORDS = """
CROSS JOIN job_name AS n ON n.name_id = e.name_id
LEFT JOIN worker AS w ON w.worker_id = e.worker_id
LEFT JOIN parameter_set AS p ON p.parameter_set_id = e.parameter_set_id
"""
EXECUTION_SELECT = f"{_EXECUTION_COLUMNS} FROM execution AS e {_EXECUTION_WORDS}"
"""Columns in the order of `ExecutionRow`, with job and worker by name."""

JOB_SELECT = f"SELECT {', '.join(Job._fields)} FROM job "
"""Columns in the order of `Job`."""


def fetch_executions(connection: sqlite3.Connection, ids: Sequence[int]) -> list[ExecutionRow]:
    """The executions with these ids, in the given order; one row look-up for each."""
    found: dict[int, ExecutionRow] = {}
    for some in in_chunks(ids):
        rows = connection.execute(f"{EXECUTION_SELECT}WHERE e.id IN ({marks(some)})", some)
        # IN yields rows in the order of the table, so the given order is restored below.
        found.update([(row[0], row) for row in rows])
    return [found[key] for key in ids]


def fetch_execution(connection: sqlite3.Connection, key: int) -> ExecutionRow | None:
    """The execution with this id; None if there is none."""
    row: ExecutionRow | None = connection.execute(f"{EXECUTION_SELECT}WHERE e.id = ?", (key,)).fetchone()
    return row


def schema_version(connection: sqlite3.Connection) -> int:
    """SQLite's schema number of a file; it changes with the tables, and when the file is overwritten in place."""
    (version,) = connection.execute("PRAGMA schema_version").fetchone()
    return int(version)


def is_server(connection: sqlite3.Connection) -> bool:
    """Whether the connection is to a PostgreSQL server, not to a file."""
    return not isinstance(connection, sqlite3.Connection)


def absorb_starts(connection: sqlite3.Connection, number: int) -> None:
    """On a server: write into a job what its starts say, so that a later write to the job takes precedence."""
    from jobstore.storage.postgres import schema  # needs the driver

    schema.absorb_starts(cast("Any", connection), number)


class KeyQuery(NamedTuple):
    """A statement that yields the ids of a page in order, for paths that know that the page will be full."""

    sql: str
    values: Sequence[int | str | bytes]
    is_turned: bool = False
    """Whether the statement yields the page in reverse."""


def fetch_executions_of(connection: sqlite3.Connection, keys: KeyQuery) -> list[ExecutionRow]:
    """The executions that a statement yields, in the order of the page, read in one statement."""
    rows: list[ExecutionRow] = connection.execute(_rows_sql(keys.sql), keys.values).fetchall()
    return rows[::-1] if keys.is_turned else rows


@lru_cache(maxsize=256)
def _rows_sql(keys: str) -> str:
    # CROSS JOIN keeps the keys in the outer loop, and so their order.
    return f"{_EXECUTION_COLUMNS} FROM ({keys}) AS page CROSS JOIN execution AS e ON e.id = page.id {_EXECUTION_WORDS}"


def delete_by_id(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    for some in in_chunks(ids):
        connection.execute(f"DELETE FROM execution WHERE id IN ({marks(some)})", some)


def fetch_jobs(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[Job]:
    """The jobs with these numbers, in the given order; one row look-up for each."""
    found: dict[int, Job] = {}
    for some in in_chunks(numbers):
        rows = connection.execute(f"{JOB_SELECT}WHERE number IN ({marks(some)})", some)
        found.update([(job.number, job) for job in map(Job._make, rows)])
    return [found[key] for key in numbers]


def fetch_job_number(connection: sqlite3.Connection, name: str, number: int | None) -> int | None:
    """The number of the job with exactly this name, else this number if such a job exists; one or two index entries."""
    # Name first: no name consists of digits only, so the two never mean different jobs.
    row = connection.execute("SELECT number FROM job WHERE name = ?", (name,)).fetchone()
    if row is None and number is not None:
        row = connection.execute("SELECT number FROM job WHERE number = ?", (number,)).fetchone()
    return None if row is None else row[0]


def fetch_timezone(connection: sqlite3.Connection) -> str:
    """The IANA time zone of cron expressions."""
    row = connection.execute("SELECT value FROM setting WHERE key = 'timezone'").fetchone()
    return row[0] if row else "UTC"


def status_source(status: int) -> str:
    """The index that holds the starts of a status, and its condition, in SQL.

    Most executions are a SUCCESS, so these have no index of their own: the index of all starts is filtered.
    """
    if status == SUCCESS:
        return f"execution_started WHERE status = {status}"
    return f"execution_status_started WHERE {IS_NO_SUCCESS} AND status = {status}"


def in_chunks(keys: Collection[int], most: int = KEYS_PER_STATEMENT) -> Iterator[list[int]]:
    """The keys in lists short enough for one statement."""
    listed = list(keys)
    return (listed[begin : begin + most] for begin in range(0, len(listed), most))


def marks(values: Sequence[object]) -> str:
    """A placeholder for each value; NULL, which equals nothing, if there is none."""
    return ",".join("?" * len(values)) or "NULL"
