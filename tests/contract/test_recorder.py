"""The scheduler's side: what each call of a Recorder does to the file, as a reader sees it."""

from __future__ import annotations

import inspect
import logging
import math
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.language.errors import (
    Conflict,
    InvalidRecord,
    InvalidSchedule,
    NotAStore,
    NotFound,
    SchemaTooNew,
    StoreBusy,
    StoreNotFound,
    StoreUnreadable,
)
from jobstore.recording import transitions as recording
from jobstore.recording.recorder import Recorder
from jobstore.storage.processes import Owner
from jobstore.storage.schema import APPLICATION_ID
from jobstore.transfer import backup as upkeep

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

START = datetime(2026, 1, 15, 8, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
def recorder(path, clock):
    with Recorder(path, clock=clock) as made:
        made.save_job("a", job_type="kline", job_category="sync", schedule="0 * * * *", parameters={"x": 1})
        yield made


@pytest.fixture
def store(recorder, path, clock):
    with jobstore.open(path, clock=clock) as opened:
        yield opened


def only(page: Any) -> Any:
    (document,) = page["data"]
    return document


def by_id(store: jobstore.JobStore, number: str) -> Any:
    return next(document for document in store.list_job_executions()["data"] if document["id"] == number)


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


# --- the file


def test_a_recorder_makes_a_whole_file_and_nothing_else_stays(path):
    with Recorder(path):
        assert path.stat().st_size > 0
    with jobstore.open(path) as store:
        assert store.timezone == "UTC"
    assert {entry.name.replace("-shm", "").replace("-wal", "") for entry in path.parent.iterdir()} == {
        "jobs.db", "jobs.db.lock",
    }  # fmt: skip
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_zone_of_a_file_is_given_once(path):
    Recorder(path, timezone="Europe/Berlin").close()
    Recorder(path).close()
    Recorder(path, timezone="Europe/Berlin").close()
    with pytest.raises(Conflict, match="has the time zone Europe/Berlin, not UTC"):
        Recorder(path, timezone="UTC")
    with jobstore.open(path) as store:
        assert store.timezone == "Europe/Berlin"


def test_an_unknown_zone_makes_no_file(path):
    with pytest.raises(InvalidRecord, match="timezone must be"):
        Recorder(path, timezone="Europe/Nowhere")
    assert not path.exists()


def test_a_file_that_is_no_store_is_refused_and_untouched(tmp_path):
    text_file, empty, database = tmp_path / "text", tmp_path / "empty", tmp_path / "database"
    text_file.write_text("hello " * 1000)
    empty.touch()
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    for file in (text_file, empty, database):
        before = file.read_bytes()
        with pytest.raises(NotAStore):
            Recorder(file)
        assert file.read_bytes() == before
        assert not (tmp_path / f"{file.name}-shm").exists()
    with pytest.raises(NotAStore, match="not a regular file"):
        Recorder(tmp_path)


def test_a_newer_file_is_refused_and_untouched(path):
    Recorder(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew):
        Recorder(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreUnreadable, match="does not exist; create it first"):
        Recorder(tmp_path / "no" / "jobs.db")
    with pytest.raises(StoreNotFound, match="NUL"):
        Recorder("a\0b")


@pytest.mark.parametrize("use", [Recorder, jobstore.open, upkeep.check, jobstore.dump])
def test_a_file_with_two_names_is_refused(path, use):
    Recorder(path).close()
    os.link(path, path.with_name("other.db"))
    with pytest.raises(StoreUnreadable, match="hard links"):
        use(path)


def test_a_symbolic_link_leads_to_the_one_file_and_its_one_lock(path):
    link = path.with_name("link.db")
    link.symlink_to(path.name)
    with Recorder(link) as recorder:
        recorder.save_job("a", job_type="t", job_category="c")
        assert path.exists()
        assert not path.with_name("link.db.lock").exists()
    with jobstore.open(path) as store:
        assert store.get_job("a")["name"] == "a"


def moved(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").rename(path.with_name(f"moved.db{suffix}"))


OTHER = {"jobs": [{"name": "b", "job_type": "t", "job_category": "c"}]}


def test_a_file_that_is_removed_or_replaced_meanwhile_is_noticed(path, recorder):
    recorder.enqueue("a")
    moved(path)
    with pytest.raises(StoreNotFound, match="removed"):
        recorder.enqueue("a")
    jobstore.load(path, OTHER)
    recorder.enqueue("b")
    with pytest.raises(NotFound):
        recorder.enqueue("a")
    assert upkeep.check(path) == upkeep.check(path.with_name("moved.db")) == []


def test_the_log_of_a_file_that_was_moved_is_not_played_into_another(path, recorder):
    path.rename(path.with_name("moved.db"))
    for make in (lambda: jobstore.load(path, OTHER), lambda: Recorder(path)):
        with pytest.raises(StoreUnreadable, match=r"jobs.db-wal belongs to a file that is no longer at"):
            make()
    jobstore.load(path.with_name("other.db"), OTHER)
    path.with_name("other.db").rename(path)
    with pytest.raises(StoreUnreadable, match=r"jobs.db-wal belongs"):
        recorder.enqueue("a")


def test_many_recorders_may_make_the_file_at_once(path):
    failed = []

    def make(name):
        try:
            with Recorder(path) as recorder:
                recorder.save_job(name, job_type="t", job_category="c")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=make, args=(f"job {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with jobstore.open(path) as store:
        assert store.list_jobs()["pagination"]["total"] == 8


def test_what_a_crash_left_of_a_file_in_the_making_is_no_obstacle(path):
    path.with_name(".jobs.db.new").write_bytes(b"half a store")
    Recorder(path).close()
    assert upkeep.check(path) == []


def test_names_folded_with_another_unicode_are_folded_again(path, recorder):
    recorder.enqueue("a")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE setting SET value = '1.0' WHERE key = 'unicode_version'")
        connection.execute("UPDATE job SET folded = '?'")
        connection.execute("UPDATE job_name SET folded = '?'")
    connection.close()
    Recorder(path).close()
    assert upkeep.check(path) == []


def test_a_closed_recorder_says_so(path):
    recorder = Recorder(path)
    recorder.close()
    recorder.close()
    with pytest.raises(Conflict, match="is closed"):
        recorder.enqueue("a")


def test_a_writer_that_stays_too_long_makes_others_busy(path):
    with Recorder(path) as recorder, Recorder(path, timeout_seconds=0.05) as other:
        with recorder._writer.transaction(), pytest.raises(StoreBusy):
            other.save_job("a", job_type="t", job_category="c")
        other.save_job("a", job_type="t", job_category="c")


def test_a_foreign_writer_that_takes_no_lock_of_ours_makes_busy_too(path):
    with Recorder(path, timeout_seconds=0.05) as recorder:
        foreign = sqlite3.connect(path, isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            recorder.save_job("a", job_type="t", job_category="c")
        foreign.execute("ROLLBACK")
        foreign.close()
        recorder.save_job("a", job_type="t", job_category="c")


def test_a_naive_clock_is_refused(path):
    with Recorder(path, clock=lambda: datetime(2026, 1, 1)) as recorder, pytest.raises(InvalidRecord, match="clock"):
        recorder.save_job("a", job_type="t", job_category="c")


def test_readers_that_never_pause_do_not_let_the_log_grow_for_ever(recorder, path, monkeypatch):
    monkeypatch.setattr("jobstore.storage.writer.LOG_BYTES", 400_000)
    monkeypatch.setattr("jobstore.storage.writer.SHORTEN_EVERY_SECONDS", 0)
    log = path.with_name("jobs.db-wal")
    readers = [sqlite3.connect(path, isolation_level=None) for _ in range(2)]
    for number in range(40):
        reader = readers[number % 2]  # one begins before the other ends
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM execution").fetchone()
        recorder.enqueue("a", parameters={"large": "x" * 30_000})
        if readers[number % 2 - 1].in_transaction:
            readers[number % 2 - 1].execute("COMMIT")
    for reader in readers:
        reader.close()
    recorder.enqueue("a")
    assert log.stat().st_size < 2_000_000


def test_a_reader_that_stays_keeps_no_recorder_from_its_work(recorder, path, monkeypatch):
    monkeypatch.setattr("jobstore.storage.writer.LOG_BYTES", 1)
    with jobstore.open(path) as store:
        connection = store.connection
        assert connection is not None
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM execution").fetchone()
        for _ in range(3):
            recorder.enqueue("a")
        connection.execute("COMMIT")
        assert store.list_job_executions()["pagination"]["total"] == 3


# --- jobs


def test_the_signature_of_save_job_reads_as_the_documentation():
    shown = str(inspect.signature(Recorder.save_job))
    for part in ("schedule: ", " = None", "max_instances: ", " = 1", "enabled: ", " = True"):
        assert part in shown


def test_a_job_is_saved_with_all_it_was_given(recorder, store):
    recorder.save_job(
        "b", job_type="symbol", job_category="sync", interval_seconds=60, description="d", parameters=[1],
        timeout_seconds=5, max_instances=2, enabled=False, anchor_at=START,
    )  # fmt: skip
    assert store.get_job("b") == {
        "id": "b", "job_type": "symbol", "name": "b", "job_category": "sync", "description": "d",
        "schedule_type": "interval", "schedule": None, "interval_seconds": 60, "parameters": [1],
        "timeout_seconds": 5, "max_instances": 2, "enabled": False, "last_run_at": None, "next_run_at": None,
        "created_at": text(START), "updated_at": text(START),
    }  # fmt: skip


def test_an_update_leaves_what_is_not_given_as_it_is(recorder, store, clock):
    recorder.save_job("a", job_type="kline", job_category="sync", enabled=False, max_instances=4, description="d")
    clock.move(hours=1)
    recorder.save_job("a", job_type="order", job_category="sync")
    job = store.get_job("a")
    assert (job["job_type"], job["enabled"], job["max_instances"], job["description"]) == ("order", False, 4, "d")
    assert (job["schedule"], job["parameters"]) == ("0 * * * *", {"x": 1})
    assert (job["created_at"], job["updated_at"]) == (text(START), text(clock.now))


def test_none_clears_in_an_update(recorder, store):
    recorder.save_job("a", job_type="kline", job_category="sync", parameters=None, schedule=None)
    job = store.get_job("a")
    assert (job["parameters"], job["schedule_type"]) == (None, "external")


def test_a_save_that_changes_nothing_writes_nothing(recorder, store, clock):
    clock.move(hours=1)
    before = store.fresh()
    recorder.save_job("a", job_type="kline", job_category="sync", parameters={"x": 1})
    assert store.fresh() == before
    assert store.get_job("a")["updated_at"] == text(START)


def test_a_job_that_is_refused_is_not_there(recorder, store):
    with pytest.raises(InvalidSchedule):
        recorder.save_job("b", job_type="t", job_category="c", schedule="never")
    with pytest.raises(InvalidRecord):
        recorder.save_job("b/c", job_type="t", job_category="c")
    assert store.list_jobs()["pagination"]["total"] == 1


def test_a_renamed_job_keeps_its_number_and_its_history_the_name_of_its_time(recorder, store):
    recorder.enqueue("a")
    recorder.rename_job("a", "b")
    recorder.enqueue("b")
    assert [document["job_name"] for document in store.get_job_executions("b", order_by="id")["data"]] == ["b", "a"]
    assert store.get_job(1)["name"] == "b"
    assert store.list_jobs(search="B")["pagination"]["total"] == 1
    with pytest.raises(NotFound, match=r"^Job not found: a$"):
        store.get_job("a")


def test_renaming_needs_a_free_name_and_a_job(recorder):
    recorder.save_job("b", job_type="t", job_category="c")
    with pytest.raises(Conflict, match="A job named b already exists"):
        recorder.rename_job("a", "b")
    with pytest.raises(NotFound, match=r"^Job not found: c$"):
        recorder.rename_job("c", "d")
    with pytest.raises(InvalidRecord):
        recorder.rename_job("a", "1")
    recorder.rename_job("a", "a")


def test_a_removed_job_leaves_its_history_and_its_number_is_not_given_again(recorder, store):
    number = recorder.enqueue("a")
    recorder.remove_job("a")
    assert only(store.list_job_executions())["id"] == number
    with pytest.raises(NotFound):
        store.get_job("1")
    recorder.save_job("a", job_type="t", job_category="c")
    assert store.get_job(2)["name"] == "a"
    assert store.get_job_executions("a")["data"] == []
    recorder.start(number)
    recorder.finish(number, "SUCCESS")
    assert store.get_job("a")["last_run_at"] is None
    with pytest.raises(NotFound, match=r"^Job not found: gone$"):
        recorder.remove_job("gone")


@pytest.mark.parametrize("name", ["gone", "", "a/b", "1", "\ud800", "x" * 300])
def test_a_run_needs_a_job(recorder, name):
    with pytest.raises(NotFound, match=r"^Job not found: "):
        recorder.enqueue(name)
    with pytest.raises(NotFound), recorder.run(name):
        pytest.fail("the block was entered")


# --- executions


def test_a_run_goes_from_pending_over_running_to_its_end(recorder, store, clock):
    number = recorder.enqueue("a", trace_id="t1", worker_id="w1")
    assert isinstance(number, str)
    waiting = {
        "id": number, "job_id": "1", "job_name": "a", "status": "PENDING", "started_at": None, "completed_at": None,
        "duration_ms": None, "result": None, "error": None, "trace_id": "t1", "worker_id": "w1",
        "parameters_snapshot": {"x": 1}, "created_at": text(START),
    }  # fmt: skip
    assert only(store.list_job_executions()) == waiting
    assert store.get_job("a")["last_run_at"] is None
    clock.move(seconds=2)
    recorder.start(number, worker_id="w2")
    running = {**waiting, "status": "RUNNING", "started_at": text(clock.now), "worker_id": "w2"}
    assert only(store.list_job_executions()) == running
    assert (store.get_job("a")["last_run_at"], store.get_job("a")["updated_at"]) == (text(clock.now), text(clock.now))
    clock.move(milliseconds=1500)
    recorder.finish(number, "FAILURE", result={"error_message": "x"}, error="x")
    assert only(store.list_job_executions()) == {
        **running, "status": "FAILURE", "completed_at": text(clock.now), "duration_ms": 1500,
        "result": {"error_message": "x"}, "error": "x",
    }  # fmt: skip


def test_what_happened_elsewhere_or_earlier_keeps_its_times(recorder, store, clock):
    number = recorder.enqueue("a", at="2026-01-14T08:00:00Z", parameters={"own": True})
    recorder.start(int(number), at=START - timedelta(hours=1))
    recorder.finish(number, "TIMEOUT", at="2026-01-15T08:00:00+00:00", duration_ms=0)
    document = only(store.list_job_executions())
    assert document["created_at"] == "2026-01-14T08:00:00Z"
    assert document["started_at"] == "2026-01-15T07:00:00Z"
    assert document["completed_at"] == "2026-01-15T08:00:00Z"
    assert document["duration_ms"] == 0
    assert document["parameters_snapshot"] == {"own": True}


def test_an_earlier_start_does_not_take_back_the_last_run(recorder, store, clock):
    first, second = recorder.enqueue("a"), recorder.enqueue("a")
    recorder.start(first)
    recorder.start(second, at=START - timedelta(days=1))
    assert store.get_job("a")["last_run_at"] == text(START)
    assert store.get_job("a")["updated_at"] == text(START)


def test_a_clock_that_was_set_back_gives_no_negative_duration(recorder, store, clock):
    with recorder.run("a"):
        clock.move(hours=-1)
    document = only(store.list_job_executions())
    assert (document["duration_ms"], document["completed_at"]) == (0, text(clock.now))


def test_a_run_that_never_started_may_end(recorder, store):
    number = recorder.enqueue("a")
    recorder.finish(number, "FAILURE", error="refused")
    document = only(store.list_job_executions())
    assert (document["started_at"], document["duration_ms"]) == (None, None)
    assert document["completed_at"] == text(START)
    assert store.get_job("a")["last_run_at"] is None


def test_runs_that_never_started_do_not_count_in_the_rate(recorder, store, clock):
    for status in ("FAILURE", "FAILURE", "SUCCESS"):
        recorder.finish(recorder.enqueue("a"), status)
    assert store.job_stats("a")["success_rate"] is None
    with recorder.run("a"):
        clock.move(seconds=2)
    for asked in ("a", None):
        stats = store.job_stats(asked)
        assert (stats["runs"], stats["never_started"], stats["success_rate"]) == (4, 3, 1.0)
        assert stats["by_status"]["FAILURE"] == 2
        assert stats["duration_ms"] == {"average": 2000, "p50": 2000, "p95": 2000, "max": 2000}
    with pytest.raises(RuntimeError), recorder.run("a"):
        raise RuntimeError
    assert store.job_stats("a")["success_rate"] == 0.5
    recorder.enqueue("a")
    assert store.job_stats("a")["never_started"] == 3


def test_a_state_that_cannot_follow_is_a_conflict(recorder):
    number = recorder.enqueue("a")
    recorder.start(number)
    with pytest.raises(Conflict, match=rf"^Execution {number} is already RUNNING; it cannot become RUNNING$"):
        recorder.start(number)
    recorder.finish(number, "SUCCESS")
    with pytest.raises(Conflict, match=rf"^Execution {number} is already SUCCESS; it cannot become RUNNING$"):
        recorder.start(number)
    with pytest.raises(Conflict, match=rf"^Execution {number} is already SUCCESS; it cannot become FAILURE$"):
        recorder.finish(number, "FAILURE")


@pytest.mark.parametrize("number", ["99", 99, "x", "", "0", -1, "1_0", "１", 2**63, "9" * 30])
def test_an_execution_that_is_not_there_is_not_found(recorder, number):
    recorder.enqueue("a")
    for call in (recorder.start, lambda it: recorder.finish(it, "SUCCESS")):
        with pytest.raises(NotFound, match=r"^Execution not found: "):
            call(number)


@pytest.mark.parametrize("number", [None, 1.0, True, b"1", ["1"]])
def test_an_id_of_another_type_is_refused(recorder, number):
    recorder.enqueue("a")
    with pytest.raises(InvalidRecord, match="execution_id must be"):
        recorder.start(number)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"status": "DONE"}, "status"),
        ({"status": "RUNNING"}, "status"),
        ({"result": float("nan")}, "result"),
        ({"error": 5}, "error"),
        ({"duration_ms": -1}, "duration_ms"),
        ({"duration_ms": 1.5}, "duration_ms"),
        ({"at": "now"}, "at"),
        ({"at": datetime(2026, 1, 1)}, "at"),
    ],
)
def test_an_end_that_breaks_a_rule_is_refused_and_changes_nothing(recorder, store, words, field):
    number = recorder.enqueue("a")
    with pytest.raises(InvalidRecord, match=rf"^{field} must be"):
        recorder.finish(number, **{"status": "SUCCESS", **words})
    assert only(store.list_job_executions())["status"] == "PENDING"


