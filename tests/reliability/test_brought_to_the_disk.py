"""What has to be on the disk before something else happens, and what happens inside the lock alone."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.storage.sidefiles import identity_of
from jobstore.transfer.backup import backup, restore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Events = list[tuple[str, tuple[int, int] | None]]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """Each sync, rename and link of this process, in order, by what was synced or moved."""
    found: Events = []
    fsync, rename, link = os.fsync, os.rename, os.link

    def record_sync(descriptor: int) -> None:
        fsync(descriptor)
        state = os.fstat(descriptor)
        found.append(("sync", (state.st_dev, state.st_ino)))

    def record_rename(source: str, target: str, **words: object) -> None:
        found.append(("name", identity_of(source)))
        rename(source, target, **words)  # type: ignore[arg-type]

    def record_link(source: str, target: str, **words: object) -> None:
        found.append(("name", identity_of(source)))
        link(source, target, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "rename", record_rename)
    monkeypatch.setattr(os, "link", record_link)
    return found


def make(path: Path) -> None:
    jobstore.Recorder(path).close()


def load(path: Path) -> None:
    jobstore.load(path, {})


def copy(path: Path) -> None:
    jobstore.load(path.with_name("other.db"), {})
    backup(path.with_name("other.db"), path)


def bring_back(path: Path) -> None:
    jobstore.load(path, {})
    backup(path, path.with_name("copy.db"))
    restore(path.with_name("copy.db"), path)


@pytest.mark.parametrize("action", [make, load, copy, bring_back])
def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_afterwards(
    tmp_path: Path, events: Events, action: Callable[[Path], None]
) -> None:
    path = tmp_path / "inner" / "jobs.db"
    path.parent.mkdir()
    action(path)
    file, folder = identity_of(path), identity_of(path.parent)
    named = events.index(("name", file))
    assert ("sync", file) in events[:named]
    assert ("sync", folder) in events[named:]


def test_what_goes_on_outside_of_a_transaction_goes_on_inside_the_lock(tmp_path: Path) -> None:
    with jobstore.Recorder(tmp_path / "jobs.db") as recorder, recorder._writer.held():
        said: list[str] = []

        def come_in() -> None:
            try:
                with recorder._writer.lock.acquired(0):
                    said.append("two were in")
            except jobstore.StoreBusy:
                said.append("refused")

        thread = threading.Thread(target=come_in)
        thread.start()
        thread.join()
    assert said == ["refused"]
