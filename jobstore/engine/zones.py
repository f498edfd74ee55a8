"""The access path for orders that move with time (id, created_at, completed_at), at any depth, with any filter.

Such a key is not in the order of the starts, but nearly: the executions of a period reach a short stretch
of its order, whose bounds the file keeps. Periods whose stretch lies before the page are passed over by
their counts; only those that can reach the page are read, sorted and cut. First by days, then by the hours of
the few days that remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobstore.engine.counters import HOURS_A_DAY, day_begins_us, hour_begins_us
from jobstore.engine.schema import DAY_US, HOUR_US, SPAN_DAY, SPAN_HOUR
from jobstore.engine.window import count_selected, day_totals, hour_total

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from jobstore.engine.orders import Request

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
    if _entries(connection, hours) > MOST_READ:
        return None
    rows = sorted(_read(connection, column, request, hours), reverse=request.descending)
    return [row_id for _, row_id in rows[offset : offset + request.take]]


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
    totals = day_totals(connection, request.selection)
    counted = ((day, count, day_begins_us(day), day_begins_us(day) + DAY_US) for day, count in totals.items())
    zones = _zones(connection, column, SPAN_DAY, min(totals, default=0), max(totals, default=0))
    return list(_periods(connection, request, counted, zones))


def _hours(connection: sqlite3.Connection, column: str, request: Request, days: list[Period]) -> list[Period]:
    found: list[Period] = []
    for day in days:
        first = (day.begins_us - day_begins_us(0)) // HOUR_US
        hours = range(first, first + HOURS_A_DAY)
        counted = (
            (
                hour,
                hour_total(connection, request.selection, hour),
                hour_begins_us(hour),
                hour_begins_us(hour) + HOUR_US,
            )
            for hour in hours
        )
        zones = _zones(connection, column, SPAN_HOUR, hours[0], hours[-1])
        found += _periods(connection, request, counted, zones)
    return found


def _periods(
    connection: sqlite3.Connection,
    request: Request,
    counted: Iterable[tuple[int, int, int, int]],
    zones: dict[int, tuple[int, int]],
) -> Iterator[Period]:
    """The periods that hold anything of the request; those that the window cuts are counted at its edge."""
    after_us, before_us = request.after_us, request.before_us
    for period, total, begins_us, ends_us in counted:
        count = total
        if not total or (after_us is not None and ends_us <= after_us):
            continue
        if before_us is not None and begins_us > before_us:
            continue
        low = after_us if after_us is not None and after_us > begins_us else None
        high = before_us if before_us is not None and before_us < ends_us - 1 else None
        if low is not None or high is not None:
            count = count_selected(
                connection, request.selection, begins_us if low is None else low, ends_us - 1 if high is None else high
            )
        if count:
            least, most = zones[period]
            first, last = (-most, -least) if request.descending else (least, most)
            yield Period(first, last, count, begins_us, ends_us)


def _zones(connection: sqlite3.Connection, column: str, span: int, low: int, high: int) -> dict[int, tuple[int, int]]:
    name = ZONED[column]
    rows = connection.execute(
        f"SELECT period, {name}_low, {name}_high FROM period_zone WHERE span = ? AND period BETWEEN ? AND ?",
        (span, low, high),
    )
    return {period: (least, most) for period, least, most in rows}


def _entries(connection: sqlite3.Connection, hours: list[Period]) -> int:
    """How many executions of any kind start in these hours."""
    sql = "SELECT coalesce(sum(runs), 0) FROM period_tally WHERE span = ? AND period = ?"
    numbers = [(hour.begins_us - day_begins_us(0)) // HOUR_US for hour in hours]
    return sum([connection.execute(sql, (SPAN_HOUR, number)).fetchone()[0] for number in numbers])


def _read(
    connection: sqlite3.Connection, column: str, request: Request, hours: list[Period]
) -> Iterator[tuple[int, int]]:
    """Key and id of every selected execution that starts in these hours: a covering walk, a row for each selected."""
    condition, values = request.selection.condition()
    sql = f"""
    SELECT {column}, id FROM execution INDEXED BY execution_started
    WHERE effective_us >= ? AND effective_us <= ? AND {condition}
    """
    for hour in hours:
        low_us = hour.begins_us if request.after_us is None else max(hour.begins_us, request.after_us)
        high_us = hour.ends_us - 1 if request.before_us is None else min(hour.ends_us - 1, request.before_us)
        yield from connection.execute(sql, (low_us, high_us, *values))
