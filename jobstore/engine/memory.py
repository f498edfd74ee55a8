"""What a reader remembers between queries, and how it stays exact while others commit.

Every commit that adds, moves or removes an execution, or changes a job, leaves rows in the table ``change``. Inside its
own transaction, a query reads the rows that it has not seen and applies them. A reader that is too far behind forgets
everything and reads again what it needs. So the memory always matches the snapshot that the rest of the query sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobstore.engine.bitmaps import Bitmaps
from jobstore.engine.catalogue import Catalogue
from jobstore.engine.counters import Counters, total_of_all
from jobstore.engine.fires import Fires
from jobstore.engine.names import Names
from jobstore.engine.recent import Recent
from jobstore.engine.standings import Standings
from jobstore.language.errors import NotFound
from jobstore.storage.rows import (
    KeyQuery,
    fetch_executions,
    fetch_executions_of,
    fetch_job_number,
    fetch_timezone,
    schema_version,
)

if TYPE_CHECKING:
    import sqlite3

    from jobstore.language.query import JobRef
    from jobstore.storage.rows import ExecutionRow

# Changes applied one by one; beyond this number, reading the counters again is faster.
REPLAYED = 4_096
# Job names whose numbers are kept. Beyond this number all are forgotten: each costs one look-up to find again.
NUMBERS_REMEMBERED = 4_096
# Search terms and jobs whose counters are kept (the most recently used): each change is compared with all of them.
TERMS_REMEMBERED = 128

_Change = tuple[int, int | None, int | None, int | None, int | None, int | None, int | None]


class Memory:
    """Counters, names and jobs as of the last query; one for each connection, used by one thread at a time."""

    counters: type[Counters] = Counters
    standings_of: type[Standings] = Standings
    merges = True
    """Whether the database merges ordered index ranges lazily; a server would read each to its end."""

    def __init__(self, fires: Fires) -> None:
        self.fires = fires
        self._seq: int | None = None
        self._schema = 0
        self._forget()

    def _begin_anew(self, connection: sqlite3.Connection) -> None:
        self._forget()
        # The time zone may have changed, and every remembered time depends on it.
        self.fires = Fires(fetch_timezone(connection))

    def _forget(self) -> None:
        self._all: Counters | None = None
        self._names: Names | None = None
        self._terms: Recent[str | int, Counters] = Recent(TERMS_REMEMBERED)
        self._jobs: Catalogue | None = None
        self._standings: Standings | None = None
        self.bitmaps = Bitmaps()
        self._numbers: dict[str, int] = {}
        self._met: set[int] = set()

    def sync(self, connection: sqlite3.Connection) -> None:
        """Bring the memory up to this transaction: one look at the log, one step for each change in it."""
        schema = schema_version(connection)
        # The schema number differs after another program restored a backup into the file: its log is a different one.
        if self._seq is None or schema != self._schema:
            self._schema = schema
            # Read in the snapshot of this query: no later change is missed, none counted twice.
            (self._seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM change").fetchone()
            self._begin_anew(connection)
            return
        changes = connection.execute(
            """
            SELECT seq, name_id, status, hour, runs, job_number, execution_id FROM change
            WHERE seq > ? ORDER BY seq
            """,
            (self._seq,),
        ).fetchall()
        if changes:
            self._replay(connection, changes)

    def _replay(self, connection: sqlite3.Connection, changes: list[_Change]) -> None:
        # The log is trimmed at its old end and has no gaps: a first number that does not follow means missing changes.
        behind = changes[0][0] != (self._seq or 0) + 1
        self._seq = changes[-1][0]
        self._take_in(connection, changes, is_behind=behind)

    def _take_in(self, connection: sqlite3.Connection, changes: list[_Change], *, is_behind: bool) -> None:
        if is_behind or len(changes) > REPLAYED:
            self._begin_anew(connection)
            return
        # Sum first: many changes of one name and hour become one step for each remembered counter.
        moved: dict[tuple[int, int, int], int] = {}
        jobs: set[int] = set()
        for _, name_id, status, hour, runs, job_number, _ in changes:
            if job_number is not None:
                jobs.add(job_number)
            elif name_id is None or status is None or hour is None or runs is None:
                self._begin_anew(connection)  # names were folded again, or the time zone changed
                return
            else:
                moved[name_id, status, hour] = moved.get((name_id, status, hour), 0) + runs
        self._count(connection, moved)
        changed = {row[-1] for row in changes if row[-1] is not None}
        self.bitmaps.changed(connection, changed)
        if self._standings is not None:
            self._standings.touch(jobs, {key[0] for key in moved}, changed)
        # A job may have been renamed, or a name may now belong to another job.
        if jobs:
            self._numbers.clear()
            if self._jobs is not None:
                self._jobs.reread(connection, jobs)

    def _count(self, connection: sqlite3.Connection, moved: dict[tuple[int, int, int], int]) -> None:
        self._meet(connection, {name_id for name_id, _, _ in moved})
        for (name_id, status, hour), runs in moved.items():  # a sum of 0 may be a move inside the hour
            if self._all is not None:
                self._all.apply(hour, status, runs)
            if self._names is not None:
                self._names.apply(name_id, status, runs)
            for counters in self._terms.values():
                if counters.names is not None and name_id in counters.names:
                    counters.apply(hour, status, runs)

    def _meet(self, connection: sqlite3.Connection, name_ids: set[int]) -> None:
        """Add names that may be new to the catalogue of names and to each remembered search or job they belong to."""
        # The change log first mentions a new name with its first execution.
        for name_id in name_ids - self._met:
            self._met.add(name_id)
            for row in connection.execute(
                "SELECT name_id, job_number, name, folded FROM job_name WHERE name_id = ?", (name_id,)
            ):
                if self._names is not None and name_id not in self._names.names:
                    self._names.add([row])
                _, job_number, _, folded = row
                for key, counters in self._terms.items():
                    if counters.names is not None and (key == job_number if isinstance(key, int) else key in folded):
                        counters.names.add(name_id)

    def rows(self, connection: sqlite3.Connection, ids: list[int] | KeyQuery) -> list[ExecutionRow]:
        """The executions of these ids, or those of a statement, in order."""
        return fetch_executions_of(connection, ids) if isinstance(ids, KeyQuery) else fetch_executions(connection, ids)

    def all(self, connection: sqlite3.Connection) -> Counters:
        """The counters of all executions."""
        if self._all is None:
            self._all = self.counters(None, total_of_all(connection))
        return self._all

    def names(self, connection: sqlite3.Connection) -> Names:
        """Every name with its counts; the first call reads them all."""
        if self._names is None:
            self._names = Names(connection)
        return self._names

    def jobs(self, connection: sqlite3.Connection) -> Catalogue:
        """Every job's definition."""
        if self._jobs is None:
            self._jobs = Catalogue(connection, self.fires)
        return self._jobs

    def standings(self, connection: sqlite3.Connection, now_us: int) -> Standings:
        """The state of every job at a moment; the first call reads some index entries of each job."""
        if self._standings is None:
            self._standings = self.standings_of(connection, self.fires)
        self._standings.refresh(connection, now_us)
        return self._standings

    def job_number(self, connection: sqlite3.Connection, job_ref: JobRef) -> int:
        """The number of the job that a caller refers to, looked up once; raises `NotFound`."""
        number = self._numbers.get(job_ref.name)
        if number is None:
            number = fetch_job_number(connection, job_ref.name, job_ref.number)
            if number is None:
                raise NotFound(f"Job not found: {job_ref.name}")
            if len(self._numbers) >= NUMBERS_REMEMBERED:
                self._numbers.clear()
            # Only names that exist are kept: invented ones must not fill the memory.
            self._numbers[job_ref.name] = number
        return number

    def of_term(self, connection: sqlite3.Connection, needle: str) -> Counters:
        """The counters of the names that contain a folded term."""

        def counted() -> Counters:
            every = self.names(connection)
            names = every.containing(needle)
            # Counts come from memory: a term may match thousands of names, and each would cost a statement.
            return self.counters(names, every.summed(names))

        return self._terms.used(needle, counted)

    def of_job(self, connection: sqlite3.Connection, job_number: int) -> Counters:
        """The counters of a job's executions under all its names."""

        def counted() -> Counters:
            rows = connection.execute("SELECT name_id FROM job_name WHERE job_number = ?", (job_number,))
            names = {name_id for (name_id,) in rows}
            return self.counters(names, _summed(connection, names))

        return self._terms.used(job_number, counted)


def _summed(connection: sqlite3.Connection, names: set[int]) -> list[int]:
    """The summed counts of a job's names, which are few."""
    total = [0] * 5
    for name_id in names:
        rows = connection.execute("SELECT status, runs FROM name_tally WHERE name_id = ?", (name_id,))
        for status, runs in rows:
            total[status] += runs
    return total
