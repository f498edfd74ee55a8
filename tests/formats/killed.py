"""Upgrades of a file of format 1 that are killed at any moment; a process of its own, which forks.

``python -m tests.formats.killed OLD FOLDER MOMENTS`` upgrades copies of OLD and kills each upgrade at another moment:
MOMENTS of them, spread over the whole upgrade, and each of the last `LAST`. A moment is a statement, or a part of a long
one, so it is the same on any machine. Prints as JSON how many files were left in the old format and how many in the new,
and in how many something had been written that was not committed; any exception is a finding.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobstore
from jobstore.recording.recorder import Recorder
from jobstore.storage import writer as writing

if TYPE_CHECKING:
    import sqlite3

PART = 500
"""In a long statement, a moment passes after each N instructions of SQLite's virtual machine."""
LAST = 8
"""The number of moments around the commit and after it."""
NEVER = 2**62


class Moments:
    """Counts the moments of this process, and ends it at one of them."""

    def __init__(self, last: int) -> None:
        self.seen, self._last = 0, last

    def pass_one(self, *_statement: str) -> None:
        self.seen += 1
        if self.seen == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def upgrade(self, path: Path) -> int:
        """How many moments an upgrade has; the cache is so small that pages are written before the commit."""
        open_as_ever = vars(writing)["open_file"]

        def open_and_count(*arguments: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = open_as_ever(*arguments)
            connection.set_trace_callback(self.pass_one)
            connection.set_progress_handler(self.pass_one, PART)
            return connection

        vars(writing)["open_file"] = open_and_count
        vars(writing)["WRITER_CACHE_KIB"] = 32
        Recorder(path).close()
        return self.seen


def killed(path: Path, last: int) -> int:
    """An upgrade in a child that is killed at a moment; how many moments passed if it never came."""
    reading, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing_end, str(Moments(last).upgrade(path)).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing_end)
    with os.fdopen(reading) as said:
        seen = said.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the upgrade failed: {status}"
    return int(seen or 0)


def main(old: Path, folder: Path, moments: int) -> None:
    """Kills, looks, upgrades to the end, compares."""
    path = folder / "killed.db"
    Recorder(folder / "warm.db").close()  # what is imported late is imported before the forks

    def copied() -> Path:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        return Path(shutil.copy(old, path))

    number = killed(copied(), NEVER)
    expected = jobstore.dump(path)
    ends = Counter[str](moments=number)
    for last in sorted({number * turn // moments + 1 for turn in range(moments)} | {*range(number - LAST, number)}):
        assert killed(copied(), last) == 0, "it was not killed"
        log = Path(f"{path}-wal")
        is_begun = log.exists() and log.stat().st_size > 0
        try:
            end = "new" if jobstore.dump(path) == expected else "wrong"
        except jobstore.SchemaTooOld:
            end = "old"
            ends["old, with a log"] += is_begun
            Recorder(path).close()
            assert jobstore.dump(path) == expected, f"moment {last} of {number}"
        assert jobstore.check(path) == [], f"moment {last} of {number}"
        ends[end] += 1
    sys.stdout.write(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
