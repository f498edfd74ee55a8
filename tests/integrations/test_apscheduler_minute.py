"""A scheduler of everything at once: each run is in the store once, also when its process is killed."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Callable

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


KILLED = """
import os, random, sys, threading, time
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
import jobstore
from jobstore.integrations import apscheduler

path, ledger = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
recorder = jobstore.Recorder(path)
print("closed", recorder.close_interrupted(), flush=True)
scheduler = BackgroundScheduler(timezone="UTC", executors={"default": ThreadPoolExecutor(20)})
apscheduler.mirror(scheduler, recorder)

def job(name, seconds):
    os.write(ledger, f"begin {name}\\n".encode())
    time.sleep(seconds)
    os.write(ledger, f"end {name}\\n".encode())

for number in range(6):
    scheduler.add_job(job, "interval", args=[f"job{number}", number * 0.3], seconds=1, id=f"job{number}", max_instances=3)
scheduler.start()
print("ready", flush=True)
threading.Event().wait()
"""


def test_when_the_process_is_killed_no_run_is_lost_and_none_is_left_running(tmp_path):
    path, ledger = tmp_path / "jobs.db", tmp_path / "ledger"
    ledger.touch()
    chance = random.Random(7)
    interrupted = 0
    for _life in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, path, ledger], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout as output:
            interrupted += int(output.readline().split()[1])
            assert output.readline() == "ready\n"
            time.sleep(chance.uniform(2.0, 3.0))
            process.send_signal(signal.SIGKILL)
            process.wait(30)
    with jobstore.Recorder(path) as recorder:
        interrupted += recorder.close_interrupted()
    with jobstore.open(path) as store:
        found = everything(store)
    written = Counter(ledger.read_text(encoding="ascii").splitlines())
    begun = Counter(each["job_name"] for each in found if each["started_at"])
    succeeded = Counter(each["job_name"] for each in found if each["status"] == "SUCCESS")
    assert not [each for each in found if each["status"] == "RUNNING"]
    # On a busy machine some still wait for a thread: they are closed too, and have no start.
    assert 0 < sum(each["status"] == "FAILURE" and each["started_at"] is not None for each in found) <= interrupted
    for name in (f"job{number}" for number in range(6)):
        assert 0 <= begun[name] - written[f"begin {name}"] <= 3, (
            "each call was recorded before, a kill may come between"
        )
        assert 0 <= written[f"end {name}"] - succeeded[name] <= 9, "a kill may come between an end and its record"
    assert succeeded
