"""The digest of a chunk of executions: what filters and orders look at, as bits, in memory and in the file.

A chunk is the executions of 32,768 consecutive ids; each has a slot, its id within the chunk. A *plane* is an
integer with one bit for each slot, so that one AND of Python's looks at a whole chunk, in a third of a microsecond.
A key to order by is kept in as many planes as its code has bits (a bit-sliced index; O'Neil and Quass, "Improved
Query Performance with Variant Indexes", 1997). Pure: rows in, digests out, blobs in between.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.language.instants import MIN_US
from jobstore.storage.schema import CHUNK_BITS, HOUR_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CHUNK: Final = 1 << CHUNK_BITS
ABOUT, NAMES, HOURS, STATUSES, WORKERS, DURATIONS, TRACES = range(7)

STATUS_COUNT: Final = 5
PLANE_BYTES: Final = CHUNK // 8
DURATION_BIAS: Final = 1 << 42
"""Durations may be negative, codes may not."""
TRACE_BITS: Final = 20
"""Of the code of a trace id."""

_ABOUT = struct.Struct("<qqq")
_MASKS = struct.Struct("<QQ")
_ONES = bytes([ord("0")] + [ord("1")] * 255)
_BIT = [bytes(ord("1") if value >> bit & 1 else ord("0") for value in range(256)) for bit in range(8)]
_FASTEST: Final = 1
"""Of zlib: names and hours become a half and a tenth, at little cost."""


class Row(NamedTuple):
    """An execution, as far as digests go."""

    id: int
    name_id: int
    status: int
    effective_us: int
    worker_id: int | None
    duration_ms: int | None
    trace_id: str | None


ROW_SELECT: Final = "SELECT id, name_id, status, effective_us, worker_id, duration_ms, trace_id FROM execution"
"""Columns in the order of `Row`."""


class About(NamedTuple):
    """How many executions a chunk holds, and between which effective starts."""

    runs: int
    low_us: int
    high_us: int


@dataclass(slots=True)
class Sliced:
    """A key of the executions of a chunk: which have it, and each bit of its code, by the bit's number."""

    present: int
    planes: dict[int, int]


class Hours:
    """The hour of each slot's effective start, counted from 1; 0 where there is no execution."""

    def __init__(self, numbers: array[int]) -> None:
        known = numbers.tolist()
        self._base = min(filter(None, known), default=1)
        self._offsets: bytearray | None = None
        self._numbers = numbers
        if max(known) - self._base < _EMPTY:
            self._offsets = bytearray([number - self._base if number else _EMPTY for number in known])

    def between(self, first: int, last: int) -> int:
        """The slots whose hour is one of these."""
        if self._offsets is None:
            return plane_of(bytes([first <= number <= last for number in self._numbers]))
        wanted = bytes(first <= self._base + offset <= last for offset in range(_EMPTY))
        return plane_of(self._offsets.translate(wanted + b"\0"))

    def put(self, slot: int, number: int) -> None:
        """Sets the hour of a slot."""
        self._numbers[slot] = number
        if self._offsets is not None:
            if 0 <= number - self._base < _EMPTY:
                self._offsets[slot] = number - self._base
            else:
                self._offsets = None


_EMPTY: Final = 255
"""The offset of a slot without an execution; hours that are farther apart are compared as numbers."""


def slot_of(row_id: int) -> int:
    """The place of an execution in its chunk."""
    return row_id & (CHUNK - 1)


def plane_of(flags: bytes | bytearray) -> int:
    """A plane from a byte for each slot; every byte but 0 is a 1."""
    return int(flags.translate(_ONES)[::-1], 2)


