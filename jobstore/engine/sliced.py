"""Access paths over bits: a page in the order of ids or of a key, at any depth, with any filter.

Costs no index entries but those of the page's neighbours. In the order of ids: one look at each chunk's plane. By
a key, a look for each bit of its code, from the highest: those without the bit come first, so that
each count says on which side the page lies.
"""

from __future__ import annotations

from operator import and_, xor
from typing import TYPE_CHECKING, Any

from jobstore.engine.bits import Bits
from jobstore.engine.counters import in_chunks
from jobstore.engine.digests import CHUNK
from jobstore.engine.schema import CHUNK_BITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from jobstore.engine.bits import Column, Planes
    from jobstore.engine.request import Request

FEW = 256
"""So many rows are read and sorted rather than told apart bit by bit."""
FEW_SLOTS = 16
"""So many are found one by one."""
MOST_READ = 25_000
"""Rows that share a code which does not tell them apart."""


class TooManyAlike(Exception):
    """Codes do not tell the rows of the page from too many others."""


def page_ids_in_order(connection: sqlite3.Connection, bits: Bits, request: Request) -> list[int]:
    """The page in the order of ids."""
    chosen = bits.chosen(connection, request)
    count = _counted(chosen, request)
    return _directed(_Ids(bits), chosen, count, request, request.offset, request.take)


def page_ids_sliced(connection: sqlite3.Connection, bits: Bits, key: str, request: Request) -> list[int] | None:
    """The page in the order of a key, nulls last; None: its codes do not tell the rows apart."""
    column = _COLUMNS[key](bits, connection)
    chosen = bits.chosen(connection, request)
    total = _counted(chosen, request)
    present = list(map(and_, chosen, column.present))
    count = _count(present)
    search = _Search(connection, _Ids(bits), column, key)
    first, last = min(request.offset, count), min(request.offset + request.take, count)
    if request.descending:
        first, last = count - last, count - first
    try:
        found = search.between(present, count, 0, first, last)
    except TooManyAlike:
        return None
    if request.descending:
        found.reverse()
    rest = request.take - len(found)
    if rest:
        absent = list(map(xor, chosen, present))
        found += _directed(_Ids(bits), absent, total - count, request, max(0, request.offset - count), rest)
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


class _Ids:
    """The ids of executions in planes."""

    def __init__(self, bits: Bits) -> None:
        self._chunks = bits.chunks

    def between(self, chosen: Planes, first: int, last: int) -> list[int]:
        """The ids at ranks ``first`` to ``last``, ascending."""
        found: list[int] = []
        passed = 0
        for chunk, plane in zip(self._chunks, chosen, strict=True):
            count = plane.bit_count()
            if count and passed + count > first:
                slots = slots_between(plane, max(0, first - passed), min(count, last - passed))
                found += [(chunk << CHUNK_BITS) + slot for slot in slots]
            passed += count
            if passed >= last:
                break
        return found


class _Search:
    """Finds ranks among the values of a key."""

    def __init__(self, connection: sqlite3.Connection, ids: _Ids, column: Column, key: str) -> None:
        self._connection = connection
        self._ids = ids
        self._column = column
        self._key = key
        self._bits = column.bits()

    def between(self, chosen: Planes, count: int, level: int, first: int, last: int) -> list[int]:
        """The ids at ranks ``first`` to ``last`` in ascending order of the key's bits from a level on, then of ids."""
        while first < last and count > FEW and level < len(self._bits):
            ones = list(map(and_, chosen, self._column.planes[self._bits[level]]))
            larger = _count(ones)
            smaller = count - larger
            level += 1
            if first >= smaller:
                chosen, count, first, last = ones, larger, first - smaller, last - smaller
                continue
            zeros = list(map(xor, chosen, ones))
            if last > smaller:
                below = self.between(zeros, smaller, level, first, smaller)
                return below + self.between(ones, larger, level, 0, last - smaller)
            chosen, count = zeros, smaller
        return self._sorted(chosen, count, first, last) if first < last else []

    def _sorted(self, chosen: Planes, count: int, first: int, last: int) -> list[int]:
        """Few rows, or those of one code."""
        if self._key in _EXACT and count > FEW:
            return self._ids.between(chosen, first, last)
        if count > MOST_READ:
            raise TooManyAlike
        expression = _EXPRESSIONS.get(self._key, self._key)
        rows: list[tuple[Any, int]] = []
        for some in in_chunks(self._ids.between(chosen, 0, count)):
            marks = ",".join("?" * len(some))
            rows += self._connection.execute(f"SELECT {expression}, id FROM execution WHERE id IN ({marks})", some)
        rows.sort()
        return [row_id for _, row_id in rows[first:last]]


def _counted(chosen: Planes, request: Request) -> int:
    """How many are chosen, which counters know as well.

    Raises:
        ValueError: they say something else.
    """
    count = _count(chosen)
    if count != request.total:
        raise ValueError(f"digests select {count} executions, counters {request.total}")
    return count


def _count(chosen: Planes) -> int:
    return sum(map(int.bit_count, chosen))


def _directed(ids: _Ids, chosen: Planes, count: int, request: Request, offset: int, take: int) -> list[int]:
    """The ids at an offset in the direction of a request."""
    if request.descending:
        return ids.between(chosen, max(0, count - offset - take), count - offset)[::-1]
    return ids.between(chosen, offset, offset + take)


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
