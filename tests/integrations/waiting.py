"""Waiting for what other threads and processes do, without sleeping longer than it takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_SECONDS = 30

_T = TypeVar("_T")


def until(condition: Callable[[], _T], seconds: float = DEADLINE_SECONDS) -> _T:
    """What the condition gives once that is true; fails when it takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.01)
    return found
