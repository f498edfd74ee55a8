"""Whether a file says the same in its rows, its indexes and its counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3


class Inconsistent(ValueError):
    """Two things in a file that were compared say different things; the store makes a `StoreCorrupt` of it."""


_COUNTED: Final = "SELECT name_id, status, count(*) FROM execution GROUP BY name_id, status"
_SAID: Final = "SELECT name_id, status, runs FROM name_tally"
_STATUSES: Final = "SELECT 1 FROM execution WHERE status NOT BETWEEN 0 AND 4"


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether nothing contradicts anything, by what SQLite and the counters tell; reads the whole file.

    `jobstore.transfer.check` says what is wrong, and looks at more.
    """
    (structure,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    contradictions = (
        "PRAGMA foreign_key_check",
        f"{_COUNTED} EXCEPT {_SAID}",
        f"{_SAID} EXCEPT {_COUNTED}",
        _STATUSES,
    )
    return structure == "ok" and not any(connection.execute(statement).fetchone() for statement in contradictions)
