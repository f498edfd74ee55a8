"""Threads that read through one store while their process forks; run as a process of its own, since it may hang.

``python -m tests.reliability.readers STORE THREADS FORKS`` prints one JSON line of what happened.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jobstore
from jobstore import store as stores
from jobstore.storage import connection, lock

ANSWERS_WRONG, HANDLE_SHARED, RAISED = 3, 4, 5


def at_noon() -> datetime:
    """A clock that stands still, or answers would differ by the next run."""
    return datetime(2026, 1, 15, 12, tzinfo=UTC)


def answers(store: jobstore.JobStore) -> list[Any]:
    """What the store says now, of everything."""
    return [
        store.list_jobs(order_by="created_at"),
        store.get_job(1),
        store.list_job_executions(search="sync", offset=300),
        store.get_job_executions(1),
        store.job_stats(),
        store.list_job_states(),
        store.execution_histogram(1),
    ]


def open_files(path: Path) -> list[str]:
    """The descriptors of this process that lead to the store or to what lies beside it."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # the one that listed the folder
            continue
        if target.startswith(str(path)):
            found.append(target)
    return found


def in_child(store: jobstore.JobStore, expected: list[Any], *, again: bool) -> int:
    """What a child finds: nothing of the parent's, and the same answers; then it may have a child itself."""
    try:
        if open_files(store.path):
            return HANDLE_SHARED
        if answers(store) != expected:
            return ANSWERS_WRONG
        return fork(store, expected, again=False) if again else 0
    except BaseException:
        return RAISED


def fork(store: jobstore.JobStore, expected: list[Any], *, again: bool) -> int:
    """The exit code of a child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that of forking beside threads: what is tested here
        pid = os.fork()
    if pid == 0:
        os._exit(in_child(store, expected, again=again))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(path: Path, threads: int, forks: int) -> None:
    """Threads ask without a pause; the main thread forks."""
    for module in (stores, connection, lock):
        vars(module)["FORK_TIMEOUT_SECONDS"] = 3600  # a fork goes on without a lock that it cannot have in time
    stop = threading.Event()
    wrong: list[str] = []
    asked = [0] * threads
    with jobstore.open(path, clock=at_noon) as store, jobstore.open(path, clock=at_noon) as idle:
        expected = answers(store)

        def ask(number: int) -> None:
            while not (asked[number] and stop.is_set()):
                try:
                    if answers(store) != expected:
                        wrong.append("another answer")
                except BaseException as error:
                    wrong.append(repr(error))
                    return
                asked[number] += 1

        running = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(threads)]
        for thread in running:
            thread.start()
        exits = [fork(idle if turn % 5 == 0 else store, expected, again=turn % 4 == 0) for turn in range(forks)]
        stop.set()
        for thread in running:
            thread.join(timeout=120)
        alive = sum(thread.is_alive() for thread in running)
    sys.stdout.write(json.dumps({"exits": exits, "wrong": wrong, "asked": asked, "alive": alive}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
