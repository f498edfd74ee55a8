"""The queries over executions. A list takes four steps: select, count, choose a path, fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobstore.engine.orders import page_ids_by, page_ids_of_trace
from jobstore.engine.selection import ALL_STATUSES, Part, Selection, Wanted
from jobstore.engine.started import page_ids_by_start
from jobstore.engine.window import count_selected
from jobstore.language.errors import NotFound
from jobstore.language.models import STATUS_CODES, pagination
from jobstore.storage.documents import execution_document
from jobstore.storage.rows import fetch_execution

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from jobstore.engine.counters import Counters
    from jobstore.engine.memory import Memory
    from jobstore.language.models import ExecutionDocument, ExecutionPage, Status
    from jobstore.language.query import ExecutionQuery, ExecutionsQuery, HistogramQuery, JobExecutionsQuery
    from jobstore.storage.rows import KeyQuery

    SelectionQuery = ExecutionsQuery | HistogramQuery


def list_executions(
    connection: sqlite3.Connection, memory: Memory, query: ExecutionsQuery, _now_us: int
) -> ExecutionPage:
    """A page of the history of all jobs."""
    return _page(connection, memory, query, select_all(connection, memory, query))


def list_executions_of_job(
    connection: sqlite3.Connection, memory: Memory, query: JobExecutionsQuery, _now_us: int
) -> ExecutionPage:
    """A page of the history of one job, under every name it has had."""
    number = memory.job_number(connection, query.job_id)
    return _page(connection, memory, query, select_of_job(connection, memory, query, number))


def get_execution(
    connection: sqlite3.Connection, _memory: Memory, query: ExecutionQuery, _now_us: int
) -> ExecutionDocument:
    """One execution: one row look-up."""
    row = fetch_execution(connection, query.execution_id.number or 0)
    if row is None:
        raise NotFound(f"Execution not found: {query.execution_id.text}")
    return execution_document(row)


def select_all(connection: sqlite3.Connection, memory: Memory, query: SelectionQuery) -> Selection:
    """The executions that ``list_job_executions`` selects; a new term is compared with every name."""
    wanted = _codes(query.status)
    if not query.needle:
        return _selection((memory.all(connection), wanted))
    meant = _codes(query.meant) if query.meant else ()
    at_once = tuple(code for code in wanted if code in meant)
    # The two parts have disjoint statuses, so totals add up and no execution appears twice on a merged page.
    by_name = tuple(code for code in wanted if code not in meant)
    return _selection(
        (memory.all(connection), at_once),
        (memory.of_term(connection, query.needle), by_name),
    )


def select_of_job(connection: sqlite3.Connection, memory: Memory, query: SelectionQuery, job_number: int) -> Selection:
    """The executions that ``get_job_executions`` selects: there, a term is matched against statuses only."""
    wanted = _codes(query.status)
    if query.needle:
        meant = _codes(query.meant) if query.meant else ()
        wanted = tuple(code for code in wanted if code in meant)
    return _selection((memory.of_job(connection, job_number), wanted))


def _selection(*parts: tuple[Counters, tuple[int, ...]]) -> Selection:
    """The parts that have any executions."""
    return Selection(tuple([Part(counters, statuses) for counters, statuses in parts if counters.total(statuses)]))


def _codes(statuses: Iterable[Status] | None) -> tuple[int, ...]:
    if statuses is None:
        return ALL_STATUSES
    return tuple(sorted(STATUS_CODES[status] for status in statuses))


def _page(
    connection: sqlite3.Connection, memory: Memory, query: ExecutionsQuery, selection: Selection
) -> ExecutionPage:
    total, ids = _page_ids(connection, memory, query, selection)
    data = [execution_document(row) for row in memory.rows(connection, ids)]
    return {"data": data, "pagination": pagination(total, query.limit, query.offset, len(data))}


def _page_ids(
    connection: sqlite3.Connection, memory: Memory, query: ExecutionsQuery, selection: Selection
) -> tuple[int, list[int] | KeyQuery]:
    """The exact total, and the ids of the page or a statement that yields them."""
    if not selection.parts:
        return 0, []
    # Before counting: a trace has an index of its own and so few executions that all of them are read.
    if query.trace_id is not None:
        return page_ids_of_trace(connection, selection, query, query.trace_id)
    total = count_selected(connection, selection, query.after_us, query.before_us)
    # The paths below may rely on a page with at least one execution.
    if query.offset >= total:
        return total, []
    wanted = Wanted(
        selection, sum(memory.all(connection).counts), total, query.after_us, query.before_us, query.order_desc,
        query.offset, min(query.limit, total - query.offset),
    )  # fmt: skip
    if query.order_by == "started_at":
        return total, page_ids_by_start(connection, memory, wanted)
    return total, page_ids_by(connection, memory, query.order_by, wanted)
