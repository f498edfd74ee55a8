"""What a reader remembers of the jobs: their definitions, what a search finds, and each order it was asked for."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

from jobstore.engine.fires import Board, unit_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from jobstore.engine.fires import Fires
    from jobstore.params import JobsQuery

REMEMBERED = 256
"""Results kept, each a list of job numbers."""

_COLUMNS = """number, folded, job_type, job_category, schedule, interval_seconds, enabled, anchor_us, next_run_us,
    last_run_us, created_us"""

ORDER_COLUMNS = {
    "id": "name",
    "name": "name",
    "job_type": "job_type",
    "job_category": "job_category",
    "description": "description",
    "schedule_type": """CASE WHEN schedule IS NOT NULL THEN 'cron'
        WHEN interval_seconds IS NOT NULL THEN 'interval' ELSE 'external' END""",
    "schedule": "schedule",
    "interval_seconds": "interval_seconds",
    "timeout_seconds": "timeout_seconds",
    "max_instances": "max_instances",
    "enabled": "enabled",
    "last_run_at": "last_run_us",
    "created_at": "created_us",
    "updated_at": "updated_us",
}
"""``next_run_at`` is no column: see `fires`."""
MOVING = {"last_run_at": "job_last_run", "updated_at": "job_updated"}
"""Orders that every run moves, so that they are read from their index each time."""

_K = TypeVar("_K")
_V = TypeVar("_V")
Filters = tuple[str, str | None, str | None, bool | None]


class JobBook:
    """The definitions of all jobs; reread one by one as they change."""

    def __init__(self, connection: sqlite3.Connection, fires: Fires) -> None:
        self._jobs: dict[int, tuple[str, str, str, int]] = {}
        self.board = Board(fires)
        self._found: OrderedDict[Filters, set[int]] = OrderedDict()
        self._ordered: OrderedDict[tuple[Filters, str, bool], list[int]] = OrderedDict()
        self._add(connection.execute(f"SELECT {_COLUMNS} FROM job"))

    def _add(self, rows: Iterable[tuple[int, str, str, str, *tuple[object, ...]]]) -> None:
        for number, folded, job_type, job_category, *timing in rows:
            enabled = timing[2]
            self._jobs[number] = (folded, job_type, job_category, enabled)  # type: ignore[assignment]
            self.board.put(number, unit_of(*timing))  # type: ignore[arg-type]

    def reread(self, connection: sqlite3.Connection, numbers: set[int]) -> None:
        """Takes in jobs that were added, changed or removed; what searches and orders found is found anew."""
        self._found.clear()
        self._ordered.clear()
        for number in numbers:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM job WHERE number = ?", (number,)).fetchall()
            if rows:
                self._add(rows)
            else:
                self._jobs.pop(number, None)
                self.board.drop(number)

    def matching(self, query: JobsQuery) -> set[int] | None:
        """The numbers of the jobs that pass the filters; None: all. A comparison for each job, for a new term."""
        filters = _filters(query)
        if filters == ("", None, None, None):
            return None
        found = self._found.get(filters)
        if found is None:
            found = self._found[filters] = self._search(*filters)
        _touch(self._found, filters)
        return found

    def _search(self, needle: str, job_type: str | None, job_category: str | None, enabled: bool | None) -> set[int]:
        if "\n" in needle:
            return set()  # it parts the folded texts, and no name holds one
        if job_type is None and job_category is None and enabled is None:
            return {number for number, job in self._jobs.items() if needle in job[0]}
        return {
            number
            for number, job in self._jobs.items()
            if needle in job[0]
            and (job_type is None or job[1] == job_type)
            and (job_category is None or job[2] == job_category)
            and (enabled is None or job[3] == enabled)
        }

    def __len__(self) -> int:
        return len(self._jobs)

    def ordered(self, connection: sqlite3.Connection, query: JobsQuery, among: set[int] | None) -> list[int]:
        """All numbers that match, in the order of a field that runs do not move; sorted once."""
        key = (_filters(query), query.order_by, query.order_desc)
        numbers = self._ordered.get(key)
        if numbers is None:
            rows = connection.execute(order_sql(query.order_by, descending=query.order_desc))
            numbers = self._ordered[key] = [number for (number,) in rows if among is None or number in among]
        _touch(self._ordered, key)
        return numbers


def order_sql(order_by: str, *, descending: bool, index: str = "") -> str:
    """All job numbers by a field, nulls last, ties by number."""
    column, direction = ORDER_COLUMNS[order_by], "DESC" if descending else "ASC"
    return f"""
    SELECT number FROM job {index}
    ORDER BY {column} IS NULL, {column} {direction}, number {direction}
    """


def _filters(query: JobsQuery) -> Filters:
    return (query.needle, query.job_type, query.job_category, query.enabled)


def _touch(remembered: OrderedDict[_K, _V], key: _K) -> None:
    remembered.move_to_end(key)
    if len(remembered) > REMEMBERED:
        remembered.popitem(last=False)
