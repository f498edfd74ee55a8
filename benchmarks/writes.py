"""Measures the write side: recording one by one, loading in bulk, and reading while others commit.

Recording changes a store, so it works on copies that are thrown away; the kept data sets stay as they are.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

import jobstore
from benchmarks import fleet, history, peers
from benchmarks.datasets import remove
from benchmarks.measure import FLOOR, in_rotation, timed
from benchmarks.results import Figure, Line
from benchmarks.subjects import NOW, Floor, MovingClock, open_store, page_ids
from jobstore.language.instants import instant_text, instant_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.datasets import Dataset
    from benchmarks.queries import Settings

PART = "writing"
LOADED = 100_000
THREADS = 8
CROWDS = 30
RUNS_AT_ONCE = 4
"""Of each thread."""
PAUSES = 3_000
RUNS_LOGGED = 10
RESULT = {"processed": 500, "inserted": 450, "updated": 50}


class NaiveRecorder:
    """A start and a finish as two commits: the execution and its job's last run, with full durability."""

    def __init__(self, path: Path, job: fleet.FleetJob) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA synchronous = FULL")
        self.job = job
        self.parameters = orjson.dumps(job.parameters).decode()

    def run(self) -> None:
        """Records one run."""
        now = instant_text(instant_us(NOW))
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        cursor = execute(
            """
            INSERT INTO executions (job_id, job_name, status, started_at, worker_id, parameters_snapshot, created_at)
            VALUES (?, ?, 'RUNNING', ?, ?, ?, ?)
            """,
            (self.job.number, self.job.name, now, "worker-00", self.parameters, now),
        )
        execute("UPDATE jobs SET last_run_at = ?, updated_at = ? WHERE id = ?", (now, now, self.job.number))
        execute("COMMIT")
        execute("BEGIN IMMEDIATE")
        execute(
            "UPDATE executions SET status = 'SUCCESS', completed_at = ?, duration_ms = ?, result = ? WHERE id = ?",
            (now, 12, orjson.dumps(RESULT).decode(), cursor.lastrowid),
        )
        execute("COMMIT")


