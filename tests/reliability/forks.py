"""A process with threads that record and query forks again and again, and its children record and query too.

    python -m tests.reliability.forks FOLDER --forks 200 --threads 16

Prints the figures as JSON; any exception, and any child that hangs or fails, is a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import jobstore
from jobstore import store as stores
from jobstore.recording.recorder import Recorder
from jobstore.storage import connection, lock
from jobstore.transfer.backup import check

if TYPE_CHECKING:
    from jobstore.store import JobStore

CHILD_SECONDS = 120.0


def locks_of(pid: int) -> int:
    """How many locks the system knows this process to hold."""
    fields = (line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines())
    return sum(1 for field in fields if "->" not in field and field[4] == str(pid))


def work_in_child(recorder: Recorder, store: JobStore) -> None:
    """What a child does with what it inherited; its connections must be its own, and so their locks."""
    assert recorder._writer._connection is None, "a handle is shared"
    assert store.connection is None, "a handle is shared"
    with recorder.run("child") as run:
        found = store.get_job_executions("child", limit=1000)
        assert run.execution_id in {document["id"] for document in found["data"]}
    assert locks_of(os.getpid()) >= 2, "the connections of a child hold no locks"
    recorder.close()
    store.close()


def fork(recorder: Recorder, store: JobStore) -> None:
    """One child; raises if it fails or hangs."""
    pid = os.fork()
    if pid == 0:
        try:
            work_in_child(recorder, store)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}\n")
            sys.stderr.flush()
        finally:
            os._exit(1)
    deadline = time.monotonic() + CHILD_SECONDS
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            assert status == 0, f"the child failed: {status}"
            return
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            raise AssertionError("the child hung")
        time.sleep(0.0005)


def main(arguments: list[str]) -> None:
    """Forks while threads record."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: that is the point here
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forks", type=int, default=200)
    parser.add_argument("--threads", type=int, default=16)
    options = parser.parse_args(arguments)
    path = options.folder / "forks.db"
    for module in (stores, connection, lock):
        vars(module)["FORK_TIMEOUT_SECONDS"] = 3600  # a fork goes on without a lock that it cannot have in time
    recorder = Recorder(path, timeout_seconds=120)
    for name in ("thread", "child"):
        recorder.save_job(name, job_type="t", job_category="c")
    store = jobstore.open(path)
    stop, recorded, failed = threading.Event(), [0] * options.threads, []

    def record(number: int) -> None:
        try:
            while not stop.is_set():
                with recorder.run("thread"):
                    store.list_job_executions(limit=1)
                recorded[number] += 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=record, args=(number,)) for number in range(options.threads)]
    for thread in threads:
        thread.start()
    for _ in range(options.forks):
        fork(recorder, store)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert min(recorded) > 0, "a thread was kept out"
    by_job = {name: store.job_stats(name)["by_status"]["SUCCESS"] for name in ("thread", "child")}
    assert by_job == {"thread": sum(recorded), "child": options.forks}, by_job
    recorder.close()
    assert check(path) == []
    sys.stdout.write(f"{json.dumps({'forks': options.forks, 'recorded': sum(recorded), 'fewest': min(recorded)})}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
