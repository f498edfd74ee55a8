"""What holds a connection closes it before the process forks.

SQLite keeps a process-wide table of the locks it holds, and a fork copies the table without the
locks: a connection that a child opens beside an inherited one believes itself protected and is not.
So nothing may be open at the moment of the fork; parent and child open anew when they next need to.
Where a thread does not finish in time, the child is refused the file.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jobstore.language.errors import StoreUnreadable

if TYPE_CHECKING:
    from pathlib import Path

    from jobstore.storage.sidefiles import Identity


class Forkable(Protocol):
    """What must act before and after a fork."""

    def before_fork(self) -> None:
        """Close the connection and keep others from opening one."""

    def after_fork_in_parent(self) -> None:
        """Let others open one again."""

    def after_fork_in_child(self) -> None:
        """The same in the child, where no thread is left to release the locks of the parent's threads."""


@runtime_checkable
class Holder(Protocol):
    """What holds a connection."""

    def drop_if_cut_off(self, file: Path) -> bool:
        """Close a connection to `file` whose log is no longer the one beside it; whether there was one."""


# Weakly: a store that is dropped without being closed must not live on for the sake of forks.
_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
# Those told before a fork are told after it, also where one was dropped or made meanwhile: locks are taken in pairs.
_told: list[Forkable] = []
# Two threads that fork at once would release each other's locks. Reentrant: a handler may fork inside of a fork.
_one_fork = threading.RLock()
# Kept for the life of the process: what is inherited cannot be closed, so the danger does not pass.
_crossed: set[Identity] = set()


def tell_of_forks(holder: Forkable) -> None:
    """Call `holder` before and after every fork, for as long as it lives."""
    _known.add(holder)


def holders() -> list[Holder]:
    """All that may hold a connection in this process."""
    return [holder for holder in list(_known) if isinstance(holder, Holder)]


def refuse_in_this_process(identity: Identity | None) -> None:
    """In a child: a connection to this file crossed the fork after all."""
    if identity is not None:
        _crossed.add(identity)


def check_not_crossed(path: Path, identity: Identity) -> None:
    """Raise where this process must not open a file.

    Raises:
        StoreUnreadable: the process was forked while a thread of its parent used the file.
    """
    if identity in _crossed:
        raise StoreUnreadable(
            f"{path} was in use by another thread when this process was forked; start the process with "
            "spawn instead of fork"
        )


def _before() -> None:
    _one_fork.acquire()
    _told[:] = _known
    for holder in _told:
        holder.before_fork()


def _in_parent() -> None:
    for holder in _told:
        holder.after_fork_in_parent()
    _told.clear()
    _one_fork.release()


def _in_child() -> None:
    for holder in _told:
        holder.after_fork_in_child()
    _told.clear()
    _one_fork.release()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def keep_for_good(connection: object) -> None:
    """Let a connection never be collected, not even at the end of the interpreter: that would close it."""
    import ctypes  # a fork in the middle of a transaction, or a log that was removed: both are rare

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
