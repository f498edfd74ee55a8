"""What a prune must never delete, what goes with the last execution, and when a recorder stops pruning by itself."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.recording import archive as archiving
from jobstore.recording import leftovers
from jobstore.recording import prune as pruning
from jobstore.recording import retention as retaining
from jobstore.recording.recorder import Recorder
from jobstore.recording.retention import Retention
from jobstore.storage.processes import this_process
from jobstore.transfer.backup import backup, restore
from tests import warm

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LATER = "2026-06-01"


def documents(path: Path) -> dict[str, Any]:
    return {document["id"]: document for document in jobstore.dump(path)["executions"]}


def count(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    try:
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(number)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of each of a hundred days; to be copied."""
    path = tmp_path_factory.mktemp("hundred") / "jobs.db"
    runs = [
        {"job_name": "a", "status": "SUCCESS", "started_at": (FIRST + number * DAY).isoformat()[:19] + "Z"}
        for number in range(100)
    ]
    jobstore.load(path, {"jobs": [{"name": "a", "job_type": "t", "job_category": "c"}], "executions": runs})
    return path


@pytest.fixture
def path(tmp_path: Path, hundred: Path) -> Path:
    return Path(shutil.copy(hundred, tmp_path / "jobs.db"))


# --- the archive


def interrupted(path: Path, archive: Path) -> None:
    """A prune that dies when its second batch is in the archive and not yet deleted."""
    program = f"""
import os
from jobstore.recording import prune
from jobstore.recording.archive import Archive
from jobstore.recording.recorder import Recorder
prune.FIRST_BATCH = 10
prune.next_batch = lambda batch, seconds: batch
take, left = Archive.take, [1, 0]
def take_and_die(self, connection, ids):
    take(self, connection, ids)
    left.pop() if len(left) > 1 else os._exit(9)
Archive.take = take_and_die
Recorder({str(path)!r}).prune(before={LATER!r}, archive={str(archive)!r})
"""
    done = warm.forker(warm.COMMAND).run(("-c", program), cwd=path.parent, variables=os.environ)
    assert done.returncode == 9, done.stderr


def lines(archive: Path) -> list[str]:
    return [json.loads(line)["id"] for line in archive.read_text().splitlines()]


def test_the_mark_moves_with_each_batch_and_nothing_is_archived_twice(path, tmp_path):
    archive = tmp_path / "old.jsonl"
    interrupted(path, archive)
    assert (len(documents(path)), len(lines(archive))) == (90, 20)
    with Recorder(path) as recorder:
        with recorder._writer.transaction() as connection:
            (mark,) = archiving._marks_found(connection, "archive:")
        assert mark.length == sum(len(line) for line in archive.read_bytes().splitlines(keepends=True)[:10])
        assert recorder.prune(before=LATER, archive=archive) == 90
    assert sorted(lines(archive), key=int) == [str(number) for number in range(1, 101)]
    assert {entry.name for entry in tmp_path.iterdir()} <= {"jobs.db", "jobs.db.lock", "old.jsonl", "jobs.db.reserve"}


@pytest.mark.parametrize(
    "rules", [{"before": "1990-01-01", "keep_last": 1000}, {"keep_last": 1000}, {"before": "2026-01-02"}]
)
def test_a_restored_backup_is_pruned_by_its_rules_alone(path, tmp_path, rules):
    archive, backup = tmp_path / "old.jsonl", tmp_path / "backup.db"
    interrupted(path, archive)
    jobstore.backup(path, backup)
    with Recorder(path) as recorder:
        recorder.prune(before=LATER, archive=archive)
    before = documents(backup)
    with Recorder(backup) as recorder:
        gone = recorder.prune(**rules, archive=archive)
    left = documents(backup)
    assert gone == len(before) - len(left)
    named = {
        number
        for number, one in before.items()
        if one["started_at"] < rules.get("before", "9") and "keep_last" not in rules
    }
    assert before.keys() - left.keys() == named
    assert named <= set(lines(archive))


