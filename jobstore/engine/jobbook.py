"""What a reader remembers of the jobs: their definitions, what a search finds, and each order it was asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

from jobstore.engine.fires import Board, unit_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from jobstore.engine.fires import Fires
    from jobstore.params import JobsQuery

REMEMBERED = 256
"""Results kept, each a list of job numbers."""

FEW = 20
"""A selection of less than one job in so many is sorted by rank; a larger one is filtered from the whole order."""
HITS_FOUND = 500
"""A term found in more jobs than this in one text is looked for in each job's own."""

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
MOVING = frozenset({"last_run_at", "updated_at"})
"""Orders that every run moves, so that they are read from their index each time."""

_K = TypeVar("_K")
_V = TypeVar("_V")
Filters = tuple[str, str | None, str | None, bool | None]


class JobBook:
    """The definitions of all jobs, as far as queries have asked; reread one by one as they change."""

    def __init__(self, connection: sqlite3.Connection, fires: Fires) -> None:
        self._fires = fires
        self._board: Board | None = None
        self._texts: SearchTexts | None = None
        self._found: OrderedDict[Filters, set[int]] = OrderedDict()
        self._ordered: OrderedDict[tuple[Filters, str, bool], list[int]] = OrderedDict()
        self._whole: dict[tuple[str, bool], list[int]] = {}
        self._ranks: dict[tuple[str, bool], dict[int, int]] = {}
        self.count = _count(connection)

    def reread(self, connection: sqlite3.Connection, numbers: set[int]) -> None:
        """Takes in jobs that were added, changed or removed; what searches and orders found is found anew."""
        self._found.clear()
        self._ordered.clear()
        self._whole.clear()
        self._ranks.clear()
        self.count = _count(connection)
        for number in numbers:
            if self._texts is not None:
                self._texts.drop(number)
                self._texts.add(connection.execute(f"{_TEXTS} WHERE number = ?", (number,)))
            if self._board is not None:
                self._board.drop(number)
                self._put(self._board, connection.execute(f"{_TIMINGS} WHERE number = ?", (number,)))

    def board(self, connection: sqlite3.Connection) -> Board:
        """All jobs by next fire time; the first call reads every job."""
        if self._board is None:
            board = Board(self._fires)
            self._put(board, connection.execute(_TIMINGS))
            self._board = board
        return self._board

    @staticmethod
    def _put(board: Board, rows: Iterable[tuple[Any, ...]]) -> None:
        for number, *timing in rows:
            board.put(number, unit_of(*timing))

    def matching(self, connection: sqlite3.Connection, query: JobsQuery) -> set[int] | None:
        """The numbers of the jobs that pass the filters; None: all. One look through all texts, for a new term."""
        filters = _filters(query)
        if filters == ("", None, None, None):
            return None
        found = self._found.get(filters)
        if found is None:
            if self._texts is None:
                self._texts = SearchTexts()
                self._texts.add(connection.execute(_TEXTS))
            found = self._found[filters] = self._texts.search(*filters)
        _touch(self._found, filters)
        return found

    def ordered(self, connection: sqlite3.Connection, query: JobsQuery, among: set[int] | None) -> list[int]:
        """All numbers that match, in the order of a field that runs do not move; sorted once for all jobs."""
        key = (_filters(query), query.order_by, query.order_desc)
        numbers = self._ordered.get(key)
        if numbers is None:
            whole = self._all_ordered(connection, query.order_by, descending=query.order_desc)
            numbers = self._ordered[key] = self._in_order(whole, key[1:], among)
        _touch(self._ordered, key)
        return numbers

    def _in_order(self, whole: list[int], order: tuple[str, bool], among: set[int] | None) -> list[int]:
        if among is None:
            return whole
        if len(among) * FEW > len(whole):
            return [number for number in whole if number in among]
        if order not in self._ranks:
            self._ranks[order] = {number: rank for rank, number in enumerate(whole)}
        return sorted(among, key=self._ranks[order].__getitem__)

    def _all_ordered(self, connection: sqlite3.Connection, order_by: str, *, descending: bool) -> list[int]:
        numbers = self._whole.get((order_by, descending))
        if numbers is None:
            numbers = self._whole[order_by, descending] = list(numbers_by(connection, order_by, descending=descending))
        return numbers


_TEXTS = "SELECT number, folded, job_type, job_category, enabled FROM job"
_TIMINGS = (
    """SELECT number, schedule, interval_seconds, enabled, anchor_us, next_run_us, last_run_us, created_us FROM job"""
)


def _count(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM job").fetchone()[0]
    return count


class SearchTexts:
    """What searches and exact filters look at."""

    def __init__(self) -> None:
        self._folded: dict[int, str] = {}
        self._exact: dict[int, tuple[str, str, int]] = {}
        self._joined: tuple[str, list[int], list[int]] | None = None

    def add(self, rows: Iterable[tuple[int, str, str, str, int]]) -> None:
        """Takes in jobs."""
        self._joined = None
        for number, folded, job_type, job_category, enabled in rows:
            self._folded[number] = folded
            self._exact[number] = (job_type, job_category, enabled)

    def drop(self, number: int) -> None:
        """Forgets a job."""
        self._joined = None
        self._folded.pop(number, None)
        self._exact.pop(number, None)

    def search(self, needle: str, job_type: str | None, job_category: str | None, enabled: bool | None) -> set[int]:
        """The jobs with the needle in a text of theirs that have exactly the rest."""
        if "\n" in needle:
            return set()  # it parts the texts, and no name holds one
        found = set(self._folded) if not needle else self._containing(needle)
        for position, wanted in enumerate((job_type, job_category, enabled)):
            if wanted is not None:
                found = {number for number in found if self._exact[number][position] == wanted}
        return found

    def _containing(self, needle: str) -> set[int]:
        """One search through all texts at once, hopping from hit to hit; where there are many, text by text."""
        if self._joined is None:
            starts = list(accumulate((len(text) + 1 for text in self._folded.values()), initial=0))
            self._joined = "\n".join(self._folded.values()), starts, list(self._folded)
        text, starts, numbers = self._joined
        found: set[int] = set()
        at = text.find(needle)
        while at >= 0:
            if len(found) >= HITS_FOUND:
                return {number for number, folded in self._folded.items() if needle in folded}
            place = bisect_right(starts, at) - 1
            found.add(numbers[place])
            at = text.find(needle, starts[place + 1])
        return found


def numbers_by(connection: sqlite3.Connection, order_by: str, *, descending: bool) -> Iterator[int]:
    """All job numbers by a field, nulls last, ties by number; as far as they are asked for."""
    column, direction = ORDER_COLUMNS[order_by], "DESC" if descending else "ASC"
    present = f"SELECT number FROM job WHERE {column} IS NOT NULL ORDER BY {column} {direction}, number {direction}"
    absent = f"SELECT number FROM job WHERE {column} IS NULL ORDER BY number {direction}"
    for sql in (present, absent):
        for (number,) in connection.execute(sql):
            yield number


def _filters(query: JobsQuery) -> Filters:
    return (query.needle, query.job_type, query.job_category, query.enabled)


def _touch(remembered: OrderedDict[_K, _V], key: _K) -> None:
    remembered.move_to_end(key)
    if len(remembered) > REMEMBERED:
        remembered.popitem(last=False)
