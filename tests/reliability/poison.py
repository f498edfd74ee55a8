"""Rows that no recorder writes: each kind is what somebody with a SQLite shell could do to a store."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

BASE_US = 1_768_464_000_000_000
"""2026-01-15T08:00:00Z"""
DEEP = "[" * 2_000 + "]" * 2_000
DEEPER_THAN_WRITTEN = "[" * 100 + "1" + "]" * 100
BAD_UTF8 = "CAST(x'6b6cff6e65' AS TEXT)"
END_US = 253_402_300_800_000_000
"""The first instant of the year 10000."""
FAR_US = 2**61
"""Seventy thousand years from now."""


class Poison(NamedTuple):
    """A kind: what writes it (``{row}`` is the id of an execution or the number of a job), and what is shown for it.

    `shown` says of the field: "marked" as unreadable, "null", "replaced" where a character could not be read,
    or "as it is"; of a row that stays away, "absent".
    """

    name: str
    statement: str
    field: str
    shown: str


def _execution(name: str, assignment: str, shown: str = "as it is", field: str | None = None) -> Poison:
    """One column of a good execution is spoiled."""
    column = field or assignment.partition(" = ")[0]
    return Poison(name, f"UPDATE execution SET {assignment} WHERE id = {{row}}", column, shown)


def _job(name: str, assignment: str, shown: str = "as it is", field: str = "next_run_at") -> Poison:
    """One column of a good job is spoiled."""
    return Poison(name, f"UPDATE job SET {assignment} WHERE number = {{row}}", field, shown)


def _inserted(name: str, **columns: str) -> Poison:
    """An execution of its own, which the counters count in."""
    row = {
        "id": "{row}", "name_id": "1", "status": "1", "effective_us": str(BASE_US), "started_by": "1",
        "created_us": str(BASE_US), **columns,
    }  # fmt: skip
    statement = f"INSERT INTO execution ({', '.join(row)}) VALUES ({', '.join(row.values())})"
    return Poison(name, statement, "id", "as it is")


JSON_KINDS = {
    "cut off": '{{"n": 5',
    "NaN": "NaN",
    "NaN and Infinity inside": "[NaN, Infinity]",
    "empty": "",
    "nested 2,000 deep": DEEP,
    "nested 100 deep": DEEPER_THAN_WRITTEN,
    "an integer of 4,400 digits": "9" * 4_400,
    "half a surrogate pair": '"\\ud800"',
    "two values": "1 2",
    "in single quotes": "{{'a': 1}}",
    "behind a comment": "/* */ 1",
}

ANY_JSON = ("half a surrogate pair", "an integer of 4,400 digits")
"""What one reader of JSON takes and another does not."""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


EXECUTIONS = (
    *(
        _execution(
            f"a result that is {name}", f"result = {_quoted(text)}", "as it is" if name in ANY_JSON else "marked"
        )
        for name, text in JSON_KINDS.items()
    ),
    _execution("a result that is not UTF-8", f"result = {BAD_UTF8}", "marked"),
    _execution(
        "parameters that are no JSON", "parameters = 'x', parameter_set_id = NULL", "marked", "parameters_snapshot"
    ),
    _execution("parameters twice", "parameters = '{{}}'", field="parameters_snapshot"),
    _execution("parameters that are not there", "parameter_set_id = 9999", "null", "parameters_snapshot"),
    _execution("an error that is not UTF-8", f"error = {BAD_UTF8}", "replaced"),
    _execution("an error of 5 MB", "error = replace(hex(zeroblob(2500000)), '0', 'é')"),
    _execution("an error with NUL", "error = 'a' || char(0) || 'b'"),
    _execution("a trace that is not UTF-8", f"trace_id = {BAD_UTF8}", "replaced"),
    _execution("an empty trace", "trace_id = ''"),
    _execution("a start far in the future", f"effective_us = {FAR_US}, started_by = 1", "null", "started_at"),
    _execution("a start just past the last year", f"effective_us = {END_US}, started_by = 1", "null", "started_at"),
    _execution("a creation far in the future", f"created_us = {FAR_US}", "null", "created_at"),
    _execution("a creation before the first year", "created_us = -62135596800000001", "null", "created_at"),
    _execution("an end far in the future", f"completed_us = {FAR_US}", "null", "completed_at"),
    _execution("a duration of ages", f"duration_ms = {FAR_US}"),
    _execution("a duration below nothing", "duration_ms = -5"),
    _execution("run by a process that is not there", "started_by = 7", field="started_at"),
    _execution("waiting since another time than its creation", "started_by = 0, created_us = 5", field="started_at"),
    _inserted("a row far in the future", effective_us=str(FAR_US)),
    _inserted("id 0", id="0"),
    _inserted("an id below 0", id="-7"),
    _inserted("the largest id", id=str(2**63 - 1)),
)
JOBS = (
    _job("a schedule in words", "schedule = 'every day', interval_seconds = NULL", "null"),
    _job("a schedule that never comes", "schedule = '0 0 30 2 *', interval_seconds = NULL", "null"),
    _job("an empty schedule", "schedule = '', interval_seconds = NULL", "null"),
    _job("a schedule of 5,000 characters", "schedule = replace(hex(zeroblob(2500)), '0', '*')", "null"),
    _job("a schedule with seconds", "schedule = '0 0 0 * * *', interval_seconds = NULL", "null"),
    _job("a schedule at random", "schedule = 'R R * * *', interval_seconds = NULL", "null"),
    _job("a schedule that is not UTF-8", f"schedule = {BAD_UTF8}, interval_seconds = NULL", "null"),
    _job("a schedule with NUL", "schedule = '0 * * * *' || char(0), interval_seconds = NULL", "null"),
    _job("a schedule and an interval", "schedule = '0 * * * *', interval_seconds = 60"),
    _job("an interval of nothing", "schedule = NULL, interval_seconds = 0", "null"),
    _job("an interval below nothing", "schedule = NULL, interval_seconds = -60", "null"),
    _job("an interval of ages", f"schedule = NULL, interval_seconds = {FAR_US}", "null"),
    _job("an anchor out of time", f"schedule = NULL, interval_seconds = 60, anchor_us = {FAR_US}", "null"),
    _job("an anchor before time", f"schedule = NULL, interval_seconds = 60, anchor_us = -{FAR_US}"),
    _job("an announcement out of time", f"schedule = NULL, interval_seconds = NULL, next_run_us = {FAR_US}", "null"),
    _job("a last run out of time", f"last_run_us = {FAR_US}", "null", "last_run_at"),
    _job("a creation out of time", f"created_us = -{FAR_US}", "null", "created_at"),
    _job("an update out of time", f"updated_us = {FAR_US}", "null", "updated_at"),
    _job("a name with a slash", "name = 'a/b'", field="name"),
    _job("an empty name", "name = ''", field="name"),
    _job("a name of digits", "name = '7000'", field="name"),
    _job("a name that is not UTF-8", f"name = {BAD_UTF8}", "replaced", "name"),
    _job("a folded text that is not UTF-8", f"folded = {BAD_UTF8}", field="name"),
    _job("an empty folded text", "folded = ''", field="name"),
    _job("a type that is not UTF-8", f"job_type = {BAD_UTF8}", "replaced", "job_type"),
    _job("a description that is not UTF-8", f"description = {BAD_UTF8}", "replaced", "description"),
    _job("parameters that are cut off", "parameters = '{{'", "marked", "parameters"),
    _job("switched on five times", "enabled = 5", field="enabled"),
    _job("fewer instances than none", "max_instances = -1", field="max_instances"),
    _job("a timeout of ages", f"timeout_seconds = {FAR_US}", field="timeout_seconds"),
)


def _of_the_file(name: str, statement: str) -> Poison:
    return Poison(name, statement, "", "")


SETTINGS = (
    _of_the_file("a time zone that is unknown", "UPDATE setting SET value = 'Mars/Olympus' WHERE key = 'timezone'"),
    _of_the_file("a time zone that is a path", "UPDATE setting SET value = '../etc/passwd' WHERE key = 'timezone'"),
    _of_the_file("no time zone", "DELETE FROM setting WHERE key = 'timezone'"),
    _of_the_file("another version of Unicode", "UPDATE setting SET value = '1.1' WHERE key = 'unicode_version'"),
    _of_the_file("a setting that is unknown", "INSERT INTO setting VALUES ('colour', 'blue')"),
    _of_the_file("a former name folded otherwise", "UPDATE job_name SET folded = 'zzz' WHERE name_id = 1"),
    _of_the_file("a change of a job that is not there", "INSERT INTO change (job_number) VALUES (9999)"),
)
"""The file's own knowledge of itself: every row stays right, but for when jobs run next and what searches find."""
CONTRADICTIONS = (
    _of_the_file("a time zone that is not UTF-8", f"UPDATE setting SET value = {BAD_UTF8} WHERE key = 'timezone'"),
    _of_the_file("a status beyond the five", "UPDATE execution SET status = 9 WHERE id = {row}"),
    _of_the_file("a status below the five", "UPDATE execution SET status = -1 WHERE id = {row}"),
    _of_the_file("a start before the first year", f"UPDATE execution SET effective_us = -{FAR_US} WHERE id = {{row}}"),
    _of_the_file("a start beyond all bounds", f"UPDATE execution SET effective_us = {2**62} WHERE id = {{row}}"),
    _of_the_file("a worker that is not there", "UPDATE execution SET worker_id = 9999 WHERE id = {row}"),
    _of_the_file("a name that is not there", "UPDATE execution SET name_id = 9999 WHERE id = {row}"),
    _of_the_file("a job with a number below 0", "UPDATE job SET number = -5 WHERE number = {row}"),
    _of_the_file(
        "a change of a name that is not there",
        "INSERT INTO change (name_id, status, hour, runs) VALUES (9999, 1, 17754000, 1)",
    ),
    _of_the_file(
        "a change of a status beyond the five",
        "INSERT INTO change (name_id, status, hour, runs) VALUES (1, 9, 17754000, 1)",
    ),
    _of_the_file("a change of no hour", "INSERT INTO change (name_id, status, runs) VALUES (1, 1, 1)"),
    _of_the_file("an empty change", "INSERT INTO change (name_id) VALUES (NULL)"),
    _of_the_file("a counter of a name that is not there", "INSERT INTO name_tally VALUES (9999, 1, 5, 5, 5)"),
    _of_the_file("a counter of a status beyond the five", "INSERT INTO name_tally VALUES (1, 9, 5, 0, 0)"),
    _of_the_file("counters that count too many", "UPDATE period_tally SET runs = runs + 7 WHERE span = 1"),
    _of_the_file("days that count too many", "UPDATE period_tally SET runs = runs + 7 WHERE span = 0"),
    _of_the_file("hours that count too few", "UPDATE period_tally SET runs = 0 WHERE span = 2"),
    _of_the_file("names that count too many", "UPDATE name_tally SET runs = runs + 7"),
    _of_the_file("days of names that count too many", "UPDATE name_day_tally SET runs = runs + 7"),
    _of_the_file("no counters by day", "DELETE FROM name_day_tally"),
    _of_the_file("no counters at all", "DELETE FROM period_tally"),
    _of_the_file("no names", "DELETE FROM job_name"),
    _of_the_file(
        "bitmaps that are none", "INSERT OR REPLACE INTO segment VALUES (0, x'00'), (1, x'01'), (4, x'74657874')"
    ),
    _of_the_file("no log of changes", "DELETE FROM change WHERE seq < (SELECT max(seq) FROM change)"),
)
"""What says that the file lies about its rows: answers may be wrong or refused, and never a traceback."""


def spoil(path: Path, *poisons: tuple[Poison, int]) -> None:
    """Writes kinds of poison, each into a row, past every constraint."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA foreign_keys = OFF")
        for poison, row in poisons:
            connection.execute(poison.statement.format(row=row))
    finally:
        connection.close()
