"""Sealing: writing the digests of chunks that are complete, and of those that changed since they had one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobstore.engine import digests
from jobstore.engine.chunks import ids_of, open_chunks, rows_of, sealed_chunks, trace_scale_of
from jobstore.engine.digests import CHUNK
from jobstore.storage.schema import CHUNK_BITS, DIGEST_PARTS, SEALED_FROM, SPAN_ALL

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

SEALED_EVERY: Final = CHUNK // 4
"""A recorder looks for chunks to seal after so many executions, which the newest sealed one is behind at least."""
FEWEST_RUNS: Final = 256
"""Of a chunk on average: where ids lie farther apart there would be too many digests."""


def seal_one(connection: sqlite3.Connection) -> bool:
    """Seals the oldest chunk that is due, inside the transaction that is open; whether there was one."""
    chunk = next(due(connection, SEALED_EVERY), None)
    if chunk is None:
        return False
    seal(connection, chunk, _trace_code(connection))
    return True


def seal_all(connection: sqlite3.Connection) -> None:
    """Seals every chunk, the one that is not full among them."""
    trace_code = None
    for chunk in list(due(connection, -CHUNK)):
        trace_code = trace_code or _trace_code(connection)
        seal(connection, chunk, trace_code)


def due(connection: sqlite3.Connection, distance: int) -> Iterator[int]:
    """The chunks without a digest that end so many ids before the last, oldest first; a look-up for each gap."""
    (everything,) = connection.execute(
        "SELECT coalesce(sum(runs), 0) FROM period_tally WHERE span = ? AND period = 0", (SPAN_ALL,)
    ).fetchone()
    if everything < SEALED_FROM:
        return
    first_id, last_id = connection.execute(
        "SELECT (SELECT min(id) FROM execution), (SELECT max(id) FROM execution)"
    ).fetchone()
    if (last_id - first_id >> CHUNK_BITS) * FEWEST_RUNS > everything:
        return
    for chunk in open_chunks(connection, sealed_chunks(connection)):
        if ids_of(chunk)[1] > last_id - distance:
            return
        yield chunk


def seal(connection: sqlite3.Connection, chunk: int, trace_code: Callable[[str | None], int | None]) -> None:
    """Writes the digest of a chunk."""
    parts = digests.digest(rows_of(connection, chunk), trace_code)
    connection.executemany(
        "INSERT INTO digest (key, data) VALUES (?, ?)",
        [(chunk * DIGEST_PARTS + part, data) for part, data in parts.items()],
    )


def _trace_code(connection: sqlite3.Connection) -> Callable[[str | None], int | None]:
    """By the scale of the file, which is set when its first chunk is sealed; later traces may share more codes."""
    scale = trace_scale_of(connection)
    if scale is None:
        first, last = connection.execute(
            "SELECT (SELECT min(trace_id) FROM execution), (SELECT max(trace_id) FROM execution)"
        ).fetchone()
        some = connection.execute("SELECT trace_id FROM execution NOT INDEXED LIMIT ?", (CHUNK,))
        scale = digests.trace_scale(first, last, (trace_id for (trace_id,) in some))
        if first is not None:
            connection.executemany(
                "INSERT INTO setting (key, value) VALUES (?, ?)",
                [("trace_prefix", scale.prefix), ("trace_digits", scale.digits)],
            )
    return scale.coder()
