"""The segments of the bitmap index in the file: who writes them, how they stay true, and what a damaged one does."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.engine import costs
from jobstore.engine.costs import Costs
from jobstore.recording import leftovers
from jobstore.storage import schema, segments
from jobstore.storage.connection import Reading
from jobstore.transfer.backup import backup, restore
from tests.property import oracle, skewed

if TYPE_CHECKING:
    from pathlib import Path

RUNS = 900
SPREAD = 200
"""Ids so far apart that there are several segments."""
BY_BITMAPS = Costs(passed=1e6, filtered=1e6, row=1e6, fetched=0, opened=0, algebra=0, built=0)
CHANGES = {
    "status": "UPDATE execution SET status = 0 WHERE id = (SELECT min(id) FROM execution WHERE status = 1)",
    "duration": "UPDATE execution SET duration_ms = coalesce(duration_ms, 0) + 1 WHERE id = 200",
    "worker": "UPDATE execution SET worker_id = iif(worker_id = 1, 2, 1) WHERE id = 200",
    "trace": "UPDATE execution SET trace_id = 'another' WHERE id = 200",
    "deletion": "DELETE FROM execution WHERE id = 200",
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FEWEST", 100)
    monkeypatch.setattr("jobstore.engine.bitmaps.FEWEST", 100)
    monkeypatch.setattr(costs, "COSTS", BY_BITMAPS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    world = skewed.world(8, RUNS)
    for document in world["executions"]:
        document["id"] = str(int(document["id"]) * SPREAD)
    jobstore.load(tmp_path / "jobs.db", world)
    return tmp_path / "jobs.db"


def by_hand(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


def kept(path: Path) -> set[int]:
    """The segments that the file has."""
    with closing(sqlite3.connect(path)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM segment")]
    assert len(keys) == len(segments.KINDS) * len({key // schema.SEGMENT_KINDS for key in keys})
    return {key // schema.SEGMENT_KINDS for key in keys}


def check_pages(store: jobstore.JobStore, history: list[dict[str, Any]], source: random.Random) -> None:
    for order in ("id", "created_at", "completed_at", "duration_ms", "trace_id", "worker_id"):
        query: dict[str, Any] = {
            "order_by": order,
            "order_desc": source.random() < 0.5,
            "offset": source.randrange(RUNS),
            "limit": 20,
            "status": source.choice([None, ["FAILURE", "SUCCESS"]]),
            "search": source.choice([None, "sync"]),
        }
        assert store.list_job_executions(**query) == oracle.executions(history, **query), query


def test_a_load_writes_every_segment(path: Path) -> None:
    assert kept(path) == {0, 1, 2}
    assert jobstore.check(path) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_drops_its_segment_alone(path: Path, change: str) -> None:
    with jobstore.open(path) as early:
        check_pages(early, list(jobstore.dump(path)["executions"]), random.Random(1))
        by_hand(path, CHANGES[change])
        assert kept(path) == {1, 2}
        assert jobstore.check(path) == []
        history = list(jobstore.dump(path)["executions"])
        for turn in range(2):
            check_pages(early, history, random.Random(turn))
            with jobstore.open(path) as late:
                check_pages(late, history, random.Random(turn))


def test_a_prune_writes_what_is_missing_but_for_the_newest(path: Path) -> None:
    by_hand(path, "DELETE FROM segment")
    with jobstore.Recorder(path) as recorder:
        recorder.prune(before=oracle.utc(skewed.BASE_US + 30 * skewed.HOUR_US))
    assert kept(path) == {0, 1}
    assert jobstore.check(path) == []


def test_where_executions_lie_far_apart_no_segment_is_written(tmp_path: Path) -> None:
    world = skewed.world(8, 300)
    for document in world["executions"]:
        document["id"] = str(int(document["id"]) << 40)
    jobstore.load(tmp_path / "jobs.db", world)
    assert kept(tmp_path / "jobs.db") == set()
    with jobstore.open(tmp_path / "jobs.db") as store:
        check_pages(store, list(jobstore.dump(tmp_path / "jobs.db")["executions"]), random.Random(3))


def test_a_damaged_segment_is_told_by_a_check_and_by_a_page(path: Path) -> None:
    by_hand(path, "UPDATE segment SET data = zeroblob(length(data)) WHERE key = 4")
    (problem,) = jobstore.check(path)
    assert problem == "The bitmaps 4 of the executions 0 to 65535 do not match their rows"
    with jobstore.open(path) as store:
        with pytest.raises(jobstore.StoreCorrupt, match="jobstore check"):
            store.list_job_executions(order_by="duration_ms", offset=400)
        assert store.list_job_executions(order_by="id", offset=400)["data"]


def test_a_segment_whose_rows_changed_while_it_was_made_is_not_written(path: Path) -> None:
    with Reading(path) as reading:
        point = leftovers.point_of(reading)
    file, seq = point.identity, point.seq
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert leftovers.changed_since(connection, point, file) == set()
        assert leftovers.changed_since(connection, point, (1, 2)) is None, "another file"
        assert leftovers.changed_since(connection, point._replace(seq=seq + 1), file) is None
        connection.execute(CHANGES["duration"])
        changed = leftovers.changed_since(connection, point, file)
        assert changed
        assert set(map(segments.segment_of, changed)) == {0}
        connection.execute("UPDATE change SET seq = seq + 100 WHERE seq = (SELECT max(seq) FROM change)")
        connection.execute(f"DELETE FROM change WHERE seq <= {seq + 10}")
        assert leftovers.changed_since(connection, point, file) is None, "the log is cut: nobody can tell"


def test_a_segment_of_a_file_that_was_replaced_meanwhile_is_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = path.with_name("copy.db")
    by_hand(path, "DELETE FROM segment")
    backup(path, copy)
    by_hand(copy, "UPDATE execution SET duration_ms = 77 WHERE id = 600")
    last = "UPDATE execution SET duration_ms = 78 WHERE id = (SELECT max(id) FROM execution)"
    by_hand(copy, last)  # its log goes on beyond that of the store
    with jobstore.Recorder(path) as recorder:
        by_hand(path, last)
        begin = recorder._writer.transaction

        def begun_after_a_restore() -> Any:
            if not is_replaced:
                is_replaced.append(True)
                restore(copy, path)
            return begin()

        is_replaced: list[bool] = []
        monkeypatch.setattr(recorder._writer, "transaction", begun_after_a_restore)
        leftovers.flush_segments(recorder._writer, None)
    assert is_replaced
    assert jobstore.check(path) == []
