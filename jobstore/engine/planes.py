"""Planes of all executions: lists of integers of 2,048 bits, sixteen for each chunk, chunk after chunk.

So short, since Python keeps objects of up to 512 bytes in memory that all threads share; longer ones would leave
gaps in a heap of each thread's own. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import or_
from typing import TYPE_CHECKING

from jobstore.engine.digests import CHUNK, PLANE_BYTES
from jobstore.storage.schema import CHUNK_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobstore.engine.digests import Sliced

Planes = list[int]

LANE_BITS = 11
LANE = 1 << LANE_BITS
LANES = CHUNK // LANE
"""Integers for each chunk."""
FEW_SLOTS = 16
"""So many are found one by one."""


def lanes(plane: int) -> Planes:
    """The plane of a chunk in pieces."""
    if not plane:
        return [0] * LANES
    raw = plane.to_bytes(PLANE_BYTES, "little")
    return [int.from_bytes(raw[begin : begin + LANE // 8], "little") for begin in range(0, PLANE_BYTES, LANE // 8)]


def joined(chunks: Iterable[int]) -> Planes:
    """The planes of chunks, one after the other."""
    return [lane for plane in chunks for lane in lanes(plane)]


def either(sets: list[Planes]) -> Planes:
    """The union."""
    return reduce(lambda one, other: list(map(or_, one, other)), sets)


def patch(planes: Planes, place: int, touched: int, new: int) -> None:
    """Sets the touched slots of a chunk anew; one beyond the last is a new chunk."""
    begin = place * LANES
    if begin >= len(planes):
        planes += lanes(new)
        return
    for number, (mask, bits) in enumerate(zip(lanes(touched), lanes(new), strict=True), begin):
        if mask:
            planes[number] = planes[number] & ~mask | bits


def count_of(planes: Planes) -> int:
    """How many bits are set."""
    return sum(map(int.bit_count, planes))


def ends_of(planes: Planes) -> list[int]:
    """How many bits are set up to the end of each piece."""
    return list(accumulate(map(int.bit_count, planes)))


def ids_between(chunks: list[int], planes: Planes, ends: list[int], first: int, last: int) -> list[int]:
    """The ids at ranks ``first`` to ``last``, ascending."""
    found: list[int] = []
    for place in range(bisect_right(ends, first), min(bisect_left(ends, last) + 1, len(ends))):
        begin = ends[place - 1] if place else 0
        if ends[place] > begin:
            base = (chunks[place // LANES] << CHUNK_BITS) + place % LANES * LANE
            slots = slots_between(planes[place], max(0, first - begin), min(ends[place], last) - begin)
            found += [base + slot for slot in slots]
    return found


def slots_between(plane: int, first: int, last: int) -> list[int]:
    """The slots of the set bits from the ``first`` to before the ``last``, counted from 0.

    >>> slots_between(0b101101, 1, 3)
    [2, 3]
    """
    begin = _slot_of(plane, first) if first else 0
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
    slot, width = 0, LANE
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


@dataclass(slots=True)
class Column:
    """A key of all executions: the planes of those that have it, and of each bit of its code."""

    present: Planes
    planes: dict[int, Planes]

    @classmethod
    def of(cls, keys: Iterable[Sliced]) -> Column:
        """From the chunks' own, one after the other; a bit that all keys of a chunk have takes no room of its own."""
        column = cls([], {})
        for key in keys:
            column._append(key)
        return column

    def _append(self, key: Sliced) -> None:
        begin = len(self.present)
        present = lanes(key.present)
        self.present += present
        for bit in key.planes.keys() - self.planes.keys():
            self.planes[bit] = [0] * begin
        for bit, planes in self.planes.items():
            plane = key.planes.get(bit, 0)
            planes.extend(present if plane == key.present else lanes(plane))

    def bits(self) -> list[int]:
        """The bits that tell keys apart, highest first."""
        return sorted([bit for bit, planes in self.planes.items() if planes != self.present], reverse=True)

    def patch(self, place: int, touched: int, new: Sliced) -> None:
        """Sets the touched slots of a chunk anew; one beyond the last is a new chunk."""
        if place * LANES >= len(self.present):
            self._append(new)
            return
        patch(self.present, place, touched, new.present)
        for bit in new.planes.keys() - self.planes.keys():
            self.planes[bit] = [0] * len(self.present)
        for bit, planes in self.planes.items():
            patch(planes, place, touched, new.planes.get(bit, 0))
