"""The read-only connection to a file, and the one place where the driver's errors become ours.

A connection is opened with ``mode=ro`` and an authorizer that admits nothing but reading: the way the
file is opened, not good manners, is what keeps a reader from writing.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from jobstore.language.errors import (
    NotAStore,
    SchemaTooNew,
    SchemaTooOld,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnreadable,
)
from jobstore.storage.schema import APPLICATION_ID, SCHEMA_VERSION

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

READ_TIMEOUT_SECONDS = 5.0
CACHE_KIB = 32 * 1024
"""Page cache of a store's one reading connection; with counters and bitmaps a reader stays below 150 MB."""

_ALLOWED = frozenset({
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_RECURSIVE,
})  # fmt: skip
_READ_PRAGMAS = frozenset({
    "application_id", "user_version", "data_version", "integrity_check", "quick_check", "foreign_key_check",
    "page_count", "page_size", "table_info",
})  # fmt: skip

_NO_SHARED_MEMORY = frozenset({
    sqlite3.SQLITE_READONLY_DIRECTORY, sqlite3.SQLITE_READONLY_CANTINIT, sqlite3.SQLITE_READONLY_RECOVERY,
})  # fmt: skip
"""A reader would have to make the -shm file and may not."""
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_CORRUPT = frozenset({
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERNAL,
    sqlite3.SQLITE_CONSTRAINT,
})  # fmt: skip


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read the store at `path`; nothing is created.

    Raises:
        StoreError: or the child that names what is wrong with the file.
    """
    with driver_errors(path):
        check_is_file(path)
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False,
            timeout=READ_TIMEOUT_SECONDS, cached_statements=512,
        )  # fmt: skip
        try:
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA temp_store = MEMORY")
            check_is_store(connection, path)
            # Its table is declared at first use, which the authorizer would take for writing.
            connection.execute("SELECT value FROM json_each('[]')")
            connection.set_authorizer(_admit)
        except BaseException:
            connection.close()
            raise
        return connection


def _admit(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    if action in _ALLOWED or (action == sqlite3.SQLITE_PRAGMA and first in _READ_PRAGMAS and second is None):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def check_is_file(path: Path) -> None:
    """Raises unless there is a regular file at `path` that this user may read."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFound(
            f"There is no job store at {path}; a Recorder creates one, or try 'jobstore demo'"
        ) from None
    except OSError as error:
        raise StoreUnreadable(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from None
    except ValueError:
        raise StoreNotFound("The path of the job store holds a NUL character; give the path of a file") from None
    if not os.path.isfile(path):  # noqa: PTH113 - stat is paid already; a device or folder is no store
        raise NotAStore(f"{path} is not a regular file; give the path of a job store")
    if found.st_size == 0:
        raise NotAStore(
            f"{path} is empty and no job store; give the path of one, or remove it and let a Recorder start"
        )


def check_is_store(connection: sqlite3.Connection, path: Path) -> None:
    """Raises unless the file is a job store of a format that this version reads."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise NotAStore(f"{path} is a SQLite database but no job store; give the path of one")
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{path} has format {version} and this jobstore reads up to {SCHEMA_VERSION}; upgrade jobstore"
        )
    if version < SCHEMA_VERSION:
        raise SchemaTooOld(
            f"{path} has format {version} and this jobstore reads {SCHEMA_VERSION}; open it once with a Recorder"
        )


class DriverErrors:
    """Whatever the driver or the system raises inside leaves as a `StoreError` that names the file.

    A class, since a generator costs each query and each recorded run three times as much.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ours = None if error is None else _ours(error, self._path)
        if ours is not None:
            raise ours from error


driver_errors = DriverErrors


def _ours(error: BaseException, path: Path) -> StoreError | None:
    """Our error for what was raised; None: it is no matter of the file."""
    if isinstance(error, sqlite3.Error):
        return store_error(error, path)
    if isinstance(error, OSError):
        return StoreUnreadable(f"{path} cannot be used: {error.strerror or error}; check the disk and permissions")
    if isinstance(error, MemoryError):
        # SQLite also says this of a page whose damage asks for more than there is.
        return StoreUnreadable(f"{path} needs more memory than there is; run 'jobstore check' on it, or free memory")
    if isinstance(error, OverflowError | UnicodeError):
        # What is bound was checked before; only a file that breaks its own rules leads here.
        return StoreCorrupt(f"{path} holds values that no jobstore writes; restore a backup or run 'jobstore check'")
    return None


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Our error for the driver's, by its result code."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = sqlite3.SQLITE_CORRUPT if code is None else code & 0xFF
    if primary in _BUSY:
        return StoreBusy(f"{path} is being written by another process for longer than the time-out; try again")
    if primary in _CORRUPT:
        return StoreCorrupt(f"{path} is damaged; run 'jobstore check' on it and restore a backup")
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull(f"The disk that holds {path} is full; free space, or run 'jobstore prune --emergency'")
    if primary == sqlite3.SQLITE_NOTADB:
        return NotAStore(f"{path} is no SQLite database; give the path of a job store")
    return StoreUnreadable(_why_unreadable(code, path))


def _why_unreadable(code: int | None, path: Path) -> str:
    if code in _NO_SHARED_MEMORY:
        return _cannot_open(path)
    primary = (code or 0) & 0xFF
    if primary == sqlite3.SQLITE_READONLY:
        return f"{path} may not be written by this user; check the permissions of it and its folder"
    if primary == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(path)
    return f"{path} cannot be read or written; check the disk and the permissions"


def _cannot_open(path: Path) -> str:
    """The usual reason: the last writer closed, and a reader may not make the -shm file that WAL needs."""
    if not os.access(path, os.R_OK):
        return f"{path} may not be read by this user; check its permissions"
    return (
        f"{path} cannot be opened: its folder must be writable for this user, or hold the files "
        f"{path.name}-wal and {path.name}-shm that a running Recorder keeps"
    )
