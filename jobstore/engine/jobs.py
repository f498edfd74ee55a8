"""The two queries over jobs: which there are, and one of them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from jobstore.engine.fires import unit_of
from jobstore.engine.jobbook import MOVING, numbers_by
from jobstore.language.models import pagination
from jobstore.storage.documents import job_document
from jobstore.storage.rows import fetch_jobs

if TYPE_CHECKING:
    import sqlite3

    from jobstore.engine.jobbook import JobBook
    from jobstore.engine.jobtexts import Found
    from jobstore.engine.memory import Memory
    from jobstore.language.models import JobDocument, JobPage
    from jobstore.language.query import JobQuery, JobsQuery
    from jobstore.storage.rows import JobRow


def list_jobs(connection: sqlite3.Connection, memory: Memory, query: JobsQuery, now_us: int) -> JobPage:
    """A page of jobs: match in memory, order, then one row lookup for each job on the page."""
    book = memory.jobs(connection)
    among = book.matching(connection, query)
    total = book.count if among is None else among.count
    numbers = _page_numbers(connection, book, query, among, now_us) if query.offset < total else []
    data = [job_document(row, next_run_us(memory, row, now_us)) for row in fetch_jobs(connection, numbers)]
    return {"data": data, "pagination": pagination(total, query.limit, query.offset, len(data))}


def _page_numbers(
    connection: sqlite3.Connection, book: JobBook, query: JobsQuery, among: Found | None, now_us: int
) -> list[int]:
    if query.order_by == "next_run_at":
        numbers = None if among is None else among.numbers
        return book.board(connection).page(
            numbers, now_us, descending=query.order_desc, offset=query.offset, take=query.limit
        )  # fmt: skip
    if query.order_by in MOVING:
        return _moving_numbers(connection, query, among)
    return book.page(connection, query, among)


def _moving_numbers(connection: sqlite3.Connection, query: JobsQuery, among: Found | None) -> list[int]:
    """The numbers of a page by an order that runs move: a step for each job up to its end."""
    numbers = numbers_by(connection, query.order_by, descending=query.order_desc)
    if among is not None:
        numbers = filter(among.numbers.__contains__, numbers)
    return list(islice(numbers, query.offset, query.offset + query.limit))


def get_job(connection: sqlite3.Connection, memory: Memory, query: JobQuery, now_us: int) -> JobDocument:
    """One job: one row lookup, or up to three for a name that is new."""
    (row,) = fetch_jobs(connection, [memory.job_number(connection, query.job_id)])
    return job_document(row, next_run_us(memory, row, now_us))


def next_run_us(memory: Memory, row: JobRow, now_us: int) -> int | None:
    """The first fire time of a job after now."""
    unit = unit_of(
        row.schedule, row.interval_seconds, row.enabled, row.anchor_us, row.next_run_us, row.last_run_us,
        row.created_us,
    )  # fmt: skip
    return memory.fires.next_us(unit, now_us)
