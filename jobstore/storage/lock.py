"""The one way in for writers: in turn, one at a time, over all threads and processes.

Threads of a process queue up and are let in first come, first served: with a plain lock, one that records
without a pause keeps the others out. Processes share ``flock`` on a file beside the store, and before it a
place to wait in, where there is room for one: whoever goes out cannot go in again past the one that waits.
SQLite before 3.51.3 can lose commits when two writers checkpoint at once, so its own locks are not enough.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet, WeakValueDictionary

from jobstore.language.errors import StoreBusy, StoreUnreadable
from jobstore.storage.forking import tell_of_forks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

PAUSE_SECONDS: Final = 0.0005
"""About so long a process sleeps before it looks again whether the file is free."""
FORK_TIMEOUT_SECONDS: Final = 5.0

_SET_LOCK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None) if struct.calcsize("P") == 8 else None  # noqa: PLR2004
"""Linux: a lock on a byte that belongs to the open file, as ``flock`` does. Elsewhere turns are left to chance."""
_TAKE: Final = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
_GIVE: Final = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0)


class Queue:
    """A lock that is handed over in the order of asking; not reentrant.

    >>> queue = Queue()
    >>> queue.enter(1.0), queue.enter(0.01)
    (True, False)
    >>> queue.leave()
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._is_taken = False

    def enter(self, timeout_seconds: float) -> bool:
        """Whether the turn came in time."""
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        if turn.acquire(timeout=timeout_seconds):
            return True
        with self._guard:
            if turn not in self._waiting:
                return True  # it came at the last moment
            self._waiting.remove(turn)
            return False

    def leave(self) -> None:
        """Lets the next one in."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False


class Visitor(Protocol):
    """What holds a connection that goes through a gate."""

    def disconnect(self) -> None:
        """Closes the connection; it is opened again when it is needed."""

    def abandon(self) -> None:
        """Forgets the connection without closing it."""


class Gate:
    """The gate of one file in this process; get it from `gate_of`."""

    def __init__(self, file: Path) -> None:
        self._descriptor: int | None = None
        self._path = lock_path(file)
        self._queue = Queue()
        self._visitors: WeakSet[Visitor] = WeakSet()
        self._is_held_for_fork = False
        tell_of_forks(self)

    def __del__(self) -> None:
        self._close()

    def join(self, visitor: Visitor) -> None:
        """Tells the visitor of forks from now on, and keeps the lock file open for it."""
        self._visitors.add(visitor)

    def part(self, visitor: Visitor) -> None:
        """The visitor will not come again."""
        self._visitors.discard(visitor)

    def passed(self, timeout_seconds: float) -> Passage:
        """A context manager; inside, nobody else is.

        Raises:
            StoreBusy: others were in for longer than the time-out.
            StoreUnreadable: the lock file cannot be made.
        """
        return Passage(self, timeout_seconds)

    def enter(self, timeout_seconds: float) -> None:
        """Waits for the turn, among the threads and then among the processes; raises as `passed` does."""
        if not self._queue.enter(timeout_seconds):
            raise self._busy("Other threads have", timeout_seconds)
        try:
            self._lock(timeout_seconds)
        except BaseException:
            self._queue.leave()
            raise

    def leave(self) -> None:
        """Lets the next one in."""
        try:
            self._unlock()
        finally:
            self._queue.leave()

    def before_fork(self) -> None:
        """Lets nobody in, and closes the connections; see `jobstore.storage.forking`."""
        self._is_held_for_fork = self._queue.enter(FORK_TIMEOUT_SECONDS)
        if not self._is_held_for_fork:
            return
        try:
            self._lock(FORK_TIMEOUT_SECONDS)
        except (StoreBusy, StoreUnreadable):
            return
        try:
            for visitor in list(self._visitors):
                visitor.disconnect()
        finally:
            self._unlock()

    def after_fork_in_parent(self) -> None:
        """Lets others in again."""
        if self._is_held_for_fork:
            self._queue.leave()

    def after_fork_in_child(self) -> None:
        """Begins anew: what the threads of the parent held is held by nobody here."""
        self._queue = Queue()
        self._close()
        for visitor in list(self._visitors):
            visitor.abandon()

    def _lock(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self._lock_open_file(deadline, timeout_seconds):
            self._close()  # someone removed the file: others will lock a new one

    def _lock_open_file(self, deadline: float, timeout_seconds: float) -> bool:
        """Whether the file that is locked now still has its name."""
        descriptor = self._open() if self._descriptor is None else self._descriptor
        try:
            self._until(deadline, _wait_next, descriptor, timeout_seconds)
            self._until(deadline, _take_turn, descriptor, timeout_seconds)
        finally:
            _go_on(descriptor)
        return os.fstat(descriptor).st_nlink > 0

    def _until(self, deadline: float, attempt: Callable[[int], None], descriptor: int, timeout_seconds: float) -> None:
        """Makes the attempt until it succeeds or the time is up."""
        while True:
            try:
                attempt(descriptor)
            except (BlockingIOError, PermissionError):  # what the two kinds of locks say when they are taken
                if time.monotonic() >= deadline:
                    raise self._busy("Another process has", timeout_seconds) from None
                time.sleep(PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - only to be out of step
            else:
                return

    def _unlock(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            if not self._visitors:
                self._close()

    def _open(self) -> int:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise StoreUnreadable(
                f"{self._path} cannot be made: {error.strerror}; a Recorder needs a folder it may write to"
            ) from error
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _busy(self, who: str, timeout_seconds: float) -> StoreBusy:
        return StoreBusy(f"{who} held {self._path} for longer than {timeout_seconds:g} s; try again")


class Passage:
    """Being inside a gate; a class, since a generator costs each recorded run three times as much."""

    __slots__ = ("_gate", "_timeout_seconds")

    def __init__(self, gate: Gate, timeout_seconds: float) -> None:
        self._gate = gate
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> None:
        self._gate.enter(self._timeout_seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.leave()


def _take_turn(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _wait_next(descriptor: int) -> None:
    """Takes the place of the one that waits."""
    if _SET_LOCK is not None:
        fcntl.fcntl(descriptor, _SET_LOCK, _TAKE)


def _go_on(descriptor: int) -> None:
    """Leaves that place to the next."""
    if _SET_LOCK is not None:
        fcntl.fcntl(descriptor, _SET_LOCK, _GIVE)


_gates: WeakValueDictionary[Path, Gate] = WeakValueDictionary()


def gate_of(file: Path) -> Gate:
    """The gate of a file, by its real path; the same for all that write to it in this process."""
    gate = _gates.get(file)
    if gate is None:  # two threads may make two, which exclude each other as two processes do
        gate = _gates[file] = Gate(file)
    return gate


def lock_path(file: Path) -> Path:
    """The file that processes lock."""
    return file.with_name(f"{file.name}.lock")