@pytest.mark.parametrize("rules", [{"before": "1990-01-01"}, {"before": "2026-01-15"}])
def test_what_a_crash_left_is_deleted_as_far_as_the_rules_of_today_name_it(path, tmp_path, rules):
    archive = tmp_path / "old.jsonl"
    interrupted(path, archive)
    before = documents(path)
    with Recorder(path) as recorder:
        recorder.prune(**rules, archive=archive)
    named = {number for number, one in before.items() if one["started_at"] < rules["before"]}
    assert before.keys() - documents(path).keys() == named
    assert named <= set(lines(archive))


@pytest.mark.parametrize("left", ['{"id": "7", "sta', '{"id": "7"}'])
def test_half_a_line_that_stood_in_the_archive_swallows_none(path, tmp_path, left):
    archive = tmp_path / "old.jsonl"
    archive.write_text(f"{{}}\n{left}")
    with Recorder(path) as recorder:
        assert recorder.prune(before=LATER, archive=archive) == 100
    first, second, *rest = archive.read_text().splitlines()
    assert (first, second) == ("{}", left)
    assert len({json.loads(line)["id"] for line in rest}) == 100


@pytest.mark.parametrize(("first", "last"), [(0, 512), (512, 1024), (700, 3000), (1500, None)])
def test_zeros_that_a_power_cut_left_in_the_archive_are_replaced_by_what_the_store_still_has(
    path, tmp_path, first, last
):
    archive = tmp_path / "old.jsonl"
    interrupted(path, archive)
    done = archive.read_bytes()
    begin = sum(len(line) for line in done.splitlines(keepends=True)[:10])  # of the batch that was not committed
    hole = slice(begin + first, None if last is None else begin + last)
    archive.write_bytes(done[: hole.start] + bytes(len(done[hole])) + (b"" if last is None else done[hole.stop :]))
    with Recorder(path) as recorder:
        assert recorder.prune(before=LATER, archive=archive) == 90
    assert sorted(lines(archive), key=int) == [str(number) for number in range(1, 101)]


def test_an_archive_that_begins_with_the_zeros_of_a_power_cut_is_mended(path, tmp_path):
    archive = tmp_path / "old.jsonl"
    interrupted(path, archive)
    mark = "UPDATE setting SET value = substr(value, 1, instr(value, ' ')) || '0' WHERE key LIKE 'archive:%'"
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(mark).rowcount == 1
    archive.write_bytes(bytes(512) + archive.read_bytes()[512:])
    with Recorder(path) as recorder:
        assert recorder.prune(before=LATER, archive=archive) == 90
    assert len(lines(archive)) == 90


def test_nothing_is_archived_into_a_database_or_a_packed_file(path, tmp_path):
    archive, zipped = tmp_path / "old.jsonl", io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as files:
        files.writestr("old.jsonl", "{}")
    lz4 = b"\x04\x22\x4d\x18"
    for content in (gzip.compress(b"{}\n"), bz2.compress(b"{}\n"), zipped.getvalue(), lz4, path.read_bytes()):
        archive.write_bytes(content)
        before = archive.read_bytes()
        with Recorder(path) as recorder, pytest.raises(jobstore.InvalidParameter, match="must be JSON lines"):
            recorder.prune(before=LATER, archive=archive)
        assert archive.read_bytes() == before
    assert len(documents(path)) == 100


def test_a_store_that_is_open_here_keeps_its_locks_when_it_is_refused_as_an_archive(path, tmp_path):
    other = tmp_path / "other.db"
    program = f"import sqlite3; sqlite3.connect({str(other)!r}, timeout=0).execute('BEGIN EXCLUSIVE')"
    with closing(sqlite3.connect(other, isolation_level=None)) as held, Recorder(path) as recorder:
        held.execute("CREATE TABLE t (x)")
        held.execute("BEGIN EXCLUSIVE")
        with pytest.raises(jobstore.InvalidParameter, match="not a database"):
            recorder.prune(before=LATER, archive=other)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True)
        assert "database is locked" in done.stderr


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_new_archive_is_read_by_none_but_those_who_may_read_the_store(path, tmp_path, mode):
    path.chmod(mode)
    previous = os.umask(0o022)
    try:
        with Recorder(path) as recorder:
            recorder.prune(before=LATER, archive=tmp_path / "old.jsonl")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "old.jsonl").stat().st_mode) == mode


