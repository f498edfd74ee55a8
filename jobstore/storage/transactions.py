"""Write transactions on one connection, one at a time: what the writers of a file and of a server share.

Every write to a store runs inside `Transactions.transaction`, a checkpoint inside `Transactions.held`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from jobstore.language.errors import Conflict, JobStoreError, StoreError, StoreUnreadable
from jobstore.storage.turns import frame_above, ticking

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
    """Whether a transaction was committed, even if an exception arrived between SQLite's answer and the next line."""

    __slots__ = ("is_committed",)

    def __init__(self) -> None:
        self.is_committed = False


class OutcomeUnknown(StoreUnreadable):
    """It is unknown whether a transaction was committed: do not repeat its steps unasked."""


class WriterClosed(Conflict):
    """This recorder was closed; the store itself may be in order."""


class Transactions:
    """Write transactions on one connection, one at a time; a child class says where and how to write.

    Attributes:
        path: of the store, for messages.
        timeout_seconds: how long a call waits for others.
        lock: the lock that makes writers take turns.
        errors: a context manager; errors of the driver leave it as a `StoreError`.
        driver_error: the driver's exception class.
        identity: which file it is, during a turn; None for a server.
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

        It is committed and on disk at the end, or rolled back by any exception. Use it in a ``with`` statement.

        Args:
            outcome: set to whether the transaction was committed.
            timeout_seconds: how long to wait for others; by default, the writer's own timeout.

        Raises:
            StoreBusy: others have been writing for longer than the timeout, or this thread is already writing.
            StoreError: the store cannot be written.
        """
        return Turn(self, outcome or Outcome(), timeout_seconds)

    def held(self) -> Turn:
        """The connection without a transaction, in turn with those that have one."""
        return Turn(self, None, None)

    def write(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `step` in a transaction and return its result; repeat it if a server gave up and wrote nothing."""
        deadline = ticking() + self.timeout_seconds
        while True:
            try:
                with self.transaction() as connection:
                    return step(connection)
            except StoreError as error:
                # Repeat only if the server has certainly written nothing: a repeated step could record a run twice.
                if not error.may_repeat or ticking() >= deadline:
                    raise

    def current(self) -> sqlite3.Connection:
        """The connection, opened again where needed; inside the turn."""
        raise NotImplementedError

    def begin(self, connection: sqlite3.Connection) -> None:
        raise NotImplementedError

    def commit(self) -> None:
        raise NotImplementedError

    def is_committed(self) -> bool:
        """Whether `commit` succeeded, if an exception arrived after it had begun."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Do periodic maintenance after a commit."""
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
        """Delete what no execution uses any more; for a file, `jobstore.recording.leftovers` does it."""
        raise NotImplementedError


class Turn:
    """A writer's turn, with or without a transaction; a class, because a generator would be three times as slow."""

    __slots__ = ("_is_ending", "_outcome", "_timeout_seconds", "_writer")

    def __init__(self, writer: Transactions, outcome: Outcome | None, timeout_seconds: float | None) -> None:
        """Without an outcome, no transaction is begun."""
        self._writer = writer
        self._outcome = outcome
        self._is_ending = False
        self._timeout_seconds = writer.timeout_seconds if timeout_seconds is None else max(0.0, timeout_seconds)

    def __enter__(self) -> sqlite3.Connection:
        writer = self._writer
        with writer.errors:
            try:
                # The caller's frame, not this one: the turn lasts as long as the block of the caller's with statement.
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
                except BaseException:
                    # Only then: a needless call could itself be interrupted with the free lock just taken, and keep it.
                    self._end()
                    raise
        self._writer.errors.__exit__(kind, error, trace)

    def __del__(self) -> None:
        """End a turn that an exception left open, after the block but before `__exit__` or before the block."""
        writer = getattr(self, "_writer", None)
        if writer is not None and writer.lock.holds(id(self)):
            self._end()

    def _settle(self, error: BaseException | None) -> None:
        writer = self._writer
        if error is None and self._outcome is not None:
            self._is_ending = True
            try:
                writer.commit()
            # COMMIT itself failed, so nothing was committed. An interrupt is different: it may arrive after the commit.
            except (writer.driver_error, OutcomeUnknown):
                self._is_ending = False
                raise
            self._note_commit()
            writer.tidy()
        elif error is not None and not isinstance(error, (JobStoreError, writer.driver_error)):
            # After an interrupt, an unfinished statement would keep its snapshot for as long as the traceback lives.
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
