"""Reading known rows by their keys: the last step of every page, and the floor that no page can beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

KEYS_PER_STATEMENT = 500


class ExecutionRow(NamedTuple):
    """An execution as stored, its names in words again."""

    id: int
    job_number: int
    job_name: str
    status: int
    effective_us: int
    is_started: int
    created_us: int
    completed_us: int | None
    duration_ms: int | None
    worker: str | None
    parameters: str | None
    trace_id: str | None
    result: str | None
    error: str | None


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


EXECUTION_SELECT = """
SELECT e.id, n.job_number, n.name, e.status, e.effective_us, e.is_started, e.created_us, e.completed_us,
       e.duration_ms, w.name, coalesce(p.parameters, e.parameters), e.trace_id, e.result, e.error
FROM execution AS e
JOIN job_name AS n ON n.name_id = e.name_id
LEFT JOIN worker AS w ON w.worker_id = e.worker_id
LEFT JOIN parameter_set AS p ON p.parameter_set_id = e.parameter_set_id
"""
"""Columns in the order of `ExecutionRow`."""

JOB_SELECT = """
SELECT number, name, job_type, job_category, description, schedule, interval_seconds, parameters,
       timeout_seconds, max_instances, enabled, anchor_us, next_run_us, last_run_us, created_us, updated_us
FROM job
"""
"""Columns in the order of `JobRow`."""


def fetch_executions(connection: sqlite3.Connection, ids: Sequence[int]) -> list[ExecutionRow]:
    """The executions of these ids, in the order asked for; one row lookup for each."""
    found: dict[int, ExecutionRow] = {}
    for some in _chunks(ids):
        rows = connection.execute(f"{EXECUTION_SELECT}WHERE e.id IN ({_marks(some)})", some)
        found.update((row[0], ExecutionRow._make(row)) for row in rows)
    return [found[key] for key in ids]


def fetch_jobs(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[JobRow]:
    """The jobs of these numbers, in the order asked for; one row lookup for each."""
    found: dict[int, JobRow] = {}
    for some in _chunks(numbers):
        rows = connection.execute(f"{JOB_SELECT}WHERE number IN ({_marks(some)})", some)
        found.update((row[0], JobRow._make(row)) for row in rows)
    return [found[key] for key in numbers]


def fetch_job_by_name(connection: sqlite3.Connection, name: str) -> JobRow | None:
    """The job of exactly this name."""
    row = connection.execute(f"{JOB_SELECT}WHERE name = ?", (name,)).fetchone()
    return None if row is None else JobRow._make(row)


def fetch_job_by_number(connection: sqlite3.Connection, number: int) -> JobRow | None:
    """The job of this number."""
    row = connection.execute(f"{JOB_SELECT}WHERE number = ?", (number,)).fetchone()
    return None if row is None else JobRow._make(row)


def _chunks(keys: Sequence[int]) -> Iterable[Sequence[int]]:
    return (keys[begin : begin + KEYS_PER_STATEMENT] for begin in range(0, len(keys), KEYS_PER_STATEMENT))


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
