"""Segments of the bitmap index: the values that filters and orders need, for 65,536 neighbouring ids each.

A segment has one blob for each *kind* of value (status, hour of the start, duration, ...). The kind gives an execution
a code, a number below 2**63. The blob holds a bitmap of executions for each bit of the code: a bit-sliced index (O'Neil
and Quass, "Improved Query Performance with Variant Indexes", 1997). Bit 63 means "has a code".

For example, three executions with the ids 1, 2 and 3 and the durations 5 ms, none and 6 ms have the codes 0b101, none
and 0b110 (plus `_ZERO_MS`), so the blob holds bit 0: {1}, bit 1: {3}, bit 2: {1, 3}, bit 63: {1, 3}.

Segments are a cache: any may be missing, and a trigger drops one with the first change to any of its executions.
"""

from __future__ import annotations

import re
import struct
import zlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyroaring import BitMap64

from jobstore.language.instants import MIN_US
from jobstore.storage.schema import HOUR_US, SEGMENT_BITS, SEGMENT_KINDS
from jobstore.storage.soundness import Inconsistent

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

Planes = dict[int, BitMap64]
"""For each bit, the bitmap of the executions whose code has it."""

PRESENT: Final = 63
"""The bit that every execution with a code has."""
SLOTS: Final = 1 << SEGMENT_BITS
# The fewest executions of a segment that is written: sparse ids would make too many segments.
FEWEST: Final = SLOTS // 16
# Durations may be negative, codes may not. A CHECK in the table keeps durations above -2**42 ms.
_ZERO_MS: Final = 1 << 42
_MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """How an execution gets its code: the kind's number in the key of a blob, and SQL over the table ``execution``."""

    number: int
    code: str

    def key(self, segment: int) -> int:
        return segment * SEGMENT_KINDS + self.number


KINDS: Final = {
    # One bit for each status instead of its number: the executions of a status are then one ready bitmap.
    "status": Kind(0, "1 << status"),
    "started_at": Kind(1, f"(effective_us - {MIN_US}) / {HOUR_US}"),
    # To the minute: fewer bits than the instant, and few executions share one.
    "created_at": Kind(2, f"(created_us - {MIN_US}) / {_MINUTE_US}"),
    "completed_at": Kind(3, f"(completed_us - {MIN_US}) / {_MINUTE_US}"),
    "duration_ms": Kind(4, f"duration_ms + {_ZERO_MS}"),
    "worker_id": Kind(5, "worker_id"),
    # The first three characters, in order of their code points: 21 bits each, so three fit below bit 63.
    "trace_id": Kind(
        6,
        """CASE WHEN trace_id IS NOT NULL THEN (coalesce(unicode(trace_id), 0) << 42)
        | (coalesce(unicode(substr(trace_id, 2)), 0) << 21) | coalesce(unicode(substr(trace_id, 3)), 0) END""",
    ),
}


def segment_of(execution_id: int) -> int:
    return execution_id >> SEGMENT_BITS


def segments_of(connection: sqlite3.Connection) -> Iterator[int]:
    """Every segment that has executions, in order; one look-up for each."""
    last: int | None = 0
    while True:
        (last,) = connection.execute("SELECT min(id) FROM execution WHERE id > ?", (last,)).fetchone()
        if last is None:
            return
        yield segment_of(last)
        # Continue after the last possible id of this segment.
        last |= SLOTS - 1


def kept_segments(connection: sqlite3.Connection, kind: Kind) -> Iterator[int]:
    """The segments that the file has planes of, unordered."""
    for (key,) in connection.execute("SELECT key FROM segment"):
        if key % SEGMENT_KINDS == kind.number:
            yield key // SEGMENT_KINDS


def read_planes(connection: sqlite3.Connection, kind: Kind, segment: int) -> Planes | None:
    """The planes of a segment as stored in the file; None if it has none. Raises `Inconsistent` for a damaged blob."""
    row = connection.execute("SELECT data FROM segment WHERE key = ?", (kind.key(segment),)).fetchone()
    return None if row is None else _unpacked(row[0])


def make_planes(connection: sqlite3.Connection, kind: Kind, segment: int) -> Planes:
    """The planes of a segment, built from its rows."""
    first = segment << SEGMENT_BITS
    rows = connection.execute(
        f"SELECT id - ?, {kind.code} FROM execution NOT INDEXED WHERE id BETWEEN ? AND ? ORDER BY id",
        (first, first, first + SLOTS - 1),
    )
    return _planes(first, rows.fetchall())