def test_a_long_error_is_cut_and_an_odd_one_is_kept(recorder, store):
    number = recorder.enqueue("a")
    recorder.finish(number, "FAILURE", error="\udcff" + "x" * 100_000)
    error = only(store.list_job_executions())["error"]
    assert error.startswith("\\udcffxxx")
    assert error.endswith("64 KiB")
    assert len(error.encode()) <= 65536


def test_a_block_is_a_run_with_its_result(recorder, store, clock):
    with recorder.run("a", worker_id="w", trace_id="t", parameters={"own": 1}) as run:
        assert by_id(store, run.execution_id)["status"] == "RUNNING"
        clock.move(milliseconds=40)
        run.result = {"processed": 500}
    document = by_id(store, run.execution_id)
    assert (document["status"], document["result"], document["duration_ms"]) == ("SUCCESS", {"processed": 500}, 40)
    assert (document["worker_id"], document["trace_id"], document["parameters_snapshot"]) == ("w", "t", {"own": 1})


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (TimeoutError("slow"), "TimeoutError: slow"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(3), "SystemExit: 3"),
        (Unprintable(), "Unprintable: (its message cannot be shown)"),
        (ValueError("x" * 100_000), None),
    ],
)
def test_an_exception_is_a_failure_and_is_raised_again(recorder, store, error, said):
    with pytest.raises(type(error)) as raised, recorder.run("a"):
        raise error
    assert raised.value is error
    document = only(store.list_job_executions())
    assert document["status"] == "FAILURE"
    assert said is None or document["error"] == said


