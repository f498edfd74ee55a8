"""History kept in bounds: what prune takes and leaves, what its archive holds, what export gives."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.language.errors import Conflict, InvalidParameter, InvalidRecord, NotFound, StoreUnreadable
from jobstore.language.models import EXECUTION_FIELDS
from jobstore.recording.archive import Archive
from jobstore.recording.prune import next_batch
from jobstore.recording.recorder import Recorder
from jobstore.recording.retention import Retention
from jobstore.storage.sidefiles import reserve_path
from jobstore.transfer import backup as upkeep
from jobstore.transfer.export import export, iter_executions
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ("SUCCESS", "FAILURE", "TIMEOUT", "SUCCESS", "PENDING", "RUNNING")


def stamp(day: float) -> str:
    return (FIRST + day * DAY).isoformat().replace("+00:00", "Z")


def run(number: int, **given: Any) -> dict[str, Any]:
    """One execution a day; two jobs in turn, every status in turn."""
    status = STATUSES[number % len(STATUSES)]
    started = None if status == "PENDING" else stamp(number)
    return {
        "id": str(number + 1), "job_id": str(number % 2 + 1), "job_name": "ab"[number % 2], "status": status,
        "started_at": started, "created_at": stamp(number), "result": {"n": number}, "trace_id": f"t{number % 5}",
        "parameters_snapshot": {"shared": True}, **given,
    }  # fmt: skip


JOBS = [{"name": name, "job_type": "kline", "job_category": "sync", "timeout_seconds": 60} for name in "ab"]
RUNS = [run(number) for number in range(60)]


@pytest.fixture
def path(tmp_path):
    jobstore.load(tmp_path / "jobs.db", {"jobs": JOBS, "executions": RUNS})
    return tmp_path / "jobs.db"


@pytest.fixture
def recorder(path):
    with Recorder(path) as made:
        yield made


def left(path: Path) -> list[int]:
    """The executions that are there, as numbers of days."""
    return [int(document["id"]) - 1 for document in jobstore.dump(path)["executions"]]


def archived(archive: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read_text(encoding="utf-8").splitlines()]


def finished(days: Any) -> set[int]:
    return {day for day in days if RUNS[day]["status"] in {"SUCCESS", "FAILURE", "TIMEOUT"}}


# --- what goes


def test_what_started_earlier_goes_and_what_is_open_stays(path, recorder):
    gone = recorder.prune(before=stamp(30))
    assert gone == len(finished(range(30)))
    assert set(left(path)) == set(range(60)) - finished(range(30))
    assert upkeep.check(path) == []


def test_before_is_exclusive_and_may_be_a_date_or_a_datetime(path, recorder):
    assert recorder.prune(before="2026-01-02", dry_run=True) == 1
    assert recorder.prune(before=FIRST + DAY, dry_run=True) == 1
    assert recorder.prune(before=FIRST + DAY + timedelta(microseconds=1), dry_run=True) == 2


@pytest.mark.parametrize("keep", [0, 1, 2, 7, 29, 30, 31, 1000])
def test_the_newest_of_each_job_stay_whatever_their_state(path, recorder, keep):
    newest = {day for job in (0, 1) for day in list(range(job, 60, 2))[::-1][:keep]}
    expected = finished(range(60)) - newest
    assert recorder.prune(keep_last=keep, dry_run=True) == len(expected)
    assert recorder.prune(keep_last=keep) == len(expected)
    assert set(left(path)) == set(range(60)) - expected


def test_the_newest_of_a_job_count_under_all_its_names(path, recorder):
    recorder.rename_job("a", "renamed")
    for day in (60, 61):
        number = recorder.enqueue("renamed", at=stamp(day))
        recorder.start(number, at=stamp(day))
        recorder.finish(number, "SUCCESS", at=stamp(day))
    recorder.prune(keep_last=2)
    runs = jobstore.dump(path)["executions"]
    assert [document["job_name"] for document in runs if document["status"] == "SUCCESS" and document["job_id"] == "1"] == [
        "renamed", "renamed",
    ]  # fmt: skip


def test_failures_may_stay_longer(path, recorder):
    recorder.prune(before=stamp(40), keep_failures_before=stamp(10))
    kept = {day for day in range(10, 40) if RUNS[day]["status"] in {"FAILURE", "TIMEOUT"}}
    assert set(left(path)) & finished(range(40)) == kept


def test_failures_never_go_later_than_all(path, recorder):
    recorder.prune(before=stamp(10), keep_failures_before=stamp(40))
    assert set(left(path)) & finished(range(40)) == finished(range(10, 40))


def test_a_dry_run_changes_nothing_and_says_what_would_go(path, recorder):
    before = jobstore.dump(path)
    going = recorder.prune(before=stamp(30), keep_last=3, dry_run=True)
    assert jobstore.dump(path) == before
    assert recorder.prune(before=stamp(30), keep_last=3) == going
    assert recorder.prune(before=stamp(30), keep_last=3) == 0


def test_progress_adds_up(recorder):
    told: list[int] = []
    gone = recorder.prune(before=stamp(50), progress=told.append)
    assert sum(told) == gone > 0


@pytest.mark.parametrize(
    "bounds",
    [{}, {"keep_failures_before": "2026-01-01"}, {"before": "yesterday"}, {"before": 5}, {"before": datetime(2026, 1, 1)},
     {"keep_last": -1}, {"keep_last": True}, {"keep_last": "5"}, {"before": "2026-01-01", "keep_failures_before": "x"},
     {"before": "2026-01-01", "archive": "a\0b"}, {"before": "2026-01-01", "archive": 5},
     {"before": "2026-01-01", "archive": "a.jsonl", "emergency": True}],
)  # fmt: skip
def test_a_bound_that_breaks_a_rule_prunes_nothing(path, recorder, bounds):
    with pytest.raises(InvalidParameter):
        recorder.prune(**bounds)
    assert len(left(path)) == 60


def test_many_executions_go_in_many_short_transactions(tmp_path):
    path = tmp_path / "many.db"
    jobstore.load(path, {"jobs": JOBS, "executions": [run(0, id=None, created_at=None) for _ in range(1500)]})
    told: list[int] = []
    with Recorder(path) as recorder:
        assert recorder.prune(before="2027-01-01", progress=told.append) == 1500
    assert len(told) >= 3
    assert upkeep.check(path) == []


@pytest.mark.parametrize(
    ("batch", "seconds", "then"),
    [(100, 0.001, 150), (1000, 0.001, 1000), (100, 0.01, 100), (100, 1, 50), (1, 9, 20), (1, 0.001, 20)],
)
def test_a_batch_grows_while_it_is_quick_and_shrinks_when_it_is_slow(batch, seconds, then):
    assert next_batch(batch, seconds) == then


# --- the archive


def test_what_goes_stands_in_the_archive_first_oldest_first(path, recorder, tmp_path):
    before = {document["id"]: document for document in jobstore.dump(path)["executions"]}
    archive = tmp_path / "old.jsonl"
    gone = recorder.prune(before=stamp(30), archive=archive)
    documents = archived(archive)
    assert len(documents) == gone
    assert [document["id"] for document in documents] == sorted((d["id"] for d in documents), key=int)
    assert all(before[document["id"]] == document for document in documents)
    assert {int(document["id"]) - 1 for document in documents} == finished(range(30))


def test_an_archive_is_added_to(path, recorder, tmp_path):
    archive = tmp_path / "old.jsonl"
    archive.write_text('{"mine": 1}\n')
    recorder.prune(before=stamp(10), archive=archive)
    recorder.prune(before=stamp(20), archive=archive)
    assert archived(archive)[0] == {"mine": 1}
    assert {int(document["id"]) - 1 for document in archived(archive)[1:]} == finished(range(20))
    assert recorder.prune(before=stamp(20), archive=archive) == 0


def test_the_archive_may_not_be_the_store_or_beside_it(path, recorder, tmp_path):
    for name in ("jobs.db", "jobs.db-wal", "jobs.db.lock", "jobs.db.reserve"):
        with pytest.raises(InvalidParameter, match="must not be the store"):
            recorder.prune(before=stamp(10), archive=tmp_path / name)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(InvalidParameter, match="must not be the store"):
        recorder.prune(before=stamp(10), archive=tmp_path / "link")
    with pytest.raises(InvalidParameter, match="regular file"):
        recorder.prune(before=stamp(10), archive="/dev/null")
    with pytest.raises(StoreUnreadable):
        recorder.prune(before=stamp(10), archive=tmp_path)
    assert upkeep.check(path) == []


def test_two_prunes_do_not_share_an_archive(path, recorder, tmp_path):
    with Archive(tmp_path / "old.jsonl", recorder._writer), pytest.raises(Conflict, match="Another prune"):
        recorder.prune(before=stamp(10), archive=tmp_path / "old.jsonl")


def crash_after_the_archive(path: Path, archive: Path) -> None:
    """A prune that dies when its first batch is in the archive and not yet deleted."""
    program = f"""
