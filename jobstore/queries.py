"""`Queries`: the public queries and their parameters, on top of one method.

Every class that answers queries (from a file, from a server) derives from `Queries` and implements `answer`; signatures
and documentation are here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from jobstore.language.parameters import (
    EXECUTION_HISTOGRAM,
    GET_EXECUTION,
    GET_JOB,
    GET_JOB_EXECUTIONS,
    JOB_STATS,
    LIST_JOB_EXECUTIONS,
    LIST_JOB_STATES,
    LIST_JOBS,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from jobstore.language.models import (
        ExecutionDocument,
        ExecutionPage,
        HistogramDocument,
        JobDocument,
        JobPage,
        JobStateDocument,
        JobStatePage,
        StatsDocument,
    )
    from jobstore.language.query import Query

    Instant = datetime | str
    """An aware datetime, or RFC 3339 text (a date alone is its midnight, UTC)."""


class Queries(ABC):
    """The read-only queries of the job API; each returns a plain, JSON-ready document.

    The base class of `JobStore` (a file or a database) and `RemoteJobStore` (an HTTP server, see `jobstore.connect`).
    Write ``def report(store: jobstore.Queries)`` for code that takes either. Every method raises `InvalidParameter` for
    a parameter that breaks its rule, and a `StoreError` if the store cannot be read.
    """

    @abstractmethod
    def answer(self, query: Query) -> Any:
        """Answer a checked query with a document; all other methods build a query and call this one.

        Raises:
            NotFound: there is no such job.
            StoreError: the store cannot be read.
        """

    def run_totals(self) -> dict[int, tuple[int, int]]:
        """Each job's runs and failures so far, pruned ones included, by job number; empty from an HTTP server."""
        return {}

    def list_jobs(
        self,
        search: str | None = None,
        limit: int = 50,
        offset: int = 0,
        order_by: str = "name",
        order_desc: bool = False,
        job_type: str | None = None,
        job_category: str | None = None,
        enabled: bool | None = None,
    ) -> JobPage:
        """A page of jobs (the job API's 获取任务列表).

        Args:
            search: a literal part of the name, the type or the category; case, width and outer blanks are ignored.
            limit: jobs per page, 1 to 1000.
            offset: how many jobs to skip.
            order_by: any field of a job except ``parameters``; nulls come last, ties are sorted by number.
            order_desc: descending instead of ascending.
            job_type: exactly this type.
            job_category: exactly this category.
            enabled: only enabled, or only disabled jobs.

        Raises:
            InvalidParameter: a parameter breaks its rule.
            StoreError: the store cannot be read.
        """
        query = LIST_JOBS.query({
            "search": search, "limit": limit, "offset": offset, "order_by": order_by, "order_desc": order_desc,
            "job_type": job_type, "job_category": job_category, "enabled": enabled,
        })  # fmt: skip
        page: JobPage = self.answer(query)
        return page

    def get_job(self, job_id: str | int) -> JobDocument:
        """One job (the job API's 获取任务详情).

        Args:
            job_id: its name, or its number as text or int; the name is tried first.

        Raises:
            NotFound: there is no such job.
            InvalidParameter: `job_id` can be neither a name nor a number.
            StoreError: the store cannot be read.
        """
        document: JobDocument = self.answer(GET_JOB.query({"job_id": job_id}))
        return document

    def list_job_executions(
        self,
        search: str | None = None,
        limit: int = 50,
        offset: int = 0,
        order_by: str = "started_at",
        order_desc: bool = True,
        before: Instant | None = None,
        after: Instant | None = None,
        status: str | Collection[str] | None = None,
        trace_id: str | None = None,
    ) -> ExecutionPage:
        """A page of the history of all jobs, newest first (the job API's 获取所有执行记录).

        Args:
            search: a literal part of the job's name at that time, or a word for a status (``failed``, 失败).
            limit: executions per page, 1 to 1000.
            offset: how many executions to skip.
            order_by: any field except ``result``, ``error`` and ``parameters_snapshot``. ``started_at`` sorts a waiting
                execution by its creation. Nulls come last; ties are sorted by id in the same direction.
            order_desc: descending (the default) or ascending.
            before: the latest effective start (the start, or the creation if it has not started), inclusive.
            after: the earliest effective start, inclusive.
            status: one status or several.
            trace_id: exactly this trace.

        Raises:
            InvalidParameter: a parameter breaks its rule.
            StoreError: the store cannot be read.
        """
        query = LIST_JOB_EXECUTIONS.query({
            "search": search, "limit": limit, "offset": offset, "order_by": order_by, "order_desc": order_desc,
            "before": before, "after": after, "status": status, "trace_id": trace_id,
        })  # fmt: skip
        page: ExecutionPage = self.answer(query)
        return page

    def get_job_executions(
        self,
        job_id: str | int,
        search: str | None = None,
        limit: int = 50,
        offset: int = 0,
        order_by: str = "started_at",
        order_desc: bool = True,
        before: Instant | None = None,
        after: Instant | None = None,
        status: str | Collection[str] | None = None,
        trace_id: str | None = None,
    ) -> ExecutionPage:
        """A page of one job's history, under all the names it had (the job API's 获取任务执行记录).

        `job_id` is the job's name, or its number as text or int; the name is tried first. `search` is a word for a
        status. All other parameters are as in `list_job_executions`.

        Raises:
            NotFound: there is no such job.
            InvalidParameter: a parameter breaks its rule.
            StoreError: the store cannot be read.
        """
        query = GET_JOB_EXECUTIONS.query({
            "job_id": job_id, "search": search, "limit": limit, "offset": offset, "order_by": order_by,
            "order_desc": order_desc, "before": before, "after": after, "status": status, "trace_id": trace_id,
        })  # fmt: skip
        page: ExecutionPage = self.answer(query)
        return page

    def job_stats(
        self, job_id: str | int | None = None, before: Instant | None = None, after: Instant | None = None
    ) -> StatsDocument:
        """Exact statistics over all executions of one job (or of all jobs) in a window.

        ``by_status`` counts executions. ``success_rate`` and ``duration_ms`` (milliseconds) are over runs that started
        and finished, null if there are none. A run that was missed, refused or revoked counts only in ``by_status`` and
        ``never_started``. ``p95`` is the smallest duration that at least 95 % of the runs do not exceed.
        ``last_success_at`` and ``last_failure_at`` are effective starts.

        Raises:
            NotFound: there is no such job.
            InvalidParameter: a parameter breaks its rule.
            StoreError: the store cannot be read.
        """
        query = JOB_STATS.query({"job_id": job_id, "before": before, "after": after})
        document: StatsDocument = self.answer(query)
        return document

    def get_execution(self, execution_id: str | int) -> ExecutionDocument:
        """One execution, with its full error and result.

        Args:
            execution_id: its ``id``, as text or int.

        Raises:
            NotFound: there is no such execution.
            InvalidParameter: `execution_id` cannot be an id.
            StoreError: the store cannot be read.
        """
        document: ExecutionDocument = self.answer(GET_EXECUTION.query({"execution_id": execution_id}))
        return document

    def list_job_states(
        self,
        search: str | None = None,
        limit: int = 50,
        offset: int = 0,
        order_by: str = "attention",
        order_desc: bool = False,
        state: str | Collection[str] | None = None,
        job_type: str | None = None,
        job_category: str | None = None,
        lang: str = "en",
    ) -> JobStatePage:
        """A page of jobs with their state, most urgent first, and how many jobs are in each state.

        The states are `lost`, `late`, `failing`, `running`, `waiting`, `new`, `ok` and `disabled`; ``docs/states.md``
        says what each means. Rates and percentiles (milliseconds) are over the job's newest 100 finished executions.
        The counts in ``states`` are for the same search, type and category, whatever ``state`` selects.

        Args:
            search: a literal part of the name, the type or the category; case, width and outer blanks are ignored.
            limit: jobs per page, 1 to 1000.
            offset: how many jobs to skip.
            order_by: `attention` (the states in the order above, within each the oldest ``since`` first, then by name),
                `name`, `next_run_at`, `last_run_at`, `success_rate` or `p95_ms`; nulls come last, ties are sorted by
                number.
            order_desc: reverse the order.
            state: one state or several.
            job_type: exactly this type.
            job_category: exactly this category.
            lang: the language of ``schedule_text``, `en` or `zh`.

        Raises:
            InvalidParameter: a parameter breaks its rule.
            StoreError: the store cannot be read.
        """
        query = LIST_JOB_STATES.query({
            "search": search, "limit": limit, "offset": offset, "order_by": order_by, "order_desc": order_desc,
            "state": state, "job_type": job_type, "job_category": job_category, "lang": lang,
        })  # fmt: skip
        page: JobStatePage = self.answer(query)
        return page

    def execution_histogram(
        self,
        job_id: str | int | None = None,
        search: str | None = None,
        status: str | Collection[str] | None = None,
        before: Instant | None = None,
        after: Instant | None = None,
        bucket: str = "auto",
        timezone: str = "UTC",
    ) -> HistogramDocument:
        """Exact counts of executions by hour or by day, oldest first, empty buckets included.

        An execution counts in the bucket of its effective start. Without ``after`` the first bucket is that of the
        first execution counted; without ``before`` the last bucket is that of the last one. The first and last
        buckets count only executions inside the window.

        Args:
            job_id: the job's name or number. Default: all jobs.
            search: as in `list_job_executions`, or with ``job_id`` as in `get_job_executions`.
            status: one status or several.
            before: the latest effective start, inclusive.
            after: the earliest effective start, inclusive.
            bucket: `1h`, `1d`, or `auto`: hours if 400 buckets are enough, else days.
            timezone: the IANA name of the zone whose midnights and whole hours begin the buckets.

        Raises:
            NotFound: there is no such job.
            InvalidParameter: a parameter breaks its rule, or there would be more than 400 buckets.
            StoreError: the store cannot be read.
        """
        query = EXECUTION_HISTOGRAM.query({
            "job_id": job_id, "search": search, "status": status, "before": before, "after": after, "bucket": bucket,
            "timezone": timezone,
        })  # fmt: skip
        document: HistogramDocument = self.answer(query)
        return document