def test_a_result_that_is_no_json_is_no_failure(recorder, store):
    with recorder.run("a") as run:
        run.result = {"seen": {1}, "mean": float("nan"), "of": Unprintable()}
    document = only(store.list_job_executions())
    assert (document["status"], document["result"]) == ("SUCCESS", {"seen": [1], "mean": None, "of": "<Unprintable>"})


def test_an_end_with_a_value_that_is_no_json_raises_and_may_be_repeated(recorder, store):
    number = recorder.enqueue("a")
    recorder.start(number)
    for value in ({1}, float("nan"), object()):
        with pytest.raises(InvalidRecord, match="result must be JSON"):
            recorder.finish(number, "SUCCESS", result=value)
    recorder.finish(number, "SUCCESS", result={"n": 1})
    assert only(store.list_job_executions())["result"] == {"n": 1}


def test_what_a_run_logs_is_kept_on_success_and_on_failure(recorder, store):
    log = logging.getLogger("the.job")
    with recorder.run("a", capture_logs=True) as run:
        log.warning("read %s rows", 5)
        run.result = 7
    with suppress(ValueError), recorder.run("a", capture_logs=True) as failed:
        log.warning("then it broke")
        raise ValueError("no")
    with recorder.run("a", capture_logs=True) as own:
        log.warning("unseen")
        own.result = {"output": "mine", "n": 1}
    with recorder.run("a") as plain:
        log.warning("not asked for")
    good, bad = by_id(store, run.execution_id)["result"], by_id(store, failed.execution_id)
    assert good["value"] == 7
    assert good["output"].endswith("WARNING the.job: read 5 rows")
    assert bad["result"]["output"].endswith("WARNING the.job: then it broke")
    assert bad["error"] == "ValueError: no"
    assert by_id(store, own.execution_id)["result"] == {"output": "mine", "n": 1}
    assert by_id(store, plain.execution_id)["result"] is None


