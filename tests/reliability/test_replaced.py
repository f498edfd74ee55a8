"""Files that are replaced, removed or changed by others under a reader or a recorder, and stores that are restored."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.storage.limits import RESERVE_BYTES
from jobstore.transfer.backup import backup, check, give_up_reserve, restore
from jobstore.transfer.dump import dump
from jobstore.transfer.export import iter_executions

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
JOB = {"name": "a", "job_type": "kline", "job_category": "sync"}


def made(path: Path, count: int, timezone: str = "UTC") -> Path:
    runs = [{"job_name": "a", "status": "SUCCESS", "started_at": "2026-01-01T00:00:00Z"} for _ in range(count)]
    jobstore.load(path, {"timezone": timezone, "jobs": [JOB], "executions": runs})
    return path


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return made(quick_folder / "jobs.db", 3)


def total(store: jobstore.JobStore) -> int:
    return store.list_job_executions()["pagination"]["total"]


# --- a reader


def test_a_reader_sees_the_file_that_is_at_its_path(path: Path) -> None:
    other = made(path.with_name("other.db"), 7, "Asia/Tokyo")
    with jobstore.open(path) as store:
        assert (total(store), store.timezone) == (3, "UTC")
        before = store.fresh()
        other.rename(path)
        assert (total(store), store.timezone) == (7, "Asia/Tokyo")
        assert store.fresh() != before
        path.unlink()
        with pytest.raises(jobstore.StoreNotFound):
            total(store)
        made(path, 2)
        assert total(store) == 2


def test_a_reader_by_a_link_sees_where_the_link_points_now(path: Path) -> None:
    link, other = path.with_name("link.db"), made(path.with_name("other.db"), 7)
    link.symlink_to(path)
    with jobstore.open(link) as store:
        assert total(store) == 3
        link.unlink()
        link.symlink_to(other)
        assert total(store) == 7


# --- a recorder


RECORD = """
import sys, jobstore
recorder = jobstore.Recorder(sys.argv[1])
for line in sys.stdin:
    try:
        print(recorder.enqueue("a"), flush=True)
    except jobstore.JobStoreError as error:
        print(error.code, flush=True)
