"""The writing connection to a file: one transaction at a time, under one lock for all threads and processes.

A new file is completed under another name first, so its path never has half a store.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobstore.language.address import location_of
from jobstore.language.errors import NotAStore, SchemaTooOld, StoreNotFound, StoreUnreadable
from jobstore.language.search import UNICODE_VERSION
from jobstore.replacing import sync_folder, sync_path
from jobstore.storage.connection import Reading, check_is_file, check_is_store, driver_errors, open_file
from jobstore.storage.folders import check_folder, check_not_mounted, folder_gone
from jobstore.storage.forking import check_not_crossed, holders, keep_for_good
from jobstore.storage.limits import (
    LOG_BYTES,
    LOG_PAGES,
    RESERVE_EVERY_SECONDS,
    RESERVED_FROM_BYTES,
    SHORTEN_EVERY_SECONDS,
    SHORTEN_MILLISECONDS,
    WRITER_CACHE_KIB,
)
from jobstore.storage.lock import lock_of
from jobstore.storage.reserve import keep_reserve
from jobstore.storage.schema import APPLICATION_ID, apply_migrations
from jobstore.storage.sidefiles import (
    BY_SQLITE,
    base_of,
    beside,
    identity_of,
    is_open_here,
    look_at,
    may_write,
    remove_left_over,
    share_log,
    size_of,
)
from jobstore.storage.transactions import Transactions, WriterClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobstore.language.address import Where
    from jobstore.storage.lock import FileLock
    from jobstore.storage.sidefiles import Identity

# For ``PRAGMA auto_vacuum``: `Recorder.compact` returns free pages. It must be set before the first table is created.
INCREMENTAL: Final = 2

_log = logging.getLogger("jobstore")


def open_writer(given: Where, *, timezone: str, timeout_seconds: float) -> Transactions:
    """The writer of a file or of a server, depending on what `given` is."""
    location = location_of(given)
    if isinstance(location, Path):
        return Writer(location, timezone=timezone, timeout_seconds=timeout_seconds)
    from jobstore.storage.postgres.writer import PostgresWriter  # needs the driver

    return PostgresWriter(location, timezone=timezone, timeout_seconds=timeout_seconds)


class Writer(Transactions):
    """The writing connection of a recorder to a file; usable from several threads and across forks."""

    path: Path
    lock: FileLock
    driver_error = sqlite3.Error

    def __init__(self, path: str | os.PathLike[str], *, timezone: str = "UTC", timeout_seconds: float) -> None:
        """Open the store at `path`, or create it.

        Args:
            path: the file.
            timezone: of a file that is created.
            timeout_seconds: how long a call waits for other writers.

        Raises:
            StoreError: the file cannot be used, and was left untouched; the child class says why.
        """
        self.path = Path(path)
        self.timeout_seconds = timeout_seconds
        # One lock for a file, whatever name it was opened by.
        self.file = real_path(self.path)
        self.lock = lock_of(self.file)
        self.errors = driver_errors(self.path)
        self._log, self._index = f"{self.file}-wal", f"{self.file}-shm"
        self._connection: sqlite3.Connection | None = None
        self.identity: Identity | None = None
        self._beside: tuple[Identity | None, Identity | None] = (None, None)
        self._size = 0
        self._shorten_due = self._reserve_due = 0.0
        self._is_closed = False
        with driver_errors(self.path):
            check_folder(self.file.parent)
            with self.lock.acquired(timeout_seconds):
                # Inside the lock: of two recorders that start at once, one creates the file. A broken link counts as
                # existing.
                if not os.path.lexists(self.file):
                    create_store(self.file, timezone)
                    self.lock.share()
                self._connect()
                self.lock.add(self)
                keep_reserve(self.file)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with Reading(self.file) as reading:
            yield reading.connection

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction; no other writer can write between what it reads and what it writes."""
        connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        if self._connection is not None:
            self._connection.execute("COMMIT")

    def is_committed(self) -> bool:
        """Whether COMMIT took effect: after it, the connection is no longer in a transaction."""
        return self._connection is not None and not self._connection.in_transaction

    def close(self) -> None:
        if self._is_closed:
            return
        with driver_errors(self.path), self.lock.acquired(self.timeout_seconds):
            self._is_closed = True
            self.drop_if_cut_off(self.file)
            self.disconnect()
            self.lock.remove(self)
            keep_reserve(self.file)

    def disconnect(self) -> None:
        """Close the connection; the last one writes the log back. The next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Leave the connection open and unused, even at interpreter exit.

        Closing it could release locks, remove files, or write back a log that is no longer the newest.
        """
        if self._connection is not None:
            keep_for_good(self._connection)
            self._connection = None

    def drop_if_cut_off(self, file: Path) -> bool:
        """Give the connection up if its log was removed or replaced; inside the lock.

        Until a new log has begun, nothing else has been written since, and the old log can still be written back.
        """
        connection = self._connection
        if connection is None or file != self.file or self._beside == self._found_beside():
            return False
        is_saved = False
        # The old log must not be written back once a newer log holds commits of others.
        if size_of(self._log) == 0:
            with suppress(sqlite3.Error):
                (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                is_saved = not busy
        if is_saved:
            self.disconnect()
        else:
            self.abandon()
        return True

    def current(self) -> sqlite3.Connection:
        """The connection, opened again if there is none or another file has taken the path; inside the lock."""
        if self._is_closed:
            raise WriterClosed(f"The recorder of {self.path} is closed; open another")
        found = look_at(self.file)
        if found is None:
            raise StoreNotFound(f"{self.path} was removed while it was being recorded to; put it back")
        self._size = found.st_size
        self._forget_closed()
        # Another file is at the path now, as after 'jobstore restore': this connection still writes to the old one.
        if self._connection is not None and self.identity != (found.st_dev, found.st_ino):
            self.disconnect()
            refuse_left_over(self.file)
        if self.drop_if_cut_off(self.file):
            _cut_off.add((found.st_dev, found.st_ino))
            raise self._no_log()
        if self._connection is None:
            return self._connect()
        self.roll_back()  # what an interrupted call left open
        return self._connection

    def _forget_closed(self) -> None:
        """Forget a connection that was collected, and so closed, before an object that still records."""
        try:
            _ = self._connection is not None and self._connection.in_transaction
        except sqlite3.ProgrammingError:
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        # Checks without a connection come first: SQLite must not create files beside a file that is not a store.
        check_is_file(self.file)
        _check_may_write(self.file)
        self._check_not_cut_off()
        remove_left_over(self.file)
        _check_header(self.file)
        connection = open_file(self.file, "mode=rw", self.timeout_seconds)
        try:
            _prepare(connection, self.path)
        except BaseException:
            connection.close()
            raise
        # After SQLite's first look at its log: only then do both side files exist.
        share_log(self.file)
        self.identity, self._beside = identity_of(self.file), self._found_beside()
        self._connection = connection
        return connection

    def _check_not_cut_off(self) -> None:
        """Raise if this process still has the file open with a removed log: a new connection would share its index."""
        identity = identity_of(self.file) or (0, 0)
        check_not_crossed(self.path, identity)
        if sum(holder.drop_if_cut_off(self.file) for holder in holders()):
            _cut_off.add(identity)
        # Once this process has closed every connection, the old index is gone from memory and the file is usable again.
        if identity in _cut_off:
            if is_open_here(identity):
                raise self._no_log()
            _cut_off.discard(identity)

    def _no_log(self) -> StoreUnreadable:
        return StoreUnreadable(
            f"{self._log} or {self._index} was removed or replaced while {self.path} was being recorded to; restart "
            "every process that has the store open, and replace a store only with 'jobstore restore'"
        )

    def _found_beside(self) -> tuple[Identity | None, Identity | None]:
        return identity_of(self._log), identity_of(self._index)

    def tidy(self) -> None:
        """Do periodic maintenance after a commit: shorten the log, and make the reserve of a store that has grown."""
        now, connection = time.monotonic(), self._connection
        # Nearly every commit returns here, without looking at the disk.
        if now < min(self._shorten_due, self._reserve_due) or connection is None:
            return
        log_bytes = size_of(self._log)
        if now >= self._shorten_due and log_bytes > LOG_BYTES:
            self._shorten_due = now + SHORTEN_EVERY_SECONDS
            try:
                self.shorten_log(connection)
            except sqlite3.Error:
                _log.info("the log of %s could not be checkpointed; this will be tried again", self.path)
        if now >= self._reserve_due and self._size + log_bytes >= RESERVED_FROM_BYTES:
            self._reserve_due = now + RESERVE_EVERY_SECONDS
            keep_reserve(self.file)

    def shorten_log(self, connection: sqlite3.Connection) -> None:
        """Write the log back and free its space, once the current readers are done; inside the turn."""
        # A shorter timeout than the writer's own: a reader may take minutes, and other recorders wait meanwhile.
        connection.execute(f"PRAGMA busy_timeout = {SHORTEN_MILLISECONDS}")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(self.timeout_seconds * 1000)}")

    def roll_back(self) -> None:
        """Undo the open transaction; give up a connection that cannot."""
        connection = self._connection
        try:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self.disconnect()


