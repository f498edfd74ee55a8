"""The blobs of the bitmap index: what goes in comes out, and what is damaged is told."""

from __future__ import annotations

import random
import sqlite3
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.storage import segments
from jobstore.storage.segments import KINDS, PRESENT, SLOTS, make_planes, make_segment, read_planes, save_segment
from tests.property import skewed

if TYPE_CHECKING:
    from pathlib import Path

FIRST = (1 << 40) + 5 * SLOTS
TRACES = [None, "a", "ab", "abc", "abd", "b", "zz", "é", "时间", "\U0001f600", "\U0010ffff\U0010ffff\U0010ffff"]


def open_store(path: Path, source: random.Random, count: int, spread: int) -> sqlite3.Connection:
    world = skewed.world(3, count)
    for number, document in enumerate(world["executions"]):
        document["id"] = str(FIRST + number * spread)
        document["trace_id"] = source.choice(TRACES)
        document["duration_ms"] = source.choice([None, 0, 1, -5, (1 << 42) - 1, 1 - (1 << 42), source.randrange(10**6)])
    jobstore.load(path, world)
    connection = sqlite3.connect(path)
    connection.execute("BEGIN")
    return connection


@pytest.mark.parametrize("spread", [1, 3])
def test_every_bit_of_every_kind_is_that_of_the_rows(tmp_path: Path, spread: int) -> None:
    """More than 4,096 executions, so that planes are kept both as lists and as bits."""
    connection = open_store(tmp_path / "jobs.db", random.Random(spread), 6_000, spread)
    segment = segments.segment_of(FIRST)
    save_segment(connection, make_segment(connection, segment))
    for name, kind in KINDS.items():
        planes = read_planes(connection, kind, segment)
        assert planes == make_planes(connection, kind, segment)
        assert planes is not None
        for number, code in connection.execute(f"SELECT id, {kind.code} FROM execution"):
            found = {bit for bit, plane in planes.items() if number in plane}
            assert found == (
                {bit for bit in range(63) if code >> bit & 1} | {PRESENT} if code is not None else set()
            ), name
    connection.close()


def test_codes_of_traces_and_durations_are_in_the_order_of_their_keys(tmp_path: Path) -> None:
    connection = open_store(tmp_path / "jobs.db", random.Random(1), 500, 1)
    for name in ("trace_id", "duration_ms"):
        rows = connection.execute(
            f"SELECT {name}, {KINDS[name].code} FROM execution WHERE {name} IS NOT NULL ORDER BY {name}"
        ).fetchall()
        codes = [code for _, code in rows]
        assert codes == sorted(codes)
        assert min(codes) >= 0
        assert len(set(codes)) > 5
    connection.close()


def test_a_damaged_blob_is_a_value_error_and_no_crash(tmp_path: Path) -> None:
    connection = open_store(tmp_path / "jobs.db", random.Random(2), 5_000, 1)
    segment = segments.segment_of(FIRST)
    save_segment(connection, make_segment(connection, segment))
    kind = KINDS["duration_ms"]
    (data,) = connection.execute("SELECT data FROM segment WHERE key = ?", (kind.key(segment),)).fetchone()
    for broken in (
        b"",
        b"short"[:3],
        data[:-1],
        data[:100] + b"\xff" + data[101:],
        bytes(len(data) // 2)[1:] + b"\x01",
    ):
        connection.execute("UPDATE segment SET data = ? WHERE key = ?", (broken, kind.key(segment)))
        with pytest.raises(ValueError, match="damaged"):
            read_planes(connection, kind, segment)
    connection.close()
