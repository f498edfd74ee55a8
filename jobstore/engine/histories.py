"""The facts about a job's state that its executions decide: its open executions, last outcome and newest runs.

A job has a range of ``execution_name_started`` for each name and status. Whatever the history holds, the state depends
only on the first or last entry of each range.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from jobstore.engine.selection import Part
from jobstore.engine.stats import rank_of
from jobstore.engine.window import count_between
from jobstore.language.instants import MIN_US
from jobstore.language.models import STATUS_CODES
from jobstore.language.states import Outcome
from jobstore.storage.rows import in_chunks, marks
from jobstore.storage.schema import IS_NEVER_STARTED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Container, Iterable, Sequence

    from jobstore.engine.counters import Counters

_SUCCESS, _FAILURE, _TIMEOUT, RUNNING, PENDING = (
    STATUS_CODES[status] for status in ("SUCCESS", "FAILURE", "TIMEOUT", "RUNNING", "PENDING")
)
_FAILED = (_FAILURE, _TIMEOUT)
_OPEN = (RUNNING, PENDING)
_BEFORE_ALL = MIN_US - 1

Place = tuple[int, int]
"""The position of an execution in the default order: its effective start and its id."""


NO_OUTCOME = Outcome(None, None)


def fetch_open(connection: sqlite3.Connection, numbers: list[int] | None) -> dict[int, dict[int, int]]:
    """For RUNNING and for PENDING: each job's oldest effective start, for some jobs (at most 500) or all (None)."""
    oldest: dict[int, dict[int, int]] = {RUNNING: {}, PENDING: {}}
    more = "" if numbers is None else f"AND job_number IN ({marks(numbers)})"
    for number, status, us in connection.execute(f"{_OLDEST} {more}", numbers or ()):
        # A job may have several names. On a server a counter may be ahead of its rows, so there may be no entry.
        if us is not None:
            oldest[status][number] = min(us, oldest[status].get(number, us))
    return oldest


def fetch_outcomes(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, Outcome]:
    """The last outcome of some jobs and the start of its streak; reads four or five index entries for each name."""
    ends: dict[int, list[_Ends]] = {number: [] for number in numbers}
    for some in in_chunks(numbers):
        for number, *row in connection.execute(_ENDS.format(numbers=marks(some)), some):
            ends[number].append(_Ends._make(row))
    return {number: _outcome(connection, names) for number, names in ends.items()}


class _Ends(NamedTuple):
    """The ends of one name's ranges; `streak_us` is exact only if it is the job's only name."""

    name_id: int
    success_us: int | None
    failure_us: int | None
    streak_us: int | None


def _end(status: int | str, direction: str, of: str = "names", after: str = "") -> str:
    """SQL for the first or last effective start of a name with a status."""
    # coalesce: without an execution of the other outcome, the streak begins with the first execution.
    bound = f"AND effective_us >= coalesce({after}, {_BEFORE_ALL})" if after else ""
    return f"""(SELECT effective_us FROM execution INDEXED BY execution_name_started
        WHERE name_id = {of}.name_id AND status = {status} {bound} ORDER BY effective_us {direction} LIMIT 1)"""


# Counters say which names have an open execution, usually few; no index entry of the others is read.
_OLDEST = f"""
SELECT job_number, status, {_end("t.status", "ASC", "t")} FROM name_tally AS t JOIN job_name AS n USING (name_id)
WHERE status IN ({RUNNING}, {PENDING}) AND runs > 0
"""


def _extreme(comparison: str, one: str, other: str) -> str:
    """SQL for the larger (``>``) or smaller (``<``) of two values that may be null."""
    return f"CASE WHEN {other} IS NULL OR {one} {comparison} {other} THEN {one} ELSE {other} END"


# MATERIALIZED: otherwise SQLite would look each column up again wherever it is mentioned.
_ENDS = f"""
WITH names AS (
    SELECT name_id, job_number FROM job_name WHERE job_number IN ({{numbers}})
), looked_up AS MATERIALIZED (
    SELECT job_number, name_id,
        {_end(_SUCCESS, "DESC")} AS success_us, {_end(_FAILURE, "DESC")} AS f, {_end(_TIMEOUT, "DESC")} AS t
    FROM names
), ends AS MATERIALIZED (
    SELECT job_number, name_id, success_us, {_extreme(">", "f", "t")} AS failure_us FROM looked_up
), firsts AS MATERIALIZED (
    SELECT ends.*,
        CASE WHEN failure_us IS NULL OR success_us > failure_us THEN {_end(_SUCCESS, "ASC", "ends", "failure_us")}
        ELSE {_end(_FAILURE, "ASC", "ends", "success_us")} END AS first_us,
        CASE WHEN success_us IS NULL OR success_us < failure_us THEN {_end(_TIMEOUT, "ASC", "ends", "success_us")}
        END AS second_us
    FROM ends
)
SELECT job_number, name_id, success_us, failure_us, {_extreme("<", "first_us", "second_us")} FROM firsts
"""


