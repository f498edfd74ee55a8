"""A real huey beside a store: enqueued, run, retried, revoked, interrupted."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from huey import MemoryHuey, crontab
from huey.consumer import Consumer
from huey.exceptions import CancelExecution, RetryTask
from hypothesis import given, settings
from hypothesis import strategies as st

import jobstore
from jobstore.integrations import huey as integration
from jobstore.integrations.huey_schedules import cron_of
from jobstore.language.errors import Conflict
from jobstore.language.instants import instant_datetime, instant_us
from jobstore.language.schedule import next_cron_us
from tests import warm
from tests.waiting import LONG_SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path

logging.getLogger("huey").setLevel(logging.CRITICAL)


class QuietConsumer(Consumer):  # type: ignore[misc]
    """A consumer in the test's own process, which leaves signals to pytest."""

    def _set_signal_handlers(self) -> None:
        pass


class Bench:
    def __init__(self, path: Path, huey: Any, **options: Any) -> None:
        self.recorder = jobstore.Recorder(path)
        self.store = jobstore.open(path)
        self.huey = huey
        self.mirror = integration.mirror(huey, self.recorder, **options)
        self.consumers: list[QuietConsumer] = []

    def consume(self, workers: int = 2, **options: Any) -> QuietConsumer:
        consumer = QuietConsumer(
            self.huey, workers=workers, initial_delay=0.01, max_delay=0.05, periodic=False, **options
        )
        consumer.start()
        self.consumers.append(consumer)
        return consumer

    def executions(self, **query: Any) -> list[Any]:
        assert self.mirror.flush(LONG_SECONDS)
        return self.store.list_job_executions(limit=1000, order_by="id", order_desc=False, **query)["data"]

    def ended(self, count: int) -> list[Any]:
        return until(
            lambda: (found := [each for each in self.executions() if each["completed_at"]])[count - 1 :] and found
        )

    def jobs(self) -> dict[str, Any]:
        assert self.mirror.flush(LONG_SECONDS)
        return {job["name"]: job for job in self.store.list_jobs(limit=1000)["data"]}

    def close(self) -> None:
        for consumer in self.consumers:
            consumer.stop(graceful=True)
        self.mirror.close()
        self.recorder.close()
        self.store.close()