import os
from jobstore.recording.archive import Archive
from jobstore.recording.recorder import Recorder
take = Archive.take
def take_and_die(self, connection, ids):
    take(self, connection, ids)
    os._exit(9)
Archive.take = take_and_die
Recorder({str(path)!r}).prune(before={stamp(30)!r}, archive={str(archive)!r})
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9


def test_after_a_crash_nothing_is_archived_twice(path, tmp_path):
    archive = tmp_path / "old.jsonl"
    crash_after_the_archive(path, archive)
    assert len(left(path)) == 60
    assert len(archived(archive)) == len(finished(range(30)))
    with Recorder(path) as recorder:
        assert recorder.prune(before=stamp(30), archive=archive) == len(finished(range(30)))
    assert len(archived(archive)) == len(finished(range(30)))
    assert set(left(path)) == set(range(60)) - finished(range(30))


def test_a_line_that_a_crash_left_incomplete_is_mended(path, tmp_path):
    archive = tmp_path / "old.jsonl"
    crash_after_the_archive(path, archive)
    os.truncate(archive, archive.stat().st_size - 7)
    with Recorder(path) as recorder:
        recorder.prune(before=stamp(30), archive=archive)
    numbers = [int(document["id"]) - 1 for document in archived(archive)]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == finished(range(30))


