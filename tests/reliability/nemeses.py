"""Something bad happens to a recorder, again and again; nothing acknowledged is lost, and it goes on soon after.

    python -m tests.reliability.nemeses FOLDER --runs 24 --seed 7

A child records and writes ``?`` before a call and ``+`` after it to a pipe; what goes wrong in between must be an error
of ours. The parent does one bad thing after the other to it, to the file or to the clock. Prints the figures as JSON;
any exception is a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import jobstore
from tests.reliability.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

RECOVERY_SECONDS = 5.0
"""Within which a recorder must have acknowledged something again."""


class Clock:
    """The system's clock, moved by what a file says in seconds."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self) -> datetime:
        with suppress(OSError, ValueError):
            return datetime.now(UTC) + timedelta(seconds=float(self._file.read_text()))
        return datetime.now(UTC)


def work(path: Path, pipe: int, first: int, clock: Clock) -> None:
    """Records until it is killed; an error of ours is no end."""
    recorder, number = None, first
    while True:
        number += 1
        trace = f"t{number}"
        try:
            recorder = recorder or jobstore.Recorder(path, clock=clock, timeout_seconds=1.0)
            recorder.save_job("job", job_type="t", job_category="c", interval_seconds=60)
            os.write(pipe, f"? {trace} PENDING\n".encode())
            run = recorder.enqueue("job", trace_id=trace)
            os.write(pipe, f"+ {trace} PENDING\n? {trace} SUCCESS\n".encode())
            recorder.finish(run, "SUCCESS", result={"n": number})
            os.write(pipe, f"+ {trace} SUCCESS\n".encode())
        except jobstore.JobStoreError as error:
            os.write(pipe, f"! {error.code} -\n".encode())
            time.sleep(0.01)


class Child:
    """The recorder's process, and what it says."""

    def __init__(self, path: Path, ledger: Ledger, errors: Counter[str], first: int, clock: Clock) -> None:
        self._ledger, self._errors, self._rest = ledger, errors, ""
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reading)
            try:
                work(path, writing, first, clock)
            finally:
                os._exit(1)
        os.close(writing)

    def listen(self, seconds: float, *, until_acknowledged: int = 0) -> int:
        """Takes what it says for so long, or until so many calls were acknowledged; how many were."""
        before, deadline = self._ledger.operations, time.monotonic() + seconds
        while time.monotonic() < deadline:
            if until_acknowledged and self._ledger.operations - before >= until_acknowledged:
                break
            if select.select([self._reading], [], [], 0.01)[0]:
                self._take(os.read(self._reading, 65_536).decode())
        return self._ledger.operations - before

    def _take(self, said: str) -> None:
        *lines, self._rest = (self._rest + said).split("\n")
        for line in lines:
            if line.startswith("!"):
                self._errors[line.split()[1]] += 1
            else:
                self._ledger.take(line)

    def kill(self) -> None:
        """Ends it, and takes the last it said."""
        os.kill(self.pid, signal.SIGKILL)
        while said := os.read(self._reading, 65_536):
            self._take(said.decode())
        os.close(self._reading)
        os.waitpid(self.pid, 0)


# What is done to it. Each takes the child, the store and a folder for whatever it needs.


def stop_and_go(child: Child, _path: Path, _folder: Path) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(0.2)
    os.kill(child.pid, signal.SIGCONT)


def step_the_clock(_child: Child, _path: Path, folder: Path) -> None:
    for seconds in ("-86400", "31536000", "0"):
        (folder / "clock").write_text(seconds)
        time.sleep(0.05)


def hold_the_file(_child: Child, path: Path, _folder: Path) -> None:
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(0.3)
    connection.execute("ROLLBACK")
    connection.close()


def checkpoint(_child: Child, path: Path, _folder: Path) -> None:
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def vacuum(_child: Child, path: Path, _folder: Path) -> None:
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    with suppress(sqlite3.OperationalError):  # it may find the file busy
        connection.execute("VACUUM")
    connection.close()


def back_up(_child: Child, path: Path, folder: Path) -> None:
    copy = folder / "copy.db"
    copy.unlink(missing_ok=True)
    jobstore.backup(path, copy)
    problems = jobstore.check(copy)
    assert not problems, problems


def take_the_folder_away(_child: Child, path: Path, _folder: Path) -> None:
    away = path.parent.with_name("away")
    path.parent.rename(away)
    time.sleep(0.1)
    away.rename(path.parent)


NEMESES: dict[str, Callable[[Child, Path, Path], None]] = {
    "kill": lambda child, _path, _folder: child.kill(),
    "stop": stop_and_go,
    "clock": step_the_clock,
    "hold": hold_the_file,
    "checkpoint": checkpoint,
    "vacuum": vacuum,
    "backup": back_up,
    "folder": take_the_folder_away,
}


def main(arguments: list[str]) -> None:
    """Runs one nemesis after the other, then compares."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    choice, ledger, errors = random.Random(options.seed), Ledger(), Counter[str]()
    (options.folder / "store").mkdir()
    path = options.folder / "store" / "jobs.db"
    clock = Clock(options.folder / "clock")
    names = [name for _ in range(-(-options.runs // len(NEMESES))) for name in NEMESES][: options.runs]
    choice.shuffle(names)
    child, slowest = Child(path, ledger, errors, 0, clock), 0.0
    for run, name in enumerate(names):
        assert child.listen(60, until_acknowledged=20) >= 20, f"before {name}: nothing is acknowledged; {errors}"
        NEMESES[name](child, path, options.folder)
        if name == "kill":
            child = Child(path, ledger, errors, (run + 1) * 1_000_000, clock)
        begun = time.monotonic()
        assert child.listen(60, until_acknowledged=2) >= 2, f"after {name}: it does not recover; {errors}"
        slowest = max(slowest, time.monotonic() - begun)
    child.kill()
    ledger.compare([dict(run) for run in jobstore.dump(path)["executions"]])
    problems = jobstore.check(path)
    assert not problems, problems
    figures = {
        "runs": options.runs, "operations": ledger.operations, "slowest_recovery_seconds": round(slowest, 2),
        "errors": dict(errors),
    }  # fmt: skip
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
