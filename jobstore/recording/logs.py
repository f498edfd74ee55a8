"""The log records of one run: what this thread, or this asyncio task, logs while the run goes on.

They are taken where they are made, by the record factory of `logging`, not by a handler: a handler on the root would
keep ``logging.basicConfig`` and Python's handler of last resort from working, and miss loggers that do not propagate.
"""

from __future__ import annotations

import logging
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
    """The end of what a run logs, as text; `text` may be read at any time."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    @property
    def text(self) -> str:
        """One line for each record, in the order of logging; at most 64 Ki characters, the beginning is cut off."""
        return "\n".join(list(self._lines))[-CHARACTERS:]

    def add(self, line: str) -> None:
        """Add a record, and drop the oldest ones that there is no room for."""
        line = line[-CHARACTERS:].encode("utf-8", "backslashreplace").decode()
        self._lines.append(line)
        self._size += len(line)
        while self._size > CHARACTERS and len(self._lines) > 1:
            self._size -= len(self._lines.popleft())


@contextmanager
def captured_logs() -> Iterator[Captured]:
    """Capture what is logged inside, on this thread and in this context alone."""
    captured = Captured()
    _Factory.enter()
    token = _current.set(captured)
    try:
        yield captured
    finally:
        with suppress(ValueError):  # a generator that is closed in another context
            _current.reset(token)
        _Factory.leave()


class _Factory:
    """A record factory around the one that was there; it captures while it is the newest of its kind."""

    newest: _Factory | None = None
    runs = 0
    guard = threading.Lock()

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *words: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*words, **more)
        captured = _current.get()
        if captured is not None and record.name and _Factory.newest is self:  # makeLogRecord makes nameless ones
            with suppress(Exception):  # a message that does not fit its arguments; logging itself tells of it
                captured.add(_FORMAT.format(copy(record)))  # a formatter leaves traces that others would use
        return record

    @classmethod
    def enter(cls) -> None:
        """One more run; a factory that the program has set meanwhile is wrapped anew."""
        with cls.guard:
            cls.runs += 1
            if logging.getLogRecordFactory() is not cls.newest:
                cls.newest = cls(logging.getLogRecordFactory())
                logging.setLogRecordFactory(cls.newest)

    @classmethod
    def leave(cls) -> None:
        """One run less; after the last the program's own factory is in its place again."""
        with cls.guard:
            cls.runs -= 1
            if not cls.runs and cls.newest is not None and logging.getLogRecordFactory() is cls.newest:
                logging.setLogRecordFactory(cls.newest._make)
                cls.newest = None
