"""Makes a store of file format 1, as jobstore wrote it until November 2026, from one of today's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from jobstore.storage.schema import APPLICATION_ID, statements

SCRIPT = Path(__file__).with_name("format_1.sql")
COPIED = ("setting", "job", "job_name", "worker", "parameter_set", "name_tally", "name_day_tally", "name_hour_tally")
EXECUTION = (
    "id, name_id, status, effective_us, started_by, created_us, completed_us, duration_ms, worker_id,"
    " parameter_set_id, parameters, trace_id, result, error"
)
_TALLY = """
    status, sum(runs), sum(timed), sum(duration_ms), sum(completed), min(id_low), max(id_high),
    min(created_low), max(created_high), min(completed_low), max(completed_high)"""
COUNTERS = f"""
INSERT INTO period_tally
    SELECT 2, (effective_us + 62135596800000000) / 3600000000, status, count(*), count(duration_ms),
        coalesce(sum(duration_ms), 0), count(completed_us), min(id), max(id), min(created_us), max(created_us),
        min(completed_us), max(completed_us)
    FROM execution GROUP BY 2, 3;
INSERT INTO period_tally SELECT 0, period / 24, {_TALLY} FROM period_tally WHERE span = 2 GROUP BY 2, 3;
INSERT INTO period_tally SELECT 1, 0, {_TALLY} FROM period_tally WHERE span = 2 GROUP BY 3;
"""


def make_first_format(path: Path, today: Path) -> None:
    """A file of format 1 at `path` with all that the store `today` holds."""
    script = statements(SCRIPT.read_text(encoding="utf-8"))
    first_trigger = next(place for place, statement in enumerate(script) if "CREATE TRIGGER" in statement)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("ATTACH ? AS today", (str(today),))
        connection.execute("BEGIN")
        for statement in script[:first_trigger]:
            connection.execute(statement)
        for table in COPIED:
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM today.{table}")
        connection.execute(f"INSERT INTO main.execution ({EXECUTION}) SELECT {EXECUTION} FROM today.execution")
        for statement in statements(COUNTERS):
            connection.execute(statement)
        connection.execute("DELETE FROM main.sqlite_sequence")
        connection.execute("INSERT INTO main.sqlite_sequence SELECT * FROM today.sqlite_sequence")
        connection.execute("INSERT INTO digest VALUES (0, zeroblob(24)), (3, zeroblob(20000))")
        connection.execute("INSERT INTO setting VALUES ('trace_prefix', 't'), ('trace_digits', '0123456789')")
        connection.execute("INSERT INTO process VALUES (2, 'host', 'boot', 1, 1)")
        connection.execute("INSERT INTO _sqlite_migrations VALUES (1, 'jobstore', '1_first_format', '2026-11-01')")
        for statement in script[first_trigger:]:
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("DETACH today")
        connection.execute("PRAGMA journal_mode = WAL")
