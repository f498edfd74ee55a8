"""Closes every connection before the process forks.

SQLite keeps a process-wide table of the locks it holds. A fork copies the table without the locks, so a connection that
a child opens beside an inherited one believes itself protected and is not. Therefore no connection may be open during a
fork; parent and child open new ones when they next need them. The child is refused every file of which a connection was
open nevertheless: a thread did not finish in time, or was just opening or closing it.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from jobstore.language.errors import StoreUnreadable
from jobstore.storage.limits import FORK_LOOKS, FORK_TIMEOUT_SECONDS, LOCK_PAUSE_SECONDS
from jobstore.storage.turns import frame_above, give_back, is_running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import FrameType

    from jobstore.storage.sidefiles import Identity


class Forkable:
    """An object that may have to act before or after a fork, or may hold a connection; each call may be repeated."""

    def before_fork(self) -> None:
        """Close the connection to a file and keep other threads from opening one."""

    def after_fork_in_parent(self) -> None:
        """Let threads open connections again."""

    def after_fork_in_child(self) -> None:
        """The same in the child, where the parent's threads, and so the owners of its locks, are gone."""

    def drop_if_cut_off(self, file: Path) -> bool:  # noqa: ARG002 - for those that hold one
        """Close a connection to `file` whose log is no longer the one beside it; return whether there was one."""
        return False


# Weak references: a store that is dropped without being closed must not be kept alive for forks.
_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
# Called before a fork, and so also after it, whatever is dropped or created meanwhile: locks are taken in pairs.
_told: dict[Forkable, None] = {}
# Two threads that fork at once would release each other's locks. Reentrant: a handler may fork during a fork.
_one_fork = threading.RLock()
# The function below that runs, and the thread that forks.
_frame: FrameType | None = None
_thread = 0
# The files of all open connections, from before each is opened until it is closed, by the id of the connection; also of
# those that no holder knows: one that is just being opened, or that was dropped and is closed by its finalizer.
_open: dict[int, Identity] = {}
# The thread that is just closing a connection, by the id of the connection.
_closing: dict[int, int] = {}
# Never cleared: an inherited connection cannot be closed, so the danger does not pass.
_crossed: set[Identity] = set()


def tell_of_forks(holder: Forkable) -> None:
    """Call `holder` before and after every fork, for as long as it lives; to be called before it opens a connection."""
    _known.add(holder)


def note_open(key: int, identity: Identity | None) -> None:
    """Note that a connection to a file is about to be opened; None if there is no file yet."""
    if identity is not None:
        _open.setdefault(key, identity)


def note_closed(key: int) -> None:
    """Note that a connection is closed."""
    _open.pop(key, None)


@contextmanager
def while_closing(key: int) -> Iterator[None]:
    """Let a fork wait for the block, which closes a connection."""
    try:
        _closing[key] = threading.get_ident()
        yield
        note_closed(key)
    finally:
        _closing.pop(key, None)


def check_not_crossed(path: Path, identity: Identity) -> None:
    """Raise `StoreUnreadable` if this process was forked while a thread of its parent used the file."""
    if identity in _crossed:
        raise StoreUnreadable(
            f"{path} was in use by another thread when this process was forked; start the process with "
            "spawn instead of fork"
        )


def holders() -> list[Forkable]:
    """Every object that may hold a connection in this process."""
    while True:
        with suppress(RuntimeError):  # another thread added one meanwhile
            return list(_known)


def _is_nested() -> bool:
    """Whether a signal handler forks inside one of the functions below, which then goes on with the outer fork."""
    return is_running(_frame, frame_above(1))


def _before() -> None:
    global _frame, _thread  # noqa: PLW0603 - of the process, as forks are
    if _is_nested():
        return
    _one_fork.acquire()
    try:
        _frame, _thread = frame_above(0), threading.get_ident()
        deadline = time.monotonic() + FORK_TIMEOUT_SECONDS
        for _ in range(FORK_LOOKS):
            new = [holder for holder in holders() if holder not in _told]
            _told.update(dict.fromkeys(new))
            _each(new, lambda holder: holder.before_fork())
            if not new:
                break
        while set(_closing.copy().values()) - {threading.get_ident()} and time.monotonic() < deadline:
            time.sleep(LOCK_PAUSE_SECONDS)
    finally:
        _frame = None


def _in_parent() -> None:
    global _frame, _thread  # noqa: PLW0603 - of the process, as forks are
    if _is_nested():
        return
    try:
        if _thread == threading.get_ident():  # Ctrl-C may have come while this fork waited for that of another thread
            _frame = frame_above(0)
            _each(list(_told), lambda holder: holder.after_fork_in_parent())
    finally:
        if _thread == threading.get_ident():
            _told.clear()
            _frame, _thread = None, 0
        give_back(_one_fork)


def _in_child() -> None:
    global _frame, _thread, _one_fork
    _frame, _thread, _one_fork = None, 0, threading.RLock()
    try:
        _each([*{**_told, **dict.fromkeys(holders())}], lambda holder: holder.after_fork_in_child())
    finally:
        _told.clear()
        _crossed.update(_open.values())
        _open.clear()
        _closing.clear()


def _each(holders: Iterable[Forkable], act: Callable[[Forkable], None]) -> None:
    """Let all of them act, whatever is raised meanwhile, such as Ctrl-C while one waits for a thread."""
    try:
        for holder in holders:
            act(holder)
    except BaseException:
        for holder in holders:
            with suppress(BaseException):
                act(holder)
        raise


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def keep_for_good(connection: object) -> None:
    """Keep a connection from ever being collected, even at interpreter exit: that would close it."""
    import ctypes  # rarely needed: a fork during a transaction, or a log that was removed

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
