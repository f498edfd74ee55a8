"""A writer that lives, ends or dies beside a store, and a reader who is another user. Each is a process of its own.

``python -m tests.reliability.strangers write STORE`` records, says "ready", and does what it is told on stdin;
``... read STORE UID`` gives up its rights, asks, and prints what it got as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import jobstore
import jobstore.store  # all of it, before the user changes to one who may not read the interpreter's folders

RUNS = 25


def write(path: Path) -> None:
    """Records runs and stays; "close" ends as it should, "die" is kill -9."""
    recorder = jobstore.Recorder(path)
    recorder.save_job("sync", job_type="kline", job_category="sync")
    for _ in range(RUNS):
        with recorder.run("sync"):
            pass
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if sys.stdin.readline().strip() == "die":
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
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        read(Path(sys.argv[2]), int(sys.argv[3]))
