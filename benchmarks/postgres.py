"""Measures a store on a PostgreSQL server: pages against the floor of the same server, recording against a bare table.

The server is one that the tests start (Debian's or the wheel's), on a disk, with fsync as it is installed.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import orjson

import jobstore
from benchmarks import fleet, history
from benchmarks.measure import FLOOR, Figure, Line, Settings, in_rotation
from benchmarks.subjects import page_ids
from jobstore.engine.fires import Fires
from jobstore.language.models import pagination
from jobstore.storage.documents import execution_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.datasets import Dataset

PART = "PostgreSQL"
MOST_FLOORS, LEAST_OF_BARE = 3.0, 0.7
PROCESSES, RUNS, ROUNDS, CONNECTED_SECONDS = 8, 150, 3, 120
"""Of each process in a round."""
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "FAILURE": {"status": "FAILURE"},
    "FAILURE or TIMEOUT": {"status": ["FAILURE", "TIMEOUT"]},
    "one job": {"job_id": min(fleet.fleet(), key=lambda job: job.cadence.period).name},
    "search in 30 % of the names": {"search": "kline"},
    "search in three names": {"search": "quasar"},
    "search and status": {"search": "kline", "status": "FAILURE"},
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
    if not all(map(find_spec, ("pytest", "psycopg", "tests"))):
        print("PostgreSQL is left out: pip install -e '.[test]'")
        return
    with _server(dataset) as server, server.database() as name, server.database() as other:
        begun = time.perf_counter()
        jobstore.load(server.url(name), {"jobs": fleet.documents(), "executions": history.documents(dataset.size)})
        rate = dataset.size / (time.perf_counter() - begun)
        with server.connect(name) as connection:
            version = connection.info.parameter_status("server_version").partition(" ")[0]
            (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        figures, told = [Figure(rate, "executions/s")], {"server": f"PostgreSQL {version}"}
        yield Line(PART, "load by COPY, making the documents included", dataset.label, figures, told)
        yield Line(PART, "bytes of an execution", dataset.label, [Figure(size / dataset.size, "bytes")])
        yield from _pages(server.url(name), dataset.label, settings)
        yield _recording(server, other, dataset.label)


@contextmanager
def _server(dataset: Dataset) -> Iterator[Any]:
    from tests.postgres.servers import ANY_KIND, running  # needs the extra 'test'

    with running(ANY_KIND, durable_in=dataset.folder) as server:
        yield server


def _pages(url: str, label: str, settings: Settings) -> Iterator[Line]:
    from jobstore.engine.server import ServerMemory
    from jobstore.storage.postgres.connection import Connection, Place

    floor, memory = Connection(Place(url), is_reader=True), ServerMemory(Fires("UTC"))
    with jobstore.open(url) as store:
        for words, filters in FILTERS.items():
            ask = store.get_job_executions if "job_id" in filters else store.list_job_executions
            total = ask(**filters)["pagination"]["total"]
            for where, depth in DEPTHS.items():
                query = {**filters, "offset": int(total * depth)}
                ids = page_ids(ask(**query))

                def known(_number: int, ids: list[int] = ids) -> bytes:
                    data = [execution_document(row) for row in memory.rows(cast("Any", floor), ids)]
                    return orjson.dumps({"data": data, "pagination": pagination(len(ids), 50, 0, len(ids))})

                def asked(_number: int, ask: Callable[..., Any] = ask, query: dict[str, Any] = query) -> bytes:
                    return orjson.dumps(ask(**query))

                found = in_rotation({FLOOR: known, "jobstore": asked}, rounds=settings.rounds)
                ours = found["jobstore"]
                figures = [
                    Figure(ours.ratio, "F", at_most=MOST_FLOORS), Figure(ours.ratio_p99, "F p99"),
                    Figure(ours.milliseconds, "ms"), Figure(found[FLOOR].milliseconds, "ms floor"),
                ]  # fmt: skip
                yield Line(PART, f"{words}, {where}", label, figures, {"total": total})
    floor.close()


def _recording(server: Any, name: str, label: str) -> Line:
    """Starts and ends of eight processes at once, each its own commit, beside the same into a bare table."""
    url = server.url(name)
    jobstore.Recorder(url).close()
    with server.connect(name) as connection:
        connection.execute(BARE)
    rates: dict[str, list[float]] = {"jobstore": [], "bare": []}
    for turn in range(2 * ROUNDS):
        kind = ("jobstore", "bare")[turn % 2]
        rates[kind].append(_at_once(_WRITERS[kind], url))
    ours, bare = (statistics.median(rates[kind]) for kind in ("jobstore", "bare"))
    figures = [
        Figure(ours / bare, "x bare", at_least=LEAST_OF_BARE), Figure(ours, "runs/s"), Figure(bare, "runs/s bare")
    ]  # fmt: skip
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

    with psycopg.connect(url, autocommit=True) as connection:
        together.wait()
        for _ in range(RUNS):
            (key,) = connection.execute(
                "INSERT INTO bare (job, status, started_at) VALUES (%s, 'RUNNING', now()) RETURNING id",
                (f"job-{number}-{os.getpid()}",),
            ).fetchone() or (None,)
            connection.execute(
                "UPDATE bare SET status = 'SUCCESS', completed_at = now(), result = %s WHERE id = %s",
                ('{"processed": 500}', key),
            )


_WRITERS = {"jobstore": _record, "bare": _insert}
