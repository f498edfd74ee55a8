"""Digests in a store: who writes them and when, what removes them, and what a reader does without."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.engine import bits, sealing
from jobstore.engine.digests import CHUNK
from jobstore.recording import recorder as recorder_module
from jobstore.storage.schema import DIGEST_PARTS
from jobstore.transfer.backup import check

if TYPE_CHECKING:
    from pathlib import Path

JOB = {"name": "sync", "job_type": "kline", "job_category": "sync", "schedule": "0 * * * *"}


@pytest.fixture(autouse=True)
def _sealed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bits, sealing):
        monkeypatch.setattr(module, "SEALED_FROM", 1)
    monkeypatch.setattr(sealing, "FEWEST_RUNS", 0)


def run(number: int, **fields: Any) -> dict[str, Any]:
    at = f"2026-01-15T08:00:00.{number % 1_000_000:06d}Z"
    return {
        "id": str(number), "job_name": "sync", "status": "SUCCESS", "started_at": at, "created_at": at,
        "completed_at": at, "duration_ms": number % 7, **fields,
    }  # fmt: skip


def load(path: Path, numbers: list[int], **store: Any) -> None:
    jobstore.load(path, {**store, "jobs": [JOB], "executions": [run(number) for number in numbers]})


def sealed(path: Path) -> list[int]:
    """The chunks that have a digest."""
    with sqlite3.connect(path) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM digest")]
    connection.close()
    return sorted({key // DIGEST_PARTS for key in keys})


def by_hand(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


def ids(path: Path, **query: Any) -> list[int]:
    with jobstore.open(path) as store:
        return [int(document["id"]) for document in store.list_job_executions(**query)["data"]]


def test_a_small_store_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    load(tmp_path / "jobs.db", [1, 2, CHUNK])
    assert sealed(tmp_path / "jobs.db") == []


def test_a_load_seals_every_chunk(tmp_path: Path) -> None:
    load(tmp_path / "jobs.db", [1, CHUNK, 5 * CHUNK])
    assert sealed(tmp_path / "jobs.db") == [0, 1, 5]
    assert check(tmp_path / "jobs.db") == []


def test_ids_that_lie_far_apart_are_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "FEWEST_RUNS", 256)
    load(tmp_path / "jobs.db", [1, CHUNK, 2**60])
    assert sealed(tmp_path / "jobs.db") == []
    assert ids(tmp_path / "jobs.db", order_by="duration_ms", order_desc=False) == [1, CHUNK, 2**60]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE execution SET duration_ms = 9 WHERE id = 1",
        "UPDATE execution SET trace_id = 'x' WHERE id = 1",
        "UPDATE execution SET worker_id = NULL, status = 0 WHERE id = 1",
        "DELETE FROM execution WHERE id = 1",
        "INSERT INTO execution (id, name_id, status, effective_us, started_by, created_us) VALUES (7, 1, 1, 0, 1, 0)",
    ],
)
def test_a_change_removes_the_digest_of_its_chunk_alone(tmp_path: Path, change: str) -> None:
    load(tmp_path / "jobs.db", [1, 2, CHUNK, 2 * CHUNK])
    by_hand(tmp_path / "jobs.db", change)
    assert sealed(tmp_path / "jobs.db") == [1, 2]
    assert check(tmp_path / "jobs.db") == []


def test_a_recorder_seals_what_is_complete_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    load(path, [1, 2], next_execution_id=2 * CHUNK - 2)
    by_hand(path, "DELETE FROM digest")
    with jobstore.Recorder(path) as recorder:
        recorder.enqueue("sync")
        recorder.enqueue("sync")
        assert sealed(path) == []
        with recorder.run("sync"):  # the number 2 * CHUNK
            assert sealed(path) == [0]
    assert check(path) == []


def test_that_it_cannot_be_written_keeps_nobody_from_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: object) -> bool:
        raise jobstore.StoreFull("The disk is full")

    monkeypatch.setattr("jobstore.recording.prune.seal_one", full)
    monkeypatch.setattr(recorder_module, "SEALED_EVERY", 1)
    load(tmp_path / "jobs.db", [1])
    with jobstore.Recorder(tmp_path / "jobs.db") as recorder:
        assert recorder.enqueue("sync") == "2"
        assert "The disk is full" in caplog.text
        recorder.finish("2", "SUCCESS")
        assert recorder.prune(keep_last=1) == 1


def test_a_reader_that_asks_no_more_forgets_instead_of_noting_every_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobstore.engine.orders.SLICED_FREELY", -(10**9))
    monkeypatch.setattr("jobstore.engine.orders.PASSED", -1)
    monkeypatch.setattr(bits, "MOST_CHANGED", 3)
    path = tmp_path / "jobs.db"
    load(path, [1, 2, CHUNK])
    with jobstore.open(path) as store, jobstore.Recorder(path) as recorder:
        store.list_job_executions(order_by="duration_ms")
        assert store._memory._bits is not None
        for number in range(6):
            recorder.enqueue("sync")
            store.list_job_executions()
            assert (store._memory._bits is None) == (number >= 3)
        with jobstore.open(path) as other:
            found = store.list_job_executions(order_by="duration_ms")
            assert found == other.list_job_executions(order_by="duration_ms")


def test_a_prune_seals_what_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    load(path, [1, 2, CHUNK, 3 * CHUNK])
    with jobstore.Recorder(path) as recorder:
        assert recorder.prune(keep_last=3) == 1
    assert sealed(path) == [0, 1, 3]
    assert check(path) == []


def test_a_recorder_that_prunes_by_itself_seals_one_chunk_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    load(path, [1, 2, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 1])
    by_hand(path, "DELETE FROM digest")
    with jobstore.Recorder(path, retention=jobstore.Retention(keep_last=4)) as recorder:
        recorder.finish(recorder.enqueue("sync"), "SUCCESS")
    assert sealed(path) == [1]
    assert check(path) == []


def test_a_check_tells_a_digest_that_is_not_that_of_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    load(path, [1, 2, CHUNK])
    by_hand(path, "UPDATE digest SET data = zeroblob(length(data)) WHERE key = 8 + 3")
    by_hand(path, "DELETE FROM digest WHERE key = 5")
    assert check(path) == [
        f"The digest of the executions 0 to {CHUNK - 1} is not that of their rows",
        f"The digest of the executions {CHUNK} to {2 * CHUNK - 1} is not that of their rows",
    ]


def test_a_digest_that_contradicts_the_counters_is_a_damaged_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobstore.engine.orders.SLICED_FREELY", -(10**9))
    monkeypatch.setattr("jobstore.engine.orders.PASSED", -1)
    load(tmp_path / "jobs.db", [1, 2, CHUNK])
    by_hand(tmp_path / "jobs.db", "UPDATE digest SET data = zeroblob(length(data)) WHERE key = 3")
    with pytest.raises(jobstore.StoreCorrupt, match="contradicts itself"):
        ids(tmp_path / "jobs.db", order_by="duration_ms")


@pytest.mark.parametrize("order_by", ["duration_ms", "trace_id", "worker_id", "id"])
def test_a_reader_follows_new_chunks_behind_and_between_those_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order_by: str
) -> None:
    monkeypatch.setattr("jobstore.engine.orders.SLICED_FREELY", -(10**9))
    monkeypatch.setattr("jobstore.engine.orders.PASSED", -1)
    monkeypatch.setattr("jobstore.engine.orders.GATHERED", 0)
    monkeypatch.setattr("jobstore.engine.groups.GATHERED", 0)
    path = tmp_path / "jobs.db"
    load(path, [1, 2, 4 * CHUNK])
    insert = (
        "INSERT INTO execution (id, name_id, status, effective_us, started_by, created_us) VALUES (?, 1, 1, 5, 1, 5)"
    )
    with jobstore.open(path) as store:
        for number in (3, 5 * CHUNK, 4 * CHUNK + 1, 9 * CHUNK, 2 * CHUNK):
            by_hand(path, insert.replace("?", str(number)))
            for search in (None, "sync"):
                asked: dict[str, Any] = {"order_by": order_by, "order_desc": False, "search": search}
                found = store.list_job_executions(**asked)
                with jobstore.open(path) as other:
                    assert found == other.list_job_executions(**asked)
                assert str(number) in [document["id"] for document in found["data"]]


def test_a_reader_tells_traces_by_the_scale_that_a_later_digest_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobstore.engine.orders.SLICED_FREELY", -(10**9))
    monkeypatch.setattr("jobstore.engine.orders.PASSED", -1)
    monkeypatch.setattr("jobstore.engine.sliced.FEW", 0)
    path = tmp_path / "jobs.db"
    load(path, [1, 2, CHUNK])
    with jobstore.open(path) as store:
        store.list_job_executions(order_by="duration_ms")
        with jobstore.Recorder(path) as recorder:
            for trace_id in ("c", "a", "b"):
                recorder.enqueue("sync", trace_id=trace_id)
            recorder.prune(keep_last=100)
        with sqlite3.connect(path) as connection:
            sealing.seal_all(connection)
        connection.close()
        found = [document["trace_id"] for document in store.list_job_executions(order_by="trace_id")["data"]]
    assert found == ["c", "b", "a", None, None, None]
    assert check(path) == []
