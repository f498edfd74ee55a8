"""Calls of threads that wait for each other are written together: one transaction, one write to the disk for all.

Every call joins the waiting ones; then one thread leads and writes all that wait, while the others sleep. Each call
has its own savepoint and its own error, and none returns before the commit that holds it is on the disk.

An exception may come at any moment (Ctrl-C, a signal handler that raises). It belongs to the thread it comes in: a
call of that thread that is not yet being written is withdrawn, and those of others are written by the next that leads.
So both locks know their thread, and a call that ends by an exception gives back what it may still hold; who leads is
noted as a hint, and a thread that misses one looks again after a short time.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from jobstore.language.errors import JobStoreError
from jobstore.storage.forking import tell_of_forks
from jobstore.storage.transactions import Outcome, OutcomeUnknown
from jobstore.storage.turns import give_back

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from jobstore.storage.transactions import Transactions

    Step = Callable[[sqlite3.Connection], Any]

_T = TypeVar("_T")

MOST_TOGETHER: Final = 64
"""Calls in one transaction, so that other processes get their turn."""
LOOK_AGAIN_SECONDS: Final = 0.05


class Together:
    """Writes the calls of all threads that share a writer."""

    def __init__(self, writer: Transactions, timeout_seconds: float) -> None:
        self._writer = writer
        self._timeout_seconds = timeout_seconds
        self._begin_anew()
        tell_of_forks(self)

    def _begin_anew(self) -> None:
        self._waiting: dict[_Call, None] = {}
        self._leading = threading.RLock()
        self._leader = 0
        """The thread that leads, as a hint; 0 for none."""
        self._guard = threading.RLock()
        self._flying: list[_Call] = []

    def write(self, step: Callable[[sqlite3.Connection], _T], written: list[_T] | None = None) -> _T:
        """What `step` returns, once all that it wrote is on the disk; what it raises, with nothing of it written.

        A step must not do anything but with the connection: it is called again where a transaction had to be given up.

        Args:
            step: writes inside the transaction that it is given.
            written: gets what `step` returned, also where it is on the disk and an interrupt is raised instead.

        Raises:
            StoreBusy: others have been writing for longer than the timeout.
            StoreError: the file cannot be written.
        """
        if self._leader == threading.get_ident():  # a signal handler that records inside a call of its own thread
            with self._writer.transaction() as connection:  # which this refuses
                return step(connection)
        call = _Call(step, time.monotonic() + self._timeout_seconds)
        try:
            self._waiting[call] = None
            self._until_over(call)
        except BaseException:
            call.is_withdrawn = True  # before anything that could be interrupted again
            self._step_down()
            self._withdraw(call)
            raise
        finally:
            # Without a call no exception can come between these looks.
            if written is not None and call.error is None and call.outcome is not None and call.outcome.is_committed:
                written[:] = [call.value]
        if call.error is not None:
            raise call.error
        return cast("_T", call.value)

    def _until_over(self, call: _Call) -> None:
        while not call.is_over:
            if self._leader:
                call.turn.acquire(timeout=LOOK_AGAIN_SECONDS)
            if not call.is_over:
                with self._leading:
                    self._leader = threading.get_ident()
                    if not call.is_over:
                        self._lead(call)
                    self._leader = 0
                    self._pass_on()

    def _step_down(self) -> None:
        """Give back what this thread may still hold after an exception."""
        if self._leader == threading.get_ident():
            self._leader = 0
        give_back(self._guard)
        give_back(self._leading)

    def _lead(self, own: _Call) -> None:
        """Write what waits, `own` among it; then its error is its own, whatever became of the others."""
        most = MOST_TOGETHER
        while not self._write(own, most) and not own.is_over:
            most = 1

    def _write(self, own: _Call, most: int) -> bool:
        """Whether up to `most` calls, `own` first, are written; an error that is no other's is noted as its own."""
        outcome = Outcome()
        try:
            with self._writer.transaction(outcome, own.deadline - time.monotonic()) as connection:
                calls = self._take(own, most, outcome)
                for call in calls:
                    call.attempt(connection, is_alone=len(calls) == 1)
        except OutcomeUnknown as error:
            for call in self._flying:
                call.failed(error)  # alone it might be written twice
        except Exception as error:  # noqa: BLE001 - raised again by its own thread
            may_repeat = getattr(error, "may_repeat", False) and time.monotonic() < own.deadline
            if not outcome.is_committed and len(self._flying) <= 1 and not may_repeat:
                own.failed(error)
        finally:
            calls, self._flying = self._flying, []
            self._wake(calls)
        return outcome.is_committed

    def _take(self, own: _Call, most: int, outcome: Outcome) -> list[_Call]:
        """The calls for this transaction, in the order of asking but for `own`, which comes first."""
        with self._guard:
            waiting = [call for call in list(self._waiting) if call is not own and not call.is_settled]
            self._flying = [own, *waiting[: most - 1]]
            for call in self._flying:
                call.outcome = outcome
            return self._flying

    def _wake(self, calls: list[_Call]) -> None:
        for call in calls:
            if call.is_over:
                self._waiting.pop(call, None)
                call.wake()

    def _pass_on(self) -> None:
        """Tell one that still waits to lead next."""
        for call in list(self._waiting):
            if call.is_settled:
                self._waiting.pop(call, None)  # left here where its thread was interrupted twice
            else:
                call.wake()
                return

    def _withdraw(self, call: _Call) -> None:
        """Return when the call is written or certainly will not be."""
        with self._guard:
            is_flying = call in self._flying
        while is_flying and not call.is_over and self._leader:
            call.turn.acquire(timeout=LOOK_AGAIN_SECONDS)
            is_flying = call in self._flying
        self._waiting.pop(call, None)

    def before_fork(self) -> None:
        """Nothing: the lock of the file keeps the connection from crossing; see `jobstore.storage.lock`."""

    def after_fork_in_parent(self) -> None:
        """Nothing."""

    def after_fork_in_child(self) -> None:
        """The threads that waited are not here."""
        self._begin_anew()


class _Call:
    """One step on its way into the file."""

    __slots__ = ("deadline", "error", "is_over_alone", "is_withdrawn", "outcome", "step", "turn", "value")

    def __init__(self, step: Step, deadline: float) -> None:
        self.step = step
        self.deadline = deadline
        self.value: Any = None
        self.error: BaseException | None = None
        self.outcome: Outcome | None = None
        self.is_over_alone = False
        self.is_withdrawn = False
        self.turn = threading.Lock()
        self.turn.acquire()

    @property
    def is_over(self) -> bool:
        """Whether it is on the disk or has failed for good."""
        return self.is_over_alone or (self.outcome is not None and self.outcome.is_committed)

    @property
    def is_settled(self) -> bool:
        """Whether it does not have to be written any more."""
        return self.is_over or self.is_withdrawn

    def attempt(self, connection: sqlite3.Connection, *, is_alone: bool) -> None:
        """Take the step; among others, what it raises undoes its own changes alone."""
        self.error = None
        if is_alone:
            self.value = self.step(connection)
            return
        connection.execute("SAVEPOINT call")
        try:
            self.value = self.step(connection)
        except JobStoreError as error:  # any other breaks the transaction off; alone it becomes one of ours
            self.error = error
            connection.execute("ROLLBACK TO call")
        connection.execute("RELEASE call")

    def failed(self, error: BaseException) -> None:
        self.error = error
        self.is_over_alone = True

    def wake(self) -> None:
        """Let its thread look again; once is enough."""
        with suppress(RuntimeError):
            self.turn.release()
