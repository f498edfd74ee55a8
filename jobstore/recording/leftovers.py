"""Work after a prune: delete texts that no execution uses any more, and write due segments of the bitmap index."""

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
    """Delete the parameters and worker ids that no execution uses any more.

    One pass over a snapshot finds them, without the lock. Under the lock only executions that have changed since are
    checked; if the change log cannot tell which, nothing is deleted and a later prune tries again.
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
        connection.execute("PRAGMA foreign_keys = OFF")  # else each deleted key is looked up in every execution
        try:
            connection.execute("BEGIN IMMEDIATE")
            _delete_unused(connection, unused, changed_since(connection, point, writer.identity))
            connection.execute("COMMIT")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            writer.roll_back()
            writer.disconnect()  # the next connection checks foreign keys again
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
    """A moment in the life of a file: the file, its schema version, and the end of its change log."""

    identity: Identity
    schema: int
    seq: int


def point_of(reading: Reading) -> Point:
    (seq,) = reading.connection.execute("SELECT coalesce(max(seq), 0) FROM change").fetchone()
    return Point(reading.identity, schema_version(reading.connection), seq)


def changed_since(connection: sqlite3.Connection, point: Point, identity: Identity | None) -> set[int] | None:
    """The executions of a file that were added, changed or deleted since a point.

    Returns:
        None if the log cannot tell: it no longer reaches back to the point, or belongs to another file. A restored file
        has its own log, which may even extend past the point.
    """
    oldest, newest = connection.execute("SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM change").fetchone()
    if (identity, schema_version(connection)) != point[:2] or not oldest - 1 <= point.seq <= newest:
        return None
    sql = "SELECT execution_id FROM change WHERE seq > ? AND execution_id IS NOT NULL"
    return {number for (number,) in connection.execute(sql, (point.seq,))}


def flush_segments(writer: Transactions, deadline: float | None) -> None:
    """Write the segments of the bitmap index that are due; none is started after the deadline.

    Building one takes a tenth of a second, so it happens in a snapshot without the lock; the segment is then written if
    nothing in it has changed since. Failures are logged: nothing is lost, readers use the rows instead.
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
