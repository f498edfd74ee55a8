"""Rows that somebody wrote past every rule, among three hundred good ones: the good stay right, the bad are marked."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.cli.app import run
from jobstore.engine import costs
from jobstore.language.models import EXECUTION_ORDERS, JOB_ORDERS
from jobstore.transfer.dump import dump_lines
from jobstore.wsgi import create_app
from tests.property import oracle
from tests.property.asking import Clock, job_document
from tests.property.worlds import World, world
from tests.reliability.poison import BASE_US, CONTRADICTIONS, EXECUTIONS, JOBS, SETTINGS, Poison, spoil
from tests.wsgi import ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Document = dict[str, Any]
NOW = oracle.utc(BASE_US)
GOOD = world(5, jobs=60, executions=300)
SPOILED_JOBS = dict(zip([job["number"] for job in GOOD.jobs[::2]], JOBS, strict=False))
SPOILED_RUNS = dict(zip([int(run["id"]) for run in GOOD.executions[::8]], EXECUTIONS, strict=False))
FEW = world(5, jobs=24, executions=150)
"""For one kind alone, which needs no row for each other one."""
INSERTED = {poison: row for row, poison in SPOILED_RUNS.items() if poison.statement.startswith("INSERT")}


@pytest.fixture(scope="module")
def good_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of good rows alone, with nothing left beside the file."""
    path = tmp_path_factory.mktemp("good") / "jobs.db"
    jobstore.load(path, GOOD.document)
    return path


