"""SIGTERM, SIGHUP and SIGQUIT end a command only after it has removed what it has half made."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ENDINGS = signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT


class _Ended(BaseException):
    """A signal came; it ends the process once the block has been left."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Let SIGTERM, SIGHUP and SIGQUIT leave the block by an exception, and end the process then."""
    is_main = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
    ours = [each for each in _ENDINGS if is_main and signal.getsignal(each) is signal.SIG_DFL]
    for each in ours:
        signal.signal(each, _end)
    try:
        yield
    except _Ended as ended:
        # By the signal itself, not by a code: for systemd, that is a clean end.
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Ended(number)
