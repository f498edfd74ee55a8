"""A store damaged in every sector, cut short, or something else from the beginning: answers or typed errors, no more.

About 1,700 files, and nine calls to each.

SQLite has no checksums of its pages, so a damaged store may answer, even wrongly. What is promised is that nothing
hangs, crashes or leaves as another error.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from tests.property import skewed
from tests.reliability import damage

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PROCESSES = 2
LONGEST_SECONDS = 800


@pytest.fixture
def whole(quick_folder: Path) -> Path:
    """A small store with something in every table."""
    world = skewed.world(11, count=200)
    world["jobs"][0]["name"] = "sync_a_1"
    path = quick_folder / "whole.db"
    jobstore.load(path, world)
    return path


def test_damage_anywhere_ends_in_an_answer_or_a_typed_error(whole: Path, quick_folder: Path) -> None:
    count = damage.files(whole.stat().st_size)
    words = [str(whole), str(quick_folder)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.damage", *words, str(begin), str(count), str(PROCESSES)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for begin in range(PROCESSES)
    ]  # fmt: skip
    said: Counter[str] = Counter()
    begun = 0
    for worker in workers:
        out, errors = worker.communicate(timeout=LONGEST_SECONDS)
        lines: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
        assert worker.returncode == 0, f"crashed at {lines[-1]}: {errors[-500:]}"
        assert not [line for line in lines if "trace" in line]
        begun += sum("begun" in line for line in lines)
        said.update(lines[-1]["said"])
    assert begun >= count - PROCESSES
    assert said["answered"] > begun
    assert said["STORE_CORRUPT"] > begun / 10
    assert said["NOT_A_STORE"] > len(damage.WRONG)


@pytest.mark.parametrize("name", damage.WRONG)
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(damage.WRONG[name])
    for attempt in (jobstore.open, jobstore.Recorder, jobstore.dump):
        with pytest.raises(jobstore.NotAStore) as caught:
            attempt(path)
        assert str(path) in str(caught.value)
    with pytest.raises(jobstore.Conflict):
        jobstore.load(path, {})
    assert path.read_bytes() == damage.WRONG[name]


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda _path: None, jobstore.StoreNotFound),
        (_dangling, jobstore.StoreNotFound),
        (_folder, jobstore.NotAStore),
        (_device, jobstore.NotAStore),
        (_pipe, jobstore.NotAStore),
    ],
    ids=["nothing", "a link to nothing", "a folder", "a device", "a pipe"],
)
def test_what_is_no_file_has_its_own_error_and_opening_makes_none(
    tmp_path: Path, make: Callable[[Path], None], error: type[jobstore.StoreError]
) -> None:
    path = tmp_path / "jobs.db"
    make(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error) as caught:
        jobstore.open(path)
    assert str(path) in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("path", ["\0", "a\0b", "x" * 5_000, "missing/jobs.db", "\udcff.db", ""])
def test_a_path_that_could_be_none_is_a_store_error(path: str) -> None:
    with pytest.raises(jobstore.StoreError):
        jobstore.open(path)


def test_another_database_is_refused_by_reader_and_recorder_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE job (name TEXT)")
    connection.close()
    before = path.read_bytes()
    for attempt in (jobstore.open, jobstore.Recorder):
        with pytest.raises(jobstore.NotAStore, match="not a job store"):
            attempt(path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("other.db-*")) == []


@pytest.mark.parametrize(("version", "error"), [(2**31 - 1, jobstore.SchemaTooNew), (0, jobstore.SchemaTooOld)])
def test_a_store_of_another_version_is_refused_by_a_reader(
    whole: Path, version: int, error: type[jobstore.StoreError]
) -> None:
    connection = sqlite3.connect(whole)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(error) as caught:
        jobstore.open(whole)
    assert str(whole) in str(caught.value)


def test_a_newer_store_is_refused_by_a_recorder_and_left_as_it_is(whole: Path) -> None:
    connection = sqlite3.connect(whole)
    connection.execute("PRAGMA user_version = 99")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = whole.read_bytes()
    with pytest.raises(jobstore.SchemaTooNew):
        jobstore.Recorder(whole)
    assert whole.read_bytes() == before


def test_a_store_that_is_removed_or_replaced_under_a_reader_is_no_traceback(whole: Path, tmp_path: Path) -> None:
    """An open reader goes on with the file that it opened: nobody may be surprised by half of another one."""
    other = tmp_path / "other.db"
    jobstore.load(other, {})
    with jobstore.open(whole) as store:
        before = store.list_job_executions()
        shutil.move(other, whole)
        with contextlib.suppress(jobstore.StoreError):
            store.list_job_executions()
        whole.unlink()
        with contextlib.suppress(jobstore.StoreError):
            store.list_jobs()
        assert before["pagination"]["total"] == 200


@pytest.mark.parametrize("number", range(12))
def test_a_damaged_write_ahead_log_is_no_traceback(whole: Path, tmp_path: Path, number: int) -> None:
    """Frames that do not check are as if they had never been written."""
    with jobstore.Recorder(whole) as recorder:
        for _ in range(20):
            recorder.enqueue("sync_a_1")
        copy = tmp_path / "copy.db"
        shutil.copy(whole, copy)
        log = bytearray(Path(f"{whole}-wal").read_bytes())
    begin = len(log) * number // 12
    log[begin : begin + 512] = bytes(min(512, len(log) - begin))
    Path(f"{copy}-wal").write_bytes(log)
    try:
        with jobstore.open(copy) as store:
            assert 200 <= store.list_job_executions()["pagination"]["total"] <= 220
            assert jobstore.check(copy) == []
    except jobstore.StoreError as error:
        assert str(copy) in str(error)  # noqa: PT017 - either may be
