"""The access path for orders that move with time (id, created_at, completed_at), at any depth, with any filter.

Such a key is not in the order of the starts, but nearly: the executions of a period reach a short stretch
of its order, whose bounds the file keeps. Periods whose stretch lies before the page are passed over by
their counts; only those that can reach the page are read, sorted and cut. First by days, then by the hours of
the few days that remain.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from jobstore.engine.counters import FARTHEST_US, HOURS_A_DAY, day_begins_us
from jobstore.engine.gathering import is_known, part_gathered
from jobstore.engine.window import count_selected, day_totals, hour_total
from jobstore.storage.schema import DAY_US, HOUR_US, SPAN_DAY, SPAN_HOUR

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from jobstore.engine.request import Request
    from jobstore.engine.selection import Part

MOST_READ = 100_000
"""Index entries of the hours that can reach the page; where the key is not in step with time there are more."""

ZONED = {"id": "id", "created_us": "created", "completed_us": "completed"}
"""Columns of executions, and what their bounds are called."""


class Period(NamedTuple):
    """A day or an hour: how many selected executions start in it, and which stretch of the order they can reach.

    The bounds count from the beginning of the order: descending, they are negated.
    """

    first: int
    last: int
    runs: int
    begins_us: int
    ends_us: int


def page_ids_zoned(connection: sqlite3.Connection, column: str, request: Request) -> list[int] | None:
    """The page in the order of a key that every selected execution has; None: too many hours can reach it."""
    days, offset = _within_reach(_days(connection, column, request), request.offset, request.take)
    hours, offset = _within_reach(_hours(connection, column, request, days), offset, request.take)
    if _entries(connection, request, hours) > MOST_READ:
        return None
    rows = sorted(_read(connection, column, request, hours), reverse=request.descending)
    return [row_id for _, row_id in rows[offset : offset + request.take]]


def key_bounds(connection: sqlite3.Connection, column: str, request: Request) -> tuple[int, int]:
    """Values between which every selected execution has its key; on the side where the order begins, to the hour."""
    ascending = replace(request, descending=False)
    days = _days(connection, column, ascending)
    low, high = min((day.first for day in days), default=0), max((day.last for day in days), default=0)
    if request.descending:
        return low, _farthest_last(connection, column, ascending, days)
    return _nearest_first(connection, column, ascending, days), high


def _nearest_first(connection: sqlite3.Connection, column: str, request: Request, days: list[Period]) -> int:
    """The lowest bound of any hour; only days whose own bound is lower than what is found are opened."""
    found: int | None = None
    for day in sorted(days, key=_by_first):
        if found is not None and day.first >= found:
            break
        hours = _hours(connection, column, request, [day])
        found = (
            min((hour.first for hour in hours), default=day.first)
            if found is None
            else min([found, *(hour.first for hour in hours)])
        )
    return found or 0


def _farthest_last(connection: sqlite3.Connection, column: str, request: Request, days: list[Period]) -> int:
    """The highest bound of any hour, likewise."""
    found: int | None = None
    for day in sorted(days, key=_by_last, reverse=True):
        if found is not None and day.last <= found:
            break
        hours = _hours(connection, column, request, [day])
        found = (
            max((hour.last for hour in hours), default=day.last)
            if found is None
            else max([found, *(hour.last for hour in hours)])
        )
    return found or 0


def _within_reach(periods: list[Period], offset: int, take: int) -> tuple[list[Period], int]:
    """The periods that can hold a row of the page, and the page's offset among their rows alone."""
    passed, top = 0, None
    for period in sorted(periods, key=_by_first):
        top = period.first
        passed += period.runs
        if passed > offset:
            break
    needed, bottom = 0, None
    for period in sorted(periods, key=_by_last):
        bottom = period.last
        needed += period.runs
        if needed >= offset + take:
            break
    if top is None or bottom is None:
        return [], offset
    before = sum(period.runs for period in periods if period.last < top)
    return [period for period in periods if period.last >= top and period.first <= bottom], offset - before


def _by_first(period: Period) -> int:
    return period.first


def _by_last(period: Period) -> int:
    return period.last


def _days(connection: sqlite3.Connection, column: str, request: Request) -> list[Period]:
    return list(_periods(connection, request, _counted_days(connection, request), SPAN_DAY, column))


