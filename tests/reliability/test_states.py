"""States beside what the file does not say: processes that die, and writers that never pause."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

import jobstore
from tests.property.asking import Clock, job_states, same
from tests.property.oracle import utc
from tests.property.worlds import World
from tests.reliability.scale import SOAK
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

RUNS_UNTIL_KILLED = """
import sys, time, jobstore
recorder = jobstore.Recorder(sys.argv[1], timeout_seconds=60)
for name in sys.argv[2:]:
    recorder.start(recorder.enqueue(name))
print("running", flush=True)
time.sleep(600)
"""
SECONDS = 2 * SOAK


def save(recorder: jobstore.Recorder, *names: str) -> None:
    for name in names:
        recorder.save_job(name, job_type="t", job_category="c")


def test_a_job_whose_process_is_killed_is_lost_at_once_and_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with jobstore.Recorder(path, timeout_seconds=60) as recorder:
        save(recorder, "a", "b", "c")
        with jobstore.open(path) as store:

            def states() -> list[tuple[str, str]]:
                return [(job["name"], job["state"]) for job in store.list_job_states()["data"]]

            words = [sys.executable, "-c", RUNS_UNTIL_KILLED, str(path)]
            with subprocess.Popen([*words, "a", "b"], stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == "running\n"
                assert states() == [("a", "running"), ("b", "running"), ("c", "new")]
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
            # Nothing was written since, and nothing is written until it is closed.
            assert states() == [("a", "lost"), ("b", "lost"), ("c", "new")]
            (last,) = store.get_job_executions("a", limit=1)["data"]
            assert store.list_job_states(search="a")["data"][0]["since"] == last["started_at"]
            recorder.finish(last["id"], "SUCCESS")
            assert states() == [("b", "lost"), ("c", "new"), ("a", "ok")]
            assert recorder.close_interrupted() == 1
            assert states() == [("b", "failing"), ("c", "new"), ("a", "ok")]


def test_a_job_is_late_300_seconds_after_its_time_and_not_before(tmp_path: Path) -> None:
    clock = Clock(datetime(2026, 1, 15, 2, 0, tzinfo=UTC))
    with jobstore.Recorder(tmp_path / "jobs.db", clock=clock) as recorder:
        recorder.save_job("a", job_type="t", job_category="c", schedule="0 3 * * *")
    with jobstore.open(tmp_path / "jobs.db", clock=clock) as store:
        seen = []
        for clock.now in (datetime(2026, 1, 15, 3, 5, tzinfo=UTC), datetime(2026, 1, 15, 3, 5, 1, tzinfo=UTC)):
            seen += [job["state"] for job in store.list_job_states()["data"]]
    assert seen == ["new", "late"]


def test_states_beside_writers_are_of_one_snapshot_and_right_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    stop = threading.Event()
    wrong: list[Any] = []

    def write(number: int) -> None:
        with jobstore.Recorder(path, timeout_seconds=60) as recorder:
            save(recorder, *(f"job-{number}-{each}" for each in range(5)))
            turn = 0
            while not stop.is_set():
                turn += 1
                execution_id = recorder.enqueue(f"job-{number}-{turn % 5}")
                recorder.start(execution_id)
                if turn % 7:
                    recorder.finish(execution_id, "FAILURE" if turn % 3 else "SUCCESS")
                if turn % 50 == 0:
                    recorder.prune(keep_last=10)

    jobstore.Recorder(path).close()
    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    with jobstore.open(path) as store:
        for writer in writers:
            writer.start()
        until(lambda: store.list_job_states()["pagination"]["total"] == 10)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not wrong:
            wrong += contradictions(store.list_job_states())
        stop.set()
        for writer in writers:
            writer.join()
        assert not wrong, wrong[0]
        with jobstore.open(path) as fresh:
            assert same(store.list_job_states(), fresh.list_job_states())


def test_runs_of_one_moment_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    """Every order of four outcomes, at one moment or at several: the state, since when, how many failures in a row."""
    jobs: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    moments = [f"2026-03-29T0{hour}:00:00Z" for hour in range(7, 10)]
    hours = ((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 2), (0, 1, 1, 1), (0, 1, 1, 2), (0, 1, 2, 2))
    for number, (outcomes, at) in enumerate(product(product(("SUCCESS", "FAILURE", "TIMEOUT"), repeat=4), hours), 1):
        job = {"number": number, "name": f"job-{number}", "job_type": "t", "job_category": "c", "enabled": True}
        jobs.append(
            job | dict.fromkeys(_UNSET) | dict.fromkeys(("created_at", "updated_at", "last_run_at"), moments[2])
        )
        for status, hour in zip(outcomes, at, strict=True):
            run = {"id": str(len(runs) + 1), "job_id": str(number), "job_name": f"job-{number}", "status": status}
            runs.append(run | dict.fromkeys(_UNTOLD) | dict.fromkeys(("created_at", "started_at"), moments[hour]))
    jobstore.load(tmp_path / "jobs.db", {"timezone": "Europe/Berlin", "jobs": jobs, "executions": runs})
    now = datetime(2026, 3, 30, tzinfo=UTC)
    dumped = jobstore.dump(tmp_path / "jobs.db")
    world = World("", 0, "Europe/Berlin", dumped["jobs"], dumped["executions"])
    with jobstore.open(tmp_path / "jobs.db", clock=Clock(now)) as store:
        assert same(store.list_job_states(limit=1_000), job_states(world, {"limit": 1_000}, now))


_UNSET = ("description", "schedule", "interval_seconds", "parameters", "timeout_seconds", "next_run_at", "anchor_at")
_UNTOLD = ("completed_at", "duration_ms", "result", "error", "trace_id", "worker_id", "parameters_snapshot")


def contradictions(page: Any) -> list[Any]:
    """What in a page cannot be true of one moment."""
    jobs = page["data"]
    counted = {state: sum(job["state"] == state for job in jobs) for state in page["states"]}
    found: list[Any] = [] if counted == page["states"] else [page]
    for job in jobs:
        newest = [run["status"] for run in reversed(job["recent"])]
        finished = [status for status in newest if status not in {"RUNNING", "PENDING"}]
        expected = {
            "running": "RUNNING" in newest,
            "waiting": "PENDING" in newest and "RUNNING" not in newest,
            "failing": finished[:1] in (["FAILURE"], ["TIMEOUT"]) and len(finished) == len(newest),
            "ok": finished[:1] in (["SUCCESS"], []) and len(finished) == len(newest),
            "new": not newest,
        }
        if not expected[job["state"]] or (newest and job["last"]["status"] != newest[0]):
            found.append(job)
    return found


def test_a_run_is_lost_when_it_exceeds_its_timeout_and_the_grace(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    clock = Clock(utc(1_768_464_000_000_000))
    with jobstore.Recorder(path, clock=clock) as recorder, jobstore.open(path, clock=clock) as store:
        recorder.save_job("a", job_type="t", job_category="c", timeout_seconds=30)
        with recorder.run("a"):
            for us, state in ((0, "running"), (90_000_000, "running"), (90_000_001, "lost"), (5, "running")):
                clock.now = utc(1_768_464_000_000_000 + us)
                assert [job["state"] for job in store.list_job_states()["data"]] == [state]
                dumped = jobstore.dump(path)
                world = World("", 0, "UTC", dumped["jobs"], dumped["executions"])
                assert same(store.list_job_states(), job_states(world, {}, clock.now))
