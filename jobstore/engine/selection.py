"""What a query over executions selects: disjoint parts, each all or some names with a set of statuses.

A search is a union (the name contains the term, or the status is one it means). Cut into two parts that
share no execution (any name with a status meant; a name that matches with any other status), totals add
up and pages merge, whatever the filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobstore.language.errors import NotFound
from jobstore.language.models import STATUS_CODES
from jobstore.storage.rows import fetch_job_number

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable

    from jobstore.engine.counters import Counters
    from jobstore.engine.memory import Memory
    from jobstore.language.models import Status
    from jobstore.language.query import ExecutionsQuery, HistogramQuery, JobRef

    SelectionQuery = ExecutionsQuery | HistogramQuery

ALL_STATUSES = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Part:
    """Executions of some names (``counters.names``; None: of every name) that have one of some statuses."""

    counters: Counters
    statuses: tuple[int, ...]

    @property
    def names(self) -> set[int] | None:
        """The names; None: every one."""
        return self.counters.names

    @property
    def total(self) -> int:
        """Executions in the part, over all time."""
        return self.counters.total(self.statuses)

    def condition(self) -> tuple[str, list[bytes]]:
        """The part in SQL over the columns ``name_id`` and ``status``, and the values it binds."""
        clauses = []
        if self.names is not None:
            clauses.append("substr(?, name_id, 1) = x'01'")
        if self.statuses != ALL_STATUSES:
            clauses.append(f"status IN ({','.join(map(str, self.statuses))})")
        return " AND ".join(clauses) or "TRUE", [] if self.names is None else [self.counters.mask()]


@dataclass(frozen=True, slots=True)
class Selection:
    """The union of up to two disjoint parts."""

    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """Executions selected, over all time."""
        return sum([part.total for part in self.parts])

    def only(self, statuses: Collection[int]) -> Selection:
        """What of it has one of some statuses."""
        parts = [
            Part(part.counters, tuple(status for status in part.statuses if status in statuses)) for part in self.parts
        ]
        return Selection(tuple(part for part in parts if part.total))

    def admits(self, name_id: int, status: int) -> bool:
        """Whether an execution of this name and status is selected."""
        return any(status in part.statuses and (part.names is None or name_id in part.names) for part in self.parts)

    def condition(self) -> tuple[str, list[bytes]]:
        """The selection in SQL over the columns ``name_id`` and ``status``, and the values it binds."""
        clauses, values = [], []
        for part in self.parts:
            clause, bound = part.condition()
            clauses.append(f"({clause})")
            values += bound
        return f"({' OR '.join(clauses)})", values


def find_job_number(connection: sqlite3.Connection, job_ref: JobRef) -> int:
    """The number of the job that a caller means: by exact name first, then by number; one or two index entries.

    Raises:
        NotFound: there is no such job.
    """
    number = fetch_job_number(connection, job_ref.name, job_ref.number)
    if number is None:
        raise NotFound(f"Job not found: {job_ref.name}")
    return number


def select_all(connection: sqlite3.Connection, memory: Memory, query: SelectionQuery) -> Selection:
    """What ``list_job_executions`` selects by search and status: one pass over the names for a new term."""
    wanted = _codes(query.status)
    if not query.needle:
        return _selection((memory.all(connection), wanted))
    meant = _codes(query.meant) if query.meant else ()
    at_once = tuple(code for code in wanted if code in meant)
    by_name = tuple(code for code in wanted if code not in meant)
    return _selection(
        (memory.all(connection), at_once),
        (memory.of_term(connection, query.needle), by_name),
    )


def select_of_job(connection: sqlite3.Connection, memory: Memory, query: SelectionQuery, job_number: int) -> Selection:
    """What ``get_job_executions`` selects: there a term means statuses alone."""
    wanted = _codes(query.status)
    if query.needle:
        meant = _codes(query.meant) if query.meant else ()
        wanted = tuple(code for code in wanted if code in meant)
    return _selection((memory.of_job(connection, job_number), wanted))


def _selection(*parts: tuple[Counters, tuple[int, ...]]) -> Selection:
    """The parts that can hold anything."""
    return Selection(tuple([Part(counters, statuses) for counters, statuses in parts if counters.total(statuses)]))


def _codes(statuses: Iterable[Status] | None) -> tuple[int, ...]:
    if statuses is None:
        return ALL_STATUSES
    return tuple(sorted(STATUS_CODES[status] for status in statuses))
