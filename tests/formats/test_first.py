"""A file of format 1 is refused by a reader with the way out, and upgraded by a recorder, whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import jobstore
from benchmarks import history
from jobstore.language.models import EXECUTION_ORDERS
from tests.formats.first import make_first_format
from tests.property import skewed
from tests.reliability.scale import SOAK, scaled

ROOT = Path(__file__).parents[2]
MANY = 300_000
UPGRADE = "import jobstore, sys; print('begun', flush=True); jobstore.Recorder(sys.argv[1]).close()"


def pages(path: Path, offsets: tuple[int, ...]) -> list[Any]:
    with jobstore.open(path) as store:
        return [
            store.list_job_executions(limit=20, offset=offset, order_by=order, search=search)
            for order in EXECUTION_ORDERS
            for offset in offsets
            for search in (None, "sync", "failed")
        ]


def structure(path: Path) -> dict[str, Any]:
    """Tables by their columns; indexes and triggers by their text."""
    with closing(sqlite3.connect(path)) as connection:
        made = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        return {
            name: sorted(connection.execute(f"SELECT name, type, pk FROM pragma_table_info('{name}')").fetchall())
            if kind == "table"
            else sql
            for kind, name, sql in made
        } | {"version": connection.execute("PRAGMA user_version").fetchone()}


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    today, old = tmp_path / "today.db", tmp_path / "old.db"
    jobstore.load(today, skewed.world(4))
    make_first_format(old, today)
    return old, today


def test_a_reader_refuses_it_and_says_the_way_out(small: tuple[Path, Path]) -> None:
    before = small[0].read_bytes()
    with pytest.raises(jobstore.SchemaTooOld, match="Recorder"):
        jobstore.open(small[0])
    assert small[0].read_bytes() == before


def test_a_recorder_upgrades_it_to_what_a_new_file_is(small: tuple[Path, Path]) -> None:
    old, today = small
    jobstore.Recorder(old).close()
    jobstore.Recorder(old).close()  # once is enough
    assert structure(old) == structure(today)
    assert jobstore.check(old) == []
    assert pages(old, (0, 100, 2_900)) == pages(today, (0, 100, 2_900))
    with jobstore.Recorder(old) as recorder, recorder.run(skewed.world(4)["jobs"][0]["name"]):
        pass
    assert jobstore.check(old) == []


def test_an_upgrade_that_is_killed_at_any_moment_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    world = skewed.world(5, count=400)
    for run in world["executions"]:
        run["id"] = f"{run['id']}00"  # beyond one segment of the bitmap index
    today, old = tmp_path / "today.db", tmp_path / "old.db"
    jobstore.load(today, world)
    make_first_format(old, today)
    said = subprocess.run(
        [sys.executable, "-m", "tests.formats.killed", old, tmp_path, str(scaled(14))],
        capture_output=True, check=False, cwd=ROOT, text=True, timeout=600 * max(1, SOAK),
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    ends = json.loads(said.stdout)
    assert ends.keys() == {"moments", "old", "new", "old, with a log"}
    assert ends["old"] >= 12
    assert ends["new"] > 0
    assert ends["old, with a log"] > 0
    jobstore.Recorder(old).close()
    assert pages(old, (0, 250)) == pages(today, (0, 250))
    assert structure(old) == structure(today)


@pytest.mark.slow
def test_a_long_upgrade_that_is_killed_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    today, old = tmp_path / "today.db", tmp_path / "old.db"
    jobstore.load(today, {"jobs": history.job_documents(10_000), "executions": history.documents(MANY)})
    make_first_format(old, today)
    expected, found = pages(today, (0, 30_000)), set[bool | None]()
    for delay in (0.05, 0.4, 0.8, 1.6):
        with subprocess.Popen([sys.executable, "-c", UPGRADE, old], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            os.kill(process.pid, signal.SIGKILL)
        try:
            found.add(pages(old, (0, 30_000)) == expected)
        except jobstore.SchemaTooOld:
            found.add(None)
    jobstore.Recorder(old).close()
    assert found <= {True, None}
    assert pages(old, (0, 30_000)) == expected
    assert structure(old) == structure(today)
