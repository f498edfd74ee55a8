"""The write side: recording one by one, loading in bulk, and reading while others commit.

Recording changes a store, so it works on copies that are thrown away; the kept data sets stay as they are.
"""

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path

import orjson

import jobstore
from benchmarks import peers
from benchmarks.datasets import Dataset, remove
from benchmarks.history import DENSE, Job, documents, fleet, job_documents
from benchmarks.measure import FLOOR, OURS, Figure, Line, Series, Settings, in_rotation, rivals, timed
from benchmarks.pages import NOW, MovingClock, as_page, open_store, page_ids
from benchmarks.pages import PART as EXECUTIONS
from jobstore.language.instants import instant_text, instant_us
from jobstore.storage.connection import Reader
from jobstore.storage.rows import fetch_executions

PART = "Writing"
LOADED = 100_000
THREADS, RUNS_AT_ONCE, CROWDS = 8, 4, 30
"""`THREADS` threads record `RUNS_AT_ONCE` runs each; this is repeated `CROWDS` times."""
PAUSES, MOST_PAUSE_MS = 3_000, 20
RUNS_LOGGED = 10
RESULT = {"processed": 500, "inserted": 450, "updated": 50}


def run(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """On copies of this size: reading beside commits, recording; then loading, and the size of the files."""
    job = fleet()[0]
    with _copied(dataset, "naive") as theirs, _copied(dataset, OURS) as ours:
        connection = sqlite3.connect(theirs, isolation_level=None, check_same_thread=False)
        with closing(connection) as naive, jobstore.Recorder(ours, clock=MovingClock()) as recorder:
            naive.execute("PRAGMA synchronous = FULL")
            yield _beside_commits(ours, recorder, dataset.label, settings)
            record = _recording_of(recorder, [job.name])
            yield from _recording(dataset.label, settings, ours, _naively(naive, job), record)
    if dataset.label == settings.sizes[0]:
        yield _bulk_load(dataset.label)
    yield from _built(dataset)


def _recording_of(recorder: jobstore.Recorder, names: list[str]) -> Callable[..., None]:
    """Records a run of one job after another."""
    turns = cycle(names)

    def record(_: int = 0) -> None:
        with recorder.run(next(turns), worker_id="worker-00") as run:
            run.result = RESULT

    return record


def _naively(connection: sqlite3.Connection, job: Job) -> Callable[[int], None]:
    """Records a run as two commits with full durability: the execution, and its job's last run."""
    now, parameters = instant_text(instant_us(NOW)), orjson.dumps(job.earlier_parameters).decode()
    in_turn = threading.Lock()

    def record(_: int) -> None:
        execute = connection.execute
        with in_turn:  # without it, threads of one process wait for each other's locks for seconds
            execute("BEGIN IMMEDIATE")
            columns = "job_id, job_name, status, started_at, worker_id, parameters_snapshot, created_at"
            cursor = execute(
                f"INSERT INTO executions ({columns}) VALUES (?, ?, 'RUNNING', ?, 'worker-00', ?, ?)",
                (job.number, job.name, now, parameters, now),
            )
            execute("UPDATE jobs SET last_run_at = ?, updated_at = ? WHERE id = ?", (now, now, job.number))
            execute("COMMIT")
            execute(  # a commit of its own
                "UPDATE executions SET status = 'SUCCESS', completed_at = ?, duration_ms = 12, result = ? WHERE id = ?",
                (now, orjson.dumps(RESULT).decode(), cursor.lastrowid),
            )

    return record


def _recording(
    label: str, settings: Settings, path: Path, naively: Callable[[int], None], record: Callable[..., None]
) -> Iterator[Line]:
    found = in_rotation({FLOOR: naively, OURS: record}, settings.rounds)
    yield _times_naive("recording: start + finish", label, found, 0.8)
    found = in_rotation({FLOOR: _at_once(naively), OURS: _at_once(record)}, min(settings.rounds, CROWDS))
    yield _times_naive(f"recording: start + finish, {THREADS} threads", label, found, 1.5)
    yield Line(PART, "log of a start and an end", label, [Figure(_log_pages(path, record), "pages", at_most=20)])
    pauses = sorted((timed(record, number) * 1000 for number in range(PAUSES)), reverse=True)
    text = f"{sum(pause > MOST_PAUSE_MS for pause in pauses)} over"
    figure = Figure(pauses[0], "ms", at_most=MOST_PAUSE_MS)
    yield Line(PART, f"longest of {PAUSES:,} runs one after the other", label, [figure], {"longest": pauses[:20]}, text)


def _times_naive(name: str, label: str, found: dict[str, Series], goal: float) -> Line:
    detail = {"milliseconds": {OURS: found[OURS].milliseconds, "naive": found[FLOOR].milliseconds}}
    return Line(PART, name, label, [Figure(1 / found[OURS].ratio, "x naive", at_least=goal)], detail)


def _at_once(record: Callable[[int], None]) -> Callable[[int], None]:
    """The same from several threads, some runs each."""

    def all_of_them(_: int) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(record, range(THREADS * RUNS_AT_ONCE)))

    return all_of_them


