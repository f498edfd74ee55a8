"""The one way in for writers: in turn, one at a time, over all threads and processes.

Threads of a process share two locks and processes two locks on a file beside the store, of which the first is a place
to wait in, for one: whoever leaves cannot come in again past the one that waits there.
SQLite before 3.51.3 can lose commits when two writers checkpoint at once, so its own locks are not enough.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet, WeakValueDictionary

from jobstore.language.errors import StoreBusy, StoreUnreadable
from jobstore.storage.forking import refuse_in_this_process, tell_of_forks
from jobstore.storage.limits import FORK_TIMEOUT_SECONDS, LOCK_PAUSE_SECONDS
from jobstore.storage.sidefiles import identity_of, lock_path, may_write, owner_of, share_with_writers
from jobstore.storage.turns import frame_above, give_back, is_running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType, TracebackType

_SET_LOCK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None) if struct.calcsize("P") == 8 else None  # noqa: PLR2004
"""Linux: a lock on a byte that belongs to the open file, as ``flock`` does. Elsewhere turns are left to chance."""
_TAKE: Final = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
_GIVE: Final = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0)


class Visitor(Protocol):
    """What holds a connection and takes the lock to use it."""

    def disconnect(self) -> None:
        """Close the connection; it is opened again when it is needed."""

    def abandon(self) -> None:
        """Forget the connection without closing it."""

    def drop_if_cut_off(self, file: Path) -> bool:
        """Give the connection up if its log is no longer the one beside the file; whether it was so."""


class Turns:
    """Turns among the threads of this process."""

    def __init__(self, name: object) -> None:
        """Take the name of what they wait for, for messages."""
        self._name = name
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._next = threading.RLock()
        self._turn = threading.RLock()
        self._pass: int | None = None
        self._frame: FrameType | None = None

    def passed(self, timeout_seconds: float) -> Passage:
        """A context manager; inside, nobody else is.

        Raises:
            StoreBusy: others were in for longer than the time-out.
            StoreUnreadable: the lock file cannot be made.
        """
        return Passage(self, timeout_seconds)

    def enter(self, key: int, frame: FrameType, timeout_seconds: float) -> None:
        """Wait for the turn, among the threads and then among the processes; raises as `passed` does.

        Args:
            key: what `holds` is asked with.
            frame: of the ``with`` statement; the turn counts for as long as it runs.
            timeout_seconds: how long to wait.
        """
        if is_running(self._frame, frame):
            raise StoreBusy(f"This thread is writing to {self._name} already; end that call first")
        deadline = time.monotonic() + timeout_seconds
        try:
            self._queue(deadline, timeout_seconds)
            self._pass, self._frame = key, frame
            give_back(self._next)
            self._lock(deadline, timeout_seconds)
        except BaseException:
            self.leave(close=True)
            raise

    def holds(self, key: int) -> bool:
        """Whether this is the one that is inside."""
        return self._pass == key

    def leave(self, *, close: bool = False) -> None:
        """Let the next one in; harmless where nothing, or not everything, was taken."""
        give_back(self._next)
        if self._turn.acquire(blocking=False):  # it is this thread's, or nobody's
            self._let_go(close=close)
            self._pass = self._frame = None
            give_back(self._turn)

    def _queue(self, deadline: float, timeout_seconds: float) -> None:
        for lock in (self._next, self._turn):
            if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise StoreBusy(
                    f"Other threads have held {self._name} for longer than {timeout_seconds:g} s; try again"
                )

    def _lock(self, deadline: float, timeout_seconds: float) -> None:
        """What to take beside the turn."""

    def _let_go(self, *, close: bool) -> None:
        """Give that back."""


class Gate(Turns):
    """The lock of one file in this process; get it from `gate_of`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._path = lock_path(file)
        self._descriptor: int | None = None
        self._visitors: WeakSet[Visitor] = WeakSet()
        self._is_held_for_fork = False
        super().__init__(file)
        tell_of_forks(self)

    def __del__(self) -> None:
        self._drop()

    def join(self, visitor: Visitor) -> None:
        """Tell the visitor of forks from now on, and keep the lock file open for it."""
        self._visitors.add(visitor)

    def part(self, visitor: Visitor) -> None:
        """The visitor will not come again."""
        self._visitors.discard(visitor)

    def visitors(self) -> list[Visitor]:
        """All that have joined."""
        return list(self._visitors)

    def _let_go(self, *, close: bool) -> None:
        if close or not self._visitors:
            self._close()
        else:
            self._unlock()

    def before_fork(self) -> None:
        """Let nobody in, and close the connections; see `jobstore.storage.forking`."""
        self._is_held_for_fork = self._turn.acquire(timeout=FORK_TIMEOUT_SECONDS)
        if not self._is_held_for_fork:
            return
        try:
            self._lock(time.monotonic() + FORK_TIMEOUT_SECONDS, FORK_TIMEOUT_SECONDS)
        except (StoreBusy, StoreUnreadable):
            self._is_held_for_fork = False
            self._close()
            give_back(self._turn)
            return
        try:
            for visitor in self.visitors():
                visitor.disconnect()
        finally:
            self._unlock()

    def after_fork_in_parent(self) -> None:
        """Let others in again."""
        if self._is_held_for_fork:
            give_back(self._turn)

    def after_fork_in_child(self) -> None:
        """Begin anew: what the threads of the parent held is held by nobody here."""
        self._begin_anew()
        self._drop()
        for visitor in self.visitors():
            visitor.abandon()
        if not self._is_held_for_fork and self._visitors:
            refuse_in_this_process(identity_of(self._file))

    def drop_if_cut_off(self, file: Path) -> bool:
        """The same for those that write to the file, who are asked inside the turn."""
        return file == self._file and sum(visitor.drop_if_cut_off(file) for visitor in self.visitors()) > 0

    def share(self) -> None:
        """Give the lock file to those who may write the store, now that there is one."""
        if self._descriptor is not None:
            share_with_writers(self._descriptor, self._file)

    def _lock(self, deadline: float, timeout_seconds: float) -> None:
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
        """Make the attempt until it succeeds or the time is up."""
        while True:
            try:
                attempt(descriptor)
            except (BlockingIOError, PermissionError):  # what the two kinds of locks say when they are taken
                if time.monotonic() >= deadline:
                    raise StoreBusy(
                        f"Another process has held {self._path} for longer than {timeout_seconds:g} s; try again"
                    ) from None
                time.sleep(LOCK_PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - only to be out of step
            else:
                return

    def _unlock(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open(self) -> int:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreUnreadable(self._why_closed(error)) from error
        self.share()
        return self._descriptor

    def _why_closed(self, error: OSError) -> str:
        if not os.path.lexists(self._path) or not isinstance(error, PermissionError):
            return f"{self._path} cannot be made: {error.strerror}; a Recorder needs a folder it may write to"
        if self._file.exists() and not may_write(self._file):
            return f"{self._file} may not be written by this user; check its permissions"
        return (
            f"{self._path} cannot be opened: {error.strerror}. It belongs to {owner_of(self._path)}; give it the "
            f"owner, group and mode of {self._file}, or remove it while nothing records"
        )

    def _close(self) -> None:
        """Unlock first: where this is interrupted, a descriptor may stay open, but never a lock."""
        if self._descriptor is not None:
            self._unlock()
            _go_on(self._descriptor)
            self._drop()

    def _drop(self) -> None:
        """Close the file; what another process holds by the same descriptor it goes on holding."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Passage:
    """The lock, held; use it in a ``with`` statement and nowhere else."""

    __slots__ = ("_gate", "_timeout_seconds")

    def __init__(self, gate: Turns, timeout_seconds: float) -> None:
        self._gate = gate
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> None:
        try:
            self._gate.enter(id(self), frame_above(1), self._timeout_seconds)
        except BaseException:
            self.__del__()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._gate.leave()
        finally:
            self._gate.leave()  # an exception may have come before the first was done

    def __del__(self) -> None:
        """An exception came between the end of the block and `__exit__`, or between `__enter__` and the block."""
        gate = getattr(self, "_gate", None)
        if gate is not None and gate.holds(id(self)):
            gate.leave()


def _take_turn(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _wait_next(descriptor: int) -> None:
    """Take the place of the one that waits."""
    if _SET_LOCK is not None:
        fcntl.fcntl(descriptor, _SET_LOCK, _TAKE)


def _go_on(descriptor: int) -> None:
    """Leave that place to the next."""
    if _SET_LOCK is not None:
        fcntl.fcntl(descriptor, _SET_LOCK, _GIVE)


_gates: WeakValueDictionary[Path, Gate] = WeakValueDictionary()


def gate_of(file: Path) -> Gate:
    """The lock of a file, by its real path; the same one for every writer in this process."""
    gate = _gates.get(file)
    if gate is None:  # two threads may make two, which exclude each other as two processes do
        gate = _gates[file] = Gate(file)
    return gate