@pytest.mark.parametrize("line", ["x" * 200, "\x01" * 200, "é\n" * 100])
def test_what_a_run_logs_never_takes_more_room_than_a_result_has(recorder, store, line):
    with recorder.run("a", capture_logs=True) as run:
        run.result = {"text": "y" * 30_000}
        for _ in range(500):
            logging.getLogger("the.job").warning("%s", line)
        logging.getLogger("the.job").warning("the end")
    result = by_id(store, run.execution_id)["result"]
    assert len(result["text"]) == 30_000
    assert result["output"].endswith("the end")
    assert len(result["output"]) > 4_000


def test_an_end_is_told_after_it_is_on_the_disk(path, clock, caplog):
    told = []

    def on_finish(document):
        with jobstore.open(path) as store:
            told.append((document, by_id(store, document["id"])))
        raise RuntimeError("not ours")

    with Recorder(path, clock=clock, on_finish=on_finish) as recorder:
        recorder.save_job("a", job_type="t", job_category="c", timeout_seconds=1)
        with recorder.run("a") as run:
            run.result = {"n": 1}
        with pytest.raises(ValueError, match="bad"), recorder.run("a"):
            raise ValueError("bad")
        waiting = recorder.enqueue("a")
        recorder.start(waiting)
        clock.move(hours=1)
        assert recorder.close_interrupted() == 1
        recorder.finish(waiting, "SUCCESS")
    assert [document["status"] for document, _ in told] == ["SUCCESS", "FAILURE", "TIMEOUT", "SUCCESS"]
    assert all(document == stored for document, stored in told)
    assert told[0][0]["result"] == {"n": 1}
    assert caplog.text.count("on_finish failed for execution") == 4