def _log_pages(path: Path, record: Callable[[int], None]) -> float:
    """Pages of the write-ahead log that a run takes, by the log's length."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        for number in range(RUNS_LOGGED):
            record(number)
        return Path(f"{path}-wal").stat().st_size / (int(page_bytes) + 24) / RUNS_LOGGED


def _beside_commits(path: Path, recorder: jobstore.Recorder, label: str, settings: Settings) -> Line:
    """The dense name search while another connection records a run before every query."""
    names = [job.name for job in fleet() if job.period == 1]
    with closing(open_store(path)) as store, closing(Reader(path)) as reader:
        ids = page_ids(store.list_job_executions(search=DENSE))
        candidates = {
            FLOOR: lambda _: as_page(fetch_executions(reader.connection, ids)),
            OURS: lambda _: store.list_job_executions(search=DENSE),
        }
        name, before = "name search, dense, a commit before each", _recording_of(recorder, names)
        return rivals(EXECUTIONS, name, label, settings, candidates, most=1.5, before=before)


def _bulk_load(label: str) -> Line:
    """A hundred thousand executions from memory into a new store, ours against naive, several times in rotation."""
    executions = list(documents(LOADED))
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.db", Path(folder) / "theirs.db"

        def load(_: int) -> None:
            remove(ours)
            jobstore.load(ours, {"jobs": job_documents(), "executions": executions})

        def naive(_: int) -> None:
            remove(theirs)
            peers.build(theirs, job_documents(), executions)

        found = in_rotation({FLOOR: naive, OURS: load}, 1, budget_seconds=30)
    return _times_naive("bulk load of 100k from memory", label, found, 0.5)


def _built(dataset: Dataset) -> Iterator[Line]:
    """What building this data set told: the load at this size, and the size of the files."""
    built = [dataset.built.get(name, {}) for name in (OURS, "naive")]
    if built[0].get("run") == built[1].get("run") is not None:
        seconds = {OURS: built[0]["seconds"], "naive": built[1]["seconds"]}
        figure = Figure(seconds["naive"] / seconds[OURS], "x naive", at_least=0.5)
        yield Line(PART, "bulk load, making the rows included", dataset.label, [figure], {"seconds": seconds})
    sizes = {name: dataset.path(name).stat().st_size for name in (OURS, "naive", "careful")}
    figures = [
        Figure(sizes[OURS] / sizes["naive"], "of naive", at_most=0.7 if dataset.label == "10M" else None),
        Figure(sizes[OURS] / sizes["careful"], "of careful"),
        Figure(sizes[OURS] / dataset.size, "bytes an execution"),
    ]
    yield Line(PART, "file size, indexes included", dataset.label, figures, {"bytes": sizes})


@contextmanager
def _copied(dataset: Dataset, candidate: str) -> Iterator[Path]:
    """A copy of a candidate's file that goes afterwards."""
    path = dataset.folder / f"scratch-{candidate}.db"
    remove(path)
    shutil.copyfile(dataset.path(candidate), path)
    try:
        yield path
    finally:
        remove(path)
