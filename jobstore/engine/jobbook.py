"""What a reader remembers of the jobs: their definitions, what a search finds, and each order it was asked for."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from heapq import nsmallest
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from jobstore.engine.fires import Board, unit_of
from jobstore.engine.jobtexts import JobTexts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from jobstore.engine.fires import Fires
    from jobstore.engine.jobtexts import Found, Group
    from jobstore.language.query import JobsQuery

REMEMBERED = 256
"""Searches kept, and so many orders of what they found."""
ORDERED_AHEAD = 2
"""So many times the jobs up to the end of a page are put in order, for the pages after it."""
MERGED = 5_000
"""Up to so many jobs are merged from the groups that come first; for more, all are sorted."""

PICKED = 20
"""The first of so many times as many are picked out one by one; of fewer, all are sorted."""
SPARSE = 4
"""Where only one number in so many is a job's, places are kept by hash, else by position."""

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
        self._texts: JobTexts | None = None
        self._found: OrderedDict[Filters, Found] = OrderedDict()
        self._ordered: OrderedDict[tuple[Filters, str, bool], list[int]] = OrderedDict()
        self._orders: dict[tuple[str, bool], JobOrder] = {}
        self.count = _count(connection)

    def reread(self, connection: sqlite3.Connection, numbers: set[int]) -> None:
        """Takes in jobs that were added, changed or removed; what searches and orders found is found anew."""
        self._found.clear()
        self._ordered.clear()
        self._orders.clear()
        self.count = _count(connection)
        for number in numbers:
            if self._texts is not None:
                self._texts.drop(number)
                for row in connection.execute(f"{_TEXTS} WHERE number = ?", (number,)):
                    self._texts.put(row)
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

    def matching(self, connection: sqlite3.Connection, query: JobsQuery) -> Found | None:
        """The jobs that pass the filters; None: all. A new term is looked for in all texts."""
        filters = _filters(query)
        if filters == ("", None, None, None):
            return None
        found = self._found.get(filters)
        if found is None:
            found = self._found[filters] = self._all_texts(connection).search(*filters)
        _touch(self._found, filters)
        return found

    def _all_texts(self, connection: sqlite3.Connection) -> JobTexts:
        if self._texts is None:
            self._texts = JobTexts(connection.execute(_TEXTS))
        return self._texts

    def page(self, connection: sqlite3.Connection, query: JobsQuery, among: Found | None) -> list[int]:
        """The numbers of a page by a field that runs do not move, of all jobs or of those found."""
        end = query.offset + query.limit
        if among is None:
            return self._order(connection, query).numbers[query.offset : end]
        key = (_filters(query), query.order_by, query.order_desc)
        known = self._ordered.get(key)
        if known is None or len(known) < min(end, among.count):
            order = self._order(connection, query)
            known = self._ordered[key] = order.first(among, ORDERED_AHEAD * end, self._all_texts(connection))
        _touch(self._ordered, key)
        return known[query.offset : end]

    def _order(self, connection: sqlite3.Connection, query: JobsQuery) -> JobOrder:
        """All jobs in order, sorted when the order is first asked for."""
        key = (query.order_by, query.order_desc)
        order = self._orders.get(key)
        if order is None:
            numbers = list(numbers_by(connection, query.order_by, descending=query.order_desc))
            order = self._orders[key] = JobOrder(numbers)
        return order


class JobOrder:
    """All jobs in an order that runs do not move; where each group of them lies in it, once a search asks."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self._runs: dict[Group, array[int]] | None = None
        self._places: array[int] | dict[int, int] | None = None

    def first(self, found: Found, most: int, texts: JobTexts) -> list[int]:
        """The numbers of the first `most` of the jobs found in order, or of all of them."""
        most = most if most <= MERGED else found.count
        runs = [self._run(group, texts) for group in found.groups]
        if found.singles:
            runs.append(array("I", self._first_places(found.singles, most)))
        places = merged(runs, most) if most <= MERGED else sorted(chain(*runs))
        return [self.numbers[place] for place in places]

    def _run(self, group: Group, texts: JobTexts) -> array[int]:
        """The places of a group's jobs in this order."""
        if self._runs is None:
            self._runs = {}
            for place, number in enumerate(self.numbers):
                self._runs.setdefault(texts.group(number), array("I")).append(place)
        return self._runs[group]

    def _first_places(self, singles: list[int], most: int) -> list[int]:
        if self._places is None:
            self._places = _places(self.numbers)
        places = map(self._places.__getitem__, singles)
        return nsmallest(most, places) if most * PICKED < len(singles) else sorted(places)


def _places(numbers: list[int]) -> array[int] | dict[int, int]:
    """Where each number stands; looked up thousands of times for a page, so close together if the numbers are."""
    if not numbers or max(numbers) > SPARSE * len(numbers):
        return {number: place for place, number in enumerate(numbers)}
    places = array("I", bytes(4 * max(numbers) + 4))
    for place, number in enumerate(numbers):
        places[number] = place
    return places


def merged(runs: Iterable[array[int]], most: int) -> list[int]:
    """The `most` smallest of ascending runs; a run that begins beyond them is not looked at.

    >>> merged([array("I", [5, 9]), array("I", [1, 7, 8])], 3)
    [1, 5, 7]
    """
    found: list[int] = []
    bound = None
    for run in sorted(runs):
        if bound is not None and run[0] > bound:
            break
        found += run[:most]
        if len(found) >= 2 * most:
            found = sorted(found)[:most]
            bound = found[-1]
    return sorted(found)[:most]


_TEXTS = "SELECT number, folded, job_type, job_category, enabled FROM job"
_TIMINGS = (
    """SELECT number, schedule, interval_seconds, enabled, anchor_us, next_run_us, last_run_us, created_us FROM job"""
)


def _count(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM job").fetchone()[0]
    return count


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
