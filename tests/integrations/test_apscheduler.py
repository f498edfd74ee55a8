"""A real APScheduler beside a store: what it does is there, and it does not notice."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from apscheduler import events
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ProcessPoolExecutor, ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from opentelemetry import context, trace

import jobstore
from jobstore.integrations import apscheduler, apscheduler_runs
from jobstore.integrations.journal import Journal
from jobstore.language.errors import Conflict, InvalidParameter
from jobstore.language.instants import instant_text, instant_us
from tests.waiting import LONG_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAR = datetime(2090, 1, 1, tzinfo=UTC)

logging.getLogger("apscheduler").setLevel(logging.CRITICAL)


def microseconds(text: str) -> int:
    return instant_us(datetime.fromisoformat(text))


class Bench:
    """A store, its recorder and a scheduler, and what a reader sees."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.recorder = jobstore.Recorder(path / "jobs.db")
        self.store = jobstore.open(path / "jobs.db")
        patient = {"misfire_grace_time": LONG_SECONDS}  # a busy machine misses nothing unless a test wants it
        self.scheduler = BackgroundScheduler(timezone="UTC", **{"job_defaults": patient, **options})
        self.mirrors: list[Any] = []

    def mirror(self, scheduler: Any = None, **options: Any) -> Any:
        made = apscheduler.mirror(scheduler or self.scheduler, self.recorder, **options)
        self.mirrors.append(made)
        return made

    def flushed(self) -> None:
        assert all(made.flush(LONG_SECONDS) for made in self.mirrors)

    def jobs(self) -> dict[str, Any]:
        self.flushed()
        return {job["name"]: job for job in self.store.list_jobs(limit=1000)["data"]}

    def executions(self, name: str | None = None) -> list[Any]:
        self.flushed()
        query = partial(self.store.list_job_executions, limit=1000, order_by="id", order_desc=False)
        return [each for each in query()["data"] if name in (None, each["job_name"])]

    def ended(self, count: int, name: str | None = None) -> list[Any]:
        """The executions, once so many have ended."""

        def found() -> list[Any]:
            ends = [each for each in self.executions(name) if each["completed_at"]]
            return ends if len(ends) >= count else []

        return until(found)

    def close(self) -> None:
        if self.scheduler.running:
            self.scheduler.pause()
            with self.scheduler._jobstores_lock:  # a job that is being submitted is removed before the shutdown
                pass
            self.scheduler.shutdown()
        for made in self.mirrors:
            made.close()
        self.recorder.close()
        self.store.close()


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.close()


@contextmanager
def bench_with(path: Path, **options: Any) -> Iterator[Bench]:
    made = Bench(path, **options)
    try:
        yield made
    finally:
        made.close()


def add(value: int = 1, *, to: int = 1):
    return {"sum": value + to}


def fail():
    raise ValueError("no such pair")


# --- jobs ---------------------------------------------------------------------------------------


def test_jobs_of_a_scheduler_that_has_not_started_are_recorded_when_it_starts(bench):
    bench.scheduler.add_job(add, "cron", hour=3, id="before")
    bench.mirror()
    bench.scheduler.add_job(add, "cron", hour=4, id="after")
    bench.scheduler.start(paused=True)
    assert {name: job["schedule"] for name, job in bench.jobs().items()} == {
        "before": "0 3 * * *",
        "after": "0 4 * * *",
    }


def test_jobs_that_a_running_scheduler_has_already_are_recorded_at_once(bench):
    bench.scheduler.start(paused=True)
    bench.scheduler.add_job(add, "cron", hour=3, id="there")
    bench.scheduler.add_job(add, "interval", minutes=5, id="paused", next_run_time=None)
    bench.mirror()
    jobs = bench.jobs()
    assert (jobs["there"]["enabled"], jobs["paused"]["enabled"]) == (True, False)
    assert jobs["there"]["next_run_at"] == instant_text(instant_us(bench.scheduler.get_job("there").next_run_time))
    assert jobs["paused"]["next_run_at"] is None


def test_a_job_reads_as_its_definition(bench):
    bench.mirror(category="sync", job_type=lambda job: job.id.split("_")[1])
    bench.scheduler.start(paused=True)
    bench.scheduler.add_job(
        add, "interval", [5], {"to": 7}, id="sync_klines", name="Sync klines", minutes=10, max_instances=3
    )
    job = bench.jobs()["sync_klines"]
    assert {key: job[key] for key in ("job_type", "job_category", "description", "parameters", "max_instances")} == {
        "job_type": "klines",
        "job_category": "sync",
        "description": "Sync klines",
        "parameters": {"args": [5], "to": 7},
        "max_instances": 3,
    }
    assert (job["schedule_type"], job["interval_seconds"], job["timeout_seconds"]) == ("interval", 600, None)


