"""A run as a ``with`` block: what the block returns, how long it takes, how it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from jobstore.language.errors import exception_text
from jobstore.language.fields import TEXT_BYTES
from jobstore.storage.processes import is_gone, this_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobstore.recording.logs import Captured
    from jobstore.storage.processes import Owner


class Run:
    """A run that `Recorder.run` records.

    Attributes:
        execution_id: the number of the execution, as text.
        result: what the run returned; set it before the block ends. Any value: `jobstore.language.results` says how
            values that are not JSON are stored.
    """

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.result: Any = None

    def __repr__(self) -> str:
        return f"Run({self.execution_id!r})"


class Stopwatch:
    """Times a block, by a monotonic clock or by the caller's clock."""

    def __init__(self, now_us: Callable[[], int], *, is_measured: bool) -> None:
        self._now_us = now_us
        self._read_us = _steady_us if is_measured else now_us
        self._begun_us: int | None = None
        self._ended_us = self._completed_us = 0

    def start(self) -> None:
        self._begun_us = self._read_us()

    def stop(self) -> None:
        self._ended_us = self._read_us()
        self._completed_us = self._now_us()

    def end(self) -> tuple[int, int]:
        """When the block ended, and how many milliseconds it took: 0 if it never began."""
        if self._begun_us is None:
            return self._now_us(), 0
        return self._completed_us, max(0, self._ended_us - self._begun_us) // 1000


class Ending:
    """What the end of a run needs: the process that began it, when it was created, its times, and what it logged."""

    def __init__(self, process: Owner, created_us: int, stopwatch: Stopwatch) -> None:
        self._process = process
        self.created_us = created_us
        self.stopwatch = stopwatch
        self.logs: Captured | None = None

    def is_own(self) -> bool:
        """Whether it is this process's to record: a forked child leaves it to its parent, while that lives."""
        return self._process == this_process() or is_gone(self._process)

    def with_output(self, result: str | None) -> str | None:
        """The result with the run's log output."""
        return result if self.logs is None else _with_output(result, self.logs)


def described(error: BaseException, broken: type[BaseException]) -> str:
    if isinstance(error, GeneratorExit):
        return "Interrupted: the `with` block ended without recording an outcome"
    return exception_text(error, (broken,))


def _steady_us() -> int:
    return time.monotonic_ns() // 1000


def _with_output(result: str | None, logs: Captured) -> str | None:
    """The result with the run's log output, whose beginning is cut until both fit into 64 KiB."""
    value = None if result is None else orjson.loads(result)
    if value is None:
        kept: dict[str, Any] = {}
    else:
        kept = value if isinstance(value, dict) else {"value": value}
    output = logs.text
    while True:
        text = orjson.dumps({"output": output, **kept})
        if len(text) <= TEXT_BYTES:
            return text.decode()
        if not output:
            return result  # it takes all the space
        output = output[max(1, len(text) - TEXT_BYTES) // 6 + 1 :]  # a character has at most six bytes as JSON
