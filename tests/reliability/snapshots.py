"""Processes that write, prune and read one store at once; what each reader saw is checked inside each answer.

A page and its total are of one snapshot, so they can contradict each other in nothing: a page holds as many rows as
the total leaves for it, no row twice, every row matches, all in order. What a recorder was told is on the disk is
in the next answer.
"""

from __future__ import annotations

import random
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import jobstore
from tests.property import oracle

if TYPE_CHECKING:
    from pathlib import Path

JOBS = [f"{word}_{number}" for word in ("sync", "failed", "clean") for number in range(6)]
ORDERS = (
    "started_at",
    "started_at",
    "id",
    "job_name",
    "status",
    "duration_ms",
    "worker_id",
    "completed_at",
    "created_at",
)
SEARCHES = (None, None, "sync", "failed", "clean", "FAIL", "1")
STATUSES = (None, None, None, ["FAILURE", "TIMEOUT"], ["SUCCESS"], ["PENDING"])


def guarded(work: Any, told: Any, *arguments: Any) -> None:
    """Runs a part and tells what it said, or the traceback that it ended in."""
    try:
        told.put((work.__name__, work(*arguments), None))
    except BaseException:
        told.put((work.__name__, None, traceback.format_exc()))


LEAST_CALLS = 240
"""Of each writer, however busy the machine is: so much that there is something to prune."""
LEAST_ROUNDS = 5


def write(path: Path, seed: int, acknowledged: Any, stop: Any) -> int:
    """Records runs until told to stop; returns how many calls came back."""
    source = random.Random(seed)
    calls = 0
    with jobstore.Recorder(path, timeout_seconds=120) as recorder:
        while calls < LEAST_CALLS or not stop.is_set():
            name = source.choice(JOBS)
            with suppress(jobstore.NotFound):  # another writer has just renamed it
                record(source, recorder, name, seed, acknowledged)
                if source.random() < 0.02:  # for a moment it has another name, and then again its own
                    recorder.rename_job(name, f"{name}_renamed_{seed}")
                    recorder.rename_job(f"{name}_renamed_{seed}", name)
            calls += 3
            time.sleep(0.001)
    return calls


def record(source: random.Random, recorder: jobstore.Recorder, name: str, seed: int, acknowledged: Any) -> None:
    """Records a run, most often to its end, and tells its number as soon as it is known."""
    execution_id = recorder.enqueue(name, worker_id=f"worker-{seed}-{source.randrange(3)}")
    acknowledged.value = int(execution_id)
    if source.random() < 0.95:
        recorder.start(execution_id)
    if source.random() < 0.9:
        recorder.finish(execution_id, source.choice(["SUCCESS", "SUCCESS", "FAILURE", "TIMEOUT"]))


def prune(path: Path, stop: Any) -> int:
    """Keeps the history short, again and again; returns how many executions went."""
    gone = 0
    with jobstore.Recorder(path, timeout_seconds=120) as recorder:
        while not gone or not stop.is_set():
            gone += recorder.prune(keep_last=5)
            time.sleep(0.05)
    return gone


def read(path: Path, seed: int, acknowledged: list[Any], stop: Any) -> tuple[int, list[str]]:
    """Asks until told to stop; returns the rounds and what contradicted itself."""
    source = random.Random(seed)
    rounds, wrong = 0, list[str]()
    with jobstore.open(path) as store:
        while rounds < LEAST_ROUNDS or not stop.is_set():
            wrong += contradictions(source, store, acknowledged)
            rounds += 1
        wrong += differences(random.Random(seed), store, path)
    return rounds, wrong


def contradictions(source: random.Random, store: jobstore.JobStore, acknowledged: list[Any]) -> list[str]:
    """What is wrong in the answers of one round."""
    known = max(each.value for each in acknowledged)
    latest = store.list_job_executions(order_by="id", limit=1)["data"]
    wrong = [] if not known or (latest and int(latest[0]["id"]) >= known) else [f"{known} was acknowledged, not seen"]
    for _ in range(3):
        query = random_query(source)
        page: Any = store.list_job_executions(**query)
        wrong += [f"{what}: {query} {page['pagination']}" for what in page_faults(query, page)]
    stats = store.job_stats()
    wrong += [] if stats["runs"] == sum(stats["by_status"].values()) else ["stats do not add up"]
    jobs = store.list_jobs(search="_", order_by="next_run_at")
    wrong += [] if jobs["pagination"]["total"] == len(jobs["data"]) == len(JOBS) else ["jobs do not add up"]
    return wrong


def random_query(source: random.Random) -> dict[str, Any]:
    return {
        "search": source.choice(SEARCHES),
        "status": source.choice(STATUSES),
        "order_by": source.choice(ORDERS),
        "order_desc": source.random() < 0.5,
        "limit": source.choice([1_000, 1_000, 7]),
        "offset": source.choice([0, 0, 0, 30, 120]),
    }


def page_faults(query: dict[str, Any], page: Any) -> list[str]:
    """In which ways a page contradicts itself."""
    rows, total = page["data"], page["pagination"]["total"]
    order = oracle.execution_order(query["order_by"])
    present = [order(row) for row in rows if order(row)[0] is not None]
    term = oracle.folded(query["search"] or "")
    faults = {
        "another number of rows than its total leaves": len(rows)
        != max(0, min(query["limit"], total - query["offset"])),
        "a row twice": len({row["id"] for row in rows}) != len(rows),
        "not in order": present != sorted(present, reverse=query["order_desc"]),
        "a row that does not match": not all(
            (not term or term in oracle.folded(row["job_name"]) or oracle.means(term, row["status"]))
            and (query["status"] is None or row["status"] in query["status"])
            for row in rows
        ),
    }
    return [what for what, is_so in faults.items() if is_so]


def differences(source: random.Random, store: jobstore.JobStore, path: Path) -> list[str]:
    """Once all is quiet: what a reader that lived through everything says otherwise than one that just came."""
    with jobstore.open(path) as fresh:
        queries = [random_query(source) for _ in range(50)]
        return [
            f"the old reader says otherwise: {query}"
            for query in queries
            if store.list_job_executions(**query) != fresh.list_job_executions(**query)
        ]
