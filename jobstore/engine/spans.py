"""A window as planes: whole hours by the hours of the executions' slots, what it cuts of an hour by an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobstore.engine import digests
from jobstore.engine.chunks import planes_of
from jobstore.language.instants import MAX_US, MIN_US
from jobstore.storage.schema import HOUR_US

if TYPE_CHECKING:
    import sqlite3

    from jobstore.engine.digests import About, Hours


class Window:
    """The executions that start in a window, chunk by chunk."""

    def __init__(self, connection: sqlite3.Connection, after_us: int | None, before_us: int | None) -> None:
        self._connection = connection
        self._after_us = MIN_US if after_us is None else after_us
        self._before_us = MAX_US if before_us is None else before_us
        self._added: dict[int, int] = {}
        self._removed: dict[int, int] = {}
        self._first = digests.hour_number(self._after_us)
        self._last = digests.hour_number(self._before_us)
        if self._first == self._last:
            self._added = self._edge(self._after_us, self._before_us)
            self._first += 1
        else:
            self._cut_first()
            self._cut_last()

    def _cut_first(self) -> None:
        """The hour in which the window begins: counted in or out, and the shorter side of it looked up."""
        begins_us = _begins_us(self._first)
        if self._after_us - begins_us <= HOUR_US // 2:
            self._removed = self._edge(begins_us, self._after_us - 1)
        else:
            self._first += 1
            self._added = self._edge(self._after_us, _begins_us(self._first) - 1)

    def _cut_last(self) -> None:
        ends_us = _begins_us(self._last + 1) - 1
        if ends_us - self._before_us <= HOUR_US // 2:
            _merge(self._removed, self._edge(self._before_us + 1, ends_us))
        else:
            _merge(self._added, self._edge(_begins_us(self._last), self._before_us))
            self._last -= 1

    def _edge(self, low_us: int, high_us: int) -> dict[int, int]:
        rows = self._connection.execute(
            "SELECT id FROM execution INDEXED BY execution_started WHERE effective_us BETWEEN ? AND ?",
            (low_us, high_us),
        )
        return planes_of([row_id for (row_id,) in rows])

    def is_beyond(self, about: About) -> bool:
        """Whether nothing of a chunk is in the window."""
        return about.high_us < self._after_us or self._before_us < about.low_us

    def holds(self, about: About) -> bool:
        """Whether all of a chunk is in the window."""
        return self._after_us <= about.low_us and about.high_us <= self._before_us

    def plane(self, chunk: int, hours: Hours) -> int:
        """The executions of a chunk in the window."""
        whole = hours.between(self._first, self._last)
        return whole & ~self._removed.get(chunk, 0) | self._added.get(chunk, 0)


def _begins_us(hour: int) -> int:
    """The first instant of an hour as digests count them."""
    return (hour - 1) * HOUR_US + MIN_US


def _merge(planes: dict[int, int], others: dict[int, int]) -> None:
    for chunk, plane in others.items():
        planes[chunk] = planes.get(chunk, 0) | plane
