"""Files that are made, loaded and brought up to date by processes that are killed meanwhile: old or new, never half.

    python -m tests.reliability.births FOLDER --kills 40 --seed 7

Prints the figures as JSON; any exception is a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobstore
from jobstore.engine import connection as reading
from jobstore.engine import schema, writing
from jobstore.recorder import Recorder
from jobstore.upkeep import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlite_utils import Database

JOBS = [{"name": f"job {number}", "job_type": "t", "job_category": "c"} for number in range(50)]
RUNS = [
    {"job_name": f"job {n % 50}", "status": "SUCCESS", "started_at": f"2026-01-{n % 28 + 1:02d}T00:00:00Z"}
    for n in range(3000)
]


def child(call: Callable[[], Any]) -> int:
    """A process that makes the call; its number."""
    number = os.fork()
    if number == 0:
        try:
            call()
            os._exit(0)
        finally:
            os._exit(1)
    return number


def killed(call: Callable[[], Any], seconds: float) -> bool:
    """Whether the call was cut short after so long."""
    number = child(call)
    time.sleep(seconds)
    os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the child failed: {status}"
    return os.WIFSIGNALED(status)


def make(path: Path, seconds: float) -> str:
    """A recorder that makes the file; afterwards any recorder can."""
    was_killed = killed(lambda: Recorder(path).close(), seconds)
    outcome = "whole" if path.exists() else "none"
    assert was_killed or outcome == "whole"
    Recorder(path).close()
    assert check(path) == []
    return outcome


def load(path: Path, seconds: float) -> str:
    """A load; afterwards there is the whole store or none."""
    was_killed = killed(lambda: jobstore.load(path, {"jobs": JOBS, "executions": RUNS}), seconds)
    if not path.exists():
        assert was_killed
        return "none"
    assert check(path) == []
    assert len(jobstore.dump(path)["executions"]) == len(RUNS)
    return "whole"


def upgrade(path: Path, seconds: float) -> str:
    """Two processes that know a second format open a file of the first, and are killed."""
    jobstore.load(path, {"jobs": JOBS, "executions": RUNS[:100]})
    before = jobstore.dump(path)
    other = child(lambda: _open_with_the_next_version(path))
    killed(lambda: _open_with_the_next_version(path), seconds)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        columns = [column for _, column, *_ in connection.execute("PRAGMA table_info(job)")]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name GLOB 'extra_*'").fetchone()
        applied = connection.execute("SELECT count(*) FROM _sqlite_migrations").fetchone()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        is_new = version == schema.SCHEMA_VERSION + 1
        assert ("owner" in columns, tables, applied) == (is_new, (20 * is_new,), (1 + is_new,)), "half a schema"
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
    assert jobstore.dump(path) == before
    return "new" if is_new else "old"


def _open_with_the_next_version(path: Path) -> None:
    """What a later release would do."""
    current = schema.apply_migrations

    def apply_migrations(database: Database) -> None:
        from sqlite_utils import Migrations

        current(database)
        steps = Migrations("jobstore")

        @steps(name="2_more")
        def _more(db: Database) -> None:
            db.conn.execute("ALTER TABLE job ADD COLUMN owner TEXT")
            for number in range(20):
                db.conn.execute(f"CREATE TABLE extra_{number} (x)")

        steps.apply(database)
        database.conn.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")

    vars(writing)["apply_migrations"] = apply_migrations
    vars(reading)["SCHEMA_VERSION"] = schema.SCHEMA_VERSION + 1
    Recorder(path).close()


def main(arguments: list[str]) -> None:
    """Each kind of birth, so many times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    choice, outcomes = random.Random(options.seed), Counter[str]()
    Recorder(options.folder / "warm.db").close()  # what is imported late is imported before the forks
    for kind, longest in ((make, 0.03), (load, 0.15), (upgrade, 0.015)):
        for number in range(options.kills):
            outcome = kind(options.folder / f"{kind.__name__}{number}.db", choice.uniform(0, longest))
            outcomes[f"{kind.__name__}: {outcome}"] += 1
    sys.stdout.write(f"{json.dumps(outcomes)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
