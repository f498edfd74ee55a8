"""A writer that lives, ends or dies beside a store, and a reader who is another user. Each is a process of its own.

``python -m tests.reliability.strangers`` takes lines of JSON and forks: ``["write", STORE]`` records and says "ready",
``["end", "close"]`` or ``["end", "die"]`` ends that writer, and ``["read", STORE, UID]`` gives up its rights, asks, and
prints what it got as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import jobstore
import jobstore.store  # all of it, before the user changes to one who may not read the interpreter's folders

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 25


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write(path: Path, orders: int) -> None:
    """Records runs and stays; "close" ends as it should, "die" is kill -9."""
    recorder = jobstore.Recorder(path)
    recorder.save_job("sync", job_type="kline", job_category="sync")
    for _ in range(RUNS):
        with recorder.run("sync"):
            pass
    say("ready")
    if os.read(orders, 10) == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    recorder.close()


def read(path: Path, user: int) -> None:
    """What a user without rights is told: how many runs there are, or the code and the message."""
    path.as_uri()  # which imports late in Python 3.13
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    try:
        with jobstore.open(path) as store:
            page = store.list_job_executions(search="SUCCESS", limit=1000)
            said = {"total": page["pagination"]["total"], "rows": len(page["data"])}
    except jobstore.JobStoreError as error:
        said = {"code": error.code, "message": str(error)}  # type: ignore[dict-item]
    say(json.dumps(said))


def forked(work: Callable[[], None]) -> int:
    """A child that does the work; its number."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def warm_up() -> None:
    """Imports all that is imported late, which users without rights may not read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.db"
        with jobstore.Recorder(path) as recorder, jobstore.open(path) as store:
            recorder.save_job("sync", job_type="kline", job_category="sync")
            with recorder.run("sync"):
                pass
            store.list_job_executions(search="SUCCESS")


def main() -> None:
    """One child for each line, but for the writer's end."""
    warm_up()
    writer, orders = 0, -1
    while line := sys.stdin.readline():
        call, *given = json.loads(line)
        if call == "write":
            reading, orders = os.pipe()
            writer = forked(lambda: write(Path(given[0]), reading))  # noqa: B023 - the child runs at once
            os.close(reading)
        elif call == "end":
            os.write(orders, given[0].encode())
            os.close(orders)
            os.waitpid(writer, 0)
            say("ended")
        else:
            os.waitpid(forked(lambda: read(Path(given[0]), given[1])), 0)  # noqa: B023 - the child runs at once


if __name__ == "__main__":
    main()
