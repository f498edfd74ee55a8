"""The queries over executions; a list step by step: resolve, count, choose a path, fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobstore.engine.groups import GROUPED, page_ids_grouped
from jobstore.engine.orders import page_ids_by
from jobstore.engine.request import Request
from jobstore.engine.selection import select_all, select_of_job
from jobstore.engine.started import page_ids
from jobstore.engine.traces import page_ids_of_trace
from jobstore.engine.window import count_selected
from jobstore.language.errors import NotFound
from jobstore.language.models import pagination
from jobstore.storage.documents import execution_document
from jobstore.storage.rows import KeyQuery, fetch_execution, fetch_executions, fetch_executions_of

if TYPE_CHECKING:
    import sqlite3

    from jobstore.engine.memory import Memory
    from jobstore.engine.selection import Selection
    from jobstore.language.models import ExecutionDocument, ExecutionPage
    from jobstore.language.query import ExecutionQuery, ExecutionsQuery, JobExecutionsQuery


def list_executions(
    connection: sqlite3.Connection, memory: Memory, query: ExecutionsQuery, _now_us: int
) -> ExecutionPage:
    """A page of the history of all jobs."""
    return _page(connection, memory, query, select_all(connection, memory, query))


def list_executions_of_job(
    connection: sqlite3.Connection, memory: Memory, query: JobExecutionsQuery, _now_us: int
) -> ExecutionPage:
    """A page of the history of one job, under all the names it had."""
    number = memory.job_number(connection, query.job_id)
    return _page(connection, memory, query, select_of_job(connection, memory, query, number))


def get_execution(
    connection: sqlite3.Connection, _memory: Memory, query: ExecutionQuery, _now_us: int
) -> ExecutionDocument:
    """One execution: one row lookup."""
    row = fetch_execution(connection, query.execution_id.number or 0)
    if row is None:
        raise NotFound(f"Execution not found: {query.execution_id.text}")
    return execution_document(row)


def _page(
    connection: sqlite3.Connection, memory: Memory, query: ExecutionsQuery, selection: Selection
) -> ExecutionPage:
    ids: list[int] | KeyQuery = []
    if query.trace_id is not None:
        total, ids = page_ids_of_trace(connection, selection, query, query.trace_id)
    else:
        total = count_selected(connection, selection, query.after_us, query.before_us)
        if query.offset < total:
            ids = _page_ids(connection, memory, query, selection, total)
    rows = fetch_executions_of(connection, ids) if isinstance(ids, KeyQuery) else fetch_executions(connection, ids)
    data = [execution_document(row) for row in rows]
    return {"data": data, "pagination": pagination(total, query.limit, query.offset, len(data))}


def _page_ids(
    connection: sqlite3.Connection, memory: Memory, query: ExecutionsQuery, selection: Selection, total: int
) -> list[int] | KeyQuery:
    take = min(query.limit, total - query.offset)
    everything = sum(memory.all(connection).counts)
    if query.order_by == "started_at":
        return page_ids(
            connection, selection, everything, after_us=query.after_us, before_us=query.before_us,
            descending=query.order_desc, offset=query.offset, take=take,
        )  # fmt: skip
    request = Request(
        selection, everything, total, query.after_us, query.before_us, query.order_desc, query.offset, take
    )
    if query.order_by in GROUPED:
        return page_ids_grouped(connection, memory, query.order_by, request)
    return page_ids_by(connection, memory, query.order_by, request)