def recording(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """Start and finish, ours against naive, on copies of this size: from one thread, and from eight at once."""
    job = fleet.fleet()[0]
    with copied(dataset, "naive") as theirs, copied(dataset, "jobstore") as ours:
        naive = NaiveRecorder(theirs, job)
        with jobstore.Recorder(ours, clock=MovingClock()) as recorder:

            def record(_: int) -> None:
                with recorder.run(job.name, worker_id="worker-00") as run:
                    run.result = RESULT

            in_turn = threading.Lock()

            def record_naively(_: int) -> None:
                with in_turn:  # without it, threads of one process wait for each other's locks for seconds
                    naive.run()

            single = in_rotation({FLOOR: record_naively, "jobstore": record}, rounds=settings.rounds)
            many = {FLOOR: _at_once(record_naively), "jobstore": _at_once(record)}
            crowd = in_rotation(many, rounds=min(settings.rounds, CROWDS))
            pages = _log_pages(ours, record)
            pauses = sorted((timed(record, number, lambda: None) * 1000 for number in range(PAUSES)), reverse=True)
        naive.connection.close()
    for name, found, goal in ("", single, 0.8), (f", {THREADS} threads", crowd, 1.5):
        figure = Figure(1 / found["jobstore"].ratio, "x naive", at_least=goal)
        milliseconds = {"jobstore": found["jobstore"].milliseconds, "naive": found[FLOOR].milliseconds}
        yield Line(PART, f"recording: start + finish{name}", dataset.label, [figure], {"milliseconds": milliseconds})

    yield Line(PART, "pages of log for a start and an end", dataset.label, [Figure(pages, "pages", at_most=20)])
    longest = Figure(pauses[0], "ms", at_most=20)
    over = sum(pause > 20 for pause in pauses)
    name = f"longest of {PAUSES:,} runs recorded one after the other; over 20 ms: {over}"
    yield Line(PART, name, dataset.label, [longest], {"longest": pauses[:20]})


def _log_pages(path: Path, record: Callable[[int], object]) -> float:
    """Pages of the write-ahead log that a run takes, by the log's length."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        for number in range(RUNS_LOGGED):
            record(number)
        return Path(f"{path}-wal").stat().st_size / (int(page_bytes) + 24) / RUNS_LOGGED


def _at_once(record: Callable[[int], object]) -> Callable[[int], object]:
    """The same from several threads, some runs each."""

    def all_of_them(_: int) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(record, range(THREADS * RUNS_AT_ONCE)))

    return all_of_them


def foreign_commits(dataset: Dataset, settings: Settings) -> Line:
    """The dense name search while another connection records a run before every query."""
    with copied(dataset, "jobstore") as path, jobstore.Recorder(path, clock=MovingClock()) as recorder:
        names = [job.name for job in fleet.fleet() if job.cadence.period == 1]
        store, floor = open_store(path), Floor(path)
        ids = page_ids(store.list_job_executions(search=fleet.DENSE))

        def commit() -> None:
            name = names.pop(0)
            names.append(name)
            with recorder.run(name) as run:
                run.result = RESULT

        candidates: dict[str, Callable[[int], object]] = {
            FLOOR: lambda _: floor.executions(ids),
            "jobstore": lambda _: orjson.dumps(store.list_job_executions(search=fleet.DENSE)),
        }
        found = in_rotation(candidates, rounds=settings.rounds, before=commit)
        store.close()
        floor.close()
    series = found["jobstore"]
    detail = {"p99": series.ratio_p99, "milliseconds": {name: one.milliseconds for name, one in found.items()}}
    figure = Figure(series.ratio, "F", at_most=1.5)
    return Line("executions", "name search, dense, a commit before each", dataset.label, [figure], detail)


def bulk_load(label: str) -> Line:
    """A hundred thousand executions from memory into a new store, ours against naive, several times in rotation."""
    executions = list(islice(history.documents(LOADED), LOADED))
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.db", Path(folder) / "theirs.db"

        def load(_: int) -> None:
            remove(ours)
            jobstore.load(ours, {"jobs": fleet.documents(), "executions": executions})

        def naive(_: int) -> None:
            remove(theirs)
            peers.build(theirs, fleet.documents(), executions)

        candidates: dict[str, Callable[[int], object]] = {FLOOR: naive, "jobstore": load}
        found = in_rotation(candidates, rounds=1, budget_seconds=30)
    series = found["jobstore"]
    figure = Figure(1 / series.ratio, "x naive", at_least=0.5)
    detail = {"milliseconds": {"jobstore": series.milliseconds, "naive": found[FLOOR].milliseconds}}
    return Line(PART, "bulk load of 100k from memory", label, [figure], detail)


def built(dataset: Dataset) -> Iterator[Line]:
    """What building this data set told: the load at this size, and the size of the files."""
    runs = {dataset.built.get(name, {}).get("run", name) for name in ("jobstore", "naive")}
    if len(runs) == 1:
        seconds = {name: dataset.built[name]["seconds"] for name in ("jobstore", "naive")}
        figure = Figure(seconds["naive"] / seconds["jobstore"], "x naive", at_least=0.5)
        yield Line(PART, "bulk load, making the rows included", dataset.label, [figure], {"seconds": seconds})
    sizes = {name: dataset.bytes(name) for name in ("jobstore", "naive", "careful")}
    figures = [
        Figure(sizes["jobstore"] / sizes["naive"], "of naive", at_most=0.7 if dataset.label == "10M" else None),
        Figure(sizes["jobstore"] / sizes["careful"], "of careful"),
    ]
    yield Line(PART, "file size, indexes included", dataset.label, figures, {"bytes": sizes})


@contextmanager
def copied(dataset: Dataset, candidate: str) -> Iterator[Path]:
    """A copy of a candidate's file that goes afterwards."""
    path = dataset.folder / f"scratch-{candidate}.db"
    remove(path)
    shutil.copyfile(dataset.path(candidate), path)
    try:
        yield path
    finally:
        remove(path)
