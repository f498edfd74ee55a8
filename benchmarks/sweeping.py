"""The rest of the promise: every order over every filter, at the first page and deep, in a few lines.

No combination may fall off a cliff. Where a tenth of the rows or more match, a page may cost ten floors;
where fewer do, SQLite may take so many steps as 25,000 entries of an index need. A deep page takes 15 ms at most.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson
from rich.progress import track

from benchmarks.cases import Case, sweep
from benchmarks.measure import Figure, Line, check_equal, timed
from benchmarks.queries import answer
from benchmarks.subjects import connection_of, page_ids

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from rich.console import Console

    from benchmarks.queries import Bench
    from jobstore import JobStore

PART = "Every order and filter"
DENSE_SHARE = 0.1
STEPS_PER_ENTRY = 6
"""What SQLite's machine does to pass over one entry of a covering index: three columns, a row, the next."""
ENTRIES, FLOORS, DEEP_MS = 25_000, 10, 15
BOTH_UP_TO = 100_000
"""Where naive's scans are short, it is asked too."""
STEP = 100
ROUNDS, MOST_ROUNDS, LONGEST_SECONDS = 5, 25, 0.25
DOUBTED = 5.0
"""Floors from which a combination is measured again: the worst of a thousand would be noise otherwise."""
WORST_KEPT, FEWEST = 40, 100


@dataclass(frozen=True, slots=True)
class Swept:
    """What one combination cost."""

    name: str
    share: float
    ratio: float
    milliseconds: float
    entries: float


class Steps:
    """Counts the steps that SQLite's machine takes on a connection, by the hundred."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.count = 0

    def __enter__(self) -> Steps:
        self.count = 0
        self._connection.set_progress_handler(self._tick, STEP)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.set_progress_handler(None, STEP)

    def _tick(self) -> int:
        self.count += STEP
        return 0


def run(bench: Bench, console: Console) -> Iterator[Line]:
    """The worst combinations in floors, in entries touched and in milliseconds, and how many are over each bound.

    They come in an order of chance, the same each time, so that those for which there is time are a fair sample.
    """
    cases = list(sweep())
    random.Random(20261101).shuffle(cases)
    near: list[Swept] = []
    deep: list[Swept] = []
    end = time.perf_counter() + bench.settings.sweep_seconds
    for case in cases:
        (deep if case.deep else near).append(measure(bench, case))
        if time.perf_counter() > end and len(near) + len(deep) >= FEWEST:
            break
    label = bench.dataset.label
    for name, found in ("first pages", near), ("40 and 90 % deep", deep):
        dense = [one for one in found if one.share >= DENSE_SHARE]
        floors = FLOORS if found is near or label != "10M" else None  # there the deep ones are bound by milliseconds
        yield _line(f"{name} that match a tenth or more", label, dense, "ratio", "F", floors)
        sparse = [one for one in found if one.share < DENSE_SHARE]
        yield _line(f"{name} that match less", label, sparse, "entries", "entries", ENTRIES)
    yield _line("first pages, slowest", label, near, "milliseconds", "ms", None)
    yield _line("40 and 90 % deep, slowest", label, deep, "milliseconds", "ms", DEEP_MS)
    yield _compared(bench, cases[: len(near) + len(deep)], console)


def _line(name: str, label: str, found: list[Swept], key: str, unit: str, bound: float | None) -> Line:
    found = sorted(found, key=lambda one: -getattr(one, key))
    worst = found[0]
    over = f"{sum(getattr(one, key) > bound for one in found)} of {len(found)} over; " if bound else ""
    detail = {"worst": [asdict(one) for one in found[:WORST_KEPT]], "combinations": len(found)}
    return Line(PART, name, label, [Figure(getattr(worst, key), unit, bound)], detail, f"{over}worst: {worst.name}")


def _compared(bench: Bench, cases: list[Case], console: Console) -> Line:
    """Holds as many pages as there is time for against the peers, one of them at least; a difference raises."""
    names = ("naive", "careful") if bench.dataset.size <= BOTH_UP_TO else ("careful",)
    pages = combinations = 0
    end = time.perf_counter() + bench.settings.compare_seconds
    for case in track(cases, "comparing pages", console=console, transient=True):
        for query in _queries(bench, case):
            page = answer(bench.store, case, query)
            ours = page_ids(page), page["pagination"]["total"]
            for name in names:
                check_equal(f"{case.name}, {name}", None, ours, bench.peers[name].ids(case.method, query))
            pages += 1
        combinations += 1
        if time.perf_counter() > end:
            break
    text = f"all equal, of {combinations} combinations, with {' and '.join(names)}"
    return Line(PART, "pages compared", bench.dataset.label, [Figure(pages, "pages")], {}, text)


def measure(bench: Bench, case: Case) -> Swept:
    """One combination: a few rounds, and the steps of its dearest page."""
    queries = _queries(bench, case)
    pages = [answer(bench.store, case, query) for query in queries]
    ids = [page_ids(page) for page in pages]
    steps = max(steps_of(bench.store, case, query) for query in queries)
    ratio, milliseconds = _ratio(bench, case, queries, ids)
    share = pages[0]["pagination"]["total"] / bench.dataset.size
    return Swept(case.name, share, ratio, milliseconds, steps / STEPS_PER_ENTRY)


def _queries(bench: Bench, case: Case) -> list[dict[str, Any]]:
    """Deep pages at 90 % and at 40 % in turn, so that none begins where the last one ended."""
    query = case.query(0)
    if not case.deep:
        return [query]
    total = bench.total(case, query)
    return [{**query, "offset": total * 9 // 10}, {**query, "offset": total * 4 // 10}]


def _ratio(bench: Bench, case: Case, queries: list[dict[str, Any]], ids: list[list[int]]) -> tuple[float, float]:
    """Floors and milliseconds: the median of a few rounds, more where it looks slow, two where that takes long."""
    bench.floor.executions(ids[0])
    ratios: list[float] = []
    seconds: list[float] = []
    end = time.perf_counter() + LONGEST_SECONDS
    while len(ratios) < ROUNDS or (statistics.median(ratios) > DOUBTED and len(ratios) < MOST_ROUNDS):
        turn = len(ratios) % len(queries)
        floor = timed(lambda at: bench.floor.executions(ids[at]), turn)
        seconds.append(timed(lambda at: orjson.dumps(answer(bench.store, case, queries[at])), turn))
        ratios.append(seconds[-1] / floor)
        if time.perf_counter() > end and len(ratios) > 1:
            break
    return statistics.median(ratios), statistics.median(seconds) * 1000


def steps_of(store: JobStore, case: Case, query: dict[str, Any]) -> int:
    """SQLite's steps for a query that was asked before."""
    with Steps(connection_of(store)) as steps:
        answer(store, case, query)
    return steps.count
