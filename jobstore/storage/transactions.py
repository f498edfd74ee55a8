"""Write transactions on one connection, in turn: what the writers of a file and of a server have in common.

Whatever writes to a store does so inside `Transactions.transaction`; a checkpoint runs inside `Transactions.held`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from jobstore.language.errors import JobStoreError, StoreError, StoreUnreadable
from jobstore.storage.turns import frame_above

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from jobstore.language.address import Location
    from jobstore.storage.lock import ThreadLock
    from jobstore.storage.sidefiles import Identity

_T = TypeVar("_T")


class Outcome:
    """Whether a transaction was committed, also where an exception came between SQLite's answer and the next line."""

    __slots__ = ("is_committed",)

    def __init__(self) -> None:
        self.is_committed = False


class OutcomeUnknown(StoreUnreadable):
    """Whether a transaction was committed cannot be known: do not repeat what was in it unasked."""


class Transactions:
    """Write transactions on one connection, one at a time; a child says where to and how.

    Attributes:
        path: of the store, for messages.
        timeout_seconds: how long a call waits for others.
        lock: the turns of those who write.
        errors: a context manager; inside, what the driver raises leaves as a `StoreError`.
        driver_error: the driver's exceptions.
        identity: which file it is, inside a turn; a server stays what it is.
    """

    path: Location
    timeout_seconds: float
    lock: ThreadLock
    errors: AbstractContextManager[None]
    driver_error: type[Exception]
    identity: Identity | None = None
    _connection: object

    def transaction(self, outcome: Outcome | None = None, timeout_seconds: float | None = None) -> Turn:
        """One write transaction, as a context manager that gives the connection.

        Committed and on the disk at the end, rolled back by any exception. Use it in a ``with`` statement.

        Args:
            outcome: learns whether the transaction was committed.
            timeout_seconds: how long to wait for others; the writer's own timeout unless given.

        Raises:
            StoreBusy: others have been writing for longer than the timeout, or this very thread is inside.
            StoreError: the file cannot be written.
        """
        return Turn(self, outcome or Outcome(), timeout_seconds)

    def held(self) -> Turn:
        """The connection outside of a transaction, in turn with those that have one."""
        return Turn(self, None, None)

    def write(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        """What a step returns, in a transaction of its own; taken again where a server gave up and wrote nothing."""
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            try:
                with self.transaction() as connection:
                    return step(connection)
            except StoreError as error:
                # Repeated only where the server is known to have written nothing: a step taken twice would record a run
                # twice.
                if not error.may_repeat or time.monotonic() >= deadline:
                    raise

    def current(self) -> sqlite3.Connection:
        """The connection, opened again where that is needed; inside the turn."""
        raise NotImplementedError

    def begin(self, connection: sqlite3.Connection) -> None:
        raise NotImplementedError

    def commit(self) -> None:
        raise NotImplementedError

    def is_committed(self) -> bool:
        """Whether that was done, where an exception came after it had begun."""
        raise NotImplementedError

    def tidy(self) -> None:
        """What is due now and then after a commit."""
        raise NotImplementedError

    def roll_back(self) -> None:
        raise NotImplementedError

    def disconnect(self) -> None:
        """Close the connection; the next call opens another."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection for good. Safe to call twice."""
        raise NotImplementedError

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """One snapshot of the store, on a connection of its own."""
        raise NotImplementedError

    def forget_unused(self) -> None:
        """Delete words that no execution has any more; of a file, `jobstore.recording.leftovers` does."""
        raise NotImplementedError


class Turn:
    """A writer's turn, with or without a transaction; a class, since a generator costs three times as much."""

    __slots__ = ("_is_ending", "_outcome", "_timeout_seconds", "_writer")

    def __init__(self, writer: Transactions, outcome: Outcome | None, timeout_seconds: float | None) -> None:
        """Without an outcome there is no transaction."""
        self._writer = writer
        self._outcome = outcome
        self._is_ending = False
        self._timeout_seconds = writer.timeout_seconds if timeout_seconds is None else max(0.0, timeout_seconds)

    def __enter__(self) -> sqlite3.Connection:
        writer = self._writer
        with writer.errors:
            try:
                # The caller's frame, not this one: the turn lasts for as long as the block of its with statement.
                writer.lock.enter(id(self), frame_above(1), self._timeout_seconds)
                connection = writer.current()
                if self._outcome is not None:
                    writer.begin(connection)
            except BaseException:
                self.__del__()
                raise
            return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._writer.errors:
            try:
                self._settle(error)
            finally:
                try:
                    self._end()
                finally:
                    self._end()  # an exception may have come before the first was done
        self._writer.errors.__exit__(kind, error, trace)

    def __del__(self) -> None:
        """An exception came between the end of the block and `__exit__`, or between `__enter__` and the block."""
        writer = getattr(self, "_writer", None)
        if writer is not None and writer.lock.holds(id(self)):
            self._end()

    def _settle(self, error: BaseException | None) -> None:
        writer = self._writer
        if error is None and self._outcome is not None:
            self._is_ending = True
            try:
                writer.commit()
            # COMMIT itself failed, so nothing is to be asked. An interrupt is another matter: it may come after the
            # commit.
            except (writer.driver_error, StoreError):
                self._is_ending = False
                raise
            self._note_commit()
            writer.tidy()
        elif error is not None and not isinstance(error, (JobStoreError, writer.driver_error)):
            # An interrupt, say: a statement in the middle of its rows would keep its snapshot for as long as the
            # traceback lives.
            writer.roll_back()
            writer.disconnect()

    def _note_commit(self) -> None:
        if self._outcome is not None and self._is_ending:
            self._outcome.is_committed = self._writer.is_committed()
            self._is_ending = False

    def _end(self) -> None:
        try:
            if self._writer.lock.holds(id(self)):
                self._note_commit()
                self._writer.roll_back()
        finally:
            self._writer.lock.leave()
