"""What holds a connection lets go of it before the process forks.

SQLite keeps a process-wide table of the locks it holds, and a fork copies the table without the
locks: a connection that a child opens beside an inherited one believes itself protected and is not.
So nothing may be open at the moment of the fork; parent and child open anew when they next need to.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What is told of a fork."""

    def before_fork(self) -> None:
        """Closes the connection and keeps others from opening one."""

    def after_fork_in_parent(self) -> None:
        """Lets others open one again."""

    def after_fork_in_child(self) -> None:
        """The same in the child, where locks of other threads are held by nobody."""


_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
_told: list[Forkable] = []
_one_fork = threading.Lock()


def tell_of_forks(holder: Forkable) -> None:
    """From now on `holder` is told, for as long as it lives."""
    _known.add(holder)


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
