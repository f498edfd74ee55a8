"""Forks beside threads: what no thread may keep, and what no child may inherit; ``JOBSTORE_SOAK`` multiplies the forks."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

from tests.reliability.scale import SOAK, scaled
from tests.waiting import LONG_SECONDS

BEGIN = f"""
SECONDS = {LONG_SECONDS // 2}
FORKS = {scaled(40)}
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: that is the point here
sys.setswitchinterval(1e-6)
stop = threading.Event()

def beside(work):
    def again():
        while not stop.is_set():
            work()
    threads = [threading.Thread(target=again) for _ in range(2)]
    for thread in threads:
        thread.start()

def child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(SECONDS)
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0

def fork_beside(use, look, forks=FORKS):
    beside(use)
    try:
        for _ in range(forks):
            child(look)
    finally:
        stop.set()
"""


def run(code: str, *words: object) -> None:
    """Run a program that forks; whatever it says is a fault, also what Python ignores in a handler of forks."""
    command = [sys.executable, "-c", BEGIN + dedent(code), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_SECONDS * max(1, SOAK), check=False)
    assert not done.stdout + done.stderr, done.stdout + done.stderr
    assert done.returncode == 0


def test_each_fork_is_told_while_threads_add_others():
    run("""
        from jobstore.storage import forking

        class Holder(forking.Forkable):
            def __init__(self):
                self.told = []
            def before_fork(self):
                self.told.append("before")
            def after_fork_in_parent(self):
                self.told.append("parent")
            def after_fork_in_child(self):
                self.told.append("child")

        first = Holder()
        forking.tell_of_forks(first)
        beside(lambda: [forking.tell_of_forks(each) for each in [Holder() for _ in range(50)]])
        try:
            for number in range(FORKS):
                child(lambda: exec("assert first.told[-2:] == ['before', 'child']"))
                assert first.told == ["before", "parent"] * (number + 1)
        finally:
            stop.set()
    """)


def test_all_are_told_although_one_of_them_raises():
    run("""
        from jobstore.storage import forking

        class Holder(forking.Forkable):
            raises, told = False, ()
            def before_fork(self):
                self.told = ("before",)
                if self.raises:
                    raise KeyboardInterrupt
            def after_fork_in_parent(self):
                self.told = ("before", "after") if "before" in self.told else ()
                if self.raises:
                    raise KeyboardInterrupt
            after_fork_in_child = after_fork_in_parent

        holders = [Holder() for _ in range(20)]
        for holder in holders:
            forking.tell_of_forks(holder)
        holders[7].raises = True
        sys.unraisablehook = lambda _: None
        for _ in range(2):  # the second only if the first has let go
            child(lambda: exec("assert {holder.told for holder in holders} == {('before', 'after')}"))
            assert {holder.told for holder in holders} == {("before", "after")}
    """)


USERS = """
import jobstore
from jobstore import store as stores
from jobstore.storage import connection, forking, lock
from jobstore.storage.connection import Reading
from pathlib import Path
path = Path(sys.argv[1])
jobstore.Recorder(path, timeout_seconds=SECONDS).close()

def patience(seconds):
    for module in (stores, connection, forking, lock):
        module.FORK_TIMEOUT_SECONDS = seconds
    connection.READ_TIMEOUT_SECONDS = SECONDS
    connection.open_file.__defaults__ = (SECONDS,)

def descriptors():
    found = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return [name for name in found if name.startswith(str(path)) and not name.endswith(".lock")]
"""


def test_no_descriptor_of_a_store_crosses_a_fork(tmp_path):
    run(USERS + dedent("""
        patience(3600)  # a fork goes on without a lock that it cannot have in time

        shared, recorder = jobstore.open(path), jobstore.Recorder(path, timeout_seconds=SECONDS)

        def use():
            shared.list_jobs()
            recorder.save_job("backup", job_type="t", job_category="c")

        def look():
            assert descriptors() == []
            shared.list_jobs()
            with jobstore.open(path) as store:
                store.list_jobs()

        fork_beside(use, look)
    """), tmp_path / "jobs.db")  # fmt: skip


def test_a_child_never_uses_a_file_beside_an_inherited_connection(tmp_path):
    """Threads open stores at any moment, and drop some unclosed: no holder knows what a finalizer closes."""
    run(USERS + dedent("""
        patience(0.1)

        def use():
            jobstore.open(path).list_jobs()
            jobstore.Recorder(path, timeout_seconds=SECONDS)
            with Reading(path) as reading:
                reading.connection.execute("SELECT count(*) FROM job").fetchone()

        def look():
            inherited = descriptors()
            try:
                jobstore.open(path).close()
            except jobstore.StoreUnreadable:
                return
            assert inherited == []

        fork_beside(use, look)
    """), tmp_path / "jobs.db")  # fmt: skip


def test_a_child_is_refused_a_file_that_a_thread_was_reading(tmp_path):
    run(USERS + dedent("""
        patience(0.1)
        store, begun = jobstore.open(path), threading.Event()
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

        def ask(connection, _):
            connection.set_progress_handler(lambda: begun.set() or stop.is_set(), 1000)
            return connection.execute(endless).fetchone()

        def wait():
            try:
                store.read(ask)
            except jobstore.StoreError:
                assert stop.is_set()

        def look():
            for use in (store.list_jobs, lambda: jobstore.Recorder(path)):
                try:
                    use()
                except jobstore.StoreUnreadable:
                    continue
                raise AssertionError("not refused")
            store.close()

        thread = threading.Thread(target=wait)
        thread.start()
        begun.wait()
        try:
            child(look)
        finally:
            stop.set()
            thread.join()
    """), tmp_path / "jobs.db")  # fmt: skip


def test_signal_handlers_may_use_stores_and_fork_at_any_moment(tmp_path):
    run(USERS + dedent("""
        import itertools
        count = itertools.count()

        def handle(*_):
            with jobstore.open(path) as store:
                store.list_jobs()
            if next(count) % 20 == 0:
                child(lambda: None)
            again()

        def again():
            if not stop.is_set():
                signal.setitimer(signal.ITIMER_REAL, 0.0005)

        signal.signal(signal.SIGALRM, handle)
        shared = jobstore.open(path)
        beside(shared.list_jobs)
        again()
        try:
            while next(count) < 5 * FORKS:
                with jobstore.open(path) as store:
                    store.list_jobs()
            shared.list_jobs()
        finally:
            stop.set()
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
    """), tmp_path / "jobs.db")  # fmt: skip


@pytest.mark.parametrize("work", ["with captured_logs(): pass", "replace(LIST_JOBS).query({})"])
def test_a_child_never_waits_for_a_lock_that_a_thread_of_its_parent_held(work):
    run(f"""
        from dataclasses import replace
        from jobstore.language.parameters import LIST_JOBS
        from jobstore.recording.logs import captured_logs

        def use():
            for _ in range(20):
                {work}

        fork_beside(use, use, forks=2 * FORKS)
    """)


def test_a_child_does_not_keep_the_archive_that_its_parent_wrote_to(tmp_path):
    run("""
        import jobstore
        path, archive = sys.argv[1:]
        wait, go = os.pipe()
        recorder = jobstore.Recorder(path)
        recorder.save_job("backup", job_type="t", job_category="c")

        def live(_=None):
            if os.fork() == 0:
                os.close(go)
                os.read(wait, 1)
                os._exit(0)

        for fork in (live, None):
            for _ in range(10):
                with recorder.run("backup"):
                    pass
            assert recorder.prune(keep_last=1, archive=archive, progress=fork) > 0
        os.close(go)
        os.wait()
    """, tmp_path / "jobs.db", tmp_path / "archive.jsonl")  # fmt: skip


def test_a_child_does_not_keep_the_lock_of_the_tokens(tmp_path):
    run("""
        from jobstore.http.tokenfile import locked
        wait, go = os.pipe()
        with locked(sys.argv[1]):
            if os.fork() == 0:
                os.close(go)
                os.read(wait, 1)
                os._exit(0)
        signal.alarm(SECONDS)
        with locked(sys.argv[1]):
            pass
        os.close(go)
        os.wait()
    """, tmp_path / "tokens.json")  # fmt: skip
