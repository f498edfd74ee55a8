"""Reads a store, whatever database holds it: one snapshot for each query, one connection for all threads."""

from __future__ import annotations

import threading
from abc import abstractmethod
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from jobstore.engine.answers import ANSWERS
from jobstore.language.errors import StoreCorrupt
from jobstore.language.instants import instant_us
from jobstore.queries import Queries
from jobstore.storage.forking import Forkable
from jobstore.storage.pruned import run_totals
from jobstore.storage.soundness import Inconsistent
from jobstore.storage.turns import frame_above, give_back, is_running

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import FrameType
    from typing import NoReturn, Self

    from jobstore.engine.memory import Memory
    from jobstore.language.query import Query
    from jobstore.storage.sidefiles import Identity

    Clock = Callable[[], datetime]

_T = TypeVar("_T")
serials = count(1)
"""A number for each connection, so that the counts of two connections are never confused."""
SURPRISES = (LookupError, TypeError, ValueError, ArithmeticError)
"""Raised by values that no recorder writes, or by a defect of ours; checking the store tells which."""


def _system_clock() -> datetime:
    return datetime.now(UTC)


class Snapshots(Queries, Forkable):
    """The queries over one store; a child class says how to read a snapshot and how to close a connection.

    May be used from several threads, and after a fork: one connection serves all threads in turn, and each process has
    its own. A context manager.
    """

    _memory: Memory
    identity: Identity | None = None
    """Which file the last query read, if it was a file: another one has another identity."""

    def __init__(self, path: Any, errors: AbstractContextManager[None], clock: Clock | None) -> None:
        self.path = self._at = path
        self._errors = errors
        self._clock = clock or _system_clock
        self._is_closed = False
        self._lock = threading.RLock()
        self._frame: FrameType | None = None
        self._is_clean = True
        self._serial = 0
        self._sound_at: object = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
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
        """The IANA name of the time zone of cron expressions."""
        return self.read(lambda _, memory: memory.fires.timezone)

    def now(self) -> datetime:
        """The current time, by the store's clock."""
        return self._clock()

    def run_totals(self) -> dict[int, tuple[int, int]]:
        """Each job's runs and failures so far, by job number, pruned ones included."""
        return self.read(lambda connection, _memory: run_totals(connection))

    def answer(self, query: Query) -> Any:
        """The document that answers a checked query, from one snapshot of the store."""
        find = ANSWERS[type(query)]
        now_us = instant_us(self._clock())
        return self.read(lambda connection, memory: find(connection, memory, query, now_us))

    def read(self, query: Callable[[sqlite3.Connection, Memory], _T]) -> _T:
        """The result of `query` in one snapshot of the store, with the memory brought up to that snapshot.

        Whatever is raised, and whenever (Ctrl-C, a timeout in a signal handler), the next call works: the lock is
        released, and after any error but one of ours the next call opens a new connection with an empty memory.
        """
        frame = frame_above(0)
        # In a signal handler during a query of the same thread: its connection and memory are in use.
        if is_running(self._frame, frame):
            with type(self)(self._at, clock=self._clock) as other:  # type: ignore[call-arg]  # a child takes these
                return other.read(query)
        try:
            with self._lock, self._errors:
                self._frame = frame
                try:
                    return self._read(query)
                finally:
                    self._frame = None
        finally:
            give_back(self._lock)

    @abstractmethod
    def _read(self, query: Callable[[sqlite3.Connection, Memory], _T]) -> _T:
        """The result of `query`, on the current or a new connection; inside the lock."""

    def _blame(self, error: Exception, version: object, is_sound: Callable[[], bool]) -> NoReturn:
        """Raise `error`, or `StoreCorrupt` if the store is inconsistent; each version of the store is checked once."""
        if isinstance(error, Inconsistent) or (version != self._sound_at and not is_sound()):
            raise StoreCorrupt(
                f"{self.path} is inconsistent: its counters or indexes disagree with its rows. "
                "Run 'jobstore check', then restore a backup"
            ) from error
        self._sound_at = version
        raise error

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the connection; the next query opens another."""

    def _begin_locks_anew(self) -> None:
        """Make new locks in a child of a fork: the thread that held the old one is gone."""
        self._lock = threading.RLock()
        self._frame = None
