"""What the executions of a job say of its state: the ends of a few index ranges, and the newest of them.

A job has a range of ``execution_name_started`` for each name and status; whatever its history holds, its state
depends on the first or last entry of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jobstore.engine.selection import Part
from jobstore.engine.stats import rank_of
from jobstore.engine.window import count_between
from jobstore.language.instants import MIN_US
from jobstore.language.models import STATUS_CODES
from jobstore.storage.rows import in_chunks, marks
from jobstore.storage.schema import IS_NEVER_STARTED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence

    from jobstore.engine.counters import Counters

_SUCCESS, _FAILURE, _TIMEOUT, _RUNNING, _PENDING = (
    STATUS_CODES[status] for status in ("SUCCESS", "FAILURE", "TIMEOUT", "RUNNING", "PENDING")
)
_FAILED = (_FAILURE, _TIMEOUT)
_OPEN = (_RUNNING, _PENDING)
_BEFORE_ALL = MIN_US - 1

Place = tuple[int, int]
"""Where an execution stands in the default order: its effective start and its id."""


class History(NamedTuple):
    """What the executions of a job say of its state; see `jobstore.language.states.Facts`."""

    running_us: int | None
    waiting_us: int | None
    is_failing: bool | None
    streak_us: int | None


NO_HISTORY = History(None, None, None, None)


def fetch_histories(connection: sqlite3.Connection, numbers: list[int] | None) -> dict[int, History]:
    """The histories of some jobs (at most 500), or of all; five to eight index entries a name."""
    where = "" if numbers is None else f"WHERE job_number IN ({marks(numbers)})"
    ends: dict[int, list[_Ends]] = {}
    for number, *row in connection.execute(_ENDS.format(where=where), numbers or ()):
        ends.setdefault(number, []).append(_Ends._make(row))
    return {number: _history(connection, names) for number, names in ends.items()}


class _Ends(NamedTuple):
    """The ends of one name's ranges; the streak is right where it is the job's only name."""

    name_id: int
    running_us: int | None
    waiting_us: int | None
    success_us: int | None
    failure_us: int | None
    streak_us: int | None


def _end(status: int, direction: str, of: str = "names", after: str = "") -> str:
    """The first or last effective start of a name with a status, in SQL."""
    # coalesce: without an execution of the other outcome, the streak begins with the first of all.
    bound = f"AND effective_us > coalesce({after}, {_BEFORE_ALL})" if after else ""
    return f"""(SELECT effective_us FROM execution INDEXED BY execution_name_started
        WHERE name_id = {of}.name_id AND status = {status} {bound} ORDER BY effective_us {direction} LIMIT 1)"""


def _extreme(comparison: str, one: str, other: str) -> str:
    """The larger (``>``) or smaller (``<``) of two values that may be null, in SQL."""
    return f"CASE WHEN {other} IS NULL OR {one} {comparison} {other} THEN {one} ELSE {other} END"


# MATERIALIZED: otherwise each column would be looked up again wherever it is mentioned.
_ENDS = f"""
WITH names AS (
    SELECT n.name_id, n.job_number FROM job_name AS n JOIN job AS j ON j.number = n.job_number {{where}}
), looked_up AS MATERIALIZED (
    SELECT job_number, name_id, {_end(_RUNNING, "ASC")} AS running_us, {_end(_PENDING, "ASC")} AS waiting_us,
        {_end(_SUCCESS, "DESC")} AS success_us, {_end(_FAILURE, "DESC")} AS f, {_end(_TIMEOUT, "DESC")} AS t
    FROM names
), ends AS MATERIALIZED (
    SELECT job_number, name_id, running_us, waiting_us, success_us, {_extreme(">", "f", "t")} AS failure_us
    FROM looked_up
), firsts AS MATERIALIZED (
    SELECT ends.*,
        CASE WHEN failure_us IS NULL OR success_us > failure_us THEN {_end(_SUCCESS, "ASC", "ends", "failure_us")}
        ELSE {_end(_FAILURE, "ASC", "ends", "success_us")} END AS first_us,
        CASE WHEN success_us IS NULL OR success_us < failure_us THEN {_end(_TIMEOUT, "ASC", "ends", "success_us")}
        END AS second_us
    FROM ends
)
SELECT job_number, name_id, running_us, waiting_us, success_us, failure_us,
    {_extreme("<", "first_us", "second_us")}
FROM firsts
"""


def _history(connection: sqlite3.Connection, names: list[_Ends]) -> History:
    one = names[0]
    # By far the most jobs have one name: their history is complete without a further statement.
    if len(names) == 1 and (one.success_us is None or one.success_us != one.failure_us):
        if one.failure_us is None:
            is_failing = None if one.success_us is None else False
        else:
            is_failing = one.success_us is None or one.failure_us > one.success_us
        return History(one.running_us, one.waiting_us, is_failing, one.streak_us)
    # With several names the ends of each say nothing of the streak over all of them; a success and a failure at the
    # very same moment are told apart by their ids, which the statement above does not compare.
    running_us = _least([ends.running_us for ends in names])
    waiting_us = _least([ends.waiting_us for ends in names])
    return History(running_us, waiting_us, *_exact_streak(connection, [ends.name_id for ends in names]))


def _least(moments: Iterable[int | None]) -> int | None:
    return min((us for us in moments if us is not None), default=None)


def _exact_streak(connection: sqlite3.Connection, names: list[int]) -> tuple[bool | None, int | None]:
    """The last outcome and the start of its streak, for a job with several names or with a tie at the end."""
    succeeded, failed = _last(connection, names, (_SUCCESS,)), _last(connection, names, _FAILED)
    if succeeded is None and failed is None:
        return None, None
    # Places are compared, moment and id: this is the order in which every list shows them.
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
    return is_failing, _least(firsts)


def _last(connection: sqlite3.Connection, names: list[int], statuses: Sequence[int]) -> Place | None:
    """Where the newest execution of some names with one of some statuses stands."""
    sql = """
    SELECT effective_us, id FROM execution INDEXED BY execution_name_started
    WHERE name_id = ? AND status = ? ORDER BY effective_us DESC, id DESC LIMIT 1
    """
    found = [connection.execute(sql, (name_id, status)).fetchone() for name_id in names for status in statuses]
    return max((place for place in found if place is not None), default=None)


# What a page shows of a job.

# Executions in the strip of a job.
RECENT = 20
# Finished executions that the success rate and the percentiles are taken from: enough for a p95.
RATED = 100
# Failures in a row that are counted in the index. More are counted by counters, which have to be read first.
COUNTED = 2_000


class Run(NamedTuple):
    """One of a job's newest executions."""

    id: int
    status: int
    effective_us: int
    is_started: bool
    duration_ms: int | None