"""


@pytest.mark.parametrize("removed", [["-wal"], ["-shm"], ["-wal", "-shm"]], ids="+".join)
def test_a_log_that_is_removed_under_two_recorders_is_noticed_and_nothing_is_lost(
    path: Path, removed: list[str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RECORD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:

        def record() -> str:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write("\n")
            other.stdin.flush()
            return other.stdout.readline().strip()

        acknowledged = {record() for _ in range(20)}
        for suffix in removed:
            Path(f"{path}{suffix}").unlink()
        assert record() == "STORE_UNREADABLE"
        with jobstore.Recorder(path) as recorder:
            acknowledged |= {recorder.enqueue("a") for _ in range(20)}
            said = [record() for _ in range(3)]
            acknowledged |= {number for number in said if number.isdigit()}
            acknowledged |= {recorder.enqueue("a") for _ in range(20)}
        other.communicate()
    with jobstore.open(path) as store:
        assert acknowledged <= {document["id"] for document in iter_executions(store)}
    assert check(path) == []


@pytest.mark.parametrize("removed", [["-wal"], ["-shm"], ["-wal", "-shm"]], ids="+".join)
def test_the_same_between_two_recorders_of_one_process(path: Path, removed: list[str]) -> None:
    recorder, store = jobstore.Recorder(path), jobstore.open(path)
    acknowledged = {recorder.enqueue("a") for _ in range(20)}
    assert total(store) == 23
    for suffix in removed:
        Path(f"{path}{suffix}").unlink()
    for _ in range(3):
        try:
            with jobstore.Recorder(path) as other:
                acknowledged.add(other.enqueue("a"))
            acknowledged.add(recorder.enqueue("a"))
        except jobstore.StoreUnreadable as error:
            assert "jobstore restore" in str(error)  # noqa: PT017 - whether it is raised depends on what was removed
    recorder.close()
    assert acknowledged <= {document["id"] for document in iter_executions(store)}
    store.close()
    assert check(path) == []


def test_the_reserve_is_kept_by_a_recorder_that_lives_long(quick_folder: Path) -> None:
    path = quick_folder / "jobs.db"
    with jobstore.Recorder(path) as recorder:
        recorder.save_job("a", job_type="kline", job_category="sync")
        reserve = Path(f"{path}.reserve")
        assert not reserve.exists()
        for _ in range(100):
            recorder.enqueue("a", parameters={"text": "x" * 30_000})
        assert reserve.stat().st_size == RESERVE_BYTES
        assert give_up_reserve(path)
    assert reserve.stat().st_size == RESERVE_BYTES


# --- triggers and tables of others


def test_a_trigger_of_others_is_no_damage_and_check_names_it(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER noisy AFTER INSERT ON execution BEGIN INSERT INTO nowhere VALUES (1); END")
        connection.execute("CREATE TABLE note (execution INTEGER REFERENCES execution (id))")
        connection.execute("CREATE TABLE harmless (x)")
    with jobstore.Recorder(path) as recorder, pytest.raises(jobstore.StoreUnreadable, match="jobstore check"):
        recorder.enqueue("a")
    problems = check(path)
    assert len(problems) == 2
    assert "The trigger 'noisy' on the table execution is not part of jobstore" in problems[0]
    assert "The table 'note' is not part of jobstore and can prevent deletes: it refers to execution" in problems[1]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER noisy")
        connection.execute("DROP TABLE note")
        connection.execute("DROP TRIGGER execution_counted_in")
    assert any("The trigger execution_counted_in is missing" in problem for problem in check(path))


def test_a_trigger_that_discards_rows_is_an_error_of_ours(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON execution BEGIN SELECT RAISE(IGNORE); END")
    with jobstore.Recorder(path) as recorder, pytest.raises(jobstore.StoreUnreadable, match="discards new rows"):
        recorder.enqueue("a")


@pytest.mark.parametrize("kind", [KeyError, TypeError, IndexError, ZeroDivisionError, ValueError])
def test_a_defect_of_ours_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def broken(*_: object) -> None:
        raise kind("ours")

    with jobstore.open(path) as store:
        with pytest.raises(kind, match="ours"):
            store.read(broken)
        assert total(store) == 3
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE name_tally SET runs = runs + 1")
            connection.commit()
        with pytest.raises(jobstore.StoreCorrupt, match="its counters or indexes disagree with its rows"):
            store.read(broken)


def test_a_reader_whose_process_goes_to_another_folder_reads_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "sub").mkdir()
    monkeypatch.chdir(path.parent)
    with jobstore.open(path.name) as store, jobstore.Recorder(path.name) as recorder:
        monkeypatch.chdir(path.parent / "sub")
        assert total(store) == 3
        recorder.enqueue("a")
        assert total(store) == 4
        backed_up(path).replace(path)
        assert total(store) == 4


def test_a_signal_handler_reads_on_in_another_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "sub").mkdir()
    monkeypatch.chdir(path.parent)
    with jobstore.open(path.name) as store:
        monkeypatch.chdir(path.parent / "sub")
        assert store.read(lambda *_: total(store)) == 3  # a call inside a call, as a handler makes it


def test_counters_that_name_an_hour_without_executions_are_damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE period_tally SET period = period + 1 WHERE span = 2")
        connection.commit()
    with jobstore.open(path) as store, pytest.raises(jobstore.StoreCorrupt, match="its counters or indexes disagree"):
        store.execution_histogram(bucket="1h")


def backed_up(path: Path) -> Path:
    copy = path.with_name("copy.db")
    backup(path, copy)
    return copy


def test_a_reader_counts_anew_where_a_file_is_written_over_in_place(path: Path) -> None:
    copy = backed_up(path)
    with jobstore.Recorder(path) as recorder, jobstore.open(path) as store:
        for _ in range(4):
            recorder.enqueue("a")
        assert total(store) == 7
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)  # as .restore of the sqlite3 shell
        assert total(store) == 3
        recorder.enqueue("a")
        assert total(store) == 4


def test_a_copy_is_as_closed_as_the_store(path: Path) -> None:
    path.chmod(0o600)
    copy, modes = path.with_name("copy.db"), set[int]()
    backup(
        path, copy, progress=lambda _: modes.update(each.stat().st_mode & 0o777 for each in copy.parent.glob("copy*"))
    )
    assert modes == {copy.stat().st_mode & 0o777} == {0o600}


def test_a_check_names_an_index_that_is_gone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX execution_started")
    assert check(path) == ["The index execution_started is missing; queries and recording need it"]


# --- restore


def test_a_backup_takes_the_place_of_a_store_that_others_use(path: Path) -> None:
    copy = path.with_name("copy.db")
    with jobstore.Recorder(path) as recorder, jobstore.open(path) as store:
        recorder.enqueue("a")
        backup(path, copy)
        lost = recorder.enqueue("a")
        path.chmod(0o640)
        given = dump(path)["next_execution_id"]
        restore(copy, path)
        assert dump(path) == dump(copy) | {"next_execution_id": given}
        assert total(store) == 4
        assert recorder.enqueue("a") == str(int(lost) + 1)  # no number is given twice
        assert total(store) == 5
    assert path.stat().st_mode & 0o777 == 0o640
    assert copy.exists()
    assert check(path) == []


def test_recorders_go_on_while_the_copy_of_a_restore_is_brought_to_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = path.with_name("copy.db")
    backup(path, copy)
    with jobstore.Recorder(path, timeout_seconds=0) as recorder:
        recorded = []
        monkeypatch.setattr("jobstore.transfer.backup.sync_path", lambda _: recorded.append(recorder.enqueue("a")))
        restore(copy, path)
    assert recorded


def test_a_run_that_began_before_a_restore_does_not_end_another_one(path: Path) -> None:
    copy = path.with_name("copy.db")
    with jobstore.Recorder(path) as recorder, jobstore.Recorder(path) as other:
        backup(path, copy)
        with recorder.run("a") as run:
            run.result = "of the lost run"
            restore(copy, path)
            number = other.enqueue("a")
            other.start(number)
        other.finish(number, "FAILURE", error="its own")
        other.save_job("new", job_type="kline", job_category="sync")
    with jobstore.open(path) as store:
        found = store.get_execution(number)
    assert (found["status"], found["error"], found["result"]) == ("FAILURE", "its own", None)
    assert int(number) > int(run.execution_id)


def put_in_place(older: Path, path: Path) -> None:
    """As `mv` does, without `restore`: the numbers after the copy are given again."""
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    older.rename(path)


@pytest.fixture
def twin(path: Path) -> Iterator[tuple[jobstore.Recorder, str]]:
    """A recorder that has enqueued a run; then the store was replaced by an older copy, and another run has its number."""
    older = path.with_name("older.db")
    with jobstore.Recorder(path) as recorder, jobstore.Recorder(path) as other:
        backup(path, older)
        number = recorder.enqueue("a")
        put_in_place(older, path)
        assert other.enqueue("a") == number
        yield recorder, number


def test_a_run_that_an_older_copy_lacks_does_not_start_the_one_that_has_its_number(path: Path, twin) -> None:
    recorder, number = twin
    with pytest.raises(jobstore.NotFound, match="belongs to another run"):
        recorder.start(number)
    with pytest.raises(jobstore.NotFound, match="belongs to another run"):
        recorder.finish(number, "SUCCESS")
    with jobstore.open(path) as store:
        assert store.get_execution(number)["status"] == "PENDING"


def test_a_block_that_an_older_copy_lacks_does_not_end_the_run_that_has_its_number(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = path.with_name("older.db")
    with jobstore.Recorder(path) as recorder, jobstore.Recorder(path) as other:
        backup(path, older)
        with recorder.run("a") as run:
            put_in_place(older, path)
            assert other.enqueue("a") == run.execution_id
    assert "belongs to another run" in caplog.text
    with jobstore.open(path) as store:
        assert store.get_execution(run.execution_id)["status"] == "PENDING"


@pytest.mark.parametrize("seq", ["9223372036854775807", "'x'", "-5"])
def test_a_damaged_store_does_not_use_up_the_numbers_of_the_restored_one(path: Path, seq: str) -> None:
    copy = path.with_name("copy.db")
    backup(path, copy)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE sqlite_sequence SET seq = {seq}")
        connection.commit()
    restore(copy, path)
    assert dump(path) == dump(copy)
    with jobstore.Recorder(path) as recorder:
        assert recorder.enqueue("a")


def test_who_may_not_give_the_group_gives_its_rights_to_no_other_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    copy = path.with_name("copy.db")
    backup(path, copy)
    path.chmod(0o664)
    monkeypatch.setattr(os, "chown", refused)
    restore(copy, path)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_store_that_is_damaged_or_missing_is_restored(path: Path) -> None:
    copy = path.with_name("copy.db")
    backup(path, copy)
    recorder = jobstore.Recorder(path)
    recorder.enqueue("a")
    with path.open("r+b") as file:
        file.seek(0)
        file.write(b"\xa5" * 8192)
    restore(copy, path)
    recorder.close()
    assert dump(path) == dump(copy)
    for entry in path.parent.glob("jobs.db*"):
        entry.unlink()
    restore(copy, path)
    assert dump(path) == dump(copy)


def test_nothing_happens_without_a_sound_backup(path: Path, tmp_path: Path) -> None:
    before = dump(path)
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE name_tally SET runs = runs + 1")
        connection.commit()
    with pytest.raises(jobstore.StoreCorrupt, match="not a sound backup"):
        restore(copy, path)
    with pytest.raises(jobstore.StoreNotFound):
        restore(tmp_path / "none.db", path)
    with pytest.raises(jobstore.Conflict):
        restore(path, path)
    (tmp_path / "text").write_text("x" * 5000)
    with pytest.raises(jobstore.NotAStore):
        restore(tmp_path / "text", path)
    assert dump(path) == before
    assert [entry.name for entry in path.parent.iterdir() if "restore" in entry.name] == []


@pytest.mark.parametrize("kind", ["a text", "another program's database"])
def test_a_file_that_never_was_a_store_is_not_replaced(path: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "letter"
    if kind == "a text":
        other.write_text("Dear Sir or Madam, " * 1000)
    else:
        with closing(sqlite3.connect(other)) as connection:
            connection.executescript("CREATE TABLE letter (text); INSERT INTO letter VALUES ('Dear')")
    before = other.read_bytes()
    with pytest.raises(jobstore.NotAStore, match="restore does not replace it"):
        restore(path, other)
    assert other.read_bytes() == before


@pytest.mark.parametrize("length", [0, 4096])
def test_a_store_is_replaced_that_lost_its_first_page_or_all(path: Path, tmp_path: Path, length: int) -> None:
    damaged = tmp_path / "damaged.db"
    jobstore.Recorder(damaged).close()
    damaged.write_bytes(bytes(length) + damaged.read_bytes()[length:] if length else b"")
    restore(path, damaged)
    assert dump(damaged) == dump(path)


# What is opened at the very moment of an exception is closed by its finalizer, which Python 3.13 warns of.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_restore_that_is_interrupted_anywhere_leaves_the_old_store_or_the_new_one(path: Path) -> None:
    copy = path.with_name("copy.db")
    backup(path, copy)
    with jobstore.Recorder(path) as recorder:
        recorder.enqueue("a")
    old = dump(path)
    new = dump(copy) | {"next_execution_id": old["next_execution_id"]}

    class Stop(Exception):
        pass

    for last in range(60):
        calls = 0

        def trace(frame: object, event: str, _: object, last: int = last) -> object:
            nonlocal calls
            if "backup.py" not in frame.f_code.co_filename:  # type: ignore[attr-defined]
                return None
            calls += event == "line"
            if calls > 3 * last:
                raise Stop
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            restore(copy, path)
        except Stop:
            pass
        finally:
            sys.settrace(None)
        assert dump(path) in (old, new)
    gc.collect()  # here, not in another test
    assert dump(path) == new


def test_the_command_restores_and_says_so(path: Path) -> None:
    copy = path.with_name("copy.db")
    backup(path, copy)
    with jobstore.Recorder(path) as recorder:
        recorder.enqueue("a")
    given = dump(path)["next_execution_id"]
    command = [sys.executable, "-m", "jobstore", "restore", str(copy), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"restored {path} from {copy}" in done.stderr
    assert dump(path) == dump(copy) | {"next_execution_id": given}
    assert subprocess.run(command[:4], cwd=ROOT, capture_output=True, check=False, timeout=120).returncode == 2


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal", ".lock", ".reserve", ".tokens", ".notified"])
def test_no_store_takes_the_name_of_a_file_beside_another(path: Path, end: str) -> None:
    copy, target = path.with_name("copy.db"), Path(f"{path}{end}")
    backup(path, copy)
    target.unlink(missing_ok=True)
    for make in (jobstore.Recorder, lambda to: backup(copy, to), lambda to: restore(copy, to),
                 lambda to: jobstore.load(to, {})):  # fmt: skip
        with pytest.raises(jobstore.StoreUnreadable, match=f"is named like a side file of {path};"):
            make(target)
        assert not target.exists()
    assert check(path) == []


@pytest.mark.parametrize("name", ["n" * 255, "n" * 252, "n" * 245])
def test_a_name_that_is_too_long_is_refused_by_an_error_of_ours(path: Path, name: str) -> None:
    copy = backed_up(path)
    target = path.with_name(name)
    for make in (jobstore.Recorder, lambda to: backup(copy, to), lambda to: restore(copy, to),
                 lambda to: jobstore.load(to, {})):  # fmt: skip
        with pytest.raises(jobstore.StoreUnreadable, match="too long"):
            make(target)
        assert list(path.parent.glob(".*")) == []
        for made in path.parent.glob("n*"):
            made.unlink()


def test_a_folder_where_a_store_is_to_be_made_is_named_as_the_cause(path: Path) -> None:
    target = path.with_name("new.db")
    path.with_name(".new.db.new").mkdir()
    with pytest.raises(jobstore.StoreUnreadable, match=r"\.new\.db\.new is in the way: .*directory; remove"):
        jobstore.Recorder(target)


def test_an_existing_store_may_have_any_name(path: Path) -> None:
    other = path.rename(path.with_name("other.db-wal"))
    path.with_name("other.db").write_text("no store")
    with jobstore.Recorder(other) as recorder:
        recorder.enqueue("a")
        backup(other, path)
        path.rename(other)
        for log in ("-wal", "-shm"):
            Path(f"{other}{log}").unlink()
        recorder.enqueue("a")


def test_the_root_folder_is_no_store() -> None:
    for make in (jobstore.Recorder, jobstore.open, lambda to: jobstore.load(to, {})):
        with pytest.raises((jobstore.NotAStore, jobstore.Conflict)):
            make("/")


def test_only_a_file_is_replaced_by_a_backup(path: Path) -> None:
    copy, folder, pipe = path.with_name("copy.db"), path.with_name("folder"), path.with_name("pipe")
    backup(path, copy)
    folder.mkdir()
    os.mkfifo(pipe)
    for target in (folder, pipe):
        with pytest.raises(jobstore.NotAStore, match="is not a regular file"):
            restore(copy, target)
    assert folder.is_dir()
    assert pipe.is_fifo()
