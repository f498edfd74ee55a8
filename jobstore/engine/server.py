"""What a reader of a PostgreSQL server remembers: the same as one of a file, kept exact by the log of that server."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from jobstore.engine.bitmaps import Bitmaps
from jobstore.engine.counters import HOURS_A_DAY, Counters, hour_begins_us
from jobstore.engine.memory import Memory
from jobstore.engine.selection import ALL_STATUSES, Part
from jobstore.language.instants import MIN_US
from jobstore.storage.rows import EXECUTION_SELECT, KeyQuery
from jobstore.storage.schema import HOUR_US

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from jobstore.engine.fires import Fires
    from jobstore.storage.rows import ExecutionRow


class ServerCounters(Counters):
    """Counters of some names; the server has them by day, and hours are counted in an index of starts."""

    __slots__ = ()

    def _hour_rows(self, connection: sqlite3.Connection, day: int) -> Iterator[tuple[int, int, int]]:
        if self.names is None:
            return super()._hour_rows(connection, day)
        condition, values = Part(self, ALL_STATUSES).condition()
        first = day * HOURS_A_DAY
        sql = f"""
        SELECT (effective_us - {MIN_US}) / {HOUR_US}, status, count(*) FROM execution
        WHERE effective_us >= ? AND effective_us < ? AND {condition} GROUP BY 1, 2
        """
        bounds = (hour_begins_us(first), hour_begins_us(first + HOURS_A_DAY))
        return iter(connection.execute(sql, (*bounds, *values)))


class _NoBitmaps(Bitmaps):
    """No page of a server comes from bitmaps: they would have to be made from all of its rows."""

    def changed(self, connection: sqlite3.Connection, execution_ids: Iterable[int]) -> None:
        """Nothing to keep."""

    def cost(self, *_: Any) -> float:
        """Never the cheapest."""
        return inf


class ServerMemory(Memory):
    """Counters, names and jobs as of the last query; one for each connection, used by one thread at a time.

    Transactions become visible in another order than that of their numbers. So a look at the log reads all from the
    oldest transaction that was open at the look before, and leaves out the rows that it has seen.
    """

    counters = ServerCounters

    def __init__(self, fires: Fires) -> None:
        super().__init__(fires)
        self._oldest: int | None = None
        self._seen: set[int] = set()
        self.version = 0
        """Grows with each look that finds a change."""

    def _forget(self) -> None:
        super()._forget()
        self.bitmaps = _NoBitmaps()

    def sync(self, connection: sqlite3.Connection) -> None:
        """Brings what is remembered up to this transaction: one look at the log."""
        looked = connection.execute(_LOG if self._oldest is None else _LOG_FROM, _maybe(self._oldest)).fetchall()
        trimmed, oldest = looked[0][:2]
        changes = [row[2:] for row in looked if row[2] is not None and row[2] not in self._seen]
        if changes and self._oldest is not None:
            self.version += 1
            self._take_in(connection, [row[1:] for row in changes], is_behind=trimmed >= self._oldest)
        elif self._oldest is not None and trimmed >= self._oldest:
            self._begin_anew(connection)
        self._seen = {row[2] for row in looked if row[2] is not None and row[3] >= oldest}
        self._oldest = oldest

    def rows(self, connection: sqlite3.Connection, ids: list[int] | KeyQuery) -> list[ExecutionRow]:
        """The executions of these ids, or those that a statement names, in order."""
        if isinstance(ids, KeyQuery):
            found = [row_id for (row_id,) in connection.execute(f"SELECT id FROM ({ids.sql}) AS page", ids.values)]
            ids = found[::-1] if ids.is_turned else found
        rows = {row[0]: row for row in connection.execute(_ROWS, (ids,))}
        return [rows[key] for key in ids]


_OLDEST = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_COLUMNS = """
SELECT f.trimmed, now.oldest, c.seq, c.xid, c.name_id, c.status, c.hour, c.runs, c.job_number, c.execution_id
"""
_LOG = f"""
{_COLUMNS} FROM folding AS f JOIN (SELECT {_OLDEST} AS oldest) AS now ON TRUE
LEFT JOIN change AS c ON c.xid >= now.oldest
"""
_LOG_FROM = f"""
{_COLUMNS} FROM folding AS f JOIN (SELECT {_OLDEST} AS oldest) AS now ON TRUE
LEFT JOIN change AS c ON c.xid >= ?
"""
_ROWS = f"{EXECUTION_SELECT}WHERE e.id = ANY(?)"


def _maybe(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value,)
