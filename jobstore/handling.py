"""Handle signals inside a block. It knows nothing of stores; every package that handles signals like this uses it."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def handling(handler: Callable[..., object] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """Let `handler` handle these signals inside the block. Outside the main thread, where Python sets none: nothing."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
