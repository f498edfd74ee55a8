"""`PostgresStore`: the queries over a PostgreSQL database, each in one snapshot of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jobstore.engine.answers import ANSWERS
from jobstore.engine.fires import Fires
from jobstore.engine.server import ServerMemory
from jobstore.language.errors import JobStoreError, StoreUnreadable
from jobstore.language.instants import instant_us
from jobstore.queries import Queries
from jobstore.storage.forking import tell_of_forks
from jobstore.storage.postgres.connection import Connection, Place, check_is_store, is_worth_again, server_errors
from jobstore.storage.pruned import run_totals
from jobstore.storage.turns import frame_above, give_back, is_running

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from jobstore.language.address import Address
    from jobstore.language.query import Query

    Clock = Callable[[], datetime]

_T = TypeVar("_T")
_serials = count(1)
_inherited: list[Connection] = []
"""Of the parent, in a child: they are kept, since to let go of one is to close it."""


def _system_clock() -> datetime:
    return datetime.now(UTC)


class PostgresStore(Queries):
    """The queries of the job API over one PostgreSQL database, or a hot standby of it.

    May be used from several threads, and after a fork: one connection serves all threads in turn, each process has
    its own. A connection that was lost is opened anew. A context manager.
    """

    def __init__(self, path: Address, *, clock: Clock | None = None) -> None:
        self.path = path
        self.place = Place(path.secret)
        self._clock = clock or _system_clock
        self._is_closed = False
        self._lock = threading.RLock()
        self._frame: FrameType | None = None
        self._connection: Connection | None = None
        self._memory: ServerMemory
        self._is_clean = True
        self._serial = 0
        with server_errors(self.place):
            self._begin_anew()
        tell_of_forks(self)

    def __repr__(self) -> str:
        return f"PostgresStore({str(self.path)!r})"

    def __enter__(self) -> PostgresStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store. Safe to call twice."""
        try:
            with self._lock:
                self._is_closed = True
                self._disconnect()
        finally:
            give_back(self._lock)

    @property
    def timezone(self) -> str:
        """The IANA name of the zone that cron expressions are read in."""
        return self.read(lambda _, memory: memory.fires.timezone)

    def now(self) -> datetime:
        """The current time, by the store's clock."""
        return self._clock()

    def fresh(self) -> tuple[int, int]:
        """A token that differs after any change of a job or an execution by another connection; one look at the log."""
        return self.read(lambda _, memory: (self._serial, memory.version))

    def run_totals(self) -> dict[int, tuple[int, int]]:
        """Each job's runs and failures so far, by job number, pruned ones included."""
        return self.read(lambda connection, _memory: run_totals(connection))

    def answer(self, query: Query) -> Any:
        """The document that a checked query asks for, from one snapshot of the database."""
        find = ANSWERS[type(query)]
        now_us = instant_us(self._clock())
        return self.read(lambda connection, memory: find(connection, memory, query, now_us))

    def read(self, query: Callable[[sqlite3.Connection, ServerMemory], _T]) -> _T:
        """The result of `query` in one snapshot, with the memory brought up to it.

        Asked once more where the connection was lost, or a standby gave up the answer for its primary. Whatever is
        raised, and whenever (Ctrl-C, a time-out in a signal handler), the next call works.
        """
        frame = frame_above(0)
        if is_running(self._frame, frame):  # in a signal handler, in the middle of a query of this thread
            with PostgresStore(self.path, clock=self._clock) as other:
                return other.read(query)
        try:
            with self._lock, server_errors(self.place):
                self._frame = frame
                try:
                    return self._read(query)
                finally:
                    self._frame = None
        finally:
            give_back(self._lock)

    def _read(self, query: Callable[[sqlite3.Connection, ServerMemory], _T]) -> _T:
        connection = self._connection
        if connection is None or not self._is_clean:
            connection = self._begin_anew()
        try:
            return self._in_snapshot(connection, query)
        except Exception as error:
            if not is_worth_again(error, connection):
                raise
        return self._in_snapshot(self._begin_anew(), query)

    def _in_snapshot(self, connection: Connection, query: Callable[[sqlite3.Connection, ServerMemory], _T]) -> _T:
        """Run the query in a transaction; only what ends well, or by an error of ours, leaves things clean."""
        # The engine asks nothing of a connection that ours has not.
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
        connection.rollback()
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
            self._timezone: str = connection.value("SELECT value FROM setting WHERE key = 'timezone'") or "UTC"
        except BaseException:
            connection.close()
            raise
        self._memory = ServerMemory(Fires(self._timezone))
        self._serial = next(_serials)
        self._is_clean = True
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> None:
        """Nothing: the child lets go of the connection, and the parent keeps it."""

    def after_fork_in_parent(self) -> None:
        """Nothing."""

    def after_fork_in_child(self) -> None:
        """Queries may go on, with a connection of this process."""
        self._lock = threading.RLock()
        self._frame = None
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None
