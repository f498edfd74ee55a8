"""The queries over jobs, and the job definitions, search results and orders that a reader remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobstore.engine.fires import NextRuns, unit_of
from jobstore.engine.recent import Recent
from jobstore.language.models import pagination
from jobstore.storage.documents import job_document
from jobstore.storage.rows import fetch_jobs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from jobstore.engine.fires import Fires
    from jobstore.engine.memory import Memory
    from jobstore.language.models import JobDocument, JobPage
    from jobstore.language.query import JobQuery, JobsQuery
    from jobstore.language.records import Job

# Searches kept, and as many orders of their results: pages of one search often follow each other.
REMEMBERED = 64

ORDER_COLUMNS = {
    "id": "name",
    "name": "name",
    "job_type": "job_type",
    "job_category": "job_category",
    "description": "description",
    "schedule_type": """CASE WHEN schedule IS NOT NULL THEN 'cron'
        WHEN interval_seconds IS NOT NULL THEN 'interval' ELSE 'external' END""",
    "schedule": "schedule",
    "interval_seconds": "interval_seconds",
    "timeout_seconds": "timeout_seconds",
    "max_instances": "max_instances",
    "enabled": "enabled",
    "last_run_at": "last_run_us",
    "created_at": "created_us",
    "updated_at": "updated_us",
}
"""``next_run_at`` is not stored: see `fires`."""
# Every run changes these orders, so they are read each time. The change log does not record a start as a change of its
# job: otherwise every start would make readers reread the job.
MOVING = frozenset({"last_run_at", "updated_at"})

Filters = tuple[str, str | None, str | None, bool | None]
_TEXTS = "SELECT number, folded, job_type, job_category, enabled FROM job"
_TIMINGS = (
    "SELECT number, schedule, interval_seconds, enabled, anchor_us, next_run_us, last_run_us, created_us FROM job"
)


def list_jobs(connection: sqlite3.Connection, memory: Memory, query: JobsQuery, now_us: int) -> JobPage:
    """A page of jobs: match and order in memory, then one row look-up for each job on the page."""
    # The total comes from memory, so a page beyond the end reads nothing.
    catalogue = memory.jobs(connection)
    among = catalogue.matching(connection, query)
    total = catalogue.count if among is None else len(among)
    numbers: list[int] = []
    if query.offset < total:
        if query.order_by == "next_run_at":
            numbers = catalogue.next_runs(connection).page(
                among, now_us, descending=query.order_desc, offset=query.offset, take=query.limit
            )
        else:
            numbers = catalogue.in_order(connection, query, among)[query.offset : query.offset + query.limit]
    data = [job_document(row, next_run_us(memory, row, now_us)) for row in fetch_jobs(connection, numbers)]
    return {"data": data, "pagination": pagination(total, query.limit, query.offset, len(data))}


def get_job(connection: sqlite3.Connection, memory: Memory, query: JobQuery, now_us: int) -> JobDocument:
    """One job: one row look-up, or up to three the first time its name is asked for."""
    (row,) = fetch_jobs(connection, [memory.job_number(connection, query.job_id)])
    return job_document(row, next_run_us(memory, row, now_us))


def next_run_us(memory: Memory, row: Job, now_us: int) -> int | None:
    """The first fire time of a job after now."""
    unit = unit_of(
        row.schedule, row.interval_seconds, row.enabled, row.anchor_us, row.next_run_us, row.last_run_us,
        row.created_us,
    )  # fmt: skip
    return memory.fires.next_us(unit, now_us)


class Catalogue:
    """The job definitions that queries have needed so far; changed jobs are reread one by one."""

    def __init__(self, connection: sqlite3.Connection, fires: Fires) -> None:
        self._fires = fires
        self._next_runs: NextRuns | None = None
        self._texts: dict[int, tuple[Any, ...]] | None = None
        self._found: Recent[Filters, set[int]] = Recent(REMEMBERED)
        self._orders: dict[tuple[str, bool], list[int]] = {}
        self._ordered: Recent[tuple[Filters, str, bool], list[int]] = Recent(REMEMBERED)
        self.count = _count(connection)

    def reread(self, connection: sqlite3.Connection, numbers: set[int]) -> None:
        """Reread jobs that were added, changed or removed, and forget the results of searches and orders."""
        self._found.clear()
        self._orders.clear()
        self._ordered.clear()
        self.count = _count(connection)
        for number in numbers:
            if self._texts is not None:
                # Remove first, then read: a deleted job has no row, and so stays out.
                self._texts.pop(number, None)
                self._put_texts(connection.execute(f"{_TEXTS} WHERE number = ?", (number,)))
            if self._next_runs is not None:
                self._next_runs.drop(number)
                self._put(self._next_runs, connection.execute(f"{_TIMINGS} WHERE number = ?", (number,)))

    def next_runs(self, connection: sqlite3.Connection) -> NextRuns:
        """All jobs by next fire time; the first call reads every job."""
        if self._next_runs is None:
            # Assigned last: an interrupted read (Ctrl-C) must not leave half of the jobs looking like all of them.
            next_runs = NextRuns(self._fires)
            self._put(next_runs, connection.execute(_TIMINGS))
            self._next_runs = next_runs
        return self._next_runs

    @staticmethod
    def _put(next_runs: NextRuns, rows: Iterable[tuple[Any, ...]]) -> None:
        for number, *timing in rows:
            next_runs.put(number, unit_of(*timing))

    def _put_texts(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._texts = self._texts or {}
        self._texts.update([(row[0], row[1:]) for row in rows])

    def matching(self, connection: sqlite3.Connection, query: JobsQuery) -> set[int] | None:
        """The numbers of the jobs that pass the filters, None for all jobs. A new term is compared with every job."""
        filters = _filters(query)
        if filters == ("", None, None, None):
            return None
        if self._texts is None:
            self._put_texts(connection.execute(_TEXTS))
        texts = self._texts or {}
        return self._found.used(filters, lambda: _search(texts, *filters))

    def in_order(self, connection: sqlite3.Connection, query: JobsQuery, among: set[int] | None) -> list[int]:
        """All jobs, or those in `among`, ordered by a field; remembered unless runs change that order."""
        order = (query.order_by, query.order_desc)
        if query.order_by in MOVING:
            numbers = _numbers_by(connection, *order)
            return numbers if among is None else [number for number in numbers if number in among]
        # One order of all jobs serves every search: filtering it is faster than sorting each search result.
        if order not in self._orders:
            self._orders[order] = _numbers_by(connection, *order)
        numbers = self._orders[order]
        if among is None:
            return numbers
        return self._ordered.used((_filters(query), *order), lambda: [number for number in numbers if number in among])


def _search(
    texts: dict[int, tuple[Any, ...]], needle: str, job_type: str | None, job_category: str | None, enabled: bool | None
) -> set[int]:
    """The jobs with the needle in name, type or category, and with exactly the other values."""
    # The folded texts of a job are joined by line feeds, and no text contains one.
    if "\n" in needle:
        return set()
    found = {number for number, row in texts.items() if needle in row[0]}
    for place, wanted in enumerate((job_type, job_category, enabled), 1):
        if wanted is not None:
            found = {number for number in found if texts[number][place] == wanted}
    return found


def _count(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM job").fetchone()[0]
    return count


def _numbers_by(connection: sqlite3.Connection, order_by: str, order_desc: bool) -> list[int]:
    """All job numbers in order of a field, nulls last, ties by number."""
    column, direction = ORDER_COLUMNS[order_by], "DESC" if order_desc else "ASC"
    # IS NULL first puts nulls last in both directions, which neither SQLite nor PostgreSQL does by itself.
    rows = connection.execute(
        f"SELECT number FROM job ORDER BY {column} IS NULL, {column} {direction}, number {direction}"
    )
    return [number for (number,) in rows]


def _filters(query: JobsQuery) -> Filters:
    return (query.needle, query.job_type, query.job_category, query.enabled)
