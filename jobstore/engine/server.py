"""What a reader of a PostgreSQL server remembers: the same as for a file, kept exact by the server's change log."""

from __future__ import annotations

from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from jobstore.engine.bitmaps import Bitmaps
from jobstore.engine.counters import HOURS_A_DAY, Counters, hour_begins_us
from jobstore.engine.histories import newest_of, newest_sql, outline
from jobstore.engine.memory import Memory
from jobstore.engine.selection import ALL_STATUSES, Part
from jobstore.engine.standings import Standings
from jobstore.language.instants import MIN_US
from jobstore.storage.rows import KeyQuery
from jobstore.storage.schema import HOUR_US

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator

    from jobstore.engine.fires import Fires
    from jobstore.engine.histories import Newest
    from jobstore.storage.rows import ExecutionRow


class ServerCounters(Counters):
    """Counters of some names; the server has them by day, and hours are counted in an index of starts."""

    __slots__ = ()

    def _day_rows(self, connection: sqlite3.Connection) -> Iterator[tuple[int, int, int]]:
        if self.names is None:
            return super()._day_rows(connection)
        # Summed by the server: a change that is not folded yet has a row of its own.
        sql = "SELECT day, status, sum(runs) FROM name_day_tally WHERE name_id = ANY(?) GROUP BY 1, 2"
        return iter(connection.execute(sql, (list(self.names),)))

    def _hour_rows(self, connection: sqlite3.Connection, day: int) -> Iterator[tuple[int, int, int]]:
        if self.names is None:
            return super()._hour_rows(connection, day)
        # The server keeps no counters by name and hour, so count the hours of the day in its index of starts.
        condition, values = Part(self, ALL_STATUSES).condition()
        first = day * HOURS_A_DAY
        sql = f"""
        SELECT (effective_us - {MIN_US}) / {HOUR_US}, status, count(*) FROM execution
        WHERE effective_us >= ? AND effective_us < ? AND {condition} GROUP BY 1, 2
        """
        bounds = (hour_begins_us(first), hour_begins_us(first + HOURS_A_DAY))
        return iter(connection.execute(sql, (*bounds, *values)))


class _NoBitmaps(Bitmaps):
    """A server answers no page from bitmaps: they would have to be built from all of its rows."""

    def changed(self, connection: sqlite3.Connection, execution_ids: Iterable[int]) -> None:
        """Do nothing: there are no bitmaps."""

    def cost(self, *_: Any) -> float:
        return inf


class ServerStandings(Standings):
    """The states of jobs; one statement reads the newest executions of many jobs."""

    @staticmethod
    def fetch_newest(connection: sqlite3.Connection, numbers: Collection[int]) -> dict[int, Newest]:
        """The newest executions of some jobs."""
        rows: dict[int, list[Any]] = {number: [] for number in numbers}
        for number, *row in connection.execute(_NEWEST, (list(numbers),)) if rows else ():
            rows[number].append(row)
        kept = {number: newest_of(found) for number, found in rows.items()}
        return {number: outline(found, {row[0] for row in found if not row[4]}) for number, found in kept.items()}


_NEWEST = f"""
SELECT n.job_number, own.* FROM job_name AS n
JOIN LATERAL ({newest_sql("n.name_id", ", started_by")}) AS own ON TRUE WHERE n.job_number = ANY(?)
"""


