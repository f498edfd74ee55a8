"""Waiting for what other threads and processes do, however busy the machine is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_SECONDS = 120
"""How long what takes no time may take on a machine that does other things."""

_T = TypeVar("_T")


def until(fact: Callable[[], _T], within: float = LONG_SECONDS) -> _T:
    """What `fact` gives, once that is true; fails when it never is. What takes long is asked about less often."""
    end, pause = time.monotonic() + within, 0.01
    while not (found := fact()):
        assert time.monotonic() < end, f"this was not so in {within} s"
        time.sleep(pause)
        pause = min(pause * 1.2, 0.1)
    return found
