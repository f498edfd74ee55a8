"""The pages of executions that are measured: each with its goal, the floor below it, and the peers beside it.

The floor F of a page is what its rows cost when their ids are known: ids -> rows -> documents -> JSON
bytes, by the library's own code from the same file. No way to answer a query can cost less.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

import jobstore
from benchmarks.datasets import Dataset
from benchmarks.history import DAY_US, DENSE, END_US, FAILED, MINUTE_US, SPARSE, fleet, trace_id
from benchmarks.measure import FLOOR, OURS, VARIANTS, Ask, Line, Settings, rivals
from benchmarks.peers import HandWritten
from jobstore.language.instants import instant_datetime, instant_text
from jobstore.language.models import pagination
from jobstore.storage.connection import Reader
from jobstore.storage.documents import execution_document
from jobstore.storage.rows import ExecutionRow, fetch_executions

Keywords = dict[str, Any]

PART = "Executions"
NOW = instant_datetime(END_US).astimezone(UTC) + timedelta(seconds=30)
BUSY = [job.name for job in fleet() if job.period == 1 and "dead" not in job.name][:VARIANTS]
"""Jobs that fire each minute, so that every size has a page of them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: the keywords of variant 0, 1, ...: the same question about another job, day or place."""

    name: str
    query: Callable[[int], Keywords]
    most: float | None
    """The goal at ten million executions, in floors."""
    faster: float | None = None
    """The goal, as how many times faster than naive."""
    deep: bool = False
    """Whether the page begins at 90 % of what matches."""


def window(number: int, days: int, *, aligned: bool = False) -> Keywords:
    """``days`` days that end some days before the data does, at no full hour unless aligned."""
    end = END_US - (2 + number) * DAY_US - (0 if aligned else 433 * MINUTE_US + 17_123_456)
    return {"after": instant_text(end - days * DAY_US), "before": instant_text(end - 1 if aligned else end)}


CASES = (
    Case("latest 50 of all", lambda _: {}, 1.15, 200),
    Case("one job's latest", lambda n: {"job_id": BUSY[n]}, 1.15),
    Case("one job's failures", lambda n: {"job_id": BUSY[n], "status": "FAILURE"}, 1.15),
    Case("search=failed, latest", lambda _: {"search": FAILED}, 2, 2500),
    Case("name search, dense", lambda _: {"search": DENSE}, 1.25, 3000),
    Case("name search, sparse", lambda _: {"search": SPARSE}, 1.6, 3000),
    Case("window of one day", lambda n: window(n, 1), 1.7),
    Case("window of 45 days", lambda n: window(n, 45), 1.7, 300),
    Case("90 % deep: all", lambda _: {}, 1.9, deep=True),
    Case("90 % deep: search=timeout", lambda _: {"search": "timeout"}, 1.5, deep=True),
    Case("90 % deep: one job", lambda n: {"job_id": BUSY[n]}, 1.2, deep=True),
    Case("90 % deep: dense name search", lambda _: {"search": DENSE}, 3, deep=True),
    Case("90 % deep: search=failed", lambda _: {"search": FAILED}, 5, deep=True),
    Case("order by duration_ms", lambda _: {"order_by": "duration_ms"}, 1.3),
    Case("order by job_name", lambda _: {"order_by": "job_name", "order_desc": False}, 1.3),
    Case("dense search, aligned window", lambda n: {"search": DENSE, **window(n, 20, aligned=True)}, 5),
    Case("dense search, unaligned window", lambda n: {"search": DENSE, **window(n, 20)}, 5),
    Case("trace_id", lambda n: {"trace_id": trace_id(n)}, 1),
)
"""Named in the goal, in its order."""


def run(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    with closing(Bench(dataset, settings)) as bench:
        yield from (bench.measure(case) for case in CASES if settings.match in case.name)


class MovingClock:
    """Seven seconds later at each look: schedules come due between the queries."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """The moment, later than the one before."""
        self.now += timedelta(seconds=7)
        return self.now


def open_store(path: Path, clock: Callable[[], datetime] = lambda: NOW) -> jobstore.JobStore:
    """The store under test; its clock stands still unless one is given."""
    return jobstore.open(path, clock=clock)


class Bench:
    """The opened candidates of one data set."""

    def __init__(self, dataset: Dataset, settings: Settings | None = None, *, peers: bool = True) -> None:
        self.dataset, self.settings = dataset, settings or Settings()
        path = dataset.path(OURS)
        self.store, self.reader = open_store(path), Reader(path)
        names = ("naive", "careful") if peers else ()
        self.peers = {name: HandWritten(dataset.path(name), careful=name == "careful") for name in names}

    def close(self) -> None:
        """Closes all files."""
        self.store.close()
        self.reader.close()
        for peer in self.peers.values():
            peer.connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection that the store's next query uses; what it does there can be watched."""
        if self.store.connection is None:
            raise ValueError("the store is closed")
        return self.store.connection

    def page(self, query: Keywords) -> Any:
        """The page that our store gives."""
        return page_of(self.store, query)

    def known(self, ids: Sequence[int]) -> bytes:
        """The floor: the page of these executions as JSON."""
        return as_page(fetch_executions(self.reader.connection, ids))

    def measure(self, case: Case) -> Line:
        """One case, all candidates in rotation; a page of one row is held against the floor of the latest fifty."""
        queries = [self.placed(case, number) for number in range(VARIANTS)]
        ids = [page_ids(self.page(query)) for query in ([{}] if case.name == "trace_id" else queries)]

        def asking(page: Callable[[Keywords], Any]) -> Ask:
            return lambda number: page(queries[number])

        candidates = {FLOOR: lambda number: self.known(ids[number % len(ids)]), OURS: asking(self.page)}
        candidates |= {name: asking(peer.page) for name, peer in self.peers.items()}
        faster = case.faster if self.dataset.label == "10M" else None
        line = rivals(
            PART, case.name, self.dataset.label, self.settings, candidates, most=case.most, faster=faster, same=page_key
        )
        line.detail["grows"] = True
        return line

    def placed(self, case: Case, number: int) -> Keywords:
        """The keywords of a variant, with the offset of a deep page."""
        query = case.query(number)
        return {**query, "offset": max(0, self.total(query) * 9 // 10 - 50 * number)} if case.deep else query

    def total(self, query: Keywords) -> int:
        """How many executions match."""
        total: int = self.page({**query, "limit": 1})["pagination"]["total"]
        return total


def as_page(rows: Sequence[ExecutionRow]) -> bytes:
    """Rows that were looked up by their ids -> documents -> JSON."""
    data = [execution_document(row) for row in rows]
    return orjson.dumps({"data": data, "pagination": pagination(len(data), 50, 0, len(data))})


def page_of(store: Any, query: Keywords) -> Any:
    """The page of a job's executions or of all."""
    return (store.get_job_executions if "job_id" in query else store.list_job_executions)(**query)


def page_ids(page: Any) -> list[int]:
    """The ids of the executions on a page."""
    return [int(document["id"]) for document in page["data"]]


def page_key(page: Any) -> tuple[list[int], Any]:
    """In what two pages of executions must agree: ids, their places, the total."""
    return page_ids(page), page["pagination"]
