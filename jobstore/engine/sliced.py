"""Access paths over bits: a page in the order of ids or of a key, at any depth, with any filter.

Costs no index entries but those of the page's neighbours. In the order of ids: one look at each chunk's plane. By
a key, a look for each bit of its code, from the highest: those without the bit come first, so that
each count says on which side the page lies.
"""

from __future__ import annotations

from operator import and_, attrgetter, invert, xor
from typing import TYPE_CHECKING, Any

from jobstore.engine.bits import Bits, Step
from jobstore.engine.counters import in_chunks
from jobstore.engine.planes import count_of, ends_of, ids_between

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from jobstore.engine.bits import View
    from jobstore.engine.planes import Column, Planes
    from jobstore.engine.request import Request

FEW = 256
"""So many rows are read and sorted rather than told apart bit by bit."""
REMEMBERED_EVERY, STEPS_REMEMBERED = 6, 2
"""Of the steps of a search every sixth is kept, and two of these."""
MOST_READ = 25_000
"""Rows that share a code which does not tell them apart."""


class TooManyAlike(Exception):
    """Codes do not tell the rows of the page from too many others."""


def page_ids_in_order(connection: sqlite3.Connection, bits: Bits, request: Request) -> list[int]:
    """The page in the order of ids."""
    view = _checked(bits.view(connection, request), request)
    return _directed(bits, view.planes, view.ends, request, request.offset, request.take)


def page_ids_sliced(connection: sqlite3.Connection, bits: Bits, key: str, request: Request) -> list[int] | None:
    """The page in the order of a key, nulls last; None: its codes do not tell the rows apart."""
    column = _COLUMNS[key](bits, connection)
    view = _checked(bits.view(connection, request), request)
    search = _Search(connection, bits, column, key, view)
    count = search.count
    first, last = min(request.offset, count), min(request.offset + request.take, count)
    if request.descending:
        first, last = count - last, count - first
    try:
        found = search.between(first, last)
    except TooManyAlike:
        return None
    if request.descending:
        found.reverse()
    rest = request.take - len(found)
    if rest:
        absent = list(map(and_, view.planes, map(invert, column.present)))
        found += _directed(bits, absent, ends_of(absent), request, max(0, request.offset - count), rest)
    return found


_COLUMNS: dict[str, Callable[[Bits, sqlite3.Connection], Column]] = {
    "duration_ms": Bits.durations,
    "trace_id": Bits.traces,
    "worker.name": Bits.workers,
}
_EXPRESSIONS = {"worker.name": "(SELECT name FROM worker WHERE worker.worker_id = execution.worker_id)"}
"""What is no column of executions."""
_EXACT = frozenset({"duration_ms", "worker.name"})
"""Keys whose codes are different where they are."""


class _Search:
    """Finds ranks among the values of a key in a view."""

    def __init__(self, connection: sqlite3.Connection, bits: Bits, column: Column, key: str, view: View) -> None:
        self._connection = connection
        self._chunks = bits.chunks
        self._column = column
        self._key = key
        self._bits = column.bits()
        if view.key != key:
            present = list(map(and_, view.planes, column.present))
            view.key, view.steps = key, [Step(0, 0, count_of(present), present)]
        self._steps = view.steps

    @property
    def count(self) -> int:
        """How many have the key."""
        return self._steps[0].runs

    def between(self, first: int, last: int) -> list[int]:
        """The ids at ranks ``first`` to ``last`` in ascending order of the key, then of ids."""
        if first >= last:
            return []
        around = [step for step in self._steps if step.low <= first and last <= step.low + step.runs]
        nearest = max(around, key=attrgetter("level"))
        return self._below(nearest, first, last)

    def _below(self, step: Step, first: int, last: int) -> list[int]:
        """The same of ranks within a step, bit by bit."""
        while step.runs > FEW and step.level < len(self._bits):
            ones = list(map(and_, step.planes, self._column.planes[self._bits[step.level]]))
            larger = count_of(ones)
            middle = step.low + step.runs - larger
            above = Step(step.level + 1, middle, larger, ones)
            if first >= middle:
                step = above
            else:
                below = Step(step.level + 1, step.low, middle - step.low, list(map(xor, step.planes, ones)))
                if last > middle:
                    return self._below(below, first, middle) + self._below(above, middle, last)
                step = below
            if step.level % REMEMBERED_EVERY == 0:
                self._steps[1:] = [*self._steps[1:], step][-STEPS_REMEMBERED:]
        return self._sorted(step, first - step.low, last - step.low)

    def _sorted(self, step: Step, first: int, last: int) -> list[int]:
        """Few rows, or those of one code."""
        if self._key in _EXACT and step.runs > FEW:
            return ids_between(self._chunks, step.planes, ends_of(step.planes), first, last)
        if step.runs > MOST_READ:
            raise TooManyAlike
        expression = _EXPRESSIONS.get(self._key, self._key)
        rows: list[tuple[Any, int]] = []
        for some in in_chunks(ids_between(self._chunks, step.planes, ends_of(step.planes), 0, step.runs)):
            marks = ",".join("?" * len(some))
            rows += self._connection.execute(f"SELECT {expression}, id FROM execution WHERE id IN ({marks})", some)
        rows.sort()
        return [row_id for _, row_id in rows[first:last]]


def _checked(view: View, request: Request) -> View:
    """The view, after a look at what counters know as well.

    Raises:
        ValueError: they say something else.
    """
    if view.count != request.total:
        raise ValueError(f"digests select {view.count} executions, counters {request.total}")
    return view


def _directed(bits: Bits, planes: Planes, ends: list[int], request: Request, offset: int, take: int) -> list[int]:
    """The ids at an offset in the direction of a request."""
    if request.descending:
        return ids_between(bits.chunks, planes, ends, max(0, ends[-1] - offset - take), ends[-1] - offset)[::-1]
    return ids_between(bits.chunks, planes, ends, offset, offset + take)
