"""The job API's tables: field names in order, statuses, and the types of documents and pages.

Section names in quotes are the job API's own (响应字段, 执行状态说明, 任务类型说明, 任务分类说明).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypedDict


class Status(StrEnum):
    """The state of an execution ("执行状态说明"); a closed set."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    TIMEOUT = "TIMEOUT"


STATUSES: tuple[Status, ...] = tuple(Status)
"""In the job API's order."""
STATUS_OF_CODE: tuple[Status, ...] = (
    Status.FAILURE, Status.SUCCESS, Status.RUNNING, Status.PENDING, Status.TIMEOUT,
)  # fmt: skip
"""The index is the code that the file stores. 0 and 1 take no space in SQLite, so frequent statuses have these codes.

A run that succeeds moves from RUNNING to SUCCESS: neighbours, so both index entries are usually on the same page.
"""
STATUS_CODES: dict[str, int] = {status.value: code for code, status in enumerate(STATUS_OF_CODE)}
FINISHED: frozenset[Status] = frozenset({Status.SUCCESS, Status.FAILURE, Status.TIMEOUT})


class ScheduleType(StrEnum):
    """How a job's next run is determined. ``cron`` and ``interval`` come from the job API, ``external`` is our own."""

    CRON = "cron"
    INTERVAL = "interval"
    EXTERNAL = "external"


KNOWN_JOB_TYPES = ("kline", "symbol", "balance", "order", "fill", "transfer", "ticker", "orderbook")
"""The job API's "任务类型说明"; the set is open."""
KNOWN_JOB_CATEGORIES = ("backfill", "sync", "monitor", "cleanup")
"""The job API's "任务分类说明"; the set is open."""


class JobDocument(TypedDict):
    """A job as every interface returns it: the job API's sixteen fields, in its order."""

    id: str
    job_type: str
    name: str
    job_category: str
    description: str | None
    schedule_type: str
    schedule: str | None
    interval_seconds: int | None
    parameters: Any
    timeout_seconds: int | None
    max_instances: int
    enabled: bool
    last_run_at: str | None
    next_run_at: str | None
    created_at: str
    updated_at: str


class ExecutionDocument(TypedDict):
    """An execution as every interface returns it: the job API's thirteen fields, in its order."""

    id: str
    job_id: str
    job_name: str
    status: str
    started_at: str | None
    completed_at: str | None
    duration_ms: int | None
    result: Any
    error: str | None
    trace_id: str | None
    worker_id: str | None
    parameters_snapshot: Any
    created_at: str


JOB_FIELDS = tuple(JobDocument.__annotations__)
EXECUTION_FIELDS = tuple(ExecutionDocument.__annotations__)
STATE_ORDERS = ("attention", "name", "next_run_at", "last_run_at", "success_rate", "p95_ms")
JOB_ORDERS = tuple(field for field in JOB_FIELDS if field != "parameters")
EXECUTION_ORDERS = tuple(field for field in EXECUTION_FIELDS if field not in {"result", "error", "parameters_snapshot"})


class Pagination(TypedDict):
    """The position of a page among all matches; the job API's six fields."""

    page: int
    page_size: int
    total: int
    total_pages: int
    has_next: bool
    has_prev: bool


class JobPage(TypedDict):
    """A page of jobs."""

    data: list[JobDocument]
    pagination: Pagination


class ExecutionPage(TypedDict):
    """A page of executions."""

    data: list[ExecutionDocument]
    pagination: Pagination


class DurationStats(TypedDict):
    """Milliseconds over finished runs; null if there are none."""

    average: float | None
    p50: int | None
    p95: int | None
    max: int | None


class StatsDocument(TypedDict):
    """Statistics over a window of the history."""

    job_id: str | None
    after: str | None
    before: str | None
    runs: int
    by_status: dict[str, int]
    never_started: int
    success_rate: float | None
    duration_ms: DurationStats
    last_success_at: str | None
    last_failure_at: str | None


class RecentRun(TypedDict):
    """One of a job's newest executions, as a state document lists them."""

    id: str
    status: str
    started_at: str | None
    duration_ms: int | None


class JobStateDocument(TypedDict):
    """A job's current state; `state` is one of `jobstore.language.states.State`, `since` never null."""

    job_id: str
    name: str
    description: str | None
    job_type: str
    job_category: str
    state: str
    since: str
    failures_in_a_row: int
    schedule: str | None
    schedule_text: str
    next_run_at: str | None
    last: ExecutionDocument | None
    recent: list[RecentRun]
    success_rate: float | None
    p50_ms: int | None
    p95_ms: int | None


class JobStatePage(TypedDict):
    """A page of job states, and how many jobs are in each state under the same search, type and category."""

    data: list[JobStateDocument]
    pagination: Pagination
    states: dict[str, int]


class Bucket(TypedDict):
    """The executions that started in one hour or day; `start_at` is where that hour or day begins."""

    start_at: str
    runs: int
    by_status: dict[str, int]


class HistogramDocument(TypedDict):
    """Counts by hour or by day, oldest first, empty buckets included; `after` and `before` as given."""

    bucket: str
    timezone: str
    after: str | None
    before: str | None
    buckets: list[Bucket]


def pagination(total: int, limit: int, offset: int, shown: int) -> Pagination:
    """The job API's six fields.

    >>> pagination(total=1500, limit=50, offset=0, shown=50)["total_pages"]
    30
    """
    return {
        "page": offset // limit + 1,
        "page_size": limit,
        "total": total,
        "total_pages": -(-total // limit),
        "has_next": offset + shown < total,
        "has_prev": offset > 0,
    }
