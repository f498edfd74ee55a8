"""Runs the property and reliability tests in their long forms, with another seed each round, until the time is over.

    python -m tests.soak --hours 8 --seed 1

A line for each part: the round, its seed, how long it took and what pytest says at its end. A part that fails is
shown with the command that runs it again; it does not end the soak, and the exit code is 1 in the end. The last part
of the first round puts faults into copies of the package and looks whether the tests see them.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDERS = ("property", "reliability")
FAULTS = "tests/reliability/test_faults.py"
LONGEST_SECONDS = 6 * 3600
"""Of a part; one that takes longer hangs."""
PATH_QUERIES = 5_000
"""What CI asks the access paths; the long form asks so many times as many."""


class Part(NamedTuple):
    """A process of pytest: its tests, and its options."""

    tests: str
    options: tuple[str, ...] = ()


def parts() -> list[Part]:
    """The tests that gain from time, a file each."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / "tests" / folder).glob("test_*.py"))]
    found = [Part(str(file.relative_to(ROOT))) for file in files]
    return [part for part in found if part.tests != FAULTS]


def rounds(seed: int) -> Iterator[tuple[int, Part]]:
    """Parts without an end, each with its seed."""
    faults = [Part(FAULTS, ("-m", "slow"))]
    while True:
        for part in [*parts(), *faults]:
            yield seed, part
        faults.clear()
        seed += 1


def command(part: Part, seed: int) -> list[str]:
    """How a part is run, here and by whoever wants to see it again."""
    return [
        sys.executable, "-m", "pytest", "-q", "--timeout", str(LONGEST_SECONDS), f"--randomly-seed={seed}",
        f"--hypothesis-seed={seed}", *part.options, part.tests,
    ]  # fmt: skip


def run(part: Part, seed: int, scale: float) -> tuple[bool, str]:
    """Whether a part passes, and what pytest says last (all of it, where the part fails)."""
    queries = round(PATH_QUERIES * scale)
    environment = {**os.environ, "JOBSTORE_SOAK": f"{scale:g}", "JOBSTORE_PATH_QUERIES": str(queries)}
    done = subprocess.run(
        command(part, seed), cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        timeout=LONGEST_SECONDS,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    return done.returncode == 0, lines[-1] if done.returncode == 0 and lines else f"{done.stdout}{done.stderr}"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """The exit code: 0 where every part passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--hours", type=float, default=1.0, help="when to stop; the part that runs then is finished")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each next has the next number")
    parser.add_argument("--scale", type=float, default=5.0, help="how many times as long as in CI each part is")
    parser.add_argument("--only", default="", help="parts whose path has this text")
    given = parser.parse_args(arguments)
    until = time.monotonic() + given.hours * 3600
    failed: list[str] = []
    for seed, part in rounds(given.seed):
        if time.monotonic() >= until:
            break
        if given.only not in part.tests:
            continue
        begun = time.monotonic()
        passed, said = run(part, seed, given.scale)
        say(f"seed {seed}  {part.tests}  {time.monotonic() - begun:.0f} s  {said if passed else 'FAILED'}")
        if not passed:
            again = f"JOBSTORE_SOAK={given.scale:g} {shlex.join(command(part, seed))}"
            failed.append(again)
            say(f"{said}\nAgain: {again}")
    say(f"{len(failed)} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
