"""The lock that every writer takes: one at a time, in order of arrival, across threads and processes.

Threads of a process share two locks; the first is a waiting place for one thread. Processes share a lock on a file
beside the store, and queue by locking bytes of that file. Each process locks the byte whose number is the time its
thread arrived (the byte need not exist), and may take the lock while no lower byte is locked. The system releases all
of these locks when a process dies. SQLite before 3.51.3 can lose commits when two writers checkpoint at once, so its
own locks are not enough.

For example, A holds the lock, B arrived at time 10 and C at time 20. B and C have locked the bytes 10 and 20. When A
leaves, C may find the lock free first, but sees byte 10 locked and gives the lock back; B takes it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakSet, WeakValueDictionary

from jobstore.language.errors import StoreBusy, StoreUnreadable
from jobstore.storage.forking import Forkable, tell_of_forks
from jobstore.storage.limits import FORK_TIMEOUT_SECONDS, LINE_STUCK_SECONDS, LOCK_PAUSE_SECONDS, MOST_COUNTED
from jobstore.storage.sidefiles import lock_path, may_write, owner_of, share_with_writers
from jobstore.storage.turns import CHANCE, frame_above, give_back, is_running, ticking

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType, TracebackType

    from jobstore.storage.writer import Writer

# Linux only: a byte lock that belongs to the open file, as ``flock`` does. Elsewhere the order is left to chance.
_SET_LOCK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None) if struct.calcsize("P") == 8 else None  # noqa: PLR2004
# ``struct flock`` on 64-bit Linux: type, whence, start, length, pid (which must be 0 for these locks).
_RANGE: Final = "hhqqi4x"


class AlreadyWriting(StoreBusy):
    """A call came inside another of the same thread, from a signal handler or a finalizer."""


class ThreadLock:
    """A lock among the threads of this process."""

    def __init__(self, name: object) -> None:
        """Make the lock; `name` is what it protects, for messages."""
        self._name = name
        self._begin_anew()

    def _begin_anew(self) -> None:
        # Two locks keep threads in order: one thread waits for its turn, all later ones for its place. Reentrant locks
        # know their thread, so releasing one that was not taken is harmless.
        self._next = threading.RLock()
        self._turn = threading.RLock()
        self._key: int | None = None
        self._frame: FrameType | None = None

    def acquired(self, timeout_seconds: float) -> Acquired:
        """A context manager that holds the lock and excludes every other thread and process.

        Raises:
            StoreBusy: others held it for longer than the timeout.
            StoreUnreadable: the lock file cannot be created.
        """
        return Acquired(self, timeout_seconds)

    def enter(self, key: int, frame: FrameType, timeout_seconds: float) -> None:
        """Wait for the turn, first among the threads, then among the processes; raises as `acquired` does.

        Args:
            key: identifies the holder to `holds`.
            frame: of the ``with`` statement; the turn is valid for as long as it runs.
            timeout_seconds: how long to wait.
        """
        # A signal handler that writes during a write of its own thread would wait for itself.
        if is_running(self._frame, frame):
            raise AlreadyWriting(f"This thread is already writing to {self._name}; finish that call first")
        came_at = ticking()
        try:
            self._queue(came_at + timeout_seconds)
            self._key, self._frame = key, frame
            give_back(self._next)
            # Threads first, processes second: only one thread of each process joins the line of processes.
            self._lock(int(came_at * 1e9), timeout_seconds)
        except BaseException:
            self.leave(close=True)
            raise

    def holds(self, key: int) -> bool:
        return self._key == key

    def leave(self, *, close: bool = False) -> None:
        """Let the next one in; harmless if nothing, or not everything, was taken."""
        give_back(self._next)
        try:
            if self._turn.acquire(blocking=False):  # taken by this thread, or free
                self._key = self._frame = None  # first: a repeated call must not end the next thread's turn
                self._let_go(close=close)
        finally:
            give_back(self._turn)

    def _queue(self, deadline: float) -> None:
        for lock in (self._next, self._turn):
            if not lock.acquire(timeout=max(0.0, deadline - ticking())):
                raise StoreBusy(f"Other threads have held {self._name} for longer than the timeout; try again")

    def _lock(self, came_at: int, timeout_seconds: float) -> None:
        """Take what a child class locks beside the turn; `came_at` is when the thread arrived, in ns."""

    def _let_go(self, *, close: bool) -> None:
        """Release it."""


class FileLock(ThreadLock, Forkable):
    """The lock of one file in this process; get it from `lock_of`."""

    def __init__(self, file: Path) -> None:
        self._descriptor: int | None = None
        self._file = file
        self._path = lock_path(file)
        self._users: WeakSet[Writer] = WeakSet()
        self._is_held_for_fork = False
        super().__init__(file)
        tell_of_forks(self)

    def __del__(self) -> None:
        self._drop()

    def add(self, user: Writer) -> None:
        """Disconnect this user before forks, and keep the lock file open for it."""
        self._users.add(user)

    def remove(self, user: Writer) -> None:
        self._users.discard(user)

    def users(self) -> list[Writer]:
        return list(self._users)

    def _let_go(self, *, close: bool) -> None:
        if close or not self._users:
            self._close()
        else:
            self._unlock()

    def before_fork(self) -> None:
        """Take the lock and close the connections; see `jobstore.storage.forking`."""
        is_own = is_running(self._frame, frame_above(0))  # forked by a signal handler during this thread's own turn
        if self._is_held_for_fork or is_own or not self._turn.acquire(timeout=FORK_TIMEOUT_SECONDS):
            return
        try:
            # The lock among processes too: closing the last connection writes the log back.
            self._lock(int(ticking() * 1e9), FORK_TIMEOUT_SECONDS)
            try:
                for user in self.users():
                    user.disconnect()
                self._is_held_for_fork = True
            finally:
                self._unlock()
        except BaseException as error:
            if not self._is_held_for_fork:
                self._close()
                self._turn.release()
            if not isinstance(error, (StoreBusy, StoreUnreadable)):
                raise

    def after_fork_in_parent(self) -> None:
        if self._is_held_for_fork:
            self._is_held_for_fork = False
            self._turn.release()  # once: a handler may have forked just when this thread took it

    def after_fork_in_child(self) -> None:
        """Start with new locks: the threads that held the parent's are gone."""
        self._is_held_for_fork = False
        self._begin_anew()
        self._drop()
        for user in self.users():
            user.abandon()

    def drop_if_cut_off(self, file: Path) -> bool:
        """Make each user of the file give up a connection whose log is gone; inside the lock."""
        return file == self._file and sum(user.drop_if_cut_off(file) for user in self.users()) > 0

    def share(self) -> None:
        """Give the lock file to the users who may write the store, once that exists."""
        if self._descriptor is not None:
            share_with_writers(self._descriptor, self._file)

    def _lock(self, came_at: int, timeout_seconds: float) -> None:
        while not self._lock_open_file(came_at, timeout_seconds):
            self._close()  # someone removed the file: others lock a new one

    def _lock_open_file(self, came_at: int, timeout_seconds: float) -> bool:
        """Lock the open file; return whether it still has its name."""
        descriptor = self._open() if self._descriptor is None else self._descriptor
        # The usual case costs two system calls: if none waits, no place in line is taken.
        if _came_first(descriptor, came_at) is not None or not _take_turn(descriptor):
            try:
                self._wait_in_line(descriptor, _stand_in_line(descriptor, came_at), timeout_seconds)
            finally:
                _leave_line(descriptor)
        # A lock on a removed file excludes only those that opened it before: later ones create a new file.
        return os.fstat(descriptor).st_nlink > 0

    def _wait_in_line(self, descriptor: int, place: int, timeout_seconds: float) -> None:
        """Take the lock when no place is lower, the first in line leaves it free for too long, or time is up."""
        # Counted from the thread's arrival, so waiting for other threads counts too.
        deadline = place / 1e9 + timeout_seconds
        first, since = None, 0.0
        while True:
            now, (found, before) = ticking(), _line_before(descriptor, place)
            # Try before judging the line: a lock that others hold shows that the line moves.
            is_last_look, is_free = now >= deadline, _take_turn(descriptor)
            if is_free and (not before or is_last_look or (found == first and now > since + LINE_STUCK_SECONDS)):
                return
            if is_last_look:
                raise StoreBusy(f"Another process has held {self._path} for longer than the timeout; try again")
            if is_free:
                self._unlock()
            # A new first, or a lock in use, shows that the line moves: the time for a suspended one begins again.
            if found != first or not is_free:
                first, since = found, now
            # Look as often as the turn may come, at random so that processes do not look in step.
            time.sleep(LOCK_PAUSE_SECONDS * max(1, 2 * before - 2) * (0.5 + CHANCE.random()))

    def _unlock(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open(self) -> int:
        try:
            # Not through a symbolic link, which in a folder that others can write to could point at any file of this
            # user.
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreUnreadable(self._why_closed(error)) from error
        self.share()
        return self._descriptor

    def _why_closed(self, error: OSError) -> str:
        if not os.path.lexists(self._path) or not isinstance(error, PermissionError):
            return f"{self._path} cannot be created: {error.strerror}; a Recorder needs a folder that it can write to"
        if self._file.exists() and not may_write(self._file):
            return f"{self._file} is not writable by this user; check its permissions"
        return (
            f"{self._path} cannot be opened: {error.strerror}. It belongs to {owner_of(self._path)}; give it the "
            f"owner, group and mode of {self._file}, or remove it while nothing records"
        )

    def _close(self) -> None:
        """Unlock first: if this is interrupted, a descriptor may stay open, but never a lock."""
        if self._descriptor is not None:
            self._unlock()
            _leave_line(self._descriptor)
            self._drop()

    def _drop(self) -> None:
        """Close the file; a process that holds a lock through the same descriptor keeps it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Acquired:
    """The held lock; use it only in a ``with`` statement."""

    __slots__ = ("_lock", "_timeout_seconds")

    def __init__(self, lock: ThreadLock, timeout_seconds: float) -> None:
        self._lock = lock
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> None:
        try:
            self._lock.enter(id(self), frame_above(1), self._timeout_seconds)
        except BaseException:
            self.__del__()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._lock.leave()
        except BaseException:
            # Only then: a needless call could itself be interrupted with the free lock just taken, and keep it.
            self._lock.leave()
            raise

    def __del__(self) -> None:
        """Release a lock that an exception left held, after the block but before `__exit__` or before the block."""
        lock = getattr(self, "_lock", None)
        if lock is not None and lock.holds(id(self)):
            lock.leave()


def _take_turn(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stand_in_line(descriptor: int, came_at: int) -> int:
    """Take a place in line: the arrival time, or the next free number after it."""
    while _SET_LOCK is not None:
        try:
            fcntl.fcntl(descriptor, _SET_LOCK, struct.pack(_RANGE, fcntl.F_WRLCK, os.SEEK_SET, came_at, 1, 0))
        except (BlockingIOError, PermissionError):
            came_at += 1
        else:
            break
    return came_at


def _leave_line(descriptor: int) -> None:
    if _SET_LOCK is not None:
        fcntl.fcntl(descriptor, _SET_LOCK, struct.pack(_RANGE, fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))


def _came_first(descriptor: int, place: int, after: int = 0) -> int | None:
    """A place of another process between `after` and `place`, exclusive; None if there is none."""
    if _SET_LOCK is None:
        return None
    asked = struct.pack(_RANGE, fcntl.F_WRLCK, os.SEEK_SET, after + 1, place - after - 1, 0)
    kind, _, found, _, _ = struct.unpack(_RANGE, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else found


def _line_before(descriptor: int, place: int) -> tuple[int | None, int]:
    """The first place in line, and roughly how many places come before this one."""
    first = found = _came_first(descriptor, place)
    before = 0
    while found is not None and before < MOST_COUNTED and found + 1 < place:
        before += 1
        found = _came_first(descriptor, place, found)
    return first, before


_locks: WeakValueDictionary[Path, FileLock] = WeakValueDictionary()


def lock_of(file: Path) -> FileLock:
    """The lock of a file, by its real path; every writer of this process gets the same one."""
    lock = _locks.get(file)
    if lock is None:  # two threads may create two, which exclude each other like two processes
        lock = _locks[file] = FileLock(file)
    return lock
