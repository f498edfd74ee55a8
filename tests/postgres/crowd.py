"""Recorders in processes of their own that are killed while a server is restarted, and a ledger of what they were told.

    python -m tests.postgres.crowd --runs 20000

Each says ``?`` before a call and ``+`` after it; the parent kills them at any moment and starts others in their place,
and restarts the server twice. What was acknowledged must be there, and nothing that was never asked for, each once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jobstore
from jobstore.language.models import STATUS_OF_CODE
from jobstore.storage.postgres import writer
from jobstore.transfer.backup import check
from tests.reliability.ledger import ENDS, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgres.servers import Server

ROOT: Final = Path(__file__).resolve().parents[2]
PROCESSES: Final = 8
JOBS: Final = 5
AWAY = (jobstore.StoreBusy, jobstore.StoreUnreadable)
"""What a recorder says of a server that is away; the call is not acknowledged."""


def record(url: str, first: int) -> None:
    """Records until it is killed."""
    choice, recorder = random.Random(first), opened(url)
    for number in count(first):
        trace, job = f"t{number}", f"job {choice.randrange(JOBS)}"
        with contextlib.suppress(*AWAY):
            if choice.random() < 0.5:
                run_of(recorder, job, trace)
            else:
                steps_of(recorder, job, trace, choice)


def run_of(recorder: jobstore.Recorder, job: str, trace: str) -> None:
    for status in ("RUNNING", "SUCCESS"):
        tell("?", trace, status)
    with recorder.run(job, trace_id=trace, worker_id="w"):
        tell("+", trace, "RUNNING")
    tell("+", trace, "SUCCESS")


def steps_of(recorder: jobstore.Recorder, job: str, trace: str, choice: random.Random) -> None:
    tell("?", trace, "PENDING")
    number = recorder.enqueue(job, trace_id=trace)
    tell("+", trace, "PENDING")
    tell("?", trace, "RUNNING")
    insist(lambda: recorder.start(number, worker_id=f"w{choice.randrange(3)}"))
    tell("+", trace, "RUNNING")
    end = choice.choice(ENDS)
    tell("?", trace, end)
    insist(lambda: recorder.finish(number, end, result={"run": number}))
    tell("+", trace, end)


def insist(call: Callable[[], object]) -> None:
    """Repeats a call until it is recorded; a conflict says that it was, when its answer was lost."""
    for attempt in count():
        try:
            call()
        except jobstore.Conflict:
            if not attempt:
                raise
            return
        except AWAY:
            continue
        return


def tidy(url: str) -> None:
    """Renames, defines, prunes nothing and deletes unused words, all the time."""
    recorder = opened(url)
    for number in count():
        with contextlib.suppress(*AWAY, jobstore.NotFound, jobstore.Conflict):
            recorder.save_job(f"job {number % JOBS}", job_type="t", job_category="c", interval_seconds=number + 1)
            recorder.rename_job("job a", "job b") if number % 2 else recorder.rename_job("job b", "job a")
            recorder.prune(keep_last=1_000_000)
            recorder._writer.forget_unused()


def opened(url: str) -> jobstore.Recorder:
    vars(writer)["TIDIED_EVERY"] = 8  # so that something is folded, however the dice fall
    while True:
        with contextlib.suppress(*AWAY):
            return jobstore.Recorder(url)


def tell(sign: str, trace: str, status: str) -> None:
    os.write(1, f"{sign} {trace} {status}\n".encode())


class Crowd:
    """The processes, and what they said."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ledger = Ledger()
        self._lock = threading.Lock()
        self._numbers = count()
        self._said: list[threading.Thread] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, task: str) -> None:
        first = next(self._numbers) * 1_000_000
        command = [
            sys.executable,
            "-m",
            "tests.postgres.crowd",
            "--url",
            self.url,
            "--task",
            task,
            "--first",
            str(first),
        ]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        self.processes.append(process)
        self._said.append(threading.Thread(target=self._listen, args=(process,)))
        self._said[-1].start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with self._lock:
                    self.ledger.take(line.decode())

    @property
    def ended(self) -> int:
        with self._lock:
            return sum(status in ENDS for status in self.ledger.acknowledged.values())

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        self.processes.remove(process)
        assert process.returncode == -9, f"a recorder ended by itself: {process.returncode}"

    def close(self) -> None:
        for process in list(self.processes):
            self.kill(process)
        for said in self._said:
            said.join()


def survive(server: Server, runs: int, kills: int, seed: int = 0) -> dict[str, Any]:
    """Figures of a crowd that ended so many runs; raises for anything lost, invented, counted wrong or deadlocked."""
    choice, begun = random.Random(seed), time.monotonic()
    with server.store() as url:
        with jobstore.Recorder(url) as recorder:
            for name in ("job a", *(f"job {number}" for number in range(JOBS))):
                recorder.save_job(name, job_type="t", job_category="c")
        crowd = Crowd(url)
        try:
            for _ in range(PROCESSES):
                crowd.start("record")
            crowd.start("tidy")
            restarts, killed = ["fast", "immediate"], 0
            while (ended := crowd.ended) < runs:
                time.sleep(0.02)
                if killed < kills and ended * (kills + 1) >= runs * (killed + 1):
                    killed += 1
                    crowd.kill(choice.choice(crowd.processes[:PROCESSES]))
                    crowd.start("record")
                if restarts and ended * 3 >= runs * (3 - len(restarts)):
                    server.restart(restarts.pop(0))
        finally:
            crowd.close()
        seconds = time.monotonic() - begun
        figures = compared(url, server, crowd.ledger)
    return {**figures, "kills": killed, "restarts": 2, "seconds": round(seconds, 1)}


def compared(url: str, server: Server, ledger: Ledger) -> dict[str, Any]:
    with server.connect(url.partition("@/")[2].partition("?")[0]) as connection:
        rows = connection.execute("SELECT trace_id, status FROM jobstore.execution").fetchall()
        folded = connection.execute("SELECT folded FROM jobstore.folding").fetchone()
    ledger.compare([{"trace_id": trace, "status": str(STATUS_OF_CODE[status])} for trace, status in rows])
    assert check(url) == []
    assert folded != (0,), "nothing was folded"
    with jobstore.open(url) as store, jobstore.Recorder(url) as recorder:
        assert store.list_job_executions()["pagination"]["total"] == len(rows)
        closed = recorder.close_interrupted()
        left = store.list_job_executions(status=["PENDING", "RUNNING"])["pagination"]["total"]
    assert left == 0, "an execution of a process that was killed is open"
    deadlocks = server.log().count("deadlock detected")
    assert not deadlocks
    return {
        "acknowledged": ledger.operations, "stored": len(rows), "lost": 0, "invented": 0, "deadlocks": deadlocks,
        "closed": closed,
    }  # fmt: skip


def main() -> None:
    """One of the processes, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url")
    parser.add_argument("--task", default="")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--kind", default="debian")
    options = parser.parse_args()
    if options.task == "record":
        record(options.url, options.first)
    elif options.task == "tidy":
        tidy(options.url)
    else:
        from tests.postgres.servers import running  # brings pytest and hypothesis, which a recorder does without

        with running(options.kind) as server:
            sys.stdout.write(json.dumps(survive(server, options.runs, options.kills)))


if __name__ == "__main__":
    main()