def test_the_trace_of_the_current_span_is_taken(recorder, store):
    from opentelemetry.sdk.trace import TracerProvider

    with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
        numbers = [recorder.enqueue("a"), recorder.enqueue("a", trace_id="own")]
        with recorder.run("a") as run:
            pass
    numbers += [run.execution_id, recorder.enqueue("a")]
    assert [by_id(store, number)["trace_id"] for number in numbers] == [trace_id, "own", trace_id, None]


def test_the_work_alone_is_timed_whatever_the_clock_does(path, monkeypatch):
    """The system's clock is set back, and the store is busy before and after the block."""
    steady = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: steady[0])
    moments = iter(START - timedelta(hours=hour) for hour in range(100))
    monkeypatch.setattr("jobstore.recording.recorder._system_clock", lambda: next(moments))
    with Recorder(path) as recorder:
        recorder.save_job("a", job_type="t", job_category="c")
        write = recorder._write

        def slow(*words):
            steady[0] += 5_000_000_000
            return write(*words)

        recorder._write = slow
        with recorder.run("a") as run:
            steady[0] += 40_000_000
        number = recorder.enqueue("a")
        recorder.start(number)
        steady[0] += 70_000_000
        recorder.finish(number, "SUCCESS")
        given = recorder.enqueue("a")
        recorder.start(given)
        recorder.finish(given, "SUCCESS", duration_ms=3)
    documents = {document["id"]: document["duration_ms"] for document in jobstore.dump(path)["executions"]}
    assert documents == {run.execution_id: 40, number: 70, given: 3}


