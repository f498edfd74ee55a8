"""The power fails at any moment: what was acknowledged is on the disk, and nothing is half there."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.reliability.power_cut import WORKLOADS, cut
from tests.reliability.scale import figure, report

if TYPE_CHECKING:
    from pathlib import Path

POINTS = figure(560, 3_000)
"""Shared among the workloads, spread evenly over the steps of each."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="writes are recorded by a C library on Linux"
)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_what_was_acknowledged_survives_a_power_cut_at_any_moment(
    workload: str, quick_folder: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("randomly_seed", 0)
    figures = cut(workload, quick_folder, POINTS // len(WORKLOADS), seed if isinstance(seed, int) else 0)
    report("power cuts", **figures)
