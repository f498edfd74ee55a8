"""A prune with an archive that is killed again and again; at the end each execution is in one place, once.

    python -m tests.reliability.archiving FOLDER --kills 60 --seed 7

Prints the figures as JSON; any exception is a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import jobstore
from jobstore.recording import prune as pruning
from jobstore.recording.recorder import Recorder
from jobstore.transfer.backup import check

EXECUTIONS = 4000
BEFORE = "2026-02-01"


def build(path: Path) -> set[str]:
    """A store of executions of which most may go; the ids of all."""
    runs = [
        {"id": number, "job_name": f"job {number % 7}", "status": ("SUCCESS", "FAILURE", "RUNNING")[number % 3 - number % 2],
         "started_at": f"2026-01-{number % 28 + 1:02d}T00:00:00Z", "result": {"n": number}}
        for number in range(1, EXECUTIONS + 1)
    ]  # fmt: skip
    jobstore.load(path, {"executions": runs})
    return {str(run["id"]) for run in runs}


def prune(path: Path, archive: Path) -> None:
    """Prunes in very small batches, so that a kill finds each moment of one; ends the process."""
    vars(pruning)["next_batch"] = lambda _batch, _seconds: 7
    try:
        with Recorder(path) as recorder:
            recorder.prune(before=BEFORE, archive=archive)
        os._exit(0)
    finally:
        os._exit(1)


def killed(path: Path, archive: Path, seconds: float) -> bool:
    """Whether a prune was killed after so long; otherwise it came to its end."""
    child = os.fork()
    if child == 0:
        prune(path, archive)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the prune failed: {status}"
    return os.WIFSIGNALED(status)


def main(arguments: list[str]) -> None:
    """Kills until the history is pruned, several times over; compares."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    choice, kills, rounds, longest = random.Random(options.seed), 0, 0, 0.12
    while kills < options.kills:
        path = options.folder / f"archiving{rounds}.db"
        archives = [options.folder / f"archive{rounds}-{number}.jsonl" for number in range(2)]
        everything = build(path)
        while killed(path, choice.choice(archives), choice.uniform(0.005, longest)):
            kills += 1
            longest *= 1.05  # on a busy machine, a prune may need longer for its first batch
        with Recorder(path) as recorder:  # ends what a kill may have left
            assert recorder.prune(before=BEFORE, archive=archives[0]) == 0
        lines = [line for archive in archives if archive.exists() for line in archive.read_text().splitlines()]
        archived = Counter(json.loads(line)["id"] for line in lines)
        left = {run["id"] for run in jobstore.dump(path)["executions"]}
        assert max(archived.values()) == 1, "archived twice"
        assert archived.keys() | left == everything, "lost"
        assert not archived.keys() & left, "archived and kept"
        problems = check(path)
        assert not problems, problems
        rounds += 1
    sys.stdout.write(f"{json.dumps({'kills': kills, 'rounds': rounds})}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
