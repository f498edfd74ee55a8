"""`JobStore`: the queries over one file, each in one snapshot of it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final, TypeVar, cast

from jobstore.engine.fires import Fires
from jobstore.engine.memory import Memory
from jobstore.language.address import Address, file_of, location_of
from jobstore.language.errors import JobStoreError, StoreBusy, StoreUnreadable
from jobstore.reading import SURPRISES, Snapshots, serials
from jobstore.storage.connection import Reader, driver_errors
from jobstore.storage.forking import keep_for_good, tell_of_forks
from jobstore.storage.limits import FORK_TIMEOUT_SECONDS
from jobstore.storage.soundness import is_sound
from jobstore.storage.turns import frame_above, give_back, is_running

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from jobstore.language.address import Where
    from jobstore.postgres import PostgresStore
    from jobstore.reading import Clock

_T = TypeVar("_T")
_TRIES: Final = 10
"""How often a reader without a lock (it may not write) repeats a query if the file was written meanwhile."""


def open(path: Where, *, clock: Clock | None = None) -> JobStore:  # noqa: A001 - read as jobstore.open
    """Open the store at `path` read-only. It must exist; no query writes to it.

    Args:
        path: a file that a `Recorder` or `load` made, or the ``postgresql://`` address of such a database.
        clock: returns an aware datetime; every "now" comes from it.

    Raises:
        InvalidParameter: the address cannot be read.
        StoreNotFound: there is no file, or no store at the address.
        ImportError: an address needs psycopg, which is not installed.
        StoreError: the file is not a store, is damaged or unreadable, or has another version.
    """
    location = location_of(path)
    if isinstance(location, Address):
        return cast("JobStore", server_store()(location, clock=clock))
    return JobStore(location, clock=clock)


def server_store() -> type[PostgresStore]:
    """The store class for an address; `ImportError` names the extra that installs its driver."""
    from jobstore.postgres import PostgresStore

    JobStore.register(PostgresStore)  # the same methods over another connection
    return PostgresStore


class JobStore(Snapshots):
    """The queries of the job API over one file.

    May be used from several threads, and after a fork: one connection serves all threads in turn, and each process has
    its own. A context manager.
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        file = file_of(path, "JobStore(...)", "use jobstore.open(...)")
        super().__init__(file, driver_errors(file), clock)
        self._reader: Reader | None = None
        self._is_held_for_fork = False
        tell_of_forks(self)
        try:
            with self._lock, self._errors:
                self._begin_anew()
        finally:
            give_back(self._lock)

    @property
    def connection(self) -> sqlite3.Connection | None:
        """The current connection; None if there is none."""
        return None if self._reader is None else self._reader.connection

    def fresh(self) -> tuple[int, int]:
        """A token that differs after any commit to the file by another connection; two numbers, cheap to read."""
        return self.read(lambda connection, _: self._version(connection))

    def _version(self, connection: sqlite3.Connection) -> tuple[int, int]:
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        return self._serial, version

    def _read(self, query: Callable[[sqlite3.Connection, Memory], _T]) -> _T:
        for _ in range(_TRIES):
            reader = self._reader
            if reader is None or not self._is_clean or not reader.is_current():
                reader = self._begin_anew()
            try:
                found = self._in_snapshot(reader.connection, query)
            except (sqlite3.Error, JobStoreError):
                if reader.is_guest and not reader.is_current():
                    continue
                raise
            if not reader.is_guest or reader.is_current():
                return found
        raise StoreBusy(f"{self.path} changed each time it was read; try again")

    def _in_snapshot(self, connection: sqlite3.Connection, query: Callable[[sqlite3.Connection, Memory], _T]) -> _T:
        """Run the query in a read transaction; only success or an error of ours leaves the connection clean."""
        self._is_clean = False
        try:
            connection.execute("BEGIN")
            self._memory.sync(connection)
            found = query(connection, self._memory)
        except JobStoreError:
            connection.rollback()
            self._is_clean = True
            raise
        except sqlite3.OperationalError as error:
            if "decode to UTF-8" not in str(error) or connection.text_factory is _decoded:
                raise
            # Text that is not UTF-8, which no recorder writes: from now on, decode it with replacement characters.
            connection.rollback()
            connection.text_factory = _decoded
            self._memory = Memory(self._memory.fires)
            return self._in_snapshot(connection, query)
        except SURPRISES as error:
            self._blame(error, self._version(connection), lambda: is_sound(connection))
        connection.rollback()
        self._is_clean = True
        return found

    def _begin_anew(self) -> Reader:
        """Open the file that is at the path now, with an empty memory."""
        if self._is_closed:
            raise StoreUnreadable(f"The store {self.path} has been closed; open it again")
        self._disconnect()
        reader = Reader(self._at)
        self._at = reader.path  # absolute: a daemon changes its current folder
        self._memory = Memory(Fires("UTC"))  # until the first query reads the time zone
        self._serial = next(serials)
        self._is_clean = True
        self._reader, self.identity = reader, reader.identity
        return reader

    def _disconnect(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def before_fork(self) -> None:
        """Wait for the running query and close the connection; the next query opens another."""
        if is_running(self._frame, frame_above(0)):
            return  # forked by a signal handler during this thread's own query
        if self._is_held_for_fork or self._lock.acquire(timeout=FORK_TIMEOUT_SECONDS):
            self._is_held_for_fork = True
            self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Let queries continue."""
        if self._is_held_for_fork:
            self._is_held_for_fork = False
            self._lock.release()  # once: a handler may have forked inside a block that holds it

    def after_fork_in_child(self) -> None:
        """Let queries continue, with a connection of this process."""
        self._is_held_for_fork = False
        self._begin_locks_anew()
        reader, self._reader = self._reader, None
        if reader is not None:  # a thread of the parent was using it
            keep_for_good(reader.connection)

    def drop_if_cut_off(self, file: Path) -> bool:
        """Close the connection if its log is no longer the one beside the file; return whether it did."""
        # Looked at first without the lock, which a long query may hold, or a fork that waits for this recorder.
        if not self._is_cut_off(file) or not self._lock.acquire(timeout=FORK_TIMEOUT_SECONDS):
            return False
        try:
            if not self._is_cut_off(file):
                return False
            self._disconnect()
            return True
        finally:
            self._lock.release()

    def _is_cut_off(self, file: Path) -> bool:
        reader = self._reader
        return reader is not None and reader.file == file and not reader.is_alone and not reader.is_current()


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")