class Rates(NamedTuple):
    """Over the newest finished executions that had started."""

    success_rate: float | None
    p50_ms: int | None
    p95_ms: int | None


class Newest(NamedTuple):
    """A job's newest executions, newest first, and its rates."""

    runs: tuple[Run, ...]
    rates: Rates


def fetch_newest(connection: sqlite3.Connection, numbers: Collection[int]) -> dict[int, Newest]:
    """The newest executions of some jobs: some 300 index entries each, and the rows of those that are open."""
    found: dict[int, Newest] = {}
    for some in in_chunks(numbers):
        # All names in one statement; the executions then need one for each name, since each has its own ranges.
        names = fetch_names(connection, some)
        for number in some:
            found[number] = outline(_newest(connection, names.get(number, [])))
    return found


def fetch_names(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, list[int]]:
    """The names that each of some jobs (at most 500) was recorded under."""
    names: dict[int, list[int]] = {}
    sql = f"SELECT job_number, name_id FROM job_name WHERE job_number IN ({marks(numbers)})"
    for number, name_id in connection.execute(sql, numbers):
        names.setdefault(number, []).append(name_id)
    return names


def newest_sql(name_id: str, more: str = "") -> str:
    """The newest executions of a name with each status, in SQL."""
    return " UNION ALL ".join(
        f"""SELECT * FROM (
            SELECT id, {status}, effective_us, duration_ms{more} FROM execution INDEXED BY execution_name_started
            WHERE name_id = {name_id} AND status = {status} ORDER BY effective_us DESC, id DESC LIMIT {most}
        ) AS newest"""
        # Twenty open ones are enough for the strip; of the finished ones a hundred of each status may be the newest
        # hundred.
        for status, most in (
            (_SUCCESS, RATED),
            (_FAILURE, RATED),
            (_TIMEOUT, RATED),
            (_RUNNING, RECENT),
            (_PENDING, RECENT),
        )
    )


_NEWEST = newest_sql("?")


def _newest(connection: sqlite3.Connection, names: list[int]) -> list[Run]:
    """The newest executions and the newest finished ones of a job, newest first."""
    rows: list[Any] = []
    for name_id in names:
        rows += connection.execute(_NEWEST, [name_id] * 5)
    kept = newest_of(rows)
    unstarted = _unstarted(connection, names, kept)
    return [Run(key, status, us, key not in unstarted, duration_ms) for key, status, us, duration_ms in kept]


def newest_of(rows: list[Any]) -> list[Any]:
    """Of the rows of all names of a job those that count: the newest, and the newest finished."""
    rows.sort(key=lambda row: (row[2], row[0]), reverse=True)
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
    """Which of a job's newest executions have not started: of the finished ones an index knows."""
    if not rows:
        return set()
    sql = f"""
    SELECT id FROM execution INDEXED BY execution_never_started
    WHERE {IS_NEVER_STARTED} AND name_id IN ({marks(names)}) AND effective_us >= ?
    """
    # From the oldest kept one on: a job that is refused for years would else have all of that read each time.
    found = {key for (key,) in connection.execute(sql, (*names, rows[-1][2]))}
    # Open ones are in no such index: they are few, so their rows are read.
    still_open = [row[0] for row in rows if row[1] in _OPEN]
    sql = f"SELECT id FROM execution WHERE id IN ({marks(still_open)}) AND started_by = 0"
    return found.union(key for (key,) in connection.execute(sql, still_open))


def outline(runs: list[Run]) -> Newest:
    """Rates and percentiles are over runs that started and finished, as in `job_stats`."""
    finished = [run for run in runs if run.status not in _OPEN]
    ran = [run for run in finished[:RATED] if run.is_started]
    durations = sorted(run.duration_ms for run in ran if run.duration_ms is not None)
    rates = Rates(
        sum(run.status == _SUCCESS for run in ran) / len(ran) if ran else None,
        durations[rank_of(len(durations), 50)] if durations else None,
        durations[rank_of(len(durations), 95)] if durations else None,
    )
    return Newest(tuple(runs[:RECENT]), rates)


def count_failures(connection: sqlite3.Connection, counters: Counters) -> int:
    """Failures and time-outs of a job since its last success."""
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
    # The limit keeps a job that has failed for years from being counted through on each page.
    if count < COUNTED:
        return count
    # Those that began with the success, at the very same moment, are few.
    same = f"{sql.partition('LIMIT')[0]} AND effective_us = ?) AS failures"
    at_once: int = connection.execute(same, (*names, us, us, execution_id, us)).fetchone()[0]
    return at_once + count_between(connection, Part(counters, _FAILED), us + 1, None)
