"""The writing connection: one transaction at a time, under one lock for all threads and processes.

Whatever writes to a store, its checkpoints included, does so inside `Writer.transaction`. A new file
is made whole under another name first, so there is never half a store at its path.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobstore.language.errors import Conflict, NotAStore, SchemaTooOld, StoreNotFound, StoreUnreadable
from jobstore.language.search import UNICODE_VERSION
from jobstore.storage.connection import check_is_file, check_is_store, driver_errors
from jobstore.storage.folders import check_folder
from jobstore.storage.lock import gate_of
from jobstore.storage.schema import APPLICATION_ID, apply_migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS: Final = 10.0
CACHE_KIB: Final = 16 * 1024
WRITTEN_BACK_PAGES: Final = 2_000
"""Pages of the log after which SQLite writes it back and begins anew; with half of that, recorders wait more often."""
LOG_BYTES: Final = 16 * 1024 * 1024
"""The log is usually half of that; only readers that never pause, or a large prune, let it grow."""
INCREMENTAL: Final = 2
"""Of ``PRAGMA auto_vacuum``: free pages are given back when `Recorder.compact` says so."""
SHORTEN_EVERY_SECONDS: Final = 0.5
SHORTEN_MILLISECONDS: Final = 100

_log = logging.getLogger("jobstore")
_abandoned: list[sqlite3.Connection] = []
"""Connections that crossed a fork after all, or whose file lost its name to another one."""


class Outcome:
    """Whether a transaction was committed, also where an exception came between SQLite's answer and the next line."""

    __slots__ = ("is_committed",)

    def __init__(self) -> None:
        self.is_committed = False


class Writer:
    """The one writing connection of a recorder; safe from several threads, and across forks."""

    def __init__(self, path: str | os.PathLike[str], *, timezone: str = "UTC", timeout_seconds: float) -> None:
        """Opens the store at `path`, or makes it.

        Args:
            path: the file.
            timezone: of a file that is made.
            timeout_seconds: how long a call waits for other writers.

        Raises:
            StoreError: or the child that says why the file cannot be used; it is untouched then.
        """
        self.path = Path(path)
        self._timeout_seconds = timeout_seconds
        self.file = real_path(self.path)
        self._gate = gate_of(self.file)
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._log = f"{self.file}-wal"
        self._shorten_due = 0.0
        self._is_closed = False
        check_folder(self.file.parent)
        with self._held():
            if not os.path.lexists(self.file):
                create_store(self.file, timezone)
            self._connect()
            self._gate.join(self)

    @contextmanager
    def transaction(
        self, outcome: Outcome | None = None, timeout_seconds: float | None = None
    ) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed and on the disk at the end, rolled back by any exception.

        Args:
            outcome: is told of the commit.
            timeout_seconds: how long to wait for others; the writer's own time-out unless given.

        Raises:
            StoreBusy: others have been writing for longer than the time-out.
            StoreError: the file cannot be written.
        """
        outcome = outcome or Outcome()
        patience = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        with driver_errors(self.path), self._gate.passed(max(0.0, patience)):
            self._check_open()
            connection = self._current()
            connection.execute("BEGIN IMMEDIATE")
            is_ending = False
            try:
                yield connection
                is_ending = True
                connection.execute("COMMIT")
                outcome.is_committed = True
            except sqlite3.Error:
                self._roll_back(connection)
                raise
            except BaseException:
                # Between two calls no exception can come: this line sees what COMMIT did.
                outcome.is_committed = is_ending and not connection.in_transaction
                self._roll_back(connection)
                raise
            self._shorten_log(connection)

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """The connection outside of a transaction, under the same lock: for checkpoints and backups."""
        with self._held():
            yield self._current()

    def close(self) -> None:
        """Lets go of the file; closing twice does nothing."""
        if self._is_closed:
            return
        with self._held():
            self._is_closed = True
            self.disconnect()
            self._gate.part(self)

    def disconnect(self) -> None:
        """Closes the connection, and with the last one writes the log back; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Leaves the connection open and unused: closing it could release locks, or remove files, of others."""
        if self._connection is not None:
            _abandoned.append(self._connection)
            self._connection = None

    @contextmanager
    def _held(self) -> Iterator[None]:
        with driver_errors(self.path), self._gate.passed(self._timeout_seconds):
            self._check_open()
            yield

    def _check_open(self) -> None:
        if self._is_closed:
            raise Conflict(f"The recorder of {self.path} is closed; open another")

    def _current(self) -> sqlite3.Connection:
        """The connection, opened again if there is none or another file has taken the path."""
        try:
            found = os.stat(self.file)  # noqa: PTH116 - on the hot path
        except FileNotFoundError:
            raise StoreNotFound(f"{self.path} has been removed while it was recorded to; put it back") from None
        if self._connection is not None:
            if self._identity == (found.st_dev, found.st_ino):
                return self._connection
            self.abandon()
            refuse_left_over(self.file)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        check_is_file(self.file)
        _check_links(self.file)
        _check_header(self.file)
        connection = _open(self.file, "rw", self._timeout_seconds)
        try:
            _prepare(connection, self.path)
        except BaseException:
            connection.close()
            raise
        found = self.file.stat()
        self._identity = (found.st_dev, found.st_ino)
        self._connection = connection
        return connection

    def _shorten_log(self, connection: sqlite3.Connection) -> None:
        """Begins the log anew where readers that never pause keep SQLite from it, once those of now are done."""
        now = time.monotonic()
        if now < self._shorten_due or _size(self._log) <= LOG_BYTES:
            return
        self._shorten_due = now + SHORTEN_EVERY_SECONDS
        connection.execute(f"PRAGMA busy_timeout = {SHORTEN_MILLISECONDS}")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            _log.info("the log of %s could not be written back; that is tried again", self.path)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(self._timeout_seconds * 1000)}")

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """Undoes what is open; a connection that cannot is given up."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self.disconnect()


