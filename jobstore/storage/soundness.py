"""Checks that the rows, indexes and counters of a store agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobstore.language.instants import MIN_US
from jobstore.storage.schema import HOUR_US, SPAN_ALL, SPAN_DAY, SPAN_HOUR

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


class Inconsistent(ValueError):
    """Two parts of a store contradict each other; the reader turns this into `StoreCorrupt`."""


_HOUR: Final = f"(effective_us - {MIN_US}) / {HOUR_US}"
_COUNTERS: Final = (
    ("SELECT name_id, status, runs FROM name_tally", "SELECT name_id, status, count(*) FROM execution GROUP BY 1, 2"),
    (
        "SELECT name_id, day, status, sum(runs) FROM name_day_tally GROUP BY 1, 2, 3 HAVING sum(runs) <> 0",
        f"SELECT name_id, {_HOUR} / 24, status, count(*) FROM execution GROUP BY 1, 2, 3",
    ),
    (
        f"SELECT period, status, runs FROM period_tally WHERE span = {SPAN_HOUR}",
        f"SELECT {_HOUR}, status, count(*) FROM execution GROUP BY 1, 2",
    ),
    (
        f"SELECT period, status, runs FROM period_tally WHERE span = {SPAN_DAY}",
        f"SELECT {_HOUR} / 24, status, count(*) FROM execution GROUP BY 1, 2",
    ),
    (
        f"SELECT status, runs FROM period_tally WHERE span = {SPAN_ALL}",
        "SELECT status, count(*) FROM execution GROUP BY 1",
    ),
)
"""For each kind of counter: what it says, and what the rows say."""
_OF_A_FILE: Final = (
    "SELECT hour, name_id, status, runs FROM name_hour_tally",
    f"SELECT {_HOUR}, name_id, status, count(*) FROM execution GROUP BY 1, 2, 3",
)
_WRONG_ON_A_SERVER: Final = (
    "SELECT 1 FROM execution AS e WHERE NOT EXISTS (SELECT 1 FROM job_name AS n WHERE n.name_id = e.name_id)",
    "SELECT 1 WHERE (SELECT count(*) FROM folding) <> 1",
)
_WRONG: Final = (
    "PRAGMA foreign_key_check",
    # SQLite's own check covers only the structure: constraints are enforced on writing, not for damaged pages.
    "SELECT 1 FROM execution WHERE status NOT BETWEEN 0 AND 4",
    "SELECT 1 FROM change WHERE status NOT BETWEEN 0 AND 4",
    # A change without a count marks the deletion of a name: earlier changes of that name are not checked.
    """
    SELECT 1 FROM change WHERE name_id NOT IN (SELECT name_id FROM job_name) AND runs > 0
        AND seq > (SELECT coalesce(max(seq), 0) FROM change WHERE name_id IS NOT NULL AND runs IS NULL)
    """,
)


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether rows, indexes and counters of a file agree; reads all of it. `jobstore.transfer.check` checks more."""
    # One error is enough: without the limit, a badly damaged file would be listed at length.
    (structure,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    return structure == "ok" and not _contradicts(connection, _WRONG, (*_COUNTERS, _OF_A_FILE))


def is_server_sound(connection: sqlite3.Connection) -> bool:
    """Whether rows and counters of a store on a server agree; the server checks its indexes itself."""
    return not _contradicts(connection, _WRONG_ON_A_SERVER, _COUNTERS)


def _contradicts(connection: sqlite3.Connection, wrong: Sequence[str], counters: Sequence[tuple[str, str]]) -> bool:
    # In both directions: an extra counter is as wrong as a missing one.
    both = (f"{one} EXCEPT {other}" for pair in counters for one, other in (pair, pair[::-1]))
    return any(connection.execute(statement).fetchone() for statement in (*wrong, *both))
