"""One store object shared by threads, and inherited by children of a fork."""

from __future__ import annotations

import gc
import json
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import jobstore
from tests.names import come_and_go
from tests.property import skewed
from tests.reliability import readers
from tests.reliability.scale import SOAK, figure

ROOT = Path(__file__).parents[2]
FORKS = figure(60, 200)
"""Each kind of child, of the store that is asked or of an idle one, with a child of its own or without, some times."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("readers") / "jobs.db"
    jobstore.load(path, skewed.world(2, count=800))
    return path


def test_a_process_forks_again_and_again_beside_sixteen_reading_threads(path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "tests.reliability.readers", str(path), "16", str(FORKS)],
        capture_output=True, check=True, cwd=ROOT, text=True, timeout=800 * max(1, SOAK),
    )  # fmt: skip
    found = json.loads(said.stdout)
    assert found["exits"] == [0] * FORKS
    assert found["wrong"] == []
    assert found["alive"] == 0
    assert min(found["asked"]) > 0


def test_many_threads_get_the_same_answers_as_one(path: Path) -> None:
    with jobstore.open(path, clock=readers.at_noon) as store, ThreadPoolExecutor(16) as pool:
        expected = readers.answers(store)
        assert all(found == expected for found in pool.map(lambda _: readers.answers(store), range(40)))


def test_closing_while_others_read_ends_them_with_a_typed_error(path: Path) -> None:
    store = jobstore.open(path)
    ended: list[BaseException] = []
    begun = threading.Barrier(5)

    def ask() -> None:
        begun.wait()
        try:
            while True:
                store.list_job_executions()
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    store.close()
    for thread in threads:
        thread.join(timeout=120)
    assert [type(error) for error in ended] == [jobstore.StoreUnreadable] * 4
    assert "has been closed" in str(ended[0])


def test_closing_twice_is_nothing_and_a_closed_store_says_so(path: Path) -> None:
    store = jobstore.open(path)
    store.close()
    store.close()
    with pytest.raises(jobstore.StoreUnreadable, match="closed; open it again"):
        store.get_job(1)


def test_a_store_that_is_let_go_gives_its_files_back(path: Path) -> None:
    before = len(readers.open_files(path))
    for _ in range(20):
        store = jobstore.open(path)
        store.get_job(1)
        store.close()
    for _ in range(20):
        with jobstore.open(path) as store:
            store.get_job(1)
    del store
    gc.collect()
    assert len(readers.open_files(path)) == before


def test_a_reader_keeps_no_transaction_open_between_queries(path: Path) -> None:
    """Or the write-ahead log could not be brought back into the file, and would grow."""
    with jobstore.open(path) as store:
        store.list_job_executions()
        with pytest.raises(jobstore.NotFound):
            store.get_job("nothing of that name")
        assert store.connection is not None
        assert not store.connection.in_transaction


def test_the_log_is_emptied_while_a_reader_stands_by(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with jobstore.Recorder(path) as recorder, jobstore.open(path) as store:
        recorder.save_job("sync", job_type="kline", job_category="sync")
        for _ in range(30):
            with recorder.run("sync"):
                pass
            store.list_job_executions()
        with recorder._writer.held() as connection:
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def test_a_reader_that_fell_behind_the_change_log_counts_anew(tmp_path: Path) -> None:
    """The log keeps the newest changes alone: what a reader missed cannot be added up, and must not be."""
    with jobstore.Recorder(tmp_path / "jobs.db") as recorder:
        recorder.save_job("poll", job_type="t", job_category="c", interval_seconds=60)
        with jobstore.open(tmp_path / "jobs.db") as store:
            assert store.list_job_executions(search="poll")["pagination"]["total"] == 0
            for _ in range(3):
                with recorder.run("poll"):
                    pass
            connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
            connection.execute("DELETE FROM change WHERE seq < (SELECT max(seq) FROM change)")  # as time does
            connection.close()
            assert store.list_job_executions(search="poll")["pagination"]["total"] == 3
            assert store.list_job_executions(status="SUCCESS")["pagination"]["total"] == 3
            assert store.job_stats("poll")["runs"] == 3


def test_a_long_query_over_one_file_keeps_no_recorder_from_another(tmp_path, monkeypatch):
    monkeypatch.setattr("jobstore.store.FORK_TIMEOUT_SECONDS", 3600)
    jobstore.Recorder(tmp_path / "one.db").close()
    inside, over = threading.Event(), threading.Event()

    def long(_connection: object, _memory: object) -> None:
        inside.set()
        over.wait()

    with jobstore.open(tmp_path / "one.db") as store, ThreadPoolExecutor(2) as pool:
        asked = pool.submit(store.read, long)
        try:
            assert inside.wait(60)
            pool.submit(lambda: jobstore.Recorder(tmp_path / "other.db").close()).result(60)
        finally:
            over.set()
        asked.result(60)


def test_a_name_that_came_and_went_between_two_looks_is_no_damage(tmp_path):
    with jobstore.Recorder(tmp_path / "jobs.db") as recorder, jobstore.open(tmp_path / "jobs.db") as store:
        come_and_go(store, recorder)


@pytest.mark.parametrize("left", [0, 1])
def test_a_process_without_descriptors_is_told_so_and_goes_on_with_what_it_has_open(path: Path, left: int) -> None:
    code = f"""
import os, resource, jobstore
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
store, taken = jobstore.open({str(path)!r}), []
store.list_jobs()
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    for _ in range({left}):
        os.close(taken.pop())
try:
    jobstore.open({str(path)!r})
except jobstore.StoreUnreadable as error:
    print(error)
store.list_jobs()
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=120).stdout
    assert said == f"{path} cannot be opened: Too many open files; close some, or raise the limit (ulimit -n)\n"
