"""Readers beside writers and a pruner: no answer contradicts itself, none is refused, none is behind."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import jobstore
from tests.reliability import snapshots
from tests.reliability.scale import SOAK

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 4 * SOAK
READERS = 4 if SOAK > 1 else 2
WRITERS = 2


def new_store(path: Path) -> None:
    jobs = [
        {"name": name, "job_type": "kline", "job_category": "sync", "schedule": "* * * * *"} for name in snapshots.JOBS
    ]
    jobstore.load(path, {"jobs": jobs})


def test_every_answer_beside_writers_is_of_one_snapshot_and_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    new_store(path)
    processes = multiprocessing.get_context("spawn")
    told, stop, done = processes.Queue(), processes.Event(), processes.Event()
    acknowledged = [processes.Value("q", 0) for _ in range(WRITERS)]
    parts: list[tuple[Any, ...]] = [
        *((snapshots.read, told, path, seed, acknowledged, done) for seed in range(READERS)),
        *((snapshots.write, told, path, seed, each, stop) for seed, each in enumerate(acknowledged)),
        (snapshots.prune, told, path, stop),
    ]
    running = [processes.Process(target=snapshots.guarded, args=part, daemon=True) for part in parts]
    for process in running:
        process.start()
    time.sleep(SECONDS)
    stop.set()
    said = [told.get(timeout=240) for _ in range(WRITERS + 1)]  # the readers go on until all is quiet
    done.set()
    said += [told.get(timeout=240) for _ in range(READERS)]
    for process in running:
        process.join(timeout=240)
    failed = [trace for _, _, trace in said if trace]
    assert not failed, failed[0]
    read = [result for name, result, _ in said if name == "read"]
    assert [wrong for _, wrong in read] == [[]] * READERS
    assert all(rounds >= snapshots.LEAST_ROUNDS for rounds, _ in read)
    assert sum(result for name, result, _ in said if name == "prune") > 0
    assert jobstore.check(path) == []


def test_a_page_and_its_total_are_of_one_snapshot_for_threads_too(tmp_path: Path) -> None:
    """Eight threads share one store object while a recorder of the same process writes."""
    path = tmp_path / "jobs.db"
    new_store(path)
    stop = threading.Event()
    wrong: list[str] = []
    rounds = [0] * 8

    def ask(number: int) -> None:
        source = random.Random(number)
        while not stop.is_set():
            try:
                wrong.extend(snapshots.contradictions(source, store, [Nothing]))
            except BaseException as error:
                wrong.append(repr(error))
                return
            rounds[number] += 1

    with jobstore.open(path) as store, jobstore.Recorder(path) as recorder:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(rounds))]
        for thread in threads:
            thread.start()
        until = time.monotonic() + SECONDS / 4
        while time.monotonic() < until:
            with recorder.run("sync_1"):
                pass
        stop.set()
        for thread in threads:
            thread.join(timeout=240)
    assert not wrong
    assert min(rounds) > 0


class Nothing:
    """No recorder of another process has acknowledged anything."""

    value = 0
