"""Access paths in the default order, by effective start and then id.

Each path returns keys ``id`` in order, from a boundary on, after skipping some. Which one runs is chosen in
`page_ids` from exact counts; every path costs a number of index entries that does not depend on how long
the history is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from jobstore.engine.counters import FARTHEST_US, HOURS_A_DAY, hour_begins_us, hour_of
from jobstore.engine.selection import ALL_STATUSES
from jobstore.engine.window import count_before, day_totals, find_hour, hour_total
from jobstore.storage.rows import KeyQuery
from jobstore.storage.schema import HOUR_US

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from jobstore.engine.selection import Part, Selection

SKIPPED_FREELY = 256
"""A smaller offset is walked; a larger one is found by counters."""
ARMS_MERGED = 24
"""So many index ranges are merged inside one statement."""
ARM_COST = 20
"""Reading a range of its own costs as much as so many entries of a walk."""
PATIENCE = 4
"""A walk may take so many times the entries that an even spread would need, then it hops."""
LEAST_BUDGET = 2_000


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of the order: from a boundary on, leave out `skip`, take `take`."""

    descending: bool
    bound_us: int
    """Descending: effective starts before it; ascending: from it on."""
    skip: int
    take: int

    @property
    def comparison(self) -> str:
        """What an effective start must be to the bound."""
        return "<" if self.descending else ">="

    @property
    def direction(self) -> str:
        """The order in SQL."""
        return "DESC" if self.descending else "ASC"


def page_ids(
    connection: sqlite3.Connection,
    selection: Selection,
    everything: int,
    *,
    after_us: int | None,
    before_us: int | None,
    descending: bool,
    offset: int,
    take: int,
) -> list[int] | KeyQuery:
    """The ids at ``offset`` to ``offset + take`` of a selection within a window; the caller knows they exist.

    `everything` is the number of all executions, by which the density of the selection is known.
    """
    bound = before_us + 1 if descending and before_us is not None else None if descending else after_us
    if bound is None:
        bound = FARTHEST_US if descending else -FARTHEST_US
    asked = wanted = Slice(descending, bound, offset, take)
    if offset > SKIPPED_FREELY:
        wanted = _found_by_counters(connection, selection, asked, descending=descending)
    arms = _arm_count(selection)
    if arms <= ARMS_MERGED:
        return walk_merged(_arms(selection), wanted)
    if offset > SKIPPED_FREELY:
        turned = _found_by_counters(connection, selection, asked, descending=not descending)
        if turned.skip < wanted.skip:
            found = _walk(connection, selection, everything, turned, arms)
            return found._replace(is_turned=True) if isinstance(found, KeyQuery) else found[::-1]
    return _walk(connection, selection, everything, wanted, arms)