def test_arguments_that_are_secret_need_not_be_recorded(bench):
    bench.mirror(parameters=lambda job: {"user": job.kwargs["user"]})
    bench.scheduler.start(paused=True)
    bench.scheduler.add_job(dict, kwargs={"user": "ann", "password": "s3cret"}, id="job", trigger="cron", hour=1)
    assert bench.jobs()["job"]["parameters"] == {"user": "ann"}


def test_an_external_job_tells_the_triggers_words_the_reason_and_its_next_run(bench):
    bench.mirror()
    bench.scheduler.start(paused=True)
    bench.scheduler.add_job(add, "cron", week="*/2", hour=3, id="job", name="Every other week")
    job = bench.jobs()["job"]
    assert (job["schedule_type"], job["schedule"]) == ("external", None)
    assert job["description"].startswith("Every other week: CronTrigger (week='*/2', hour='3'")
    assert job["description"].endswith("external: cron has no field for the week")
    assert job["next_run_at"] == f"{bench.scheduler.get_job('job').next_run_time:%Y-%m-%dT%H:%M:%SZ}"


def test_the_next_run_of_an_external_job_moves_with_each_run(bench):
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(add, "cron", second="*", id="each_second")
    bench.ended(2)
    bench.scheduler.pause()

    def stored() -> Any:
        bench.flushed()
        with closing(sqlite3.connect(bench.recorder.path)) as connection:
            return connection.execute("SELECT next_run_us FROM job").fetchone()[0]

    # The scheduler's thread may still be about to tell of the last run.
    until(lambda: stored() == instant_us(bench.scheduler.get_job("each_second").next_run_time))


def test_changes_of_a_job_are_followed(bench):
    bench.mirror()
    bench.scheduler.start(paused=True)
    job = bench.scheduler.add_job(add, "cron", hour=3, id="job", name="old")
    job.modify(name="new", max_instances=2)
    assert (bench.jobs()["job"]["description"], bench.jobs()["job"]["max_instances"]) == ("new", 2)
    job.reschedule("interval", minutes=2)
    assert (bench.jobs()["job"]["schedule"], bench.jobs()["job"]["interval_seconds"]) == (None, 120)
    job.reschedule("date", run_date=FAR)
    assert (bench.jobs()["job"]["schedule_type"], bench.jobs()["job"]["next_run_at"]) == (
        "external", "2090-01-01T00:00:00Z")  # fmt: skip
    job.reschedule("cron", minute=5)
    assert (bench.jobs()["job"]["schedule"], bench.jobs()["job"]["description"]) == ("5 * * * *", "new")
    bench.scheduler.add_job(add, "cron", hour=9, id="job", replace_existing=True)
    assert bench.jobs()["job"]["schedule"] == "0 9 * * *"


def test_a_paused_job_is_disabled_until_it_is_resumed(bench):
    bench.mirror()
    bench.scheduler.start(paused=True)
    job = bench.scheduler.add_job(add, "interval", minutes=5, id="job")
    job.pause()
    assert (bench.jobs()["job"]["enabled"], bench.jobs()["job"]["next_run_at"]) == (False, None)
    job.resume()
    assert bench.jobs()["job"]["enabled"]
    assert bench.jobs()["job"]["next_run_at"] == job.next_run_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_a_removed_job_is_disabled_and_keeps_its_history_under_its_name(bench):
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(add, id="once")
    bench.ended(1)
    until(lambda: not bench.jobs()["once"]["enabled"])
    assert bench.store.get_job_executions("once")["pagination"]["total"] == 1
    bench.scheduler.add_job(add, id="once")
    bench.ended(2)
    assert bench.store.get_job_executions("once")["pagination"]["total"] == 2


def test_a_removed_job_can_be_removed_here_too_once_its_runs_are_over(bench):
    bench.mirror(removed="remove")
    bench.scheduler.start()
    gate = threading.Event()
    bench.scheduler.add_job(gate.wait, args=[LONG_SECONDS], id="once")
    bench.scheduler.add_job(add, "cron", hour=1, id="cron")
    until(lambda: [each["status"] for each in bench.executions()] == ["RUNNING"])
    assert set(bench.jobs()) == {"once", "cron"}
    bench.scheduler.remove_job("cron")
    assert set(bench.jobs()) == {"once"}
    gate.set()
    until(lambda: not bench.jobs())
    assert [each["status"] for each in bench.executions()] == ["SUCCESS"]


def test_jobs_that_go_all_at_once_are_all_disabled(bench):
    bench.mirror()
    bench.scheduler.add_jobstore(MemoryJobStore(), "other")
    bench.scheduler.start(paused=True)
    for number in range(3):
        bench.scheduler.add_job(add, "cron", hour=1, id=f"default{number}")
        bench.scheduler.add_job(add, "cron", hour=1, id=f"other{number}", jobstore="other")
    bench.scheduler.remove_jobstore("other")
    assert {name for name, job in bench.jobs().items() if job["enabled"]} == {"default0", "default1", "default2"}
    bench.scheduler.remove_all_jobs()
    assert not any(job["enabled"] for job in bench.jobs().values())


