"""Iterators over a store: whatever becomes of them, nothing of the store stays held, and nobody loses anything."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

import jobstore
from jobstore.language.errors import StoreBusy
from jobstore.storage.limits import LOG_PAGES
from jobstore.transfer.export import CHUNK, iter_executions

ROOT = Path(__file__).parents[2]
JOB = {"name": "a", "job_type": "kline", "job_category": "sync"}


def made(path: Path, count: int) -> Path:
    runs = [{"job_name": "a", "status": "SUCCESS", "started_at": f"2026-01-01T00:00:00.{n:06}Z"} for n in range(count)]
    jobstore.load(path, {"jobs": [JOB], "executions": runs})
    return path


def test_an_iterator_that_is_left_lets_the_log_begin_anew(quick_folder: Path) -> None:
    path = made(quick_folder / "jobs.db", CHUNK + 10)
    with jobstore.open(path) as store, jobstore.Recorder(path) as recorder:
        left = iter_executions(store)
        next(left)
        longest = 0
        for _ in range(1_500):
            number = recorder.enqueue("a", parameters={"text": "x" * 10_000})
            recorder.start(number)
            longest = max(longest, Path(f"{path}-wal").stat().st_size)
        assert longest < 4 * LOG_PAGES * 4096
        assert len(list(left)) == CHUNK + 9


def test_an_iterator_leaves_no_connection_open(quick_folder: Path) -> None:
    path = made(quick_folder / "jobs.db", CHUNK + 10)
    with jobstore.open(path) as store:
        store.list_jobs()
        gc.collect()  # what another test left is closed now, not between the two looks
        before = sorted(Path("/dev/fd").iterdir())
        iterators = [iter_executions(store) for _ in range(5)]
        for iterator in iterators:
            next(iterator)
        assert sorted(Path("/dev/fd").iterdir()) == before


def test_each_that_matches_all_the_while_comes_once_whatever_others_do(quick_folder: Path) -> None:
    path = made(quick_folder / "jobs.db", 3 * CHUNK)
    with jobstore.open(path) as store, jobstore.Recorder(path) as recorder:
        waiting = [recorder.enqueue("a", at="2026-01-01T00:00:00.000001Z") for _ in range(20)]
        begun = iter_executions(store)
        came = [next(begun)["id"] for _ in range(CHUNK)]
        recorder.prune(before="2026-01-01T00:00:00.000100Z")
        for number in waiting:
            recorder.start(number, at="2026-06-01")
        late = recorder.enqueue("a")
        came += [document["id"] for document in begun]
    assert len(came) == len(set(came))
    assert set(came) == {str(number) for number in range(1, 3 * CHUNK + 1)} | set(waiting)
    assert late not in came


def test_an_iterator_says_that_another_file_was_put_in_place(quick_folder: Path) -> None:
    path, other = made(quick_folder / "jobs.db", 2 * CHUNK), made(quick_folder / "other.db", 2 * CHUNK)
    with jobstore.open(path) as store:
        begun = iter_executions(store)
        next(begun)
        other.rename(path)
        with pytest.raises(StoreBusy, match="was replaced while its executions were read"):
            list(begun)
        assert len(list(iter_executions(store))) == 2 * CHUNK


def test_an_iterator_says_that_a_file_was_put_in_place_before_its_first_document(quick_folder: Path) -> None:
    path, other = made(quick_folder / "jobs.db", 2), made(quick_folder / "other.db", 2)
    with jobstore.open(path) as store:
        begun = iter_executions(store)
        other.rename(path)
        with pytest.raises(StoreBusy):
            next(begun)


FORKED = """
import io, os, sys, json, subprocess
import jobstore
from jobstore.transfer.export import export, iter_executions
from jobstore.transfer.dump import dump_lines

path, how = sys.argv[1:]
store, recorder = jobstore.open(path), jobstore.Recorder(path)
go_in, go_out = os.pipe()

def child():
    with recorder.run("a"):
        pass
    os.read(go_in, 1)  # until the parent has closed everything
    said = []
    for _ in range(5):
        said.append(recorder.enqueue("a"))
        sys.stdout.write(said[-1] + "\\n")
        sys.stdout.flush()
    os._exit(0)

def fork():
    global pid
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}")
        finally:
            os._exit(1)

pid = None
if how == "iterator":
    begun = iter_executions(store)
    next(begun)
    fork()
    list(begun)
elif how == "dump":
    begun = dump_lines(path)
    for _ in range(700):
        next(begun)
    fork()
    list(begun)
else:
    class Out(io.StringIO):
        def write(self, text):
            if pid is None:
                fork()
            return super().write(text)
    export(store, Out())
store.close()
recorder.close()
# Another process comes and goes: as the last one it would remove a log that it does not know to be in use.
subprocess.run([sys.executable, "-c", "import sys, jobstore; jobstore.Recorder(sys.argv[1]).close()", path], check=True)
os.write(go_out, b"x")
assert os.waitpid(pid, 0)[1] == 0
subprocess.run([sys.executable, "-c", "import sys, jobstore; jobstore.Recorder(sys.argv[1]).close()", path], check=True)
"""


@pytest.mark.parametrize("how", ["iterator", "export", "dump"])
def test_a_child_that_is_forked_in_the_middle_of_an_export_loses_nothing(quick_folder: Path, how: str) -> None:
    path = made(quick_folder / "jobs.db", 3 * CHUNK)
    said = subprocess.run(
        [sys.executable, "-c", FORKED, str(path), how],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    acknowledged = said.stdout.split()
    assert len(acknowledged) == 5
    with jobstore.open(path) as store:
        assert set(acknowledged) <= {document["id"] for document in iter_executions(store)}
    assert jobstore.check(path) == []


BUSY = """
import os, sys, threading
import jobstore
from jobstore.storage import connection
from jobstore.transfer.backup import backup

connection.FORK_TIMEOUT_SECONDS = 0.05
path = sys.argv[1]
inside, done = threading.Event(), threading.Event()

def told(_):
    inside.set()
    done.wait(30)

thread = threading.Thread(target=backup, args=(path, path + ".copy"), kwargs={"progress": told})
thread.start()
inside.wait(30)
pid = os.fork()
if pid == 0:
    try:
        jobstore.Recorder(path)
    except jobstore.StoreUnreadable as error:
        sys.stdout.write(str(error))
        sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
done.set()
thread.join()
"""


def test_a_child_is_refused_a_file_that_a_thread_of_its_parent_was_copying(quick_folder: Path) -> None:
    path = made(quick_folder / "jobs.db", 10)
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUSY, str(path)],
        capture_output=True, check=False, cwd=ROOT, text=True, timeout=120,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "spawn instead of fork" in said.stdout