def test_an_archive_that_is_being_read_here_is_written(path, tmp_path):
    archive = tmp_path / "old.jsonl"
    archive.write_text("{}\n")
    with archive.open() as reading, Recorder(path) as recorder:
        assert recorder.prune(before=LATER, archive=archive) == 100
        assert len(reading.readlines()) == 101


@pytest.mark.parametrize("number", ["99999999999999999999", "9223372036854775808", 7, None, "x"])
def test_a_line_of_someone_else_in_an_archive_is_left_alone(path, tmp_path, number):
    archive = tmp_path / "old.jsonl"
    interrupted(path, archive)
    with archive.open("a") as file:
        file.write(json.dumps({"id": number}) + "\n")
    with Recorder(path) as recorder:
        assert recorder.prune(before=LATER, archive=archive) == 90
    assert len(archive.read_text().splitlines()) == 101


@pytest.mark.parametrize("content", [bytes(32), b"", b"\xff" * 32])
def test_a_damaged_id_beside_an_archive_is_told(path, tmp_path, caplog, content):
    archive = tmp_path / "old.jsonl"
    interrupted(path, archive)
    archiving._id_file(archive).write_bytes(content)
    with Recorder(path) as recorder:
        assert recorder.prune(before=LATER, archive=archive) == 90
    assert "the file beside it is damaged: up to one batch" in caplog.text


def test_a_mark_whose_archive_belongs_to_another_prune_deletes_nothing(path, tmp_path):
    """The id beside the archive is of another prune: its lines are not of this mark, however alike."""
    archive, fresh = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    interrupted(path, archive)
    archiving._id_file(archive).write_text("another")
    with Recorder(path) as recorder:
        assert recorder.prune(before=LATER, archive=fresh) == 90
    assert len(lines(fresh)) == 90


def test_a_run_that_changed_since_it_was_archived_stays(path, tmp_path):
    archive = tmp_path / "old.jsonl"
    interrupted(path, archive)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE execution SET result = '1' WHERE id = 15")
        connection.execute("UPDATE execution SET status = 2, completed_us = NULL WHERE id = 16")
    connection.close()
    changed = archive.read_text().replace('"id":"16","job_id":null,"job_name":"a","status":"SUCCESS"', '"x":1')
    archive.write_text(changed)
    with archive.open("a") as out:  # an open run, as alike as can be
        out.write(json.dumps(documents(path)["16"]) + "\n")
    with Recorder(path) as recorder:
        recorder.prune(before="2026-01-21", archive=archive)
    assert lines_of(archive, "15")[-1]["result"] == 1
    assert documents(path)["16"]["status"] == "RUNNING"


def lines_of(archive: Path, number: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in archive.read_text().splitlines()]
    return [document for document in found if document.get("id") == number]


