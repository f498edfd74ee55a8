"""Remembered counters: the executions of a set of names, by status, in all, by day and by hour.

The file's own counters (see ``schema``) are read when a query first needs them, and the change log then keeps them
exact. So a total costs a few additions, even while others commit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from jobstore.engine import costs
from jobstore.language.instants import MIN_US
from jobstore.storage.rows import in_chunks
from jobstore.storage.schema import DAY_US, HOUR_US, SPAN_ALL, SPAN_DAY, SPAN_HOUR

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

Sums = tuple[list[int], list[int]]
"""Periods in order, and the cumulative count of executions up to the end of each."""

HOURS_A_DAY = 24
# Beyond every instant on either side; adding a microsecond still fits 64 bits.
FARTHEST_US = 2**62
# Days whose hours are remembered. A deep page needs one and a window two; the rest is for browsing.
DAYS_REMEMBERED = 64


def bounds(after_us: int | None, before_us: int | None) -> tuple[int, int]:
    """The first and the last start of a window, both inclusive."""
    return -FARTHEST_US if after_us is None else after_us, FARTHEST_US if before_us is None else before_us


def hour_of(us: int) -> int:
    """The hour that contains an instant, counted from year 1."""
    return (us - MIN_US) // HOUR_US


def hour_begins_us(hour: int) -> int:
    """The first instant of an hour."""
    return hour * HOUR_US + MIN_US


def day_of(us: int) -> int:
    """The day that contains an instant, counted from year 1."""
    return (us - MIN_US) // DAY_US


def day_begins_us(day: int) -> int:
    """The first instant of a day."""
    return day * DAY_US + MIN_US


class Counters:
    """The counters of a set of names (``names=None``: of all executions)."""

    __slots__ = ("_days", "_hours", "_mask", "_masked", "_sums", "_total", "edges", "key", "names")

    def __init__(self, names: set[int] | None, total: list[int], key: object = None) -> None:
        self.names = names
        self.key = key or object()
        """Equal keys mean the same names: what is remembered of one set, such as bitmaps, serves the other."""
        self._total = total
        # Read when first needed: a total needs no days, and a page without an offset no hours.
        self._days: dict[int, list[int]] | None = None
        self._hours: dict[int, dict[int, list[int]]] = {}
        self._mask = b""
        self._masked = -1
        self._sums: dict[tuple[tuple[int, ...], int | None], Sums] = {}
        self.edges: dict[tuple[tuple[int, ...], int], int] = {}
        """Executions that start before an instant inside an hour, by (statuses, instant), as far as counted."""

    @property
    def counts(self) -> list[int]:
        """Executions by status."""
        return self._total

    def total(self, statuses: Iterable[int]) -> int:
        """Executions with one of the statuses; touches no row."""
        total = self._total
        return sum([total[status] for status in statuses])

    def days(self, connection: sqlite3.Connection) -> dict[int, list[int]]:
        """Counts by day, unordered; the first call reads one counter for each name and day."""
        if self._days is None:
            self._days = _gathered(self._day_rows(connection))
        return self._days

    def before_hour(self, connection: sqlite3.Connection, statuses: tuple[int, ...], hour: int) -> int:
        """Executions with one of the statuses whose effective start lies before the beginning of an hour."""
        day = hour // HOURS_A_DAY
        before = _before(self._day_sums(connection, statuses), day)
        if hour % HOURS_A_DAY:
            before += _before(self._hour_sums(connection, statuses, day), hour)
        return before

    def hour_at(self, connection: sqlite3.Connection, statuses: tuple[int, ...], position: int) -> int:
        """The hour of the execution at a position (from 0, oldest first) among those with one of the statuses."""
        sums = self._day_sums(connection, statuses)
        day = sums[0][bisect_right(sums[1], position)]
        hours, cumulated = self._hour_sums(connection, statuses, day)
        return hours[bisect_right(cumulated, position - _before(sums, day))]

    def _day_sums(self, connection: sqlite3.Connection, statuses: tuple[int, ...]) -> Sums:
        found = self._sums.get((statuses, None))
        if found is None:
            found = self._sums[statuses, None] = _summed(self.days(connection), statuses)
        return found

    def _hour_sums(self, connection: sqlite3.Connection, statuses: tuple[int, ...], day: int) -> Sums:
        found = self._sums.get((statuses, day))
        if found is None:
            found = self._sums[statuses, day] = _summed(self.hours(connection, day), statuses)
        return found

    def hours(self, connection: sqlite3.Connection, day: int) -> dict[int, list[int]]:
        """Counts by hour of one day; the first call for a day reads one counter for each name and hour of it."""
        found = self._hours.get(day)
        if found is None:
            if len(self._hours) >= DAYS_REMEMBERED:
                self._hours.clear()
                self._sums.clear()
            found = self._hours[day] = _gathered(self._hour_rows(connection, day))
        return found

    def _day_rows(self, connection: sqlite3.Connection) -> Iterator[tuple[int, int, int]]:
        """Day, status and executions."""
        if self.names is None:
            yield from connection.execute(
                "SELECT period, status, runs FROM period_tally WHERE span = ?", (SPAN_DAY,)
            )  # fmt: skip
            return
        # Sorted like the counters: neighbouring names share pages.
        for some in in_chunks(sorted(self.names)):
            yield from connection.execute(
                f"SELECT day, status, runs FROM name_day_tally WHERE name_id IN ({','.join('?' * len(some))})", some
            )

    def _hour_rows(self, connection: sqlite3.Connection, day: int) -> Iterator[tuple[int, int, int]]:
        """Hour, status and executions, of one day."""
        first, last = day * HOURS_A_DAY, day * HOURS_A_DAY + HOURS_A_DAY - 1
        if self.names is None:
            yield from connection.execute(
                "SELECT period, status, runs FROM period_tally WHERE span = ? AND period BETWEEN ? AND ?",
                (SPAN_HOUR, first, last),
            )
        elif len(self.names) <= costs.FEW_RANGES:
            # The key starts with the hour, so the names of one hour are neighbours: 24 ranges, not the whole day. For
            # more names, reading every name of the hour is faster.
            marks = ",".join("?" * len(self.names))
            sql = f"SELECT hour, status, runs FROM name_hour_tally WHERE hour = ? AND name_id IN ({marks})"
            for hour in range(first, last + 1):
                yield from connection.execute(sql, (hour, *self.names))
        else:
            rows = connection.execute(
                "SELECT hour, name_id, status, runs FROM name_hour_tally WHERE hour BETWEEN ? AND ?", (first, last)
            )
            # Filtered here: binding thousands of names would cost more than reading the rows that are left out.
            yield from ((hour, status, runs) for hour, name_id, status, runs in rows if name_id in self.names)

    def mask(self) -> bytes:
        """One byte for each name_id from 1 on: 1 for the names of this set, else 0.

        In SQL, ``substr(mask, name_id, 1) = x'01'`` tests a name against thousands in a tenth of a microsecond. IN over
        as many values is several times slower, because each statement builds a tree of them.
        """
        # The set only grows (`Memory._meet` adds to it), so its size tells whether the mask is still current.
        names = self.names or set()
        if self._masked != len(names):
            mask = bytearray(max(names, default=0))
            for name_id in names:
                mask[name_id - 1] = 1
            self._mask, self._masked = bytes(mask), len(names)
        return self._mask

    def apply(self, hour: int, status: int, runs: int) -> None:
        """Apply one difference from the change log."""
        # Updating cumulative counts and edges would take a step for each day; they are computed again when needed.
        self._total[status] += runs
        self._sums.clear()
        self.edges.clear()
        # Days that were never read stay unread: a single difference would look like the whole count.
        if self._days is not None:
            self._days.setdefault(hour // HOURS_A_DAY, [0] * 5)[status] += runs
        hours = self._hours.get(hour // HOURS_A_DAY)
        if hours is not None:
            hours.setdefault(hour, [0] * 5)[status] += runs


def total_of_all(connection: sqlite3.Connection) -> list[int]:
    """All executions by status."""
    total = [0] * 5
    rows = connection.execute(
        "SELECT status, runs FROM period_tally WHERE span = ? AND period = 0", (SPAN_ALL,)
    )  # fmt: skip
    for status, runs in rows:
        total[status] = runs
    return total


def _summed(counts: dict[int, list[int]], statuses: tuple[int, ...]) -> Sums:
    periods = sorted(counts)
    return periods, list(accumulate([sum([counts[period][status] for status in statuses]) for period in periods]))


def _before(sums: Sums, period: int) -> int:
    found = bisect_left(sums[0], period)
    return sums[1][found - 1] if found else 0


def _gathered(rows: Iterator[tuple[int, int, int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for period, status, runs in rows:
        counts = found.get(period)
        if counts is None:
            counts = found[period] = [0] * 5
        counts[status] += runs
    return found