@pytest.fixture(scope="module")
def few_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with few rows."""
    path = tmp_path_factory.mktemp("few") / "jobs.db"
    jobstore.load(path, FEW.document)
    return path


@pytest.fixture(scope="module")
def poisoned(good_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[jobstore.JobStore]:
    """Every kind at once, each in a row of its own; the reader had seen the store before."""
    path = tmp_path_factory.mktemp("poisoned") / "jobs.db"
    shutil.copy(good_path, path)
    with jobstore.open(path, clock=Clock(NOW)) as store:
        warm(store, GOOD)
        kinds = [*SPOILED_JOBS.items(), *SPOILED_RUNS.items()]
        spoil(path, *((poison, -1 - row if poison in INSERTED else row) for row, poison in kinds))
        yield store


@pytest.fixture(scope="module")
def runs_shown(poisoned: jobstore.JobStore) -> dict[str, Document]:
    """All executions that the reader sees, by their id."""
    return {run["id"]: run for run in all_of(poisoned.list_job_executions)}


def warm(store: jobstore.JobStore, of: World) -> None:
    """Questions after which a reader remembers all it ever does."""
    store.list_jobs(search="s", order_by="next_run_at")
    store.list_job_executions(search="s", offset=len(of.executions) // 3)
    store.list_job_executions(order_by="job_name")
    store.get_job_executions(of.jobs[0]["name"])


def test_there_are_forty_kinds_and_a_row_for_each() -> None:
    assert len(SPOILED_JOBS) == len(JOBS)
    assert len(SPOILED_RUNS) == len(EXECUTIONS)
    assert len({poison.name for poison in (*JOBS, *EXECUTIONS, *SETTINGS, *CONTRADICTIONS)}) > 80


def all_of(query: Any, **more: Any) -> list[Document]:
    """Every row of a list, page after page; their number is the total."""
    found: list[Document] = []
    while True:
        page = query(limit=250, offset=len(found), **more)
        found += page["data"]
        if not page["pagination"]["has_next"]:
            assert len(found) == page["pagination"]["total"]
            return found
        assert page["data"], "a page that says another follows is not empty"


# The good rows, in every list and order.

GOOD_RUNS = [run for run in GOOD.executions if int(run["id"]) not in SPOILED_RUNS]
GOOD_IDS = {run["id"] for run in GOOD_RUNS}
GOOD_JOBS = [job_document(GOOD, job, NOW) for job in GOOD.jobs if job["number"] not in SPOILED_JOBS]
GOOD_NAMES = {job["name"] for job in GOOD_JOBS}


@pytest.mark.parametrize("order_desc", [False, True])
@pytest.mark.parametrize("order_by", EXECUTION_ORDERS)
def test_good_executions_are_right_in_every_order(poisoned: jobstore.JobStore, order_by: str, order_desc: bool) -> None:
    for more in ({}, {"search": "failed"}, {"search": "s"}, {"status": ["TIMEOUT"]}, {"after": "2026-03-28"}):
        query: Document = {**more, "order_by": order_by, "order_desc": order_desc}
        found = [run for run in all_of(poisoned.list_job_executions, **query) if run["id"] in GOOD_IDS]
        instants = {"after": oracle.moment("2026-03-28T00:00:00Z")} if "after" in more else {}
        expected = oracle.executions(GOOD_RUNS, limit=2_000, **{**query, **instants})
        assert found == expected["data"]


@pytest.mark.parametrize("order_desc", [False, True])
@pytest.mark.parametrize("order_by", JOB_ORDERS)
def test_good_jobs_are_right_in_every_order(poisoned: jobstore.JobStore, order_by: str, order_desc: bool) -> None:
    for more in ({}, {"search": "s"}, {"enabled": True}):
        query: Document = {**more, "order_by": order_by, "order_desc": order_desc}
        found = [job for job in all_of(poisoned.list_jobs, **query) if job["name"] in GOOD_NAMES]
        assert found == oracle.jobs(GOOD_JOBS, GOOD.numbers, limit=100, **query)["data"]


def test_good_jobs_are_found_one_by_one_with_their_history(poisoned: jobstore.JobStore) -> None:
    for job in GOOD_JOBS:
        assert poisoned.get_job(job["name"]) == job
        number = str(GOOD.numbers[job["name"]])
        found = [run for run in all_of(poisoned.get_job_executions, job_id=job["name"]) if run["id"] in GOOD_IDS]
        assert found == oracle.executions(GOOD_RUNS, job_number=number, limit=1_000)["data"]
        assert poisoned.job_stats(job["name"])["runs"] >= len(found)


# The bad rows.


def is_shown(poison: Poison, document: Mapping[str, Any]) -> bool:
    """Whether a row shows what is said of its kind."""
    value = document[poison.field]
    ways = {
        "marked": isinstance(value, dict) and list(value) == ["unreadable"] and len(value["unreadable"]) <= 80,
        "null": value is None,
        "replaced": isinstance(value, str) and "\ufffd" in value,
        "as it is": True,
    }
    return ways[poison.shown]


@pytest.mark.parametrize(("row", "poison"), SPOILED_RUNS.items(), ids=[poison.name for poison in EXECUTIONS])
def test_a_poisoned_execution_is_marked_or_null(runs_shown: dict[str, Document], row: int, poison: Poison) -> None:
    known = [run["id"] for run in GOOD.executions]
    if poison in INSERTED:
        assert len(runs_shown.keys() - known) == len(INSERTED)
    else:
        assert is_shown(poison, runs_shown[str(row)]), runs_shown[str(row)]


@pytest.mark.parametrize(("row", "poison"), SPOILED_JOBS.items(), ids=[poison.name for poison in JOBS])
def test_a_poisoned_job_is_marked_or_null(poisoned: jobstore.JobStore, row: int, poison: Poison) -> None:
    # By number: what spoils a name spoils the id as well.
    job = poisoned.get_job(row)
    assert is_shown(poison, job), job
    assert job in all_of(poisoned.list_jobs)


# Every kind alone, whatever it is: through every door, before the reader opens and while it lives.


@pytest.fixture
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers long histories answers one of 150 executions as well."""
    monkeypatch.setattr(costs, "FEW", 20)
    monkeypatch.setattr(costs, "FEW_RANGES", 3)


