"""Disk space: shrink a file after a prune, and prune on a full disk."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from jobstore.language.errors import InvalidParameter, StoreFull
from jobstore.recording.prune import PAUSE_SECONDS, Chooser, delete_executions
from jobstore.storage.reserve import give_up_reserve, keep_reserve
from jobstore.storage.writer import INCREMENTAL, Writer

if TYPE_CHECKING:
    import sqlite3

    from jobstore.recording.prune import Progress, Rules
    from jobstore.storage.transactions import Transactions

EMERGENCY_BATCH: Final = 20
COMPACTED_PAGES: Final = 50
"""Pages that one step of `compact` moves."""


def file_writer(writer: Transactions, task: str, instead: str) -> Writer:
    """The writer of a file.

    Raises:
        InvalidParameter: the store is on a server; the message says what to do `instead`.
    """
    if not isinstance(writer, Writer):
        raise InvalidParameter(f"{task} works only on a file, but this store is on a PostgreSQL server; {instead}")
    return writer


def compact(writer: Writer, progress: Progress | None) -> int:
    """Return free pages to the disk, a few at a time; returns how many bytes the file shrank."""
    with writer.held() as connection:
        (kind,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        begin = _pages(connection)
        if kind != INCREMENTAL:  # a file of the first format: rewrite it once, while others wait
            connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
            connection.execute("VACUUM")
    pages, left = begin, True
    while left:
        with writer.transaction() as connection:
            connection.execute(f"PRAGMA incremental_vacuum({COMPACTED_PAGES})").fetchall()
            before, pages = pages, _pages(connection)
            left = pages < before and connection.execute("PRAGMA freelist_count").fetchone() != (0,)
        if progress is not None and pages < before:
            progress((before - pages) * page_size)
        time.sleep(PAUSE_SECONDS)
    with writer.held() as connection:
        writer.shorten_log(connection)
    return int((begin - pages) * page_size)


def _pages(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return int(pages)


def prune_emergency(writer: Writer, bounds: Rules | None, progress: Progress | None) -> int:
    """Prune on a full disk, in the space of the reserve; without bounds, only free the reserve.

    The log is checkpointed after each small batch, so it never needs more space than one batch. A reader that keeps the
    log from being freed is waited for only once there is no space left.

    Raises:
        StoreFull: there is not even enough space to delete one execution.
    """
    give_up_reserve(writer.file)
    with writer.held() as connection:
        writer.shorten_log(connection)
    gone, batch, chooser = 0, EMERGENCY_BATCH, None
    while bounds is not None and (chooser is None or not chooser.is_done):
        chooser = chooser or Chooser(bounds)
        try:
            with writer.transaction() as connection:
                chooser.turn_to(writer.identity, connection)
                ones = chooser.next_ones(connection, batch)
                delete_executions(connection, ones)
        except StoreFull:
            if batch == 1:
                raise
            batch, chooser = batch // 2, None  # what it chose was not deleted: choose again
            with suppress(StoreFull), writer.held() as connection:  # a reader may keep the log from being freed: wait
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            continue
        with writer.held() as connection:
            writer.shorten_log(connection)
        gone += len(ones)
        if progress is not None and ones:
            progress(len(ones))
    keep_reserve(writer.file)
    return gone
