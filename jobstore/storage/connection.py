"""The read-only connection to a file, and the one place that turns SQLite's errors into jobstore's.

A connection is opened with ``mode=ro`` and cannot attach another file, so SQLite itself keeps a reader from writing.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

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
from jobstore.storage.folders import check_not_mounted
from jobstore.storage.forking import (
    Forkable,
    check_not_crossed,
    keep_for_good,
    note_closed,
    note_open,
    tell_of_forks,
    while_closing,
)
from jobstore.storage.limits import (
    FORK_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    READER_CACHE_KIB,
    ROWS_AT_ONCE,
    SETTLED_NANOSECONDS,
)
from jobstore.storage.schema import APPLICATION_ID, SCHEMA_VERSION
from jobstore.storage.sidefiles import BY_SQLITE, beside, identity_of, look_at, may_write, owner_of, share_log, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from jobstore.storage.sidefiles import Identity

_T = TypeVar("_T")
# A reader would have to create the -shm file, and may not.
_NO_SHARED_MEMORY = frozenset({
    sqlite3.SQLITE_READONLY_DIRECTORY, sqlite3.SQLITE_READONLY_CANTINIT, sqlite3.SQLITE_READONLY_RECOVERY,
})  # fmt: skip
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT})
_OF_THE_DISK = frozenset({
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_ABORT,
})  # fmt: skip


class Reader:
    """A connection that can only read the store at a path, and a check that this file is still at the path.

    A user who may write the store opens it as a writer would; the files that SQLite creates beside it then belong to
    the writers. For other users nothing is created. If there is a log, which only writers make, they read the file with
    its index read-only. Without a log the file is complete by itself: they read it as one that does not change
    (SQLite's ``immutable``), and check after each query that it did not.

    Attributes:
        connection: the connection.
        path: the given path, made absolute.
        file: the real path, without symbolic links.
        identity: device and inode, to notice when another file takes the path.
        is_guest: the user may not write the store, so no lock protects a query; check `is_current` after it.
        is_alone: the file is read as one that does not change.
    """

    def __init__(self, path: Path) -> None:
        with driver_errors(path):
            check_is_file(path)
            self.path = path.absolute()
            # SQLite follows symbolic links and keeps its log beside the real file, so look for everything there.
            self.file = Path(os.path.realpath(path))
            self._log = f"{self.file}-wal"
            check_not_mounted(self.file)
            # Before the connection is opened: a file replaced in between then has another identity, which is noticed.
            self.identity: Identity = identity_of(self.file) or (0, 0)
            check_not_crossed(path, self.identity)
            mode = _mode(self.file)
            self.is_guest = mode is not _AS_WRITER
            self.is_alone = mode is _ALONE
            self._state: object = _settled(self.file) if self.is_alone else None
            self.connection = _connect(self.file, path, mode)
            self._log_identity = None if self.is_alone else identity_of(self._log)
            if not self.is_guest:
                # This connection may just have created the log and its index, which the store's other writers need to
                # use.
                share_log(self.file)

    def is_current(self) -> bool:
        """Whether this reads the file that is at the path; two look-ups in the folder."""
        # SQLite does not look at an immutable file again: only the log or the file itself shows that a writer came.
        if self.is_alone:
            return _is_log_empty(self.file) and self._state == _state_of(self.path)
        return identity_of(self.path) == self.identity and identity_of(self._log) == self._log_identity

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self.connection.close()


_AS_WRITER: Final = "mode=ro"
_AS_GUEST: Final = "mode=ro&readonly_shm=1"
_ALONE: Final = "mode=ro&immutable=1"


def _mode(file: Path) -> str:
    # The folder too: SQLite creates files beside the store, and removes them at the end.
    if may_write(file) and may_write(file.parent):
        return _AS_WRITER
    if _is_log_empty(file):
        return _ALONE
    return _AS_GUEST


def _is_log_empty(file: Path) -> bool:
    """Whether the file is complete by itself, without a log or a journal beside it."""
    return size_of(f"{file}-wal") == 0 and size_of(f"{file}-journal") == 0


def _state_of(path: Path) -> tuple[int, ...]:
    """Device, inode, size and times, which differ after any change; empty if there is no file."""
    found = look_at(path)
    if found is None:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settled(file: Path) -> tuple[int, ...]:
    """The state of a file, once it is old enough that a further change would alter it."""
    # The last part is the inode's change time, which no program can set back. A time ahead of the clock needs no wait.
    while (state := _state_of(file)) and 0 <= time.time_ns() - state[-1] < SETTLED_NANOSECONDS:
        time.sleep(SETTLED_NANOSECONDS / 1e9)
    return state


def open_file(file: Path, mode: str, timeout_seconds: float = READ_TIMEOUT_SECONDS) -> sqlite3.Connection:
    """A connection to a file with the given URI parameters; it begins no transaction of its own."""
    return _Connection(
        file, f"{file.as_uri()}?{mode}", uri=True, isolation_level=None, check_same_thread=False,
        timeout=timeout_seconds, cached_statements=512,
    )  # fmt: skip


class _Connection(sqlite3.Connection):
    """A connection that forks know of from before it is opened until it is closed."""

    def __init__(self, file: Path, address: str, **options: Any) -> None:
        try:
            note_open(id(self), identity_of(file))
            super().__init__(address, **options)
            note_open(id(self), identity_of(file))  # now also that of a file that this has created
        except BaseException:
            note_closed(id(self))
            raise

    def close(self) -> None:
        with while_closing(id(self)):
            super().close()

    def __del__(self) -> None:
        """Close it: Python 3.13 warns of open ones."""
        try:
            self.close()
        except sqlite3.ProgrammingError:  # it was never opened
            note_closed(id(self))


def _connect(file: Path, path: Path, mode: str) -> sqlite3.Connection:
    connection = open_file(file, mode)
    try:
        # Negative: in KiB, independent of the page size.
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        connection.execute("PRAGMA query_only = ON")
        # No ATTACH and no VACUUM INTO, which could write another file. An authorizer is no alternative: an exception
        # inside it (Ctrl-C) is lost, and the statement refused.
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        # A file may come from anywhere: its schema must not call functions that touch more than the data.
        connection.execute("PRAGMA trusted_schema = OFF")
        # No temporary files: their folder may be full or not writable, and they would hold the user's data.
        connection.execute("PRAGMA temp_store = MEMORY")
        check_is_store(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


class Reading(Forkable):
    """One long read of a store, in one snapshot; a context manager.

    A fork waits up to `FORK_TIMEOUT_SECONDS` for it; a child forked after that is refused the file. Between two batches
    of `rows` a fork may pass, and the child closes the inherited connection.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._is_held_for_fork = False
        self._cursor: sqlite3.Cursor | None = None
        self._opener = threading.get_ident()
        tell_of_forks(self)
        with self._lock:
            self._reader = Reader(path)
            self._opener = 0

    def __enter__(self) -> Reading:
        self._lock.acquire()
        with driver_errors(self._path):
            self.connection.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_current = not self._reader.is_guest or self._reader.is_current()
        self._reader.close()
        self._lock.release()
        if not is_current:
            raise StoreBusy(f"{self._path} changed while it was read; try again")
        raise_as_ours(error, self._path)

    @property
    def connection(self) -> sqlite3.Connection:
        return self._reader.connection

    @property
    def file(self) -> Path:
        return self._reader.file

    @property
    def identity(self) -> Identity:
        return self._reader.identity

    @property
    def is_guest(self) -> bool:
        return self._reader.is_guest

    def rows(self, statement: str) -> Iterator[Any]:
        cursor = self._cursor = self.connection.execute(statement)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield from self.handed_out(rows)

    def handed_out(self, values: Iterable[_T]) -> Iterator[_T]:
        """Yield the values; the caller may fork between two of them."""
        # Between two batches no statement runs, so let a fork pass, even one made by the consumer of the rows.
        process = os.getpid()
        self._lock.release()
        try:
            yield from values
        finally:
            self._lock.acquire()
        if os.getpid() != process:
            raise StoreUnreadable(f"{self._path} was being read when this process was forked; start that read again")

    def before_fork(self) -> None:
        if not self._is_held_for_fork and self._opener != threading.get_ident():  # else a handler forks
            self._is_held_for_fork = self._lock.acquire(timeout=FORK_TIMEOUT_SECONDS)

    def after_fork_in_parent(self) -> None:
        if self._is_held_for_fork:
            self._is_held_for_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Close the connection, which is the parent's."""
        reader = getattr(self, "_reader", None)  # a thread was just opening it
        if self._is_held_for_fork:
            self._is_held_for_fork = False
            self._lock.release()
            if self._cursor is not None:
                self._cursor.close()  # an unfinished statement would keep the file open
            if reader is not None:
                reader.close()
        elif reader is not None:
            # A thread of the parent was inside SQLite: this child can neither close the connection nor open another.
            keep_for_good(reader.connection)


def check_is_file(path: Path) -> None:
    """Raise unless `path` is a regular file that this user may read, with one name only.

    Under another name (a hard link) it would have another log and another lock: a writer would damage it, and a reader
    would miss the newest commits.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFound(
            f"There is no job store at {path}; a Recorder creates one, or try 'jobstore demo'"
        ) from None
    except OSError as error:
        if error.errno is None:
            raise
        raise StoreUnreadable(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from None
    except ValueError:
        raise StoreNotFound("The path of the job store contains a NUL character; give the path of a file") from None
    if not stat.S_ISREG(found.st_mode):
        raise NotAStore(f"{path} is not a regular file; give the path of a job store")
    if found.st_nlink > 1:
        raise StoreUnreadable(f"{path} has several names (hard links), which SQLite cannot handle; keep one name")
    if found.st_size == 0:
        raise NotAStore(
            f"{path} is empty, not a job store; give another path, or delete the file and let a Recorder create it"
        )


def check_is_store(connection: sqlite3.Connection, path: Path) -> None:
    """Raise unless the file is a job store in a format that this version reads."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise NotAStore(f"{path} is a SQLite database but not a job store; give the path of a job store")
    # A newer format may keep counters that this version does not know, and totals would be wrong.
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{path} has format {version}, and this jobstore reads formats up to {SCHEMA_VERSION}; upgrade jobstore"
        )
    if version < SCHEMA_VERSION:
        raise SchemaTooOld(
            f"{path} has format {version}, and this jobstore reads format {SCHEMA_VERSION}; open it once with a "
            "Recorder to upgrade it"
        )