def test_ids_that_are_no_names_are_written_as_names(bench):
    bench.mirror()
    bench.scheduler.start()
    for job_id in ("reports/daily", "42", "x" * 300):
        bench.scheduler.add_job(add, id=job_id)
    bench.ended(3)
    assert {"reports%2Fdaily", "%342"} < set(bench.jobs())
    assert "(id 'reports/daily')" in bench.jobs()["reports%2Fdaily"]["description"]


class PicklingJobStore(MemoryJobStore):  # type: ignore[misc]
    """As APScheduler's job stores in databases: jobs go in and come out pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.pickled: dict[str, bytes] = {}

    def _keep(self, job: Any) -> None:
        self.pickled[job.id] = pickle.dumps(job.__getstate__())

    def _restored(self, job: Any) -> Any:
        made = Job.__new__(Job)
        made.__setstate__(pickle.loads(self.pickled[job.id]))
        made._scheduler, made._jobstore_alias = self._scheduler, self._alias
        return made

    def shutdown(self) -> None:
        """What is in a database stays."""

    def add_job(self, job: Any) -> None:
        self._keep(job)
        super().add_job(job)

    def update_job(self, job: Any) -> None:
        self._keep(job)
        super().update_job(job)

    def get_due_jobs(self, now: datetime) -> list[Any]:
        return [self._restored(job) for job in super().get_due_jobs(now)]


def test_jobs_of_a_persistent_job_store_stay_picklable_and_are_found_at_the_start(bench):
    kept = PicklingJobStore()
    before = BackgroundScheduler(timezone="UTC", jobstores={"default": kept})
    before.start(paused=True)
    before.add_job(json.loads, args=["[1]"], trigger="interval", seconds=1, id="job")
    before.shutdown()
    bench.scheduler.add_jobstore(kept)
    bench.mirror()
    bench.scheduler.start()
    assert set(bench.jobs()) == {"job"}
    assert bench.ended(2)[0]["result"] == {"value": [1]}
    assert pickle.loads(kept.pickled["job"])["func"] == "json:loads"


def test_what_another_scheduler_does_in_a_shared_job_store_is_taken_over(bench, monkeypatch):
    monkeypatch.setattr(apscheduler, "LOOK_SECONDS", 0.05)
    kept = PicklingJobStore()
    bench.scheduler.add_jobstore(kept, "shared")
    bench.mirror()
    bench.scheduler.start()
    words = {"args": ["[1]"], "jobstore": "shared", "id": "job", "next_run_time": FAR}
    bench.scheduler.add_job(json.loads, "cron", hour=3, **words)
    bench.scheduler.add_job(json.loads, "cron", hour=4, **{**words, "id": "other"})
    assert bench.jobs()["job"]["schedule_type"] == "external"  # its next run was set by hand
    another = BackgroundScheduler(timezone="UTC", jobstores={"shared": kept})
    another.start(paused=True)
    try:
        another.reschedule_job("job", "shared", "interval", hours=2)
        until(lambda: bench.jobs()["job"]["interval_seconds"] == 7200)
        another.pause_job("job", "shared")
        until(lambda: not bench.jobs()["job"]["enabled"])
        another.remove_job("other", "shared")
        until(lambda: not bench.jobs()["other"]["enabled"])
        another.add_job(json.loads, "cron", hour=5, **{**words, "id": "new"})
        until(lambda: "new" in bench.jobs())
    finally:
        another.shutdown()


def test_a_job_changed_by_another_scheduler_is_saved_with_its_next_run(bench, monkeypatch):
    monkeypatch.setattr(apscheduler, "LOOK_SECONDS", LONG_SECONDS)
    kept = PicklingJobStore()
    bench.scheduler.add_jobstore(kept, "shared")
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(json.loads, "interval", args=["[1]"], seconds=1, jobstore="shared", id="job")
    changed = kept.lookup_job("job")
    changed._modify(trigger=IntervalTrigger(seconds=2, timezone="UTC"))
    kept.update_job(changed)
    until(lambda: bench.jobs()["job"]["interval_seconds"] == 2)


def test_jobs_without_an_id_are_warned_of_once(bench, caplog):
    bench.mirror()
    bench.scheduler.start(paused=True)
    bench.scheduler.add_job(add, "date", run_date=FAR)
    bench.scheduler.add_job(add, "cron", hour=3, id="named")
    bench.flushed()
    assert caplog.text == ""
    for hour in (3, 4):
        bench.scheduler.add_job(add, "cron", hour=hour)
    bench.flushed()
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "jobstore.integrations")
    assert "add_job(..., id='add', replace_existing=True)" in record.getMessage()


def test_arguments_that_look_like_secrets_are_masked(bench):
    def login(user: str, password: str, **more: object) -> None: ...

    bench.mirror()
    bench.scheduler.start(paused=True)
    more = {"headers": {"Authorization": "Bearer s3cret"}, "dsn": "mysql://u:s3cret@db/x", "api_key": "s3cret", "n": 1}
    bench.scheduler.add_job(login, "cron", args=["me", "s3cret"], kwargs=more, id="job")
    assert bench.jobs()["job"]["parameters"] == {
        "args": ["me", "***"], "headers": {"Authorization": "***"}, "dsn": "mysql://u:***@db/x", "api_key": "***", "n": 1,
    }  # fmt: skip


def test_the_description_of_an_external_job_is_short_and_keeps_its_id(bench):
    bench.mirror()
    bench.scheduler.start(paused=True)
    bench.scheduler.add_job(add, "cron", week="1", second=5, jitter=3, id="a/b", name="n" * 400, end_date=FAR)
    description = bench.jobs()["a%2Fb"]["description"]
    assert len(description) <= 300
    assert description.endswith("; external: each run is delayed by up to 3 s at random (id 'a/b')")
    bench.scheduler.add_job(add, "cron", hour=3, id="c/" + "d" * 500, name="n" * 400)
    (long,) = [job for name, job in bench.jobs().items() if name.startswith("c%2F")]
    assert len(long["description"]) <= 300
    assert long["description"].endswith("…)")


def test_a_job_whose_words_the_store_refuses_is_told_to_the_log(bench, caplog):
    bench.mirror(job_type=lambda _job: "", category=lambda job: job.nothing)
    bench.scheduler.start()
    bench.scheduler.add_job(add, id="job")
    until(lambda: "Not recorded" in caplog.text)
    assert bench.jobs() == {}


# --- runs ---------------------------------------------------------------------------------------


def test_a_run_is_recorded_with_its_times_and_its_return_value(bench):
    bench.mirror()
    bench.scheduler.start()
    before = datetime.now(UTC)
    bench.scheduler.add_job(time.sleep, args=[0.2], id="slow")
    bench.scheduler.add_job(add, args=[2], id="fast")
    slow, fast = bench.ended(1, "slow")[0], bench.ended(1, "fast")[0]
    assert (slow["status"], slow["result"], slow["error"]) == ("SUCCESS", None, None)
    assert slow["duration_ms"] >= 200
    assert fast["result"] == {"sum": 3}
    assert fast["parameters_snapshot"] == {"args": [2]}
    assert fast["worker_id"].endswith("/default")
    created, started, completed = (
        datetime.fromisoformat(slow[f"{what}_at"]) for what in ("created", "started", "completed")
    )
    assert before <= created <= started <= completed <= datetime.now(UTC)


def test_the_job_of_the_scheduler_itself_is_left_as_it_is(bench):
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(add, "interval", seconds=1, id="job")
    bench.ended(2)
    job = bench.scheduler.get_job("job")
    assert (job.func, type(job.id)) == (add, str)


def test_a_failing_run_is_recorded_with_its_error_and_traceback(bench):
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(fail, id="job")
    (found,) = bench.ended(1)
    assert (found["status"], found["error"]) == ("FAILURE", "ValueError: no such pair")
    trace = found["result"]["traceback"]
    assert "in fail" in trace
    assert "apscheduler_runs" not in trace


def test_a_duration_is_the_jobs_own_time(bench, monkeypatch):
    """The wait for a busy store comes before the callable."""
    mirror = bench.mirror()
    put = mirror._journal.put

    def slow(call: Any) -> Any:
        time.sleep(0.4)
        return put(call)

    monkeypatch.setattr(mirror._journal, "put", slow)
    bench.scheduler.start()
    bench.scheduler.add_job(add, id="job")
    (found,) = bench.ended(1)
    span_us = microseconds(found["completed_at"]) - microseconds(found["started_at"])
    assert span_us - found["duration_ms"] * 1000 > 300_000


def test_the_duration_is_without_the_conversion_of_a_slow_text(bench):
    class Slow(Exception):
        def __str__(self):
            time.sleep(2)
            return "slow"

    def fails():
        raise Slow

    bench.scheduler.add_job(Slow, "date", id="succeeds")
    bench.scheduler.add_job(fails, "date", id="fails")
    bench.mirror()
    bench.scheduler.start()
    for found in bench.ended(2):
        assert found["duration_ms"] < 2_000


def test_a_run_has_the_trace_of_the_span_it_runs_in(tmp_path):
    span = trace.NonRecordingSpan(trace.SpanContext(trace_id=0xABC, span_id=1, is_remote=False))

    def within_span() -> None:
        context.attach(trace.set_span_in_context(span))

    with bench_with(tmp_path, executors={"default": ThreadPoolExecutor(1, {"initializer": within_span})}) as bench:
        bench.mirror()
        bench.scheduler.start()
        bench.scheduler.add_job(add, id="job")
        assert bench.ended(1)[0]["trace_id"] == f"{0xABC:032x}"


def test_a_job_that_exits_has_failed(bench):
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(partial(os.sys.exit, 3), id="job")  # type: ignore[attr-defined]
    assert bench.ended(1)[0]["error"] == "SystemExit: 3"


def test_a_run_is_running_before_its_callable_is_called(bench, monkeypatch):
    monkeypatch.setattr(apscheduler_runs, "PATIENCE_SECONDS", LONG_SECONDS)
    bench.mirror()
    bench.scheduler.start()

    def look():
        return [each["status"] for each in bench.store.list_job_executions()["data"]]

    bench.scheduler.add_job(look, id="job")
    assert bench.ended(1)[0]["result"] == {"value": ["RUNNING"]}


def test_the_end_is_on_the_disk_before_the_scheduler_tells_of_it(bench, monkeypatch):
    monkeypatch.setattr(apscheduler_runs, "PATIENCE_SECONDS", LONG_SECONDS)
    bench.mirror()
    seen: list[Any] = []

    def listen(event):
        seen.append(
            (event.code, type(event.job_id), event.job_id, event.retval, bench.store.list_job_executions()["data"])
        )

    bench.scheduler.add_listener(listen, events.EVENT_JOB_EXECUTED)
    bench.scheduler.start()
    bench.scheduler.add_job(add, id="job")
    ((code, kind, job_id, retval, data),) = until(lambda: seen)
    assert (code, kind, job_id, retval) == (events.EVENT_JOB_EXECUTED, str, "job", {"sum": 2})
    assert [each["status"] for each in data] == ["SUCCESS"]


def test_a_refused_run_is_a_failure_at_its_scheduled_time(bench):
    bench.mirror()
    bench.scheduler.start()
    gate = threading.Event()
    bench.scheduler.add_job(gate.wait, "cron", args=[LONG_SECONDS], second="*", id="job")
    refused = bench.ended(2)
    gate.set()
    for found in refused[:2]:
        assert (found["status"], found["started_at"], found["duration_ms"]) == ("FAILURE", None, None)
        assert found["created_at"] == found["completed_at"]
        assert "." not in found["created_at"]
        assert found["error"] == "Refused: this job is still running, and max_instances is 1"
    assert bench.executions()[0]["started_at"] is not None


def test_a_missed_run_is_a_failure_at_its_scheduled_time(tmp_path):
    with bench_with(tmp_path, executors={"default": ThreadPoolExecutor(1)}) as bench:
        bench.mirror()
        bench.scheduler.start()
        due = datetime.now(UTC) + timedelta(seconds=0.2)
        bench.scheduler.add_job(time.sleep, args=[1.6], id="long")
        bench.scheduler.add_job(add, run_date=due, misfire_grace_time=1, id="job")
        (found,) = bench.ended(1, "job")
        assert (found["status"], found["started_at"]) == ("FAILURE", None)
        assert found["created_at"] == found["completed_at"] == due.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert found["error"].startswith("Missed: it could not start in time (")


def test_run_times_that_are_not_coalesced_are_runs_of_their_own(tmp_path):
    with bench_with(tmp_path, job_defaults={"coalesce": False, "misfire_grace_time": 60}) as bench:
        bench.mirror()
        bench.scheduler.start()
        begun = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=90, microseconds=1)
        bench.scheduler.add_job(add, "interval", seconds=20, id="job", next_run_time=begun)
        found = bench.ended(5)
        assert [each["status"] for each in found] == ["FAILURE", "FAILURE", "SUCCESS", "SUCCESS", "SUCCESS"]
        created = [datetime.fromisoformat(each["created_at"]) for each in found]
        assert created == [begun + timedelta(seconds=20 * number) for number in range(5)]
        assert [each["error"][:6] for each in found[:2]] == ["Missed", "Missed"]


def test_each_executor_is_recorded_also_one_that_comes_later(bench):
    bench.scheduler.add_executor(ThreadPoolExecutor(2), "first")
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_executor(ThreadPoolExecutor(2), "second")
    bench.scheduler.add_executor(DebugExecutor(), "debug")
    for alias in ("default", "first", "second", "debug"):
        bench.scheduler.add_job(add, id=alias, executor=alias)
    found = bench.ended(4)
    workers = [each["worker_id"].split("/") for each in found]
    assert {process for _, process, _ in workers} == {str(os.getpid())}
    assert sorted(name for *_, name in workers) == ["debug", "default", "first", "second"]
    assert {each["status"] for each in found} == {"SUCCESS"}
    # APScheduler raises where it is shut down between a run in its own thread and the removal of that job.
    until(lambda: not bench.scheduler.get_jobs())


def test_runs_in_other_processes_are_recorded_from_outside(tmp_path):
    with bench_with(tmp_path, executors={"default": ProcessPoolExecutor(1)}) as bench:
        bench.mirror()
        bench.scheduler.start()
        bench.scheduler.add_job(json.loads, args=["[1]"], id="good")
        bench.scheduler.add_job(json.loads, args=["["], id="bad")
        good, bad = bench.ended(1, "good")[0], bench.ended(1, "bad")[0]
        assert (good["status"], good["result"]) == ("SUCCESS", {"value": [1]})
        assert bad["error"].startswith("JSONDecodeError: Expecting value")
        assert "raw_decode" in bad["result"]["traceback"]
        assert all(each["started_at"] and each["duration_ms"] is not None for each in (good, bad))
        bench.scheduler.add_job(os._exit, args=[1], id="crash")
        (crash,) = bench.ended(1, "crash")
        assert (crash["status"], crash["error"][:31]) == ("FAILURE", "Its process returned no result:")
        bench.scheduler.add_job(threading.Lock().acquire, id="unpicklable", trigger="date")
        assert bench.ended(1, "unpicklable")[0]["status"] == "FAILURE"


class Elsewhere(BaseExecutor):  # type: ignore[misc]
    """Somebody's own executor, of which nothing is known."""

    def _do_submit_job(self, job, run_times):
        assert type(run_times) is list
        copy = pickle.loads(pickle.dumps(job))
        assert type(copy.id) is str
        self._run_job_success(job.id, run_job(copy, job._jobstore_alias, run_times, self._logger.name))


