"""Processes that begin with their modules imported: a fresh one spends most of its CPU on that, and proves nothing by it.

A process that has imported them is kept for the session. It forks itself for each command, which then has its own
descriptors, folder, variables, session and end, as a fresh one does. A test of what happens while Python starts, or
of which modules are imported, needs a fresh process.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.waiting import LONG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]
COMMAND = (
    "jobstore.cli.app", "jobstore.cli.drawing", "jobstore.cli.reading", "jobstore.cli.running", "jobstore.cli.watch",
    "jobstore.cli.demo", "jobstore.integrations.command", "jobstore.transfer.dump", "jobstore.store", "jobstore.recording.recorder",
    "cron_descriptor", "rich.console", "rich.table", "rich.progress", "rich.live",
)  # fmt: skip
"""What the commands import, sooner or later."""
HUEY = ("huey", "huey.consumer", "jobstore.integrations.huey", "jobstore.recording.recorder")
TOOLS = ("jobstore.mcp", "anyio._backends._asyncio")


class Process:
    """A command that was forked off; a small part of what `subprocess.Popen` is."""

    def __init__(self, pid: int, ended: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Its exit code, if it has ended; negative if a signal ended it."""
        return self.returncode if self.returncode is not None else self._received(0)

    def wait(self, timeout: float = LONG_SECONDS) -> int:
        code = self.returncode if self.returncode is not None else self._received(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a warm process", timeout)
        return code

    def _received(self, seconds: float) -> int | None:
        if select.select([self._ended], [], [], seconds)[0]:
            self.returncode = int(self._ended.recv(16))
            self._ended.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forker:
    """The process that imported the modules, and forks on demand."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._asking, asked = socket.socketpair()
        with asked:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(asked.fileno()), *modules], pass_fds=[asked.fileno()],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
            )  # fmt: skip

    def start(
        self, words: Sequence[object], streams: Sequence[int], cwd: Path, variables: Mapping[str, str]
    ) -> Process:
        """Starts `python WORDS`, which begin with -m or -c, with these descriptors for 0, 1 and 2."""
        ended, tells = socket.socketpair()
        request = {"words": [str(word) for word in words], "cwd": str(cwd), "variables": dict(variables)}
        data = json.dumps(request).encode() + b"\n"
        with tells:
            sent = socket.send_fds(self._asking, [data], [*streams, tells.fileno()])
        self._asking.sendall(data[sent:])
        pid = int(ended.recv(16))  # that of the command; the socket is its own, so nothing else can be meant
        return Process(pid, ended)

    def run(
        self, words: Sequence[object], *, cwd: Path, variables: Mapping[str, str], given: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """The end of a command, and what it said."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            reader, writer = os.pipe()
            feeder = threading.Thread(target=fed, args=(writer, given or b""))
            feeder.start()
            process = self.start(words, (reader, out.fileno(), err.fileno()), cwd, variables)
            os.close(reader)
            try:
                code = process.wait()
            finally:
                process.kill()
                feeder.join()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(map(str, words)), code, out.read(), err.read())

    def close(self) -> None:
        self._asking.close()
        self._process.wait(LONG_SECONDS)


def fed(writer: int, text: bytes) -> None:
    """Writes all of it into a pipe whose reader may go away."""
    try:
        with open(writer, "wb") as pipe:
            pipe.write(text)
    except BrokenPipeError:
        pass


_forkers: dict[tuple[str, ...], Forker] = {}


def forker(modules: tuple[str, ...]) -> Forker:
    """The one of this session that has imported these."""
    if modules not in _forkers:
        _forkers[modules] = Forker(modules)
        atexit.register(_forkers[modules].close)
    return _forkers[modules]


# In the process that forks.


def serve(asked: socket.socket) -> dict[str, Any]:
    """Forks for each request; returns it in the process that it is for."""
    keepers: list[int] = []
    while True:
        data, descriptors, _, _ = socket.recv_fds(asked, 65_536, 4)
        while data and not data.endswith(b"\n"):
            data += asked.recv(65_536)
        keepers = [keeper for keeper in keepers if os.waitpid(keeper, 0 if not data else os.WNOHANG)[0] == 0]
        if not data:
            os._exit(0)
        keepers.append(os.fork())
        if keepers[-1] == 0:
            asked.close()
            keep(descriptors)
            return {**json.loads(data), "streams": descriptors[:3]}
        for descriptor in descriptors:
            os.close(descriptor)


def keep(descriptors: list[int]) -> None:
    """Forks once more; returns in the child alone, whose end it tells."""
    tells = descriptors[3]
    child = os.fork()
    if child == 0:
        os.close(tells)
        return
    for descriptor in (0, 1, 2, *descriptors[:3]):
        os.close(descriptor)
    os.write(tells, b"%-16d" % child)
    _, status = os.waitpid(child, 0)
    os.write(tells, b"%-16d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def become(request: dict[str, Any]) -> None:
    """Does what `python WORDS` does once Python runs."""
    os.setsid()
    for number, stream in enumerate(request["streams"]):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    os.environ.clear()
    os.environ.update(request["variables"])
    time.tzset()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1 if os.isatty(1) else -1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    how, what, *rest = request["words"]
    sys.argv = [how, *rest]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})


def main(descriptor: str, *modules: str) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    become(serve(socket.socket(fileno=int(descriptor))))


if __name__ == "__main__":
    main(*sys.argv[1:])
