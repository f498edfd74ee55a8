"""`PostgresStore`: the queries over one PostgreSQL database, each in one snapshot of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from jobstore.engine.fires import Fires
from jobstore.engine.server import ServerMemory
from jobstore.language.errors import JobStoreError, StoreUnreadable
from jobstore.reading import SURPRISES, Snapshots, serials
from jobstore.storage.forking import keep_for_good, tell_of_forks
from jobstore.storage.postgres.connection import (
    DRIVER_ERROR,
    Connection,
    Place,
    check_is_store,
    is_worth_again,
    server_errors,
)
from jobstore.storage.soundness import is_server_sound

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from jobstore.engine.memory import Memory
    from jobstore.language.address import Address
    from jobstore.reading import Clock

_T = TypeVar("_T")


class PostgresStore(Snapshots):
    """The queries of the job API over one PostgreSQL database, or a hot standby of it.

    May be used from several threads, and after a fork: one connection serves all threads in turn, and each process has
    its own. A lost connection is opened again. A context manager.
    """

    path: Address
    _memory: ServerMemory

    def __init__(self, path: Address, *, clock: Clock | None = None) -> None:
        self.place = place = Place(path.secret)
        super().__init__(path, server_errors(place), clock)
        self._connection: Connection | None = None
        tell_of_forks(self)
        with self._errors:
            self._begin_anew()

    def fresh(self) -> tuple[int, int]:
        """A token that differs after another connection changes a job or an execution; two numbers, cheap to read."""
        return self.read(lambda *_: (self._serial, self._memory.version))

    def _read(self, query: Callable[[sqlite3.Connection, Memory], _T]) -> _T:
        connection = self._connection
        if connection is None or not self._is_clean:
            connection = self._begin_anew()
        try:
            return self._in_snapshot(connection, query)
        except Exception as error:
            if not is_worth_again(error, connection):
                raise
        return self._in_snapshot(self._begin_anew(), query)

    def _in_snapshot(self, connection: Connection, query: Callable[[sqlite3.Connection, Memory], _T]) -> _T:
        """Run the query in a transaction; only success or an error of ours leaves the connection clean."""
        # `Connection` has every method that the engine calls.
        taken = cast("sqlite3.Connection", connection)
        self._is_clean = False
        try:
            self._memory.snapshot = connection.begin_snapshot()
            self._memory.sync(taken)
            found = query(taken, self._memory)
        except JobStoreError:
            connection.rollback()
            self._is_clean = True
            raise
        except SURPRISES as error:
            self._blame(error, self._memory.snapshot, lambda: _is_sound(taken))
        connection.commit()  # a rollback would make the driver discard its prepared statements
        self._is_clean = True
        return found

    def _begin_anew(self) -> Connection:
        """A new connection, with an empty memory."""
        if self._is_closed:
            raise StoreUnreadable(f"The store {self.place} has been closed; open it again")
        self._disconnect()
        connection = Connection(self.place, is_reader=True)
        try:
            check_is_store(connection)
        except BaseException:
            connection.close()
            raise
        self._memory = ServerMemory(Fires("UTC"))  # until the first query reads the time zone
        self._serial = next(serials)
        self._is_clean = True
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Let queries continue, with a connection of this process; the parent keeps its own."""
        self._begin_locks_anew()
        if self._connection is not None:
            keep_for_good(self._connection.raw)
            self._connection = None


def _is_sound(connection: sqlite3.Connection) -> bool:
    """Whether the store is sound, as far as is known: a check that fails, as after its timeout, says nothing."""
    try:
        return is_server_sound(connection)
    except DRIVER_ERROR:
        return True