@pytest.mark.usefixtures("_few_are_many")
@pytest.mark.parametrize("is_warm", [False, True], ids=["before the reader opens", "while the reader lives"])
@pytest.mark.parametrize(
    "poison", [*EXECUTIONS, *JOBS, *SETTINGS, *CONTRADICTIONS], ids=lambda poison: poison.name.replace(" ", "-")
)
def test_no_kind_is_a_traceback(few_path: Path, tmp_path: Path, poison: Poison, is_warm: bool) -> None:
    path = tmp_path / "jobs.db"
    shutil.copy(few_path, path)
    is_of_a_run = poison in EXECUTIONS or "UPDATE execution" in poison.statement
    row = int(FEW.executions[0]["id"] if is_of_a_run else FEW.jobs[0]["number"])
    with contextlib.ExitStack() as stack:
        if is_warm:
            store = stack.enter_context(jobstore.open(path, clock=Clock(NOW)))
            warm(store, FEW)
        spoil(path, (poison, -row if poison in INSERTED else row))
        for ask_one in questions():
            try:
                with contextlib.nullcontext(store) if is_warm else jobstore.open(path, clock=Clock(NOW)) as reader:
                    ask_one(reader)
            except (jobstore.StoreCorrupt, jobstore.NotFound):
                assert poison in CONTRADICTIONS


def questions() -> list[Any]:
    """One of each way through the engine."""
    name = FEW.jobs[1]["name"]
    return [
        lambda store: store.list_jobs(limit=1_000),
        lambda store: store.list_jobs(search="s", order_by="next_run_at"),
        lambda store: store.list_jobs(order_by="last_run_at", order_desc=True),
        lambda store: store.get_job(name),
        lambda store: store.list_job_executions(limit=1_000),
        lambda store: store.list_job_executions(search="s", offset=40, limit=30),
        lambda store: store.list_job_executions(order_by="job_name", limit=1_000),
        lambda store: store.list_job_executions(order_by="completed_at", search="failed"),
        lambda store: store.list_job_executions(after="2026-03-28T01:20:00Z", before="2026-03-29T12:00:00Z"),
        lambda store: store.list_job_executions(trace_id="t1"),
        lambda store: store.get_job_executions(name),
        lambda store: store.job_stats(),
        lambda store: store.job_stats(name, after="2026-03-28"),
        lambda store: store.list_job_states(limit=1_000),
        lambda store: store.list_job_states(search="s", order_by="p95_ms", state="failing"),
        lambda store: store.execution_histogram(after="2026-03-28", before="2026-03-30", timezone="Asia/Kolkata"),
        lambda store: store.execution_histogram(name, after="2026-03-28", before="2026-03-30"),
        lambda store: store.get_execution(1),
        over_http,
    ]


def over_http(store: jobstore.JobStore) -> None:
    """The HTTP door says 200, 404 or 503 and never 500, and JSON that any reader takes."""
    app = create_app(store, open_access=True)
    for target in ("jobs?limit=1000", "jobs/executions?limit=1000&order_by=duration_ms", "stats", "jobs/1", "states"):
        answer = ask(app, f"/api/v1/{target}", token=None)
        assert answer.status in {200, 404, 503}
        assert answer.json
        if answer.status == 503:
            raise jobstore.StoreCorrupt(answer.json["error"]["message"])


@pytest.mark.parametrize(
    "words",
    [
        ["jobs"], ["jobs", "--json"], ["executions", "--limit=1000"], ["executions", "--jsonl"], ["stats"], ["check"],
        ["dump"], ["export"], ["metrics"], ["jobs", "--state=ok,new,late"], ["health"], ["histogram", "--after=2026-03-28", "--before=2026-03-29"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_command_line_shows_a_poisoned_store(poisoned: jobstore.JobStore, words: list[str]) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = run([words[0], str(poisoned.path), *words[1:]])
    assert code in ({0} if words[0] in {"jobs", "executions", "stats"} else {0, 1, 3})


def test_a_dump_of_a_poisoned_store_is_lines_of_json_or_a_typed_error(poisoned: jobstore.JobStore) -> None:
    with contextlib.suppress(jobstore.StoreError):
        for line in dump_lines(poisoned.path):
            json.dumps(line)


def test_a_world_of_good_rows_says_what_the_oracle_says(good_path: Path) -> None:
    """What the tests above compare with is right where nothing is spoiled."""
    with jobstore.open(good_path, clock=Clock(NOW)) as store:
        assert store.list_job_executions(limit=1_000) == oracle.executions(GOOD.executions, limit=1_000)
        documents = [job_document(GOOD, job, NOW) for job in GOOD.jobs]
        assert store.list_jobs(limit=100) == oracle.jobs(documents, GOOD.numbers, limit=100)
