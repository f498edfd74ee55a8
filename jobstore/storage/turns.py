"""Locks that no exception leaves locked, whenever it arrives.

Ctrl-C, or a timeout raised in a signal handler, may arrive between any two steps, even between taking a lock and noting
that it is taken. So nothing relies on a step that must not be missed: a lock knows its thread, releasing it twice is
harmless, and a turn is valid only while the frame that took it runs.
"""

from __future__ import annotations

import random
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import threading
    from types import FrameType


CHANCE: Final = random.SystemRandom()
"""Not the program's random numbers, which its own seed must decide alone."""


def give_back(lock: threading.RLock) -> None:
    """Release a lock as often as this thread has taken it, perhaps never."""
    try:
        # A reentrant lock counts, and an interrupted call may have taken it more than once.
        while True:
            lock.release()
    except RuntimeError:  # it is not, or no longer, this thread's
        pass


def ticking() -> float:
    """The seconds of the system's monotonic clock, which go on in tests that freeze Python's clocks."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def frame_above(levels: int) -> FrameType:
    """The frame of the function that calls this (0), of its caller (1), and so on."""
    return sys._getframe(levels + 1)  # noqa: SLF001 - documented, despite its name


def is_running(frame: FrameType | None, above: FrameType | None) -> bool:
    """Whether `frame` is `above` or one of its callers.

    This distinguishes a call inside another call of the same thread (in a signal handler, say) from a later one.
    """
    while above is not None and above is not frame:
        above = above.f_back
    return frame is not None and above is frame
