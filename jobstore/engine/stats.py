"""Exact statistics over a window: counts from counters, percentiles from an index of durations."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jobstore.engine.counters import FARTHEST_US, bounds
from jobstore.engine.selection import Part, Selection
from jobstore.engine.window import count_before, count_between, extreme_start
from jobstore.language.instants import instant_text
from jobstore.language.models import FINISHED, STATUS_CODES, STATUSES
from jobstore.storage.schema import IS_NEVER_STARTED, SPAN_ALL

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
    """The statistics of all executions, or of one job's."""
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
    unstarted = _unstarted(connection, counters, query)
    never_started = sum(count for *_, count in unstarted)
    # A missed or refused run says nothing about how the job does when it runs.
    finished = sum(by_status[status] for status in FINISHED) - never_started
    succeeded = by_status["SUCCESS"] - sum(count for status, _, count in unstarted if status == _SUCCESS)
    return {
        "job_id": None if job_number is None else str(job_number),
        "after": instant_text(query.after_us),
        "before": instant_text(query.before_us),
        "runs": sum(by_status.values()),
        "by_status": by_status,
        "never_started": never_started,
        "success_rate": succeeded / finished if finished else None,
        "duration_ms": _durations(connection, counters, query, unstarted),
        "last_success_at": _last(connection, Part(counters, (_SUCCESS,)), query),
        "last_failure_at": _last(connection, Part(counters, (_FAILURE,)), query),
    }


def _unstarted(
    connection: sqlite3.Connection, counters: Counters, query: StatsQuery
) -> list[tuple[int, int | None, int]]:
    """The finished executions that never started, as (status, duration, count); they have an index of their own."""
    # A job without executions; a server does not accept an empty IN ().
    if counters.names is not None and not counters.names:
        return []
    names = "" if counters.names is None else f"AND name_id IN ({','.join('?' * len(counters.names))})"
    sql = f"""
    SELECT status, duration_ms, count(*) FROM execution INDEXED BY execution_never_started
    WHERE {IS_NEVER_STARTED} {names} AND effective_us BETWEEN ? AND ? GROUP BY status, duration_ms
    """
    return connection.execute(sql, (*(counters.names or ()), *bounds(query.after_us, query.before_us))).fetchall()


def _durations(
    connection: sqlite3.Connection,
    counters: Counters,
    query: StatsQuery,
    unstarted: list[tuple[int, int | None, int]],
) -> DurationStats:
    """Average and percentiles of runs that started; only a loaded history has durations of others."""
    odd: Counter[int] = Counter()
    for _, ms, count in unstarted:
        odd.update({} if ms is None else {ms: count})
    if odd:
        durations = Counter(_gathered_durations(connection, counters, query)) - odd
        return _described(list(durations.elements()))
    # Counters hold sums, not an order. Only over the whole history can the index of all durations be walked to a rank.
    if counters.names is not None or query.after_us is not None or query.before_us is not None:
        return _described(_gathered_durations(connection, counters, query))
    rows = connection.execute(
        f"SELECT status, timed, duration_ms FROM period_tally WHERE span = {SPAN_ALL} AND period = 0"
    ).fetchall()
    finished = [row for row in rows if row[0] in _FINISHED]
    timed = sum(row[1] for row in finished)
    if not timed:
        return _described([])
    # Only a loaded history can hold an unfinished run with a duration; then the walks are filtered.
    condition = f"AND status IN ({_FINISHED_SQL})" if timed < sum(row[1] for row in rows) else ""
    return {
        "average": sum(row[2] for row in finished) / timed,
        "p50": _at_rank(connection, timed, rank_of(timed, 50), condition),
        "p95": _at_rank(connection, timed, rank_of(timed, 95), condition),
        "max": _at_rank(connection, timed, timed - 1, condition),
    }


def rank_of(count: int, percent: int) -> int:
    """Position of the smallest of `count` sorted values that at least `percent` % do not exceed (nearest rank)."""
    return -(-count * percent // 100) - 1


def _at_rank(connection: sqlite3.Connection, timed: int, rank: int, condition: str) -> int:
    """The duration at a rank (from 0, shortest first), walked to from the nearer end of its index."""
    # The p95 is near the long end: from there, the walk covers a twentieth of the index.
    backwards = rank > timed // 2
    skip, direction = (timed - 1 - rank, "DESC") if backwards else (rank, "ASC")
    sql = f"""
    SELECT duration_ms FROM execution INDEXED BY execution_duration
    WHERE duration_ms IS NOT NULL {condition}
    ORDER BY duration_ms {direction} LIMIT 1 OFFSET ?
    """
    duration: int = connection.execute(sql, (skip,)).fetchone()[0]
    return duration


def _gathered_durations(connection: sqlite3.Connection, counters: Counters, query: StatsQuery) -> list[int]:
    """Every duration of a job or of a window: for a job from an index, for a window of all jobs from the rows."""
    condition = f"effective_us BETWEEN ? AND ? AND duration_ms IS NOT NULL AND status IN ({_FINISHED_SQL})"
    window = bounds(query.after_us, query.before_us)
    if counters.names is None:
        sql = f"SELECT duration_ms FROM execution INDEXED BY execution_started WHERE {condition}"
        return [duration for (duration,) in connection.execute(sql, window)]
    sql = f"SELECT duration_ms FROM execution INDEXED BY execution_name_started WHERE name_id = ? AND {condition}"
    return [duration for name_id in counters.names for (duration,) in connection.execute(sql, (name_id, *window))]


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


def _last(connection: sqlite3.Connection, part: Part, query: StatsQuery) -> str | None:
    """The latest effective start in the window as text, or None; counters give its hour, and only that hour is read."""
    before = part.total if query.before_us is None else count_before(connection, part, query.before_us + 1)
    if before == (0 if query.after_us is None else count_before(connection, part, query.after_us)):
        return None
    last_us = FARTHEST_US if query.before_us is None else query.before_us
    return instant_text(extreme_start(connection, Selection((part,)), "max", before - 1, last_us))
