"""The lists of jobs, at ten and at a hundred thousand jobs, and the statistics."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks.datasets import Dataset, build_store
from benchmarks.history import DENSE, Job, fleet
from benchmarks.measure import FLOOR, OURS, Ask, Figure, Line, Settings, rivals, timed
from benchmarks.pages import BUSY, MovingClock, open_store
from jobstore import JobStore
from jobstore.language.instants import instant_us
from jobstore.storage.connection import Reader
from jobstore.storage.documents import job_document
from jobstore.storage.rows import fetch_jobs

PART, STATISTICS = "Jobs", "Statistics"
MANY_JOBS = 100_000
ROUNDS = 20
"""Of the statistics, which take long."""


def run(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """Statistics at each size; the lists, which do not depend on it, once."""
    yield from statistics(dataset)
    if dataset.label == settings.sizes[-1]:
        yield from lists(dataset.path(OURS), 10_000, settings)
        with tempfile.TemporaryDirectory() as folder:
            many = Path(folder) / "jobs.db"
            build_store(many, 0, jobs=MANY_JOBS)  # takes seconds
            yield from lists(many, MANY_JOBS, settings)


def statistics(dataset: Dataset) -> Iterator[Line]:
    """``job_stats`` of one job and of all executions, in milliseconds: no row is their floor."""
    with closing(open_store(dataset.path(OURS))) as store:
        for what, job_id, most in (("one job", BUSY[0], 10), ("all", None, 300)):
            seconds = median(timed(partial(_stats, store, job_id), number) for number in range(ROUNDS))
            figure = Figure(seconds * 1000, "ms", at_most=most)
            yield Line(STATISTICS, f"job_stats of {what}", dataset.label, [figure])


def _stats(store: JobStore, job_id: str | None, _: int) -> bytes:
    return orjson.dumps(store.job_stats(job_id))


def lists(path: Path, count: int, settings: Settings) -> Iterator[Line]:
    """``list_jobs`` and ``get_job`` of a store with `count` jobs."""
    terms, name = iter(_terms(fleet(count), settings.rounds + 10)), fleet(count)[77].name
    with (
        closing(Reader(path)) as reader,
        closing(open_store(path)) as store,
        closing(open_store(path, MovingClock())) as moving,
    ):

        def line(what: str, ask: Ask, **goal: Any) -> Line:
            candidates = {FLOOR: _floor(reader, ask(0)), OURS: ask}
            return rivals(PART, what, f"{count // 1000}k jobs", settings, candidates, **goal)

        yield line("list_jobs, search, seen term", lambda _: store.list_jobs(search=DENSE), most=1.2)
        yield line("list_jobs, search, new term", lambda _: store.list_jobs(search=next(terms)), most=3)
        yield line(
            "list_jobs by next_run_at, moving clock", lambda _: moving.list_jobs(order_by="next_run_at"), most_ms=1
        )
        yield line("get_job", lambda _: store.get_job(name), unit="one-row reads", most=2)


def _floor(reader: Reader, answer: Any) -> Ask:
    """The same page, or the same job, when the numbers and next runs of its jobs are known."""
    jobs = answer.get("data", [answer])
    ask = reader.connection.execute
    numbers = [ask("SELECT number FROM job WHERE name = ?", (job["name"],)).fetchone()[0] for job in jobs]
    texts = [job["next_run_at"] for job in jobs]
    next_runs = [text and instant_us(datetime.fromisoformat(text)) for text in texts]

    def known(_: int) -> bytes:
        rows = fetch_jobs(reader.connection, numbers)
        data = [job_document(row, us) for row, us in zip(rows, next_runs, strict=True)]
        return orjson.dumps({**answer, "data": data} if "data" in answer else data[0])

    return known


def _terms(jobs: Sequence[Job], count: int) -> list[str]:
    """Distinct parts of names, each in fifty jobs or more (so the page is full) and in few enough to search for."""
    names = [job.name for job in jobs[:10_000]]
    for length in range(5, 16):
        seen = Counter(part for name in names for part in {name[at : at + length] for at in range(len(name) - length)})
        terms = sorted(term for term, found in seen.items() if 50 <= found <= 1_000)
        if len(terms) >= count:
            return terms[:: len(terms) // count][:count]
    raise AssertionError("the fleet has too few distinct parts of names")
