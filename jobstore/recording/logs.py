"""Capture the log records of one run: what its thread, or its asyncio task, logs during the run.

They are captured by the record factory of `logging`, not by a handler: a handler on the root logger would disable
``logging.basicConfig`` and Python's last-resort handler, and would miss loggers that do not propagate.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHARACTERS: Final = 64 * 1024
_FORMAT: Final = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
_current: ContextVar[Captured | None] = ContextVar("jobstore_captured_logs", default=None)


class Captured:
    """The last lines that a run logs; `text` may be read at any time."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    @property
    def text(self) -> str:
        """The records, oldest first, one per line; only the last 64 Ki characters."""
        return "\n".join(list(self._lines))[-CHARACTERS:]

    def add(self, line: str) -> None:
        """Add a line, and drop the oldest ones beyond the limit."""
        line = line[-CHARACTERS:].encode("utf-8", "backslashreplace").decode()
        self._lines.append(line)
        self._size += len(line)
        while self._size > CHARACTERS and len(self._lines) > 1:
            self._size -= len(self._lines.popleft())


@contextmanager
def captured_logs() -> Iterator[Captured]:
    """Capture what the block logs, only on this thread and in this context."""
    captured = Captured()
    _Factory.enter()
    token = _current.set(captured)
    try:
        yield captured
    finally:
        with suppress(ValueError):  # the generator was closed in another context
            _current.reset(token)
        _Factory.leave()


class _Factory:
    """A record factory that wraps the previous one; only the newest instance captures."""

    newest: _Factory | None = None
    runs = 0
    guard = threading.RLock()

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *words: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*words, **more)
        captured = _current.get()
        if captured is not None and record.name and _Factory.newest is self:  # makeLogRecord makes nameless ones
            with suppress(Exception):  # a message that does not fit its arguments; logging itself reports it
                captured.add(_FORMAT.format(copy(record)))  # formatting caches text in the record
        return record

    @classmethod
    def enter(cls) -> None:
        """Begin a run. If the program has set another factory since, wrap that one."""
        with cls.guard:
            cls.runs += 1
            if logging.getLogRecordFactory() is not cls.newest:
                cls.newest = cls(logging.getLogRecordFactory())
                logging.setLogRecordFactory(cls.newest)

    @classmethod
    def leave(cls) -> None:
        """End a run; after the last one, restore the program's own factory."""
        with cls.guard:
            cls.runs -= 1
            if not cls.runs and cls.newest is not None and logging.getLogRecordFactory() is cls.newest:
                logging.setLogRecordFactory(cls.newest._make)
                cls.newest = None


# A child that was forked while another thread held it would wait forever.
os.register_at_fork(after_in_child=lambda: setattr(_Factory, "guard", threading.RLock()))
