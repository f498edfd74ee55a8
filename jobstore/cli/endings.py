"""SIGTERM, SIGHUP and SIGQUIT end a command only after it has removed what it has half made."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from jobstore.handling import handling

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
    try:
        with handling(_end, *(each for each in _ENDINGS if signal.getsignal(each) is signal.SIG_DFL)):
            yield
    except _Ended as ended:
        # By the signal itself, not by a code: for systemd, that is a clean end.
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Ended(number)
