"""The regression check: fails when an index, a counter or an access path is lost, on a noisy machine too.

Three things are held against bounds, none of them a time by itself:

- the ratio of each measured query to the floor, generously (a lost index costs a factor of a hundred);
- the steps SQLite's machine takes for it, against those for the known rows: the same on every machine,
  and the same in a history ten times as long;
- the plans of the statements that run: none walks the table of executions, none sorts it.
"""

from __future__ import annotations

import math
import re
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import datasets
from benchmarks.cases import CASES, Case, ordered_cases
from benchmarks.datasets import Dataset
from benchmarks.measure import Settings
from benchmarks.queries import Bench, answer
from benchmarks.subjects import connection_of, page_ids
from benchmarks.sweeping import ENTRIES, STEPS_PER_ENTRY, Steps, steps_of
from jobstore.language.errors import JobStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

SMALL, LARGE = 10_000, 100_000
ROUNDS = 15
MOST_RATIO = 4.0
"""Times the goal of a query: what noise seldom reaches, and a lost index always exceeds."""
MEASURES = 5
"""What looks too slow is measured so often before it counts."""
MOST_STEPS = 12.0
"""Times the steps of the floor; the queries take two to five."""
MOST_MORE_STEPS = 3.0
"""Times the steps in a tenth of the history."""
FORBIDDEN = (
    (re.compile(r"^SCAN (execution|e)$"), "walks the table of executions"),
    (re.compile(r"^SCAN (execution|e) USING INTEGER PRIMARY KEY"), "walks the table of executions"),
    (re.compile(r"AUTOMATIC .*INDEX"), "makes an index of its own"),
    (re.compile(r"^USE TEMP B-TREE FOR (ORDER BY|DISTINCT)$"), "sorts what it found"),
)
WALK = re.compile(r"^SCAN (execution|e)\b")
COUNTS = re.compile(r"(?i)\bcount\s*\(")
FETCH_AND_SORT = re.compile(r"\s*SELECT id FROM \(SELECT id\b.* AS found\b", re.DOTALL)
"""An access path of its own, chosen by cost; the steps that it takes are held against their bound."""
IN_ORDER_OF_ID = re.compile(r"ORDER BY id (ASC|DESC)\s+LIMIT \d+( OFFSET \d+)?\s*(\)|$)")
"""The table itself is in order of id: walking it for a page is no scan."""


def check(console: Console) -> list[str]:
    """Builds two small stores and checks everything on them."""
    with tempfile.TemporaryDirectory() as folder:
        console.print(f"building stores of {SMALL:,} and {LARGE:,} executions")
        small, large = store_of(Path(folder), SMALL), store_of(Path(folder), LARGE)
        console.print("steps, plans, ratios")
        problems = [
            *step_problems(large),
            *growth_problems(small, large),
            *plan_problems(large),
            *ratio_problems(large),
        ]
    console.print(f"{len(problems)} problems")
    return problems


def store_of(folder: Path, size: int) -> Dataset:
    """A store of this size, without peers."""
    home = folder / str(size)
    home.mkdir()
    datasets.build_store(home / "jobstore.db", size)
    return Dataset(f"{size:,}", size, home, {})


def ratio_problems(dataset: Dataset) -> Iterator[str]:
    """Queries that cost far more floors than their goal."""
    bench = Bench(dataset, Settings(ROUNDS, 0.2), peers=False)
    for case in CASES:
        most = MOST_RATIO * (case.most or 1)
        ratios: list[float] = []
        while len(ratios) < MEASURES and min(ratios, default=math.inf) > most:  # a busy machine slows one of them
            ratios.append(bench.measure(case).figures[0].value)
        if min(ratios) > most:
            yield f"{case.name}: {min(ratios):.1f} floors; its goal is {case.most}"
    bench.close()


def step_problems(dataset: Dataset, cases: Iterable[Case] = ()) -> Iterator[str]:
    """Queries for which SQLite takes many more steps than for the known rows, and those that break off."""
    bench = Bench(dataset, peers=False)
    for case in cases or (*CASES, *ordered_cases(), bench.trace_case()):
        try:
            most = _most_steps(bench, case)
            taken = _steps(bench, case)
        except JobStoreError as error:
            yield f"{case.name}: {error.code}: {error}"
            continue
        if taken > most:
            yield f"{case.name}: {taken:,} steps; {most:,.0f} are allowed"
    bench.close()


def growth_problems(small: Dataset, large: Dataset) -> Iterator[str]:
    """Queries that take more steps in ten times the history."""
    benches = [Bench(dataset, peers=False) for dataset in (small, large)]
    for case in CASES:
        before, after = (_steps(bench, case) for bench in benches)
        floor = _floor_steps(benches[1], case)
        if after > max(before, floor) * MOST_MORE_STEPS:
            yield f"{case.name}: {before:,} steps at {small.label} executions, {after:,} at {large.label}"
    for bench in benches:
        bench.close()


def plan_problems(dataset: Dataset) -> Iterator[str]:
    """Statements over executions whose plan walks, counts or sorts the table."""
    connection = sqlite3.connect(dataset.path("jobstore"))
    for name, statements in statements_run(dataset):
        for statement in statements:
            for text in faults_of(connection, statement):
                yield f"{name}: {text}: {' '.join(statement.split())[:300]}"
    connection.close()


def faults_of(connection: sqlite3.Connection, statement: str) -> list[str]:
    """What is wrong with the plan of a statement."""
    if IN_ORDER_OF_ID.search(statement) or FETCH_AND_SORT.match(statement):
        return []
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    found = [f"{meaning} ({step})" for step in plan for pattern, meaning in FORBIDDEN if pattern.search(step)]
    if COUNTS.search(statement) and any(WALK.search(step) for step in plan):
        found.append("counts the executions one by one")
    return found


def statements_run(dataset: Dataset) -> Iterator[tuple[str, list[str]]]:
    """Each measured query with the statements that it sends to SQLite when it is first asked."""
    for case in (*CASES, *ordered_cases()):
        bench = Bench(dataset, peers=False)
        query = bench.placed(case, 0)
        seen: list[str] = []
        connection = connection_of(bench.store)
        connection.set_trace_callback(seen.append)
        answer(bench.store, case, query)
        bench.close()
        yield case.name, [statement for statement in seen if re.search(r"\bexecution\b", statement)]


def index_names(path: Path) -> list[str]:
    """The indexes over executions that the file format has."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'execution' AND sql IS NOT NULL"
        ).fetchall()
    connection.close()
    return sorted(name for (name,) in rows)


def _most_steps(bench: Bench, case: Case) -> float:
    """A named query may take a few floors; any other as many steps as 25,000 entries of an index."""
    return MOST_STEPS * _floor_steps(bench, case) if case.most is not None else ENTRIES * STEPS_PER_ENTRY


def _floor_steps(bench: Bench, case: Case) -> int:
    ids = page_ids(answer(bench.store, case, bench.placed(case, 0)))
    with Steps(bench.floor.connection) as steps:
        bench.floor.executions(ids)
    return max(steps.count, 1_700)


def _steps(bench: Bench, case: Case) -> int:
    """The steps of a query that was asked before."""
    query = bench.placed(case, 0)
    answer(bench.store, case, query)
    return steps_of(bench.store, case, query)
