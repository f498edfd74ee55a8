"""Calls of the system that fail, each in turn: a typed error or a clean success, and all is well afterwards.

A library of our own between SQLite and the system (`faulty_io.c`) makes the N-th open, read, write, sync, truncation,
mapping or lock of a store's files fail, once or from then on, for every N that an action has.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.scale import IS_PROGRAMME

ROOT = Path(__file__).parents[2]
FAULTS = 4 if IS_PROGRAMME else 1
"""Of each call. All four are about 3,600; the short form takes one, in each run another."""
TYPED = {"success", "STORE_UNREADABLE", "STORE_CORRUPT", "STORE_FULL", "STORE_BUSY", "NOT_A_STORE"}
SCENARIOS = {"Open", "Ask", "Record", "Begin", "Create", "Load", "Prune", "Dump"}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="faults are injected by a C library on Linux"
)


@pytest.fixture
def library(quick_folder: Path) -> Path:
    """The library, compiled."""
    built = quick_folder / "faulty_io.so"
    source = ROOT / "tests" / "reliability" / "faulty_io.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True)
    return built


def run(library: Path, *words: str) -> str:
    """What the program says with the library between it and the system."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "FAULTY_NAME": "jobs.db"}
    said = subprocess.run(
        [sys.executable, "-m", "tests.reliability.faulty", *words],
        capture_output=True, check=False, cwd=ROOT, env=environment, text=True, timeout=800,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-2_000:]
    return said.stdout


def test_each_call_that_fails_is_a_typed_error_or_nothing_and_the_store_is_well_again(
    library: Path, quick_folder: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("randomly_seed", 0)
    said = run(library, str(quick_folder), str(FAULTS), str(seed if isinstance(seed, int) else 0))
    found: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    assert {line["scenario"] for line in found} == SCENARIOS
    for line in found:
        assert line["ends"].keys() <= TYPED, line
        assert line["ends"]["STORE_UNREADABLE"] > 0, line
    assert sum(sum(line["ends"].values()) for line in found) > 500 * FAULTS


def test_whatever_a_recorder_acknowledges_has_been_brought_to_the_disk(library: Path, quick_folder: Path) -> None:
    syncs = json.loads(run(library, "syncs", str(quick_folder)))
    assert len(syncs) == 7
    assert min(syncs.values()) >= 1, syncs
