"""What the executions of a job say of its state: the ends of a few index ranges, and the newest of them.

A job has a range of ``execution_name_started`` for each name and status; whatever its history holds, its state
depends on the first or last entry of each.
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
"""Where an execution stands in the default order: its effective start and its id."""


NO_OUTCOME = Outcome(None, None)


def fetch_open(connection: sqlite3.Connection, numbers: list[int] | None) -> dict[int, dict[int, int]]:
    """Of RUNNING and of PENDING: the oldest execution's effective start, of some jobs (at most 500) or of all."""
    oldest: dict[int, dict[int, int]] = {RUNNING: {}, PENDING: {}}
    more = "" if numbers is None else f"AND job_number IN ({marks(numbers)})"
    for number, status, us in connection.execute(f"{_OLDEST} {more}", numbers or ()):
        # A job may have several names; a server counts a change first, so nothing may be there.
        if us is not None:
            oldest[status][number] = min(us, oldest[status].get(number, us))
    return oldest


def fetch_outcomes(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, Outcome]:
    """How the executions of some jobs ended; four or five index entries a name."""
    ends: dict[int, list[_Ends]] = {number: [] for number in numbers}
    for some in in_chunks(numbers):
        for number, *row in connection.execute(_ENDS.format(numbers=marks(some)), some):
            ends[number].append(_Ends._make(row))
    return {number: _outcome(connection, names) for number, names in ends.items()}


class _Ends(NamedTuple):
    """The ends of one name's ranges; the streak is right where it is the job's only name."""

    name_id: int
    success_us: int | None
    failure_us: int | None
    streak_us: int | None


def _end(status: int | str, direction: str, of: str = "names", after: str = "") -> str:
    """The first or last effective start of a name with a status, in SQL."""
    # coalesce: without an execution of the other outcome, the streak begins with the first of all.
    bound = f"AND effective_us >= coalesce({after}, {_BEFORE_ALL})" if after else ""
    return f"""(SELECT effective_us FROM execution INDEXED BY execution_name_started
        WHERE name_id = {of}.name_id AND status = {status} {bound} ORDER BY effective_us {direction} LIMIT 1)"""


# Counters tell which names have an open execution: few, as a rule, so no index entry of the others is read.
_OLDEST = f"""
SELECT job_number, status, {_end("t.status", "ASC", "t")} FROM name_tally AS t JOIN job_name AS n USING (name_id)
WHERE status IN ({RUNNING}, {PENDING}) AND runs > 0
"""


def _extreme(comparison: str, one: str, other: str) -> str:
    """The larger (``>``) or smaller (``<``) of two values that may be null, in SQL."""
    return f"CASE WHEN {other} IS NULL OR {one} {comparison} {other} THEN {one} ELSE {other} END"


# MATERIALIZED: otherwise each column would be looked up again wherever it is mentioned.
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
    # By far the most jobs have one name: their outcome is complete without a further statement.
    if len(names) == 1:
        _, success_us, failure_us, streak_us = names[0]
        if success_us is None or failure_us is None:
            return Outcome(None if streak_us is None else success_us is None, streak_us)
        if success_us != failure_us and streak_us != min(success_us, failure_us):
            return Outcome(failure_us > success_us, streak_us)
    # With several names the ends of each say nothing of the streak over all of them. A success and a failure at the
    # very same moment, at the end or where the streak begins, are told apart by their ids, which no end tells.
    return _exact_outcome(connection, [ends.name_id for ends in names])


def _least(moments: Iterable[int | None]) -> int | None:
    return min((us for us in moments if us is not None), default=None)


def _exact_outcome(connection: sqlite3.Connection, names: list[int]) -> Outcome:
    """The last outcome and the start of its streak, for a job with several names or with a tie at the end."""
    succeeded, failed = _last(connection, names, (_SUCCESS,)), _last(connection, names, _FAILED)
    if succeeded is None and failed is None:
        return NO_OUTCOME
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
    return Outcome(is_failing, _least(firsts))


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
    """A job's newest executions, newest first, whether the last finished one failed, and its rates."""

    runs: tuple[Run, ...]
    is_failing: bool
    rates: Rates


def fetch_newest(connection: sqlite3.Connection, numbers: Collection[int]) -> dict[int, Newest]:
    """The newest executions of some jobs: some 300 index entries each, and the rows of those that are open."""
    found: dict[int, Newest] = {}
    for some in in_chunks(numbers):
        # All names in one statement; the executions then need one for each name, since each has its own ranges.
        names = fetch_names(connection, some)
        for number in some:
            found[number] = _newest(connection, names.get(number, []))
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
    """Of the rows of all names of a job those that count, newest first: the newest, and the newest finished."""
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


def outline(kept: list[Any], unstarted: Container[int]) -> Newest:
    """Rates and percentiles are over runs that started and finished, as in `job_stats`."""
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
    """Failures and timeouts of a job since its last success."""
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