def test_a_line_that_lacks_but_its_end_is_taken(path, tmp_path):
    archive = tmp_path / "old.jsonl"
    crash_after_the_archive(path, archive)
    os.truncate(archive, archive.stat().st_size - 1)
    with Recorder(path) as recorder:
        recorder.prune(before=stamp(30), archive=archive)
    assert len(archived(archive)) == len(finished(range(30)))


def test_the_batch_of_a_crash_is_ended_by_a_prune_into_another_archive(path, tmp_path):
    first, second = tmp_path / "january.jsonl", tmp_path / "february.jsonl"
    crash_after_the_archive(path, first)
    with Recorder(path) as recorder:
        recorder.prune(before=stamp(40), archive=second)
    everything = [int(document["id"]) - 1 for document in archived(first) + archived(second)]
    assert sorted(everything) == sorted(finished(range(40)))


def test_an_archive_that_is_gone_after_a_crash_is_told(path, tmp_path, caplog):
    first, second = tmp_path / "january.jsonl", tmp_path / "february.jsonl"
    crash_after_the_archive(path, first)
    first.rename(tmp_path / "moved.jsonl")
    with Recorder(path) as recorder:
        recorder.prune(before=stamp(30), archive=second)
    assert "may be archived a second time" in caplog.text
    assert {int(document["id"]) - 1 for document in archived(second)} == finished(range(30))


def test_what_someone_else_wrote_behind_a_crash_is_left_alone(path, tmp_path):
    archive = tmp_path / "old.jsonl"
    crash_after_the_archive(path, archive)
    with archive.open("a") as out:
        out.write('{"id": "2", "status": "SUCCESS"}\nno json\n{"mine": 1}\n')
    with Recorder(path) as recorder:
        recorder.prune(before=stamp(30), archive=archive)
    lines = archive.read_text().splitlines()
    assert lines[-2:] == ["no json", '{"mine": 1}']
    assert set(left(path)) == set(range(60)) - finished(range(30))


# --- the recorder's own pruning


def test_a_recorder_prunes_by_itself_after_a_finish(path, tmp_path):
    now = FIRST + 60 * DAY
    retention = Retention(days=30, keep_last=1, archive=tmp_path / "old.jsonl", every_seconds=3600)
    with Recorder(path, clock=lambda: now, retention=retention) as recorder:
        assert len(left(path)) == 60
        with recorder.run("a"):
            pass
        assert set(left(path)) == (set(range(60)) - finished(range(30))) | {60}
        assert len(archived(tmp_path / "old.jsonl")) == len(finished(range(30)))


