"""Every name that an execution was recorded under, with its counts: for searches and for orders by name."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from jobstore.engine.counters import day_begins_us, day_of
from jobstore.engine.recent import Recent
from jobstore.engine.selection import Part, Selection

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from jobstore.engine.selection import Wanted

# Selections and windows whose grouped names are kept. Few: each holds every name, and any change invalidates all.
GROUPED_REMEMBERED = 4


@dataclass(frozen=True, slots=True)
class Groups:
    """Names grouped by a value, in order of it; `ends` has the cumulative count of executions after each group."""

    members: list[list[int]]
    ends: list[int]

    def begin(self, place: int) -> int:
        """The number of executions before a group."""
        return self.ends[place - 1] if place else 0

    def count(self, place: int) -> int:
        """The number of executions of a group."""
        return self.ends[place] - self.begin(place)


class Names:
    """All names, as recorded and folded, with their counts by status."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.names: dict[int, tuple[int, str, str]] = {}
        self.totals: dict[int, list[int]] = {}
        self._sorted: dict[str, list[int]] = {}
        self._groups: Recent[object, Groups] = Recent(GROUPED_REMEMBERED)
        self.add(connection.execute("SELECT name_id, job_number, name, folded FROM job_name"))
        for name_id, status, runs in connection.execute("SELECT name_id, status, runs FROM name_tally"):
            self.totals[name_id][status] = runs

    def add(self, rows: Iterable[tuple[int, int, str, str]]) -> None:
        """Add names with counts of zero."""
        for name_id, job_number, name, folded in rows:
            self.names[name_id] = (job_number, name, folded)
            self.totals[name_id] = [0] * 5
        # Sorted names change only with a new name; groups change with every count.
        self._sorted.clear()
        self._groups.clear()

    def apply(self, name_id: int, status: int, runs: int) -> None:
        """Apply one difference from the change log."""
        self.totals[name_id][status] += runs
        self._groups.clear()

    def containing(self, needle: str) -> set[int]:
        """The names that contain the needle; compares every name."""
        # No index finds a text inside another one; names are few compared with executions.
        return {name_id for name_id, (_, _, folded) in self.names.items() if needle in folded}

    def summed(self, names: Iterable[int]) -> list[int]:
        """The summed counts of some names, by status."""
        total = [0] * 5
        totals = self.totals
        for name_id in names:
            for status, runs in enumerate(totals[name_id]):
                total[status] += runs
        return total

    def selection_of(self, names: list[int], selection: Selection) -> Selection:
        """The part of a selection that some names have."""
        parts = []
        for part in selection.parts:
            own = {name_id for name_id in names if part.names is None or name_id in part.names}
            # The key is the set of names: the same group on the next page finds its bitmaps again.
            parts.append(Part(type(part.counters)(own, self.summed(own), frozenset(own)), part.statuses))
        return Selection(tuple([part for part in parts if part.total]))

    def groups_of(self, connection: sqlite3.Connection, order: str, wanted: Wanted) -> Groups:
        """The names of a selection, grouped by job (order ``job_id``) or by name, with counts inside the window."""
        parts = tuple([(part.counters, part.statuses) for part in wanted.selection.parts])
        asked = (order, parts, wanted.after_us, wanted.before_us)
        return self._groups.used(asked, lambda: self._grouped(connection, order, wanted))

    def _grouped(self, connection: sqlite3.Connection, order: str, wanted: Wanted) -> Groups:
        counts = self._counts(connection, wanted)
        position = 1 if order == "job_name" else 0
        value_of, members, runs = self.names, list[list[int]](), list[int]()
        for _, group in groupby(self._in_order(order), key=lambda name_id: value_of[name_id][position]):
            names = [name_id for name_id in group if counts.get(name_id)]
            if names:
                members.append(names)
                runs.append(sum([counts[name_id] for name_id in names]))
        return Groups(members, list(accumulate(runs)))

    def _in_order(self, order: str) -> list[int]:
        if order not in self._sorted:
            position = 1 if order == "job_name" else 0
            keyed = sorted([(key[position], name_id) for name_id, key in self.names.items()])
            self._sorted[order] = [name_id for _, name_id in keyed]
        return self._sorted[order]

    def _counts(self, connection: sqlite3.Connection, wanted: Wanted) -> dict[int, int]:
        """The number of selected executions of each name inside the window."""
        totals = self.totals if not wanted.is_windowed else _totals_inside(connection, *wanted.window)
        counts: dict[int, int] = {}
        for part in wanted.selection.parts:
            statuses = part.statuses
            for name_id in totals if part.names is None else part.names:
                by_status = totals.get(name_id)
                if by_status is not None:
                    runs = sum([by_status[status] for status in statuses])
                    counts[name_id] = counts.get(name_id, 0) + runs
        return counts


def _totals_inside(connection: sqlite3.Connection, first_us: int, last_us: int) -> dict[int, list[int]]:
    """Counts by name and status inside a window: whole days from the counters, the edges from an index."""
    first_day, last_day = day_of(first_us - 1) + 1, day_of(last_us + 1)
    # A window that contains no midnight has no whole day: only the index is read.
    edges = [(first_us, last_us)]
    if first_day <= last_day:
        edges = [(first_us, day_begins_us(first_day) - 1), (day_begins_us(last_day), last_us)]
    by_day = """
    SELECT name_id, status, sum(runs) FROM name_day_tally WHERE day >= ? AND day < ? GROUP BY name_id, status
    """
    by_start = """
    SELECT name_id, status, count(*) FROM execution INDEXED BY execution_started
    WHERE effective_us BETWEEN ? AND ? GROUP BY name_id, status
    """
    sums = [connection.execute(by_day, (first_day, last_day)), *(connection.execute(by_start, edge) for edge in edges)]
    totals: dict[int, list[int]] = {}
    for rows in sums:
        for name_id, status, runs in rows:
            totals.setdefault(name_id, [0] * 5)[status] += runs
    return totals
