"""A scheduler's calls and a reader's queries in any order, against plain lists (a hypothesis state machine).

One store is opened at the beginning and lives through every change; another is opened anew whenever there are questions.
Both must say what the lists say. CI takes 80 runs of 150 steps, about 12,000; ``JOBSTORE_SOAK`` multiplies the runs.
"""

from __future__ import annotations

import random
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import jobstore
from tests.folders import MEMORY
from tests.property import oracle
from tests.property.asking import (
    Clock,
    Query,
    execution_queries,
    expected,
    histogram_query,
    in_python,
    job_queries,
    job_ref,
    same,
    state_queries,
    window,
)
from tests.property.worlds import CATEGORIES, CRON, INTERVALS, NAMES, TYPES, VALUES, Document, World
from tests.reliability.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

RUNS = scaled(80)
STEPS = 150
ENDS = ("SUCCESS", "FAILURE", "TIMEOUT")
names = st.sampled_from(NAMES[:24])
seeds = st.integers(0, 2**32)
labels = st.sampled_from([None, None, "t1", "t2", "worker-1", "追踪"])
values = st.sampled_from(VALUES)
statuses = st.sampled_from(ENDS)


def text_at(moment: datetime) -> str:
    return oracle.written(moment)


class Lists:
    """What a store should hold: jobs and executions as documents, and the numbers given so far."""

    def __init__(self) -> None:
        self.jobs: list[Document] = []
        self.executions: list[Document] = []
        self.numbers_given = 0

    @property
    def world(self) -> World:
        return World("the lists", 0, "Europe/Berlin", self.jobs, self.executions)

    def job(self, name: str) -> Document | None:
        return next((job for job in self.jobs if job["name"] == name), None)

    def add_job(self, name: str, now: datetime) -> Document:
        self.numbers_given += 1
        job: Document = {
            "number": self.numbers_given, "name": name, "job_type": None, "job_category": None, "description": None,
            "schedule": None, "interval_seconds": None, "parameters": None, "timeout_seconds": None,
            "max_instances": 1, "enabled": True, "last_run_at": None, "next_run_at": None,
            "created_at": text_at(now), "updated_at": text_at(now), "anchor_at": None,
        }  # fmt: skip
        self.jobs.append(job)
        return job

    def add_execution(self, job: Document, at: datetime, given: Document) -> Document:
        snapshot = given.pop("parameters")
        execution: Document = {
            "id": str(len(self.executions) + 1), "job_id": str(job["number"]), "job_name": job["name"],
            "status": "PENDING", "started_at": None, "completed_at": None, "duration_ms": None, "result": None,
            "error": None, "trace_id": given["trace_id"], "worker_id": given["worker_id"],
            "parameters_snapshot": job["parameters"] if snapshot is None else snapshot, "created_at": text_at(at),
        }  # fmt: skip
        return execution

    def start(self, execution: Document, at: datetime) -> None:
        execution["status"], execution["started_at"] = "RUNNING", text_at(at)
        for job in self.jobs:
            if str(job["number"]) == execution["job_id"]:
                last = job["last_run_at"]
                job["last_run_at"] = text_at(at if last is None else max(at, oracle.moment(last)))
                job["updated_at"] = text_at(max(at, oracle.moment(job["updated_at"])))

    def finish(self, execution: Document, status: str, at: datetime, **more: Any) -> None:
        duration = more.pop("duration_ms", None)
        if duration is None and execution["started_at"] is not None:
            duration = max(at - oracle.moment(execution["started_at"]), timedelta(0)) // timedelta(milliseconds=1)
        execution.update(status=status, completed_at=text_at(at), duration_ms=duration, **more)

    def prune(self, before: datetime, keep_last: int, keep_failures_before: datetime | None) -> list[Document]:
        """Takes out what a prune removes."""
        newest: dict[str, list[Document]] = {}
        for run in sorted(self.executions, key=lambda run: (oracle.effective(run), int(run["id"])), reverse=True):
            newest.setdefault(run["job_id"], []).append(run)
        kept = {run["id"] for runs in newest.values() for run in runs[:keep_last]}
        bounds = {"SUCCESS": before, "FAILURE": before, "TIMEOUT": before}
        if keep_failures_before is not None:
            bounds["FAILURE"] = bounds["TIMEOUT"] = min(before, keep_failures_before)
        gone = [
            run
            for run in self.executions
            if run["status"] in ENDS and oracle.effective(run) < bounds[run["status"]] and run["id"] not in kept
        ]
        self.executions = [run for run in self.executions if run not in gone]
        return gone


