"""Proof that the tests bite: faults of the kind that people make, each put into a copy of the package, each caught.

A fault is a piece of source and what stands there instead. The test it names must pass without it and fail with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.faults import FAULTS, Fault
from tests.reliability.scale import FIGURES

ROOT = Path(__file__).parents[2]
SECONDS = 1800
"""A fault that makes its test hang is seen earlier, by the test's own timeout."""


def copied(folder: Path) -> Path:
    """The package and its tests, in a place of their own."""
    for name in ("jobstore", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "conftest.py").write_text(UNSHRUNK, encoding="utf-8")
    return folder


UNSHRUNK = """
from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=[Phase.generate])
settings.load_profile("unshrunk")
"""
"""Hypothesis would look for the smallest example for minutes; that there is one is enough."""


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """The tests in a folder, with the package beside them."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "--hypothesis-seed=1", *tests],
        capture_output=True, check=False, cwd=folder, text=True, timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "JOBSTORE_SOAK": "1", FIGURES: ""},
    )  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_still_applies_to_the_source(fault: Fault) -> None:
    text = (ROOT / "jobstore" / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.good) == 1, "the source has changed: describe the fault again"
    assert (ROOT / fault.test.partition("::")[0]).exists(), fault.test


def test_the_faults_are_spread_over_every_package() -> None:
    packages = {path.name for path in (ROOT / "jobstore").iterdir() if (path / "__init__.py").exists()}
    assert packages <= {fault.file.partition("/")[0] for fault in FAULTS}
    assert len(FAULTS) >= 50


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught_by_the_test_that_is_named_for_it(tmp_path: Path, fault: Fault) -> None:
    folder = copied(tmp_path)
    source = folder / "jobstore" / fault.file
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace(fault.good, fault.bad), encoding="utf-8")
    said = run(folder, fault.test)
    assert said.returncode == 1, said.stdout[-2_000:]
    assert " failed" in said.stdout


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_every_named_test_passes_without_a_fault(tmp_path: Path) -> None:
    said = run(copied(tmp_path), *sorted({fault.test for fault in FAULTS}))
    assert said.returncode == 0, said.stdout[-2_000:]
