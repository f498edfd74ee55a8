"""Access paths over bits: a page in the order of ids or of a key, at any depth, with any filter.

Costs no index entries but those of the page's neighbours. In the order of ids: one look at each chunk's plane. By
a key, a look for each bit of its code, from the highest: those without the bit come first, so that
each count says on which side the page lies.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from operator import and_, attrgetter, invert, xor
from typing import TYPE_CHECKING, Any

from jobstore.engine.bits import Bits, Step
from jobstore.engine.counters import in_chunks
from jobstore.engine.digests import CHUNK
from jobstore.engine.schema import CHUNK_BITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from jobstore.engine.bits import Column, Planes, View
    from jobstore.engine.request import Request

FEW = 256
"""So many rows are read and sorted rather than told apart bit by bit."""
FEW_SLOTS = 16
"""So many are found one by one."""
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
        found += _directed(bits, absent, _ends(absent), request, max(0, request.offset - count), rest)
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
            view.key, view.steps = key, [Step(0, 0, _count(present), present)]
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
            larger = _count(ones)
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
            return _ids_between(self._chunks, step.planes, _ends(step.planes), first, last)
        if step.runs > MOST_READ:
            raise TooManyAlike
        expression = _EXPRESSIONS.get(self._key, self._key)
        rows: list[tuple[Any, int]] = []
        for some in in_chunks(_ids_between(self._chunks, step.planes, _ends(step.planes), 0, step.runs)):
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


def _count(planes: Planes) -> int:
    return sum(map(int.bit_count, planes))


def _ends(planes: Planes) -> list[int]:
    """How many bits are set up to the end of each chunk."""
    return list(accumulate(map(int.bit_count, planes)))


def _directed(bits: Bits, planes: Planes, ends: list[int], request: Request, offset: int, take: int) -> list[int]:
    """The ids at an offset in the direction of a request."""
    if request.descending:
        return _ids_between(bits.chunks, planes, ends, max(0, ends[-1] - offset - take), ends[-1] - offset)[::-1]
    return _ids_between(bits.chunks, planes, ends, offset, offset + take)


def _ids_between(chunks: list[int], planes: Planes, ends: list[int], first: int, last: int) -> list[int]:
    """The ids at ranks ``first`` to ``last``, ascending."""
    found: list[int] = []
    for place in range(bisect_right(ends, first), min(bisect_left(ends, last) + 1, len(ends))):
        begin = ends[place - 1] if place else 0
        if ends[place] > begin:
            slots = slots_between(planes[place], max(0, first - begin), min(ends[place], last) - begin)
            found += [(chunks[place] << CHUNK_BITS) + slot for slot in slots]
    return found


def slots_between(plane: int, first: int, last: int) -> list[int]:
    """The slots of the set bits from the ``first`` to before the ``last``, counted from 0.

    >>> slots_between(0b101101, 1, 3)
    [2, 3]
    """
    begin = _slot_of(plane, first)
    if last - first <= FEW_SLOTS:
        return _lowest(plane >> begin, begin, last - first)
    end = _slot_of(plane, last - 1)
    stretch = plane >> begin & (1 << end - begin + 1) - 1
    return [
        begin + (place << 3) + bit
        for place, byte in enumerate(stretch.to_bytes((stretch.bit_length() + 7) // 8, "little"))
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]


def _lowest(plane: int, begin: int, count: int) -> list[int]:
    """The slots of so many of the lowest bits, of a plane that was moved."""
    found = []
    for _ in range(count):
        lowest = (plane & -plane).bit_length()
        plane >>= lowest
        begin += lowest
        found.append(begin - 1)
    return found


def _slot_of(plane: int, rank: int) -> int:
    """The slot of the set bit with so many set bits before it, by halves."""
    slot, width = 0, CHUNK
    while width > 1:
        width //= 2
        lower = plane & (1 << width) - 1
        count = lower.bit_count()
        if rank < count:
            plane = lower
        else:
            rank -= count
            plane >>= width
            slot += width
    return slot