@pytest.fixture
def make_bench(tmp_path):
    made: list[Bench] = []

    def make(huey=None, **options):
        made.append(Bench(tmp_path / "jobs.db", huey or MemoryHuey(), **options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


@pytest.fixture
def immediate(make_bench):
    return make_bench(MemoryHuey(immediate=True))


# --- jobs ---------------------------------------------------------------------------------------


def test_tasks_are_jobs_by_their_names(make_bench):
    huey = MemoryHuey(utc=True)

    @huey.task(timeout=90)
    def sync_klines():
        """Sync klines of all exchanges."""

    bench = make_bench(huey, category="sync", job_type=lambda task_class: task_class.__name__.split("_")[1])
    job = bench.jobs()["sync_klines"]
    assert {
        key: job[key] for key in ("description", "job_category", "job_type", "timeout_seconds", "schedule_type")
    } == {
        "description": "Sync klines of all exchanges.",
        "job_category": "sync",
        "job_type": "klines",
        "timeout_seconds": 90,
        "schedule_type": "external",
    }
    assert job["enabled"]


def test_a_task_that_comes_later_is_a_job_once_it_is_used_or_the_consumer_starts(bench):
    @bench.huey.task()
    def used():
        pass

    @bench.huey.periodic_task(crontab(hour="3", minute="15"))
    def nightly():
        pass

    assert bench.jobs() == {}
    used()
    assert set(bench.jobs()) == {"used"}
    bench.consume()
    until(lambda: "nightly" in bench.jobs())
    assert bench.jobs()["nightly"]["schedule"] == "15 3 * * *"


def test_two_tasks_of_one_name_have_their_modules_in_it(make_bench):
    huey = MemoryHuey()
    for module in ("first", "second"):

        def same():
            pass

        same.__module__ = module
        huey.task()(same)
    assert set(make_bench(huey).jobs()) == {"first.same", "second.same"}


# --- runs ---------------------------------------------------------------------------------------


def same_in(huey: Any, module: str, **options: Any) -> Any:
    def same():
        pass

    same.__module__ = module
    return huey.periodic_task(crontab(minute="5"), **options)(same)


def test_a_name_stays_whichever_modules_are_imported_later(make_bench):
    huey = MemoryHuey(immediate=True)
    first = same_in(huey, "first")
    bench = make_bench(huey)
    first()
    assert set(bench.jobs()) == {"same"}
    second = same_in(huey, "second")
    second()
    first()
    jobs = bench.jobs()
    assert set(jobs) == {"same", "second.same"}
    assert {job["schedule"] for job in jobs.values()} == {"5 * * * *"}
    assert [each["job_name"] for each in bench.executions()] == ["same", "second.same", "same"]


def test_a_name_is_the_same_in_a_process_with_other_modules(make_bench):
    one = MemoryHuey(immediate=True)
    same_in(one, "second")
    make_bench(one).jobs()
    other = MemoryHuey(immediate=True)
    first = same_in(other, "first")
    bench = make_bench(other)
    first()
    assert [each["job_name"] for each in bench.executions()] == ["first.same"]
    both = MemoryHuey(immediate=True)
    for module in ("first", "second"):
        same_in(both, module)
    assert set(make_bench(both).jobs()) == {"same", "first.same"}


def test_arguments_that_look_like_secrets_are_masked(immediate):
    @immediate.huey.task()
    def login(user, password, region="eu", **more):
        pass

    login("me", "s3cret-1", api_key="s3cret-2", db="postgresql://u:s3cret-3@db/x", more={"Token": "s3cret-4", "n": 1})
    (found,) = immediate.executions()
    assert "s3cret" not in str(found)
    assert found["parameters_snapshot"] == {
        "args": ["me", "***"], "api_key": "***", "db": "postgresql://u:***@db/x", "more": {"Token": "***", "n": 1},
    }  # fmt: skip


def test_a_task_waits_and_runs_and_has_its_value(bench):
    @bench.huey.task()
    def add(a, b=1):
        return {"sum": a + b}

    result = add(1, b=2)
    (waiting,) = bench.executions()
    assert (waiting["status"], waiting["trace_id"]) == ("PENDING", result.id)
    assert waiting["parameters_snapshot"] == {"args": [1], "b": 2}
    bench.consume()
    (found,) = bench.ended(1)
    assert (found["id"], found["status"], found["result"]) == (waiting["id"], "SUCCESS", {"sum": 3})
    assert found["worker_id"].rpartition("/")[2] in ("Worker-1", "Worker-2")
    assert found["created_at"] <= found["started_at"] <= found["completed_at"]


def test_arguments_that_are_secret_need_not_be_recorded(make_bench):
    bench = make_bench(MemoryHuey(immediate=True), parameters=lambda task: {"user": task.args[0]})

    @bench.huey.task()
    def login(user, password):
        return bool(user and password)

    login("ann", "s3cret")
    assert bench.executions()[0]["parameters_snapshot"] == {"user": "ann"}


def test_a_failing_task_has_its_error_and_traceback(immediate):
    @immediate.huey.task()
    def fail():
        raise ValueError("no such pair")

    fail()
    (found,) = immediate.executions()
    assert (found["status"], found["error"]) == ("FAILURE", "ValueError: no such pair")
    assert "in fail" in found["result"]["traceback"]
    assert "huey/api.py" not in found["result"]["traceback"]


def test_each_attempt_is_an_execution_of_the_same_trace(immediate):
    seen: list[int] = []

    @immediate.huey.task(retries=2)
    def fails_twice():
        seen.append(1)
        if len(seen) < 3:
            raise ValueError(len(seen))
        return "done"

    result = fails_twice()
    found = immediate.executions(trace_id=result.id)
    assert [each["status"] for each in found] == ["FAILURE", "FAILURE", "SUCCESS"]
    assert [each["error"] for each in found] == ["ValueError: 1", "ValueError: 2", None]


def test_a_retry_that_is_put_off_waits_as_one_execution(bench):
    seen: list[int] = []

    @bench.huey.task(retries=1, retry_delay=1)
    def fails_once():
        seen.append(1)
        if len(seen) == 1:
            raise ValueError
        return len(seen)

    bench.consume()
    fails_once()
    failed, waited = bench.ended(2)
    assert (failed["status"], waited["status"]) == ("FAILURE", "SUCCESS")
    since = datetime.fromisoformat(waited["started_at"]) - datetime.fromisoformat(waited["created_at"])
    assert since.total_seconds() > 0.9
    assert len(bench.executions()) == 2


def test_a_task_for_later_waits_as_one_execution(bench):
    @bench.huey.task()
    def later():
        return 1

    later.schedule(delay=1)
    assert [each["status"] for each in bench.executions()] == ["PENDING"]
    bench.consume()
    assert [each["status"] for each in bench.ended(1)] == ["SUCCESS"]
    assert len(bench.executions()) == 1


def test_a_task_that_asks_for_a_retry_or_cancels_itself_has_failed(immediate):
    seen: list[int] = []

    @immediate.huey.task()
    def asks():
        seen.append(1)
        if len(seen) == 1:
            raise RetryTask("not yet")

    @immediate.huey.task()
    def cancels():
        raise CancelExecution("not today")

    asks()
    cancels()
    assert [(each["job_name"], each["status"], each["error"]) for each in immediate.executions()] == [
        ("asks", "FAILURE", "RetryTask: not yet"),
        ("asks", "SUCCESS", None),
        ("cancels", "FAILURE", "CancelExecution: not today"),
    ]


@pytest.mark.parametrize("raised", [SystemExit(3), GeneratorExit("gone"), BaseException("beyond")], ids=repr)
def test_a_task_that_raises_beyond_exception_has_failed(immediate, raised):
    @immediate.huey.task()
    def leaves():
        raise raised

    with pytest.raises(type(raised)):
        leaves()
    (found,) = immediate.executions()
    assert found["status"] == "FAILURE"
    assert found["error"].startswith(type(raised).__name__)
    assert "in leaves" in found["result"]["traceback"]
    assert "huey/api.py" not in found["result"]["traceback"]
    assert found["duration_ms"] is not None


def test_a_worker_whose_task_exits_leaves_no_run_open(bench):
    @bench.huey.task()
    def leaves():
        sys.exit(3)

    bench.consume(workers=1)
    leaves()
    (found,) = bench.ended(1)
    assert (found["status"], found["error"]) == ("FAILURE", "SystemExit: 3")


def test_a_task_enqueued_twice_and_run_at_once_is_two_executions(bench):
    together = threading.Barrier(2, timeout=LONG_SECONDS)
    ends = iter([{"turn": 1}, {"turn": 2}])
    lock = threading.Lock()

    @bench.huey.task()
    def twice():
        together.wait()
        with lock:
            return next(ends)

    task = twice.s()
    bench.huey.enqueue(task)
    bench.huey.enqueue(task)
    bench.consume(workers=2)
    found = bench.ended(2)
    assert [each["status"] for each in found] == ["SUCCESS", "SUCCESS"]
    assert {each["trace_id"] for each in found} == {task.id}
    assert sorted(each["result"]["turn"] for each in found) == [1, 2]
    assert len(bench.executions()) == 2


def test_a_task_enqueued_again_while_it_runs_waits(bench):
    begun, go_on = threading.Event(), threading.Event()

    @bench.huey.task()
    def slow():
        begun.set()
        assert go_on.wait(LONG_SECONDS)

    task = slow.s()
    bench.consume(workers=1)
    bench.huey.enqueue(task)
    assert begun.wait(LONG_SECONDS)
    bench.huey.enqueue(task)
    statuses = [each["status"] for each in bench.executions()]
    go_on.set()
    assert statuses == ["RUNNING", "PENDING"]
    assert [each["status"] for each in bench.ended(2)] == ["SUCCESS", "SUCCESS"]


def test_a_duration_is_the_tasks_own_time(immediate, monkeypatch):
    """The wait for a busy store comes before the callable."""
    put = immediate.mirror._journal.put

    def slow(call: Any) -> Any:
        time.sleep(0.4)
        return put(call)

    monkeypatch.setattr(immediate.mirror._journal, "put", slow)

    @immediate.huey.task()
    def quick():
        pass

    quick()
    (found,) = immediate.executions()
    span_us = instant_us(datetime.fromisoformat(found["completed_at"])) - instant_us(
        datetime.fromisoformat(found["started_at"])
    )
    assert span_us - found["duration_ms"] * 1000 > 300_000


def test_a_task_that_a_hook_refuses_has_failed(immediate):
    @immediate.huey.task()
    def refused():
        pass

    @immediate.huey.pre_execute()
    def refuse(task):
        raise CancelExecution

    refused()
    (found,) = immediate.executions()
    assert (found["status"], found["error"]) == ("FAILURE", "Cancelled: a pre-execute hook refused it")


def test_a_task_that_is_revoked_or_expired_has_failed_without_a_start(bench):
    @bench.huey.task()
    def revoked():
        pass

    @bench.huey.task(expires=0.001)
    def expired():
        pass

    revoked().revoke()
    expired()
    time.sleep(0.01)
    bench.consume()
    found = {each["job_name"]: each for each in bench.ended(2)}
    assert {(each["status"], each["started_at"], each["duration_ms"]) for each in found.values()} == {
        ("FAILURE", None, None)
    }
    assert found["revoked"]["error"] == "Revoked before it ran"
    assert found["expired"]["error"].startswith("Expired: it should have run before 20")


def test_a_task_that_finds_its_lock_taken_has_failed(immediate):
    @immediate.huey.task()
    @immediate.huey.lock_task("one at a time")
    def locked():
        pass

    with immediate.huey.lock_task("one at a time"):
        locked()
    (found,) = immediate.executions()
    assert found["error"] == "TaskLockedException: unable to acquire lock one at a time"


def test_a_task_that_runs_past_its_time_is_a_time_out(immediate):
    @immediate.huey.task(timeout=0.01, context=True)
    def slow(task=None):
        time.sleep(0.05)
        task.check_timeout()

    slow()
    (found,) = immediate.executions()
    assert (found["status"], found["error"]) == ("TIMEOUT", "TaskTimeout: timeout 0.01s")
    assert found["parameters_snapshot"] == {"task": f"{__name__}.slow"}  # the job's own: there are no arguments


def test_what_runs_when_the_consumer_is_stopped_is_interrupted_and_its_end_is_not_told_twice(bench, caplog):
    gate, begun = threading.Event(), threading.Event()

    @bench.huey.task()
    def long():
        begun.set()
        gate.wait(LONG_SECONDS)

    consumer = bench.consume(1)
    long()
    assert begun.wait(LONG_SECONDS)
    bench.huey.notify_interrupted_tasks()
    (found,) = bench.executions()
    assert (found["status"], found["error"]) == ("FAILURE", "Interrupted: the consumer was stopped while it ran")
    gate.set()
    consumer.stop(graceful=True)
    assert bench.executions() == [found]
    assert caplog.text == ""


def test_many_workers_record_each_run_once(bench):
    @bench.huey.task()
    def work(number):
        if number % 10 == 0:
            raise ValueError(number)
        return number

    bench.consume(4)
    results = [work(number) for number in range(60)]
    found = bench.ended(60)
    assert sorted(each["trace_id"] for each in found) == sorted(result.id for result in results)
    assert sum(each["status"] == "FAILURE" for each in found) == 6
    assert {each["result"]["value"] for each in found if each["status"] == "SUCCESS"} == {
        number for number in range(60) if number % 10
    }


def test_nothing_reaches_huey_when_the_store_is_gone(immediate, caplog):
    @immediate.huey.task()
    def add(a, b):
        return a + b

    immediate.recorder.close()
    assert add(1, 2)() == 3
    assert "is closed" in caplog.text


def test_a_huey_is_mirrored_once_at_a_time_and_no_more_once_closed(immediate):
    @immediate.huey.task()
    def add(a, b):
        return a + b

    with pytest.raises(Conflict, match="already mirrored"):
        integration.mirror(immediate.huey, immediate.recorder)
    immediate.mirror.close()
    add(1, 2)
    with integration.mirror(immediate.huey, immediate.recorder):
        add(3, 4)
    assert [each["result"] for each in immediate.store.list_job_executions()["data"]] == [{"value": 7}]


# --- a consumer in another process ----------------------------------------------------------------

TASKS = """
import os, sys, time
from huey import SqliteHuey
import jobstore
from jobstore.integrations import huey as integration

huey = SqliteHuey(filename=os.environ["QUEUE"], fsync=False)
recorder = jobstore.Recorder(os.environ["STORE"])

@huey.task()
def add(a, b):
    return {"sum": a + b, "pid": os.getpid()}

@huey.task()
def long():
    time.sleep(1000)

@huey.task()
def dies():
    os.kill(os.getpid(), 9)

mirror = integration.mirror(huey, recorder)
"""
ENQUEUE = "from tasks import add, long, mirror\nfor n in range(10): add(n, 1)\nlong()\nmirror.close()"
CONSUME = """
import logging, sys
from tasks import huey
from huey.consumer import Consumer
logging.disable(logging.CRITICAL)
Consumer(huey, workers=3, worker_type=sys.argv[1], initial_delay=0.01, max_delay=0.05, periodic=False,
    health_check_interval=1).run()
"""


@pytest.fixture
def consumer_of(tmp_path):
    """Starts consumers in processes of their own, and leaves none behind."""
    begun: list[warm.Process] = []
    environment = {
        **os.environ,
        "QUEUE": str(tmp_path / "queue.db"),
        "STORE": str(tmp_path / "jobs.db"),
    }
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")
    done = warm.forker(warm.HUEY).run(("-c", ENQUEUE), cwd=tmp_path, variables=environment)
    assert done.returncode == 0, done.stderr

    def start(worker_type):
        line = ("-c", CONSUME, worker_type)
        begun.append(warm.forker(warm.HUEY).start(line, (0, 1, 2), tmp_path, environment))
        return begun[-1]

    yield start
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("worker_type", ["thread", "process"])
def test_one_process_enqueues_and_another_runs(tmp_path, consumer_of, worker_type):
    with jobstore.open(tmp_path / "jobs.db") as store:
        executions = partial(store.list_job_executions, limit=100, order_by="id", order_desc=False)
        assert [each["status"] for each in executions()["data"]] == ["PENDING"] * 11
        consumer = consumer_of(worker_type)
        until(lambda: executions(status="SUCCESS")["pagination"]["total"] == 10)
        until(lambda: executions(status="RUNNING")["pagination"]["total"] == 1)
        consumer.send_signal(signal.SIGTERM)
        consumer.wait(LONG_SECONDS)
        found = executions()["data"]
    assert [each["status"] for each in found] == ["SUCCESS"] * 10 + ["FAILURE"]
    assert [each["result"]["sum"] for each in found[:10]] == list(range(1, 11))
    assert (found[10]["error"] or "").startswith("Interrupted")
    if worker_type == "process":
        assert all(each["result"]["pid"] != consumer.pid for each in found[:10])


def test_an_interrupted_worker_process_ends_no_sooner_than_its_run_is_recorded(tmp_path, consumer_of):
    with jobstore.open(tmp_path / "jobs.db") as store:
        consumer = consumer_of("process")
        until(lambda: store.list_job_executions(status="SUCCESS")["pagination"]["total"] == 10)
        until(lambda: store.list_job_executions(status="RUNNING")["pagination"]["total"] == 1)
        with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            consumer.send_signal(signal.SIGTERM)
            time.sleep(integration.PATIENCE_SECONDS + 1)
            other.execute("ROLLBACK")
        consumer.wait(LONG_SECONDS)
        assert (store.list_job_executions(status="FAILURE")["data"][0]["error"] or "").startswith("Interrupted")


@pytest.mark.parametrize("worker_type", ["thread", "process"])
def test_the_run_of_a_worker_that_died_is_closed_when_the_next_one_starts(tmp_path, consumer_of, worker_type):
    environment = {**os.environ, "QUEUE": str(tmp_path / "queue.db"), "STORE": str(tmp_path / "jobs.db")}
    code = "from tasks import *; dies(); mirror.close()"
    assert warm.forker(warm.HUEY).run(("-c", code), cwd=tmp_path, variables=environment).returncode == 0
    with jobstore.open(tmp_path / "jobs.db") as store:
        consumer = consumer_of(worker_type)
        if worker_type == "thread":  # the consumer dies with its worker
            consumer.wait(LONG_SECONDS)
            consumer_of(worker_type)
        ended = until(lambda: store.get_job_executions("dies", status="FAILURE")["data"])
    assert (ended[0]["error"] or "").startswith("Interrupted")


# --- periodic tasks -------------------------------------------------------------------------------


def periodic(validate: Any) -> Any:
    huey = MemoryHuey()

    def task():
        pass

    return huey.periodic_task(validate)(task).task_class


@pytest.mark.parametrize(
    ("validate", "expression"),
    [
        (crontab(minute="0", hour="3"), "0 3 * * *"),
        (crontab(minute="*/15"), "*/15 * * * *"),
        (crontab(minute="0", hour="9-17/2", day_of_week="1-5"), "0 9-17/2 * * mon-fri"),
        (crontab(minute="0", hour="0", day_of_week="0"), "0 0 * * sun"),
        (crontab(minute="0", hour="0", day_of_week="7"), "0 0 * * sun"),
        (crontab(minute="0", hour="0", day_of_week="5-7"), "0 0 * * sun,fri,sat"),
        (crontab(minute="30", hour="22-2"), "30 0-2,22,23 * * *"),
        (crontab(minute="0", hour="0", day="1,15", month="*/3"), "0 0 1,15 */3 *"),
        (crontab(minute=5, hour=6, day_of_week="0-6"), "5 6 * * *"),
        (crontab(), "* * * * *"),
    ],
)
def test_a_crontab_is_a_cron_expression(validate, expression):
    assert cron_of(periodic(validate), "UTC", "UTC", 2026) == (expression, None)


@pytest.mark.parametrize(
    ("validate", "zone", "store_zone", "reason"),
    [
        (lambda moment: moment.hour == 3, "UTC", "UTC", "a function of its own"),
        (crontab(day="1", day_of_week="1"), "UTC", "UTC", "AND"),
        (crontab(hour="3"), "UTC", "Asia/Shanghai", "the store's is Asia/Shanghai"),
        (crontab(hour="2", minute="30"), "Europe/Berlin", "Europe/Berlin", "clock change"),
        (crontab(hour="4", minute="0", month="2", day="30"), "UTC", "UTC", "never fires"),
    ],
)
def test_what_cron_cannot_say_is_external_with_its_reason(validate, zone, store_zone, reason):
    expression, why = cron_of(periodic(validate), zone, store_zone, 2026)
    assert expression is None
    assert reason in (why or "")


def test_an_external_task_tells_why(make_bench):
    huey = MemoryHuey()

    @huey.periodic_task(lambda moment: moment.minute == 3)
    def odd():
        """At odd times."""

    job = make_bench(huey).jobs()["odd"]
    assert (job["schedule_type"], job["next_run_at"]) == ("external", None)
    assert job["description"] == "At odd times.; external: it calls a function of its own every minute"


values = st.one_of(
    st.just("*"), st.integers(1, 6).map(str), st.integers(2, 9).map("*/{}".format),
    st.tuples(st.integers(1, 6), st.integers(1, 6)).map("{0[0]}-{0[1]}".format),
)  # fmt: skip
weekdays = values.filter(lambda text: not text.startswith("*/"))


@settings(max_examples=100, deadline=None)
@given(
    fields=st.fixed_dictionaries({"minute": values, "hour": values, "day": values, "month": values}),
    weekday=weekdays,
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    now=st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
)
def test_an_expression_comes_at_the_minutes_that_huey_lets_through(fields, weekday, zone, now):
    task_class = periodic(crontab(**fields, day_of_week=weekday))
    expression, why = cron_of(task_class, zone, zone, 2026)
    if why is not None:
        return
    at_us = instant_us(now)
    tz = ZoneInfo(zone)
    for _ in range(20):
        next_us = next_cron_us(expression or "", zone, at_us)
        assert next_us is not None
        assert task_class().validate_datetime(instant_datetime(next_us).astimezone(tz))
        between = instant_datetime(at_us).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for _ in range(120):
            if instant_us(between) >= next_us:
                break
            assert not task_class().validate_datetime(between.astimezone(tz))
            between += timedelta(minutes=1)
        at_us = next_us


# --- what huey tells no hook of -----------------------------------------------------------------


def test_a_task_that_cannot_be_stored_does_not_wait(bench):
    @bench.huey.task()
    def job(_value: object) -> None:
        pass

    with pytest.raises(Exception, match=r"[Pp]ickle|local object"):
        job(lambda: None)
    (found,) = bench.executions()
    assert (found["status"], found["started_at"]) == ("FAILURE", None)
    assert found["error"].startswith("Not enqueued: ")


def test_a_run_whose_result_cannot_be_stored_has_ended(bench):
    @bench.huey.task()
    def job() -> object:
        return lambda: None

    bench.consume()
    job()
    (found,) = bench.ended(1)
    assert found["status"] == "FAILURE"
    assert not bench.mirror._attempts


def test_a_closed_mirror_leaves_huey_as_it_was(bench):
    bench.mirror.close()
    bench.mirror.close()
    assert not {"enqueue", "_execute"} & vars(bench.huey).keys()
