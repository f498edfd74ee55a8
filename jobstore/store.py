"""`JobStore`: the queries over one file, each in one snapshot of it."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jobstore.engine import executions, histogram, jobs, states, stats
from jobstore.engine.fires import Fires
from jobstore.engine.memory import Memory
from jobstore.language.errors import JobStoreError, StoreCorrupt, StoreUnreadable
from jobstore.language.instants import instant_us
from jobstore.language.query import (
    ExecutionQuery,
    ExecutionsQuery,
    HistogramQuery,
    JobExecutionsQuery,
    JobQuery,
    JobsQuery,
    JobStatesQuery,
    Query,
    StatsQuery,
)
from jobstore.queries import Queries
from jobstore.storage.connection import driver_errors, open_reader
from jobstore.storage.forking import tell_of_forks
from jobstore.storage.pruned import run_totals

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from types import TracebackType

    Clock = Callable[[], datetime]

_T = TypeVar("_T")
_INCONSISTENT = (LookupError, TypeError, ValueError, ArithmeticError)
"""What an index, a counter or a column leads to that says another thing than the rows."""


def system_clock() -> datetime:
    """The moment, as the system tells it."""
    return datetime.now(UTC)


def open(path: str | os.PathLike[str], *, clock: Clock | None = None) -> JobStore:  # noqa: A001 - read as jobstore.open
    """The store at `path`, read-only: nothing that is asked of it can write to the file, and none is created.

    Args:
        path: a file that a `Recorder` or `load` made.
        clock: returns an aware datetime; every "now" comes from it.

    Raises:
        StoreNotFound: there is no file.
        StoreError: the file is no store, damaged, unreadable, or of another version.
    """
    return JobStore(path, clock=clock)


class JobStore(Queries):
    """The queries of the job API over one file.

    May be used from several threads, and after a fork: one connection serves all threads in turn, each
    process has its own. A context manager.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        self.path = Path(path)
        self._clock = clock or system_clock
        self._is_closed = False
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        with driver_errors(self.path):
            row = self._connect().execute("SELECT value FROM setting WHERE key = 'timezone'").fetchone()
        self._timezone: str = row[0] if row else "UTC"
        self._fires = Fires(self._timezone)
        self._memory = Memory(self._fires)
        tell_of_forks(self)

    def __repr__(self) -> str:
        return f"JobStore({str(self.path)!r})"

    def __enter__(self) -> JobStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """Lets go of the file where nobody did: Python 3.13 warns of connections that are left open."""
        connection: sqlite3.Connection | None = getattr(self, "_connection", None)  # __init__ may have failed
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Lets go of the file; closing twice does nothing."""
        with self._lock:
            self._is_closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @property
    def timezone(self) -> str:
        """The IANA name of the zone that cron expressions are read in."""
        return self._timezone

    def now(self) -> datetime:
        """The moment, by the clock that every answer goes by."""
        return self._clock()

    def fresh(self) -> tuple[int, int]:
        """A token that differs after any commit to the file by another connection; two numbers, cheap to ask."""

        def token(connection: sqlite3.Connection, _memory: Memory) -> tuple[int, int]:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            return id(connection), version

        return self._read(token)

    def run_totals(self) -> dict[int, tuple[int, int]]:
        """By job number: its runs and failures so far, pruned ones included."""
        return self._read(lambda connection, _memory: run_totals(connection))

    def answer(self, query: Query) -> Any:
        """The document that a checked query asks for, from one snapshot of the file."""
        find = _ANSWERS[type(query)]
        now_us = self._now_us()
        return self._read(lambda connection, memory: find(connection, memory, query, now_us))

    def _now_us(self) -> int:
        return instant_us(self._clock())

    def _read(self, query: Callable[[sqlite3.Connection, Memory], _T]) -> _T:
        """Runs a query inside one read transaction, with what is remembered brought up to it."""
        with self._lock, driver_errors(self.path):
            connection = self._connection or self._connect()
            try:
                return self._in_snapshot(connection, query)
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" not in str(error):
                    raise
                # Text that is not UTF-8, which no recorder writes: from now on it is read with marks in it.
                connection.text_factory = _decoded
                self._memory = Memory(self._fires)
                return self._in_snapshot(connection, query)

    def _in_snapshot(self, connection: sqlite3.Connection, query: Callable[[sqlite3.Connection, Memory], _T]) -> _T:
        connection.execute("BEGIN")
        try:
            self._memory.sync(connection)
            return query(connection, self._memory)
        except JobStoreError:
            raise
        except _INCONSISTENT as error:
            self._memory = Memory(self._fires)
            raise StoreCorrupt(
                f"{self.path} contradicts itself; run 'jobstore check' on it and restore a backup"
            ) from error
        except BaseException:
            self._memory = Memory(self._fires)  # it may have been brought forward by half
            raise
        finally:
            connection.rollback()

    def _connect(self) -> sqlite3.Connection:
        if self._is_closed:
            raise StoreUnreadable(f"The store {self.path} has been closed; open it again")
        self._connection = connection = open_reader(self.path)
        return connection

    def before_fork(self) -> None:
        """Waits for the query that runs and lets go of the connection; the next query opens another."""
        self._lock.acquire()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def after_fork_in_parent(self) -> None:
        """Queries may go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Queries may go on, with a connection of this process."""
        self._lock = threading.Lock()


_ANSWERS: Mapping[type[Query], Callable[[sqlite3.Connection, Memory, Any, int], Any]] = {
    JobsQuery: jobs.list_jobs,
    JobQuery: jobs.get_job,
    ExecutionsQuery: executions.list_executions,
    JobExecutionsQuery: executions.list_executions_of_job,
    StatsQuery: stats.job_stats,
    ExecutionQuery: executions.get_execution,
    JobStatesQuery: states.list_job_states,
    HistogramQuery: histogram.execution_histogram,
}
"""What answers each query: a function of the connection, what is remembered, the query and now, in microseconds."""


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")