def _outcome(connection: sqlite3.Connection, names: list[_Ends]) -> Outcome:
    """The outcome of a job from the ends of its names' ranges, or exactly where these do not suffice.

    For example, one name with successes at 1, 2 and 5 and failures at 3 and 4: the last success is 5, the last failure
    4. So the job succeeds, and its streak begins with the first success from 4 on, at 5.
    """
    # Nearly all jobs have one name, and their outcome is complete without another statement.
    if len(names) == 1:
        _, success_us, failure_us, streak_us = names[0]
        if success_us is None or failure_us is None:
            return Outcome(None if streak_us is None else success_us is None, streak_us)
        if success_us != failure_us and streak_us != min(success_us, failure_us):
            return Outcome(failure_us > success_us, streak_us)
    # With several names, the ends of each do not determine the streak over all of them. A success and a failure at the
    # same moment, last or where the streak begins, are ordered by their ids, which the ends do not include.
    return _exact_outcome(connection, [ends.name_id for ends in names])


def _least(moments: Iterable[int | None]) -> int | None:
    return min((us for us in moments if us is not None), default=None)


def _exact_outcome(connection: sqlite3.Connection, names: list[int]) -> Outcome:
    """The last outcome and the start of its streak, for a job with several names or with a tie."""
    succeeded, failed = _last(connection, names, (_SUCCESS,)), _last(connection, names, _FAILED)
    if succeeded is None and failed is None:
        return NO_OUTCOME
    # Compare moment and id: the order in which every list shows them.
    is_failing = succeeded is None or (failed is not None and failed > succeeded)
    statuses, after = (_FAILED, succeeded) if is_failing else ((_SUCCESS,), failed)
    sql = """
    SELECT min(effective_us) FROM execution INDEXED BY execution_name_started
    WHERE name_id = ? AND status = ? AND effective_us >= ? AND (effective_us > ? OR id > ?)
    """
    us, execution_id = after or (_BEFORE_ALL, 0)
    firsts = [
        connection.execute(sql, (name_id, status, us, us, execution_id)).fetchone()[0]
        for name_id in names
        for status in statuses
    ]
    return Outcome(is_failing, _least(firsts))


def _last(connection: sqlite3.Connection, names: list[int], statuses: Sequence[int]) -> Place | None:
    """The position of the newest execution of some names with one of some statuses; None if there is none."""
    sql = """
    SELECT effective_us, id FROM execution INDEXED BY execution_name_started
    WHERE name_id = ? AND status = ? ORDER BY effective_us DESC, id DESC LIMIT 1
    """
    found = [connection.execute(sql, (name_id, status)).fetchone() for name_id in names for status in statuses]
    return max((place for place in found if place is not None), default=None)


# --- what a page shows of a job

# The newest executions that a page shows of each job.
RECENT = 20
# Finished executions behind the success rate and the percentiles: enough for a p95.
RATED = 100
# Failures in a row to count in the index. For more, use counters, which have to be read first.
COUNTED = 2_000


class Run(NamedTuple):
    """One of a job's newest executions."""

    id: int
    status: int
    effective_us: int
    is_started: bool
    duration_ms: int | None


class Rates(NamedTuple):
    """Success rate and percentiles over the newest finished executions that had started."""

    success_rate: float | None
    p50_ms: int | None
    p95_ms: int | None


class Newest(NamedTuple):
    """A job's newest executions, newest first, whether the last finished one failed, and its rates."""

    runs: tuple[Run, ...]
    is_failing: bool
    rates: Rates


def fetch_newest(connection: sqlite3.Connection, numbers: Collection[int]) -> dict[int, Newest]:
    """The newest executions of some jobs: about 300 index entries each, and the rows of the open ones."""
    found: dict[int, Newest] = {}
    for some in in_chunks(numbers):
        # All names in one statement; the executions then need one statement for each name.
        names = fetch_names(connection, some)
        for number in some:
            found[number] = _newest(connection, names.get(number, []))
    return found


def fetch_names(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, list[int]]:
    """The names that each of some jobs (at most 500) was recorded under, by job number."""
    names: dict[int, list[int]] = {}
    sql = f"SELECT job_number, name_id FROM job_name WHERE job_number IN ({marks(numbers)})"
    for number, name_id in connection.execute(sql, numbers):
        names.setdefault(number, []).append(name_id)
    return names


