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
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

import jobstore
from benchmarks import fleet, history, peers
from benchmarks.datasets import remove
from benchmarks.measure import FLOOR, Figure, Line, Series, Settings, in_rotation, rivals, timed
from benchmarks.queries import PART as EXECUTIONS
from benchmarks.subjects import NOW, Floor, MovingClock, open_store, page_ids
from jobstore.language.instants import instant_text, instant_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.datasets import Dataset

PART = "Writing"
LOADED = 100_000
THREADS, CROWDS = 8, 30
RUNS_AT_ONCE = 4
"""Of each thread."""
PAUSES, MOST_PAUSE_MS = 3_000, 20
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


def run(dataset: Dataset, settings: Settings, *, loads: bool) -> Iterator[Line]:
    """On copies of this size: reading beside commits, recording; then loading, and the size of the files."""
    job = fleet.fleet()[0]
    with copied(dataset, "naive") as theirs, copied(dataset, "jobstore") as ours:
        naive = NaiveRecorder(theirs, job)
        with jobstore.Recorder(ours, clock=MovingClock()) as recorder:
            yield _beside_commits(ours, recorder, dataset.label, settings)
            yield from _recording(dataset.label, settings, ours, naive, _recording_of(recorder, [job.name]))
        naive.connection.close()
    if loads:
        yield _bulk_load(dataset.label)
    yield from _built(dataset)


def _recording_of(recorder: jobstore.Recorder, names: list[str]) -> Callable[..., None]:
    """Records a run of one job after another."""
    turns = cycle(names)

    def record(_: int = 0) -> None:
        with recorder.run(next(turns), worker_id="worker-00") as run:
            run.result = RESULT

    return record


def _recording(
    label: str, settings: Settings, path: Path, naive: NaiveRecorder, record: Callable[..., None]
) -> Iterator[Line]:
    in_turn = threading.Lock()

    def record_naively(_: int) -> None:
        with in_turn:  # without it, threads of one process wait for each other's locks for seconds
            naive.run()

    for name, made, rounds, goal in (
        ("", lambda write: write, settings.rounds, 0.8),
        (f", {THREADS} threads", _at_once, min(settings.rounds, CROWDS), 1.5),
    ):
        found = in_rotation({FLOOR: made(record_naively), "jobstore": made(record)}, rounds=rounds)
        yield _times_naive(f"recording: start + finish{name}", label, found, goal)
    yield Line(PART, "log of a start and an end", label, [Figure(_log_pages(path, record), "pages", at_most=20)])
    pauses = sorted((timed(record, number) * 1000 for number in range(PAUSES)), reverse=True)
    text = f"{sum(pause > MOST_PAUSE_MS for pause in pauses)} over"
    figure = Figure(pauses[0], "ms", at_most=MOST_PAUSE_MS)
    yield Line(PART, f"longest of {PAUSES:,} runs one after the other", label, [figure], {"longest": pauses[:20]}, text)


def _times_naive(name: str, label: str, found: dict[str, Series], goal: float) -> Line:
    milliseconds = {"jobstore": found["jobstore"].milliseconds, "naive": found[FLOOR].milliseconds}
    figure = Figure(1 / found["jobstore"].ratio, "x naive", at_least=goal)
    return Line(PART, name, label, [figure], {"milliseconds": milliseconds})


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


def _beside_commits(path: Path, recorder: jobstore.Recorder, label: str, settings: Settings) -> Line:
    """The dense name search while another connection records a run before every query."""
    names = [job.name for job in fleet.fleet() if job.cadence.period == 1]
    with closing(open_store(path)) as store, closing(Floor(path)) as floor:
        ids = page_ids(store.list_job_executions(search=fleet.DENSE))
        return rivals(
            EXECUTIONS, "name search, dense, a commit before each", label,
            floor=lambda _: floor.executions(ids),
            ours=lambda _: store.list_job_executions(search=fleet.DENSE), others={},
            rounds=settings.rounds, most=1.5, before=_recording_of(recorder, names),
        )  # fmt: skip


def _bulk_load(label: str) -> Line:
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

        found = in_rotation({FLOOR: naive, "jobstore": load}, rounds=1, budget_seconds=30)
    return _times_naive("bulk load of 100k from memory", label, found, 0.5)


def _built(dataset: Dataset) -> Iterator[Line]:
    """What building this data set told: the load at this size, and the size of the files."""
    runs = {dataset.built.get(name, {}).get("run", name) for name in ("jobstore", "naive")}
    if len(runs) == 1:
        seconds = {name: dataset.built[name]["seconds"] for name in ("jobstore", "naive")}
        figure = Figure(seconds["naive"] / seconds["jobstore"], "x naive", at_least=0.5)
        yield Line(PART, "bulk load, making the rows included", dataset.label, [figure], {"seconds": seconds})
    sizes = {name: dataset.path(name).stat().st_size for name in ("jobstore", "naive", "careful")}
    figures = [
        Figure(sizes["jobstore"] / sizes["naive"], "of naive", at_most=0.7 if dataset.label == "10M" else None),
        Figure(sizes["jobstore"] / sizes["careful"], "of careful"),
        Figure(sizes["jobstore"] / dataset.size, "bytes an execution"),
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
