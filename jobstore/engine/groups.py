"""Access paths for the orders with few distinct values: job_name, job_id and status, ties by id.

The values are groups, known with their counts; a page passes over whole groups by their counts and reads
the ids of one group from the index that has them in order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from jobstore.engine.orders import GATHERED, KEYS, Request, gathered, zone_bound
from jobstore.models import STATUS_OF_CODE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from jobstore.engine.memory import NameBook

ARMS_MERGED = 24
_JOB_NUMBER, _NAME = 0, 1
"""Where a name book's entry has them."""
_WORDS = [status.value for status in STATUS_OF_CODE]
GROUPED = frozenset({"job_name", "job_id", "status"})


@dataclass(frozen=True, slots=True)
class Group:
    """The selected executions that share a value of the order: how many, and in which (name, status) ranges.

    A null name is every name.
    """

    count: int
    arms: list[tuple[int | None, int]]


def page_ids_grouped(connection: sqlite3.Connection, book: NameBook, order: str, request: Request) -> list[int]:
    """The ids at ``offset`` to ``offset + take`` of a selection in the order of a group, from the nearer end."""
    if request.offset > request.total - request.offset - request.take:
        return _ids(connection, book, order, request.turned())[::-1]
    return _ids(connection, book, order, request)


def _ids(connection: sqlite3.Connection, book: NameBook, order: str, request: Request) -> list[int]:
    is_windowed = request.after_us is not None or request.before_us is not None
    if is_windowed and request.total <= GATHERED:
        return gather_groups(connection, book, order, request)
    groups = _status_groups(request) if order == "status" else _name_groups(book, order, request)
    if is_windowed:
        groups = _counted_in_window(connection, groups, request)
    return walk_groups(connection, groups, request)


def gather_groups(connection: sqlite3.Connection, book: NameBook, order: str, request: Request) -> list[int]:
    """Every selected id with its group, sorted: for windows that hold few."""
    column = "status" if order == "status" else "name_id"
    if order == "status":
        value_of: Callable[[int], int | str] = _WORDS.__getitem__
    else:
        position = _NAME if order == "job_name" else _JOB_NUMBER
        value_of = lambda name_id: book.names[name_id][position]  # noqa: E731 - one of two
    keyed = [(value_of(value), row_id) for value, row_id in gathered(connection, column, request)]
    rows = sorted(keyed, reverse=request.descending)
    return [row_id for _, row_id in rows[request.offset : request.offset + request.take]]


def walk_groups(connection: sqlite3.Connection, groups: Iterable[Group], request: Request) -> list[int]:
    """Whole groups passed over by their counts; then the ids of a group in order, until the page is full."""
    found: list[int] = []
    skip = request.offset
    for group in groups:
        if group.count <= skip:
            skip -= group.count
            continue
        found += _group_ids(connection, group, request, skip, request.take - len(found))
        skip = 0
        if len(found) >= request.take:
            break
    return found


def _group_ids(connection: sqlite3.Connection, group: Group, request: Request, skip: int, take: int) -> list[int]:
    if len(group.arms) <= ARMS_MERGED:
        return _merged_ids(connection, group, request, skip, take)
    if len({status for _, status in group.arms}) == 1:
        return _scanned_ids(connection, group, request, skip, take)
    return _many_ids(connection, group, request, skip, take)


def _merged_ids(connection: sqlite3.Connection, group: Group, request: Request, skip: int, take: int) -> list[int]:
    """Few ranges merged by SQLite: an index entry for each id skipped or taken."""
    ranges = [_arm(arm, request) for arm in group.arms]
    sql = f"{' UNION ALL '.join(sql for sql, _ in ranges)} ORDER BY id {request.direction} LIMIT ? OFFSET ?"
    bound = [value for _, values in ranges for value in values]
    return [row_id for (row_id,) in connection.execute(sql, (*bound, take, skip))]


def _many_ids(connection: sqlite3.Connection, group: Group, request: Request, skip: int, take: int) -> list[int]:
    """Many ranges (a job that was renamed again and again), read one by one, each at most to the end of the page."""
    end = skip + take
    found: list[int] = []
    for arm in group.arms:
        sql, values = _arm(arm, request)
        rows = connection.execute(f"{sql} ORDER BY id {request.direction} LIMIT ?", (*values, end))
        found += [row_id for (row_id,) in rows]
    found.sort(reverse=request.descending)
    return found[skip:end]


