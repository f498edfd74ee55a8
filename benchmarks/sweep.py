"""The rest of the promise: every order over every filter, at the first page and deep, in a few lines.

No combination may fall off a cliff. Where a tenth of the rows or more match, a page may cost ten floors;
where fewer do, SQLite may take the steps that 25,000 index entries need. A deep page takes 15 ms at most.
"""

import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import product
from typing import Any

import orjson
from rich.progress import track

from benchmarks.datasets import CONSOLE, Dataset
from benchmarks.history import DEAD, DENSE, FAILED, FAILING, SLOW, SPARSE
from benchmarks.measure import Figure, Line, Settings, check_equal, timed
from benchmarks.pages import BUSY, Bench, Case, Keywords, page_ids, window

PART = "Every order and filter"
ORDERS = (
    "id", "job_id", "job_name", "status", "started_at", "completed_at", "duration_ms", "trace_id", "worker_id",
    "created_at",
)  # fmt: skip
WORDS: dict[str, dict[str, Any]] = {
    "all": {},
    "FAILURE": {"status": "FAILURE"},
    "SUCCESS": {"status": "SUCCESS"},
    "failed": {"search": FAILED},
    "dense": {"search": DENSE},
    "sparse": {"search": SPARSE},
    "slow job's name": {"search": SLOW},
    "dead job's name": {"search": DEAD},
    "day": window(0, 1),
    "last month": window(0, 25),
    "45 days": window(0, 45),
    "job": {"job_id": BUSY[0]},
    "slow job": {"job_id": SLOW},
    "dead job": {"job_id": DEAD},
    "failing job": {"job_id": FAILING},
}
FILTERS = (
    "all", "FAILURE", "SUCCESS", "failed", "dense", "sparse", "slow job's name", "dead job's name", "day", "45 days",
    "dense+FAILURE", "dense+day", "dense+45 days", "failed+SUCCESS", "failed+45 days", "sparse+FAILURE",
    "sparse+45 days", "FAILURE+day", "FAILURE+45 days", "SUCCESS+45 days", "dead job's name+last month", "job",
    "job+FAILURE", "job+failed+45 days", "job+45 days", "slow job", "dead job", "failing job+SUCCESS",
)  # fmt: skip
"""What a query can ask for, alone and in pairs, with the skewed jobs among them."""

DENSE_SHARE = 0.1
STEP, STEPS_PER_ENTRY = 100, 6
"""What SQLite's machine does to pass over one entry of a covering index: three columns, a row, the next."""
ENTRIES, FLOORS, DEEP_MS = 25_000, 10, 15
BOTH_UP_TO = 100_000
"""Where naive's scans are short, it is asked too."""
ROUNDS, MOST_ROUNDS, LONGEST_SECONDS = 5, 25, 0.25
DOUBTED = 5.0
"""Floors from which a combination is measured again: the worst of a thousand would be noise otherwise."""
WORST_KEPT, FEWEST = 40, 100


Swept = dict[str, Any]
"""What one combination cost: its name, the share of the executions that match, ratio, milliseconds, entries."""


def combinations(filters: tuple[str, ...] = FILTERS) -> Iterator[Case]:
    """Every order in both directions over every filter, at the first page and deep."""
    for filtered, order, descending, deep in product(filters, ORDERS, (True, False), (False, True)):
        name = f"{filtered} by {order} {'desc' if descending else 'asc'}{', 90 % deep' if deep else ''}"
        yield Case(name, partial(_query, filtered, order, descending), None, deep=deep)


def _query(filtered: str, order: str, descending: bool, _: int) -> Keywords:
    query: Keywords = {"order_by": order, "order_desc": descending}
    for word in filtered.split("+"):
        query |= WORDS[word]
    return query


