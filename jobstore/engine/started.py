"""Pages in the default order, by effective start and then id.

The counters by day and hour say in which hour an offset lies, so no page skips more than one hour of its selection. Its
cost does not depend on the length of the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING

from jobstore.engine import costs
from jobstore.engine.counters import FARTHEST_US, HOURS_A_DAY, hour_begins_us, hour_of
from jobstore.engine.orders import page_ids_sorted
from jobstore.engine.selection import ALL_STATUSES
from jobstore.engine.window import count_before, day_totals, find_hour, hour_total
from jobstore.storage.rows import KeyQuery, status_source
from jobstore.storage.schema import HOUR_US

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from jobstore.engine.memory import Memory
    from jobstore.engine.selection import Selection, Wanted

# The most index ranges of a statement on a server, which plans each again.
FEW_RANGES_THERE = 6
# Up to this number of executions in many ranges, a server sorts them all: a walk would filter all of their hours.
FEW_THERE = 5_000
# Index entries that a scan may read before it gives up: one or two milliseconds.
MOST_ENTRIES = 25_000


@dataclass(frozen=True, slots=True)
class Slice:
    """A range of rows in the default order: from a bound on, skip `skip` rows and take `take`."""

    descending: bool
    bound_us: int
    """Descending: only effective starts before it. Ascending: only those at or after it."""
    skip: int
    take: int

    @property
    def comparison(self) -> str:
        """The SQL operator between an effective start and the bound."""
        return "<" if self.descending else ">="

    @property
    def order(self) -> str:
        """The ORDER BY terms in SQL."""
        direction = "DESC" if self.descending else "ASC"
        return f"effective_us {direction}, id {direction}"


def page_ids_by_start(connection: sqlite3.Connection, memory: Memory, wanted: Wanted) -> list[int] | KeyQuery:
    """The ids at ``offset`` to ``offset + take`` of a selection inside a window, in the default order."""
    bound = wanted.window[1] + 1 if wanted.descending else wanted.window[0]
    near = Slice(wanted.descending, bound, wanted.offset, wanted.take)
    ranges = _ranges(wanted.selection, costs.FEW_RANGES if memory.merges else FEW_RANGES_THERE)
    walk = partial(walk_hours, connection, wanted.selection, at_once=not memory.merges)
    if ranges is not None:
        # A merge reads each row that it skips, so a large offset first jumps to its hour.
        if wanted.offset > costs.FEW:
            near = _found_by_counters(connection, wanted, near, descending=wanted.descending)
        return merge_ranges(ranges, near, is_merged=memory.merges)
    if not memory.merges and wanted.total <= FEW_THERE:
        return page_ids_sorted(connection, memory, "started_at", wanted)
    if wanted.offset <= costs.FEW:
        model = costs.COSTS
        # Density over all time, not over the window: the scan begins at the edge of the window.
        entries = wanted.end * wanted.everything / wanted.selection.total
        if wanted.total * model.fetched + _range_count(wanted.selection) * model.opened < entries * model.filtered:
            return page_ids_sorted(connection, memory, "started_at", wanted)
        # Tried first even where matches may be rare: it needs no counters, and its budget limits the loss.
        found = scan_starts(connection, wanted, near, MOST_ENTRIES)
        return walk(near) if found is None else found
    # Locate the page from both ends, and use the one that leaves fewer rows of an hour to skip.
    ends = [_found_by_counters(connection, wanted, near, descending=descending) for descending in (True, False)]
    nearer = min(ends, key=lambda end: end.skip)
    ids = walk(nearer)
    return ids if nearer.descending == wanted.descending else ids[::-1]


def _found_by_counters(connection: sqlite3.Connection, wanted: Wanted, near: Slice, *, descending: bool) -> Slice:
    """The same rows in the given direction, starting at the edge of the hour that contains the first of them.

    For example, offset 1,000 from the oldest, where 980 executions start before 14:00 and 50 in that hour: ascending,
    start at 14:00 and skip 20. Descending, for a page of 10, start before 15:00 and skip 20 as well.
    """
    selection = wanted.selection
    # Positions count from the oldest execution, so convert the bound into the number of executions before it.
    beyond = 0
    if abs(near.bound_us) < FARTHEST_US:
        beyond = sum([count_before(connection, part, near.bound_us) for part in selection.parts])
    if near.descending:
        last = (beyond or selection.total) - 1 - near.skip
        first = last - near.take + 1
    else:
        first = beyond + near.skip
        last = first + near.take - 1
    if not descending:
        hour, before = find_hour(connection, selection, first)
        return Slice(False, hour_begins_us(hour), first - before, near.take)
    hour, before = find_hour(connection, selection, last)
    skip = before + hour_total(connection, selection, hour) - 1 - last
    return Slice(True, hour_begins_us(hour) + HOUR_US, skip, near.take)


# --- few index ranges, merged

Range = tuple[int | None, int | None]
"""An index range: a name (None for every name) and a status (None for every status)."""


def _range_count(selection: Selection) -> int:
    return sum([len(part.names or (0,)) * len(part.present) for part in selection.parts])


def _ranges(selection: Selection, most: int) -> list[Range] | None:
    """The index ranges whose union is the selection; None if there are more than `most`."""
    part = selection.parts[0]
    if part.names is None and part.statuses == ALL_STATUSES:
        return [(None, None)]
    found: list[Range] = list(islice(selection.ranges(), most + 1))
    return found if len(found) <= most else None


def merge_ranges(ranges: list[Range], wanted: Slice, *, is_merged: bool) -> KeyQuery:
    """Few index ranges, merged by SQLite: one entry for each row skipped or taken, and one more for each range.

    Unless the database merges them lazily (`is_merged`), each range is read as far as the page can reach.
    """
    most = () if is_merged or len(ranges) == 1 else (wanted.skip + wanted.take,)
    values: list[int] = []
    for name_id, status in ranges:
        values += (wanted.bound_us,) if name_id is None or status is None else (name_id, status, wanted.bound_us)
        values += most
    shape = tuple([one if one[0] is None else _NAMED for one in ranges])
    return KeyQuery(
        _merged_sql(shape, wanted.comparison, wanted.order, bool(most)), [*values, wanted.take, wanted.skip]
    )


# Represents every range of a name: the SQL is the same.
_NAMED: Range = (0, 0)


# Cached: the same text, made again, would cost the page of a job one or two percent.
@lru_cache(maxsize=256)
def _merged_sql(ranges: tuple[Range, ...], comparison: str, order: str, is_cut: bool) -> str:
    arms = [f"{_range_sql(one)}effective_us {comparison} ?" for one in ranges]
    if is_cut:
        arms = [f"SELECT * FROM ({arm} ORDER BY {order} LIMIT ?) AS range" for arm in arms]
    return f"{' UNION ALL '.join(arms)} ORDER BY {order} LIMIT ? OFFSET ?"


def _range_sql(one: Range) -> str:
    """SQL for one index range, up to the comparison of the start."""
    name_id, status = one
    if name_id is not None:
        where = "execution_name_started WHERE name_id = ? AND status = ?"
    else:
        where = "execution_started WHERE TRUE" if status is None else status_source(status)
    return f"SELECT effective_us, id FROM execution INDEXED BY {where} AND "


# --- the index of starts, filtered


def scan_starts(connection: sqlite3.Connection, wanted: Wanted, near: Slice, budget: int) -> list[int] | None:
    """Scan all executions in order and filter: (skip + take) / density entries of a covering index.

    Returns:
        None if the budget of entries runs out first: the selection is rare in this part.
    """
    condition, values = wanted.selection.condition()
    sql = f"""
    SELECT id FROM (
        SELECT id, name_id, status FROM execution INDEXED BY execution_started
        WHERE effective_us {near.comparison} ? ORDER BY {near.order} LIMIT ?
    ) AS entries WHERE {condition} LIMIT ? OFFSET ?
    """
    rows = connection.execute(sql, (near.bound_us, budget, *values, near.take, near.skip))
    ids = [row_id for (row_id,) in rows]
    return ids if len(ids) == near.take else None


# --- hour by hour


def walk_hours(connection: sqlite3.Connection, selection: Selection, near: Slice, *, at_once: bool) -> list[int]:
    """Read only the hours that hold selected executions and filter each; whole hours are skipped by their counts.

    For example, skip 120 and take 50, where the counters give 100, 40 and 300 selected executions in three hours: skip
    the first by its count, skip 20 more in the second and take its other 20, then take 30 of the third. A server reads
    all of them in one statement (`at_once`): there, a statement costs more than the rows it reads.
    """
    bounds, skip = _hours_of(connection, selection, near)
    condition, values = selection.condition()
    if at_once:
        sql = f"""
        SELECT id FROM unnest(?::bigint[], ?::bigint[]) AS hours (begins_us, ends_us) JOIN LATERAL (
            SELECT id, effective_us FROM execution
            WHERE effective_us >= begins_us AND effective_us < ends_us AND {condition} OFFSET 0
        ) AS entries ON TRUE ORDER BY {near.order} LIMIT ? OFFSET ?
        """
        stretches = ([begins for begins, _ in bounds], [ends for _, ends in bounds])
        return [row_id for (row_id,) in connection.execute(sql, (*stretches, *values, near.take, skip))]
    sql = f"""
    SELECT id FROM execution INDEXED BY execution_started
    WHERE effective_us >= ? AND effective_us < ? AND {condition} ORDER BY {near.order} LIMIT ?
    """
    found: list[int] = []
    for stretch in bounds:
        found += [row_id for (row_id,) in connection.execute(sql, (*stretch, *values, skip + near.take - len(found)))]
    return found[skip:]


def _hours_of(connection: sqlite3.Connection, selection: Selection, near: Slice) -> tuple[list[tuple[int, int]], int]:
    """The hours that hold the slice, each from its first instant to the one after it, and how many rows to skip."""
    bounds: list[tuple[int, int]] = []
    skip, missing = near.skip, near.skip + near.take
    for hour in _hours_in_order(connection, selection, near):
        begins_us, ends_us = hour_begins_us(hour), hour_begins_us(hour) + HOUR_US
        # The count of an hour cut by the bound is too high: count it as 0, so that enough hours are read.
        is_cut = begins_us < near.bound_us < ends_us
        within = 0 if is_cut else hour_total(connection, selection, hour)
        missing -= within
        if not bounds and not is_cut and within <= skip:
            skip -= within
            continue
        if is_cut:
            begins_us, ends_us = (begins_us, near.bound_us) if near.descending else (near.bound_us, ends_us)
        bounds.append((begins_us, ends_us))
        if missing <= 0:
            break
    return bounds, skip


def _hours_in_order(connection: sqlite3.Connection, selection: Selection, near: Slice) -> Iterator[int]:
    bound_hour = None if abs(near.bound_us) >= FARTHEST_US else hour_of(near.bound_us - near.descending)
    # Only days and hours with executions: an empty year costs nothing.
    for day in sorted(day_totals(connection, selection), reverse=near.descending):
        hours = range(day * HOURS_A_DAY, (day + 1) * HOURS_A_DAY)
        for hour in reversed(hours) if near.descending else hours:
            is_beyond = bound_hour is not None and (hour > bound_hour if near.descending else hour < bound_hour)
            if not is_beyond and hour_total(connection, selection, hour):
                yield hour
