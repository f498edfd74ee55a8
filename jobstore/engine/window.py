"""Exact counts over the effective start: whole days and hours from counters, the edges from an index.

Both bounds of a window are inclusive (the job API's ``after`` and ``before``).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from jobstore.engine import costs
from jobstore.engine.counters import FARTHEST_US, HOURS_A_DAY, hour_begins_us, hour_of
from jobstore.storage.schema import HOUR_US
from jobstore.storage.soundness import Inconsistent

if TYPE_CHECKING:
    import sqlite3

    from jobstore.engine.selection import Part, Selection

# Counts before an instant that are kept: pages of one window need the same two edges again and again.
EDGES_REMEMBERED = 4_096


def count_between(connection: sqlite3.Connection, part: Part, after_us: int | None, before_us: int | None) -> int:
    """Executions of a part with ``after_us <= effective start <= before_us``; at most an hour of an index is read."""
    below = 0 if after_us is None else count_before(connection, part, after_us)
    # One microsecond later, because `before_us` is inclusive.
    return (part.total if before_us is None else count_before(connection, part, before_us + 1)) - below


def count_selected(
    connection: sqlite3.Connection, selection: Selection, after_us: int | None, before_us: int | None
) -> int:
    """The number of selected executions inside a window."""
    if after_us is None and before_us is None:
        return selection.total
    return sum([count_between(connection, part, after_us, before_us) for part in selection.parts])


def is_small(part: Part) -> bool:
    """Whether a part has few names and few executions, so that its index counts them faster than counters do."""
    return part.names is not None and len(part.names) <= costs.FEW_RANGES and part.total <= costs.FEW


def count_before(connection: sqlite3.Connection, part: Part, us: int) -> int:
    """Executions of a part that start before an instant: two look-ups, and at most half an hour of an index."""
    if is_small(part):
        return _count_few(connection, part, None, us)
    edges, key = part.counters.edges, (part.statuses, us)
    if key not in edges:
        if len(edges) >= EDGES_REMEMBERED:
            edges.clear()
        hour = hour_of(us)
        counted = part.counters.before_hour(connection, part.statuses, hour)
        edges[key] = counted if us == hour_begins_us(hour) else counted + _count_in_hour(connection, part, hour, us)
    return edges[key]


def _count_in_hour(connection: sqlite3.Connection, part: Part, hour: int, us: int) -> int:
    """Executions of a part from the start of an hour to just before an instant in it, counted on the shorter side.

    For example, up to 09:50: count 09:50 to 10:00 in an index, and subtract that from the hour's counter.
    """
    begins_us = hour_begins_us(hour)
    counts = part.counters.hours(connection, hour // HOURS_A_DAY).get(hour)
    whole = sum([counts[status] for status in part.statuses]) if counts else 0
    # A job that runs once a day has mostly empty hours: no statement for them.
    if not whole:
        return 0
    if us - begins_us <= HOUR_US // 2:
        return count_range(connection, part, begins_us, us)
    return whole - count_range(connection, part, us, begins_us + HOUR_US)


def count_range(connection: sqlite3.Connection, part: Part, begins_us: int, ends_us: int) -> int:
    """Executions of a part with ``begins_us <= effective start < ends_us``, by walking an index over that range."""
    if part.names is not None and len(part.names) <= costs.FEW_RANGES:
        return _count_few(connection, part, begins_us, ends_us)
    condition, values = part.condition()
    sql = f"""
    SELECT count(*) FROM execution INDEXED BY execution_started
    WHERE effective_us >= ? AND effective_us < ? AND {condition}
    """
    return _one_number(connection, sql, (begins_us, ends_us, *values))


def _count_few(connection: sqlite3.Connection, part: Part, begins_us: int | None, ends_us: int) -> int:
    names = part.names or ()
    sql = f"""
    SELECT count(*) FROM execution INDEXED BY execution_name_started
    WHERE name_id IN ({",".join("?" * len(names)) or "NULL"}) AND status IN ({",".join(map(str, part.statuses))})
    AND effective_us < ? {"" if begins_us is None else "AND effective_us >= ?"}
    """
    return _one_number(connection, sql, (*names, ends_us) if begins_us is None else (*names, ends_us, begins_us))


def _one_number(connection: sqlite3.Connection, sql: str, values: tuple[int | bytes, ...]) -> int:
    number: int = connection.execute(sql, values).fetchone()[0]
    return number


def find_hour(connection: sqlite3.Connection, selection: Selection, position: int) -> tuple[int, int]:
    """The hour in which the execution at a position (from 0, oldest first) of a selection starts.

    Returns:
        The hour, and the number of selected executions that start before it. Costs a binary search in the
        counters by day and by hour; for two parts, it reads the counters of all days and of one day.
    """
    hour = _find_hour(connection, selection, position)
    return hour, _before_hour(connection, selection, hour)


def extreme_start(
    connection: sqlite3.Connection, selection: Selection, function: str, position: int, before_us: int = FARTHEST_US
) -> int:
    """The first (min) or last (max) start, up to `before_us`, in the hour of the execution at a position."""
    # Counters give the hour, so only its entries are read, however rare the selection is among all starts.
    hour, _ = find_hour(connection, selection, position)
    condition, values = selection.condition()
    sql = f"""
    SELECT {function}(effective_us) FROM execution INDEXED BY execution_started
    WHERE effective_us BETWEEN ? AND ? AND {condition}
    """
    last_us = min(before_us, hour_begins_us(hour + 1) - 1)
    (found,) = connection.execute(sql, (hour_begins_us(hour), last_us, *values)).fetchone()
    if found is None:
        raise Inconsistent(f"the counters say that executions start in hour {hour}, and there are none")
    us: int = found
    return us


def _find_hour(connection: sqlite3.Connection, selection: Selection, position: int) -> int:
    parts = selection.parts
    if len(parts) == 1:
        return parts[0].counters.hour_at(connection, parts[0].statuses, position)
    # Two parts have no common cumulative counts, so each step of the binary search adds up both.
    days = [day for part in parts for day in part.counters.days(connection)]
    day = _last_not_beyond(connection, selection, position, range(min(days), max(days) + 1), HOURS_A_DAY)
    return _last_not_beyond(connection, selection, position, range(day * HOURS_A_DAY, (day + 1) * HOURS_A_DAY), 1)


def _last_not_beyond(
    connection: sqlite3.Connection, selection: Selection, position: int, periods: range, hours: int
) -> int:
    """The last of the periods (each `hours` long) before which at most `position` executions start."""
    return (
        bisect_right(periods, position, key=lambda period: _before_hour(connection, selection, period * hours))
        - 1
        + periods[0]
    )


def _before_hour(connection: sqlite3.Connection, selection: Selection, hour: int) -> int:
    return sum([part.counters.before_hour(connection, part.statuses, hour) for part in selection.parts])


def hour_total(connection: sqlite3.Connection, selection: Selection, hour: int) -> int:
    """The number of selected executions that start in an hour; touches no row."""
    total = 0
    for part in selection.parts:
        counts = part.counters.hours(connection, hour // HOURS_A_DAY).get(hour)
        if counts:
            total += sum([counts[status] for status in part.statuses])
    return total


def day_totals(connection: sqlite3.Connection, selection: Selection) -> dict[int, int]:
    """The number of selected executions by day of their start, for days that have any; touches no row."""
    totals: dict[int, int] = {}
    for part in selection.parts:
        for day, counts in part.counters.days(connection).items():
            count = sum([counts[status] for status in part.statuses])
            if count:
                totals[day] = totals.get(day, 0) + count
    return totals
