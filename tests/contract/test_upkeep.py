"""Looking after a file: what check finds, and that a backup is the store of one moment."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.language.errors import Conflict, NotAStore, StoreNotFound, StoreUnreadable
from jobstore.recording.recorder import Recorder
from jobstore.transfer.backup import backup, check

if TYPE_CHECKING:
    from pathlib import Path

JOBS = [
    {"name": "a", "job_type": "kline", "job_category": "sync", "schedule": "0 * * * *", "parameters": {"x": 1}},
    {"name": "Straße", "job_type": "kline", "job_category": "sync", "interval_seconds": 60},
]
RUNS = [
    {"job_name": ("a", "Straße")[number % 2], "status": ("SUCCESS", "FAILURE", "RUNNING")[number % 3],
     "started_at": f"2026-01-{number % 28 + 1:02d}T0{number % 10}:00:00Z", "duration_ms": number or None,
     "result": {"n": number}, "worker_id": f"w{number % 4}", "parameters_snapshot": {"x": number % 2}}
    for number in range(200)
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    jobstore.load(tmp_path / "jobs.db", {"jobs": JOBS, "executions": RUNS})
    return tmp_path / "jobs.db"


def change(path: Path, *statements: str) -> None:
    """What someone else might do to the file, past its triggers."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)