_cut_off: set[Identity] = set()
"""Files whose log was removed while this process had them open."""


def real_path(path: Path) -> Path:
    """The real path of a file: SQLite follows symbolic links, and the lock must lie beside the file.

    Raises:
        StoreNotFound: the path contains a NUL character.
        StoreUnreadable: the path is relative, and the current folder no longer exists.
        NotAStore: it is the root folder.
    """
    try:
        real = Path(os.path.realpath(path))
    except ValueError:
        raise StoreNotFound("The path of the job store contains a NUL character; give the path of a file") from None
    except FileNotFoundError:
        raise folder_gone(path) from None
    if not real.name:
        raise NotAStore(f"{path} is not a regular file; give the path of a job store")
    return real


def refuse_side_name(file: Path) -> None:
    """Raise `StoreUnreadable` if a new store would be named like a side file of an existing file."""
    base = base_of(file)
    if base is not None:
        raise StoreUnreadable(f"{file} is named like a side file of {base}; choose another name")


def refuse_left_over(file: Path) -> None:
    """Raise `StoreUnreadable` where SQLite would apply an old log to a new file."""
    for log in (beside(file, "-wal"), beside(file, "-journal")):
        if size_of(log):
            raise StoreUnreadable(
                f"{log} belongs to a file that is no longer at {file}; put that file back, or remove the log"
            )


