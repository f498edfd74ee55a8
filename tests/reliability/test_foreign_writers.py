"""Others who write to the file with SQLite alone: recorders wait for them, and the counters hold against them."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.storage import schema

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(quick_folder: Path) -> Path:
    path = quick_folder / "jobs.db"
    jobstore.load(
        path,
        {
            "jobs": [{"name": "sync", "job_type": "kline", "job_category": "sync"}],
            "executions": [{"job_name": "sync", "status": "SUCCESS", "started_at": "2026-01-15T08:00:00Z"}] * 3,
        },
    )
    return path


def test_nobody_comes_between_what_a_recorder_reads_and_what_it_writes(path: Path) -> None:
    """Before each statement of a transaction another connection tries to commit: it must find the file locked."""
    commits = [0]

    def scribble(_statement: str) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
            try:
                connection.execute("UPDATE setting SET value = value WHERE key = 'timezone'")
            except sqlite3.OperationalError:
                return
            commits[0] += 1

    with jobstore.Recorder(path) as recorder:
        with recorder._writer.held() as connection:
            connection.set_trace_callback(scribble)
        with recorder.run("sync"):
            pass
        with recorder._writer.held() as connection:
            connection.set_trace_callback(None)
    assert 0 < commits[0] <= 4  # before BEGIN and after COMMIT, in each of two transactions


def test_a_recorder_waits_for_a_foreign_writer_and_never_acts_on_what_it_has_overtaken(path: Path) -> None:
    """A transaction that first reads and then wants to write would be refused at once, whatever its timeout."""
    stop, commits = threading.Event(), [0]

    def scribble() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
            while not stop.is_set():
                with suppress(sqlite3.OperationalError):  # it does not wait, so that it comes in between
                    connection.execute("UPDATE setting SET value = value WHERE key = 'timezone'")
                    commits[0] += 1

    foreign = threading.Thread(target=scribble)
    deadline = time.monotonic() + 120
    with jobstore.Recorder(path, timeout_seconds=120) as recorder:
        foreign.start()
        try:
            runs = 0
            while runs < 200 or (commits[0] < 200 and time.monotonic() < deadline):
                with recorder.run("sync"):
                    runs += 1
        finally:
            stop.set()
            foreign.join()
    assert commits[0] >= 200
    assert jobstore.check(path) == []


@pytest.fixture
def changed(path: Path) -> Path:
    """The same after a change: a bulk load leaves none."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE job SET description = 'every hour'")
    return path


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO execution SELECT * FROM execution WHERE id = 2",
        "REPLACE INTO execution (id, name_id, status, effective_us, started_by, created_us) VALUES (2, 1, 0, 5, 1, 5)",
        "INSERT OR REPLACE INTO job SELECT * FROM job",
        "UPDATE OR REPLACE execution SET id = 1 WHERE id = 2",
        "UPDATE execution SET id = 77 WHERE id = 2",
        "UPDATE job_name SET name = 'other'",
        "DELETE FROM change",
    ],
)
def test_a_statement_that_would_go_past_the_counters_is_refused(changed: Path, statement: str) -> None:
    with closing(sqlite3.connect(changed, isolation_level=None)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    assert jobstore.check(changed) == []
    with jobstore.open(changed) as store:
        assert store.list_job_executions()["pagination"]["total"] == 3


def test_every_way_to_move_an_execution_keeps_the_counters_exact(path: Path) -> None:
    """By name, status, hour, day, duration, completion and creation, alone and together, there and back."""
    moves = ("name_id = 2", "status = 2", "effective_us = effective_us + 3600000000", "duration_ms = -7",
             "completed_us = effective_us", "created_us = created_us - 86400000000")  # fmt: skip
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO job_name (job_number, name, folded) VALUES (1, 'before', 'before')")
        for number in range(1, 1 << len(moves)):
            chosen = [move for bit, move in enumerate(moves) if number >> bit & 1]
            connection.execute(f"UPDATE execution SET {', '.join(chosen)} WHERE id = 2")
            assert jobstore.check(path) == [], chosen
            connection.execute(
                "UPDATE execution SET name_id = 1, status = 1, effective_us = e.effective_us, duration_ms = NULL,"
                " completed_us = NULL, created_us = e.created_us FROM execution AS e WHERE e.id = 1 AND execution.id = 2"
            )
        assert connection.execute("SELECT count(*) FROM name_tally WHERE runs = 0").fetchone() == (0,)
        connection.execute("DELETE FROM execution")
        for table in ("period_tally", "name_tally", "name_day_tally", "name_hour_tally"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_the_log_of_changes_stays_short(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for _ in range(schema.CHANGES_KEPT // 2 + schema.TRIMMED_EVERY):
            connection.execute("UPDATE execution SET duration_ms = coalesce(duration_ms, 0) + 1 WHERE id = 1")
        connection.execute("COMMIT")
        first, last, kept = connection.execute("SELECT min(seq), max(seq), count(*) FROM change").fetchone()
    assert last == schema.CHANGES_KEPT + 2 * schema.TRIMMED_EVERY
    assert first == last - kept + 1
    assert schema.CHANGES_KEPT <= kept < schema.CHANGES_KEPT + schema.TRIMMED_EVERY


def test_plain_statements_of_others_keep_the_counters_exact_for_those_who_read(path: Path) -> None:
    with jobstore.open(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert store.job_stats()["by_status"]["SUCCESS"] == 3
        connection.execute("UPDATE execution SET status = 0 WHERE id = 2")
        connection.execute("DELETE FROM execution WHERE id = 3")
        connection.execute(
            "INSERT INTO execution (name_id, status, effective_us, started_by, created_us) VALUES (1, 4, 5, 1, 5)"
        )
        stats = store.job_stats()["by_status"]
        assert stats == {"PENDING": 0, "RUNNING": 0, "SUCCESS": 1, "FAILURE": 1, "TIMEOUT": 1}
        assert [run["id"] for run in store.list_job_executions(search="timeout")["data"]] == ["4"]
    assert jobstore.check(path) == []


def test_a_reader_follows_a_job_whose_number_others_change(path: Path) -> None:
    with jobstore.open(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert store.list_job_states()["data"][0]["job_id"] == "1"
        assert store.list_jobs(search="sync")["pagination"]["total"] == 1
        connection.execute("UPDATE job SET number = 77")
        assert store.list_jobs(search="sync")["data"] == [store.get_job(77)]
        assert store.list_job_states()["data"][0]["job_id"] == "77"