def test_the_archive_is_on_the_disk_before_anything_is_deleted(path, tmp_path, monkeypatch):
    """The order of what is brought to the disk: the folder of a new archive, its lines, then the deletion."""
    archive = tmp_path / "sub" / "old.jsonl"
    archive.parent.mkdir()
    done: list[str] = []
    fsync, deleted = os.fsync, pruning.delete_executions

    def noted(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(target.name if target in {archive, archive.parent} else "")
        fsync(descriptor)

    def delete(*words: Any) -> None:
        done.append(f"delete at {archive.stat().st_size}")
        deleted(*words)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(pruning, "delete_executions", delete)
    with Recorder(path) as recorder:
        recorder.prune(before=LATER, archive=archive)
    order = [step for step in done if step]
    assert order[0] == "sub"
    deletions = [
        position for position, step in enumerate(order) if step.startswith("delete") and not step.endswith(" 0")
    ]
    assert deletions
    assert all(order[position - 1] == "old.jsonl" for position in deletions)


def test_what_is_recovered_is_on_the_disk_before_it_is_deleted(path, tmp_path, monkeypatch):
    archive = tmp_path / "old.jsonl"
    interrupted(path, archive)
    synced: list[int] = []
    fsync, same = os.fsync, archiving._same

    def noted(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    def looked_up(*words: Any) -> int | None:
        assert synced
        return same(*words)

    with Recorder(path) as recorder:
        monkeypatch.setattr(os, "fsync", noted)
        monkeypatch.setattr(archiving, "sync_folder", lambda _path: None)
        monkeypatch.setattr(archiving, "_same", looked_up)
        recorder.prune(before=LATER, archive=archive)


# --- batches


def test_a_purge_that_was_slowed_once_grows_again(path):
    batches: list[int] = []
    with Recorder(path) as recorder:
        chooser = pruning.Chooser(pruning.rules(LATER, None, None))
        chooser.batch = 1
        pruning.prune(recorder._writer, chooser, progress=batches.append)
    assert sum(batches) == 100
    assert len(batches) <= 6


def test_a_wait_for_others_is_no_reason_for_smaller_batches(path, monkeypatch):
    seen: list[float] = []

    def noted(batch: int, seconds: float) -> int:
        seen.append(seconds)
        return batch

    monkeypatch.setattr(pruning, "next_batch", noted)
    with Recorder(path) as recorder:
        transaction = recorder._writer.transaction

        def late(*words: Any) -> Any:
            clock[0] += 100.0
            return transaction(*words)

        clock = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(recorder._writer, "transaction", late)
        pruning.prune(recorder._writer, pruning.Chooser(pruning.rules(LATER, None, None)))
    assert set(seen) == {0.0}


def test_a_batch_reads_about_as_many_candidates_as_it_deletes(path):
    with Recorder(path) as recorder:
        chooser = pruning.Chooser(pruning.rules(LATER, None, None))
        with recorder._writer.transaction() as connection:
            steps = [0]
            connection.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1), 10)
            assert len(chooser.next_ones(connection, 3)) == 3
            few = steps[0]
            chooser.next_ones(connection, 90)
            connection.set_progress_handler(None, 0)
        assert few * 5 < steps[0] - few


# --- what goes with the last execution


def test_one_off_jobs_leave_nothing_behind(tmp_path):
    path = tmp_path / "jobs.db"
    moment = FIRST
    with Recorder(path, clock=lambda: moment) as recorder, jobstore.open(path) as reader:
        recorder.save_job("kept", job_type="t", job_category="c", parameters={"kept": 1})
        for _ in range(3):
            recorder.finish(recorder.enqueue("kept", worker_id="kept"), "SUCCESS")
        for number in range(30):
            name = f"once {number}"
            recorder.save_job(name, job_type="date", job_category="c", parameters={"n": number})
            for _ in range(1 + number % 2):
                with recorder.run(name, worker_id=f"worker {number}"):
                    pass
            recorder.remove_job(name)
        assert reader.list_job_executions(search="once")["pagination"]["total"] == 45
        assert recorder.prune(before="2026-02-01", keep_last=2) == 1
        moment = FIRST + 60 * DAY
        recorder.finish(recorder.enqueue("kept", worker_id="kept"), "SUCCESS")
        assert recorder.prune(before="2026-02-01") == 47
        assert reader.list_job_executions(search="once")["pagination"]["total"] == 0
        recorder.save_job("new", job_type="t", job_category="c")
        recorder.finish(recorder.enqueue("new"), "SUCCESS")
        assert reader.list_job_executions(search="once")["pagination"]["total"] == 0
        assert reader.list_job_executions(search="new")["pagination"]["total"] == 1
    assert count(path, "job_name") == 2
    assert count(path, "worker") == 1
    assert count(path, "parameter_set") == 1
    assert jobstore.check(path) == []


def test_a_worker_that_is_used_again_while_unused_ones_are_looked_for_stays(path, monkeypatch):
    with Recorder(path) as recorder, Recorder(path) as other:
        recorder.save_job("a", job_type="t", job_category="c", parameters={"kept": 1})
        number = recorder.enqueue("a")
        recorder.finish(recorder.enqueue("a", worker_id="w", at="2020-01-01"), "SUCCESS")
        recorder.finish(recorder.enqueue("a", worker_id="gone", at="2020-01-01"), "SUCCESS")
        with monkeypatch.context() as patched:
            patched.setattr("jobstore.recording.transitions.is_alive", lambda _owner: False)
            assert recorder.close_interrupted(hosts=this_process().host) == 1
            patched.setattr("jobstore.recording.recorder.forget_unused", lambda _writer: None)
            assert recorder.prune(before="2021-01-01") == 2
        found = leftovers._unused

        def found_then_used(reader, table):
            unused = found(reader, table)
            if table == "worker":
                other.start(number, worker_id="w")  # a guess that proves wrong, meanwhile
            return unused

        monkeypatch.setattr(leftovers, "_unused", found_then_used)
        leftovers.forget_unused(recorder._writer)
    with jobstore.open(path) as store:
        assert store.get_execution(number)["worker_id"] == "w"
    assert count(path, "worker") == 1
    assert jobstore.check(path) == []


