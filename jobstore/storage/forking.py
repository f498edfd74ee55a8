"""Closes every connection before the process forks.

SQLite keeps a process-wide table of the locks it holds. A fork copies the table without the locks, so a connection that
a child opens beside an inherited one believes itself protected and is not. Therefore no connection may be open during a
fork; parent and child open new ones when they next need them. If a thread does not finish in time, the child is refused
the file.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jobstore.language.errors import StoreUnreadable
from jobstore.storage.turns import give_back

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jobstore.storage.sidefiles import Identity


class Forkable(Protocol):
    """An object that has to act before and after a fork."""

    def before_fork(self) -> None:
        """Close the connection and keep other threads from opening one."""

    def after_fork_in_parent(self) -> None:
        """Let threads open connections again."""

    def after_fork_in_child(self) -> None:
        """The same in the child, where the parent's threads, and so the owners of its locks, are gone."""


@runtime_checkable
class Holder(Protocol):
    """An object that may hold a connection to a file."""

    def drop_if_cut_off(self, file: Path) -> bool:
        """Close a connection to `file` whose log is no longer the one beside it; return whether there was one."""


# Weak references: a store that is dropped without being closed must not be kept alive for forks.
_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
# Called before a fork, and so also after it, whatever is dropped or created meanwhile: locks are taken in pairs.
_told: list[Forkable] = []
# Held during a fork, and while a holder that no fork is told of yet opens its connection. Without it, two threads that
# fork at once would also release each other's locks. Reentrant: a handler may fork during a fork.
_no_fork = threading.RLock()
# Never cleared: an inherited connection cannot be closed, so the danger does not pass.
_crossed: set[Identity] = set()


def tell_of_forks(holder: Forkable, begin: Callable[[], object] | None = None) -> None:
    """Call `holder` before and after every fork, for as long as it lives.

    Args:
        holder: the object.
        begin: opens its connection; no fork comes between that and the first fork that the holder is told of.
    """
    try:
        with _no_fork:
            if begin is not None:
                begin()
            _known.add(holder)
    finally:
        give_back(_no_fork)


def holders() -> list[Holder]:
    """Every object that may hold a connection in this process."""
    return [holder for holder in _all_known() if isinstance(holder, Holder)]


def refuse_in_this_process(identity: Identity | None) -> None:
    """In a child: refuse a file from now on, because a connection to it was open during the fork."""
    if identity is not None:
        _crossed.add(identity)


def check_not_crossed(path: Path, identity: Identity) -> None:
    """Raise `StoreUnreadable` if this process was forked while a thread of its parent used the file."""
    if identity in _crossed:
        raise StoreUnreadable(
            f"{path} was in use by another thread when this process was forked; start the process with "
            "spawn instead of fork"
        )


def _all_known() -> list[Forkable]:
    while True:
        with suppress(RuntimeError):  # another thread added one meanwhile
            return list(_known)


def _before() -> None:
    _no_fork.acquire()
    _told[:] = _all_known()
    with ExitStack() as calls:  # it makes all of them, even if one raises, such as Ctrl-C while it waits for a thread
        for holder in _told:
            calls.callback(holder.before_fork)


def _in_parent() -> None:
    with ExitStack() as calls:
        calls.callback(_end)
        for holder in _told:
            calls.callback(holder.after_fork_in_parent)


def _in_child() -> None:
    with ExitStack() as calls:
        calls.callback(_end)
        for holder in _told:
            calls.callback(holder.after_fork_in_child)


def _end() -> None:
    _told.clear()
    give_back(_no_fork)


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def keep_for_good(connection: object) -> None:
    """Keep a connection from ever being collected, even at interpreter exit: that would close it."""
    import ctypes  # rarely needed: a fork during a transaction, or a log that was removed

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
