"""A folder, a shell in it, and the programs of this environment: where the documents' code is run as printed."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import jobstore
from tests.documents import ROOT
from tests.ports import free_port
from tests.waiting import LONG_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.documents import Block

PRINTED_PORT = "8000"


class Desk:
    """A folder with a shell that finds `jobstore`, `python` and other programs of this environment."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.port = str(free_port())
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "JOBSTORE"))}
        self.environment = {
            **inherited,
            "PATH": f"{programs}:{inherited['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def text(self, block: Block) -> str:
        """What is printed, with a port that is free here."""
        return re.sub(rf"\b{PRINTED_PORT}\b", self.port, block.text)

    def write(self, block: Block) -> str:
        """Puts a block that begins with the name of a file into that file, and returns the name."""
        file = block.title.removeprefix("# ")
        (self.folder / file).write_text(self.text(block))
        return file

    def run(self, block: Block) -> str:
        """What a block prints: Python as a file, anything else in the shell."""
        return self.shell(f"python {self.write(block)}" if block.language == "python" else self.text(block))

    def shell(self, script: str) -> str:
        """What a script prints to stdout; the first command that fails ends it, and the test."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, text=True,
            capture_output=True, timeout=LONG_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def running(self, script: str) -> Iterator[subprocess.Popen[str]]:
        """A script that does not end by itself, with all it starts; Ctrl-C stops it."""
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.communicate(timeout=LONG_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def programs_in(folder: Path) -> Path:
    """Fills a folder for the front of the PATH, whatever else is on it."""
    python = shlex.quote(sys.executable)
    modules = {name: f" -m {name}" for name in ("jobstore", "pytest", "gunicorn", "granian")}
    for name, module in {"python": "", **modules}.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {python}{module} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> None:
    """Reads what a process says until the words have come."""
    assert process.stdout is not None
    said, deadline = "", time.monotonic() + LONG_SECONDS
    while wanted not in said:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more after {said!r}"
        more = os.read(process.stdout.fileno(), 65_536).decode()
        assert more, f"it ended: {said}"
        said += more


def wait_for_runs(path: Path, **wanted: int) -> None:
    """Waits until the store has so many executions of each status."""

    def are_there() -> bool:
        try:
            with jobstore.open(path) as store:
                by_status: Mapping[str, int] = store.job_stats()["by_status"]
        except jobstore.StoreNotFound:
            return False
        return all(by_status.get(status, 0) >= runs for status, runs in wanted.items())

    until(are_there)
