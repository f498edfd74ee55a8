"""Reading what a selection has of a column, through the indexes that know the selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobstore.engine.counters import FARTHEST_US
from jobstore.engine.selection import ALL_STATUSES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from jobstore.engine.request import Request
    from jobstore.engine.selection import Part

NAMES_READ = 24
"""So many names are read one after the other, rather than from among all."""


def gathered(connection: sqlite3.Connection, column: str, request: Request) -> Iterator[tuple[Any, int]]:
    """A column and the id of every execution selected, in no order."""
    for part in request.selection.parts:
        yield from part_gathered(connection, column, part, request)


def is_known(part: Part) -> bool:
    """Whether an index has the executions of a part side by side, or of each of its few names."""
    return part.names is None or len(part.names) <= NAMES_READ


def part_gathered(
    connection: sqlite3.Connection, column: str, part: Part, request: Request
) -> Iterator[tuple[Any, int]]:
    """The same of one part: an index entry and a row for each, and a look-up for each name."""
    window = (
        -FARTHEST_US if request.after_us is None else request.after_us,
        FARTHEST_US if request.before_us is None else request.before_us,
    )
    statuses = ",".join(map(str, part.statuses))
    if part.names is not None:
        sql = f"""
        SELECT {column}, id FROM execution INDEXED BY execution_name_started
        WHERE name_id = ? AND status IN ({statuses}) AND effective_us BETWEEN ? AND ?
        """
        for name_id in part.names:
            yield from connection.execute(sql, (name_id, *window))
        return
    index, condition = "execution_started", "TRUE"
    if part.statuses != ALL_STATUSES:
        index, condition = "execution_status_started", f"status IN ({statuses})"
    yield from connection.execute(
        f"SELECT {column}, id FROM execution INDEXED BY {index} WHERE {condition} AND effective_us BETWEEN ? AND ?",
        window,
    )