def test_a_pass_pauses_when_its_time_is_up_and_goes_on_later(path, monkeypatch):
    monkeypatch.setattr("jobstore.recording.prune.SCANNED", 10)
    now = FIRST + 60 * DAY
    with Recorder(path, clock=lambda: now, retention=Retention(days=0, budget_seconds=1e-9)) as recorder:
        keeper = recorder._keeper
        assert keeper is not None
        sizes: list[int] = []
        while not sizes or keeper._chooser is not None:
            keeper._due = 0.0
            keeper.prune_if_due()
            sizes.append(len(left(path)))
    assert len(sizes) > 3
    assert sizes == sorted(sizes, reverse=True)
    assert set(left(path)) == set(range(60)) - finished(range(60))


def test_a_pass_is_not_due_before_its_time(path):
    now = FIRST + 60 * DAY
    with Recorder(path, clock=lambda: now, retention=Retention(days=59, every_seconds=3600)) as recorder:
        for _ in range(2):
            with recorder.run("a"):
                pass
            assert set(left(path)) >= finished(range(1, 60))
            now += 30 * DAY


def test_what_fails_in_it_does_not_reach_the_scheduler(path, tmp_path, caplog):
    retention = Retention(days=1, archive=tmp_path / "no" / "old.jsonl")
    with Recorder(path, retention=retention) as recorder, recorder.run("a"):
        pass
    assert "could not prune" in caplog.text
    assert len(left(path)) == 61


@pytest.mark.parametrize("given", [{}, {"days": -1}, {"days": "1"}, {"days": True}, {"keep_last": -1}])
def test_a_retention_that_breaks_a_rule_is_refused_at_once(path, given):
    with pytest.raises(InvalidParameter):
        Recorder(path, retention=Retention(**given))


def test_an_emergency_gives_up_the_reserve(path, recorder):
    reserve_path(path).write_bytes(b"\0" * 100)
    assert recorder.prune(emergency=True) == 0
    assert not reserve_path(path).exists()
    assert recorder.prune(emergency=True, before=stamp(30)) == len(finished(range(30)))
    assert upkeep.check(path) == []


def test_a_store_worth_pruning_has_a_reserve(tmp_path):
    path = tmp_path / "large.db"
    runs = [run(number % 60, id=number + 1, result={"x": "y" * 2000}) for number in range(800)]
    jobstore.load(path, {"jobs": JOBS, "executions": runs})
    assert path.stat().st_size > 1024 * 1024
    reserve_path(path).write_bytes(b"half")  # of a process that was killed while it made one
    Recorder(path).close()
    assert reserve_path(path).stat().st_size == 4 * 1024 * 1024


# --- interrupted runs


START_AND_DIE = """
import os, sys
from jobstore.recording.recorder import Recorder
recorder = Recorder(sys.argv[1])
number = recorder.enqueue("a")
recorder.start(number)
recorder.enqueue("a")
print(number, flush=True)
os._exit(0)
"""


def test_a_run_whose_process_is_gone_is_a_failure_with_a_reason(path):
    made = subprocess.run([sys.executable, "-c", START_AND_DIE, str(path)], check=True, capture_output=True, text=True)
    number = made.stdout.strip()
    with Recorder(path) as recorder:
        mine = recorder.enqueue("b")
        recorder.start(mine)
        recorder.close_interrupted(grace_seconds=3_000_000_000)
    documents = {document["id"]: document for document in jobstore.dump(path)["executions"]}
    assert documents[number]["status"] == "FAILURE"
    assert documents[number]["completed_at"] is not None
    assert documents[number]["duration_ms"] is not None
    assert "is gone" in documents[number]["error"]
    waiting = documents[str(int(number) + 1)]
    assert (waiting["status"], waiting["started_at"], waiting["duration_ms"]) == ("FAILURE", None, None)
    assert "which enqueued it, is gone" in waiting["error"]
    assert documents[mine]["status"] == "RUNNING"
    assert upkeep.check(path) == []


def test_a_run_past_its_time_and_the_grace_is_a_time_out(tmp_path):
    path = tmp_path / "jobs.db"
    now = [FIRST]
    with Recorder(path, clock=lambda: now[0]) as recorder:
        recorder.save_job("limited", job_type="t", job_category="c", timeout_seconds=60)
        recorder.save_job("free", job_type="t", job_category="c")
        numbers = [recorder.enqueue(name) for name in ("limited", "free")]
        for number in numbers:
            recorder.start(number)
        now[0] = FIRST + timedelta(seconds=70)
        assert recorder.close_interrupted(grace_seconds=10) == 0
        assert recorder.close_interrupted(grace_seconds=9) == 1
        assert recorder.close_interrupted(grace_seconds=0) == 0
        recorder.finish(numbers[1], "SUCCESS")
    limited, free = jobstore.dump(path)["executions"]
    assert (limited["status"], limited["duration_ms"], free["status"]) == ("TIMEOUT", 70_000, "SUCCESS")
    assert "70 s after its start; its job allows 60 s" in limited["error"]


