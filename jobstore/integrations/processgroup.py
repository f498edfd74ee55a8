"""One command in a process group of its own: its output passed on, its time bounded, its signals shared.

The command leads a new session, so that it and all it starts can be ended together. Output goes on as
it comes, byte for byte, and its end is kept. What the command leaves running in the background may
keep its pipes open; nobody waits for that.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

TIMED_OUT: Final = 124
"""As ``timeout`` exits."""
NOT_EXECUTABLE: Final = 126
"""As a shell says it, and the next one, too."""
NOT_FOUND: Final = 127
SIGNALLED: Final = 128
"""Plus the number of the signal."""

GRACE_SECONDS: Final = 10.0
"""Between SIGTERM and SIGKILL."""
TAIL_BYTES: Final = 8 * 1024
"""Of the output, both streams together."""
DRAIN_SECONDS: Final = 5.0
"""For what was written before the end to reach a slow reader, before the end is told."""

_CHUNK = 64 * 1024
_POLL_SECONDS = 0.02
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        exit_code: 0 to 255, as a shell reports it; 124 after a time-out.
        reason: why it failed, in a few words; none for exit code 0.
        tail: the end of its output, as text.
        timed_out: whether its time was up.
    """

    exit_code: int
    reason: str | None
    tail: str
    timed_out: bool = False


class Group:
    """A command that runs; `start`, then `wait`, then `drain`."""

    def __init__(self, command: Sequence[str | os.PathLike[str]], *, stdout: int = 1, stderr: int = 2) -> None:
        """Prepares to run a command, without a shell.

        Args:
            command: the program and its arguments.
            stdout: the file descriptor its output goes on to.
            stderr: the same for what it says beside its output.
        """
        self._command = list(command)
        self._targets = stdout, stderr
        self._tail = _Tail()
        self._pumps: list[_Pump] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._early: deque[int] = deque()

    def start(self) -> Ended | None:
        """Starts it; how it ended if it could not be started."""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - to run what one is given is the task
                self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        except FileNotFoundError:
            return self._not_started(NOT_FOUND, "command not found")
        except (OSError, ValueError) as error:
            return self._not_started(NOT_EXECUTABLE, getattr(error, "strerror", None) or str(error))
        sources = self._process.stdout, self._process.stderr
        self._pumps = [
            _Pump(source, target, self._tail)
            for source, target in zip(sources, self._targets, strict=True)
            if source is not None
        ]
        while self._early:
            self.send(self._early.popleft())
        return None

    def _not_started(self, exit_code: int, reason: str) -> Ended:
        return Ended(exit_code, f"{os.fspath(self._command[0])}: {reason}", "")

    def send(self, signum: int) -> bool:
        """Sends a signal to the command and all it started; False when nothing of it is left."""
        if self._process is None:
            self._early.append(signum)
            return True
        try:
            os.killpg(self._process.pid, signum)
        except ProcessLookupError:
            return False
        except PermissionError:  # it has become another user's
            return True
        return True

    def wait(self, *, timeout_seconds: float | None = None, grace_seconds: float = GRACE_SECONDS) -> Ended:
        """Waits until the command has ended; when its time is up, ends the whole group."""
        process = self._process
        if process is None:
            raise ValueError("the command was not started")
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._end_group(process, grace_seconds)
            self._stop_pumps()
            reason = f"Timed out after {timeout_seconds:g} s"
            return Ended(TIMED_OUT, reason, self._tail.text(), timed_out=True)
        self._stop_pumps()
        if code < 0:
            return Ended(SIGNALLED - code, f"Killed by {_signal_name(-code)}", self._tail.text())
        return Ended(code, f"Exit code {code}" if code else None, self._tail.text())

    def drain(self) -> None:
        """Waits until all output has gone on, however slow its reader is."""
        for pump in self._pumps:
            pump.join()
            pump.close()

    def _stop_pumps(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        for pump in self._pumps:
            pump.stop()
        for pump in self._pumps:
            pump.join(max(0, deadline - time.monotonic()))

    def _end_group(self, process: subprocess.Popen[bytes], grace_seconds: float) -> None:
        """SIGTERM to all; SIGKILL to what is left after the grace, the command itself or what it started."""
        deadline = time.monotonic() + grace_seconds
        is_left = self.send(signal.SIGTERM)
        while is_left and time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
            is_left = self.send(0)
            if is_left and process.returncode is not None:
                time.sleep(_POLL_SECONDS)
        self.send(signal.SIGKILL)
        process.wait()


@contextmanager
def signals_passed_on(group: Group) -> Iterator[None]:
    """While the block runs, signals that would end this process go to the group instead.

    What is ignored stays ignored (``nohup``), and outside of the main thread nothing changes.
    """

    def pass_on(signum: int, _frame: FrameType | None) -> None:
        group.send(signum)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.getsignal(each) for each in _PASSED_ON}
    taken = {each: handler for each, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for each in taken:
        signal.signal(each, pass_on)
    try:
        yield
    finally:
        for each, handler in taken.items():
            signal.signal(each, handler)


class _Tail:
    """The last bytes of both streams, in the order they came."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._length = 0
        self._is_cut = False
        self._lock = threading.Lock()

    def add(self, chunk: bytes) -> None:
        with self._lock:
            self._chunks.append(chunk[-TAIL_BYTES:])
            self._length += len(self._chunks[-1])
            self._is_cut |= len(chunk) > TAIL_BYTES
            while self._length - len(self._chunks[0]) >= TAIL_BYTES:
                self._length -= len(self._chunks.popleft())
                self._is_cut = True

    def text(self) -> str:
        """As text: from the beginning of a line where it was cut, without NUL."""
        with self._lock:
            raw, is_cut = b"".join(self._chunks), self._is_cut
        if len(raw) > TAIL_BYTES:
            raw, is_cut = raw[-TAIL_BYTES:], True
        if is_cut:
            _cut_line, newline, whole_lines = raw.partition(b"\n")
            raw = b"\xe2\x80\xa6\n" + (whole_lines if newline and whole_lines else raw)
        return raw.decode("utf-8", "replace").replace("\0", "\ufffd")


class _Pump:
    """A thread that passes one stream on until it ends, or until it is told to and nothing is left to read."""

    def __init__(self, source: IO[bytes], target: int, tail: _Tail) -> None:
        self._file, self._source, self._target, self._tail = source, source.fileno(), target, tail
        self._told, self._tell = os.pipe()
        self._thread = threading.Thread(target=self._run, name="jobstore-output", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with suppress(OSError):
            os.close(self._tell)

    def close(self) -> None:
        self._file.close()

    def join(self, seconds: float | None = None) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while self._is_ready():
                chunk = os.read(self._source, _CHUNK)
                if not chunk:
                    return
                self._tail.add(chunk)
                _write_all(self._target, chunk)
        except OSError:
            # Nobody reads what we pass on: closed at this end, too, the command gets its SIGPIPE.
            self.close()
        finally:
            os.close(self._told)

    def _is_ready(self) -> bool:
        """Waits for something to read; False once told to stop and there is nothing."""
        readable, _, _ = select.select([self._source, self._told], [], [])
        if self._source in readable:
            return True
        readable, _, _ = select.select([self._source], [], [], 0)
        return bool(readable)


def _write_all(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            select.select([], [target], [])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
