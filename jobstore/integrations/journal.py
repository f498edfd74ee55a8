"""Calls to a recorder, carried out in order by a thread of their own: a scheduler never waits for a disk.

A scheduler that waits misses runs, and one that gets an exception may stop. So each call is queued here with the
time at which it happened. While the store is busy or its disk is full, the thread tries again; what cannot be
recorded at all goes to the log. To be sure that a call is on the disk, wait for its future, for a bounded time.
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

from jobstore.language.errors import JobStoreError, StoreBusy, StoreFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobstore.recording.recorder import Recorder

MOST_WAITING = 10_000
"""How many calls may wait while the store cannot be written; further ones go to the log instead."""
RETRY_SECONDS = 0.25
IDLE_SECONDS = 5.0
"""The thread ends after this time without work; the next call starts another."""
EXIT_SECONDS = 10.0

_log = logging.getLogger("jobstore.integrations")


class Journal:
    """The calls that wait for one recorder; `put` is safe from any thread and never raises."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._begin_anew()
        _journals.add(self)

    def _begin_anew(self) -> None:
        """Nothing waits and no thread runs; a child process leaves the parent's calls to the parent."""
        self._waiting: deque[tuple[Callable[[Recorder], object], Future[None]]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_troubled = False

    def put(self, call: Callable[[Recorder], object]) -> Future[None]:
        """Queue the call; it is carried out after those before it.

        A call that meets a busy store is made again, so one of several steps must know which it has taken.

        Returns:
            A future that is done when the call is, whether it succeeded or not.
        """
        future: Future[None] = Future()
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                _log.error("A run was not recorded: %d calls are already waiting for %s", MOST_WAITING, self.recorder)
                future.set_result(None)
                return future
            self._waiting.append((call, future))
            self._changed.notify_all()
            if self._thread is None and not self._begin_thread():
                self._thread = threading.current_thread()
            else:
                return future
        self._work(idle_seconds=0)
        return future

    def _begin_thread(self) -> bool:
        """Whether one could be begun; while the interpreter ends it cannot, and the caller does the work."""
        thread = threading.Thread(target=self._work, name="jobstore-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits; False when the time is up before."""
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
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()

    def _carry_out(self, call: Callable[[Recorder], object]) -> None:
        while True:
            try:
                call(self.recorder)
            except (StoreBusy, StoreFull) as error:
                if not self._is_troubled:
                    _log.warning("The store cannot be written; events are kept in memory until it can: %s", error)
                self._is_troubled = True
                time.sleep(RETRY_SECONDS)
                continue
            except JobStoreError as error:
                _log.warning("Not recorded: %s", error)
            except Exception:  # noqa: BLE001 - nothing may stop the thread
                _log.exception("Not recorded because of a bug in the mirror")
            self._is_troubled = False
            return


@contextmanager
def unseen(what: str) -> Iterator[None]:
    """A bug of ours goes to the log, and never to the scheduler."""
    try:
        yield
    except Exception:  # noqa: BLE001 - that is the task
        _log.exception("%s was not recorded because of a bug in the mirror", what)


def wait_for(future: Future[None], seconds: float) -> bool:
    """Whether the call was carried out within the time."""
    try:
        future.result(seconds)
    except FutureTimeoutError:
        return False
    return True


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork() -> None:
    for journal in _journals:
        journal._begin_anew()  # the other half of this class


@atexit.register
def _flush_all() -> None:
    for journal in list(_journals):
        if not journal.flush(EXIT_SECONDS):
            _log.error("The program ends with runs that were not recorded: %s", journal.recorder)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