def test_an_executor_that_is_not_known_gets_the_real_job(tmp_path):
    with bench_with(tmp_path, executors={"default": Elsewhere()}) as bench:
        bench.mirror()
        bench.scheduler.start()
        bench.scheduler.add_job(json.loads, args=["[1]"], id="job")
        assert bench.ended(1)[0]["result"] == {"value": [1]}


def test_a_run_that_the_executor_refuses_is_a_failure_with_the_reason(bench):
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler._executors["default"]._pool.shutdown()
    bench.scheduler.add_job(add, id="job")
    (found,) = bench.ended(1)
    assert (found["status"], found["started_at"]) == ("FAILURE", None)
    assert found["error"].startswith("Not run: the executor refused it: RuntimeError: cannot schedule new futures")


# --- coroutines ---------------------------------------------------------------------------------


async def good_coroutine():
    await asyncio.sleep(0.1)
    return {"n": 1}


async def bad_coroutine():
    await asyncio.sleep(0)
    raise ValueError("no such pair")


async def long_coroutine():
    await asyncio.sleep(1000)


def test_coroutines_are_recorded_where_they_are_awaited(bench):
    async def program() -> None:
        scheduler = AsyncIOScheduler(timezone="UTC")
        mirror = bench.mirror(scheduler)
        scheduler.start()
        scheduler.add_job(good_coroutine, id="good")
        scheduler.add_job(bad_coroutine, id="bad")
        scheduler.add_job(partial(long_coroutine), id="long")
        scheduler.add_job(add, id="plain")
        await asyncio.to_thread(bench.ended, 3)
        await asyncio.to_thread(until, lambda: bench.executions("long"))
        scheduler.shutdown()
        await asyncio.sleep(0.2)
        mirror.close()

    asyncio.run(asyncio.wait_for(program(), LONG_SECONDS))
    found = {each["job_name"]: each for each in bench.executions()}
    assert len(bench.executions()) == 4
    assert {name: each["status"] for name, each in found.items()} == {
        "good": "SUCCESS", "bad": "FAILURE", "long": "FAILURE", "plain": "SUCCESS"}  # fmt: skip
    assert found["good"]["result"] == {"n": 1}
    assert found["good"]["duration_ms"] >= 100
    assert found["bad"]["error"] == "ValueError: no such pair"
    assert found["long"]["error"] == "CancelledError"


