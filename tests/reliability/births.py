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
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobstore
from jobstore.recording.recorder import Recorder
from jobstore.storage import connection as reading
from jobstore.storage import schema
from jobstore.storage import writer as writing
from jobstore.transfer.backup import check

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


def was_killed(number: int) -> bool:
    """How the process ended: killed, or by itself and well."""
    _, status = os.waitpid(number, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the child failed: {status}"
    return os.WIFSIGNALED(status)


def killed_after(call: Callable[[], Any], seconds: float) -> bool:
    """Whether the call was cut short after so long."""
    number = child(call)
    time.sleep(seconds)
    os.kill(number, signal.SIGKILL)
    return was_killed(number)


def killed_at(call: Callable[[], Any], statement: int) -> bool:
    """Whether the call was cut short at its n-th statement."""
    return was_killed(child(lambda: _dying_at(call, statement)))


def _dying_at(call: Callable[[], Any], statement: int) -> None:
    """Makes the call, and dies before its n-th statement is carried out."""
    open_as_ever, seen = vars(writing)["open_file"], [0]

    def tick(_statement: str) -> None:
        seen[0] += 1
        if seen[0] == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    def open_and_count(*arguments: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = open_as_ever(*arguments)
        connection.set_trace_callback(tick)
        return connection

    vars(writing)["open_file"] = open_and_count
    call()


def make(path: Path, statement: int) -> str | None:
    """A recorder that dies while it makes the file; afterwards any recorder can. None when it came to its end."""
    killed = killed_at(lambda: Recorder(path).close(), statement)
    outcome = "whole" if path.exists() else "none"
    Recorder(path).close()
    assert check(path) == []
    return outcome if killed else None


def load(path: Path, seconds: float) -> str:
    """A load; afterwards there is the whole store or none."""
    killed = killed_after(lambda: jobstore.load(path, {"jobs": JOBS, "executions": RUNS}), seconds)
    if not path.exists():
        assert killed
        return "none"
    assert check(path) == []
    assert len(jobstore.dump(path)["executions"]) == len(RUNS)
    return "whole"


def upgrade(path: Path, statement: int) -> str | None:
    """A process that knows a second format dies at a statement, beside one that may come to its end."""
    jobstore.load(path, {"jobs": JOBS, "executions": RUNS[:20]})
    before = jobstore.dump(path)
    killed = killed_at(lambda: _open_with_the_next_version(path), statement)
    outcome = _format_of(path)
    others = [child(lambda: _open_with_the_next_version(path)) for _ in range(2)]
    ends = [was_killed(other) for other in others]
    assert not any(ends)
    assert _format_of(path) == "new"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
    assert jobstore.dump(path) == before
    return outcome if killed else None


def _format_of(path: Path) -> str:
    """Old or new; raises for anything in between."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        columns = [column for _, column, *_ in connection.execute("PRAGMA table_info(job)")]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name GLOB 'extra_*'").fetchone()
        applied = connection.execute("SELECT count(*) FROM _sqlite_migrations").fetchone()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    is_new = version == schema.SCHEMA_VERSION + 1
    assert ("owner" in columns, tables, applied) == (is_new, (5 * is_new,), (1 + is_new,)), "half a schema"
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
            for number in range(5):
                db.conn.execute(f"CREATE TABLE extra_{number} (x)")

        steps.apply(database)
        database.conn.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")

    vars(writing)["apply_migrations"] = apply_migrations
    vars(reading)["SCHEMA_VERSION"] = schema.SCHEMA_VERSION + 1
    Recorder(path).close()


def main(arguments: list[str]) -> None:
    """Loads that are killed after any time, and the others that are killed at each statement, or at every Nth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--step", type=int, default=1, help="kill at every Nth statement")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    choice, outcomes = random.Random(options.seed), Counter[str]()
    Recorder(options.folder / "warm.db").close()  # what is imported late is imported before the forks
    for number in range(options.kills):
        outcomes[f"load: {load(options.folder / f'load{number}.db', choice.uniform(0, 0.15))}"] += 1
    for kind in (make, upgrade):
        for statement in count(choice.randint(1, options.step), options.step):
            outcome = kind(options.folder / f"{kind.__name__}{statement}.db", statement)
            if outcome is None:
                break
            outcomes[f"{kind.__name__}: {outcome}"] += 1
    sys.stdout.write(f"{json.dumps(outcomes)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