def test_what_is_unused_in_a_file_that_was_replaced_meanwhile_stays(path, tmp_path, monkeypatch):
    copy = tmp_path / "copy.db"
    with Recorder(path) as recorder:
        recorder.finish(recorder.enqueue("a", worker_id="w", at="2020-01-01"), "SUCCESS")
        backup(path, copy)
        monkeypatch.setattr("jobstore.recording.recorder.forget_unused", lambda _writer: None)
        assert recorder.prune(before="2021-01-01") == 1
        with Recorder(copy) as other:  # its log goes on beyond that of the store it was taken from
            for _ in range(10):
                other.enqueue("a")
        held = recorder._writer.held

        def held_after_a_restore():
            restore(copy, path)
            return held()

        monkeypatch.setattr(recorder._writer, "held", held_after_a_restore)
        leftovers.forget_unused(recorder._writer)
    assert count(path, "worker") == 1
    assert jobstore.check(path) == []


def restore_in_place(copy: Path, path: Path) -> None:
    """As ``.restore`` of the sqlite3 shell does it."""
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


@pytest.mark.parametrize("restore", [restore, restore_in_place])
@pytest.mark.parametrize("is_automatic", [False, True])
def test_of_a_backup_that_is_restored_during_a_prune_the_newest_stay(path, tmp_path, is_automatic, restore):
    copy = tmp_path / "copy.db"
    backup(path, copy)
    with Recorder(path) as recorder:
        for _ in range(10):
            recorder.finish(recorder.enqueue("a"), "SUCCESS")
        chooser = pruning.Chooser(pruning.rules(None, 10, None))
        if is_automatic:
            _, is_all = pruning.prune(recorder._writer, chooser, budget_seconds=0)
            assert not is_all
            restore(copy, path)
            pruning.prune(recorder._writer, chooser)
        else:
            is_restored: list[bool] = []

            def restore_once(_deleted: int) -> None:
                if not is_restored:
                    is_restored.append(True)
                    restore(copy, path)

            pruning.prune(recorder._writer, chooser, progress=restore_once)
    assert set(documents(path)) == set(map(str, range(91, 101)))


def test_what_is_archived_into_a_file_that_is_moved_away_meanwhile_is_not_deleted(path, tmp_path):
    archive, moved = tmp_path / "old.jsonl", tmp_path / "old.jsonl.1"
    with Recorder(path) as recorder:
        with pytest.raises(jobstore.StoreUnreadable, match="was removed or replaced while a prune wrote to it"):
            recorder.prune(before=LATER, archive=archive, progress=lambda _: archive.rename(moved))
        assert sorted([*lines(moved), *documents(path)], key=int) == [str(number) for number in range(1, 101)]
        assert recorder.prune(before=LATER, archive=archive) == len(lines(archive)) > 0
    assert {*lines(moved), *lines(archive)} == set(map(str, range(1, 101)))


def test_an_automatic_archive_stays_in_its_folder_wherever_the_process_goes(path, tmp_path, monkeypatch):
    monkeypatch.chdir(path.parent)
    retention = Retention(days=1, archive="old.jsonl", every_seconds=0, budget_seconds=10)
    with Recorder(path.name, retention=retention, clock=lambda: FIRST + 120 * DAY) as recorder:
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        recorder.finish(recorder.enqueue("a"), "SUCCESS")
        assert recorder.prune(keep_last=0, dry_run=True) == 1
    assert len(lines(tmp_path / "old.jsonl")) == 100
    assert list((tmp_path / "sub").iterdir()) == []


@pytest.mark.parametrize("is_automatic", [False, True])
def test_an_archive_by_a_relative_path_in_a_folder_that_is_gone_is_told(path, tmp_path, monkeypatch, is_automatic):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    retention = Retention(days=1, archive="old.jsonl") if is_automatic else None
    with pytest.raises(jobstore.StoreUnreadable, match=r"give the absolute path of old\.jsonl"):  # noqa: SIM117 - any may
        with Recorder(path, retention=retention) as recorder:
            recorder.prune(before=LATER, archive="old.jsonl")


