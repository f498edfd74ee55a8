"""How long the reliability tests run: short in CI, and ``JOBSTORE_SOAK`` times as long where that is set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SOAK: Final = float(os.environ.get("JOBSTORE_SOAK", "1"))
ROOT: Final = Path(__file__).resolve().parents[2]
"""Of the project; the programs beside this file are started as modules from there."""


def scaled(count: int) -> int:
    """So many times, or more."""
    return max(1, round(count * SOAK))