def test_a_coroutine_that_is_cancelled_before_it_began_is_a_failure(bench):
    async def program() -> None:
        scheduler = AsyncIOScheduler(timezone="UTC")
        bench.mirror(scheduler)
        scheduler.start()
        scheduler.add_job(good_coroutine, "date", id="job", run_date=FAR)
        job = scheduler.get_job("job")
        executor = scheduler._executors["default"]
        executor.submit_job(job, [FAR])
        executor.shutdown()
        await asyncio.sleep(0.1)
        scheduler.shutdown()
        await asyncio.sleep(0.1)

    asyncio.run(program())
    (found,) = bench.executions()
    assert (found["status"], found["started_at"], found["error"]) == ("FAILURE", None, "Not run: CancelledError")


# --- the mirror itself ----------------------------------------------------------------------------


def test_a_scheduler_is_mirrored_once_at_a_time(bench):
    first = bench.mirror()
    with pytest.raises(Conflict, match="already mirrored"):
        bench.mirror()
    first.close()
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(add, id="job")
    assert len(bench.ended(1)) == 1


def test_a_word_that_is_not_known_is_refused(bench):
    with pytest.raises(InvalidParameter, match="'disable' or 'remove'"):
        bench.mirror(removed="forget")


def test_after_it_is_closed_nothing_more_is_recorded_but_the_end_of_what_began(bench):
    gate, mirror = threading.Event(), bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(gate.wait, args=[LONG_SECONDS], id="long")
    until(lambda: bench.executions("long"))
    mirror.close()
    done = threading.Event()
    bench.scheduler.add_job(done.set, id="unseen")
    assert done.wait(LONG_SECONDS)
    gate.set()
    assert bench.ended(1)[0]["job_name"] == "long"
    assert set(bench.jobs()) == {"long"}


