"""Measures what only a process of its own shows: importing, opening, the first query, memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.results import Figure, Line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.datasets import Dataset

PART = "process"
REPEATS = 5

IMPORT = """
import sys, time
begun = time.perf_counter()
import jobstore
took = time.perf_counter() - begun
doors = {"pydantic", "sqlite_utils", "croniter", "falcon", "click", "mcp", "rich", "httpx", "waitress"}
print(__import__("json").dumps({"seconds": took, "pulled": sorted(doors & set(sys.modules))}))
"""

FIRST = """
import json, sys, time
import jobstore, orjson
path, query = sys.argv[1], json.loads(sys.argv[2])
begun = time.perf_counter()
store = jobstore.open(path)
opened = time.perf_counter()
orjson.dumps(store.list_job_executions(**query))
answered = time.perf_counter()
print(json.dumps({"open": opened - begun, "first": answered - opened}))
"""

MEMORY = """
import json, sys, threading
import jobstore
from datetime import datetime, UTC
path, threads, queries = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
store = jobstore.open(path)
def work(number):
    for turn in range(len(queries)):
        method, query = queries[(turn + number) % len(queries)]
        getattr(store, method)(**query)
workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
lines = [line.split(":", 1) for line in open("/proc/self/status").read().splitlines()]
print(json.dumps({key: int(value.split()[0]) for key, value in lines if key in ("VmHWM", "VmRSS")}))
"""


def importing() -> Line:
    """``import jobstore`` in a new interpreter, and whether it pulled a door in."""
    found = [_run(IMPORT) for _ in range(REPEATS + 1)][1:]
    figure = Figure(statistics.median(one["seconds"] for one in found) * 1000, "ms", at_most=150)
    return Line(PART, "import jobstore", "", [figure], {"pulled": found[0]["pulled"]})


def opening(dataset: Dataset) -> Iterator[Line]:
    """Opening the file and the first query after it, the file in the system's cache and out of it."""
    path = dataset.path("jobstore")
    deep = {"search": "kline", "order_by": "duration_ms", "offset": dataset.size // 8}
    for name, query in (("latest", {}), ("dense search", {"search": "kline"}), ("dense, deep by duration", deep)):
        for cold in (False, True):
            found = []
            for _ in range(REPEATS):
                if cold:
                    forget(path)
                found.append(_run(FIRST, str(path), json.dumps(query)))
            state = "cold" if cold else "warm"
            if name == "latest":
                yield _milliseconds(f"opening, {state} file", dataset.label, [one["open"] for one in found])
            yield _milliseconds(
                f"first query after opening ({name}), {state} file", dataset.label, [one["first"] for one in found]
            )


def memory(dataset: Dataset) -> Iterator[Line]:
    """The most memory a reader ever held while it answered a mix of everything, with one thread and with sixteen."""
    queries = _mix()
    for threads in (1, 16):
        found = _run(MEMORY, str(dataset.path("jobstore")), str(threads), json.dumps(queries))
        figure = Figure(found["VmHWM"] / 1024, "MB", at_most=150)
        plural = "thread" if threads == 1 else "threads"
        yield Line(PART, f"memory of a reader, {threads} {plural}", dataset.label, [figure], {"kilobytes": found})


def forget(path: Path) -> None:
    """Asks the system to drop the file from its cache; in a process of its own, since closing drops locks."""
    script = "import os,sys; f=os.open(sys.argv[1], os.O_RDONLY); os.fsync(f); os.posix_fadvise(f, 0, 0, 4)"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def _mix() -> list[tuple[str, dict[str, Any]]]:
    """One variant of every measured query, deep ones included."""
    from benchmarks.cases import CASES  # the fleet is made only where it is needed
    from benchmarks.fleet import DENSE

    mix: list[tuple[str, dict[str, Any]]] = [(case.method, case.query(number)) for case in CASES for number in range(4)]
    mix += [(case.method, {**case.query(0), "offset": 20_000}) for case in CASES if case.deep]
    mix += [
        ("list_job_executions", {"order_by": order, "search": search, "offset": 20_000})
        for order in ("duration_ms", "trace_id", "worker_id")
        for search in (None, DENSE)
    ]
    mix += [("list_jobs", {"order_by": "next_run_at"}), ("list_jobs", {"search": "sync"}), ("job_stats", {})]
    return mix


def _milliseconds(name: str, label: str, seconds: list[float]) -> Line:
    return Line(PART, name, label, [Figure(statistics.median(seconds) * 1000, "ms", at_most=100)])


def _run(script: str, *arguments: str) -> Any:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return json.loads(result.stdout)
