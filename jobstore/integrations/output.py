"""Passes a command's output on byte for byte, and keeps the end of it.

There is a pipe between the command and each descriptor it writes to. If the reader is gone (EPIPE), we close the
command's pipe, so that the command gets its own EPIPE or SIGPIPE. Any other write error (a full disk, a closed
terminal) loses that output and has no other effect.
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

from jobstore.language.characters import escaped

TAIL_BYTES: Final = 8 * 1024
"""How much of the end of the output to keep by default, both streams together."""

_CHUNK = 64 * 1024
_PAUSE_SECONDS = 0.01
_MESSAGE_BYTES = 4000
"""Less than PIPE_BUF, so a pipe that is ready accepts it without blocking."""
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
    """Write a message to stderr, or drop it: a message must neither fail nor wait for a stuck reader."""
    with suppress(BaseException):
        _write(message)


def _write(message: str) -> None:
    shown = escaped(message, kept="\n")
    raw = f"jobstore: {shown}\n".encode()
    waiting = select.poll()
    waiting.register(2, select.POLLOUT)
    if waiting.poll(_MESSAGE_MILLISECONDS):
        os.write(2, raw if len(raw) <= _MESSAGE_BYTES else raw[:_MESSAGE_BYTES] + b"\n")


def is_one_file(one: int, other: int) -> bool:
    """Whether two descriptors refer to the same file, pipe or terminal."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False


class Tail:
    """The last bytes of all streams together, in order of arrival."""

    def __init__(self, limit: int = TAIL_BYTES) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._length = 0
        self._is_cut = False
        self._lock = threading.Lock()

    def add(self, chunk: bytes) -> None:
        """Add a chunk, and drop earlier ones that are no longer needed."""
        with self._lock:
            self._chunks.append(chunk[-self._limit :])
            self._length += len(self._chunks[-1])
            self._is_cut |= len(chunk) > self._limit
            while self._length - len(self._chunks[0]) >= self._limit:
                self._length -= len(self._chunks.popleft())
                self._is_cut = True

    def text(self, limit: int | None = None) -> str:
        """Return at most `limit` bytes as text without NUL; if cut, from the beginning of a line, after ``…``."""
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
    """A pipe that the command writes to, and a thread that passes its output on.

    The thread must not simply read until the end of the file: a child that the command left in the background keeps the
    pipe open. For example, after ``sleep 3600 &`` in a script, that would take an hour. So a second pipe, closed by
    `stop`, tells the thread that the command has ended; it then passes on only what is in the pipe at that moment.
    """

    def __init__(self, target: int, tail: Tail) -> None:
        """Create the pipe and start the thread.

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
        """Close our copy of the pipe's writing end; when the last copy is closed, the thread ends."""
        inlet, self.inlet = self.inlet, -1
        if inlet >= 0:
            os.close(inlet)

    def stop(self) -> None:
        """Tell the thread that the command has ended: it passes on what is in the pipe now, and nothing later."""
        tell, self._tell = self._tell, -1
        if tell >= 0:
            os.close(tell)

    def join(self, seconds: float | None = None) -> None:
        """Wait until everything has been passed on, however slow the reader is."""
        self._thread.join(seconds)

    @property
    def lost(self) -> str | None:
        """Why some output could not be written; None if all of it was."""
        return None if self._lost is None else self._lost.strerror or str(self._lost)

    def close(self) -> None:
        """Close the pipe; if background processes of the command still write to it, leave a helper that reads it."""
        if self._thread.is_alive():  # stuck with a slow reader, after a timeout
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
                # Close this end as well, so that the command gets its SIGPIPE as it would without us.
                os.close(self._source)
                self._source, is_over = -1, True
            except BaseException:  # noqa: BLE001 - if this thread ended, the command would block on a full pipe
                time.sleep(_PAUSE_SECONDS)

    def _moved_last(self) -> bool:
        """Pass one chunk on; return True after the last one."""
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
        """Pass on what is in the pipe now, but no more: a background process may go on writing for ever."""
        rest = _waiting_bytes(self._source)
        while rest > 0:
            chunk = os.read(self._source, min(rest, _CHUNK))
            rest -= len(chunk)
            self._pass_on(chunk)
        waiting = select.poll()
        waiting.register(self._source, 0)
        self._is_held = not waiting.poll(0)  # POLLHUP: no process has the writing end any more

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
    """Start a small process that passes on what the command's background processes still write.

    Without it, SIGPIPE would kill them at their next line, which would not happen without us.
    """
    if sys.executable:
        subprocess.run(  # noqa: S603 - our own program
            ["/bin/sh", "-c", 'exec 3<&0; "$@" <&3 3<&- &', "sh", sys.executable, "-I", "-S", "-c", _GO_ON],
            stdin=source, stdout=target, stderr=target, cwd="/", start_new_session=True, check=False,
        )  # fmt: skip