def real_path(path: Path) -> Path:
    """Where the file really is: SQLite follows symbolic links, and the lock must lie beside the file.

    Raises:
        StoreNotFound: the path holds a NUL character.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError:
        raise StoreNotFound("The path of the job store holds a NUL character; give the path of a file") from None


def refuse_left_over(file: Path) -> None:
    """Raises where the log of another store lies beside a path: SQLite would play it into a file of that name.

    Raises:
        StoreUnreadable: there is such a log.
    """
    for suffix in ("-wal", "-journal"):
        log = file.with_name(f"{file.name}{suffix}")
        with suppress(FileNotFoundError):
            if log.stat().st_size:
                raise StoreUnreadable(
                    f"{log} belongs to a file that is not at {file} any longer; put that file back, or remove the log"
                )


def create_store(file: Path, timezone: str) -> None:
    """Makes an empty store at `file`, whole or not at all; the caller holds the lock and saw no file there."""
    refuse_left_over(file)
    making = file.with_name(f".{file.name}.new")
    remove_store(making)  # of a process that died in here
    connection = _open(making, "rwc", TIMEOUT_SECONDS)
    try:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        apply_schema(connection)
        write_settings(connection, timezone)
        connection.execute("COMMIT")
        # Closing would do the same and keep silent where it fails; what is in the log has no name to follow.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.close()
        move_into_place(making, file)
    except BaseException:
        connection.close()
        remove_store(making)
        raise


def apply_schema(connection: sqlite3.Connection) -> None:
    """The tables of this version, inside the transaction that is open."""
    from sqlite_utils import Database  # heavy, and most openings find the tables there

    apply_migrations(Database(connection, execute_plugins=False))


def write_settings(connection: sqlite3.Connection, timezone: str) -> None:
    """What a store knows of itself."""
    connection.executemany(
        "INSERT INTO setting (key, value) VALUES (?, ?)",
        [("timezone", timezone), ("unicode_version", UNICODE_VERSION)],
    )


def move_into_place(made: Path, file: Path) -> None:
    """Gives a finished, closed store its name, and keeps it there if the power goes."""
    sync_path(made)
    made.rename(file)
    sync_path(file.parent)


def sync_path(path: Path) -> None:
    """Brings a file nobody has open, or a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_store(file: Path) -> None:
    """Removes a store that nobody uses, with what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - on the hot path
    except OSError:
        return 0


def _open(file: Path, mode: str, timeout_seconds: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{file.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False,
        timeout=timeout_seconds, cached_statements=256,
    )  # fmt: skip


def _check_links(file: Path) -> None:
    if file.stat().st_nlink > 1:
        raise StoreUnreadable(f"{file} has several names (hard links), of which SQLite would know one; keep one name")


def _check_header(file: Path) -> None:
    """Refuses a foreign file before anything is opened that could leave a trace beside it.

    Without the log a file that was being written back looks damaged: all but its first page is not judged here.
    """
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise
            return
        if application != APPLICATION_ID:
            raise NotAStore(f"{file} is a SQLite database but no job store; give the path of one")
        with suppress(SchemaTooOld):
            check_is_store(connection, file)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Brings the connection and, if it is of an older version, the file to what a recorder needs."""
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WRITTEN_BACK_PAGES}")
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
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnreadable(f"{path} cannot keep a write-ahead log here; keep a job store on a local disk")
