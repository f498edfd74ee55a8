"""How long the reliability tests run: short, or by the programme's figures, ``JOBSTORE_SOAK`` times as long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

SOAK: Final = float(os.environ.get("JOBSTORE_SOAK", "1"))
IS_PROGRAMME: Final = "JOBSTORE_SOAK" in os.environ
"""CI runs it after the README's command, the soak and the seeded faults do, and whoever sets the variable."""
FIGURES: Final = "JOBSTORE_FIGURES"
ROOT: Final = Path(__file__).resolve().parents[2]
"""Of the project; the programs beside this file are started as modules from there."""


def figure(short: int, whole: int) -> int:
    """A figure of the programme: whole, or more, where the programme is run, else short."""
    return scaled(whole) if IS_PROGRAMME else short


def scaled(count: int) -> int:
    """So many times, or more."""
    return max(1, round(count * SOAK))


def run_program(name: str, *arguments: object, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    """The figures that a program of this folder prints; raises with what it says if it finds something."""
    command = [*prefix, sys.executable, "-m", f"tests.reliability.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600 * max(1.0, SOAK))
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    report(name, **figures)
    return figures


def report(what: str, **figures: object) -> None:
    """Adds figures to the soak's report, if there is one: a line of JSON in the file that `FIGURES` names."""
    file = os.environ.get(FIGURES)
    if file:
        with open(file, "a", encoding="utf-8") as out:  # noqa: PTH123 - several processes append
            out.write(f"{json.dumps({'what': what, **figures})}\n")
