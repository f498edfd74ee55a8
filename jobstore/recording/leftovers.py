"""What a prune leaves behind: words that no execution has any more, and segments of the bitmap index that are due."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from jobstore.language.errors import JobStoreError
from jobstore.storage.connection import Reading
from jobstore.storage.rows import in_chunks, marks, schema_version
from jobstore.storage.segments import due_segments, make_segment, save_segment, segment_of
from jobstore.storage.writer import Writer

if TYPE_CHECKING:
    import sqlite3

    from jobstore.storage.sidefiles import Identity
    from jobstore.storage.transactions import Transactions

_log = logging.getLogger("jobstore")
_DICTIONARIES = ("parameter_set", "worker")


def forget_unused(writer: Transactions) -> None:
    """Delete the parameters and worker ids that no execution has any more.

    One pass over the executions finds them, in a snapshot and without the lock; under the lock only executions that
    have changed since are looked at. Where the log does not tell which, a later prune tries again.
    """
    if not isinstance(writer, Writer):
        writer.forget_unused()
        return
    with Reading(writer.file) as reading:
        point = point_of(reading)
        unused = [_unused(reading.connection, table) for table in _DICTIONARIES]
    if not any(unused):
        return
    with writer.held() as connection:
        connection.execute("PRAGMA foreign_keys = OFF")  # each deleted key would be looked for in every execution
        try:
            connection.execute("BEGIN IMMEDIATE")
            _delete_unused(connection, unused, changed_since(connection, point, writer.identity))
            connection.execute("COMMIT")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            writer.roll_back()
            writer.disconnect()  # the next one checks foreign keys again
            raise


def _unused(reader: sqlite3.Connection, table: str) -> set[int]:
    kept = {key for (key,) in reader.execute(f"SELECT {table}_id FROM {table}")}
    return kept - {key for (key,) in reader.execute(f"SELECT DISTINCT {table}_id FROM execution")} if kept else kept


def _delete_unused(connection: sqlite3.Connection, unused: list[set[int]], changed: set[int] | None) -> None:
    if changed is None:
        return
    for table, keys in zip(_DICTIONARIES, unused, strict=True):
        for some in in_chunks(changed):
            keys -= {
                key
                for (key,) in connection.execute(f"SELECT {table}_id FROM execution WHERE id IN ({marks(some)})", some)
            }
        connection.executemany(f"DELETE FROM {table} WHERE {table}_id = ?", [(key,) for key in keys])


class Point(NamedTuple):
    """A moment in the life of a file: which file, the version of its schema, and where its change log was."""

    identity: Identity
    schema: int
    seq: int


def point_of(reading: Reading) -> Point:
    """That of a snapshot."""
    (seq,) = reading.connection.execute("SELECT coalesce(max(seq), 0) FROM change").fetchone()
    return Point(reading.identity, schema_version(reading.connection), seq)


def changed_since(connection: sqlite3.Connection, point: Point, identity: Identity | None) -> set[int] | None:
    """The executions of a file that were added, changed or deleted since a point.

    Returns:
        None where the log does not tell: it is cut off there, or another file's. One that was restored has a log of its
        own, which may well reach beyond the point.
    """
    oldest, newest = connection.execute("SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM change").fetchone()
    if (identity, schema_version(connection)) != point[:2] or not oldest - 1 <= point.seq <= newest:
        return None
    sql = "SELECT execution_id FROM change WHERE seq > ? AND execution_id IS NOT NULL"
    return {number for (number,) in connection.execute(sql, (point.seq,))}


def flush_segments(writer: Transactions, deadline: float | None) -> None:
    """Write the segments of the bitmap index that are due; none begins after the deadline.

    They are made from a snapshot without the lock, since that takes a tenth of a second each, and written at once, if
    nothing in them has changed since. What fails is logged: nothing is lost, readers use the rows instead.
    """
    if not isinstance(writer, Writer):
        return  # a server keeps no bitmaps
    try:
        with Reading(writer.file) as reading:
            due = list(due_segments(reading.connection))
        for segment in due:
            if deadline is not None and time.monotonic() >= deadline:
                return
            with Reading(writer.file) as reading:
                point = point_of(reading)
                blobs = make_segment(reading.connection, segment)
            with writer.transaction() as connection:
                changed = changed_since(connection, point, writer.identity)
                if blobs and changed is not None and segment not in map(segment_of, changed):
                    save_segment(connection, blobs)
    except JobStoreError as error:
        _log.warning("the bitmap index of %s could not be written: %s", writer.path, error)
