"""Measures what only a process of its own shows: importing, opening, the first query, memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.cases import CASES
from benchmarks.fleet import DAY_MINUTES, DENSE, END_US, MINUTE_US, fleet
from benchmarks.results import Figure, Line
from jobstore.language.instants import instant_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.datasets import Dataset

PART = "process"
REPEATS = 3

IMPORT = """
import sys, time
begun = time.perf_counter()
import jobstore
took = time.perf_counter() - begun
doors = {"pydantic", "sqlite_utils", "croniter", "falcon", "click", "mcp", "rich", "httpx", "waitress"}
print(__import__("json").dumps({"seconds": took, "pulled": sorted(doors & set(sys.modules))}))
"""

FIRST = """
import json, statistics, sys, time
import jobstore, orjson
path, method, query = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
begun = time.perf_counter()
store = jobstore.open(path)
times = [time.perf_counter() - begun]
for _ in range(12):
    begun = time.perf_counter()
    orjson.dumps(getattr(store, method)(**query))
    times.append(time.perf_counter() - begun)
print(json.dumps({"open": times[0], "first": times[1], "warm": statistics.median(times[-3:])}))
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
    """Opening the file, and the first query after it beside the same query when it has been asked ten times."""
    path, middle = dataset.path("jobstore"), dataset.size // 2
    deep = {"order_by": "duration_ms", "offset": middle}
    dense = {"search": "kline", "offset": middle // 4}
    last_month = {"after": instant_text(END_US - 30 * DAY_MINUTES * MINUTE_US), "before": instant_text(END_US - 1)}
    one_job = {**last_month, "job_id": next(job.name for job in fleet() if job.cadence.period == 1)}
    for name, method, query, first, warm in (
        ("latest", "list_job_executions", {}, 100, None),
        ("dense search", "list_job_executions", {"search": "kline"}, 100, None),
        ("deep by duration", "list_job_executions", deep, 100, 15),
        ("deep by completed_at", "list_job_executions", {**deep, "order_by": "completed_at"}, 100, 15),
        ("failures by worker", "list_job_executions", {"status": "FAILURE", "order_by": "worker_id"}, 100, 15),
        (
            "failed, deep by duration",
            "list_job_executions",
            {**deep, "search": "failed", "offset": middle // 20},
            100,
            15,
        ),
        ("dense, deep by duration", "list_job_executions", {**dense, "order_by": "duration_ms"}, 100, 15),
        ("dense, deep by job_name", "list_job_executions", {**dense, "order_by": "job_name"}, 100, 15),
        ("list_job_states", "list_job_states", {}, 150, 10),
        ("execution_histogram, 30 days", "execution_histogram", last_month, None, 5),
        ("execution_histogram, 30 days, one job", "execution_histogram", one_job, None, 5),
    ):
        for cold in (False, True):
            found = []
            for _ in range(REPEATS):
                if cold:
                    forget(path)
                found.append(_run(FIRST, str(path), method, json.dumps(query)))
            state = "cold" if cold else "warm"
            if name == "latest":
                opened = _milliseconds(found, "open", 100)
                yield Line(PART, f"opening, {state} file", dataset.label, [opened])
            figures = [_milliseconds(found, "first", first), _milliseconds(found, "warm", warm)]
            yield Line(PART, f"first query of a process, then warm: {name}, {state} file", dataset.label, figures)


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
    mix: list[tuple[str, dict[str, Any]]] = [(case.method, case.query(number)) for case in CASES for number in range(4)]
    mix += [(case.method, {**case.query(0), "offset": 20_000}) for case in CASES if case.deep]
    mix += [
        ("list_job_executions", {"order_by": order, "search": search, "offset": 20_000})
        for order in ("duration_ms", "trace_id", "worker_id")
        for search in (None, DENSE)
    ]
    mix += [("list_jobs", {"order_by": "next_run_at"}), ("list_jobs", {"search": "sync"}), ("job_stats", {})]
    return mix


def _milliseconds(found: list[dict[str, float]], key: str, at_most: float | None) -> Figure:
    return Figure(statistics.median(one[key] for one in found) * 1000, "ms", at_most)


def _run(script: str, *arguments: str) -> Any:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return json.loads(result.stdout)