@pytest.mark.parametrize("wait", [True, False])
def test_a_shutdown_loses_nothing(bench, wait):
    bench.mirror()
    bench.scheduler.start()
    gate = threading.Event()
    for number in range(12):  # two more than there are threads
        bench.scheduler.add_job(gate.wait, args=[LONG_SECONDS], id=f"job{number}", misfire_grace_time=60)
    until(lambda: len(bench.executions()) == 10 and not bench.scheduler.get_jobs())  # the other two are submitted, too
    if wait:
        threading.Timer(0.2, gate.set).start()
    bench.scheduler.shutdown(wait=wait)
    gate.set()
    assert [each["status"] for each in bench.ended(12)] == ["SUCCESS"] * 12


def test_a_store_that_is_busy_keeps_neither_the_scheduler_nor_a_run_and_gets_all_of_it_later(bench, monkeypatch):
    monkeypatch.setattr(apscheduler_runs, "PATIENCE_SECONDS", 0.3)
    bench.mirror()
    bench.recorder._writer._timeout_seconds = 0.1
    lock = sqlite3.connect(bench.recorder.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    ran: list[float] = []
    bench.scheduler.start()
    bench.scheduler.add_job(lambda: ran.append(time.monotonic()), "interval", seconds=1, id="job", max_instances=5)
    until(lambda: len(ran) >= 2)
    assert bench.store.list_job_executions()["data"] == []
    lock.execute("ROLLBACK")
    lock.close()
    bench.scheduler.shutdown()
    found = bench.ended(len(ran))
    assert [each["status"] for each in found] == ["SUCCESS"] * len(ran)


def test_nothing_reaches_the_scheduler_when_the_store_is_gone(bench, caplog):
    bench.mirror()
    bench.recorder.close()
    seen: list[Any] = []
    bench.scheduler.add_listener(seen.append, events.EVENT_JOB_EXECUTED | events.EVENT_JOB_ERROR)
    bench.scheduler.start()
    bench.scheduler.add_job(add, id="good")
    bench.scheduler.add_job(fail, id="bad")
    until(lambda: len(seen) == 2)
    assert {event.job_id: event.retval for event in seen} == {"good": {"sum": 2}, "bad": None}
    assert "is closed" in caplog.text


def test_a_job_that_was_removed_from_the_store_comes_back_with_its_next_run(bench):
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(add, "cron", second="*", id="job")
    bench.ended(1)
    bench.recorder.remove_job("job")
    until(lambda: bench.executions()[-1]["job_id"] == "2")  # the next run after the removal
    assert "job" in bench.jobs()


def test_what_a_killed_process_left_is_closed_when_the_next_scheduler_starts(bench):
    code = (
        "import jobstore, os, sys\nr = jobstore.Recorder(sys.argv[1])\n"
        "r.save_job('j', job_type='t', job_category='c')\nr.start(r.enqueue('j'))\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, bench.recorder.path], check=True, timeout=LONG_SECONDS)
    assert [each["status"] for each in bench.executions("j")] == ["RUNNING"]
    bench.mirror()
    bench.scheduler.start()
    assert bench.ended(1, "j")[0]["error"].startswith("Interrupted")


def test_after_a_restore_the_store_soon_has_the_jobs_as_they_are(bench, tmp_path):
    """Changed, added and removed since the backup; a mirror remembers what it has saved."""
    bench.mirror()
    bench.scheduler.start(paused=True)
    for name in ("changed", "removed"):
        bench.scheduler.add_job(time.sleep, "interval", seconds=100, args=[0], id=name)
    bench.jobs()
    jobstore.backup(bench.recorder.path, tmp_path / "copy.db")
    bench.scheduler.reschedule_job("changed", trigger="interval", seconds=200)
    bench.scheduler.add_job(time.sleep, "cron", hour=3, args=[0], id="added")
    bench.scheduler.remove_job("removed")
    before = bench.jobs()
    jobstore.restore(tmp_path / "copy.db", bench.recorder.path)
    assert bench.jobs().keys() == {"changed", "removed"}
    # The first write finds the restored file, and the next event of the scheduler the difference.
    bench.scheduler.add_job(time.sleep, "date", run_date=FAR, args=[0], id="later")
    bench.flushed()
    bench.scheduler.modify_job("later", name="Later")
    after = bench.jobs()
    for name in before:
        assert [after[name][field] for field in ("enabled", "schedule", "interval_seconds")] == [
            before[name][field] for field in ("enabled", "schedule", "interval_seconds")
        ], name


def test_a_job_that_is_removed_while_the_store_is_busy_is_disabled_later(bench, caplog):
    with jobstore.Recorder(bench.recorder.path, timeout_seconds=0.1) as impatient:
        bench.mirrors.append(apscheduler.mirror(bench.scheduler, impatient))
        bench.scheduler.start(paused=True)
        bench.scheduler.add_job(time.sleep, "interval", seconds=100, args=[0], id="removed")
        assert bench.jobs()["removed"]["enabled"]
        with closing(sqlite3.connect(bench.recorder.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            bench.scheduler.remove_job("removed")
            until(lambda: "events are kept in memory" in caplog.text)
            other.execute("ROLLBACK")
        assert not bench.jobs()["removed"]["enabled"]


def test_a_child_that_a_job_forked_does_not_end_its_run(bench):
    """It returns from the job, too, in a copy of the thread that ran it."""

    def forks() -> str:
        pid = os.fork()
        if pid == 0:
            return "of the child"
        os.waitpid(pid, 0)
        return "of the parent"

    runs = apscheduler_runs.Runs(
        [FAR],
        Journal(bench.recorder),
        "forks",
        define=lambda recorder: recorder.save_job("forks", job_type="t", job_category="c"),
    )
    parent = os.getpid()
    for _ in runs:
        value = runs.recording(forks, awaited=False)()
        if os.getpid() != parent:
            runs.journal.flush(LONG_SECONDS)
            os._exit(0)
        assert value == "of the parent"
    assert runs.journal.flush(LONG_SECONDS)
    (found,) = bench.executions()
    assert (found["status"], found["result"]) == ("SUCCESS", {"value": "of the parent"})


# --- what others must not lose by a mirror ------------------------------------------------------


class SharedJobStore(MemoryJobStore):  # type: ignore[misc]
    """As APScheduler's persistent ones: what this program cannot import is deleted when jobs are listed."""

    def _reconstitute_job(self, job: Any) -> Any:
        if job.id == "elsewhere":
            raise ImportError("a module of another program")
        return job

    def get_all_jobs(self) -> list[Any]:
        found = []
        for job in super().get_all_jobs():
            try:
                found.append(self._reconstitute_job(job))
            except ImportError:
                self.remove_job(job.id)
        self._fix_paused_jobs_sorting(found)
        return found


def test_a_job_that_this_program_cannot_import_stays_in_its_job_store(bench, monkeypatch):
    monkeypatch.setattr(apscheduler, "LOOK_SECONDS", 0.05)
    shared = SharedJobStore()
    bench.scheduler.add_jobstore(shared, "shared")
    bench.scheduler.start(paused=True)
    for name in ("here", "elsewhere"):
        bench.scheduler.add_job(add, "interval", hours=1, id=name, jobstore="shared")
    bench.mirror()
    shared.remove_job("here")
    until(lambda: not bench.jobs()["here"]["enabled"])  # it has looked again
    assert shared.lookup_job("elsewhere") is not None
    assert "_reconstitute_job" not in vars(shared)


def test_runs_that_are_due_at_once_wait_together_for_a_store_that_is_away(bench):
    runs = apscheduler_runs.Runs([], Journal(bench.recorder), "job", define=lambda _: None)
    now = datetime.now(UTC)
    assert 0 < apscheduler_runs.Run(runs, now + timedelta(hours=1)).patience <= apscheduler_runs.PATIENCE_SECONDS
    assert apscheduler_runs.Run(runs, now - timedelta(seconds=1)).patience == 0


def test_an_executor_that_is_added_again_records_each_run_once(bench):
    bench.mirror()
    bench.scheduler.start()
    executor = bench.scheduler._executors["default"]
    bench.scheduler.add_executor(executor, "again")
    bench.scheduler.add_job(add, id="job", executor="again")
    assert [each["status"] for each in bench.ended(1)] == ["SUCCESS"]


class Array:
    """As numpy's: a comparison is no truth value."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_an_argument_that_does_not_compare_is_recorded(bench):
    bench.mirror()
    bench.scheduler.start()
    bench.scheduler.add_job(str, args=[Array()], id="job")
    assert bench.ended(1)[0]["status"] == "SUCCESS"


def test_what_is_no_scheduler_of_apscheduler_3_is_refused(bench):
    with pytest.raises(InvalidParameter, match="must be a scheduler of APScheduler 3"):
        apscheduler.mirror(object(), bench.recorder)
