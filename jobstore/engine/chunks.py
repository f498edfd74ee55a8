"""Chunks of executions in the file: their ids, their rows, and their digests where they have them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from jobstore.engine import digests
from jobstore.engine.counters import in_chunks
from jobstore.engine.digests import ROW_SELECT, About, Row, TraceScale
from jobstore.storage.schema import CHUNK_BITS, DIGEST_PARTS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator


def chunk_of(row_id: int) -> int:
    """The chunk of an execution."""
    return row_id >> CHUNK_BITS


def ids_of(chunk: int) -> tuple[int, int]:
    """The first and the last id of a chunk."""
    return chunk << CHUNK_BITS, ((chunk + 1) << CHUNK_BITS) - 1


def planes_of(ids: list[int]) -> dict[int, int]:
    """The planes of executions by chunk."""
    return {
        chunk: digests.plane_of_slots(map(digests.slot_of, members))
        for chunk, members in groupby(sorted(ids), key=chunk_of)
    }


def sealed_chunks(connection: sqlite3.Connection) -> dict[int, About]:
    """The chunks that have a digest; a line for each."""
    rows = connection.execute(f"SELECT key, data FROM digest WHERE key % {DIGEST_PARTS} = {digests.ABOUT}")
    return {key // DIGEST_PARTS: digests.unpack_about(data) for key, data in rows}


def open_chunks(connection: sqlite3.Connection, sealed: Iterable[int]) -> Iterator[int]:
    """The chunks that hold executions and have no digest, in order; a look-up for each, and for each gap."""
    is_sealed, chunk = frozenset(sealed), 0
    while True:
        while chunk in is_sealed:
            chunk += 1
        (row_id,) = connection.execute("SELECT min(id) FROM execution WHERE id >= ?", (chunk << CHUNK_BITS,)).fetchone()
        if row_id is None:
            return
        chunk = chunk_of(row_id)
        if chunk not in is_sealed:
            yield chunk
            chunk += 1


def about_of(connection: sqlite3.Connection, chunk: int) -> About:
    """The bounds of a chunk without a digest: each of its rows is looked at."""
    sql = "SELECT count(*), min(effective_us), max(effective_us) FROM execution NOT INDEXED WHERE id BETWEEN ? AND ?"
    return About(*connection.execute(sql, ids_of(chunk)).fetchone())


def rows_of(connection: sqlite3.Connection, chunk: int) -> list[Row]:
    """The executions of a chunk, as plain tuples."""
    return connection.execute(f"{ROW_SELECT} WHERE id BETWEEN ? AND ?", ids_of(chunk)).fetchall()


def rows_by_id(connection: sqlite3.Connection, ids: list[int]) -> Iterator[Row]:
    """Those of these executions that are there."""
    for some in in_chunks(ids):
        yield from map(Row._make, connection.execute(f"{ROW_SELECT} WHERE id IN ({','.join('?' * len(some))})", some))


def blob_of(connection: sqlite3.Connection, chunk: int, part: int) -> bytes | None:
    """A part of a chunk's digest, if it has one."""
    row = connection.execute("SELECT data FROM digest WHERE key = ?", (chunk * DIGEST_PARTS + part,)).fetchone()
    return None if row is None else row[0]


def worker_ranks(connection: sqlite3.Connection) -> list[int | None]:
    """The rank of each worker's name, from 1, by the worker's key; none for no worker."""
    keys = [key for (key,) in connection.execute("SELECT worker_id FROM worker ORDER BY name")]
    ranks: list[int | None] = [None] * (max(keys, default=0) + 1)
    for rank, key in enumerate(keys, 1):
        ranks[key] = rank
    return ranks


def trace_scale_of(connection: sqlite3.Connection) -> TraceScale | None:
    """The scale that the digests of a file have; None: none of them has met a trace id."""
    row = connection.execute(
        """
        SELECT prefix.value, digits.value FROM setting AS prefix JOIN setting AS digits ON digits.key = 'trace_digits'
        WHERE prefix.key = 'trace_prefix'
        """
    ).fetchone()
    return None if row is None else TraceScale._make(row)
