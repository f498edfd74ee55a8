"""Runs the reliability programme in its long form, again and again with another seed, until the time is over.

    python -m tests.soak --hours 1 --seed 1 --report docs/reliability.md

Each trial is a process of pytest. One that fails is shown with the command that runs it again; it does not end the soak,
and the exit code is 1 in the end. The last trial, which puts faults into copies of the package, runs in the first round
alone. The report is a table between two marks of the file; every trial is run at least once, however short the time is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.reliability.scale import FIGURES
from tests.soak.programme import PROGRAMME, Trial

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 2 * 3600
"""Of a trial; one that takes longer hangs."""
PATH_QUERIES = 5_000
"""What CI asks the access paths; the long form asks so many times as many."""
BEGIN, END = "<!-- report -->", "<!-- end of the report -->"


@dataclass
class Outcome:
    """What all runs of a trial came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    rounds: int = 0
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)

    def add_figures(self, file: Path) -> None:
        """Sums of counts, largest of times, from what the tests wrote down."""
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            found = json.loads(line)
            sums = self.figures.setdefault(str(found.pop("what")), {})
            for name, value in found.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    is_time = re.search("second|wait|longest|slowest", name)
                    sums[name] = max(sums.get(name, 0), value) if is_time else sums.get(name, 0) + value

    def told(self) -> str:
        """The figures as a line of a table."""
        parts = [f"{what}: {', '.join(f'{name} {plain(value)}' for name, value in sums.items())}"
                 for what, sums in self.figures.items()]  # fmt: skip
        return "; ".join([f"{self.passed:,} tests passed", *parts])


def plain(value: float) -> str:
    """Counts whole, with commas; times and sizes with four digits.

    >>> plain(38170), plain(0.570712)
    ('38,170', '0.5707')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def command(trial: Trial, seed: int) -> list[str]:
    """How a trial is run, here and by whoever wants to see it again."""
    return [
        sys.executable, "-m", "pytest", "-q", "--timeout", str(LONGEST_SECONDS), f"--randomly-seed={seed}",
        f"--hypothesis-seed={seed}", *trial.tests,
    ]  # fmt: skip


def run(trial: Trial, seed: int, scale: float, outcome: Outcome) -> str:
    """Runs a trial once, adds to its outcome, and returns what is to be said of it."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        results, figures = Path(folder) / "results.xml", Path(folder) / "figures"
        environment = {
            **os.environ, "JOBSTORE_SOAK": f"{scale:g}", "JOBSTORE_PATH_QUERIES": str(round(PATH_QUERIES * scale)),
            FIGURES: str(figures),
        }  # fmt: skip
        done = subprocess.run(
            [*command(trial, seed), f"--junitxml={results}"], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False, timeout=LONGEST_SECONDS,
        )  # fmt: skip
        suite = ET.parse(results).getroot().find("testsuite") if results.exists() else None
        outcome.add_figures(figures)
    tests, failed, skipped = (
        int(suite.get(name, 0)) if suite is not None else 0 for name in ("tests", "failures", "skipped")
    )
    failed += int(suite.get("errors", 0)) if suite is not None else 1
    outcome.passed += tests - failed - skipped
    outcome.failed += failed
    outcome.skipped += skipped
    outcome.rounds += 1
    outcome.seconds += time.monotonic() - begun
    if done.returncode == 0:
        return done.stdout.strip().splitlines()[-1]
    again = f"JOBSTORE_SOAK={scale:g} {shlex.join(command(trial, seed))}"
    outcome.again.append(again)
    return f"FAILED\n{done.stdout}{done.stderr}\nAgain: {again}"


def report(outcomes: dict[str, Outcome], words: str, hours: float, *, is_whole: bool) -> str:
    """The table, with all that somebody needs to make it again."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, `python -m tests.soak {words}`: "
        f"{hours:.2f} hours{'' if is_whole else ', stopped early'}. {os.cpu_count()} cores, {platform.machine()}, "
        f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}."
    )
    lines = [
        "| | promise | rounds | seconds | what was tried | failed | skipped |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for trial in PROGRAMME:
        found = outcomes[trial.number]
        lines.append(
            f"| {trial.number} | {trial.promise} | {found.rounds} | {found.seconds:,.0f} | {found.told()} "
            f"| {found.failed} | {found.skipped} |"
        )
    return "\n".join([head, "", *lines])


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """The exit code: 0 where every trial passed in every round."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--hours", type=float, default=1.0, help="when to stop; the trial that runs then is finished")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each next has the next number")
    parser.add_argument("--scale", type=float, default=2.0, help="how many times as long as in CI each trial is")
    parser.add_argument("--only", default="", help="numbers of trials with commas between, such as T2,T5")
    parser.add_argument("--report", type=Path, help="a file that takes the table between its two marks")
    given = parser.parse_args(arguments)
    chosen = [trial for trial in PROGRAMME if not given.only or trial.number in given.only.split(",")]
    begun, seed = time.monotonic(), given.seed
    outcomes = {trial.number: Outcome() for trial in PROGRAMME}
    is_over = False
    while not is_over:
        for trial in chosen:
            is_over = time.monotonic() >= begun + given.hours * 3600
            if seed > given.seed and (is_over or trial.number == "T21"):
                continue
            said = run(trial, seed, given.scale, outcomes[trial.number])
            say(f"seed {seed}  {trial.number}  {outcomes[trial.number].seconds:.0f} s  {said}")
        seed += 1
    table = report(outcomes, shlex.join(arguments), (time.monotonic() - begun) / 3600, is_whole=not given.only)
    say(table)
    if given.report:
        text = given.report.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        given.report.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    again = [each for outcome in outcomes.values() for each in outcome.again]
    say(f"{len(again)} failed" if again else "all passed")
    return 1 if again else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
