"""A scheduler that is killed again and again, and a ledger outside of it that says what must be in the file.

    python -m tests.reliability.ledger FOLDER --kills 200 --seed 7

The child writes ``?`` before a call and ``+`` after it to a pipe; the parent kills it at any moment. What was
acknowledged must be there, and nothing that was never asked for. Prints the figures as JSON; any exception is a
finding. Runs in a process of its own, which forks: a child costs a millisecond.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jobstore
from jobstore.recording.recorder import Recorder
from jobstore.transfer.backup import check

NEXT = {"enqueue": "PENDING", "start": "RUNNING"}
ENDS = ("SUCCESS", "FAILURE", "TIMEOUT")


@dataclass
class Ledger:
    """What was asked for and what was acknowledged, by the trace id that each run carries."""

    asked: dict[str, set[str]] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    operations: int = 0

    def take(self, line: str) -> None:
        """One line of a child: ``?`` or ``+``, the trace, the status that follows."""
        sign, trace, status = line.split()
        if sign == "?":
            self.asked.setdefault(trace, set()).add(status)
        else:
            self.acknowledged[trace] = status
            self.operations += 1

    def compare(self, executions: list[dict[str, Any]]) -> None:
        """Raises for anything lost or invented."""
        stored = {run["trace_id"]: run["status"] for run in executions}
        assert len(stored) == len(executions), "a run is there twice"
        lost = {trace for trace in self.acknowledged if trace not in stored}
        assert not lost, f"acknowledged and lost: {sorted(lost)[:5]}"
        for trace, status in stored.items():
            assert status in self.asked.get(trace, ()), f"never asked for: {trace} {status}"
            known = self.acknowledged.get(trace)
            later = {None: 0, "PENDING": 1, "RUNNING": 2}
            assert later.get(status, 3) >= later.get(known, 3), f"{trace} is {status} and was acknowledged as {known}"


def work(path: Path, pipe: int, first: int, seed: int) -> None:
    """Records until it is killed."""
    choice = random.Random(seed)
    recorder = Recorder(path, timeout_seconds=120)
    number = first
    while True:
        trace = f"t{number}"
        number += 1

        def told(status: str, call: Any, trace: str = trace) -> Any:
            os.write(pipe, f"? {trace} {status}\n".encode())
            answer = call()
            os.write(pipe, f"+ {trace} {status}\n".encode())
            return answer

        job = f"job {choice.randrange(5)}"
        recorder.save_job(job, job_type="t", job_category="c", interval_seconds=choice.randrange(1, 100))
        run = told("PENDING", lambda job=job, trace=trace: recorder.enqueue(job, trace_id=trace))
        if choice.random() < 0.9:
            told("RUNNING", lambda run=run: recorder.start(run, worker_id=f"w{choice.randrange(3)}"))
        if choice.random() < 0.9:
            end = choice.choice(ENDS)
            told(end, lambda run=run, end=end: recorder.finish(run, end, result={"run": run}))


def live(path: Path, ledger: Ledger, first: int, seconds: float) -> None:
    """One child, from its birth to its death, and what it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            work(path, writing, first, first)
        finally:
            os._exit(1)
    os.close(writing)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, encoding="ascii") as lines:
        for line in lines.read().splitlines():
            ledger.take(line)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child died by itself: {status}"


def main(arguments: list[str]) -> None:
    """Kills, reopens, compares."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    path = options.folder / "ledger.db"
    choice, ledger = random.Random(options.seed), Ledger()
    slowest, patience = 0.0, 1.0
    for kill in range(options.kills):
        before = ledger.operations
        live(path, ledger, kill * 1_000_000, choice.uniform(0.002, 0.08 * patience))
        patience *= 1 if ledger.operations > before else 1.2  # a busy machine takes longer to open the store
        begun = time.monotonic()
        with Recorder(path), jobstore.open(path) as store:
            store.list_job_executions(limit=1)
        slowest = max(slowest, time.monotonic() - begun)
        if kill % 50 == 49 or kill + 1 == options.kills:
            ledger.compare(jobstore.dump(path)["executions"])
            problems = check(path)
            assert not problems, problems
    figures = {"kills": options.kills, "operations": ledger.operations, "slowest_reopen_seconds": slowest}
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