def make_segment(connection: sqlite3.Connection, segment: int) -> list[tuple[int, bytes]]:
    """The keys and blobs of a segment, built from its rows; empty if it has too few executions."""
    first = segment << SEGMENT_BITS
    codes = ", ".join(kind.code for kind in KINDS.values())
    rows = connection.execute(
        f"SELECT id - ?, {codes} FROM execution NOT INDEXED WHERE id BETWEEN ? AND ? ORDER BY id",
        (first, first, first + SLOTS - 1),
    ).fetchall()
    if len(rows) < FEWEST:
        return []
    return [
        (kind.key(segment), _packed(_planes(first, [(row[0], row[kind.number + 1]) for row in rows])))
        for kind in KINDS.values()
    ]


def due_segments(connection: sqlite3.Connection) -> Iterator[int]:
    """The segments without blobs, except the newest."""
    known = {key // SEGMENT_KINDS for (key,) in connection.execute("SELECT key FROM segment")}
    (last_id,) = connection.execute("SELECT coalesce(max(id), 0) FROM execution").fetchone()
    for segment in segments_of(connection):
        # The newest segment is still being written: the next execution would drop its blobs.
        if segment not in known and segment < segment_of(last_id):
            yield segment


def save_segment(connection: sqlite3.Connection, blobs: Iterable[tuple[int, bytes]]) -> None:
    """Write the blobs of a segment, inside the open transaction."""
    connection.executemany("INSERT OR REPLACE INTO segment (key, data) VALUES (?, ?)", blobs)


def save_all_segments(connection: sqlite3.Connection) -> None:
    """Write every segment, inside the open transaction."""
    for segment in list(segments_of(connection)):
        save_segment(connection, make_segment(connection, segment))


def _planes(first: int, rows: Sequence[tuple[int, int | None]]) -> Planes:
    """Planes from slots (ids counted from `first`) in ascending order, and codes.

    All codes lie in one buffer of 64-bit numbers, so the n-th byte of every code is a column: every eighth byte of the
    buffer. Translating a column with a table for one bit turns it into a text of the digits 0 and 1, which Python reads
    as one binary number.

    For example, the codes 5, 6, 4 (0b101, 0b110, 0b100) in the first three slots: their lowest bytes give the digits
    100... for bit 0, 010... for bit 1 and 111... for bit 2.
    """
    # No longer than needed: most stores are far from filling a segment.
    codes = array("Q", bytes(8 * (rows[-1][0] + 1 if rows else 0)))
    for slot, code in rows:
        if code is not None:
            codes[slot] = code | 1 << PRESENT
    buffer = codes.tobytes()
    found = {}
    for byte in range(8):
        column = buffer[byte::8]
        # Most of the eight bytes are zero in every code: one fast pass saves eight translations.
        if column.count(0) < len(column):
            for bit in range(8):
                digits = column.translate(_DIGITS[bit])
                count = digits.count(b"1")
                if count:
                    found[byte * 8 + bit] = _plane(first, digits, count)
    return found


def _plane(first: int, digits: bytes, count: int) -> BitMap64:
    """The bitmap of the slots with the digit 1.

    A dense one is written in roaring's portable format (https://github.com/RoaringBitmap/RoaringFormatSpec) and read
    back: ten times as fast as from a list of ids.
    """
    if count <= _SPARSE:
        return BitMap64([first + found.start() for found in re.finditer(b"1", digits)])
    high, low = first >> 32, first >> 16 & 0xFFFF
    head = _HEAD.pack(1, high, _COOKIE, 1, low, count - 1, 16)
    return BitMap64.deserialize(head + int(digits[::-1], 2).to_bytes(SLOTS // 8, "little"))


# Roaring stores up to this number of values as a list, and more as a bitmap of 8 KiB.
_SPARSE: Final = 4096
# In roaring's format: a set of containers without runs.
_COOKIE: Final = 12346
_HEAD: Final = struct.Struct("<QIIIHHI")
# For each bit, a table that translates a byte into the digit 0 or 1.
_DIGITS: Final = [bytes(48 + (value >> bit & 1) for value in range(256)) for bit in range(8)]
_SUM: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<BI")


def _packed(planes: Planes) -> bytes:
    """The blob: a checksum, then for each plane its bit, its length and roaring's portable bytes."""
    parts = []
    for bit, plane in planes.items():
        plane.run_optimize()
        data = plane.serialize()
        parts += [_ENTRY.pack(bit, len(data)), data]
    body = b"".join(parts)
    return _SUM.pack(zlib.crc32(body)) + body


def _unpacked(data: bytes) -> Planes:
    # Roaring does not validate its input, so a damaged blob must not reach it.
    if len(data) < _SUM.size or zlib.crc32(memoryview(data)[_SUM.size :]) != _SUM.unpack_from(data)[0]:
        raise Inconsistent("a segment of the bitmap index is damaged")
    planes, at = {}, _SUM.size
    while at < len(data):
        bit, length = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        planes[bit] = BitMap64.deserialize(data[at : at + length])
        at += length
    return planes
