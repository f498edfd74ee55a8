"""What a query over executions selects: disjoint parts, each a set of statuses of all names or of some.

A search is a union: the name contains the term, or the status is one that the term means. Split into two disjoint parts
(any name with a status the term means; a matching name with any other status), totals add up and pages merge, whatever
the filters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobstore.engine.counters import bounds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from jobstore.engine.counters import Counters

ALL_STATUSES = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Part:
    """Executions of some names (``counters.names``; None for every name) with one of some statuses."""

    counters: Counters
    statuses: tuple[int, ...]

    @property
    def names(self) -> set[int] | None:
        """The names; None for every name."""
        return self.counters.names

    @property
    def total(self) -> int:
        """The number of executions in the part, over all time."""
        return self.counters.total(self.statuses)

    @property
    def present(self) -> list[int]:
        """The statuses that occur in the part."""
        counts = self.counters.counts
        return [status for status in self.statuses if counts[status]]

    def condition(self) -> tuple[str, list[bytes]]:
        """The part as an SQL condition on ``name_id`` and ``status``, and the values it binds."""
        clauses = []
        if self.names is not None:
            # See `Counters.mask`: one byte is tested, however many names there are.
            clauses.append("substr(?, name_id, 1) = x'01'")
        # No condition if every status passes: it would be tested on each entry.
        if self.statuses != ALL_STATUSES:
            clauses.append(f"status IN ({','.join(map(str, self.statuses))})")
        return " AND ".join(clauses) or "TRUE", [] if self.names is None else [self.counters.mask()]


@dataclass(frozen=True, slots=True)
class Selection:
    """The union of up to two disjoint parts."""

    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """The number of selected executions, over all time."""
        return sum([part.total for part in self.parts])

    @property
    def statuses(self) -> set[int]:
        """The statuses that a selected execution can have."""
        return {status for part in self.parts for status in part.statuses}

    def only(self, statuses: Collection[int]) -> Selection:
        """The selection limited to some statuses."""
        parts = [
            Part(part.counters, tuple(status for status in part.statuses if status in statuses)) for part in self.parts
        ]
        # A part without executions would cost an index range or a statement and yield nothing.
        return Selection(tuple(part for part in parts if part.total))

    def ranges(self) -> Iterator[tuple[int | None, int]]:
        """A name (None for every name) and a status for each index range; thousands for a dense search."""
        for part in self.parts:
            present = part.present
            for name_id in (None,) if part.names is None else part.names:
                for status in present:
                    yield name_id, status

    def admits(self, name_id: int, status: int) -> bool:
        """Whether an execution of this name and status is selected."""
        return any(status in part.statuses and (part.names is None or name_id in part.names) for part in self.parts)

    def condition(self) -> tuple[str, list[bytes]]:
        """The selection as an SQL condition on ``name_id`` and ``status``, and the values it binds."""
        clauses, values = [], []
        for part in self.parts:
            clause, bound = part.condition()
            clauses.append(f"({clause})")
            values += bound
        return f"({' OR '.join(clauses)})", values


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows a page needs: filter, window, sort direction, offset and limit."""

    selection: Selection
    everything: int
    """The number of executions in the store."""
    total: int
    """The number of selected executions inside the window."""
    after_us: int | None
    before_us: int | None
    descending: bool
    offset: int
    take: int

    @property
    def is_plain(self) -> bool:
        """Whether nothing is filtered."""
        # A filter that everything passes needs no condition in SQL.
        return self.total == self.everything

    @property
    def is_windowed(self) -> bool:
        """Whether the window has a bound."""
        return self.after_us is not None or self.before_us is not None

    @property
    def window(self) -> tuple[int, int]:
        """The first and the last start, both inclusive."""
        return bounds(self.after_us, self.before_us)

    @property
    def direction(self) -> str:
        """The sort direction in SQL."""
        return "DESC" if self.descending else "ASC"

    @property
    def end(self) -> int:
        """The position after the last row of the page."""
        return self.offset + self.take

    @property
    def is_far(self) -> bool:
        """Whether the page lies nearer to the last row than to the first."""
        # Compare the rows to skip from either end.
        return self.offset > self.total - self.end

    def turned(self) -> Wanted:
        """The same rows, counted from the other end."""
        return replace(self, descending=not self.descending, offset=self.total - self.end)

    def condition(self) -> tuple[str, list[int | bytes]]:
        """The selection and the window in SQL, and the values they bind; "" if nothing is filtered."""
        if self.is_plain:
            return "", []
        sql, masks = self.selection.condition()
        values: list[int | bytes] = [*masks]
        if self.is_windowed:
            sql, values = f"{sql} AND effective_us BETWEEN ? AND ?", [*values, *self.window]
        return sql, values
