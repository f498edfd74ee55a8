"""A scheduler of everything at once: each run is in the store once, also when its process is killed."""

from __future__ import annotations

import json
import logging
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from apscheduler import events
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

import jobstore
from jobstore.integrations import apscheduler
from jobstore.language.instants import instant_text, instant_us
from tests.waiting import LONG_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logging.getLogger("apscheduler").setLevel(logging.CRITICAL)


class Ledger:
    """What happened, by the scheduler's own account and by the jobs' own, without the mirror."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str | None, str]] = Counter()
        self.calls: dict[str, list[tuple[float, float]]] = {}
        self._lock = threading.Lock()

    def hear(self, event: Any) -> None:
        kinds = {
            events.EVENT_JOB_EXECUTED: "SUCCESS",
            events.EVENT_JOB_ERROR: "ValueError",
            events.EVENT_JOB_MISSED: "Missed",
        }
        with self._lock:
            if event.code == events.EVENT_JOB_MAX_INSTANCES:
                for run_time in event.scheduled_run_times:
                    self.outcomes[event.job_id, instant_text(instant_us(run_time)), "Refused"] += 1
            else:
                at = instant_text(instant_us(event.scheduled_run_time))
                self.outcomes[event.job_id, at, kinds[event.code]] += 1

    def job(self, name: str, seconds: float = 0.0, *, fails: bool = False) -> Callable[[], dict[str, str]]:
        def call() -> dict[str, str]:
            begun = time.time()
            time.sleep(seconds)
            with self._lock:
                self.calls.setdefault(name, []).append((begun, time.time()))
            if fails:
                raise ValueError(name)
            return {"job": name}

        return call


def fleet(scheduler: Any, ledger: Ledger) -> None:
    def add(name: str, seconds: float = 0.0, *, every: int = 1, fails: bool = False, **options: Any) -> None:
        scheduler.add_job(ledger.job(name, seconds, fails=fails), "interval", seconds=every, id=name, **options)

    for number in range(4):
        add(f"fast{number}")
    add("slow", 1.4, every=2)
    add("failing", fails=True)
    add("overlapping", 2.6, max_instances=2)
    add("refused", 2.6)
    add("blocks", 2.5, every=3, executor="narrow")
    add("missed", executor="narrow", misfire_grace_time=1)
    add("paused")
    add("removed")
    scheduler.add_job(ledger.job("seconds"), "cron", second="*/2", id="seconds")
    scheduler.add_job(ledger.job("once"), "date", run_date=datetime.now(UTC) + timedelta(seconds=2), id="once")


@pytest.mark.parametrize("seconds", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_each_run_of_a_busy_scheduler_is_there_once_with_its_status_times_and_error(tmp_path, seconds):
    ledger = Ledger()
    scheduler = BackgroundScheduler(
        timezone="UTC", executors={"default": ThreadPoolExecutor(20), "narrow": ThreadPoolExecutor(1)}
    )
    watched = (
        events.EVENT_JOB_EXECUTED | events.EVENT_JOB_ERROR | events.EVENT_JOB_MISSED | events.EVENT_JOB_MAX_INSTANCES
    )
    scheduler.add_listener(ledger.hear, watched)
    with jobstore.Recorder(tmp_path / "jobs.db") as recorder, apscheduler.mirror(scheduler, recorder):
        fleet(scheduler, ledger)
        scheduler.start()
        time.sleep(seconds / 2)
        scheduler.pause_job("paused")
        scheduler.remove_job("removed")
        time.sleep(seconds / 2)
        scheduler.shutdown()
    with jobstore.open(tmp_path / "jobs.db") as store:
        found = everything(store)
        jobs = {job["name"]: job for job in store.list_jobs()["data"]}
    assert Counter((each["job_name"], each["created_at"], outcome(each)) for each in found) == ledger.outcomes
    assert {outcome(each) for each in found} == {"SUCCESS", "ValueError", "Missed", "Refused"}
    check_times(found, ledger)
    assert {name for name, job in jobs.items() if not job["enabled"]} == {"paused", "removed", "once"}
    assert len(jobs) == 14


def everything(store: jobstore.JobStore) -> list[Any]:
    found: list[Any] = []
    while True:
        page = store.list_job_executions(limit=1000, offset=len(found), order_by="id", order_desc=False)
        found += page["data"]
        if not page["pagination"]["has_next"]:
            return found


def outcome(execution: Any) -> str:
    """The status, or the first word of the error."""
    return str(execution["status"] if execution["error"] is None else execution["error"].partition(":")[0])


def check_times(found: list[Any], ledger: Ledger) -> None:
    """Starts and ends lie around what the jobs themselves saw; what never ran has neither start nor duration."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for each in found:
        if each["started_at"] is None:
            assert each["duration_ms"] is None
            assert each["status"] == "FAILURE"
            continue
        began, ended = (datetime.fromisoformat(each[f"{what}_at"]).timestamp() for what in ("started", "completed"))
        assert each["duration_ms"] <= (ended - began) * 1000 + 1_000  # the work alone; the stamps may come later
        spans.setdefault(each["job_name"], []).append((began, ended))
    assert {name: len(calls) for name, calls in ledger.calls.items()} == {
        name: len(all_) for name, all_ in spans.items()
    }
    for name, calls in ledger.calls.items():
        for (began, ended), (called, returned) in zip(sorted(spans[name]), sorted(calls), strict=True):
            assert began <= called <= returned <= ended