def without_triggers(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    return [f"DROP TRIGGER {name}" for (name,) in names]


def test_a_sound_store_has_no_problems(path):
    told: list[int] = []
    assert check(path, progress=told.append) == []
    assert sum(told) == len(RUNS)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM execution WHERE id = 7", "The counter"),
        ("DELETE FROM execution WHERE id = 7", "The counters of names in hour"),
        ("UPDATE execution SET status = 2 WHERE id = 7", "of name_tally is"),
        ("UPDATE execution SET duration_ms = 999 WHERE id = 8", "of period_tally is"),
        ("UPDATE execution SET completed_us = 5 WHERE id = 8", "The counter"),
        ("DELETE FROM period_tally WHERE span = 0 AND period = (SELECT max(period) FROM period_tally WHERE span = 0)",
         "of period_tally is missing"),
        ("DELETE FROM name_tally WHERE name_id = 1", "of name_tally is missing"),
        ("UPDATE name_day_tally SET runs = runs + 1 WHERE name_id = 1", "The counter of name 1 on day"),
        ("DELETE FROM name_day_tally WHERE name_id = 1", "is missing"),
        ("DELETE FROM name_hour_tally WHERE name_id = 2", "The counters of names in hour"),
        ("INSERT INTO name_hour_tally VALUES (5, 1, 0, 1)", "The counters of names in hour 5"),
        ("INSERT INTO segment VALUES (4, x'00')", "The bitmaps 4 of the executions 0 to 65535 do not match"),
        ("UPDATE execution SET result = '{' WHERE id = 7", "Execution 7 has result that a recorder would not write"),
        ("UPDATE execution SET result = 'NaN' WHERE id = 7", "Execution 7 has result"),
        ("UPDATE execution SET parameters = replace(hex(zeroblob(100)), '0', '[') WHERE id = 7", "Execution 7 has parameters"),
        ("UPDATE execution SET error = CAST(x'ff' AS TEXT) WHERE id = 7", "Execution 7 has text that is not UTF-8"),
        ("UPDATE parameter_set SET parameters = 'x' WHERE parameter_set_id = 1", "Parameter set 1 has parameters"),
        ("UPDATE job SET parameters = 'x' WHERE number = 1", "Job 1 has parameters"),
        ("UPDATE job SET schedule = 'hourly' WHERE number = 1", "Job 1 has a schedule that cannot be computed"),
        ("UPDATE job SET folded = 'other' WHERE number = 2", "Job 2 cannot be found by search"),
        ("UPDATE job_name SET folded = 'other' WHERE name_id = 2", "Name 2 cannot be found by search"),
        ("UPDATE job SET max_instances = 0 WHERE number = 1", "The file is damaged: CHECK constraint failed in job"),
        ("UPDATE execution SET name_id = 99 WHERE id = 7", "refers to a missing row of job_name"),
        ("DELETE FROM worker WHERE worker_id = 1", "refers to a missing row of worker"),
        ("UPDATE execution SET started_by = 7 WHERE id = 1", "Execution 1 is not running"),
        ("UPDATE execution SET started_by = 7, status = 2 WHERE id = 1", "Execution 1 refers to a process that is not"),
        ("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'job'", "The table job would reuse a number"),
        ("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'execution'", "next one is 2"),
        ("UPDATE setting SET value = 'Mars' WHERE key = 'timezone'", "timezone must be"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_found(path, statement, words):
    change(path, *without_triggers(path), statement)
    problems = check(path)
    assert any(words in problem for problem in problems), problems


def test_many_problems_of_a_kind_are_counted(path):
    change(path, *without_triggers(path), "UPDATE execution SET result = '{'")
    problems = check(path)
    assert len(problems) < 60
    assert "... and 180 more of this kind" in problems


def test_a_file_that_is_damaged_is_a_problem_and_no_error(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(3, size // 4096, 2):
            file.seek(page * 4096 + 100)
            file.write(b"\xa5" * 2000)
    assert any("damaged" in problem for problem in check(path))


def test_what_is_no_store_is_an_error(tmp_path):
    with pytest.raises(StoreNotFound):
        check(tmp_path / "none.db")
    (tmp_path / "text").write_text("hello " * 1000)
    with pytest.raises(NotAStore):
        check(tmp_path / "text")


def test_a_backup_is_the_same_store(path, tmp_path):
    told: list[int] = []
    backup(path, tmp_path / "copy.db", progress=told.append)
    assert jobstore.dump(tmp_path / "copy.db") == jobstore.dump(path)
    assert check(tmp_path / "copy.db") == []
    assert sum(told) * 4096 == (tmp_path / "copy.db").stat().st_size
    with Recorder(tmp_path / "copy.db") as recorder:
        assert recorder.enqueue("a") == str(len(RUNS) + 1)


def test_a_backup_is_one_moment_while_others_record(path, tmp_path, monkeypatch):
    monkeypatch.setattr("jobstore.transfer.backup.PAGES_AT_ONCE", 1)
    recorded = []
    with Recorder(path) as recorder:
        backup(path, tmp_path / "copy.db", progress=lambda _: recorded.append(recorder.enqueue("a")))
    assert len(recorded) > 10
    assert len(jobstore.dump(tmp_path / "copy.db")["executions"]) == len(RUNS)
    assert check(tmp_path / "copy.db") == []
    assert len(jobstore.dump(path)["executions"]) == len(RUNS) + len(recorded)


def test_a_backup_of_what_is_still_in_the_log_is_whole(path, tmp_path):
    with Recorder(path) as recorder:
        number = recorder.enqueue("a")
        backup(path, tmp_path / "copy.db")
    assert jobstore.dump(tmp_path / "copy.db")["executions"][-1]["id"] == number


def test_a_backup_never_writes_over_a_file(path, tmp_path):
    taken = tmp_path / "copy.db"
    taken.write_bytes(b"mine")
    with pytest.raises(Conflict, match="already exists"):
        backup(path, taken)
    assert taken.read_bytes() == b"mine"
    with pytest.raises(Conflict):
        backup(path, path)
    with pytest.raises(StoreUnreadable, match="does not exist; create it first"):
        backup(path, tmp_path / "no" / "copy.db")
    with pytest.raises(StoreNotFound):
        backup(tmp_path / "none.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def test_a_backup_that_is_interrupted_leaves_nothing(path, tmp_path):
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    before = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        backup(path, tmp_path / "copy.db", progress=stop)
    assert {entry.name for entry in tmp_path.iterdir()} - before <= {"jobs.db-shm", "jobs.db-wal"}


def test_of_two_backups_to_one_place_one_is_refused(path, tmp_path):
    barrier = threading.Barrier(2)
    outcomes = []

    def copy() -> None:
        first = [True]

        def meet(_: int) -> None:
            if first.pop() if first else False:
                barrier.wait(120)

        try:
            backup(path, tmp_path / "copy.db", progress=meet)
            outcomes.append("copied")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=copy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["copied", "refused"]
    assert check(tmp_path / "copy.db") == []


def test_a_store_of_another_python_is_sound(path):
    """Another Unicode version: the next recorder folds the names again."""
    change(path, "UPDATE setting SET value = '1.0' WHERE key = 'unicode_version'")
    assert check(path) == []
