"""Every access path, chosen or forced, against a plain scan of the same history (5,000 random queries)."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.engine import (
    bits,
    counters,
    gathering,
    groups,
    jobbook,
    jobtexts,
    orders,
    planes,
    sealing,
    sliced,
    started,
    window,
    zones,
)
from jobstore.language.models import EXECUTION_ORDERS
from tests.property import oracle, skewed

if TYPE_CHECKING:
    from pathlib import Path

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


def force_rare_paths(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Thresholds so low that three thousand executions take every path that millions would."""
    monkeypatch.setattr(started, "SKIPPED_FREELY", 5)
    monkeypatch.setattr(started, "ARMS_MERGED", 2)
    monkeypatch.setattr(started, "LEAST_BUDGET", 10)
    monkeypatch.setattr(started, "PATIENCE", 1)
    monkeypatch.setattr(started, "ARM_COST", (20, 10**6, 0)[seed % 3])
    monkeypatch.setattr(jobtexts, "LINES_A_HIT", (1, 1_000)[seed // 2 % 2])
    monkeypatch.setattr(jobbook, "MERGED", (0, 4, 2**64)[seed % 3])
    monkeypatch.setattr(jobbook, "PICKED", (0, 2)[seed // 2 % 2])
    monkeypatch.setattr(jobbook, "SPARSE", (0, 4)[seed // 3 % 2])
    monkeypatch.setattr(orders, "GATHERED", 20)
    monkeypatch.setattr(orders, "GATHERED_LATE", 50)
    monkeypatch.setattr(orders, "WALKED", 60)
    monkeypatch.setattr(orders, "PASSED", 3)
    monkeypatch.setattr(orders, "NAMES_MERGED", (24, 1)[seed % 2])
    monkeypatch.setattr(orders, "ZONED_FIRST", (0, 60)[seed % 2])
    monkeypatch.setattr(gathering, "NAMES_READ", (24, 1)[seed // 2 % 2])
    monkeypatch.setattr(groups, "PASSED", (3, 500)[seed % 2])
    monkeypatch.setattr(groups, "PATIENCE", 1)
    monkeypatch.setattr(groups, "LEAST_BUDGET", 1)
    monkeypatch.setattr(groups, "COUNTED_DIRECTLY", (2_000, 10)[seed % 2])
    monkeypatch.setattr(zones, "MOST_READ", (100, 100_000)[seed % 2])
    monkeypatch.setattr(groups, "ARMS_MERGED", 3)
    monkeypatch.setattr(groups, "GATHERED", 30)
    monkeypatch.setattr(window, "COUNTED_DIRECTLY", 2)
    monkeypatch.setattr(window, "FEW_NAMES", 1 + seed % 2 * 19)
    monkeypatch.setattr(counters, "FEW_NAMES", 1 + seed % 2 * 19)


def force_bits(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Digests for a few thousand executions, and every order that can be told by bits told by them."""
    for module in (bits, sealing):
        monkeypatch.setattr(module, "SEALED_FROM", 1)
    monkeypatch.setattr(sealing, "FEWEST_RUNS", 0)
    monkeypatch.setattr(bits, "FEW_ROWS", (1, 10**6)[seed % 2])
    monkeypatch.setattr(bits, "NAMES_REMEMBERED", 2)
    monkeypatch.setattr(bits, "HOURS_REMEMBERED", 1)
    monkeypatch.setattr(bits, "BYTES", (0, 256)[seed // 2 % 2])
    monkeypatch.setattr(bits, "PLANES_KEPT", (0, 1000)[seed % 2])
    monkeypatch.setattr(sliced, "FEW", (0, 5)[seed % 2])
    monkeypatch.setattr(planes, "FEW_SLOTS", (0, 3)[seed % 2])
    monkeypatch.setattr(sliced, "REMEMBERED_EVERY", (6, 1)[seed % 2])
    monkeypatch.setattr(sliced, "STEPS_REMEMBERED", 1 + seed // 2 % 2)
    monkeypatch.setattr(orders, "SLICED_FREELY", -(10**9))
    monkeypatch.setattr(orders, "PASSED", 3)
    monkeypatch.setattr(orders, "GATHERED", 20)
    monkeypatch.setattr(groups, "GATHERED", 30)
    monkeypatch.setattr(groups, "PASSED", 3)


def prepare(monkeypatch: pytest.MonkeyPatch, mode: str, seed: int, world: dict[str, Any]) -> None:
    """The thresholds of a mode; with digests, ids so far apart that there are several chunks."""
    if mode == "forced":
        force_rare_paths(monkeypatch, seed)
    if mode == "bits":
        force_bits(monkeypatch, seed)
        for document in world["executions"]:
            document["id"] = str(int(document["id"]) * 29)


MODES = ["chosen", "forced", "bits"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", MODES)
def test_every_path_agrees_with_a_plain_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, mode: str
) -> None:
    world = skewed.world(seed)
    prepare(monkeypatch, mode, seed, world)
    jobstore.load(tmp_path / "jobs.db", world)
    source = random.Random(seed)
    with jobstore.open(tmp_path / "jobs.db") as store:
        for _ in range(QUERIES // 8):
            query = random_query(source)
            job = source.choice([None, None, 1, 3, 5, 7, 12])
            expected = oracle.executions(world["executions"], job_number=None if job is None else str(job), **query)
            found = store.list_job_executions(**query) if job is None else store.get_job_executions(job, **query)
            assert found == expected, (job, query)


@pytest.mark.parametrize("order_desc", [False, True])
def test_a_page_inside_a_full_hour_agrees_with_a_plain_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order_desc: bool
) -> None:
    """All of the skewed history in four hours, so that pages of many names lie within one, from either edge."""
    world = skewed.world(11, count=2_000)
    for number, execution in enumerate(world["executions"]):
        moment = oracle.written(oracle.utc(skewed.BASE_US + number * 37 % 2_000 * 4 * skewed.HOUR_US // 2_000))
        execution["created_at"] = moment
        if execution["started_at"] is not None:
            execution["started_at"] = moment
    jobstore.load(tmp_path / "jobs.db", world)
    monkeypatch.setattr(started, "SKIPPED_FREELY", 5)
    monkeypatch.setattr(started, "ARM_COST", 10**6)
    walked: list[bool] = []
    monkeypatch.setattr(started, "walk_hour", spied(started.walk_hour, walked))
    with jobstore.open(tmp_path / "jobs.db") as store:
        for offset in range(0, 1_000, 17):
            query: dict[str, Any] = {"search": "_", "limit": 20, "offset": offset, "order_desc": order_desc}
            assert store.list_job_executions(**query) == oracle.executions(world["executions"], **query), query
    assert walked.count(True) > 10 < walked.count(False)


def spied(walk: Any, walked: list[bool]) -> Any:
    """The same walk; notes its direction."""

    def walk_hour(selection: Any, wanted: Any) -> Any:
        walked.append(wanted.descending)
        return walk(selection, wanted)

    return walk_hour


@pytest.mark.parametrize("mode", MODES)
def test_a_key_that_comes_with_the_end_may_be_there_before_and_missing_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """What another system recorded: ended runs without a duration or completion, and waiting ones with one."""
    world, source = skewed.world(11), random.Random(11)
    for document in world["executions"]:
        if source.random() < 0.3:
            document["duration_ms"] = source.choice([None, 5, source.randrange(100_000)])
        if source.random() < 0.3:
            document["completed_at"] = source.choice([None, document["created_at"]])
    prepare(monkeypatch, mode, 0, world)
    jobstore.load(tmp_path / "jobs.db", world)
    with jobstore.open(tmp_path / "jobs.db") as store:
        for _ in range(QUERIES // 8):
            query = random_query(source) | {"order_by": source.choice(["completed_at", "duration_ms"])}
            job = source.choice([None, None, 1, 3, 5, 7, 12])
            expected = oracle.executions(world["executions"], job_number=None if job is None else str(job), **query)
            found = store.list_job_executions(**query) if job is None else store.get_job_executions(job, **query)
            assert found == expected, (job, query)
    assert jobstore.check(tmp_path / "jobs.db") == []


@pytest.mark.parametrize("mode", MODES)
def test_what_a_reader_remembers_stays_exact_while_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """One reader lives through every change; another opens late; both agree with a scan of a fresh dump."""
    world = skewed.world(7, count=600)
    path = tmp_path / "jobs.db"
    prepare(monkeypatch, mode, 1, world)
    jobstore.load(path, world)
    source = random.Random(7)
    names = [job["name"] for job in world["jobs"]]
    with jobstore.open(path) as early, jobstore.Recorder(path) as recorder:
        for turn in range(40):
            change(source, recorder, names, turn)
            history: list[dict[str, Any]] = list(jobstore.dump(path)["executions"])
            with jobstore.open(path) as late:
                for _ in range(QUERIES // 500):
                    query = random_query(source)
                    expected = oracle.executions(history, **query)
                    assert early.list_job_executions(**query) == expected, (turn, query)
                    assert late.list_job_executions(**query) == expected, (turn, query)


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
