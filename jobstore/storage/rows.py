"""Reading known rows by their keys: the last step of every page, and the floor that no page can beat."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence  # noqa: TC003 - a named tuple looks its types up
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jobstore.language.models import STATUS_CODES, Status
from jobstore.storage.schema import IS_NO_SUCCESS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# Below SQLite's oldest limit of 999 values in a statement, with room for a few others.
KEYS_PER_STATEMENT = 500
SUCCESS = STATUS_CODES[Status.SUCCESS]


ExecutionRow = tuple[
    int, int, str, int, int, int, int, int | None, int | None, str | None, str | None, str | None, str | None,
    str | None,
]  # fmt: skip
"""An execution as `EXECUTION_SELECT` reads it: a plain tuple, as the driver makes it, since pages are made of these."""


class JobRow(NamedTuple):
    """A job as stored."""

    number: int
    name: str
    job_type: str
    job_category: str
    description: str | None
    schedule: str | None
    interval_seconds: int | None
    parameters: str | None
    timeout_seconds: int | None
    max_instances: int
    enabled: int
    anchor_us: int | None
    next_run_us: int | None
    last_run_us: int | None
    created_us: int
    updated_us: int


_EXECUTION_COLUMNS = """
SELECT e.id, n.job_number, n.name, e.status, e.effective_us, e.started_by, e.created_us, e.completed_us,
       e.duration_ms, w.name AS worker, coalesce(p.parameters, e.parameters), e.trace_id, e.result, e.error"""
# CROSS JOIN: the executions come first, found by their ids; SQLite may not begin with the names.
_EXECUTION_WORDS = """
CROSS JOIN job_name AS n ON n.name_id = e.name_id
LEFT JOIN worker AS w ON w.worker_id = e.worker_id
LEFT JOIN parameter_set AS p ON p.parameter_set_id = e.parameter_set_id
"""
EXECUTION_SELECT = f"{_EXECUTION_COLUMNS} FROM execution AS e {_EXECUTION_WORDS}"
"""Columns in the order of `ExecutionRow`; the names of job and worker in words again."""

JOB_SELECT = """
SELECT number, name, job_type, job_category, description, schedule, interval_seconds, parameters,
       timeout_seconds, max_instances, enabled, anchor_us, next_run_us, last_run_us, created_us, updated_us
FROM job
"""
"""Columns in the order of `JobRow`."""


def fetch_executions(connection: sqlite3.Connection, ids: Sequence[int]) -> list[ExecutionRow]:
    """The executions of these ids, in the order asked for; one row lookup for each."""
    found: dict[int, ExecutionRow] = {}
    for some in in_chunks(ids):
        rows = connection.execute(f"{EXECUTION_SELECT}WHERE e.id IN ({marks(some)})", some)
        # IN yields rows in the order of the table: the order that was asked for is put back at the end.
        found.update([(row[0], row) for row in rows])
    return [found[key] for key in ids]


def fetch_execution(connection: sqlite3.Connection, key: int) -> ExecutionRow | None:
    """The execution of this id, if there is one."""
    row: ExecutionRow | None = connection.execute(f"{EXECUTION_SELECT}WHERE e.id = ?", (key,)).fetchone()
    return row


def schema_version(connection: sqlite3.Connection) -> int:
    """A number of a file that SQLite changes when its tables change, and when it is written over in place."""
    (version,) = connection.execute("PRAGMA schema_version").fetchone()
    return int(version)


def is_server(connection: sqlite3.Connection) -> bool:
    """Whether it is a PostgreSQL server, to which others write at the same time, and not a file."""
    return not isinstance(connection, sqlite3.Connection)


def absorb_starts(connection: sqlite3.Connection, number: int) -> None:
    """On a server: notes in a job what its starts say, so that what is then written into it counts instead."""
    from jobstore.storage.postgres import schema  # needs the driver

    schema.absorb_starts(cast("Any", connection), number)


class KeyQuery(NamedTuple):
    """A statement that yields the column ``id`` of a page in order, for paths that know it will not come up short."""

    sql: str
    values: Sequence[int | str | bytes]
    is_turned: bool = False
    """The page is in the other order."""


def fetch_executions_of(connection: sqlite3.Connection, keys: KeyQuery) -> list[ExecutionRow]:
    """The executions that a statement names, in the order of the page, in one statement."""
    rows: list[ExecutionRow] = connection.execute(_rows_sql(keys.sql), keys.values).fetchall()
    return rows[::-1] if keys.is_turned else rows


@lru_cache(maxsize=256)
def _rows_sql(keys: str) -> str:
    """CROSS JOIN keeps the keys outermost, and so their order."""
    return f"{_EXECUTION_COLUMNS} FROM ({keys}) AS page CROSS JOIN execution AS e ON e.id = page.id {_EXECUTION_WORDS}"


def delete_by_id(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    for some in in_chunks(ids):
        connection.execute(f"DELETE FROM execution WHERE id IN ({marks(some)})", some)


def fetch_jobs(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[JobRow]:
    """The jobs of these numbers, in the order asked for; one row lookup for each."""
    found: dict[int, JobRow] = {}
    for some in in_chunks(numbers):
        rows = connection.execute(f"{JOB_SELECT}WHERE number IN ({marks(some)})", some)
        found.update([(row[0], JobRow._make(row)) for row in rows])
    return [found[key] for key in numbers]


def fetch_job_number(connection: sqlite3.Connection, name: str, number: int | None) -> int | None:
    """The number of the job of exactly this name, else this number if there is such a job; one or two index entries."""
    # The name first: no name consists of digits alone, so the two never mean different jobs.
    row = connection.execute("SELECT number FROM job WHERE name = ?", (name,)).fetchone()
    if row is None and number is not None:
        row = connection.execute("SELECT number FROM job WHERE number = ?", (number,)).fetchone()
    return None if row is None else row[0]


def fetch_timezone(connection: sqlite3.Connection) -> str:
    """The zone that cron expressions are read in."""
    row = connection.execute("SELECT value FROM setting WHERE key = 'timezone'").fetchone()
    return row[0] if row else "UTC"


def status_source(status: int) -> str:
    """The index to walk for the starts of a status, and its condition in SQL.

    Most executions are a SUCCESS, so no index is kept for these: that of all starts is filtered.
    """
    if status == SUCCESS:
        return f"execution_started WHERE status = {status}"
    return f"execution_status_started WHERE {IS_NO_SUCCESS} AND status = {status}"


def in_chunks(keys: Collection[int], most: int = KEYS_PER_STATEMENT) -> Iterator[list[int]]:
    """The keys in lists short enough for one statement."""
    listed = list(keys)
    return (listed[begin : begin + most] for begin in range(0, len(listed), most))


def marks(values: Sequence[object]) -> str:
    """A place for each value of a statement; where there is none, a null, which nothing equals."""
    return ",".join("?" * len(values)) or "NULL"
