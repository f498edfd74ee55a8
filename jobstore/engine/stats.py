"""Exact numbers over a window of the history: counts from counters, percentiles from an index of durations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobstore.engine.counters import FARTHEST_US
from jobstore.engine.selection import ALL_STATUSES, Part
from jobstore.engine.window import count_between
from jobstore.language.instants import instant_text
from jobstore.language.models import FINISHED, STATUS_CODES, STATUSES
from jobstore.storage.schema import SPAN_ALL

if TYPE_CHECKING:
    import sqlite3

    from jobstore.engine.counters import Counters
    from jobstore.engine.memory import Memory
    from jobstore.language.models import DurationStats, StatsDocument
    from jobstore.language.query import StatsQuery

_FINISHED = tuple(sorted(STATUS_CODES[status] for status in FINISHED))
_FINISHED_SQL = ",".join(map(str, _FINISHED))
_SUCCESS, _FAILURE = STATUS_CODES["SUCCESS"], STATUS_CODES["FAILURE"]


def job_stats(connection: sqlite3.Connection, memory: Memory, query: StatsQuery, _now_us: int) -> StatsDocument:
    """The stats document of all executions, or of one job's."""
    if query.job_id is None:
        return _stats(connection, memory.all(connection), None, query)
    number = memory.job_number(connection, query.job_id)
    return _stats(connection, memory.of_job(connection, number), number, query)


def _stats(
    connection: sqlite3.Connection, counters: Counters, job_number: int | None, query: StatsQuery
) -> StatsDocument:
    by_status = {
        status.value: count_between(
            connection, Part(counters, (STATUS_CODES[status],)), query.after_us, query.before_us
        )
        for status in STATUSES
    }
    finished = sum(by_status[status] for status in FINISHED)
    return {
        "job_id": None if job_number is None else str(job_number),
        "after": instant_text(query.after_us),
        "before": instant_text(query.before_us),
        "runs": sum(by_status.values()),
        "by_status": by_status,
        "success_rate": by_status["SUCCESS"] / finished if finished else None,
        "duration_ms": _durations(connection, counters, query),
        "last_success_at": _last(connection, counters, _SUCCESS, query),
        "last_failure_at": _last(connection, counters, _FAILURE, query),
    }


def _durations(connection: sqlite3.Connection, counters: Counters, query: StatsQuery) -> DurationStats:
    if query.after_us is not None or query.before_us is not None or len(counters.names or ()) > 1:
        return _gathered_durations(connection, counters, query)
    timed, spent = _sums(connection, counters)
    if not timed:
        return {"average": None, "p50": None, "p95": None, "max": None}
    return {
        "average": spent / timed,
        "p50": _at_rank(connection, counters, timed, rank_of(timed, 50)),
        "p95": _at_rank(connection, counters, timed, rank_of(timed, 95)),
        "max": _at_rank(connection, counters, timed, timed - 1),
    }


