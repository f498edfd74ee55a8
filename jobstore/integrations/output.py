"""A command's output on its way through: passed on byte for byte, its end kept, nothing of ours in its way.

We put a pipe between the command and each descriptor it writes to. If the reader has left (EPIPE), we close the
command's pipe, so that it learns this as it would from the system. Any other write error (a full disk, a terminal
that is gone) loses that output and nothing more.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Final

TAIL_BYTES: Final = 8 * 1024
"""Of the output, both streams together, unless more or less is asked for."""

_CHUNK = 64 * 1024
_PAUSE_SECONDS = 0.01
_MESSAGE_BYTES = 4000
"""Less than PIPE_BUF: a pipe that is ready takes it whole."""
_MESSAGE_MILLISECONDS = 1000

_GO_ON = """
import os, select
while chunk := os.read(0, 65536):
    while chunk:
        try:
            chunk = chunk[os.write(1, chunk):]
        except BlockingIOError:
            select.select([], [1], [])
        except BrokenPipeError:
            raise SystemExit
        except OSError:
            break
"""


def say(message: str) -> None:
    """Write a message of ours to stderr, or drop it: it must neither fail nor wait for a reader that is stuck."""
    with suppress(BaseException):
        _write(message)


def _write(message: str) -> None:
    escaped = "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in message)
    raw = f"jobstore: {escaped}\n".encode("utf-8", "backslashreplace")
    waiting = select.poll()
    waiting.register(2, select.POLLOUT)
    if waiting.poll(_MESSAGE_MILLISECONDS):
        os.write(2, raw if len(raw) <= _MESSAGE_BYTES else raw[:_MESSAGE_BYTES] + b"\n")


def is_one_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same file, pipe or terminal."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False


class Tail:
    """The last bytes of all streams, in the order they came."""

    def __init__(self, limit: int = TAIL_BYTES) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._length = 0
        self._is_cut = False
        self._lock = threading.Lock()

    def add(self, chunk: bytes) -> None:
        """Keep the chunk, and of what came before no more than is needed."""
        with self._lock:
            self._chunks.append(chunk[-self._limit :])
            self._length += len(self._chunks[-1])
            self._is_cut |= len(chunk) > self._limit
            while self._length - len(self._chunks[0]) >= self._limit:
                self._length -= len(self._chunks.popleft())
                self._is_cut = True

    def text(self, limit: int | None = None) -> str:
        """As text of at most `limit` bytes: from the beginning of a line where it was cut, without NUL."""
        limit = self._limit if limit is None else min(limit, self._limit)
        with self._lock:
            raw, is_cut = b"".join(self._chunks), self._is_cut
        if len(raw) > limit:
            raw, is_cut = raw[len(raw) - limit :], True
        if is_cut:
            _cut_line, newline, whole_lines = raw.partition(b"\n")
            raw = b"\xe2\x80\xa6\n" + (whole_lines if newline and whole_lines else raw)
        return raw.decode("utf-8", "replace").replace("\0", "\ufffd")


class Pump:
    """A pipe for the command to write to, and a thread that passes on what it wrote."""

    def __init__(self, target: int, tail: Tail) -> None:
        """Make the pipe and start the thread.

        Raises:
            OSError: there are no descriptors left.
            RuntimeError: no thread can be started.
        """
        self._target, self._tail = target, tail
        self._lost: OSError | None = None
        self._is_held = False
        descriptors: list[int] = []
        try:
            descriptors += os.pipe()
            descriptors += os.pipe()
            self._source, self.inlet, self._told, self._tell = descriptors
            self._thread = threading.Thread(target=self._run, name="jobstore-output", daemon=True)
            self._thread.start()
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise

    def close_inlet(self) -> None:
        """Leave the writing end to the command; once nobody has it, the thread ends."""
        inlet, self.inlet = self.inlet, -1
        if inlet >= 0:
            os.close(inlet)

    def stop(self) -> None:
        """The command has ended: what is in the pipe now is passed on, and nothing later."""
        tell, self._tell = self._tell, -1
        if tell >= 0:
            os.close(tell)

    def join(self, seconds: float | None = None) -> None:
        """Wait until everything has been passed on, however slow the reader is."""
        self._thread.join(seconds)

    @property
    def lost(self) -> str | None:
        """Why some output could not be written; none if all could."""
        return None if self._lost is None else self._lost.strerror or str(self._lost)

    def close(self) -> None:
        """Let go of the pipe; what the command left running may go on writing to it."""
        if self._thread.is_alive():  # it is stuck with a reader, after a timeout
            return
        self.stop()
        if self._is_held:
            with suppress(OSError):
                _go_on(self._source, self._target)
        for descriptor in (self._source, self._told):
            if descriptor >= 0:
                os.close(descriptor)
        self._source = self._told = -1

    def _run(self) -> None:
        is_over = False
        while not is_over:
            try:
                is_over = self._moved_last()
            except BrokenPipeError:
                # Closed at this end, too, the command gets its SIGPIPE as it would without us.
                os.close(self._source)
                self._source, is_over = -1, True
            except BaseException:  # noqa: BLE001 - a pump that stops would stop the command, once the pipe is full
                time.sleep(_PAUSE_SECONDS)

    def _moved_last(self) -> bool:
        """Pass one chunk on; True after the last one."""
        waiting = select.poll()
        waiting.register(self._source, select.POLLIN)
        waiting.register(self._told, select.POLLIN)
        if any(descriptor == self._told for descriptor, _ in waiting.poll()):
            self._pass_on_rest()
            return True
        chunk = os.read(self._source, _CHUNK)
        self._pass_on(chunk)
        return not chunk

    def _pass_on_rest(self) -> None:
        """What was in the pipe when the command ended: a child it left behind may write for ever."""
        rest = _waiting_bytes(self._source)
        while rest > 0:
            chunk = os.read(self._source, min(rest, _CHUNK))
            rest -= len(chunk)
            self._pass_on(chunk)
        waiting = select.poll()
        waiting.register(self._source, 0)
        self._is_held = not waiting.poll(0)  # POLLHUP: nobody has the writing end any longer

    def _pass_on(self, chunk: bytes) -> None:
        with suppress(BaseException):
            self._tail.add(chunk)
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(self._target, view) :]
            except BlockingIOError:
                waiting = select.poll()
                waiting.register(self._target, select.POLLOUT)
                waiting.poll()
            except BrokenPipeError:
                raise
            except OSError as error:
                self._lost = error
                return


def _waiting_bytes(descriptor: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])


def _go_on(source: int, target: int) -> None:
    """Leave a small process behind that passes on what the command's own children still write.

    Without it their next line would end them by SIGPIPE, which it would not do without us.
    """
    if sys.executable:
        subprocess.run(  # noqa: S603 - our own program
            ["/bin/sh", "-c", 'exec 3<&0; "$@" <&3 3<&- &', "sh", sys.executable, "-I", "-S", "-c", _GO_ON],
            stdin=source, stdout=target, stderr=target, cwd="/", start_new_session=True, check=False,
        )  # fmt: skip
