"""A disk that fills up under a recorder, and the way out of it.

    unshare --user --map-root-user --mount python -m tests.reliability.full_disk FOLDER MEBIBYTES

FOLDER becomes a file system of that size. Prints the figures as JSON; any exception is a finding.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jobstore
from jobstore.language.errors import StoreError, StoreFull
from jobstore.recording.recorder import Recorder
from jobstore.storage.sidefiles import reserve_path
from jobstore.transfer.backup import check

LARGE = {"text": "x" * 30_000}
FIRST_DAY = "2026-01-01T00:00:00Z"


def fill(recorder: Recorder, size: dict[str, str]) -> list[str]:
    """Records until the disk is full; the acknowledged ones."""
    acknowledged: list[str] = []
    while True:
        try:
            number = recorder.enqueue("j", at=FIRST_DAY, parameters=size)
            recorder.start(number, at=FIRST_DAY)
            recorder.finish(number, "SUCCESS", at=FIRST_DAY, result=size)
        except StoreFull:
            return acknowledged
        acknowledged.append(number)


def readable(path: Path, acknowledged: list[str]) -> None:
    """What was acknowledged can be read, also from a full disk."""
    with jobstore.open(path) as store:
        assert store.list_job_executions(status="SUCCESS")["pagination"]["total"] == len(acknowledged)
        newest = store.list_job_executions(limit=1, order_by="id")["data"][0]
        assert int(newest["id"]) >= int(acknowledged[-1])
        assert store.get_job("j")["name"] == "j"


def outcome(call: Any) -> str:
    """What came of a call that may fail on a full disk, but only in one way."""
    try:
        call()
    except StoreFull:
        return "full"
    return "done"


def main(folder: Path, mebibytes: str) -> None:
    """Fills, reads, prunes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)], check=True)
    path = folder / "jobs.db"
    with Recorder(path) as recorder:
        recorder.save_job("j", job_type="t", job_category="c")
        for _ in range(40):
            recorder.finish(
                recorder.enqueue("j", at=FIRST_DAY, parameters=LARGE), "SUCCESS", at=FIRST_DAY, result=LARGE
            )
    acknowledged = [run["id"] for run in jobstore.dump(path)["executions"]]
    with Recorder(path) as recorder:
        assert reserve_path(path).exists(), "no reserve was made"
        acknowledged += fill(recorder, LARGE)
        acknowledged += fill(recorder, {})
        readable(path, acknowledged)
        figures = {
            "recorded": len(acknowledged),
            "save": outcome(lambda: recorder.save_job("k", job_type="t", job_category="c", description="y" * 60_000)),
            "prune": outcome(lambda: recorder.prune(keep_last=len(acknowledged) - 20)),
        }
        try:
            jobstore.backup(path, folder / "copy.db")
        except StoreError:
            assert not (folder / "copy.db").exists()
        going = recorder.prune(before="2026-01-02", keep_last=5, dry_run=True)
        assert recorder.prune(before="2026-01-02", keep_last=5, emergency=True) == going > 10
        for _ in range(50):
            with recorder.run("j", parameters=LARGE) as run:
                run.result = LARGE
    assert check(path) == []
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
