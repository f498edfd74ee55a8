"""Every access path, chosen or forced, against a plain scan of the same history.

1,500 random queries, and some beside a writer, each answered by every path: 9,000 answers.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.engine import bitmaps, costs
from jobstore.engine.costs import Costs
from jobstore.language.models import EXECUTION_ORDERS
from tests.property import oracle, skewed

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

QUERIES = int(os.environ.get("JOBSTORE_PATH_QUERIES", "5000"))
TERMS = [
    None,
    None,
    "sync",
    "kline",
    "failed",
    "fail",
    "_a_",
    "STRASSE",
    "zzz",
    "e",
    "时",
    "timeout",
    "gone",
    "1",
    "超时",
]
STATUS_SETS = [
    None,
    None,
    ["FAILURE"],
    ["SUCCESS"],
    ["TIMEOUT", "RUNNING"],
    ["PENDING"],
    ["SUCCESS", "FAILURE", "TIMEOUT"],
]
SPAN_US = skewed.DAYS * 24 * skewed.HOUR_US


def random_query(source: random.Random) -> dict[str, Any]:
    query: dict[str, Any] = {
        "search": source.choice(TERMS),
        "limit": source.choice([1, 3, 10, 50, 200]),
        "offset": source.choice([0, 0, 1, 7, 50, 300, 1500, 2900, source.randrange(3100)]),
        "order_by": source.choice(["started_at"] * 5 + list(EXECUTION_ORDERS)),
        "order_desc": source.random() < 0.5,
        "status": source.choice(STATUS_SETS),
        "trace_id": source.choice([None] * 9 + ["t3"]),
    }
    bounds = [random_instant(source) if source.random() < 0.4 else None for _ in range(2)]
    low, high = sorted(bounds, key=lambda us: us or 0) if None not in bounds else bounds
    query["after"] = None if low is None else oracle.utc(low)
    query["before"] = None if high is None else oracle.utc(high)
    return query


def random_instant(source: random.Random) -> int:
    us = skewed.BASE_US + source.randrange(SPAN_US)
    unit = source.choice([1, 1, 60_000_000, skewed.HOUR_US, 24 * skewed.HOUR_US])
    return us // unit * unit


DEAR = 1e6
MODELS = {
    "chosen": Costs(),
    "scan": Costs(fetched=DEAR, algebra=DEAR, built=DEAR),
    "scan that gives up": Costs(fetched=DEAR, algebra=0, loaded=DEAR, built=DEAR),
    "fetch": Costs(filtered=0, row=0, fetched=0, opened=0, algebra=DEAR, built=DEAR),
    "bitmaps": Costs(passed=DEAR, filtered=DEAR, row=DEAR, fetched=0, opened=0, algebra=0, loaded=0, built=0),
    "bitmaps in steps": Costs(passed=1, filtered=1, row=1, opened=0, algebra=0, loaded=100, built=100),
}
"""Costs that force one access path wherever it can answer."""


JOBS = (None, None, 1, 3, 5, 7, 12)


def spread(world: dict[str, Any], kind: int) -> dict[str, Any]:
    """The world, its ids in several segments, far apart or beyond 2**32, or as they were."""
    for document in world["executions"]:
        number = int(document["id"])
        document["id"] = str((number * 29, number + (number % 3 << 40), number)[kind % 3])
    return world


def ask(store: jobstore.JobStore, job: int | None, query: dict[str, Any]) -> Any:
    return store.list_job_executions(**query) if job is None else store.get_job_executions(job, **query)


def scanned(history: list[dict[str, Any]], job: int | None, query: dict[str, Any]) -> Any:
    return oracle.executions(history, job_number=None if job is None else str(job), **query)


class Readers:
    """A reader of its own for each path, which is forced while it answers."""

    def __init__(self, path: Path) -> None:
        self._stores = {model: jobstore.open(path) for model in MODELS}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for store in self._stores.values():
            store.close()

    def check(self, expected: Any, job: int | None, query: dict[str, Any]) -> None:
        """Each answers so."""
        for model, store in self._stores.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(costs, "COSTS", MODELS[model])
                assert ask(store, job, query) == expected, (model, job, query)


@pytest.mark.parametrize("seed", range(4))
def test_every_path_agrees_with_a_plain_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    world = spread(skewed.world(seed), seed)
    jobstore.load(tmp_path / "jobs.db", world)
    source = random.Random(seed)
    if seed == 1:
        monkeypatch.setattr(bitmaps, "MOST_READ", 10)
    with Readers(tmp_path / "jobs.db") as readers:
        for _ in range(QUERIES // 16):
            query, job = random_query(source), source.choice(JOBS)
            readers.check(scanned(world["executions"], job, query), job, query)


def test_a_key_that_comes_with_the_end_may_be_there_before_and_missing_after(tmp_path: Path) -> None:
    """What another system recorded: ended runs without a duration or completion, and waiting ones with one."""
    world, source = spread(skewed.world(11), 0), random.Random(11)
    for document in world["executions"]:
        if source.random() < 0.3:
            document["duration_ms"] = source.choice([None, 5, source.randrange(100_000)])
        if source.random() < 0.3:
            document["completed_at"] = source.choice([None, document["created_at"]])
    jobstore.load(tmp_path / "jobs.db", world)
    with Readers(tmp_path / "jobs.db") as readers:
        for _ in range(QUERIES // 16):
            query = random_query(source) | {"order_by": source.choice(["completed_at", "duration_ms"])}
            job = source.choice(JOBS)
            readers.check(scanned(world["executions"], job, query), job, query)
    assert jobstore.check(tmp_path / "jobs.db") == []


def test_what_a_reader_remembers_stays_exact_while_others_write(tmp_path: Path) -> None:
    """One reader of each path lives through every change; others open late; all agree with a scan of a fresh dump."""
    world = spread(skewed.world(7, count=600), 1)
    path = tmp_path / "jobs.db"
    jobstore.load(path, world)
    source = random.Random(7)
    names = [job["name"] for job in world["jobs"]]
    with Readers(path) as early, jobstore.Recorder(path) as recorder:
        for turn in range(40):
            change(source, recorder, names, turn)
            history: list[dict[str, Any]] = list(jobstore.dump(path)["executions"])
            with Readers(path) as late:
                for _ in range(QUERIES // 500):
                    query = random_query(source)
                    expected = scanned(history, None, query)
                    early.check(expected, None, query)
                    late.check(expected, None, query)


def change(source: random.Random, recorder: jobstore.Recorder, names: list[str], turn: int) -> None:
    """One of the things a scheduler does."""
    name = source.choice(names)
    at = oracle.utc(random_instant(source))
    what = turn % 5
    if what == 0:
        recorder.finish(recorder.enqueue(name, at=at), source.choice(["FAILURE", "TIMEOUT"]), at=at)
    elif what == 1:
        execution_id = recorder.enqueue(name, trace_id="t3", worker_id="worker-new", at=at)
        recorder.start(execution_id, at=at)
        recorder.finish(execution_id, "SUCCESS", result={"n": turn}, duration_ms=turn, at=at)
    elif what == 2:
        new = f"sync_renamed_{turn}"
        recorder.rename_job(name, new)
        names[names.index(name)] = new
        recorder.start(recorder.enqueue(new, at=at), at=at)
    elif what == 3:
        recorder.prune(before=at, keep_last=3)
    else:
        recorder.remove_job(name)
        names.remove(name)
