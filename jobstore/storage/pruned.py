"""How many runs each job has ever had: the rows that exist, plus a note of those that were pruned.

If a counter fell when history is pruned, Prometheus would take it for a restart, and its alerts for a burst of
failures.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from jobstore.language.models import STATUS_CODES, Status
from jobstore.storage.rows import in_chunks, marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

# Followed by the job's number, as a key in the table of settings; the value is runs and failures, separated by a blank.
# No table of its own: most stores never prune, and format 2 stays as it is.
_KEY: Final = "pruned:"
_WAITING: Final = STATUS_CODES[Status.PENDING]
_BAD: Final = f"{STATUS_CODES[Status.FAILURE]}, {STATUS_CODES[Status.TIMEOUT]}"


def note_pruned(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Add executions that are about to be deleted to the notes of their jobs; jobs that no longer exist need none."""
    runs: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for some in in_chunks(ids):
        sql = f"""
        SELECT j.number, count(*), count(CASE WHEN e.status IN ({_BAD}) THEN 1 END) FROM execution AS e
        JOIN job_name AS n ON n.name_id = e.name_id JOIN job AS j ON j.number = n.job_number
        WHERE e.id IN ({marks(some)}) GROUP BY j.number
        """
        for number, all_, bad in connection.execute(sql, some):
            runs[number][0] += all_
            runs[number][1] += bad
    # In the deleting transaction: a note without the deletion would count runs twice, the reverse would lose them.
    before = _pruned(connection) if runs else {}
    connection.executemany(
        "INSERT INTO setting VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [
            (f"{_KEY}{number}", f"{before.get(number, (0, 0))[0] + all_} {before.get(number, (0, 0))[1] + bad}")
            for number, (all_, bad) in runs.items()
        ],
    )


def forget_pruned(connection: sqlite3.Connection, number: int) -> None:
    """Delete the note of a removed job."""
    connection.execute("DELETE FROM setting WHERE key = ?", (f"{_KEY}{number}",))


def run_totals(connection: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """Runs and failures by job number, pruned ones included; PENDING executions are not runs yet."""
    pruned = _pruned(connection)
    sql = f"""
    SELECT n.job_number, sum(t.runs), sum(CASE WHEN t.status IN ({_BAD}) THEN t.runs ELSE 0 END) FROM name_tally AS t
    JOIN job_name AS n ON n.name_id = t.name_id WHERE t.status <> {_WAITING} GROUP BY 1
    """
    kept = {number: (runs, bad) for number, runs, bad in connection.execute(sql)}
    numbers = kept.keys() | pruned.keys()
    totals = ((number, kept.get(number, (0, 0)), pruned.get(number, (0, 0))) for number in numbers)
    return {number: (ours[0] + gone[0], ours[1] + gone[1]) for number, ours, gone in totals}


def _pruned(connection: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    rows = settings_under(connection, _KEY)
    notes = ((int(key.removeprefix(_KEY)), *map(int, value.split())) for key, value in rows)
    return {number: (runs, bad) for number, runs, bad in notes}


def settings_under(connection: sqlite3.Connection, prefix: str) -> list[tuple[str, str]]:
    """The settings whose key begins with `prefix` and continues after it; the prefix ends with a colon."""
    sql = "SELECT key, value FROM setting WHERE key > ? AND key < ?"
    # ";" follows ":" in ASCII, so this is a range of the key; LIKE would interpret wildcards and case.
    return connection.execute(sql, (prefix, f"{prefix[:-1]};")).fetchall()
