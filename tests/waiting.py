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
    """What `fact` gives, once that is true; fails when it never is."""
    end = time.monotonic() + within
    while not (found := fact()):
        assert time.monotonic() < end, f"this was not so in {within} s"
        time.sleep(0.01)
    return found