def fail_without_the_file(path: Path) -> None:
    path.rename(path.with_name("gone.db"))
    raise ValueError("the job's own")


def test_the_exception_of_the_job_is_worth_more_than_ours(path, caplog):
    with Recorder(path) as recorder:
        recorder.save_job("a", job_type="t", job_category="c")
        with pytest.raises(ValueError, match="the job's own") as raised, recorder.run("a"):
            fail_without_the_file(path)
    assert "could not record this failure" in raised.value.__notes__[0]
    assert "could not record it" in caplog.text


def test_parameters_that_many_runs_share_stand_in_the_file_once(recorder, store, path):
    for _ in range(5):
        recorder.enqueue("a")
        recorder.enqueue("a", parameters={"x": 1})
        recorder.enqueue("a", parameters={"own": 1})
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM parameter_set").fetchone() == (1,)
    connection.close()
    snapshots = [document["parameters_snapshot"] for document in store.list_job_executions()["data"]]
    assert snapshots.count({"x": 1}) == 10
    assert snapshots.count({"own": 1}) == 5


def test_several_threads_share_one_recorder(recorder, store):
    def work():
        for _ in range(20):
            with recorder.run("a", worker_id=threading.current_thread().name):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.job_stats()["by_status"]["SUCCESS"] == 80


def test_everything_recorded_is_sound(recorder, path):
    for status in ("SUCCESS", "FAILURE", "TIMEOUT"):
        number = recorder.enqueue("a", worker_id="w")
        recorder.start(number)
        recorder.finish(number, status)
    recorder.enqueue("a")
    recorder.rename_job("a", "ß")
    with recorder.run("ß"):
        pass
    assert upkeep.check(path) == []


def test_a_process_that_runs_nothing_is_forgotten_in_time(recorder, path, monkeypatch):
    """Where each run has a process of its own, as with cron, there would be one row for each run."""
    kept = recorder.enqueue("a")
    pids = iter(range(1_000, 1_000 + 3 * recording.FORGOTTEN_EVERY))
    monkeypatch.setattr(recording, "this_process", lambda: Owner("h", "b", 7, next(pids), 1))
    recorder.start(kept)
    for _ in range(2 * recording.FORGOTTEN_EVERY):
        with recorder.run("a"):
            pass
    with sqlite3.connect(path) as connection:
        processes = [pid for (pid,) in connection.execute("SELECT pid FROM process ORDER BY process_id")]
        owners = connection.execute("SELECT DISTINCT started_by FROM execution ORDER BY 1").fetchall()
    connection.close()
    assert len(processes) <= recording.FORGOTTEN_EVERY + 2
    assert 1_000 in processes
    assert len(owners) == 2
    assert jobstore.check(path) == []


def test_a_run_writes_few_pages(tmp_path):
    """What a run costs is its pages: each is written to the log, and again when the log is written back."""
    path = tmp_path / "jobs.db"
    with Recorder(path) as recorder:
        for name in ("a", "b"):
            recorder.save_job(name, job_type="kline", job_category="sync", parameters={"x": 1})
        for number in range(200):
            with recorder.run("ab"[number % 2], worker_id="w"):
                pass
        with recorder._writer.held() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with recorder.run("a", worker_id="w"):
            pass
        with recorder._writer.held() as connection:
            (_, pages, _) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert 20 < pages <= 38


def test_a_result_of_the_deepest_nesting_is_kept_beside_the_log(recorder, store, path):
    deepest: list[object] = []
    for _ in range(63):
        deepest = [deepest]
    endless: list[object] = []
    endless.append(endless)
    for value in (deepest, endless):
        with recorder.run("a", capture_logs=True) as run:
            run.result = value
        assert by_id(store, run.execution_id)["result"]["value"][0]
    assert jobstore.check(path) == []