def test_names_of_a_job_that_is_removed_or_renamed_after_its_history_go_too(path):
    with Recorder(path) as recorder:
        recorder.prune(before=LATER)
        recorder.rename_job("a", "b")
        assert count(path, "job_name") == 0
        recorder.finish(recorder.enqueue("b"), "SUCCESS")
        recorder.prune(before="2099-01-01")
        assert count(path, "job_name") == 1
        recorder.remove_job("b")
        assert count(path, "job_name") == 0
    assert jobstore.check(path) == []


# --- the file after a purge


def test_compact_gives_the_room_back_while_others_record(tmp_path):
    path = tmp_path / "jobs.db"
    runs = [
        {"job_name": "a", "status": "SUCCESS", "started_at": "2026-01-01T00:00:00Z", "result": "x" * 3000}
        for _ in range(300)
    ]
    jobstore.load(path, {"executions": runs})
    size = path.stat().st_size
    told: list[int] = []
    with Recorder(path) as recorder, Recorder(path) as other:
        other.save_job("b", job_type="t", job_category="c")
        recorder.prune(before=LATER)

        def record(freed: int) -> None:
            told.append(freed)
            with other.run("b"):
                pass

        freed = recorder.compact(progress=record)
    assert sum(told) >= freed > size // 2
    assert path.stat().st_size < size // 2
    assert len(told) > 3
    assert len(documents(path)) == len(told)
    assert jobstore.check(path) == []


@pytest.mark.parametrize("task", [Recorder.compact, lambda recorder: recorder.prune(emergency=True, before=LATER)])
def test_compact_and_an_emergency_keep_no_recorder_waiting_for_a_reader_that_stays(path, task):
    with closing(sqlite3.connect(path, isolation_level=None)) as reader, Recorder(path, timeout_seconds=30) as recorder:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM execution").fetchone()
        recorder.save_job("b", job_type="t", job_category="c")
        began = time.monotonic()
        task(recorder)
        assert time.monotonic() - began < 30
    assert jobstore.check(path) == []


# --- by itself


def recorded(path: Path, clock: Callable[[], datetime], retention: Retention) -> None:
    with Recorder(path, clock=clock, retention=retention) as recorder, recorder.run("a"):
        pass


@pytest.mark.parametrize(
    "retention", [Retention(days=30), Retention(days=30, keep_last=2), Retention(days=30, failure_days=60)]
)
def test_a_wrong_clock_stops_automatic_pruning_and_says_so(path, caplog, retention):
    recorded(path, lambda: datetime(2099, 1, 1, tzinfo=UTC), retention)
    assert len(documents(path)) == 101
    assert "automatic pruning" in caplog.text
    assert "nothing was recorded between" in caplog.text
    recorded(path, lambda: datetime(2099, 3, 1, tzinfo=UTC), retention)  # also when the next process has it
    assert len(documents(path)) == 102
    with Recorder(path) as recorder:
        assert recorder.prune(before=LATER) == 100


def test_an_execution_in_the_future_stops_it_too(path, caplog):
    with Recorder(path, clock=lambda: datetime(2099, 1, 1, tzinfo=UTC)) as recorder, recorder.run("a"):
        pass
    recorded(path, lambda: FIRST + 100 * DAY, Retention(keep_last=1))
    assert len(documents(path)) == 102
    assert "lies in the future" in caplog.text


def test_a_clock_that_is_set_while_the_process_runs_stops_it(path, caplog, monkeypatch):
    drift = [0]
    monkeypatch.setattr(retaining, "_drift_us", lambda: drift[0])
    monkeypatch.setattr("jobstore.recording.recorder._system_clock", lambda: FIRST + 200 * DAY)
    with Recorder(path, retention=Retention(days=150)) as recorder:
        drift[0] = 3 * 86_400_000_000
        with recorder.run("a"):
            pass
        assert len(documents(path)) == 101
        assert "the clock was changed by more than a day" in caplog.text
        drift[0] = 1_000_000
        recorder._keeper._due = 0.0  # type: ignore[union-attr]
        with recorder.run("a"):
            pass
    assert len(documents(path)) == 102 - 50