def test_a_true_end_replaces_the_guess_and_is_the_last_word(tmp_path):
    path = tmp_path / "jobs.db"
    now = [FIRST]
    with Recorder(path, clock=lambda: now[0]) as recorder:
        recorder.save_job("limited", job_type="t", job_category="c", timeout_seconds=60)
        with recorder.run("limited") as run:
            now[0] = FIRST + timedelta(seconds=200)
            assert recorder.close_interrupted() == 1
            now[0] = FIRST + timedelta(seconds=300)
            run.result = 3
        (document,) = jobstore.dump(path)["executions"]
        assert (document["status"], document["duration_ms"]) == ("SUCCESS", 300_000)
        assert (document["error"], document["result"]) == (None, 3)
        with pytest.raises(Conflict, match="already SUCCESS"):
            recorder.finish(run.execution_id, "FAILURE")
    assert upkeep.check(path) == []


def test_a_start_replaces_the_guess_about_a_waiting_run(path, recorder):
    number = recorder.enqueue("a", worker_id="web-1")
    recorder._writer._connection.execute("UPDATE execution SET enqueued_by = NULL WHERE id = ?", (number,))
    assert recorder.close_interrupted(worker_id="web-1", grace_seconds=3_000_000_000) == 1
    recorder.start(number)
    with pytest.raises(Conflict, match="already RUNNING"):
        recorder.start(number)
    document = next(one for one in jobstore.dump(path)["executions"] if one["id"] == number)
    assert (document["status"], document["completed_at"], document["error"]) == ("RUNNING", None, None)
    recorder.finish(number, "SUCCESS")
    assert upkeep.check(path) == []


def test_a_block_that_somebody_else_ended_does_not_fail(path, recorder, caplog):
    with recorder.run("a") as run:
        recorder.finish(run.execution_id, "TIMEOUT")
    assert "could not be recorded" in caplog.text
    document = next(one for one in jobstore.dump(path)["executions"] if one["id"] == run.execution_id)
    assert document["status"] == "TIMEOUT"


def test_a_loaded_run_has_no_process_and_only_its_time_counts(path, recorder):
    running = {day for day in range(60) if RUNS[day]["status"] == "RUNNING"}
    assert recorder.close_interrupted() == len(running)
    assert all(jobstore.dump(path)["executions"][day]["status"] == "TIMEOUT" for day in running)


@pytest.mark.parametrize("grace", [-1, 1.5, "60", None, True])
def test_the_grace_is_seconds(recorder, grace):
    with pytest.raises(InvalidRecord, match="grace_seconds must be"):
        recorder.close_interrupted(grace_seconds=grace)


# --- export

FILTERS: list[dict[str, Any]] = [
    {}, {"job_id": "a"}, {"job_id": 2}, {"search": "fail"}, {"search": "A"}, {"status": ["FAILURE", "PENDING"]},
    {"status": "TIMEOUT", "job_id": "b"}, {"after": stamp(20)}, {"before": stamp(20)}, {"trace_id": "t3"},
    {"trace_id": "t3", "search": "success"}, {"after": stamp(10), "before": FIRST + 12 * DAY, "search": "b"},
    {"search": "nothing like it"},
]  # fmt: skip


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("walks", [0, 250])
def test_an_export_has_what_the_list_has_oldest_first(path, filters, walks, monkeypatch):
    monkeypatch.setattr("jobstore.transfer.export.MOST_WALKS", walks)
    monkeypatch.setattr("jobstore.transfer.export.CHUNK", 7)
    with jobstore.open(path) as store:
        asked = store.get_job_executions if "job_id" in filters else store.list_job_executions
        expected = asked(**filters, limit=1000, order_desc=False)["data"]
        assert list(iter_executions(store, **filters)) == expected
        out = io.StringIO()
        told: list[int] = []
        assert export(store, out, progress=told.append, **filters) == len(expected) == sum(told)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == expected


