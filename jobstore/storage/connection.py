"""The read-only connection to a file, and the one place where the driver's errors become ours.

A connection is opened with ``mode=ro`` and cannot attach another file: the way the file is opened, not good
manners, is what keeps a reader from writing.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
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
from jobstore.storage.forking import check_not_crossed, refuse_in_this_process, tell_of_forks
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
# A reader would have to make the -shm file and may not.
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
    """A connection that can only read the store at a path, and whether that is still the store there.

    A user who may write the store opens it as a writer would, and what SQLite makes beside it then belongs to the
    writers. For all others nothing is made: with a log beside it, which only writers make, the file is read with its
    index read-only; without one the file is whole, and is read as one that does not change (SQLite's ``immutable``),
    which is checked again after each query.

    Attributes:
        connection: the connection.
        path: the path it was given, whatever the current folder is later.
        file: where it really is.
        identity: which file it is, whatever stands at the path later.
        is_guest: it has no lock, or none that lasts; what it reads counts if `is_current` says so afterwards.
        is_alone: the file is read as one that does not change.
    """

    def __init__(self, path: Path) -> None:
        with driver_errors(path):
            check_is_file(path)
            self.path = path.absolute()
            # SQLite follows symbolic links and keeps its log beside the real file, so all is looked for there.
            self.file = Path(os.path.realpath(path))
            self._log = f"{self.file}-wal"
            check_not_mounted(self.file)
            # Before the connection is opened: a file that is replaced in between then differs, and is noticed.
            self.identity: Identity = identity_of(self.file) or (0, 0)
            check_not_crossed(path, self.identity)
            mode = _mode(self.file)
            self.is_guest = mode is not _AS_WRITER
            self.is_alone = mode is _ALONE
            self._state: object = _settled(self.file) if self.is_alone else None
            self.connection = _connect(self.file, path, mode)
            self._log_identity = None if self.is_alone else identity_of(self._log)
            if not self.is_guest:
                # This connection may just have made the log and its index: they must not keep out writers of the
                # store's group.
                share_log(self.file)

    def __del__(self) -> None:
        """Python 3.13 warns of connections that are left open."""
        connection = getattr(self, "connection", None)  # __init__ may have failed
        if connection is not None:
            connection.close()

    def is_current(self) -> bool:
        """Whether it still reads what is at the path: two looks at the folder."""
        # An immutable file is not looked at by SQLite again: a writer that came meanwhile shows in the log or the file
        # alone.
        if self.is_alone:
            return _is_log_empty(self.file) and self._state == _state_of(self.path)
        return identity_of(self.path) == self.identity and identity_of(self._log) == self._log_identity

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self.connection.close()

    def refuse_in_this_process(self) -> None:
        """The connection crossed a fork while a thread used it."""
        refuse_in_this_process(self.identity)


_AS_WRITER: Final = "mode=ro"
_AS_GUEST: Final = "mode=ro&readonly_shm=1"
_ALONE: Final = "mode=ro&immutable=1"


def _mode(file: Path) -> str:
    # The folder too: SQLite makes files beside the store, and removes them at the end.
    if may_write(file) and may_write(file.parent):
        return _AS_WRITER
    if _is_log_empty(file):
        return _ALONE
    return _AS_GUEST


def _is_log_empty(file: Path) -> bool:
    """Whether the file is whole by itself. Readers look here before and after: it costs two looks at the folder."""
    return size_of(f"{file}-wal") == 0 and size_of(f"{file}-journal") == 0


def _state_of(path: Path) -> tuple[int, ...]:
    """What changes with the file."""
    found = look_at(path)
    if found is None:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settled(file: Path) -> tuple[int, ...]:
    """The state of a file, once a further change would show in it."""
    # The last part is the time of the inode's change, which no program can set back. A time ahead of the clock is no
    # reason to wait.
    while (state := _state_of(file)) and 0 <= time.time_ns() - state[-1] < SETTLED_NANOSECONDS:
        time.sleep(SETTLED_NANOSECONDS / 1e9)
    return state


def open_file(file: Path, mode: str, timeout_seconds: float = READ_TIMEOUT_SECONDS) -> sqlite3.Connection:
    """A connection to a file, by the parameters of its URI, that begins no transaction of its own."""
    return sqlite3.connect(
        f"{file.as_uri()}?{mode}", uri=True, isolation_level=None, check_same_thread=False,
        timeout=timeout_seconds, cached_statements=512,
    )  # fmt: skip


def _connect(file: Path, path: Path, mode: str) -> sqlite3.Connection:
    connection = open_file(file, mode)
    try:
        # Negative: in KiB, whatever the page size.
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        connection.execute("PRAGMA query_only = ON")
        # Neither ATTACH nor VACUUM INTO, which could write another file. An authorizer would do more than is needed:
        # an exception inside of it (Ctrl-C) is lost, and the statement refused.
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        # A file may come from anywhere: nothing in its schema may call functions that touch more than the data.
        connection.execute("PRAGMA trusted_schema = OFF")
        # No temporary files: their folder may be full or closed, and what they hold is the user's.
        connection.execute("PRAGMA temp_store = MEMORY")
        check_is_store(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


class Reading:
    """One long reading of a store, from one snapshot: a context manager that gives the connection.

    A fork waits for it, for `FORK_TIMEOUT_SECONDS`; a child that was forked nevertheless is refused the file. Between
    two rows of `rows` it lets forks pass, and the child closes what it inherited.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._is_held_for_fork = False
        self._reader = Reader(path)
        self._cursor: sqlite3.Cursor | None = None
        tell_of_forks(self)

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
        """Which file it is."""
        return self._reader.identity

    @property
    def is_guest(self) -> bool:
        """Whether this user may not write the store."""
        return self._reader.is_guest

    def rows(self, statement: str) -> Iterator[Any]:
        cursor = self._cursor = self.connection.execute(statement)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield from self.handed_out(rows)

    def handed_out(self, values: Iterable[_T]) -> Iterator[_T]:
        """The values; the caller may fork between two of them."""
        # Between two batches of rows nothing of ours runs: a fork may come now, also one that the taker of the rows
        # makes.
        process = os.getpid()
        self._lock.release()
        try:
            yield from values
        finally:
            self._lock.acquire()
        if os.getpid() != process:
            raise StoreUnreadable(f"The reading of {self._path} belongs to the process before the fork; start it again")

    def before_fork(self) -> None:
        """Wait for the statement that runs."""
        self._is_held_for_fork = self._lock.acquire(timeout=FORK_TIMEOUT_SECONDS)

    def after_fork_in_parent(self) -> None:
        if self._is_held_for_fork:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Close the connection: it is the parent's."""
        if self._is_held_for_fork:
            self._lock.release()
            if self._cursor is not None:
                self._cursor.close()  # with a statement in the middle of its rows, SQLite would not close the file
            self._reader.close()
        else:
            # A thread of the parent was inside SQLite at the fork: this child can neither close the connection nor open
            # another.
            self._reader.refuse_in_this_process()


def check_is_file(path: Path) -> None:
    """Raise unless there is a regular file at `path` that this user may read, and that has no other name.

    Under another name it would have another log and another lock: a writer would harm it, a reader miss the newest.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFound(
            f"There is no job store at {path}; a Recorder creates one, or try 'jobstore demo'"
        ) from None
    except OSError as error:
        raise StoreUnreadable(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from None
    except ValueError:
        raise StoreNotFound("The path of the job store contains a NUL character; give the path of a file") from None
    if not os.path.isfile(path):  # noqa: PTH113 - stat is paid already; a device or folder is no store
        raise NotAStore(f"{path} is not a regular file; give the path of a job store")
    if found.st_nlink > 1:
        raise StoreUnreadable(f"{path} has several names (hard links), which SQLite cannot handle; keep one name")
    if found.st_size == 0:
        raise NotAStore(
            f"{path} is empty, not a job store; give another path, or delete the file and let a Recorder create it"
        )


def check_is_store(connection: sqlite3.Connection, path: Path) -> None:
    """Raise unless the file is a job store of a format that this version reads."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise NotAStore(f"{path} is a SQLite database but not a job store; give the path of a job store")
    # Not read at all: a newer format may keep counters that this version does not know of, and totals would be wrong.
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
        if error is not None:
            raise_as_ours(error, self._path)


driver_errors = DriverErrors


def raise_as_ours(error: BaseException | None, path: Path) -> None:
    """Raise our error for what was raised, if it is a matter of the file."""
    ours = None if error is None else _ours(error, path)
    if ours is not None:
        raise ours from error


def _ours(error: BaseException, path: Path) -> StoreError | None:
    """Our error for what was raised; None: it is no matter of the file."""
    # sqlite3 has no code of its own for this: the words of its message are all there is.
    is_undecodable = isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)
    if is_undecodable or isinstance(error, UnicodeDecodeError):
        return StoreCorrupt(f"{path} contains text that is not UTF-8. Run 'jobstore check', then restore a backup")
    if isinstance(error, sqlite3.Error):
        # Without a code it is the driver that complains of us, not SQLite of the file.
        return store_error(error, path) if hasattr(error, "sqlite_errorcode") else None
    if isinstance(error, OSError):
        return StoreUnreadable(f"{path} cannot be used: {error.strerror or error}; check the disk and permissions")
    if isinstance(error, MemoryError):
        # SQLite also says this of a page whose damage asks for more than there is.
        return StoreUnreadable(f"{path} needs more memory than there is; free memory, or run 'jobstore check' on it")
    return None


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Our error for the driver's, by its result code."""
    primary = error.sqlite_errorcode & 0xFF
    if primary in _BUSY:
        return StoreBusy(f"{path} has been locked by another process for longer than the timeout; try again")
    if primary in _DAMAGED:
        return StoreCorrupt(f"{path} is damaged. Run 'jobstore check', then restore a backup")
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull(f"The disk that holds {path} is full; free space, or run 'jobstore prune --emergency'")
    if primary == sqlite3.SQLITE_NOTADB:
        return NotAStore(f"{path} is not a SQLite database; give the path of a job store")
    if primary in _OF_THE_DISK:
        return StoreUnreadable(_why_unreadable(error.sqlite_errorcode, path))
    # A trigger or a table of another program may well be the reason; a damaged file has codes of its own.
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
    """What another user left beside the store, and this one may not use."""
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
    if not os.access(path, os.R_OK):
        return f"{path} is not readable by this user; check its permissions"
    found = _in_the_way(path) if may_write(path) else None
    return found or (
        f"{path} cannot be opened: part of it is in {path.name}-wal, which SQLite can only read with {path.name}-shm, "
        "and that file is missing or not accessible to this user. Open the store once with a Recorder"
    )
