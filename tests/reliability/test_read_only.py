"""Readers who may not write: every kind of folder and file, beside a writer that lives, ended or was killed.

Whoever is answered gets everything that was ever acknowledged; whoever is not is told the file and a remedy.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from tests.reliability import strangers

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")

PLACES = {
    "a folder and file for all": (0o777, 0o666, None),
    "a folder for all, a file to read": (0o777, 0o444, None),
    "a folder for all that keeps what is whose": (0o1777, 0o644, None),
    "a folder and file to read": (0o755, 0o644, None),
    "a folder and file that nobody may write": (0o555, 0o444, None),
    "a folder to pass through": (0o711, 0o644, None),
    "a closed folder": (0o700, 0o644, None),
    "a closed file": (0o755, 0o600, None),
    "closed files beside it": (0o755, 0o644, 0o600),
}
"""The modes of folder, file, and what SQLite keeps beside it; all are root's."""
WRITERS = ("alive", "closed", "killed", "killed, its shared memory lost")

OPEN = [place for place in PLACES if "closed" not in place]

MUST_ANSWER = {
    *((place, writer) for place in OPEN for writer in ("alive", "closed", "killed")),
    ("closed files beside it", "closed"),
}
"""The cells in which a reader without rights is answered; in the others it may be."""


@pytest.fixture
def store(quick_folder: Path) -> Path:
    """The path of a store that is not there yet, in a folder of its own that others can reach."""
    quick_folder.chmod(0o755)
    (quick_folder / "inner").mkdir()
    return quick_folder / "inner" / "jobs.db"


class Strangers:
    """A process whose children write and read."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.strangers"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._is_written = False

    def _ask(self, *words: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(words)}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def write(self, store: Path) -> None:
        """Lets a writer record, and wait for its end."""
        assert self._ask("write", str(store)) == "ready\n"
        self._is_written = True

    def end(self, how: str) -> None:
        """Lets the writer close or die."""
        if self._is_written:
            self._is_written = False
            assert self._ask("end", how) == "ended\n"

    def read(self, store: Path, user: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ask("read", str(store), user))
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def others() -> Iterator[Strangers]:
    found = Strangers()
    yield found
    found.close()


@pytest.fixture
def strange(store: Path, others: Strangers) -> Iterator[Strangers]:
    """A writer that has recorded and waits for its end."""
    others.write(store)
    yield others
    others.end("die")


def end(strange: Strangers, how: str, store: Path) -> None:
    """Lets the writer live, end or die."""
    if how != "alive":
        strange.end("close" if how == "closed" else "die")
    if how.endswith("lost"):
        Path(f"{store}-shm").unlink()


@as_root
@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize("place", PLACES)
def test_another_user_gets_all_the_data_or_a_typed_error_with_a_remedy(
    store: Path, strange: Strangers, place: str, how: str
) -> None:
    end(strange, how, store)
    folder_mode, file_mode, beside_mode = PLACES[place]
    for path in store.parent.iterdir():
        is_beside = path != store and beside_mode is not None
        path.chmod(beside_mode if is_beside else file_mode)  # type: ignore[arg-type]
    store.parent.chmod(folder_mode)
    said = strange.read(store, NOBODY)
    if "code" in said:
        assert (place, how) not in MUST_ANSWER, said
        assert said["code"] == "STORE_UNREADABLE"
        assert str(store) in said["message"]
        remedy = "permissions" if place.startswith("a closed") else "Open the store once with a Recorder"
        assert remedy in said["message"]
    else:
        assert said == {"total": strangers.RUNS, "rows": strangers.RUNS}


@pytest.mark.parametrize("how", WRITERS)
def test_the_user_of_the_store_gets_all_the_data(store: Path, strange: Strangers, how: str) -> None:
    end(strange, how, store)
    assert strange.read(store, 0) == {"total": strangers.RUNS, "rows": strangers.RUNS}


# What a connection that answers queries may do.


@pytest.fixture
def connection(store: Path) -> Iterator[sqlite3.Connection]:
    jobstore.load(store, {"jobs": [{"name": "sync", "job_type": "kline", "job_category": "sync"}]})
    with jobstore.open(store) as opened:
        assert opened.connection is not None
        yield opened.connection


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO setting VALUES ('a', 'b')",
        "UPDATE job SET name = 'x'",
        "DELETE FROM job",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "DROP TABLE execution",
        "ALTER TABLE job ADD COLUMN x",
        "PRAGMA user_version = 5",
        "PRAGMA journal_mode = DELETE",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "VACUUM",
        "ANALYZE",
        "SELECT load_extension('x')",
    ],
)
def test_a_reading_connection_cannot(store: Path, connection: sqlite3.Connection, statement: str) -> None:
    before = store.read_bytes()
    with pytest.raises(sqlite3.Error):
        connection.execute(statement).fetchall()
    assert store.read_bytes() == before


def test_a_reading_connection_cannot_write_the_log_back(store: Path, connection: sqlite3.Connection) -> None:
    before = store.read_bytes()
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # some versions refuse, others do nothing
    assert store.read_bytes() == before
    assert not (store.parent / "other.db").exists()
    assert not (store.parent / "copy.db").exists()


def test_a_reading_connection_writes_nothing_whatever_is_switched_off(
    store: Path, connection: sqlite3.Connection
) -> None:
    before = store.read_bytes()
    for statement in ("PRAGMA query_only = OFF", "PRAGMA writable_schema = ON", "PRAGMA trusted_schema = ON"):
        connection.execute(statement)
    for statement in (
        "DELETE FROM job",
        "UPDATE sqlite_master SET sql = ''",
        "ATTACH 'o.db' AS o",
        "REINDEX",
        "VACUUM",
    ):
        with pytest.raises(sqlite3.Error):
            connection.execute(statement).fetchall()
    assert store.read_bytes() == before


def test_a_reading_connection_reads(connection: sqlite3.Connection) -> None:
    assert connection.execute("SELECT name FROM job").fetchall() == [("sync",)]


def test_reading_changes_neither_the_file_nor_its_folder(store: Path) -> None:
    jobstore.load(store, {})
    before, names = store.read_bytes(), sorted(store.parent.iterdir())
    with jobstore.open(store) as opened:
        opened.list_jobs()
        opened.list_job_executions()
    assert store.read_bytes() == before
    assert set(store.parent.iterdir()) - set(names) <= {Path(f"{store}-wal"), Path(f"{store}-shm")}
