"""A queue of calls to a recorder, executed in order by a thread of its own, so that a scheduler never waits for a disk.

A scheduler that waits misses runs, and one that gets an exception may stop. So each call is queued here with the
time of its event. While the store is busy, its disk is full or its server is away, the thread retries; what cannot be
recorded at all is logged. To be sure that a call is on the disk, wait for its future, for a limited time.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobstore.language.errors import JobStoreError, StoreBusy, StoreError, StoreFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobstore.recording.recorder import Recorder

MOST_WAITING = 10_000
"""The most calls to keep while the store cannot be written; further ones are dropped with a log message."""
RETRY_SECONDS = 0.25
IDLE_SECONDS = 5.0
"""The thread ends after this time without work; the next call starts another."""
EXIT_SECONDS = 10.0

_log = logging.getLogger("jobstore.integrations")


class Journal:
    """The queue for one recorder; `put` is safe in any thread and never raises."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._begin_anew()
        _journals.add(self)

    def _begin_anew(self) -> None:
        """Reset the queue, also in a forked child, which leaves the parent's calls to the parent."""
        self._waiting: deque[tuple[Callable[[Recorder], object], Future[None]]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_troubled = self._is_stalled = False

    def put(self, call: Callable[[Recorder], object]) -> Future[None]:
        """Queue a call behind the earlier ones; one that an earlier call makes is carried out at once.

        The thread repeats a call that cannot be written at the moment, so one of several steps must remember which are
        done.

        Returns:
            A future that is done when the call is, whether the call succeeded or not.
        """
        if threading.current_thread() is self._thread:
            self._carry_out(call)
            return done()
        future: Future[None] = Future()
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                _log.error("A run was not recorded: %d calls are already waiting for %s", MOST_WAITING, self.recorder)
                return done()
            self._waiting.append((call, future))
            self._changed.notify_all()
            if self._thread is None and not self._begin_thread():
                self._thread = threading.current_thread()
            else:
                return future
        self._work(idle_seconds=0)
        return future

    def _begin_thread(self) -> bool:
        """Start the thread; return False if the interpreter is shutting down: then the caller does the work."""
        thread = threading.Thread(target=self._work, name="jobstore-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def wait(self, future: Future[None], seconds: float) -> bool:
        """Wait for a call of `put`; return whether it is done.

        After a wait that was in vain, do not wait again until some call is done: callers that wait one after the other
        would add their waits up.
        """
        is_done = wait_for(future, 0 if self._is_stalled else seconds)
        self._is_stalled = not is_done
        return is_done

    def flush(self, seconds: float) -> bool:
        """Wait until the queue is empty; return False if that takes longer than `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _work(self, idle_seconds: float = IDLE_SECONDS) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._changed.wait(idle_seconds)
                if not self._waiting:
                    self._thread = None
                    return
                call, future = self._waiting[0]
            if future.set_running_or_notify_cancel():
                self._carry_out(call)
                future.set_result(None)
            self._is_stalled = False
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()

    def _carry_out(self, call: Callable[[Recorder], object]) -> None:
        while True:
            try:
                call(self.recorder)
            except JobStoreError as error:
                if not is_passing(error):
                    _log.warning("Not recorded: %s", error)
                    self._is_troubled = False
                    return
                if not self._is_troubled:
                    _log.warning("The store cannot be written; events are kept in memory until it can: %s", error)
                self._is_troubled = True
                time.sleep(RETRY_SECONDS)
                continue
            except (Exception, SystemExit):  # noqa: BLE001 - nothing may stop the thread
                _log.exception("Not recorded because of a bug in the mirror")
            self._is_troubled = False
            return


def is_passing(error: JobStoreError) -> bool:
    """Whether the same call may succeed later: the store is busy or full, or its server is away."""
    return isinstance(error, StoreError) and (error.may_repeat or isinstance(error, StoreBusy | StoreFull))


@contextmanager
def unseen(what: str) -> Iterator[None]:
    """Log a bug in the mirror instead of raising it into the scheduler."""
    try:
        yield
    except Exception:  # noqa: BLE001 - that is the purpose
        _log.exception("%s was not recorded because of a bug in the mirror", what)


def done() -> Future[None]:
    """Return a finished future, for a call that is not needed."""
    future: Future[None] = Future()
    future.set_result(None)
    return future


def wait_for(future: Future[None], seconds: float) -> bool:
    """Wait for a call; return whether it is done within `seconds`."""
    try:
        future.result(seconds)
    except FutureTimeoutError:
        return False
    return True


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork() -> None:
    for journal in _journals:
        journal._begin_anew()


@atexit.register
def _flush_all() -> None:
    for journal in list(_journals):
        if not journal.flush(EXIT_SECONDS):
            _log.error("The program ends with runs that were not recorded: %s", journal.recorder)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
