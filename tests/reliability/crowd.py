"""Several processes on one file: writers as fast as they can, or a prune beside a writer and paging readers.

    python -m tests.reliability.crowd FOLDER writers --seconds 3
    python -m tests.reliability.crowd FOLDER prune --rows 6000

Prints the figures as JSON; any exception, and any process that fails, is a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jobstore
from jobstore.recording.recorder import Recorder
from jobstore.transfer.backup import check

if TYPE_CHECKING:
    from collections.abc import Callable

JOB = {"name": "j", "job_type": "t", "job_category": "c"}


def worker(work: Callable[[], object], out: Path) -> int:
    """A process that does the work and writes down what comes of it."""
    pid = os.fork()
    if pid == 0:
        try:
            out.write_text(json.dumps(work()))
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"worker: {error!r}\n")
            sys.stderr.flush()
        finally:
            os._exit(1)
    return pid


def joined(pids: list[int]) -> None:
    """Waits for all; raises if one failed."""
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"a worker failed: {status}"


def record(path: Path, goes_on: Callable[[], bool]) -> list[float]:
    """Records runs without a pause; how long each call took."""
    waits: list[float] = []
    with Recorder(path, timeout_seconds=120) as recorder:
        while not waits or goes_on():
            begun = time.monotonic()
            number = recorder.enqueue("j")
            waits.append(time.monotonic() - begun)
            recorder.start(number)
            recorder.finish(number, "SUCCESS")
    return waits


def page(path: Path, goes_on: Callable[[], bool]) -> int:
    """Reads all pages in turn; in each, data and total must be of one snapshot."""
    pages = 0
    with jobstore.open(path) as store:
        while not pages or goes_on():
            offset = 0
            while True:
                found = store.list_job_executions(limit=500, offset=offset)
                total, shown = found["pagination"]["total"], len(found["data"])
                assert shown == max(0, min(500, total - offset)), (shown, total, offset)
                pages += 1
                offset += 500
                if not found["pagination"]["has_next"]:
                    break
    return pages


def writers(folder: Path, seconds: float) -> dict[str, float]:
    """Three writers; nothing is lost."""
    path = folder / "writers.db"
    jobstore.load(path, {"jobs": [JOB]})
    until = time.monotonic() + seconds
    outs = [folder / f"writer{number}" for number in range(3)]
    joined([worker(lambda: record(path, lambda: time.monotonic() < until), out) for out in outs])
    waits = [json.loads(out.read_text()) for out in outs]
    counted = sum(map(len, waits))
    with jobstore.open(path) as store:
        assert store.job_stats()["by_status"]["SUCCESS"] == counted
        assert store.list_job_executions()["pagination"]["total"] == counted
    assert check(path) == []
    return {"runs": counted, "fewest": min(map(len, waits)), "longest_wait": max(map(max, waits))}


def prune(folder: Path, rows: int) -> dict[str, float]:
    """A prune of so many rows, a writer and two readers; nobody is turned away, nobody waits long."""
    path, done = folder / "prune.db", folder / "done"
    runs = ({"id": n, "job_name": "j", "status": "SUCCESS", "started_at": f"2026-01-{n % 28 + 1:02d}T00:00:00Z"}
            for n in range(1, rows + 1))  # fmt: skip
    jobstore.load(path, {"jobs": [JOB], "executions": runs})

    def goes_on() -> bool:
        return not done.exists()

    outs = [folder / name for name in ("writer", "reader1", "reader2")]
    pids = [worker(lambda: record(path, goes_on), outs[0])]
    pids += [worker(lambda: page(path, goes_on), out) for out in outs[1:]]
    begun = time.monotonic()
    with Recorder(path, timeout_seconds=120) as recorder:
        gone = recorder.prune(before="2026-02-01")
    spent = time.monotonic() - begun
    done.touch()
    joined(pids)
    assert gone == rows
    waits = sorted(json.loads(outs[0].read_text()))
    with jobstore.open(path) as store:
        assert store.job_stats()["by_status"]["SUCCESS"] == len(waits)
    assert check(path) == []
    return {
        "pruned": gone, "seconds": spent, "recorded": len(waits), "longest_wait": waits[-1],
        "usual_wait": waits[len(waits) // 2], "pages": sum(json.loads(out.read_text()) for out in outs[1:]),
    }  # fmt: skip


def main(arguments: list[str]) -> None:
    """One of the two."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("crowd", choices=["writers", "prune"])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rows", type=int, default=6000)
    options = parser.parse_args(arguments)
    if options.crowd == "writers":
        figures = writers(options.folder, options.seconds)
    else:
        figures = prune(options.folder, options.rows)
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
