"""A store on a PostgreSQL server: pages against the floor of the same server, recording against a bare table.

The server is one that the tests start (Debian's or the wheel's), on a disk, with fsync as it is installed.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, cast

import jobstore
from benchmarks import history
from benchmarks.datasets import Dataset
from benchmarks.measure import FLOOR, OURS, Figure, Line, Settings, rivals
from benchmarks.pages import BUSY, as_page, page_ids, page_of
from jobstore.engine.fires import Fires

PART = "PostgreSQL"
SIZE = "1M"
"""The goals are set for this size; another one is measured with ``--only postgres`` alone."""
PROCESSES, RUNS, ROUNDS, CONNECTED_SECONDS = 8, 150, 3, 120
"""`PROCESSES` processes record `RUNS` runs each; this is repeated `ROUNDS` times."""
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "FAILURE": {"status": "FAILURE"},
    "FAILURE or TIMEOUT": {"status": ["FAILURE", "TIMEOUT"]},
    "one job": {"job_id": BUSY[0]},
    "search in 30 % of the names": {"search": history.DENSE},
    "search in three names": {"search": history.SPARSE},
    "search and status": {"search": history.DENSE, "status": "FAILURE"},
    "thirty days": {"after": "2026-09-01", "before": "2026-09-30"},
}
DEPTHS = {"first page": 0.0, "half deep": 0.5, "90 % deep": 0.9}
BARE = """
CREATE TABLE bare (id bigserial PRIMARY KEY, job text NOT NULL, status text NOT NULL, started_at timestamptz NOT NULL,
    completed_at timestamptz, result text);
CREATE INDEX ON bare (started_at); CREATE INDEX ON bare (job, started_at);
"""


def run(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """Pages at the size of the data set, then recording into a store of its own; nothing where no server is there."""
    if dataset.label != SIZE and settings.parts != ("postgres",):
        return
    if not all(map(find_spec, ("pytest", "psycopg", "tests"))):
        print("PostgreSQL is left out: pip install -e '.[test]'")
        return
    from tests.postgres.servers import ANY_KIND, running

    label = dataset.label
    server: Any
    with running(ANY_KIND, durable_in=dataset.folder) as server, server.database() as name, server.database() as other:
        begun = time.perf_counter()
        jobstore.load(
            server.url(name), {"jobs": history.job_documents(), "executions": history.documents(dataset.size)}
        )
        rate = dataset.size / (time.perf_counter() - begun)
        with server.connect(name) as connection:
            version = connection.info.parameter_status("server_version").partition(" ")[0]
            (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        figures, told = [Figure(rate, "executions/s")], {"server": f"PostgreSQL {version}"}
        yield Line(PART, "load by COPY, making the documents included", label, figures, told)
        yield Line(PART, "bytes of an execution", label, [Figure(size / dataset.size, "bytes")])
        yield from _pages(server.url(name), label, settings)
        with server.connect(other) as connection:
            connection.execute(BARE)
        yield _recording(server.url(other), label)


def _pages(url: str, label: str, settings: Settings) -> Iterator[Line]:
    from jobstore.engine.server import ServerMemory
    from jobstore.storage.postgres.connection import Connection, Place

    connection, memory = Connection(Place(url), is_reader=True), ServerMemory(Fires("UTC"))
    with jobstore.open(url) as store:
        for words, filters in FILTERS.items():
            total = page_of(store, filters)["pagination"]["total"]
            for where, depth in DEPTHS.items():
                query = {**filters, "offset": int(total * depth)}
                ids = page_ids(page_of(store, query))
                candidates: dict[str, Any] = {
                    FLOOR: lambda _, ids=ids: as_page(memory.rows(cast("Any", connection), ids)),
                    OURS: lambda _, query=query: page_of(store, query),
                }
                yield rivals(PART, f"{words}, {where}", label, settings, candidates, most=3)
    connection.close()


def _recording(url: str, label: str) -> Line:
    """Starts and ends of eight processes at once, each its own commit, beside the same into a bare table."""
    jobstore.Recorder(url).close()
    pairs = [(_at_once(_record, url), _at_once(_insert, url)) for _ in range(ROUNDS)]
    ours, bare = map(statistics.median, zip(*pairs, strict=True))
    figures = [Figure(ours / bare, "x bare", at_least=0.7), Figure(ours, "runs/s"), Figure(bare, "runs/s bare")]
    return Line(PART, f"{PROCESSES} processes record", label, figures)


def _at_once(write: Callable[[str, Any, int], None], url: str) -> float:
    """Runs a second of all processes together, from when all are connected."""
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(PROCESSES + 1)
    writers = [spawn.Process(target=write, args=(url, together, number)) for number in range(PROCESSES)]
    for writer in writers:
        writer.start()
    together.wait(timeout=CONNECTED_SECONDS)  # or it would wait for ever for one that failed
    begun = time.perf_counter()
    for writer in writers:
        writer.join()
    if any(writer.exitcode for writer in writers):
        raise RuntimeError("a recorder failed")
    return PROCESSES * RUNS / (time.perf_counter() - begun)


def _record(url: str, together: Any, number: int) -> None:
    with jobstore.Recorder(url) as recorder:
        recorder.save_job(f"job-{number}", job_type="bench", job_category="bench")
        together.wait()
        for _ in range(RUNS):
            with recorder.run(f"job-{number}") as made:
                made.result = {"processed": 500}


def _insert(url: str, together: Any, number: int) -> None:
    import psycopg

    start = "INSERT INTO bare (job, status, started_at) VALUES (%s, 'RUNNING', now()) RETURNING id"
    end = "UPDATE bare SET status = 'SUCCESS', completed_at = now(), result = %s WHERE id = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        together.wait()
        for _ in range(RUNS):
            (key,) = connection.execute(start, (f"job-{number}-{os.getpid()}",)).fetchone() or (None,)
            connection.execute(end, ('{"processed": 500}', key))
