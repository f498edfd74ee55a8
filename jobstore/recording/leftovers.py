"""What a prune leaves behind: words that no execution has any more, and segments of the bitmap index that are due."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from jobstore.language.errors import JobStoreError
from jobstore.language.models import STATUS_CODES, Status
from jobstore.storage.connection import Reading
from jobstore.storage.schema import IS_NO_SUCCESS
from jobstore.storage.segments import due_segments, is_unchanged, make_segment, save_segment
from jobstore.storage.writer import Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from jobstore.storage.transactions import Transactions

_log = logging.getLogger("jobstore")
_RUNNING, _PENDING = STATUS_CODES[Status.RUNNING], STATUS_CODES[Status.PENDING]


def forget_unused(writer: Transactions) -> None:
    """Delete the parameters and worker ids that no execution has any more.

    One pass over the executions finds them, in a snapshot and without the lock; under the lock only those are looked
    at again that may have changed since.
    """
    if not isinstance(writer, Writer):
        writer.forget_unused()
        return
    with Reading(writer.file) as reading:
        reader = reading.connection
        unused = _unused(reader, "parameter_set", "parameter_set_id"), _unused(reader, "worker", "worker_id")
        (newest,) = reader.execute("SELECT coalesce(max(id), 0) FROM execution").fetchone()
        changing = [
            key
            for (key,) in reader.execute(
                f"SELECT id FROM execution WHERE {IS_NO_SUCCESS} AND status IN ({_RUNNING}, {_PENDING})"
            )
        ]
    if any(unused):
        with writer.held() as connection:
            connection.execute("PRAGMA foreign_keys = OFF")  # each deleted key would be looked for in every execution
            try:
                _delete_unused(connection, *unused, newest, changing)
            finally:
                connection.execute("PRAGMA foreign_keys = ON")


def _unused(reader: sqlite3.Connection, table: str, key: str) -> set[int]:
    kept = {found for (found,) in reader.execute(f"SELECT {key} FROM {table}")}
    return kept - {found for (found,) in reader.execute(f"SELECT DISTINCT {key} FROM execution")} if kept else kept


def _delete_unused(
    connection: sqlite3.Connection, sets: set[int], workers: set[int], newest: int, changing: Sequence[int]
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = connection.execute(
            "SELECT parameter_set_id, worker_id FROM execution WHERE id > ?", (newest,)
        ).fetchall()
        for key in changing:
            rows += connection.execute("SELECT parameter_set_id, worker_id FROM execution WHERE id = ?", (key,))
        for table, unused, position in (("parameter_set", sets, 0), ("worker", workers, 1)):
            keys = [(key,) for key in unused - {row[position] for row in rows}]
            connection.executemany(f"DELETE FROM {table} WHERE {table}_id = ?", keys)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def flush_segments(writer: Transactions, deadline: float | None) -> None:
    """Write the segments of the bitmap index that are due; none begins after the deadline.

    They are made from a snapshot without the lock, since that takes a tenth of a second each, and written at once, if
    nothing in them has changed since. What fails is logged: nothing is lost, readers use the rows instead.
    """
    if not isinstance(writer, Writer):
        return  # a server keeps no bitmaps
    try:
        with Reading(writer.path) as reading:
            due = list(due_segments(reading.connection))
        for segment in due:
            if deadline is not None and time.monotonic() >= deadline:
                return
            with Reading(writer.path) as reading:
                (seq,) = reading.connection.execute("SELECT coalesce(max(seq), 0) FROM change").fetchone()
                blobs = make_segment(reading.connection, segment)
            with writer.transaction() as connection:
                if blobs and is_unchanged(connection, segment, seq):
                    save_segment(connection, blobs)
    except JobStoreError as error:
        _log.warning("the bitmap index of %s could not be written: %s", writer.path, error)