def rank_of(count: int, percent: int) -> int:
    """Position of the smallest value that at least `percent` of `count` sorted ones do not exceed (nearest rank)."""
    return -(-count * percent // 100) - 1


def _sums(connection: sqlite3.Connection, counters: Counters) -> tuple[int, int]:
    """Finished runs that have a duration, and the sum of these: a few counters."""
    if counters.names is None:
        sql = f"""
        SELECT coalesce(sum(timed), 0), coalesce(sum(duration_ms), 0) FROM period_tally
        WHERE span = {SPAN_ALL} AND period = 0 AND status IN ({_FINISHED_SQL})
        """
        row = connection.execute(sql).fetchone()
    else:
        sql = f"""
        SELECT coalesce(sum(timed), 0), coalesce(sum(duration_ms), 0) FROM name_tally
        WHERE name_id IN ({",".join("?" * len(counters.names))}) AND status IN ({_FINISHED_SQL})
        """
        row = connection.execute(sql, tuple(counters.names)).fetchone()
    return row[0], row[1]


def _at_rank(connection: sqlite3.Connection, counters: Counters, timed: int, rank: int) -> int:
    """The duration at a rank (from 0, shortest first), walked to from the nearer end of its index."""
    backwards = rank > timed // 2
    skip, direction = (timed - 1 - rank, "DESC") if backwards else (rank, "ASC")
    source = "execution_duration WHERE" if counters.names is None else "execution_name_duration WHERE name_id = ? AND"
    values = tuple(counters.names or ())
    # Only a history that was loaded can hold an unfinished run with a duration: then the walk is filtered.
    odd = f"AND status IN ({_FINISHED_SQL})" if _has_odd(connection, counters) else ""
    sql = f"""
    SELECT duration_ms FROM execution INDEXED BY {source} duration_ms IS NOT NULL {odd}
    ORDER BY duration_ms {direction} LIMIT 1 OFFSET ?
    """
    duration: int = connection.execute(sql, (*values, skip)).fetchone()[0]
    return duration


def _has_odd(connection: sqlite3.Connection, counters: Counters) -> bool:
    others = ",".join(str(status) for status in ALL_STATUSES if status not in _FINISHED)
    source = f"period_tally WHERE span = {SPAN_ALL}" if counters.names is None else "name_tally WHERE name_id = ?"
    sql = f"SELECT 1 FROM {source} AND status IN ({others}) AND timed > 0 LIMIT 1"
    return connection.execute(sql, tuple(counters.names or ())).fetchone() is not None


def _gathered_durations(connection: sqlite3.Connection, counters: Counters, query: StatsQuery) -> DurationStats:
    """Every duration of the window (or of a job that was renamed), sorted: one row lookup each."""
    window = (
        -FARTHEST_US if query.after_us is None else query.after_us,
        FARTHEST_US if query.before_us is None else query.before_us,
    )
    if counters.names is None:
        rows = connection.execute(
            f"""
            SELECT duration_ms FROM execution INDEXED BY execution_started
            WHERE effective_us BETWEEN ? AND ? AND duration_ms IS NOT NULL AND status IN ({_FINISHED_SQL})
            """,
            window,
        )
        durations = [duration for (duration,) in rows]
    else:
        sql = f"""
        SELECT duration_ms FROM execution INDEXED BY execution_name_started
        WHERE name_id = ? AND status IN ({_FINISHED_SQL}) AND effective_us BETWEEN ? AND ? AND duration_ms IS NOT NULL
        """
        durations = [
            duration for name_id in counters.names for (duration,) in connection.execute(sql, (name_id, *window))
        ]
    return _described(durations)


def _described(durations: list[int]) -> DurationStats:
    if not durations:
        return {"average": None, "p50": None, "p95": None, "max": None}
    durations.sort()
    count = len(durations)
    return {
        "average": sum(durations) / count,
        "p50": durations[rank_of(count, 50)],
        "p95": durations[rank_of(count, 95)],
        "max": durations[-1],
    }


def _last(connection: sqlite3.Connection, counters: Counters, status: int, query: StatsQuery) -> str | None:
    """The latest effective start with a status in the window: one entry of an index for each name."""
    window = (
        -FARTHEST_US if query.after_us is None else query.after_us,
        FARTHEST_US if query.before_us is None else query.before_us,
    )
    if counters.names is None:
        sql = """
        SELECT max(effective_us) FROM execution INDEXED BY execution_status_started
        WHERE status = ? AND effective_us BETWEEN ? AND ?
        """
        return instant_text(connection.execute(sql, (status, *window)).fetchone()[0])
    sql = """
    SELECT max(effective_us) FROM execution INDEXED BY execution_name_started
    WHERE name_id = ? AND status = ? AND effective_us BETWEEN ? AND ?
    """
    found = [connection.execute(sql, (name_id, status, *window)).fetchone()[0] for name_id in counters.names]
    return instant_text(max((us for us in found if us is not None), default=None))
