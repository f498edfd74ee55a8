"""The regression check: fails when an index, a counter or an access path is lost, on a noisy machine too.

Three things are held against bounds, none of them a time by itself:

- the ratio of each measured query to the floor, generously (a lost index costs a factor of a hundred);
- the steps SQLite's machine takes for it, against those for the known rows: the same on every machine,
  and the same in a history ten times as long;
- the plans of the statements that run: none walks the table of executions, none sorts it.
"""

import math
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.datasets import Dataset, build_store
from benchmarks.measure import Settings
from benchmarks.pages import CASES, Bench, Case, page_ids
from benchmarks.sweep import ENTRIES, STEPS_PER_ENTRY, combinations, steps
from jobstore.language.errors import JobStoreError

ORDERED = [case for case in combinations(("all", "FAILURE", "dense", "job")) if not case.deep]
SMALL, LARGE = 10_000, 100_000
MOST_RATIO, MEASURES = 4.0, 5
"""Times the goal of a query: what noise seldom reaches, and a lost index always exceeds, measured again and again."""
MOST_STEPS, LEAST_FLOOR = 12.0, 1_700
"""Times the steps of the floor, which are that many at least; the queries take two to five."""
MOST_MORE_STEPS = 3.0
"""Times the steps in a tenth of the history."""
FORBIDDEN = (
    (re.compile(r"^SCAN (execution|e)($| USING INTEGER PRIMARY KEY)"), "walks the table of executions"),
    (re.compile(r"AUTOMATIC .*INDEX"), "makes an index of its own"),
    (re.compile(r"^USE TEMP B-TREE FOR (ORDER BY|DISTINCT)$"), "sorts what it found"),
)
WALK = re.compile(r"^SCAN (execution|e)\b")
COUNTS = re.compile(r"(?i)\bcount\s*\(")
FETCH_AND_SORT = re.compile(r"\s*SELECT id FROM \(SELECT id\b.* AS found\b", re.DOTALL)
"""An access path of its own, chosen by cost; the steps that it takes are held against their bound."""
IN_ORDER_OF_ID = re.compile(r"ORDER BY id (ASC|DESC)\s+LIMIT \d+( OFFSET \d+)?\s*(\)|$)")
"""The table itself is in order of id: walking it for a page is no scan."""


def check() -> list[str]:
    """Builds two small stores and checks everything on them."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = store_of(Path(folder), SMALL), store_of(Path(folder), LARGE)
        return [
            *step_problems(large), *growth_problems(small, large), *plan_problems(large), *ratio_problems(large)
        ]  # fmt: skip


def store_of(folder: Path, size: int) -> Dataset:
    """A store of this size, without peers."""
    home = folder / str(size)
    home.mkdir()
    build_store(home / "jobstore.db", size)
    return Dataset(f"{size:,}", size, home, {})


def ratio_problems(dataset: Dataset) -> Iterator[str]:
    """Queries that cost far more floors than their goal."""
    with closing(Bench(dataset, Settings(rounds=15, budget=0.2), peers=False)) as bench:
        for case in CASES:
            most, ratios = MOST_RATIO * (case.most or 1), [math.inf]
            while len(ratios) <= MEASURES and min(ratios) > most:  # a busy machine slows one of them
                ratios.append(bench.measure(case).figures[0].value)
            if min(ratios) > most:
                yield f"{case.name}: {min(ratios):.1f} floors; its goal is {case.most}"


def step_problems(dataset: Dataset) -> Iterator[str]:
    """Queries for which SQLite takes many more steps than for the known rows, and those that break off.

    A named query may take a few floors; any other as many steps as 25,000 entries of an index.
    """
    with closing(Bench(dataset, peers=False)) as bench:
        for case in (*CASES, *ORDERED):
            try:
                taken, floor = _steps(bench, case), _floor_steps(bench, case)
            except JobStoreError as error:
                yield f"{case.name}: {error.code}: {error}"
                continue
            most = ENTRIES * STEPS_PER_ENTRY if case.most is None else MOST_STEPS * floor
            if taken > most:
                yield f"{case.name}: {taken:,} steps; {most:,.0f} are allowed"


def growth_problems(small: Dataset, large: Dataset) -> Iterator[str]:
    """Queries that take more steps in ten times the history."""
    with closing(Bench(small, peers=False)) as bench, closing(Bench(large, peers=False)) as grown:
        for case in CASES:
            before, after = _steps(bench, case), _steps(grown, case)
            if after > max(before, _floor_steps(grown, case)) * MOST_MORE_STEPS:
                yield f"{case.name}: {before:,} steps at {small.label} executions, {after:,} at {large.label}"


def plan_problems(dataset: Dataset) -> Iterator[str]:
    """Statements over executions whose plan walks, counts or sorts the table."""
    with closing(sqlite3.connect(dataset.path("jobstore"))) as connection:
        for case in (*CASES, *ORDERED):
            for statement in _statements(dataset, case):
                for text in faults_of(connection, statement):
                    yield f"{case.name}: {text}: {' '.join(statement.split())[:300]}"


def faults_of(connection: sqlite3.Connection, statement: str) -> list[str]:
    """What is wrong with the plan of a statement."""
    if IN_ORDER_OF_ID.search(statement) or FETCH_AND_SORT.match(statement):
        return []
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    found = [f"{meaning} ({step})" for step in plan for pattern, meaning in FORBIDDEN if pattern.search(step)]
    if COUNTS.search(statement) and any(WALK.search(step) for step in plan):
        found.append("counts the executions one by one")
    return found


def _statements(dataset: Dataset, case: Case) -> list[str]:
    """The statements over executions that a query sends to SQLite when it is first asked."""
    seen: list[str] = []
    with closing(Bench(dataset, peers=False)) as bench:
        query = bench.placed(case, 0)
        bench.connection.set_trace_callback(seen.append)
        bench.page(query)
    return [statement for statement in seen if re.search(r"\bexecution\b", statement)]


def _floor_steps(bench: Bench, case: Case) -> int:
    ids = page_ids(bench.page(bench.placed(case, 0)))
    return max(steps(bench.reader.connection, partial(bench.known, ids)), LEAST_FLOOR)


def _steps(bench: Bench, case: Case) -> int:
    """The steps of a query that was asked before."""
    query = bench.placed(case, 0)
    bench.page(query)
    return steps(bench.connection, partial(bench.page, query))