# --- who is at work


def owned(path: Path, number: str, **changes: Any) -> None:
    """Gives an open execution another process."""
    owner = this_process()._replace(**changes)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM process")
        connection.execute("INSERT INTO process VALUES (99, ?, ?, ?, ?, ?)", owner)
        connection.execute("UPDATE execution SET started_by = 99 WHERE id = ? AND status = 2", (number,))
        connection.execute("UPDATE execution SET enqueued_by = 99 WHERE id = ? AND status = 3", (number,))
    connection.close()


GONE = 2**22 + 1


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize(
    ("changes", "given", "closed"),
    [
        ({"pid": GONE}, {}, 1),
        ({"pid": GONE, "pid_namespace": 7}, {}, 0),
        ({"pid": GONE, "pid_namespace": 7}, {"worker_id": "w"}, 1),
        ({"pid": GONE, "pid_namespace": 7}, {"worker_id": ["v", "w"]}, 1),
        ({"pid": GONE, "pid_namespace": 7}, {"worker_id": "v"}, 0),
        ({"host": "old", "boot_id": "b"}, {}, 0),
        ({"host": "old", "boot_id": "b"}, {"hosts": ["older", "old"]}, 1),
        ({"host": "old", "boot_id": "b"}, {"hosts": "old"}, 1),
        ({"host": "old", "boot_id": "b"}, {"hosts": ["other"]}, 0),
        ({}, {"worker_id": "w", "hosts": this_process().host}, 0),  # this process is seen to run
    ],
)
def test_only_what_is_surely_gone_is_closed(path, started, changes, given, closed):
    with Recorder(path) as recorder:
        number = recorder.enqueue("a", worker_id="w")
        if started:
            recorder.start(number)
        owned(path, number, **changes)
        assert recorder.close_interrupted(**given) == closed
        document = documents(path)[number]
        assert document["status"] == ("FAILURE" if closed else "RUNNING" if started else "PENDING")
        assert (document["error"] is not None) == bool(closed)
        recorder.finish(number, "SUCCESS")
    assert documents(path)[number]["status"] == "SUCCESS"
    assert jobstore.check(path) == []


def test_what_waits_in_a_queue_elsewhere_is_left_alone(path):
    with Recorder(path) as recorder:
        number = recorder.enqueue("a", outlives_process=True)
        assert recorder.close_interrupted() == 0
        assert documents(path)[number]["status"] == "PENDING"


@pytest.mark.parametrize("given", [{"worker_id": 7}, {"hosts": [7]}, {"hosts": {"a": 1}}, {"worker_id": ""}])
def test_names_of_those_that_are_gone_are_text(path, given):
    with Recorder(path) as recorder, pytest.raises(jobstore.InvalidRecord, match=next(iter(given))):
        recorder.close_interrupted(**given)


def test_bounds_before_the_first_year_prune_nothing(path):
    with Recorder(path, retention=Retention(days=3_650_000)) as recorder:
        recorder.finish(recorder.enqueue("a"), "SUCCESS")
    assert len(documents(path)) == 101


def test_an_archive_that_could_not_be_opened_is_free_again(path, tmp_path, monkeypatch):
    def refused(_path):
        raise OSError(5, "Input/output error")

    with Recorder(path) as recorder:
        with monkeypatch.context() as patched:
            patched.setattr(archiving, "sync_folder", refused)
            with pytest.raises(jobstore.StoreUnreadable):
                recorder.prune(before=LATER, archive=tmp_path / "old.jsonl")
        assert recorder.prune(before=LATER, archive=tmp_path / "old.jsonl") == 100


def test_pruning_a_store_whose_rows_refer_to_missing_ones_says_that_it_is_damaged(path, tmp_path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM job_name WHERE name_id = (SELECT min(name_id) FROM execution)")
        connection.commit()
    with jobstore.Recorder(path) as recorder:
        for options in ({"dry_run": True}, {}, {"archive": tmp_path / "old.jsonl"}):
            with pytest.raises(jobstore.StoreCorrupt, match="rows refer to missing ones"):
                recorder.prune(keep_last=1, **options)
