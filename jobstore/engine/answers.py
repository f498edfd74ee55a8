"""The function that answers each kind of query.

Each takes the connection, the reader's memory, the query and the current time in microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobstore.engine import catalogue, executions, histogram, states, stats
from jobstore.language.query import (
    ExecutionQuery,
    ExecutionsQuery,
    HistogramQuery,
    JobExecutionsQuery,
    JobQuery,
    JobsQuery,
    JobStatesQuery,
    Query,
    StatsQuery,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from jobstore.engine.memory import Memory

ANSWERS: Final[Mapping[type[Query], Callable[[sqlite3.Connection, Memory, Any, int], Any]]] = {
    JobsQuery: catalogue.list_jobs,
    JobQuery: catalogue.get_job,
    ExecutionsQuery: executions.list_executions,
    JobExecutionsQuery: executions.list_executions_of_job,
    StatsQuery: stats.job_stats,
    ExecutionQuery: executions.get_execution,
    JobStatesQuery: states.list_job_states,
    HistogramQuery: histogram.execution_histogram,
}
