"""A small store, and the command line called in this process, in a process of its own, and on a terminal.

A process of its own begins with its modules imported (see `tests.warm`), unless it is asked for with variables that
Python itself reads; `command` and `environment` are for those that must begin as the user's does.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.cli.app import run
from tests import warm
from tests.waiting import LONG_SECONDS

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = LONG_SECONDS


def job(name: str, **fields: Any) -> dict[str, Any]:
    """A job as `load` takes it."""
    return {
        "id": name, "job_type": "kline", "name": name, "job_category": "sync", "description": None,
        "schedule_type": "cron", "schedule": "0 * * * *", "interval_seconds": None, "parameters": {},
        "timeout_seconds": 300, "max_instances": 1, "enabled": True, "last_run_at": None, "next_run_at": None,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", **fields,
    }  # fmt: skip


def execution(number: int, job_id: int, name: str, status: str, minute: int, **fields: Any) -> dict[str, Any]:
    """An execution as `load` takes it, started at so many minutes after 2026-01-15T08:00Z."""
    start = f"2026-01-15T{8 + minute // 60:02d}:{minute % 60:02d}:00Z"
    ended = status not in {"PENDING", "RUNNING"}
    return {
        "id": str(number), "job_id": str(job_id), "job_name": name, "status": status,
        "started_at": None if status == "PENDING" else start, "completed_at": start if ended else None,
        "duration_ms": 1_500 if ended else None, "result": {"processed": number} if status == "SUCCESS" else None,
        "error": "Connection timeout" if status in {"FAILURE", "TIMEOUT"} else None, "trace_id": f"trace-{number}",
        "worker_id": "worker-01", "parameters_snapshot": {}, "created_at": start, **fields,
    }  # fmt: skip


WORLD: dict[str, Any] = {
    "timezone": "Asia/Shanghai",
    "jobs": [
        job(
            "sync_klines_1h",
            description="Sync 1-hour klines from all exchanges",
            last_run_at="2026-01-15T09:00:00Z",
        ),
        job("同步交易对", job_type="symbol", schedule="30 2 * * 1", description="同步所有交易所的交易对，每周一次"),
        job("poll", schedule_type="interval", schedule=None, interval_seconds=300, job_category="monitor"),
        job("switched_off", enabled=False, job_category="cleanup"),
    ],
    "executions": [
        execution(1, 1, "sync_klines_1h", "SUCCESS", 0),
        execution(2, 2, "同步交易对", "FAILURE", 1, error="交易所返回错误：\x1b[31m请求过于频繁\nsecond line"),
        execution(3, 1, "sync_klines_1h", "TIMEOUT", 60),
        execution(4, 3, "poll", "RUNNING", 61),
        execution(5, 3, "poll", "PENDING", 62),
        *(execution(number, 3, "poll", "SUCCESS", number - 6) for number in range(6, 66)),
    ],
}


VARIABLES = ("JOBSTORE_DB", "JOBSTORE_TOKENS", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "_JOBSTORE_COMPLETE")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the person who runs the tests has set says nothing about the command line."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "<+0545>-05:45")  # a zone that cannot be taken for another
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a store that nobody writes to."""
    path = tmp_path_factory.mktemp("cli") / "jobs.db"
    jobstore.load(path, WORLD)
    return path


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as a document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Stdout as lines."""
        return self.out.splitlines()


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command line, in this process."""

    def call(*words: object) -> Answer:
        capfd.readouterr()
        code = run([str(word) for word in words])
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return call


def command(*words: object) -> list[str]:
    """The command line of a process."""
    return [sys.executable, "-m", "jobstore", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """That of a process whose Python finds this package."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Answer]:
    """The command line in a process of its own, in an empty folder."""

    def call(*words: object, stdin: str | None = None, **variables: str) -> Answer:
        text = (stdin or "").encode()
        if any(name.startswith("PYTHON") for name in variables):
            done = subprocess.run(
                command(*words), input=text, capture_output=True, cwd=tmp_path, env=environment(**variables),
                timeout=DEADLINE_SECONDS, check=False,
            )  # fmt: skip
        else:
            line = ("-m", "jobstore", *words)
            done = warm.forker(warm.COMMAND).run(line, cwd=tmp_path, variables=environment(**variables), given=text)
        return Answer(done.returncode, universal(done.stdout), universal(done.stderr))

    return call


def universal(said: bytes) -> str:
    """What was said, with the ends of lines as Python reads them."""
    return said.decode().replace("\r\n", "\n").replace("\r", "\n")


class Terminal:
    """A process whose stdin, stdout and stderr are a terminal of a known size."""

    def __init__(self, words: tuple[object, ...], cwd: Path, size: tuple[int, int], variables: dict[str, str]) -> None:
        self.text = ""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        env = environment(**{"TERM": "xterm-256color", **variables})
        line = ("-m", "jobstore", *words)
        self._process = warm.forker(warm.COMMAND).start(line, (slave, slave, slave), cwd, env)
        os.close(slave)
        self._master = master

    def read_until(self, wanted: Callable[[str], object]) -> str:
        """What was shown, as soon as `wanted` says so of it, or at the end."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not wanted(self.text) and self._read(deadline):
            pass
        return self.text

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"nothing more after {self.text[-300:]!r}")
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # Linux says the end of a terminal so
            return False
        self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def send_signal(self, number: signal.Signals) -> None:
        """As the kernel does for Ctrl-C."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Its exit code, when all it said was read."""
        self.read_until(lambda _text: False)
        return self._process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """Leaves nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(DEADLINE_SECONDS)
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """The command line on a terminal."""
    opened: list[Terminal] = []

    def call(*words: object, columns: int = 80, rows: int = 24, **variables: str) -> Terminal:
        opened.append(Terminal(words, tmp_path, (columns, rows), variables))
        return opened[-1]

    yield call
    for each in opened:
        each.close()