def _counted_days(connection: sqlite3.Connection, request: Request) -> dict[int, int]:
    """Selected executions by day, for the days that the window touches."""
    after_us = -FARTHEST_US if request.after_us is None else request.after_us
    before_us = FARTHEST_US if request.before_us is None else request.before_us
    return {
        day: total
        for day, total in day_totals(connection, request.selection).items()
        if day_begins_us(day) <= before_us and after_us < day_begins_us(day + 1)
    }


def _hours(connection: sqlite3.Connection, column: str, request: Request, days: list[Period]) -> list[Period]:
    found: list[Period] = []
    for day in days:
        first = (day.begins_us - day_begins_us(0)) // HOUR_US
        counted = {hour: hour_total(connection, request.selection, hour) for hour in range(first, first + HOURS_A_DAY)}
        found += _periods(connection, request, counted, SPAN_HOUR, column)
    return found


def _periods(
    connection: sqlite3.Connection, request: Request, counted: dict[int, int], span: int, column: str
) -> Iterator[Period]:
    """The periods that hold anything of the request; those that the window cuts are counted at its edge."""
    zones = _zones(connection, column, span, min(counted, default=0), max(counted, default=0))
    length_us = DAY_US if span == SPAN_DAY else HOUR_US
    for period, total in counted.items():
        begins_us = day_begins_us(0) + period * length_us
        runs = _runs(connection, request, total, begins_us, begins_us + length_us) if total else 0
        if runs:
            least, most = zones[period]
            first, last = (-most, -least) if request.descending else (least, most)
            yield Period(first, last, runs, begins_us, begins_us + length_us)


def _runs(connection: sqlite3.Connection, request: Request, total: int, begins_us: int, ends_us: int) -> int:
    """Selected executions of a period that lie in the window."""
    after_us = begins_us if request.after_us is None else max(begins_us, request.after_us)
    before_us = ends_us - 1 if request.before_us is None else min(ends_us - 1, request.before_us)
    if after_us > before_us:
        return 0
    if (after_us, before_us) == (begins_us, ends_us - 1):
        return total
    return count_selected(connection, request.selection, after_us, before_us)


def _zones(connection: sqlite3.Connection, column: str, span: int, low: int, high: int) -> dict[int, tuple[int, int]]:
    name = ZONED[column]
    rows = connection.execute(
        f"""
        SELECT period, min({name}_low), max({name}_high) FROM period_tally WHERE span = ? AND period BETWEEN ? AND ?
        GROUP BY period
        """,
        (span, low, high),
    )
    return {period: (least, most) for period, least, most in rows}


def _entries(connection: sqlite3.Connection, request: Request, hours: list[Period]) -> int:
    """How many index entries of these hours will be read."""
    if all(map(is_known, request.selection.parts)):
        return sum([hour.runs for hour in hours])
    sql = "SELECT coalesce(sum(runs), 0) FROM period_tally WHERE span = ? AND period = ?"
    numbers = [(hour.begins_us - day_begins_us(0)) // HOUR_US for hour in hours]
    return sum([connection.execute(sql, (SPAN_HOUR, number)).fetchone()[0] for number in numbers])


def _read(
    connection: sqlite3.Connection, column: str, request: Request, hours: list[Period]
) -> Iterator[tuple[int, int]]:
    """Key and id of every selected execution that starts in these hours, a row for each."""
    for hour in hours:
        low_us = hour.begins_us if request.after_us is None else max(hour.begins_us, request.after_us)
        high_us = hour.ends_us - 1 if request.before_us is None else min(hour.ends_us - 1, request.before_us)
        within = replace(request, after_us=low_us, before_us=high_us)
        for part in request.selection.parts:
            read = part_gathered if is_known(part) else _part_filtered
            yield from read(connection, column, part, within)


def _part_filtered(
    connection: sqlite3.Connection, column: str, part: Part, request: Request
) -> Iterator[tuple[int, int]]:
    """The same of many names: a covering walk over all executions of the hour."""
    condition, values = part.condition()
    sql = f"""
    SELECT {column}, id FROM execution INDEXED BY execution_started
    WHERE effective_us >= ? AND effective_us <= ? AND {condition}
    """
    yield from connection.execute(sql, (request.after_us, request.before_us, *values))
