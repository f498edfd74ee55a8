"""What a mirror has to record while the store cannot be written, the program ends, or it forks."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.integrations import journal as journal_module
from jobstore.integrations.journal import Journal, wait_for
from jobstore.language.errors import Conflict
from tests.waiting import LONG_SECONDS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def recorder(tmp_path):
    with jobstore.Recorder(tmp_path / "jobs.db", timeout_seconds=0.1) as made:
        made.save_job("job", job_type="t", job_category="c")
        yield made


def noted(seen: list[int], number: int, _recorder: jobstore.Recorder) -> None:
    seen.append(number)


def count(path: Path) -> int:
    with jobstore.open(path) as store:
        return store.list_job_executions(limit=1)["pagination"]["total"]


def test_calls_are_carried_out_in_the_order_they_were_put(recorder):
    journal, seen = Journal(recorder), list[int]()
    for number in range(200):
        journal.put(partial(noted, seen, number))
    assert journal.flush(LONG_SECONDS)
    assert seen == list(range(200))


def test_many_threads_may_put_calls(recorder):
    journal = Journal(recorder)
    with ThreadPoolExecutor(8) as pool:
        futures = list(pool.map(lambda _: journal.put(lambda writer: writer.enqueue("job")), range(80)))
    assert all(wait_for(future, LONG_SECONDS) for future in futures)
    assert count(recorder.path) == 80


def test_while_the_store_is_busy_calls_wait_and_none_is_lost(recorder, caplog):
    journal = Journal(recorder)
    lock = sqlite3.connect(recorder.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    futures = [journal.put(lambda writer: writer.enqueue("job")) for _ in range(5)]
    assert not wait_for(futures[0], 0.6)
    lock.execute("ROLLBACK")
    lock.close()
    assert journal.flush(LONG_SECONDS)
    assert count(recorder.path) == 5
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_call_that_is_refused_is_told_to_the_log_and_the_next_is_carried_out(recorder, caplog):
    journal = Journal(recorder)
    journal.put(lambda writer: writer.enqueue("nobody"))
    journal.put(lambda _writer: 1 / 0)
    journal.put(lambda writer: writer.enqueue("job"))
    assert journal.flush(LONG_SECONDS)
    assert count(recorder.path) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert "Job not found: nobody" in caplog.text


def test_what_comes_beyond_the_bound_is_told_to_the_log(recorder, caplog, monkeypatch):
    monkeypatch.setattr(journal_module, "MOST_WAITING", 3)
    journal, gate = Journal(recorder), threading.Event()
    journal.put(lambda _writer: gate.wait(LONG_SECONDS))
    for _ in range(3):
        journal.put(lambda writer: writer.enqueue("job"))
    gate.set()
    assert journal.flush(LONG_SECONDS)
    assert count(recorder.path) == 2
    assert "was not recorded" in caplog.text


def test_a_call_that_was_cancelled_in_time_is_not_carried_out(recorder):
    journal, gate = Journal(recorder), threading.Event()
    journal.put(lambda _writer: gate.wait(LONG_SECONDS))
    late = journal.put(lambda writer: writer.enqueue("job"))
    assert not wait_for(late, 0.05)
    assert late.cancel()
    gate.set()
    assert journal.flush(LONG_SECONDS)
    assert count(recorder.path) == 0


def test_the_thread_ends_when_there_is_no_work_and_another_begins(recorder, monkeypatch):
    monkeypatch.setattr(Journal._work, "__defaults__", (0.01,))
    journal = Journal(recorder)
    for _ in range(3):
        assert wait_for(journal.put(lambda writer: writer.enqueue("job")), LONG_SECONDS)
        thread = journal._thread
        if thread is not None:
            thread.join(LONG_SECONDS)
    assert count(recorder.path) == 3


def test_a_closed_recorder_is_told_to_the_log(recorder, caplog):
    journal = Journal(recorder)
    recorder.close()
    assert wait_for(journal.put(lambda writer: writer.enqueue("job")), LONG_SECONDS)
    with pytest.raises(Conflict):
        recorder.enqueue("job")
    assert "is closed" in caplog.text


def test_a_forked_child_leaves_the_parents_calls_to_the_parent(recorder):
    journal, gate = Journal(recorder), threading.Event()
    journal.put(lambda _writer: gate.wait(LONG_SECONDS))
    journal.put(lambda writer: writer.enqueue("job"))
    child = os.fork()
    if child == 0:
        done = journal.flush(0) and wait_for(journal.put(lambda writer: writer.enqueue("job")), LONG_SECONDS)
        os._exit(0 if done else 1)
    _pid, status = os.waitpid(child, 0)
    gate.set()
    assert journal.flush(LONG_SECONDS)
    assert os.waitstatus_to_exitcode(status) == 0
    assert count(recorder.path) == 2


AT_THE_END = """
import atexit, sys, jobstore
from jobstore.integrations.journal import Journal
recorder = jobstore.Recorder(sys.argv[1])
journal = Journal(recorder)
atexit.register(lambda: [journal.put(lambda writer: writer.enqueue("job")) for _ in range(20)])
for _ in range(20):
    journal.put(lambda writer: writer.enqueue("job"))
"""


def test_a_program_that_ends_records_what_waits_first(recorder):
    subprocess.run([sys.executable, "-c", AT_THE_END, recorder.path], check=True, timeout=LONG_SECONDS)
    assert count(recorder.path) == 40


def test_a_call_that_a_call_makes_is_carried_out_at_once(recorder):
    """As an `on_finish` that enqueues a task: the journal's thread must not wait for itself."""
    journal = Journal(recorder)
    inner: list[bool] = []
    outer = journal.put(lambda _: inner.append(wait_for(journal.put(lambda writer: writer.enqueue("job")), 0)))
    assert wait_for(outer, LONG_SECONDS)
    assert inner == [True]


def test_after_a_wait_in_vain_nobody_waits_until_a_call_is_done(recorder):
    journal, gate = Journal(recorder), threading.Event()
    first = journal.put(lambda _: gate.wait())
    assert not journal.wait(first, 0.05)
    begun = time.monotonic()
    assert not journal.wait(first, LONG_SECONDS)
    assert time.monotonic() - begun < LONG_SECONDS / 2
    gate.set()
    assert wait_for(first, LONG_SECONDS)
    assert journal.wait(journal.put(lambda _: time.sleep(0.05)), LONG_SECONDS)


def test_what_would_end_a_thread_ends_no_journal(recorder):
    journal = Journal(recorder)
    journal.put(lambda _: sys.exit())
    assert wait_for(journal.put(lambda writer: writer.enqueue("job")), LONG_SECONDS)
    assert journal.flush(0)