def test_a_run_on_a_recorder_that_was_closed_meanwhile_says_so(recorder):
    with pytest.raises(Conflict, match="is closed; open another"), recorder.run("a"):
        recorder.close()


def test_a_text_that_ends_the_program_hides_no_failure(recorder, store):
    class Odd(Exception):
        def __str__(self):
            raise SystemExit(9)

    with pytest.raises(SystemExit) as raised, recorder.run("a") as failed:
        raise Odd
    assert isinstance(raised.value.__context__, Odd)
    assert by_id(store, failed.execution_id)["error"] == "Odd: (its message cannot be shown)"
    with pytest.raises(SystemExit), recorder.run("a") as good:
        good.result = Odd()
    found = by_id(store, good.execution_id)
    assert (found["status"], found["result"]) == ("SUCCESS", None)


@pytest.mark.parametrize("end", ["sys.exit(0)", "pass", "raise ValueError('of the child')"])
def test_a_child_that_was_forked_inside_a_run_ends_it_only_if_its_parent_is_gone(recorder, path, end):
    code = f"""
import os, sys, jobstore
recorder = jobstore.Recorder({str(path)!r})
pid = 0
try:
    with recorder.run("a") as run:
        print(run.execution_id, flush=True)
        pid = os.fork()
        if pid == 0:
            {end}
        else:
            os.waitpid(pid, 0)
            run.result = {{"of": "the parent"}}
finally:
    if pid == 0:
        os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    with jobstore.open(path) as store:
        found = by_id(store, done.stdout.strip())
    assert (found["status"], found["result"]) == ("SUCCESS", {"of": "the parent"})


def test_a_child_whose_parent_is_gone_ends_the_run(recorder, path):
    """As a program does that becomes a daemon inside the block."""
    code = f"""
import os, jobstore
from jobstore.storage.processes import is_gone, this_process
recorder, parent = jobstore.Recorder({str(path)!r}), this_process()
with recorder.run("a") as run:
    print(run.execution_id, flush=True)
    if os.fork():
        os._exit(0)
    while not is_gone(parent):
        pass
    run.result = {{"of": "the child"}}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    with jobstore.open(path) as store:
        assert by_id(store, done.stdout.strip())["result"] == {"of": "the child"}


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="its datetime crashes at exit: python/cpython#132413")
def test_a_run_ends_whose_recorder_is_collected_before_it(path):
    code = f"""
import jobstore
recorder = jobstore.Recorder({str(path)!r})
recorder.save_job("a", job_type="t", job_category="c")
class Last:
    def __del__(self):
        with recorder.run("a"):
            pass
last = Last()
def begun():
    with recorder.run("a"):
        yield
begun = begun()
next(begun)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    with jobstore.open(path) as store:
        assert {run["status"] for run in store.list_job_executions()["data"]} == {"FAILURE", "SUCCESS"}


@pytest.mark.parametrize("seconds", ["5", None, True, -1, math.inf, math.nan, 3_000_000])
def test_a_timeout_has_a_rule(path, seconds):
    with pytest.raises(jobstore.InvalidParameter, match="timeout_seconds must be a number from 0 to 1,000,000"):
        jobstore.Recorder(path, timeout_seconds=seconds)


# --- what comes in the middle of a call ---------------------------------------------------------


def after_commit(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, raises: Exception) -> None:
    """The next commit succeeds, and an exception of a signal handler comes right after it."""
    commit = recorder._writer.commit

    def commit_and_raise() -> None:
        monkeypatch.setattr(recorder._writer, "commit", commit)
        commit()
        raise raises

    monkeypatch.setattr(recorder._writer, "commit", commit_and_raise)


def test_an_error_of_ours_right_after_the_commit_is_no_failed_commit(recorder, path, monkeypatch):
    recorder.save_job("job", job_type="t", job_category="c")
    after_commit(recorder, monkeypatch, StoreBusy("of a handler that recorded"))
    number = recorder.enqueue("job")
    with jobstore.open(path) as store:
        assert [each["id"] for each in store.list_job_executions()["data"]] == [number]


def test_another_error_right_after_the_commit_comes_through_and_the_call_is_recorded_once(recorder, path, monkeypatch):
    recorder.save_job("job", job_type="t", job_category="c")
    after_commit(recorder, monkeypatch, ValueError("of a handler"))
    with pytest.raises(ValueError, match="of a handler"):
        recorder.enqueue("job")
    with jobstore.open(path) as store:
        assert store.list_job_executions()["pagination"]["total"] == 1


def test_a_timeout_error_of_a_handler_is_no_error_of_the_system(recorder, path, monkeypatch):
    """A handler's TimeoutError is an OSError without a number."""
    recorder.save_job("job", job_type="t", job_category="c")
    stat, late = os.stat, [False]

    def look(*words, **more):
        if late.pop():
            raise TimeoutError("the job took too long")
        late.append(False)
        return stat(*words, **more)

    with jobstore.open(path) as store:
        monkeypatch.setattr(os, "stat", look)
        for call in (partial(recorder.enqueue, "job"), store.list_jobs):
            late[:] = [True]
            with pytest.raises(TimeoutError):
                call()
            late[:] = [False]
            call()


