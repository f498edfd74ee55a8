"""Group commit: calls of threads that wait for each other share one transaction and one write to the disk.

Each call joins the queue; then one thread leads and writes all queued calls while the others sleep. Each call has its
own savepoint and its own error, and returns only when the commit that holds it is on the disk.

An exception may come at any moment (Ctrl-C, a signal handler that raises). It belongs to the thread it comes in: that
thread's call is withdrawn unless it is being written already, and the next leader writes the calls of the others. So
both locks are reentrant, and a call that ends by an exception releases whatever it may still hold. `_leader` is only a
hint: a thread that misses its wake-up looks again after a short time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from jobstore.language.errors import JobStoreError
from jobstore.storage.forking import Forkable, tell_of_forks
from jobstore.storage.transactions import Outcome, OutcomeUnknown
from jobstore.storage.turns import give_back, ticking

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from jobstore.storage.transactions import Transactions

    Step = Callable[[sqlite3.Connection], Any]

_T = TypeVar("_T")
_log = logging.getLogger("jobstore")

MOST_TOGETHER: Final = 64
"""The most calls in one transaction, so that other processes get their turn."""
LOOK_AGAIN_SECONDS: Final = 0.05


class Together(Forkable):
    """Writes the calls of all threads that share a writer."""

    def __init__(self, writer: Transactions, timeout_seconds: float) -> None:
        self._writer = writer
        self._timeout_seconds = timeout_seconds
        self._begin_anew()
        tell_of_forks(self)

    def _begin_anew(self) -> None:
        self._waiting: dict[_Call, None] = {}
        self._late: deque[Step] = deque()
        self._leading = threading.RLock()
        self._leader = 0
        """The thread that leads, as a hint; 0 for none."""
        self._guard = threading.RLock()
        self._flying: list[_Call] = []

    def write(self, step: Callable[[sqlite3.Connection], _T], written: list[_T] | None = None) -> _T:
        """Run `step` in a transaction; return its result once all that it wrote is on the disk.

        If it raises, nothing of it is written. A step may use only the connection: it is called again if a transaction
        has to be abandoned.

        Args:
            step: writes inside the transaction that it is given.
            written: receives what `step` returned if that is on the disk, even if an interrupt is raised instead.

        Raises:
            StoreBusy: others have been writing for longer than the timeout.
            StoreError: the file cannot be written.
        """
        if self._leader == threading.get_ident():  # a signal handler records during its thread's own call
            with self._writer.transaction() as connection:  # this refuses it, unless that is over
                value = step(connection)
            if written is not None:
                written[:] = [value]
            return value
        call = _Call(step, ticking() + self._timeout_seconds)
        try:
            self._waiting[call] = None
            self._until_over(call)
        except BaseException:
            call.is_withdrawn = True  # before anything that could be interrupted again
            self._step_down()
            self._withdraw(call)
            raise
        finally:
            # Nothing is called here, so no exception can come between these checks.
            if written is not None and call.error is None and call.outcome is not None and call.outcome.is_committed:
                written[:] = [call.value]
        if call.error is not None:
            raise call.error
        return cast("_T", call.value)

    def later(self, step: Callable[[sqlite3.Connection], Any]) -> None:
        """Write a step after the call of this thread that is under way: a finalizer came inside it."""
        self._late.append(step)

    def settle(self) -> None:
        """Write what is left for later: a finalizer came inside a prune, say, and nothing was recorded since."""
        if self._late:
            self.write(lambda _: None)

    def _until_over(self, call: _Call) -> None:
        while not call.is_over:
            if self._leader:
                call.turn.acquire(timeout=LOOK_AGAIN_SECONDS)
            if not call.is_over:
                with self._leading:
                    self._leader = threading.get_ident()
                    if not call.is_over:
                        self._lead(call)
                    while self._late:
                        self._write_late(self._late.popleft())
                    self._leader = 0
                    self._pass_on()

    def _write_late(self, step: Step) -> None:
        call = _Call(step, ticking() + self._timeout_seconds)
        self._lead(call)
        if call.error is not None:
            _log.warning("the end of a run could not be recorded: %s", call.error)

    def _step_down(self) -> None:
        """Release what this thread may still hold after an exception."""
        if self._leader == threading.get_ident():
            self._leader = 0
        give_back(self._guard)
        give_back(self._leading)

    def _lead(self, own: _Call) -> None:
        """Write the queued calls with `own` first. If that fails, write `own` alone, so that its error is its own."""
        most = MOST_TOGETHER
        while not self._write(own, most) and not own.is_over:
            most = 1

    def _write(self, own: _Call, most: int) -> bool:
        """Write up to `most` calls, `own` first, in one transaction; whether it is committed.

        Example: A (`own`), B and C share it, and C breaks it. Nothing is committed and no error is noted, as it may be
        anyone's. Then `_lead` writes A alone; B and C are written when their threads lead. Only the error of a lone
        call, or an unknown outcome, is noted.
        """
        outcome = Outcome()
        try:
            with self._writer.transaction(outcome, own.deadline - ticking()) as connection:
                calls = self._take(own, most, outcome)
                for call in calls:
                    call.attempt(connection, is_alone=len(calls) == 1)
        except OutcomeUnknown as error:
            for call in self._flying:
                call.failed(error)  # a repeated call might be written twice
        except Exception as error:  # raised again by its own thread
            if outcome.is_committed and not isinstance(error, JobStoreError):
                raise  # a signal handler's, which came after the commit
            may_repeat = getattr(error, "may_repeat", False) and ticking() < own.deadline
            if not outcome.is_committed and len(self._flying) <= 1 and not may_repeat:
                own.failed(error)
        finally:
            calls, self._flying = self._flying, []
            self._wake(calls)
        return outcome.is_committed

    def _take(self, own: _Call, most: int, outcome: Outcome) -> list[_Call]:
        """The calls for this transaction: `own`, then the others in the order of their arrival."""
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
        """Wake a waiting call, whose thread then leads."""
        for call in list(self._waiting):
            if call.is_settled:
                self._waiting.pop(call, None)  # still here if its thread was interrupted twice
            else:
                call.wake()
                return

    def _withdraw(self, call: _Call) -> None:
        """Take a call off the queue; return when it is written or certainly will not be."""
        with self._guard:
            is_flying = call in self._flying
        while is_flying and not call.is_over and self._leader:
            call.turn.acquire(timeout=LOOK_AGAIN_SECONDS)
            is_flying = call in self._flying
        self._waiting.pop(call, None)

    def after_fork_in_child(self) -> None:
        """Begin anew, without the threads that waited; the lock of the file keeps the connection from crossing."""
        self._begin_anew()


class _Call:
    """One call of `write`: its step, its result or error, and the lock that its thread sleeps on."""

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
        """Whether it need not be written any more."""
        return self.is_over or self.is_withdrawn

    def attempt(self, connection: sqlite3.Connection, *, is_alone: bool) -> None:
        """Run the step. Together with other calls, an error undoes only its own changes."""
        self.error = None
        if is_alone:
            self.value = self.step(connection)
            return
        connection.execute("SAVEPOINT call")
        try:
            self.value = self.step(connection)
        except JobStoreError as error:  # any other aborts the transaction; when run alone it becomes one of ours
            self.error = error
            connection.execute("ROLLBACK TO call")
        connection.execute("RELEASE call")

    def failed(self, error: BaseException) -> None:
        self.error = error
        self.is_over_alone = True

    def wake(self) -> None:
        """Wake its thread; a second wake-up does nothing."""
        with suppress(RuntimeError):
            self.turn.release()
