"""The guard of the benchmark: no lost index, counter or access path gets past it, and its data is what it says."""

from __future__ import annotations

import doctest
import gc
import re
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import orjson
import pytest

from benchmarks import guard, history, jobs, measure, peers, report
from benchmarks.measure import Disagreement, Figure, Line, Settings, check_equal, rivals
from benchmarks.pages import CASES, Bench, page_key
from benchmarks.sweep import steps
from jobstore.storage import schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.datasets import Dataset

INDEXES = re.findall(r"CREATE INDEX (\w+)", schema.EXECUTION_INDEXES)
SAMPLE = 20_000
SMALL, LARGE = 4_000, 40_000
"""Smaller than those of the guard, and still far more than any of its bounds allows to walk."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """A small store and one with ten times the history."""
    folder = tmp_path_factory.mktemp("guard")
    return guard.store_of(folder, SMALL), guard.store_of(folder, LARGE)


@pytest.fixture(scope="module")
def sample() -> list[dict[str, object]]:
    return list(history.documents(SAMPLE))


def mutilated(dataset: Dataset, folder, *statements: str) -> Dataset:
    """A copy of a store in which something was changed by hand."""
    shutil.copyfile(dataset.path("jobstore"), folder / "jobstore.db")
    connection = sqlite3.connect(folder / "jobstore.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return replace(dataset, folder=folder)


def test_every_query_takes_few_more_steps_than_its_known_rows(stores):
    assert list(guard.step_problems(stores[1])) == []


def test_ten_times_the_history_takes_no_more_steps(stores):
    assert list(guard.growth_problems(*stores)) == []


def test_no_statement_walks_counts_or_sorts_the_table_of_executions(stores):
    assert list(guard.plan_problems(stores[0])) == []


def test_every_query_costs_a_few_floors(stores):
    gc.freeze()  # each measurement collects garbage first, and need not go through what all tests have imported
    try:
        assert list(guard.ratio_problems(stores[1])) == []
    finally:
        gc.unfreeze()


def test_the_indexes_that_are_tried_are_all_of_the_file_format(stores):
    with closing(sqlite3.connect(stores[0].path("jobstore"))) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%ON execution %'")
        assert sorted(name for (name,) in found) == sorted(INDEXES)


# Statistics are no case of the guard; without their index they cannot be asked at all.
@pytest.mark.parametrize("name", [name for name in INDEXES if name != "execution_never_started"])
def test_a_lost_index_is_noticed(name, stores, tmp_path):
    lost = mutilated(stores[0], tmp_path, f"DROP INDEX {name}")
    assert any(guard.step_problems(lost))


def test_an_index_that_lost_its_columns_is_noticed_by_the_steps_alone(stores, tmp_path):
    name = "execution_status_started"
    emptied = mutilated(stores[1], tmp_path, f"DROP INDEX {name}", f"CREATE INDEX {name} ON execution (status)")
    assert any("steps" in problem for problem in guard.step_problems(emptied))


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("SELECT id FROM execution WHERE error = 'x'", "walks the table"),
        (
            "SELECT id FROM execution INDEXED BY execution_status_started WHERE status <> 1 AND status = 3 ORDER BY error",
            "sorts",
        ),
        ("SELECT count(*) FROM execution", "counts the executions"),
        (
            "SELECT e.id FROM execution AS e JOIN job_name AS n ON n.name_id = e.id WHERE e.error = 'x'",
            "walks the table",
        ),
    ],
)
def test_a_careless_statement_is_noticed_by_its_plan(statement, fault, stores):
    connection = sqlite3.connect(stores[0].path("jobstore"))
    faults = guard.faults_of(connection, statement)
    connection.close()
    assert any(fault in found for found in faults), faults


def test_a_walk_in_order_of_id_is_no_scan(stores):
    connection = sqlite3.connect(stores[0].path("jobstore"))
    assert guard.faults_of(connection, "SELECT id FROM execution ORDER BY id DESC LIMIT 50 OFFSET 0") == []
    connection.close()


def test_steps_are_counted_for_one_connection_while_something_is_called(stores):
    one, other = (sqlite3.connect(stores[0].path("jobstore")) for _ in range(2))

    def walk(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT max(duration_ms + 1) FROM execution").fetchall()

    assert steps(one, lambda: walk(one)) >= 2 * SMALL
    assert steps(one, lambda: walk(other)) == 0
    counted = []
    handlers = SimpleNamespace(set_progress_handler=lambda handler, _: counted.append(handler))
    with pytest.raises(ZeroDivisionError):
        steps(cast("sqlite3.Connection", handlers), lambda: 1 / 0)
    assert counted[0] is not None
    assert counted[1:] == [None], "it is taken away, also after an error"
    one.close()
    other.close()


def test_hand_written_queries_give_the_same_pages(tmp_path, stores):
    path = tmp_path / "naive.db"
    peers.build(path, history.job_documents(), history.documents(SMALL))
    bench = Bench(stores[0], peers=False)
    for careful in (False, True):
        peer = peers.HandWritten(path, careful=careful)
        for case in CASES:
            query = bench.placed(case, 0)
            check_equal(case.name, page_key(bench.page(query)), page_key(peer.page(query)))
        peer.connection.close()
    bench.close()


def test_a_rival_with_another_answer_breaks_a_line_off():
    def line(theirs: int) -> Line:
        candidates: dict[str, Callable[[int], object]] = {
            "floor": str,
            "jobstore": lambda _: 1,
            "naive": lambda _: theirs,
        }
        return rivals("", "latest", "10k", Settings(rounds=5), candidates, same=str)

    assert [figure.unit for figure in line(1).figures] == ["F", "x naive"]
    with pytest.raises(Disagreement, match="latest, naive: jobstore says 1, not 2"):
        line(2)


def test_the_statistics_and_lists_of_jobs_are_measured(stores):
    assert len(list(jobs.statistics(stores[0]))) == 2
    assert len(list(jobs.lists(stores[0].path("jobstore"), 10_000, Settings(rounds=1)))) == 4


def test_the_printed_tables_show_growth_and_missed_goals_with_their_reasons_and_are_written_again(tmp_path):
    lines = [
        Line("Executions", "order by job_name", size, [Figure(value, "F", 1.3)], {"grows": True})
        for size, value in (("100k", 1.0), ("10M", 1.6))
    ]
    page = tmp_path / "README.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_json(tmp_path / "figures.json", lines, {"commit": "5e1b0d7", "seconds": 1, "parts": {}})
    for _ in range(2):
        report.replace_block(page, report.blocks(tmp_path / "figures.json")[1])
    text = page.read_text()
    assert "| order by job_name | ≤ 1.3 F | 1 F | **1.6 F** | **1.6** |" in text
    assert "| order by job_name | 10M: 23 % over, growth | each name on the page is a statement" in text
    assert re.match(
        rf"before\n{report.BEGIN}\n\d+-\d+-\d+, commit 5e1b0d7: `python -m benchmarks.*`\n\n.+ load average ", text
    )
    assert ", SQLite " in text
    assert text.endswith(f"\n{report.END}\nafter\n")
    assert "old" not in text


def test_the_99th_percentile_stands_behind_the_ratio_not_behind_the_milliseconds(tmp_path):
    figures = [Figure(0.4, "ms", 1), Figure(1.2, "F")]
    line = Line("Jobs", "list_jobs by next_run_at", "10k jobs", figures, {"p99": 1.5})
    report.write_json(tmp_path / "figures.json", [line], {"commit": "5e1b0d7", "seconds": 1, "parts": {}})
    assert "| 0.4 ms; 1.2 F (p99 1.5) |" in report.blocks(tmp_path / "figures.json")[1]


def test_the_fleet_has_the_shares_it_promises():
    fleet = history.fleet()
    documents = [job.document for job in fleet]
    assert Counter(job.period for job in fleet) == {1: 50, 10: 200, 60: 300, 1440: 9450}
    assert len({job["schedule"] for job in documents} - {None}) == 431
    assert sum(job["schedule"] is None for job in documents) == pytest.approx(2000, abs=50)
    assert sum(history.DENSE in job.name for job in fleet) == pytest.approx(3000, abs=10)
    assert sum(history.SPARSE in job.name for job in fleet) == 3
    assert sum(history.FAILED in job.name.casefold() for job in fleet) == 5


def test_the_history_has_the_shares_it_promises(sample):
    by_status = Counter(document["status"] for document in sample)
    starts = [str(document["started_at"] or document["created_at"]) for document in sample]
    names = Counter(document["job_name"] for document in sample)
    share = {status: count / SAMPLE for status, count in by_status.items()}
    assert share["SUCCESS"] == pytest.approx(0.92, abs=0.01)
    assert share["FAILURE"] == pytest.approx(0.05, abs=0.01)
    assert share["TIMEOUT"] == pytest.approx(0.02, abs=0.005)
    assert set(share) == {"SUCCESS", "FAILURE", "TIMEOUT", "RUNNING", "PENDING"}
    assert sum(start.endswith(":00Z") for start in starts) / SAMPLE == pytest.approx(0.2, abs=0.02)
    assert sum(count for name, count in names.items() if history.DENSE in str(name)) / SAMPLE == pytest.approx(
        0.25, abs=0.02
    )
    assert 100 < sum(len(orjson.dumps(document["result"])) for document in sample) / SAMPLE < 170
    assert 120 < sum(len(orjson.dumps(document["parameters_snapshot"])) for document in sample) / SAMPLE < 170


def test_ids_are_nearly_but_not_exactly_in_order_of_time():
    documents = islice(history.documents(guard.LARGE), SAMPLE)
    starts = [document["started_at"] or document["created_at"] for document in documents]
    inversions = sum(earlier > later for earlier, later in pairwise(starts))
    assert 0.01 < inversions / SAMPLE < 0.2


def test_the_history_is_that_of_three_months(sample):
    starts = [document["started_at"] or document["created_at"] for document in sample]
    assert starts[0][:10] == "2026-08-03"
    assert starts[-1][:10] == "2026-10-31"


def test_the_dead_job_ends_two_months_before_the_others(sample):
    runs = {
        name: [d["created_at"] for d in sample if d["job_name"] == name] for name in (history.DEAD, history.SUCCESSOR)
    }
    assert max(runs[history.DEAD]) < "2026-09-02"
    assert min(runs[history.SUCCESSOR]) >= "2026-09-02"


def test_the_same_size_is_the_same_history_each_time():
    assert list(history.documents(2_000)) == list(history.documents(2_000))


def test_trace_ids_are_32_hexadecimal_digits_and_never_come_twice(sample):
    traces = {document["trace_id"] for document in sample}
    assert len(traces) == SAMPLE
    assert all(re.fullmatch(r"[0-9a-f]{32}", str(trace)) for trace in traces)


@pytest.mark.parametrize("module", [history, measure])
def test_the_examples_in_the_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0