@contextmanager
def new_file() -> Iterator[str]:
    """Where a store may be made, gone at the end."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield f"{folder}/jobs.db"


class Scheduler(RuleBasedStateMachine):
    """Rules are a scheduler's calls, and questions."""

    new_store: Callable[[], AbstractContextManager[str]] = staticmethod(new_file)

    def __init__(self) -> None:
        super().__init__()
        self.store = self.new_store()
        self.path = self.store.__enter__()
        self.clock = Clock(datetime(2026, 3, 29, 0, 58, 30, tzinfo=UTC))
        self.recorder = jobstore.Recorder(self.path, timezone="Europe/Berlin", clock=self.clock)
        self.reader = jobstore.open(self.path, clock=self.clock)
        self.lists = Lists()
        self.executions_given = 0

    def teardown(self) -> None:
        self.reader.close()
        self.recorder.close()
        self.store.__exit__(None, None, None)

    # --- jobs

    @initialize(seed=seeds)
    def some_jobs(self, seed: int) -> None:
        for name in random.Random(seed).sample(NAMES[:24], k=4):
            self.save(name, {"job_type": "kline", "job_category": "sync", "schedule": "*/5 * * * *"})

    def save(self, name: str, given: Document) -> None:
        self.recorder.save_job(name, **given)
        job = self.lists.job(name)
        is_new = job is None
        if job is None:
            job = self.lists.add_job(name, self.clock.now)
        before = dict(job)
        timing = {"schedule", "interval_seconds"} & given.keys()
        if timing:
            job.update(schedule=None, interval_seconds=None)
        job.update(given)
        kinds = [before["schedule"] is None, before["interval_seconds"] is None]
        if kinds != [job["schedule"] is None, job["interval_seconds"] is None]:
            job.update(anchor_at=given.get("anchor_at"), next_run_at=given.get("next_run_at"))
        if not is_new and job != before:
            job["updated_at"] = text_at(self.clock.now)

    @rule(name=names, seed=seeds)
    def save_job(self, name: str, seed: int) -> None:
        """A new job, or some fields of one that is there."""
        source = random.Random(seed)
        given: Document = {"job_type": source.choice(TYPES), "job_category": source.choice(CATEGORIES)}
        more: Document = {
            "description": source.choice([None, "x"]),
            "parameters": source.choice(VALUES),
            "timeout_seconds": source.choice([None, 60]),
            "max_instances": source.choice([1, 2]),
            "enabled": source.random() < 0.7,
        }
        given |= {field: value for field, value in more.items() if source.random() < 0.3}
        kind = source.choice(["as it was", "cron", "interval", "external"])
        instant = text_at(self.clock.now + timedelta(seconds=source.choice([-60, 1, 90])))
        if kind == "cron":
            given["schedule"] = source.choice(CRON)
        elif kind == "interval":
            given |= {"interval_seconds": source.choice(INTERVALS), "anchor_at": source.choice([None, instant])}
        elif kind == "external":
            given |= {"schedule": None, "interval_seconds": None, "next_run_at": instant}
        self.save(name, given)

    @rule(old=names, new=names)
    def rename_job(self, old: str, new: str) -> None:
        job = self.lists.job(old)
        if job is None:
            with pytest.raises(jobstore.NotFound):
                self.recorder.rename_job(old, new)
        elif old != new and self.lists.job(new):
            with pytest.raises(jobstore.Conflict):
                self.recorder.rename_job(old, new)
        else:
            self.recorder.rename_job(old, new)
            if old != new:
                job.update(name=new, updated_at=text_at(self.clock.now))

    @rule(name=names)
    def remove_job(self, name: str) -> None:
        job = self.lists.job(name)
        if job is None:
            with pytest.raises(jobstore.NotFound):
                self.recorder.remove_job(name)
        else:
            self.recorder.remove_job(name)
            self.lists.jobs.remove(job)

    # --- executions

    def chosen(self, source: random.Random, *statuses: str) -> Document | None:
        found = [run for run in self.lists.executions if run["status"] in statuses]
        return source.choice(found) if found else None

    def at(self, source: random.Random) -> datetime | None:
        """Now, or when it happened elsewhere."""
        return source.choice([None, None, None, self.clock.now - timedelta(seconds=source.choice([0, 1, 5_000]))])

    def enqueue(self, job: Document, at: datetime | None, given: Document) -> Document:
        execution_id = self.recorder.enqueue(job["name"], at=at, **given)
        self.executions_given += 1
        assert execution_id == str(self.executions_given)
        execution = self.lists.add_execution(job, at or self.clock.now, given)
        execution["id"] = execution_id
        self.lists.executions.append(execution)
        return execution

    @precondition(lambda self: self.lists.jobs)
    @rule(seed=seeds, trace=labels, worker=labels, parameters=values)
    def enqueue_one(self, seed: int, trace: str | None, worker: str | None, parameters: Any) -> None:
        source = random.Random(seed)
        given = {"trace_id": trace, "worker_id": worker, "parameters": parameters}
        self.enqueue(source.choice(self.lists.jobs), self.at(source), given)

    @precondition(lambda self: self.lists.executions)
    @rule(seed=seeds, worker=labels)
    def start(self, seed: int, worker: str | None) -> None:
        source = random.Random(seed)
        at, execution = self.at(source), self.chosen(source, "PENDING")
        if execution is not None:
            self.recorder.start(execution["id"], worker_id=worker, at=at)
            execution["worker_id"] = execution["worker_id"] if worker is None else worker
            self.lists.start(execution, at or self.clock.now)

    @precondition(lambda self: self.lists.executions)
    @rule(seed=seeds, status=statuses, result=values, duration_ms=st.sampled_from([None, None, 0, 5, 90_000]))
    def finish(self, seed: int, status: str, result: Any, duration_ms: int | None) -> None:
        source = random.Random(seed)
        at, execution = self.at(source), self.chosen(source, "RUNNING", "RUNNING", "PENDING")
        if execution is not None:
            error = None if status == "SUCCESS" else "it failed"
            more: Document = {"result": result, "error": error, "duration_ms": duration_ms}
            self.recorder.finish(execution["id"], status, at=at, **more)
            self.lists.finish(execution, status, at or self.clock.now, **more)

    @precondition(lambda self: self.lists.jobs)
    @rule(seed=seeds, seconds=st.sampled_from([0, 0.25, 7, 4_000]), fails=st.booleans())
    def run(self, seed: int, seconds: float, fails: bool) -> None:
        job = random.Random(seed).choice(self.lists.jobs)
        begun = self.clock.now
        try:
            with self.recorder.run(job["name"], trace_id="t1") as run:
                self.clock.now += timedelta(seconds=seconds)
                run.result = {"n": seed}
                if fails:
                    raise KeyError("gone")  # noqa: TRY301 - the job itself fails
        except KeyError:
            assert fails
        self.executions_given += 1
        execution = self.lists.add_execution(job, begun, {"parameters": None, "trace_id": "t1", "worker_id": None})
        execution["id"] = str(self.executions_given)
        self.lists.executions.append(execution)
        self.lists.start(execution, begun)
        end: Document = {"error": "KeyError: 'gone'"} if fails else {"result": {"n": seed}}
        self.lists.finish(execution, "FAILURE" if fails else "SUCCESS", self.clock.now, **end)

    @precondition(lambda self: self.lists.executions)
    @rule(seed=seeds)
    def what_cannot_follow_is_a_conflict(self, seed: int) -> None:
        execution = random.Random(seed).choice(self.lists.executions)
        if execution["status"] != "PENDING":
            with pytest.raises(jobstore.Conflict):
                self.recorder.start(execution["id"])
        if execution["status"] in ENDS:
            with pytest.raises(jobstore.Conflict):
                self.recorder.finish(execution["id"], "SUCCESS")

    @precondition(lambda self: len(self.lists.executions) > 12)
    @rule(hours=st.integers(0, 30), keep_last=st.integers(0, 4), failures=st.sampled_from([None, 10, 400]))
    def prune(self, hours: int, keep_last: int, failures: int | None) -> None:
        before = self.clock.now - timedelta(hours=hours)
        until = None if failures is None else self.clock.now - timedelta(hours=failures)
        bounds: Document = {"before": before, "keep_last": keep_last, "keep_failures_before": until}
        counted = self.recorder.prune(dry_run=True, **bounds)
        gone = self.lists.prune(before, keep_last, until)
        assert counted == self.recorder.prune(**bounds) == len(gone)

    # --- time, processes, questions

    @rule(seconds=st.sampled_from([0.000001, 1, 29, 60, 3_600, 86_400, 40 * 86_400, -61]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += timedelta(seconds=seconds)

    @rule()
    def another_recorder_takes_over(self) -> None:
        self.recorder.close()
        self.recorder = jobstore.Recorder(self.path, clock=self.clock)

    @rule(seed=seeds)
    def ask(self, seed: int) -> None:
        self.check(question(random.Random(seed), self.lists.world))

    @rule(seed=seeds)
    def ask_again_and_again(self, seed: int) -> None:
        source = random.Random(seed)
        self.check(*(question(source, self.lists.world) for _ in range(3)))

    def check(self, *questions: tuple[str, Query]) -> None:
        with jobstore.open(self.path, clock=self.clock) as late:
            for operation, query in questions:
                told = expected(self.lists.world, operation, query, self.clock.now)
                for store, which in ((self.reader, "the old reader"), (late, "a new reader")):
                    found = in_python(store, operation, query)
                    asked = f"{which}: {operation} {query} at {self.clock.now}"
                    assert same(found, told), f"{asked}\n{found}\n is not\n{told}"


QUESTIONS: dict[str, Callable[[random.Random, World], Iterable[Query]]] = {
    "list_jobs": job_queries,
    "list_job_executions": execution_queries,
    "list_job_states": state_queries,
    "execution_histogram": lambda source, world: [histogram_query(source, world)],
    "get_execution": lambda source, world: [
        {"execution_id": source.choice([run["id"] for run in world.executions] or ["1"])}
    ],
}


def question(source: random.Random, world: World) -> tuple[str, Query]:
    """One of the eight queries."""
    operation = source.choice([*QUESTIONS, "get_job_executions", "get_job", "job_stats"])
    if operation in QUESTIONS:
        return operation, source.choice(list(QUESTIONS[operation](source, world)))
    ref: Query = {"job_id": job_ref(source, world)}
    if operation == "get_job_executions":
        return operation, ref | source.choice(list(execution_queries(source, world)))
    return operation, ref if operation == "get_job" else ref | window(source)


def test_a_store_says_what_plain_lists_say_after_any_calls() -> None:
    check_scheduler(Scheduler, RUNS)


def check_scheduler(scheduler: type[Scheduler], runs: int) -> None:
    """Compares the stores of a scheduler, one for each run, with plain lists."""
    run_state_machine_as_test(
        scheduler,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