class ServerMemory(Memory):
    """Counters, names and jobs as of the last query; one for each connection, used by one thread at a time.

    Transactions do not become visible in the order of their numbers. So each look at the log reads every row from the
    oldest transaction that was open at the previous look, and skips the rows already seen.

    For example, transactions 7 and 8 write, and 8 commits first. A look finds 8, with 7 still open. The next look
    begins at 7, finds both, and applies only 7.
    """

    counters = ServerCounters
    standings_of = ServerStandings
    merges = False

    def __init__(self, fires: Fires) -> None:
        super().__init__(fires)
        self.snapshot = ""
        """Of the open transaction, as PostgreSQL writes it: oldest running transaction, next one, others running."""
        self.version = 0
        """Increases with each look that finds a change."""
        self._looked_at = ""
        self._oldest: int | None = None
        self._table = 0
        """The server's number of a table: another one after `pg_restore`, or if the schema was made anew."""
        self._seen: set[int] = set()
        self._words = _Words()

    def _forget(self) -> None:
        super()._forget()
        self.bitmaps = _NoBitmaps()

    def sync(self, connection: sqlite3.Connection) -> None:
        """Bring the memory up to this transaction: one look at the log, or none if nothing was committed."""
        oldest, following, _ = self.snapshot.split(":")
        # A standby does not list running transactions: two of its snapshots are equal only if none is running.
        if self.snapshot != self._looked_at or oldest != following:
            self._look(connection, int(oldest))
            self._looked_at = self.snapshot

    def _look(self, connection: sqlite3.Connection, oldest: int) -> None:
        before = self._oldest
        looked = connection.execute(_LOG, (oldest if before is None else before,)).fetchall()
        table, trimmed = looked[0][:2]
        if table != self._table:
            before, self._table, self._seen, self._words = None, table, set(), _Words()
        # A row may be read twice, since each look begins at the oldest transaction that was open at the previous one.
        changes = [row[4:] for row in looked if row[2] is not None and row[2] not in self._seen]
        # Trimmed rows may include some that this reader has not seen: then it reads everything again.
        is_behind = before is not None and trimmed >= before
        if before is None:
            self._begin_anew(connection)
        elif changes or is_behind:
            self.version += 1
            self._take_in(connection, changes, is_behind=is_behind)
        # Remember only the rows that the next look will read again.
        self._seen = {row[2] for row in looked if row[2] is not None and row[3] >= oldest}
        self._oldest = oldest

    def rows(self, connection: sqlite3.Connection, ids: list[int] | KeyQuery) -> list[ExecutionRow]:
        """The executions of these ids, or those of a statement, in order."""
        if isinstance(ids, KeyQuery):
            rows = connection.execute(_ROWS_OF.format(keys=ids.sql), ids.values).fetchall()
            # A join on a server keeps no order, so each row carries its position.
            rows.sort(key=itemgetter(-1), reverse=ids.is_turned)
        else:
            place = {key: place for place, key in enumerate(ids)}
            rows = connection.execute(_ROWS, (ids,)).fetchall()
            rows.sort(key=lambda row: place[row[0]])
        return self._words.put_into(connection, rows)


# The second seq is the first column of a change as `Memory` takes it.
_LOG = """
SELECT f.tableoid::bigint, f.trimmed, c.seq, c.xid, c.seq, c.name_id, c.status, c.hour, c.runs, c.job_number,
    c.execution_id
FROM folding AS f LEFT JOIN change AS c ON c.xid >= ?
"""
_COLUMNS = """
SELECT e.id, e.name_id, e.status, e.effective_us, e.started_by, e.created_us, e.completed_us, e.duration_ms,
    e.worker_id, e.parameters, e.trace_id, e.result, e.error, e.parameter_set_id"""
_ROWS = f"{_COLUMNS} FROM execution AS e WHERE e.id = ANY(?)"
_ROWS_OF = f"""{_COLUMNS}, page.place
FROM (SELECT id, row_number() OVER () AS place FROM ({{keys}}) AS keys) AS page JOIN execution AS e ON e.id = page.id
"""


class _Words:
    """Names, workers and parameters by number, kept for good: a number never changes its meaning; joins are slow."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[int, str]] = {}
        self._workers: dict[int, str] = {}
        self._sets: dict[int, str] = {}

    def put_into(self, connection: sqlite3.Connection, rows: list[Any]) -> list[ExecutionRow]:
        """Turn rows of `_COLUMNS` into rows of `EXECUTION_SELECT`."""
        names, workers, sets = self._names, self._workers, self._sets
        _learn(
            connection, names, {row[1] for row in rows}, "SELECT name_id, job_number, name FROM job_name WHERE name_id"
        )
        _learn(connection, workers, {row[8] for row in rows}, "SELECT worker_id, name FROM worker WHERE worker_id")
        _learn(
            connection, sets, {row[13] for row in rows},
            "SELECT parameter_set_id, parameters FROM parameter_set WHERE parameter_set_id",
        )  # fmt: skip
        return [
            (row[0], *names[row[1]], *row[2:8], workers.get(row[8]), sets.get(row[13], row[9]), *row[10:13])
            for row in rows
        ]


# Limit for each: beyond it all are forgotten and read again, one statement for a page.
REMEMBERED = 2_000


def _learn(connection: sqlite3.Connection, known: dict[int, Any], wanted: set[int | None], select: str) -> None:
    missing = [key for key in wanted if key is not None and key not in known]
    if missing:
        if len(known) > REMEMBERED:
            known.clear()
            # Everything this page needs, including what was known until now.
            missing = [key for key in wanted if key is not None]
        for key, *words in connection.execute(f"{select} = ANY(?)", (missing,)):
            known[key] = words[0] if len(words) == 1 else tuple(words)