def plane_of_slots(slots: Iterable[int]) -> int:
    """A plane with these slots set."""
    found = bytearray(PLANE_BYTES)
    for slot in slots:
        found[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(found, "little")


def sliced(codes: Sequence[int | None]) -> Sliced:
    """The planes of a key, from its code in each slot."""
    raw = array("Q", [code or 0 for code in codes]).tobytes()
    present = plane_of(bytes([code is not None for code in codes]))
    planes = {}
    for place in range(8):
        column = raw[place::8]
        if column.count(0) < len(column):
            for bit in range(8):
                plane = int(column.translate(_BIT[bit])[::-1], 2)
                if plane:
                    planes[place * 8 + bit] = plane
    return Sliced(present, planes)


def sliced_bytes(codes: bytes) -> Sliced:
    """The same from a byte for each slot, 0 where there is no key: for keys of few values, three times as fast."""
    planes = {bit: int(codes.translate(_BIT[bit])[::-1], 2) for bit in range(8)}
    return Sliced(plane_of(codes), {bit: plane for bit, plane in planes.items() if plane})


def duration_code(duration_ms: int | None) -> int | None:
    """The code of a duration: itself, moved so that it is never negative."""
    return None if duration_ms is None else duration_ms + DURATION_BIAS


class TraceScale(NamedTuple):
    """How trace ids become codes in their order: as numbers of so many digits, which follow a prefix.

    Several trace ids may share a code: a sign that is no digit counts as the next digit that is, and ends the number.
    """

    prefix: str
    digits: str
    """In order."""

    def coder(self) -> Callable[[str | None], int | None]:
        """The code of a trace id."""
        base: int = len(self.digits)
        length: int = 1
        while base > 1 and base ** (length + 1) <= 1 << TRACE_BITS:
            length += 1
        value_of = {digit: value for value, digit in enumerate(self.digits)}
        weights: list[int] = [base**place for place in range(length + 1)]
        begin, highest = len(self.prefix), weights[length] + 1

        def code(trace_id: str | None) -> int | None:
            if trace_id is None:
                return None
            if not trace_id.startswith(self.prefix):
                return highest if trace_id > self.prefix else 0
            number, left = 0, length
            for digit in trace_id[begin : begin + length]:
                value = value_of.get(digit)
                left -= 1
                if value is None:
                    return (number * base + bisect(self.digits, digit)) * weights[left] + 1
                number = number * base + value
            return number * weights[left] + 1

        return code


def trace_scale(first: str | None, last: str | None, some: Iterable[str | None]) -> TraceScale:
    """A scale for trace ids from the first to the last in order, with the digits that some of them have.

    >>> trace_scale("job-12", "job-97", ["job-12", "job-55", "job-97"])
    TraceScale(prefix='job-', digits='12579')
    """
    prefix = commonprefix([first or "", last or ""])  # noqa: RUF071 - of characters, that is what is wanted
    begin = len(prefix)
    digits = {digit for trace_id in some if trace_id for digit in trace_id[begin : begin + TRACE_BITS]}
    return TraceScale(prefix, "".join(sorted(digits)) or "0")


def hour_number(us: int) -> int:
    """The hour of an instant, counted from 1 at the beginning of year 1."""
    return (us - MIN_US) // HOUR_US + 1


def about(rows: Sequence[Row]) -> About:
    """The bounds of a chunk that holds anything."""
    starts = [row[3] for row in rows]
    return About(len(rows), min(starts), max(starts))


def slots(rows: Iterable[Row], value_of: Callable[[Row], int]) -> array[int]:
    """A number for each slot; 0 where there is no execution."""
    found = array("I", bytes(4 * CHUNK))
    for row in rows:
        found[row[0] & (CHUNK - 1)] = value_of(row)
    return found


def codes(rows: Iterable[Row], code_of: Callable[[Row], int | None]) -> list[int | None]:
    """A code for each slot; none where there is no execution, or no key."""
    found: list[int | None] = [None] * CHUNK
    for row in rows:
        found[row[0] & (CHUNK - 1)] = code_of(row)
    return found


def names(rows: Iterable[Row]) -> array[int]:
    """The name of each slot."""
    return slots(rows, lambda row: row[1])


def hours(rows: Iterable[Row]) -> array[int]:
    """The hour of each slot's effective start."""
    return slots(rows, lambda row: hour_number(row[3]))


def workers(rows: Iterable[Row]) -> array[int]:
    """The worker of each slot; 0 for none."""
    return slots(rows, lambda row: row[4] or 0)


def statuses(rows: Iterable[Row]) -> list[int]:
    """A plane for each status."""
    flags = bytearray(b"\xff" * CHUNK)
    for row in rows:
        flags[row[0] & (CHUNK - 1)] = row[2]
    return [plane_of(bytes(flags.translate(_is_byte(status)))) for status in range(STATUS_COUNT)]


def _is_byte(value: int) -> bytes:
    return bytes(other == value for other in range(256))


def durations(rows: Iterable[Row]) -> Sliced:
    """The durations."""
    return sliced(codes(rows, lambda row: duration_code(row[5])))


def traces(rows: Iterable[Row], code_of: Callable[[str | None], int | None]) -> Sliced:
    """The codes of the trace ids."""
    return sliced(codes(rows, lambda row: code_of(row[6])))


def digest(rows: Sequence[Row], trace_code: Callable[[str | None], int | None]) -> dict[int, bytes]:
    """The blobs of a chunk, by part."""
    return {
        ABOUT: _ABOUT.pack(*about(rows)),
        NAMES: pack_slots(names(rows)),
        HOURS: pack_slots(hours(rows)),
        STATUSES: b"".join(plane.to_bytes(PLANE_BYTES, "little") for plane in statuses(rows)),
        WORKERS: pack_slots(workers(rows)),
        DURATIONS: pack_sliced(durations(rows)),
        TRACES: pack_sliced(traces(rows, trace_code)),
    }


def unpack_about(data: bytes) -> About:
    """The reverse."""
    try:
        return About(*_ABOUT.unpack(data))
    except struct.error as error:
        raise ValueError("a digest of another length") from error


def pack_slots(values: array[int]) -> bytes:
    """Four bytes a slot, compressed."""
    return zlib.compress(values.tobytes(), _FASTEST)


def unpack_slots(data: bytes) -> array[int]:
    """The reverse.

    Raises:
        ValueError: it is no such blob.
    """
    try:
        values = array("I", zlib.decompress(data))
    except zlib.error as error:
        raise ValueError("a digest that cannot be unpacked") from error
    if len(values) != CHUNK:
        raise ValueError("a digest of another length")
    return values


def unpack_statuses(data: bytes) -> list[int]:
    """A plane for each status."""
    if len(data) != STATUS_COUNT * PLANE_BYTES:
        raise ValueError("a digest of another length")
    return [int.from_bytes(data[begin : begin + PLANE_BYTES], "little") for begin in range(0, len(data), PLANE_BYTES)]


def pack_sliced(key: Sliced) -> bytes:
    """Which planes follow, which are as the first; that of the slots that have the key, and those that differ."""
    kept = [bit for bit, plane in sorted(key.planes.items()) if plane != key.present]
    same = [bit for bit, plane in key.planes.items() if plane == key.present]
    planes = [key.present, *(key.planes[bit] for bit in kept)]
    masks = _MASKS.pack(sum(1 << bit for bit in kept), sum(1 << bit for bit in same))
    return masks + b"".join(plane.to_bytes(PLANE_BYTES, "little") for plane in planes)


def unpack_sliced(data: bytes) -> Sliced:
    """The reverse.

    Raises:
        ValueError: it is no such blob.
    """
    if len(data) < _MASKS.size:
        raise ValueError("a digest of another length")
    kept, same = _MASKS.unpack_from(data)
    if len(data) != _MASKS.size + PLANE_BYTES * (1 + kept.bit_count()):
        raise ValueError("a digest of another length")
    present, *planes = [
        int.from_bytes(data[begin : begin + PLANE_BYTES], "little")
        for begin in range(_MASKS.size, len(data), PLANE_BYTES)
    ]
    numbers = [bit for bit in range(64) if kept >> bit & 1]
    return Sliced(present, dict(zip(numbers, planes, strict=True)) | {b: present for b in range(64) if same >> b & 1})


def unpacked(part: int, data: bytes) -> object:
    """What a blob says, to be compared: packing may differ between versions of zlib."""
    try:
        return _UNPACKED[part](data)
    except (KeyError, ValueError):
        return None


_UNPACKED: dict[int, Callable[[bytes], object]] = {
    ABOUT: unpack_about,
    NAMES: unpack_slots,
    HOURS: unpack_slots,
    STATUSES: unpack_statuses,
    WORKERS: unpack_slots,
    DURATIONS: unpack_sliced,
    TRACES: unpack_sliced,
}