def test_csv_has_a_header_the_fields_and_json_in_the_two_that_hold_any_value(path):
    out = io.StringIO(newline="")
    with jobstore.open(path) as store:
        assert export(store, out, form="csv", before=stamp(4)) == 5
        documents = list(iter_executions(store, before=stamp(4)))
    rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    assert tuple(rows[0]) == EXECUTION_FIELDS
    assert json.loads(rows[0]["result"]) == {"n": 0}
    for row, document in zip(rows, documents, strict=True):
        for field in set(EXECUTION_FIELDS) - {"result", "parameters_snapshot"}:
            assert row[field] == ("" if document[field] is None else str(document[field]))  # type: ignore[literal-required]


def test_csv_cells_survive_whatever_is_in_them_and_excel_runs_none(tmp_path):
    nasty = ["a\rb", "a\nb", 'say "x"', "=cmd|' /C calc'!A0", "+1", "-1", "@x", "\tx", "\r", ",", "'", "", "界"]
    runs = [
        {"job_name": "a", "job_id": "1", "status": "FAILURE", "error": error, "created_at": stamp(1)} for error in nasty
    ]
    jobstore.load(tmp_path / "nasty.db", {"executions": runs})
    with jobstore.open(tmp_path / "nasty.db") as store:
        plain, excel = io.StringIO(newline=""), io.StringIO(newline="")
        export(store, plain, form="csv")
        export(store, excel, form="excel")
    rows = list(csv.DictReader(io.StringIO(plain.getvalue(), newline="")))
    assert [row["error"] for row in rows] == nasty
    assert excel.getvalue().startswith("\ufeffid,job_id")
    rows = list(csv.DictReader(io.StringIO(excel.getvalue().removeprefix("\ufeff"), newline="")))
    assert [row["error"] for row in rows] == [f"'{each}" if each[:1] in "=+-@\t\r" and each else each for each in nasty]


def test_an_export_refuses_before_it_writes(path):
    out = io.StringIO()
    with jobstore.open(path) as store:
        with pytest.raises(InvalidParameter, match="form must be"):
            export(store, out, form="xml")
        with pytest.raises(InvalidParameter, match="after must not be later"):
            export(store, out, form="csv", after=stamp(2), before=stamp(1))
        with pytest.raises(NotFound, match=r"^Job not found: nobody$"):
            export(store, out, form="csv", job_id="nobody")
    assert out.getvalue() == ""


def test_an_export_is_one_snapshot_while_others_record_and_prune(path, recorder):
    with jobstore.open(path) as store:
        documents = iter_executions(store)
        first = next(documents)
        recorder.prune(before=stamp(50))
        recorder.enqueue("a")
        assert [first["id"], *(document["id"] for document in documents)] == [str(number + 1) for number in range(60)]


def test_others_may_record_while_a_prune_goes_on(tmp_path):
    path = tmp_path / "jobs.db"
    jobstore.load(path, {"jobs": JOBS, "executions": [run(0, id=None, created_at=None) for _ in range(1000)]})
    recorded = []
    with Recorder(path) as recorder, Recorder(path) as other:
        is_over = threading.Event()

        def work() -> None:
            while not is_over.is_set():
                recorded.append(other.enqueue("a"))

        def wait(_deleted: int) -> None:
            until(lambda: bool(recorded))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            recorder.prune(before="2026-01-02", progress=wait)
        finally:
            is_over.set()
            thread.join()
    assert recorded
    assert {int(document["id"]) for document in jobstore.dump(path)["executions"]} == {
        int(number) for number in recorded
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"every_seconds": "3600"}, {"every_seconds": None}, {"every_seconds": float("nan")}, {"every_seconds": True},
        {"budget_seconds": "x"}, {"budget_seconds": -1}, {"archive": 5}, {"archive": ""}, {"days": "90"},
        {"days": None, "keep_last": None}, {"keep_last": -1},
    ],
)  # fmt: skip
def test_a_retention_that_could_not_prune_is_refused_at_once(path, wrong):
    with pytest.raises(jobstore.InvalidParameter, match=r"must be|needs days or keep_last"):
        jobstore.Recorder(path, retention=Retention(**{"days": 90, **wrong}))


def test_a_retention_is_no_dict(path):
    with pytest.raises(jobstore.InvalidParameter, match=r"retention must be a jobstore.Retention"):
        jobstore.Recorder(path, retention={"days": 1})  # type: ignore[arg-type]