def create_store(file: Path, timezone: str) -> None:
    """Create an empty store at `file`, completely or not at all; the caller holds the lock and saw no file there."""
    refuse_side_name(file)
    refuse_left_over(file)
    # In the same folder, so that the rename is atomic within one file system.
    making = file.with_name(f".{file.name}.new")
    make_room(making)  # a process may have died here
    connection = open_file(making, "mode=rwc")
    try:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        apply_schema(connection)
        write_settings(connection, timezone)
        connection.execute("COMMIT")
        # Closing would do the same but hide a failure, and the log does not follow the renamed file.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.close()
        move_into_place(making, file)
    except BaseException:
        connection.close()
        remove_store(making)
        raise


def apply_schema(connection: sqlite3.Connection) -> None:
    """Create or upgrade the tables to this version, inside the open transaction."""
    from sqlite_utils import Database  # slow to import, and most stores need no change

    apply_migrations(Database(connection, execute_plugins=False))


def write_settings(connection: sqlite3.Connection, timezone: str) -> None:
    connection.executemany(
        "INSERT INTO setting (key, value) VALUES (?, ?)",
        [("timezone", timezone), ("unicode_version", UNICODE_VERSION)],
    )


def move_into_place(made: Path, file: Path) -> None:
    """Rename a finished, closed store into place, durably."""
    # Contents before the name, folder after it: otherwise a power cut could leave the name with half a file.
    sync_path(made)
    made.rename(file)
    sync_folder(file.parent)


def make_room(making: Path) -> None:
    """Remove what has the name of a file to be made, and those of SQLite's files beside it.

    Raises:
        StoreUnreadable: one cannot be removed.
        OSError: such a name would be too long.
    """
    for suffix in ("", *BY_SQLITE):
        found = beside(making, suffix)
        try:
            found.unlink(missing_ok=True)
        except OSError as error:
            if os.path.lexists(found):
                raise StoreUnreadable(f"{found} is in the way: {error.strerror}; remove it first") from error
            raise


def remove_store(file: Path) -> None:
    """Remove an unused store with the files that SQLite keeps beside it; best effort, often after an error."""
    for suffix in ("", *BY_SQLITE):
        with suppress(OSError):
            beside(file, suffix).unlink(missing_ok=True)


def _check_may_write(file: Path) -> None:
    """Refuse a file that is mounted by itself, or read-only to this user."""
    check_not_mounted(file)
    if not may_write(file):
        raise StoreUnreadable(f"{file} is not writable by this user; check its permissions")


def _check_header(file: Path) -> None:
    """Refuse a foreign file before opening it in a way that could create files beside it.

    Without its log, a file in the middle of being written back looks damaged, so only its first page is judged here.
    """
    # Immutable: SQLite then creates no file beside it and takes no lock.
    with closing(open_file(file, "mode=ro&immutable=1")) as connection:
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise
            return
        if application != APPLICATION_ID:
            raise NotAStore(f"{file} is a SQLite database but not a job store; give the path of a job store")
        with suppress(SchemaTooOld):
            check_is_store(connection, file)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Configure the connection, and upgrade the file if it is of an older version."""
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Both are off by default. With this one, INSERT OR REPLACE fires the delete triggers, so counters stay exact.
    connection.execute("PRAGMA recursive_triggers = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    try:
        check_is_store(connection, path)
    except SchemaTooOld:
        connection.execute("BEGIN IMMEDIATE")
        try:
            apply_schema(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    # Verified, because where shared memory fails, SQLite answers with another mode and no error.
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnreadable(f"{path} cannot keep a write-ahead log here; keep a job store on a local disk")
    connection.execute("PRAGMA user_version").fetchone()  # creates the log, if the file was in another mode until now