def run(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """The worst combinations in floors, in entries touched and in milliseconds, and how many are over each bound.

    They come in an order of chance, the same each time, so that those for which there is time are a fair sample.
    """
    cases = list(combinations())
    random.Random(20261101).shuffle(cases)
    with closing(Bench(dataset, settings)) as bench:
        swept: list[Swept] = []
        end = time.perf_counter() + settings.sweep_seconds
        while len(swept) < len(cases) and (time.perf_counter() < end or len(swept) < FEWEST):
            swept.append(_measure(bench, cases[len(swept)]))
        for name, deep in ("first pages", False), ("40 and 90 % deep", True):
            found = [one for one in swept if one["deep"] == deep]
            dense = [one for one in found if one["share"] >= DENSE_SHARE]
            sparse = [one for one in found if one["share"] < DENSE_SHARE]
            floors = (
                None if deep and dataset.label == "10M" else FLOORS
            )  # the deep ones are bound by milliseconds there
            yield _line(f"{name} that match a tenth or more", dataset, dense, "ratio", "F", floors)
            yield _line(f"{name} that match less", dataset, sparse, "entries", "entries", ENTRIES)
            yield _line(f"{name}, slowest", dataset, found, "milliseconds", "ms", DEEP_MS if deep else None)
        yield _compared(bench, cases[: len(swept)])


def _line(name: str, dataset: Dataset, found: list[Swept], key: str, unit: str, bound: float | None) -> Line:
    found = sorted(found, key=lambda one: -one[key])
    over = f"{sum(one[key] > bound for one in found)} of {len(found)} over; " if bound else ""
    detail = {"worst": found[:WORST_KEPT], "combinations": len(found)}
    worst = f"{over}worst: {found[0]['name']}"
    return Line(PART, name, dataset.label, [Figure(found[0][key], unit, bound)], detail, worst)


def _compared(bench: Bench, cases: list[Case]) -> Line:
    """Holds as many pages as there is time for against the peers, one of them at least; a difference raises."""
    names = ("naive", "careful") if bench.dataset.size <= BOTH_UP_TO else ("careful",)
    pages = compared = 0
    end = time.perf_counter() + bench.settings.compare_seconds
    for case in track(cases, "comparing pages", console=CONSOLE, transient=True):
        for query in _queries(bench, case):
            page = bench.page(query)
            for name in names:
                ours = page_ids(page), page["pagination"]["total"]
                check_equal(f"{case.name}, {name}", ours, bench.peers[name].ids(query))
            pages += 1
        compared += 1
        if time.perf_counter() > end:
            break
    text = f"all equal, of {compared} combinations, with {' and '.join(names)}"
    return Line(PART, "pages compared", bench.dataset.label, [Figure(pages, "pages")], {}, text)


def _measure(bench: Bench, case: Case) -> Swept:
    """One combination: the steps of its dearest page, and the medians of a few rounds.

    There are more rounds where it looks slow, and two where that takes long.
    """
    queries = _queries(bench, case)
    pages = [bench.page(query) for query in queries]
    ids = [page_ids(page) for page in pages]
    most_steps = max(steps(bench.connection, partial(bench.page, query)) for query in queries)
    bench.known(ids[0])
    ratios: list[float] = []
    seconds: list[float] = []
    end = time.perf_counter() + LONGEST_SECONDS
    while len(ratios) < ROUNDS or (statistics.median(ratios) > DOUBTED and len(ratios) < MOST_ROUNDS):
        turn = len(ratios) % len(queries)
        floor = timed(lambda at: bench.known(ids[at]), turn)
        seconds.append(timed(lambda at: orjson.dumps(bench.page(queries[at])), turn))
        ratios.append(seconds[-1] / floor)
        if time.perf_counter() > end and len(ratios) > 1:
            break
    return {
        "name": case.name,
        "deep": case.deep,
        "share": pages[0]["pagination"]["total"] / bench.dataset.size,
        "ratio": statistics.median(ratios),
        "milliseconds": statistics.median(seconds) * 1000,
        "entries": most_steps / STEPS_PER_ENTRY,
    }


def _queries(bench: Bench, case: Case) -> list[Keywords]:
    """Deep pages at 90 % and at 40 % in turn, so that none begins where the last one ended."""
    query = case.query(0)
    if not case.deep:
        return [query]
    total = bench.total(query)
    return [{**query, "offset": total * 9 // 10}, {**query, "offset": total * 4 // 10}]


def steps(connection: sqlite3.Connection, call: Callable[[], object]) -> int:
    """The steps that SQLite's machine takes on a connection while something is called, by the hundred."""
    taken = 0

    def tick() -> int:
        nonlocal taken
        taken += STEP
        return 0

    connection.set_progress_handler(tick, STEP)
    try:
        call()
    finally:
        connection.set_progress_handler(None, STEP)
    return taken