def test_a_block_that_is_closed_inside_another_call_of_its_thread_ends_after_that_call(recorder, path, monkeypatch):
    """As the garbage collector closes a generator: whenever it likes."""
    recorder.save_job("job", job_type="t", job_category="c")

    def stream() -> Generator[None]:
        with recorder.run("job"):
            yield

    block, insert = stream(), recording._insert
    next(block)

    def insert_and_close(*words, **more):
        block.close()
        return insert(*words, **more)

    monkeypatch.setattr(recording, "_insert", insert_and_close)
    recorder.enqueue("job")
    with jobstore.open(path) as store:
        statuses = [each["status"] for each in store.list_job_executions(order_by="id", order_desc=False)["data"]]
    assert statuses == ["FAILURE", "PENDING"]


def test_a_block_that_is_closed_inside_a_prune_ends_at_the_latest_when_the_recorder_is_closed(path):
    def stream(recorder: Recorder) -> Generator[None]:
        with recorder.run("job"):
            yield

    with Recorder(path) as recorder:
        recorder.save_job("job", job_type="t", job_category="c")
        block = stream(recorder)
        next(block)
        with recorder._writer.transaction():
            block.close()
    with jobstore.open(path) as store:
        assert [each["status"] for each in store.list_job_executions()["data"]] == ["FAILURE"]


class Name(str, Enum):  # noqa: UP042 - its str() is not its value
    JOB, ZONE = "job", "Europe/Berlin"


def test_a_text_of_an_enum_is_its_value(tmp_path):
    with Recorder(tmp_path / "new.db", timezone=Name.ZONE) as recorder, jobstore.open(tmp_path / "new.db") as store:
        recorder.save_job(Name.JOB, job_type=Name.JOB, job_category=Name.JOB, description=Name.JOB)
        recorder.enqueue(Name.JOB, worker_id=Name.JOB, trace_id=Name.JOB)
        job = store.get_job(Name.JOB)
        run = store.list_job_executions()["data"][0]
        assert (job["name"], job["job_type"], job["job_category"], job["description"]) == ("job",) * 4
        assert (run["worker_id"], run["trace_id"], store.timezone) == ("job", "job", "Europe/Berlin")


class Pendulum(datetime):
    def __sub__(self, other):
        raise AttributeError("a difference of another class")


def test_a_datetime_of_another_library_is_a_moment(recorder, path):
    recorder.save_job("job", job_type="t", job_category="c")
    recorder.enqueue("job", at=Pendulum(2026, 1, 1, tzinfo=UTC))
    with jobstore.open(path) as store:
        assert store.list_job_executions(after=Pendulum(2026, 1, 1, tzinfo=UTC))["pagination"]["total"] == 1


def test_a_clock_that_a_test_froze_in_between_gives_no_negative_duration(path, monkeypatch):
    with Recorder(path) as recorder, jobstore.open(path) as store:
        recorder.save_job("job", job_type="t", job_category="c")
        number = recorder.enqueue("job")
        recorder.start(number)
        monkeypatch.setattr(time, "monotonic_ns", lambda: 0)
        recorder.finish(number, "SUCCESS")
        assert store.get_execution(number)["duration_ms"] == 0


def test_waiting_for_others_ends_where_a_test_froze_the_clocks(path, monkeypatch):
    with Recorder(path, timeout_seconds=0.2) as recorder, Recorder(path) as other:
        monkeypatch.setattr(time, "monotonic", lambda: 7.0)
        monkeypatch.setattr(time, "monotonic_ns", lambda: 7_000_000_000)
        with other._writer.transaction(), pytest.raises(StoreBusy):
            recorder.save_job("job", job_type="t", job_category="c")


def test_waiting_draws_nothing_from_the_programs_random_numbers(path):
    with Recorder(path, timeout_seconds=0.05) as recorder, Recorder(path) as other:
        random.seed(42)
        with other._writer.transaction(), pytest.raises(StoreBusy):
            recorder.save_job("job", job_type="t", job_category="c")
        assert random.random() == random.Random(42).random()


def test_a_prune_whose_cleaning_fails_has_pruned(recorder, monkeypatch):
    recorder.save_job("job", job_type="t", job_category="c")
    with recorder.run("job"):
        pass

    def busy(_writer):
        raise StoreBusy("others write")

    monkeypatch.setattr("jobstore.recording.recorder.forget_unused", busy)
    assert recorder.prune(before="9999-01-01") == 1


def test_a_store_in_another_journal_mode_takes_the_first_run(path, recorder):
    recorder.save_job("job", job_type="t", job_category="c")
    recorder.close()
    copy = path.with_name("vacuumed.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with Recorder(copy) as later, later.run("job"):
        pass