LIVES = 3
JOBS = [(0, 1), (0.3, 1), (0.6, 2), (0.9, 2), (1.2, 3), (1_000, 3)]
"""Of each, how long a run takes and its ``max_instances``; the last is always under way when the kill comes."""
KILLED = """
import json, os, random, sys, threading, time
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
import jobstore
from jobstore.integrations import apscheduler, apscheduler_runs

apscheduler_runs.PATIENCE_SECONDS = 10_000  # on a busy machine, too, a thread is free only when its end is recorded
path, ledger = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
recorder = jobstore.Recorder(path)
print("closed", recorder.close_interrupted(), flush=True)
scheduler = BackgroundScheduler(timezone="UTC", executors={"default": ThreadPoolExecutor(20)})
apscheduler.mirror(scheduler, recorder)

def job(name, seconds):
    os.write(ledger, f"begin {name}\\n".encode())
    time.sleep(seconds)
    os.write(ledger, f"end {name}\\n".encode())

for number, (seconds, most) in enumerate(json.loads(sys.argv[3])):
    name = f"job{number}"
    scheduler.add_job(job, "interval", args=[name, seconds], seconds=1, id=name, max_instances=most)
scheduler.start()
print("ready", flush=True)
threading.Event().wait()
"""


def one_life(path: Path, ledger: Path, seconds: float) -> int:
    """Kills a scheduler some time after it has done enough; how many runs of the life before it closed."""
    before = lines(ledger)
    command = [sys.executable, "-c", KILLED, str(path), str(ledger), json.dumps(JOBS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        try:
            closed = int(output.readline().split()[1])
            assert output.readline() == "ready\n"
            until(lambda: is_enough(lines(ledger) - before))
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(LONG_SECONDS)
    return closed


def lines(ledger: Path) -> Counter[str]:
    return Counter(ledger.read_text(encoding="ascii").splitlines())


def is_enough(written: Counter[str]) -> bool:
    """Whether so many runs have ended that a kill cannot explain it if most of the ends are lost."""
    return min(written["end job0"], written["end job1"]) >= 2 and written["begin job5"] > 0


def test_when_the_process_is_killed_no_run_is_lost_and_none_is_left_running(tmp_path):
    path, ledger = tmp_path / "jobs.db", tmp_path / "ledger"
    ledger.touch()
    chance = random.Random(7)
    interrupted = sum(one_life(path, ledger, chance.uniform(0, 1)) for _ in range(LIVES))
    with jobstore.Recorder(path) as recorder:
        interrupted += recorder.close_interrupted()
    with jobstore.open(path) as store:
        found = everything(store)
    assert not [each for each in found if each["status"] == "RUNNING"]
    # Those without a start are of a kill between the commits of enqueue and start.
    assert interrupted == sum((each["error"] or "").startswith("Interrupted") for each in found) > 0
    check_killed(found, lines(ledger))


def check_killed(found: list[Any], written: Counter[str]) -> None:
    """A thread writes its line between two commits, so a kill leaves at most one for each instance without the other."""
    begun = Counter(each["job_name"] for each in found if each["started_at"])
    succeeded = Counter(each["job_name"] for each in found if each["status"] == "SUCCESS")
    for number, (_seconds, most) in enumerate(JOBS):
        name = f"job{number}"
        assert 0 <= begun[name] - written[f"begin {name}"] <= LIVES * most, name
        assert 0 <= written[f"end {name}"] - succeeded[name] <= LIVES * most, name