def newest_sql(name_id: str, more: str = "") -> str:
    """SQL for the newest executions of a name with each status."""
    return " UNION ALL ".join(
        f"""SELECT * FROM (
            SELECT id, {status}, effective_us, duration_ms{more} FROM execution INDEXED BY execution_name_started
            WHERE name_id = {name_id} AND status = {status} ORDER BY effective_us DESC, id DESC LIMIT {most}
        ) AS newest"""
        # Twenty open executions are enough for the page. The newest hundred finished may all have the same status.
        for status, most in (
            (_SUCCESS, RATED),
            (_FAILURE, RATED),
            (_TIMEOUT, RATED),
            (RUNNING, RECENT),
            (PENDING, RECENT),
        )
    )


_NEWEST = newest_sql("?")


def _newest(connection: sqlite3.Connection, names: list[int]) -> Newest:
    rows: list[Any] = []
    for name_id in names:
        rows += connection.execute(_NEWEST, [name_id] * 5)
    kept = newest_of(rows)
    return outline(kept, _unstarted(connection, names, kept))


def newest_of(rows: list[Any]) -> list[Any]:
    """The rows that count, newest first, from those of all names of a job: the newest 20 and newest 100 finished."""
    rows.sort(key=itemgetter(2, 0), reverse=True)
    finished = 0
    kept = []
    for place, row in enumerate(rows):
        is_finished = row[1] not in _OPEN
        finished += is_finished
        if place < RECENT or (is_finished and finished <= RATED):
            kept.append(row)
    return kept


def _unstarted(
    connection: sqlite3.Connection, names: list[int], rows: list[tuple[int, int, int, int | None]]
) -> set[int]:
    """The ids of a job's newest executions that never started; an index has the finished ones."""
    if not rows:
        return set()
    sql = f"""
    SELECT id FROM execution INDEXED BY execution_never_started
    WHERE {IS_NEVER_STARTED} AND name_id IN ({marks(names)}) AND effective_us >= ?
    """
    # From the oldest kept row on: otherwise a job that has been refused for years would have all of it read each time.
    found = {key for (key,) in connection.execute(sql, (*names, rows[-1][2]))}
    # Open executions are not in that index; they are few, so read their rows.
    still_open = [row[0] for row in rows if row[1] in _OPEN]
    sql = f"SELECT id FROM execution WHERE id IN ({marks(still_open)}) AND started_by = 0"
    return found.union(key for (key,) in connection.execute(sql, still_open))


def outline(kept: list[Any], unstarted: Container[int]) -> Newest:
    """What a page shows of a job, from the rows that `newest_of` kept.

    Rates and percentiles are over runs that started and finished, as in `job_stats`.
    """
    finished = [row for row in kept if row[1] not in _OPEN]
    ran = [row for row in finished[:RATED] if row[0] not in unstarted]
    durations = sorted(row[3] for row in ran if row[3] is not None)
    rates = Rates(
        sum(row[1] == _SUCCESS for row in ran) / len(ran) if ran else None,
        durations[rank_of(len(durations), 50)] if durations else None,
        durations[rank_of(len(durations), 95)] if durations else None,
    )
    runs = tuple(Run(key, status, us, key not in unstarted, ms) for key, status, us, ms, *_ in kept[:RECENT])
    return Newest(runs, bool(finished) and finished[0][1] in _FAILED, rates)


def count_failures(connection: sqlite3.Connection, counters: Counters) -> int:
    """The number of failures and timeouts of a job since its last success."""
    names = sorted(counters.names or ())
    us, execution_id = _last(connection, names, (_SUCCESS,)) or (_BEFORE_ALL, 0)
    sql = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM execution INDEXED BY execution_name_started
        WHERE name_id IN ({marks(names)}) AND status IN ({_FAILURE}, {_TIMEOUT})
        AND effective_us >= ? AND (effective_us > ? OR id > ?) LIMIT {COUNTED}
    ) AS failures
    """
    count: int = connection.execute(sql, (*names, us, us, execution_id)).fetchone()[0]
    # The limit keeps each page from counting through a job that has failed for years.
    if count < COUNTED:
        return count
    # The failures at the same moment as the success but after it are few: count them by id, the rest by counters.
    same = f"{sql.partition('LIMIT')[0]} AND effective_us = ?) AS failures"
    at_once: int = connection.execute(same, (*names, us, us, execution_id, us)).fetchone()[0]
    return at_once + count_between(connection, Part(counters, _FAILED), us + 1, None)
