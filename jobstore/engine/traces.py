"""The access path of ``trace_id=``: a trace is a handful of executions, so all of them are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobstore.engine.counters import FARTHEST_US
from jobstore.engine.orders import in_order
from jobstore.language.models import STATUS_OF_CODE

if TYPE_CHECKING:
    import sqlite3

    from jobstore.engine.selection import Selection
    from jobstore.language.query import ExecutionsQuery

_KEYS = {
    "id": "execution.id",
    "job_id": "job_name.job_number",
    "job_name": "job_name.name",
    "status": "execution.status",
    "started_at": "execution.effective_us",
    "completed_at": "execution.completed_us",
    "duration_ms": "execution.duration_ms",
    "trace_id": "execution.trace_id",
    "worker_id": "(SELECT worker.name FROM worker WHERE worker.worker_id = execution.worker_id)",
    "created_at": "execution.created_us",
}


def page_ids_of_trace(
    connection: sqlite3.Connection, selection: Selection, query: ExecutionsQuery, trace_id: str
) -> tuple[int, list[int]]:
    """How many selected executions a trace has, and the ids of the page: one row lookup for each of the trace."""
    rows = connection.execute(
        f"""
        SELECT execution.id, execution.name_id, execution.status, {_KEYS[query.order_by]}
        FROM execution INDEXED BY execution_trace JOIN job_name ON job_name.name_id = execution.name_id
        WHERE execution.trace_id = ? AND execution.effective_us BETWEEN ? AND ?
        """,
        (
            trace_id,
            -FARTHEST_US if query.after_us is None else query.after_us,
            FARTHEST_US if query.before_us is None else query.before_us,
        ),
    )
    keyed = [(key, row_id) for row_id, name_id, status, key in rows if selection.admits(name_id, status)]
    if query.order_by == "status":
        keyed = [(STATUS_OF_CODE[key].value, row_id) for key, row_id in keyed]
    ids = in_order(keyed, descending=query.order_desc)
    return len(ids), ids[query.offset : query.offset + query.limit]