def _walk(
    connection: sqlite3.Connection, selection: Selection, everything: int, wanted: Slice, arms: int
) -> list[int] | KeyQuery:
    """Chooses among the paths of a selection of many ranges."""
    end = wanted.skip + wanted.take
    entries = end * everything // selection.total
    if arms * (ARM_COST + min(end, selection.total // arms)) < entries:
        return walk_arms(connection, _arms(selection), wanted)
    if _lies_in_hour(connection, selection, wanted):
        return walk_hour(selection, wanted)
    found = walk_filtered(connection, selection, wanted, max(LEAST_BUDGET, PATIENCE * entries))
    return hop_hours(connection, selection, wanted) if found is None else found


def _found_by_counters(
    connection: sqlite3.Connection, selection: Selection, wanted: Slice, *, descending: bool
) -> Slice:
    """The same stretch in either direction, from the edge of the hour in which it then begins."""
    beyond = 0 if abs(wanted.bound_us) == FARTHEST_US else _before(connection, selection, wanted.bound_us)
    if wanted.descending:
        last = (beyond or selection.total) - 1 - wanted.skip
        first = last - wanted.take + 1
    else:
        first = beyond + wanted.skip
        last = first + wanted.take - 1
    if not descending:
        hour, before = find_hour(connection, selection, first)
        return Slice(False, hour_begins_us(hour), first - before, wanted.take)
    hour, before = find_hour(connection, selection, last)
    skip = before + hour_total(connection, selection, hour) - 1 - last
    return Slice(True, hour_begins_us(hour) + HOUR_US, skip, wanted.take)


def _before(connection: sqlite3.Connection, selection: Selection, us: int) -> int:
    return sum([count_before(connection, part, us) for part in selection.parts])


Arm = tuple[int | None, int | None]
"""An index range: a name and a status; a null name is every name, a null status every status."""


def _arm_count(selection: Selection) -> int:
    """How many index ranges tell a selection apart."""
    return sum(
        [
            1 if part.names is None and part.statuses == ALL_STATUSES else len(part.names or (0,)) * len(_present(part))
            for part in selection.parts
        ]
    )


def _present(part: Part) -> list[int]:
    """The statuses that any execution of a part has."""
    counts = part.counters.counts
    return [status for status in part.statuses if counts[status]]


def _arms(selection: Selection) -> list[Arm]:
    """The index ranges whose union is the selection."""
    arms: list[Arm] = []
    for part in selection.parts:
        if part.names is None and part.statuses == ALL_STATUSES:
            arms.append((None, None))
        elif part.names is None:
            arms += [(None, status) for status in _present(part)]
        else:
            present = _present(part)
            arms += [(name_id, status) for name_id in sorted(part.names) for status in present]
    return arms


def _arm_sql(arm: Arm, comparison: str) -> str:
    """One index range in order, by the index that has it."""
    name_id, status = arm
    if name_id is not None:
        index, equal = "execution_name_started", "name_id = ? AND status = ? AND "
    elif status is not None:
        # the status stands literally in the statement: there are five
        index, equal = "execution_status_started", f"status = {status} AND "
    else:
        index, equal = "execution_started", ""
    return f"""
    SELECT effective_us, id FROM execution INDEXED BY {index}
    WHERE {equal}effective_us {comparison} ?"""


def _arm_values(arm: Arm, wanted: Slice) -> tuple[int, ...]:
    name_id, status = arm
    if name_id is None or status is None:
        return (wanted.bound_us,)
    return (name_id, status, wanted.bound_us)


def walk_merged(arms: list[Arm], wanted: Slice) -> KeyQuery:
    """Few index ranges, merged by SQLite: one entry for each row skipped or taken, one more for each range."""
    values = [value for arm in arms for value in _arm_values(arm, wanted)]
    values += (wanted.take, wanted.skip)
    shape = tuple([arm if arm[0] is None else _NAMED for arm in arms])
    return KeyQuery(_merged_sql(shape, wanted.comparison, wanted.direction), values)


_NAMED: Arm = (0, 0)
"""Stands for every range of a name: their statements are the same."""


@lru_cache(maxsize=256)
def _merged_sql(arms: tuple[Arm, ...], comparison: str, direction: str) -> str:
    """Made once for each shape: the same text again is also found sooner among the prepared statements."""
    sql = " UNION ALL ".join([_arm_sql(arm, comparison) for arm in arms])
    return f"{sql} ORDER BY effective_us {direction}, id {direction} LIMIT ? OFFSET ?"


def walk_arms(connection: sqlite3.Connection, arms: list[Arm], wanted: Slice) -> list[int]:
    """Many short index ranges, read one by one: for each at most as many entries as are skipped and taken."""
    most = wanted.skip + wanted.take
    order = f"ORDER BY effective_us {wanted.direction}, id {wanted.direction} LIMIT {most}"
    ranges = [
        connection.execute(f"{_arm_sql(arm, wanted.comparison)} {order}", _arm_values(arm, wanted)).fetchall()
        for arm in arms
    ]
    merged = merge(*ranges, reverse=wanted.descending)
    return [row_id for _, row_id in islice(merged, wanted.skip, most)]


def walk_filtered(connection: sqlite3.Connection, selection: Selection, wanted: Slice, budget: int) -> list[int] | None:
    """All executions in order, those not selected left out: (skip + take) / density entries of a covering index.

    Returns:
        None when the budget of entries is spent first: the selection is rare just here.
    """
    condition, values = selection.condition()
    sql = f"""
    SELECT id FROM (
        SELECT id, name_id, status FROM execution INDEXED BY execution_started
        WHERE effective_us {wanted.comparison} ?
        ORDER BY effective_us {wanted.direction}, id {wanted.direction} LIMIT ?
    ) WHERE {condition} LIMIT ? OFFSET ?
    """
    rows = connection.execute(sql, (wanted.bound_us, budget, *values, wanted.take, wanted.skip))
    ids = [row_id for (row_id,) in rows]
    return ids if len(ids) == wanted.take else None


def _lies_in_hour(connection: sqlite3.Connection, selection: Selection, wanted: Slice) -> bool:
    """Whether a stretch begins at the edge of an hour and ends in it; no row is touched."""
    if abs(wanted.bound_us) == FARTHEST_US or wanted.bound_us != hour_begins_us(hour_of(wanted.bound_us)):
        return False
    hour = hour_of(wanted.bound_us) - wanted.descending
    return wanted.skip + wanted.take <= hour_total(connection, selection, hour)


def walk_hour(selection: Selection, wanted: Slice) -> KeyQuery:
    """All executions of an hour that holds the stretch, as `walk_filtered`, but with no budget to count."""
    low, high = sorted([wanted.bound_us, wanted.bound_us + (-HOUR_US if wanted.descending else HOUR_US)])
    condition, values = selection.condition()
    sql = f"{_hour_sql(condition, wanted.direction)} LIMIT ? OFFSET ?"
    return KeyQuery(sql, (low, high, *values, wanted.take, wanted.skip))


def hop_hours(connection: sqlite3.Connection, selection: Selection, wanted: Slice) -> list[int]:
    """Only those hours that hold selected executions, each walked whole: for selections that are rare in places."""
    found: list[int] = []
    skip, take = wanted.skip, wanted.take
    for hour in _hours_in_order(connection, selection, wanted):
        begins_us, ends_us = hour_begins_us(hour), hour_begins_us(hour) + HOUR_US
        low, high = (
            (begins_us, min(ends_us, wanted.bound_us))
            if wanted.descending
            else (max(begins_us, wanted.bound_us), ends_us)
        )
        if (low, high) == (begins_us, ends_us):
            within = hour_total(connection, selection, hour)
            if within <= skip:
                skip -= within
                continue
        ids = _hour_ids(connection, selection, low, high, wanted)
        found += ids[skip : skip + take - len(found)]
        skip = max(0, skip - len(ids))
        if len(found) >= take:
            break
    return found


def _hours_in_order(connection: sqlite3.Connection, selection: Selection, wanted: Slice) -> Iterator[int]:
    bound_hour = None if abs(wanted.bound_us) >= FARTHEST_US else hour_of(wanted.bound_us - wanted.descending)
    for day in sorted(day_totals(connection, selection), reverse=wanted.descending):
        hours = range(day * HOURS_A_DAY, (day + 1) * HOURS_A_DAY)
        for hour in reversed(hours) if wanted.descending else hours:
            beyond = bound_hour is not None and (hour > bound_hour if wanted.descending else hour < bound_hour)
            if not beyond and hour_total(connection, selection, hour):
                yield hour


def _hour_ids(
    connection: sqlite3.Connection, selection: Selection, low_us: int, high_us: int, wanted: Slice
) -> list[int]:
    condition, values = selection.condition()
    rows = connection.execute(_hour_sql(condition, wanted.direction), (low_us, high_us, *values))
    return [row_id for (row_id,) in rows]


def _hour_sql(condition: str, direction: str) -> str:
    return f"""
    SELECT id FROM execution INDEXED BY execution_started
    WHERE effective_us >= ? AND effective_us < ? AND {condition}
    ORDER BY effective_us {direction}, id {direction}"""
