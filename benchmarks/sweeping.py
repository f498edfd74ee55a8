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

from benchmarks.cases import VARIANTS, Case, sweep
from benchmarks.queries import Asking, answer, check_equal
from benchmarks.results import Figure, Line
from benchmarks.subjects import connection_of, page_ids

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.queries import Bench
    from jobstore import JobStore

PART = "every order and filter"
DENSE_SHARE = 0.1
STEPS_PER_ENTRY = 6
"""What SQLite's machine does to pass over one entry of a covering index: three columns, a row, the next."""
ENTRIES = 25_000
FLOORS = 10
DEEP_MS = 15
STEP = 100
ROUNDS, MOST_ROUNDS = 5, 25
LONGEST_SECONDS = 0.25
DOUBTED = 5.0
"""The worst of a thousand is noise, if it is not measured again."""
WORST_SHOWN = 40
FEWEST = 100


@dataclass(frozen=True, slots=True)
class Swept:
    """What one combination cost."""

    name: str
    share: float
    ratio: float
    milliseconds: float
    steps: int
    is_deep: bool

    @property
    def is_dense(self) -> bool:
        """Whether a tenth of all rows match."""
        return self.share >= DENSE_SHARE


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


def run(bench: Bench, *, compared: bool) -> Iterator[Line]:
    """The worst of the dense combinations in floors, and of the others in entries touched.

    They come in an order of chance, the same each time, so that those for which there is time are a fair sample.
    """
    found = []
    end = time.perf_counter() + bench.settings.sweep_seconds
    for case in shuffled(sweep()):
        found.append(measure(bench, case, compared=compared))
        if time.perf_counter() > end and len(found) >= FEWEST:
            break
    label = bench.dataset.label
    near = [one for one in found if not one.is_deep]
    deep = [one for one in found if one.is_deep]
    for name, some in ("first pages", near), ("40 and 90 % deep", deep):
        dense = sorted((one for one in some if one.is_dense), key=lambda one: -one.ratio)
        sparse = sorted((one for one in some if not one.is_dense), key=lambda one: -one.steps)
        goal = FLOORS if some is near or label != "10M" else None
        over = sum(one.ratio > FLOORS for one in dense)
        text = f"{name}, {len(dense)} that match a tenth or more, {over} over {FLOORS} F; worst"
        yield _line(text, label, Figure(dense[0].ratio, "F", goal), dense)
        over = sum(one.steps > ENTRIES * STEPS_PER_ENTRY for one in sparse)
        text = f"{name}, {len(sparse)} that match less, {over} over {ENTRIES:,} entries; worst"
        yield _line(text, label, Figure(sparse[0].steps / STEPS_PER_ENTRY, "entries", ENTRIES), sparse)
    slow = sorted(deep, key=lambda one: -one.milliseconds)
    over = sum(one.milliseconds > DEEP_MS for one in deep)
    text = f"40 and 90 % deep, {len(deep)} in all, {over} over {DEEP_MS} ms; worst"
    yield _line(text, label, Figure(slow[0].milliseconds, "ms", DEEP_MS), slow)
    slow = sorted(near, key=lambda one: -one.milliseconds)
    yield _line("first pages, slowest", label, Figure(slow[0].milliseconds, "ms"), slow)


def shuffled(cases: Iterable[Case]) -> list[Case]:
    """The cases in an order of chance that never changes."""
    mixed = list(cases)
    random.Random(20261101).shuffle(mixed)
    return mixed


def measure(bench: Bench, case: Case, *, compared: bool = False) -> Swept:
    """One combination: a few rounds, and the steps of its dearest page.

    Deep pages are asked at 90 % and at 40 % in turn, so that none begins where the last one ended.
    """
    queries = _queries(bench, case)
    pages = [answer(bench.store, case, query) for query in queries]
    if compared:
        for name, peer in bench.peers.items():
            for query, page in zip(queries, pages, strict=True):
                check_equal(case, name, page, answer(peer, case, query))
    ids = [page_ids(page) for page in pages]
    asking = Asking(bench.store, case, [queries[number % len(queries)] for number in range(VARIANTS)])
    steps = max(steps_of(bench.store, case, query) for query in queries)
    ratio, milliseconds = _ratio(lambda number: bench.floor.executions(ids[number % len(ids)]), asking)
    share = pages[0]["pagination"]["total"] / bench.dataset.size
    return Swept(case.name, share, ratio, milliseconds, steps, case.deep)


def _queries(bench: Bench, case: Case) -> list[dict[str, Any]]:
    query = case.query(0)
    if not case.deep:
        return [query]
    total = answer(bench.store, case, {**query, "limit": 1})["pagination"]["total"]
    return [{**query, "offset": total * 9 // 10}, {**query, "offset": total * 4 // 10}]


def _ratio(floor: Callable[[int], object], ours: Callable[[int], object]) -> tuple[float, float]:
    """Floors and milliseconds: the median of a few rounds, more where it looks slow, two where that takes long."""
    floor(0)
    ratios: list[float] = []
    seconds: list[float] = []
    end = time.perf_counter() + LONGEST_SECONDS
    while len(ratios) < ROUNDS or (statistics.median(ratios) > DOUBTED and len(ratios) < MOST_ROUNDS):
        begun = time.perf_counter()
        floor(len(ratios))
        between = time.perf_counter()
        ours(len(ratios))
        ended = time.perf_counter()
        ratios.append((ended - between) / (between - begun))
        seconds.append(ended - between)
        if ended > end and len(ratios) > 1:
            break
    return statistics.median(ratios), statistics.median(seconds) * 1000


def steps_of(store: JobStore, case: Case, query: dict[str, Any]) -> int:
    """SQLite's steps for a query that was asked before."""
    with Steps(connection_of(store)) as steps:
        answer(store, case, query)
    return steps.count


def _line(name: str, label: str, figure: Figure, found: list[Swept]) -> Line:
    worst = [asdict(one) for one in found[:WORST_SHOWN]]
    return Line(PART, f"{name}: {found[0].name}", label, [figure], {"worst": worst, "combinations": len(found)})