def find_state(store: Queries, job: JobDocument, lang: str = "en") -> JobStateDocument | None:
    """The state of a job, found by its exact name; None if the job has just been removed."""

    def page(offset: int, limit: int) -> JobStatePage:
        return store.list_job_states(
            search=job["name"], job_type=job["job_type"], job_category=job["job_category"], order_by="name",
            limit=limit, offset=offset, lang=lang,
        )  # fmt: skip

    found = page(0, _STATES_AT_ONCE)
    low, high = _STATES_AT_ONCE, found["pagination"]["total"]
    if low < high and found["data"][-1]["name"] < job["name"]:
        while high - low > _STATES_AT_ONCE:  # the list is sorted by name: halve it
            middle = (low + high) // 2
            rows = page(middle, 1)["data"]
            is_behind = bool(rows) and rows[0]["name"] <= job["name"]
            low, high = (middle, high) if is_behind else (low, middle)
        found = page(low, _STATES_AT_ONCE)
    return next((each for each in found["data"] if each["name"] == job["name"]), None)


_STATES_AT_ONCE = 50
"""One page usually suffices: few other jobs match the name, type and category."""


list_jobs = Queries.list_jobs
get_job = Queries.get_job
list_job_executions = Queries.list_job_executions
get_job_executions = Queries.get_job_executions
job_stats = Queries.job_stats
get_execution = Queries.get_execution
list_job_states = Queries.list_job_states
execution_histogram = Queries.execution_histogram
