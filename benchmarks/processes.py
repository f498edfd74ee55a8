"""What only a process of its own shows: importing, opening, the first query, memory."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset
from benchmarks.history import DAY_US, DENSE, END_US, FAILED
from benchmarks.measure import Figure, Line, Settings
from benchmarks.pages import BUSY, CASES
from jobstore.language.instants import instant_text

PART = "A process"
LIST, REPEATS = "list_job_executions", 3

IMPORT = """
import json, sys, time
begun = time.perf_counter()
import jobstore
took = time.perf_counter() - begun
doors = {"pydantic", "sqlite_utils", "croniter", "falcon", "click", "mcp", "rich", "httpx", "waitress"}
print(json.dumps({"seconds": took, "pulled": sorted(doors & set(sys.modules))}))
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


def _questions(size: int) -> Iterator[tuple[str, str, dict[str, Any], float | None, float | None]]:
    """Name, method, keywords, and the bounds in milliseconds of the first answer and of the eleventh."""
    month = {"after": instant_text(END_US - 30 * DAY_US), "before": instant_text(END_US - 1)}
    deep, dense = {"offset": size // 2}, {"search": DENSE, "offset": size // 8}
    failed = {"search": FAILED, "offset": size // 40}
    yield "latest", LIST, {}, 100, None
    yield "dense search", LIST, {"search": DENSE}, 100, None
    yield "deep by duration", LIST, {**deep, "order_by": "duration_ms"}, 100, 15
    yield "deep by completed_at", LIST, {**deep, "order_by": "completed_at"}, 100, 15
    yield "failures by worker", LIST, {"status": "FAILURE", "order_by": "worker_id"}, 100, 15
    yield "failed, deep by duration", LIST, {**failed, "order_by": "duration_ms"}, 100, 15
    yield "dense, deep by duration", LIST, {**dense, "order_by": "duration_ms"}, 100, 15
    yield "dense, deep by job_name", LIST, {**dense, "order_by": "job_name"}, 100, 15
    yield "list_job_states", "list_job_states", {}, 150, 10
    yield "execution_histogram, 30 days", "execution_histogram", month, None, 5
    yield "execution_histogram, 30 days, one job", "execution_histogram", {**month, "job_id": BUSY[0]}, None, 5


def run(dataset: Dataset, _: Settings) -> Iterator[Line]:
    """Import, opening, the first query of each kind beside the same asked ten times, the most memory."""
    found = [_run(IMPORT) for _ in range(REPEATS)]
    pulled = f"imports {', '.join(found[0]['pulled']) or 'no heavy library'}"
    yield Line(PART, "import jobstore", dataset.label, [_milliseconds(found, "seconds", 150)], {}, pulled)
    path = dataset.path("jobstore")
    for name, method, query, first, warm in _questions(dataset.size):
        for state in ("warm", "cold"):
            found = [_asked(path, method, query, is_cold=state == "cold") for _ in range(REPEATS)]
            if name == "latest":
                yield Line(PART, f"opening, {state} file", dataset.label, [_milliseconds(found, "open", 100)])
            figures = [_milliseconds(found, "first", first), _milliseconds(found, "warm", warm)]
            yield Line(PART, f"first query, then warm: {name}, {state} file", dataset.label, figures)
    for threads in (1, 16):
        held = _run(MEMORY, str(path), str(threads), json.dumps(_mix()))
        figure = Figure(held["VmHWM"] / 1024, "MB", at_most=150)
        yield Line(PART, f"memory of a reader, {threads} thread{'s'[: threads - 1]}", dataset.label, [figure], held)


def _asked(path: Path, method: str, query: dict[str, Any], *, is_cold: bool) -> Any:
    """The times of a process that opens the file and asks; a cold file is dropped from the system's cache before."""
    if is_cold:  # in a process of its own, since closing drops locks
        forget = "import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); os.fsync(f); os.posix_fadvise(f, 0, 0, 4)"
        subprocess.run([sys.executable, "-c", forget, str(path)], check=True)
    return _run(FIRST, str(path), method, json.dumps(query))


def _mix() -> list[tuple[str, dict[str, Any]]]:
    """Variants of every measured query, deep ones included."""
    queries = [case.query(number) for case in CASES for number in range(4)]
    queries += [{**case.query(0), "offset": 20_000} for case in CASES if case.deep]
    for order in ("duration_ms", "trace_id", "worker_id"):
        queries += [{"order_by": order, "search": search, "offset": 20_000} for search in (None, DENSE)]
    mix = [("get_job_executions" if "job_id" in query else LIST, query) for query in queries]
    return [*mix, ("list_jobs", {"order_by": "next_run_at"}), ("list_jobs", {"search": "sync"}), ("job_stats", {})]


def _milliseconds(found: list[dict[str, float]], key: str, at_most: float | None) -> Figure:
    return Figure(statistics.median(one[key] for one in found) * 1000, "ms", at_most)


def _run(script: str, *arguments: str) -> Any:
    """What a script prints, in a process that may keep compiled modules, as a user's does."""
    command, environment = [sys.executable, "-c", script, *arguments], {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)