class DriverErrors:
    """A context manager: errors of the driver or the system leave it as a `StoreError` that names the file.

    A class, because a generator would make this three times as slow for each query and each recorded run.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            raise_as_ours(error, self._path)


driver_errors = DriverErrors


def raise_as_ours(error: BaseException | None, path: Path) -> None:
    """Raise the `StoreError` for an error, if it concerns the file."""
    ours = None if error is None else _ours(error, path)
    if ours is not None:
        raise ours from error


def _ours(error: BaseException, path: Path) -> StoreError | None:
    """The `StoreError` for an error; None if it does not concern the file."""
    # sqlite3 has no code for this: the message is all there is.
    is_undecodable = isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)
    if is_undecodable or isinstance(error, UnicodeDecodeError):
        return StoreCorrupt(f"{path} contains text that is not UTF-8. Run 'jobstore check', then restore a backup")
    if isinstance(error, sqlite3.Error):
        # Without a code, the driver complains about our call, not SQLite about the file.
        return store_error(error, path) if hasattr(error, "sqlite_errorcode") else None
    if isinstance(error, OSError) and error.errno is not None:  # else a handler raised TimeoutError
        return StoreUnreadable(f"{path} cannot be used: {error.strerror or error}; check the disk and permissions")
    if isinstance(error, MemoryError):
        # SQLite also reports this for a damaged page that asks for too much memory.
        return StoreUnreadable(f"{path} needs more memory than there is; free memory, or run 'jobstore check' on it")
    return None


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """The `StoreError` for an SQLite error, by its result code."""
    primary = error.sqlite_errorcode & 0xFF
    if primary in _BUSY:
        return StoreBusy(f"{path} has been locked by another process for longer than the timeout; try again")
    if primary in _DAMAGED:
        return StoreCorrupt(f"{path} is damaged. Run 'jobstore check', then restore a backup")
    # A full disk has no room for the index of the log either.
    if primary == sqlite3.SQLITE_FULL or error.sqlite_errorcode == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull(
            f"The disk that holds {path} is full; free space, or run 'jobstore prune --emergency --older-than 90d'"
        )
    if primary == sqlite3.SQLITE_NOTADB:
        return NotAStore(f"{path} is not a SQLite database; give the path of a job store")
    if primary in _OF_THE_DISK:
        return StoreUnreadable(_why_unreadable(error.sqlite_errorcode, path))
    # Often the cause is a trigger or a table of another program; damaged files have codes of their own.
    return StoreUnreadable(
        f"SQLite refused a statement on {path}; a trigger or a table of another program may be the cause. "
        "Run 'jobstore check', which names it"
    )


def _why_unreadable(code: int, path: Path) -> str:
    primary = code & 0xFF
    if code in _NO_SHARED_MEMORY or primary == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(path)
    if primary == sqlite3.SQLITE_READONLY:
        return _in_the_way(path) or f"{path} is not writable by this user; check its permissions and its folder's"
    return f"{path} cannot be read or written; check the disk and the permissions"


def _in_the_way(path: Path) -> str | None:
    """The error message for a side file that this user may not write; None if there is none."""
    file = Path(os.path.realpath(path))
    for suffix in BY_SQLITE:
        side = beside(file, suffix)
        if side.exists() and not may_write(side):
            return (
                f"{side} belongs to {owner_of(side)} and is not writable by this user; give it the owner, group "
                f"and mode of {path}"
            )
    return None


def _cannot_open(path: Path) -> str:
    try:
        beside(path, "-journal").lstat()  # the longest name that SQLite needs
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return f"{path} cannot be used: {error.strerror}; give it a shorter name"
    why_none = _why_no_file_opens()
    if why_none is not None:
        return f"{path} cannot be opened: {why_none}; close some, or raise the limit (ulimit -n)"
    if not os.access(path, os.R_OK):
        return f"{path} is not readable by this user; check its permissions"
    found = _in_the_way(path) if may_write(path) else None
    return found or (
        f"{path} cannot be opened: part of it is in {path.name}-wal, which SQLite can only read with {path.name}-shm, "
        "and that file is missing or not accessible to this user. Open the store once with a Recorder"
    )


def _why_no_file_opens() -> str | None:
    """Why this process cannot open as many files as a connection needs, whichever they are; None if it can."""
    with ExitStack() as opened:
        try:
            for _ in BY_SQLITE:
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            return error.strerror if error.errno in {errno.EMFILE, errno.ENFILE} else None
    return None