def _arm(arm: tuple[int | None, int], request: Request) -> tuple[str, list[int]]:
    """The ids of one range in an index that has them in order; with a window, a row lookup for each."""
    name_id, status = arm
    window, values = _window(request)
    if name_id is None:
        return f"SELECT id FROM execution INDEXED BY execution_status WHERE status = {status}{window}", values
    sql = f"SELECT id FROM execution INDEXED BY execution_name WHERE name_id = ? AND status = {status}{window}"
    return sql, [name_id, *values]


def _scanned_ids(connection: sqlite3.Connection, group: Group, request: Request, skip: int, take: int) -> list[int]:
    """One status of many names: the ids with the status, filtered, from where the selection can begin."""
    names = json.dumps([name_id for name_id, _ in group.arms])
    window, values = _window(request)
    bound, zone = zone_bound(connection, KEYS["id"], request)
    sql = f"""
    SELECT id FROM execution INDEXED BY execution_status
    WHERE status = ? AND name_id IN (SELECT value FROM json_each(?)) {window} {f"AND {bound}" if bound else ""}
    ORDER BY id {request.direction} LIMIT ? OFFSET ?
    """
    rows = connection.execute(sql, (group.arms[0][1], names, *values, *zone, take, skip))
    return [row_id for (row_id,) in rows]


def _window(request: Request) -> tuple[str, list[int]]:
    sql, values = "", list[int]()
    if request.after_us is not None:
        sql, values = sql + " AND effective_us >= ?", [*values, request.after_us]
    if request.before_us is not None:
        sql, values = sql + " AND effective_us <= ?", [*values, request.before_us]
    return sql, values


def _status_groups(request: Request) -> Iterator[Group]:
    """The statuses in the order of their words, each with its ranges."""
    for status in sorted(range(len(_WORDS)), key=_WORDS.__getitem__, reverse=request.descending):
        count, arms = 0, list[tuple[int | None, int]]()
        for part in request.selection.parts:
            if status in part.statuses:
                count += part.counters.total((status,))
                arms += [(None, status)] if part.names is None else [(name_id, status) for name_id in part.names]
        if count:
            yield Group(count, arms)


def _name_groups(book: NameBook, order: str, request: Request) -> Iterator[Group]:
    """The names, or the jobs, in order, each with its ranges and their counts."""
    whole: set[int] = set()
    names: set[int] | None = set()
    by_name: set[int] = set()
    for part in request.selection.parts:
        if part.names is None:
            whole, names = set(part.statuses), None
        else:
            by_name = set(part.statuses)
            names = part.names if names is not None else None
    chosen = next((part.names for part in request.selection.parts if part.names is not None), set[int]())
    position = _NAME if order == "job_name" else _JOB_NUMBER
    for _, members in _in_order(book, position, names, descending=request.descending):
        count, arms = 0, list[tuple[int | None, int]]()
        for name_id in members:
            totals = book.totals[name_id]
            for status in whole | by_name if name_id in chosen else whole:
                if totals[status]:
                    count += totals[status]
                    arms.append((name_id, status))
        if count:
            yield Group(count, arms)


def _in_order(
    book: NameBook, position: int, names: set[int] | None, *, descending: bool
) -> Iterable[tuple[int | str, list[int]]]:
    """Names grouped by job number (position 0) or by name (1), in order."""
    if names is None:
        groups = book.grouped(position)
        return reversed(groups) if descending else groups
    keyed = sorted([(book.names[name_id][position], name_id) for name_id in names], reverse=descending)
    return ((value, [name_id for _, name_id in members]) for value, members in groupby(keyed, key=lambda row: row[0]))


def _counted_in_window(connection: sqlite3.Connection, groups: Iterable[Group], request: Request) -> Iterator[Group]:
    """The groups with their counts inside the window: a walk over an index range for each."""
    window, values = _window(request)
    by_name = (
        f"SELECT count(*) FROM execution INDEXED BY execution_name_started WHERE name_id = ? AND status = ?{window}"
    )
    by_status = f"SELECT count(*) FROM execution INDEXED BY execution_status_started WHERE status = ?{window}"
    for group in groups:
        count = 0
        for name_id, status in group.arms:
            sql, key = (by_status, (status,)) if name_id is None else (by_name, (name_id, status))
            count += connection.execute(sql, (*key, *values)).fetchone()[0]
        if count:
            yield Group(count, group.arms)
