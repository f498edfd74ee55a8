"""Access paths for the orders with few distinct values: job_name, job_id and status, ties by id.

The values are groups, known with their counts; a page passes over whole groups by their counts and reads
the ids of one group from the index that has them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from jobstore.engine.orders import GATHERED, KEYS, Request, condition_of, gathered, zone_bound
from jobstore.models import STATUSES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from jobstore.engine.memory import NameBook

ARMS_MERGED = 24
_WORDS = [status.value for status in STATUSES]
GROUPED = frozenset({"job_name", "job_id", "status"})

type_arm = "tuple[int | None, int]"


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
    value_of = {
        "status": lambda status: _WORDS[status],
        "job_name": lambda name_id: book.names[name_id][1],
        "job_id": lambda name_id: book.names[name_id][0],
    }[order]
    rows = sorted(
        [(value_of(value), row_id) for value, row_id in gathered(connection, column, request)],
        reverse=request.descending,
    )
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
    direction = "DESC" if request.descending else "ASC"
    if len(group.arms) > ARMS_MERGED:
        return _scanned_ids(connection, group, request, skip, take)
    window, values = _window(request)
    arms, bound = [], []
    for name_id, status in group.arms:
        if name_id is None:
            arms.append(f"SELECT id FROM execution INDEXED BY execution_status WHERE status = {status}{window}")
            bound += values
        else:
            arms.append(
                f"SELECT id FROM execution INDEXED BY execution_name WHERE name_id = ? AND status = {status}{window}"
            )
            bound += [name_id, *values]
    sql = f"{' UNION ALL '.join(arms)} ORDER BY id {direction} LIMIT ? OFFSET ?"
    return [row_id for (row_id,) in connection.execute(sql, (*bound, take, skip))]


def _scanned_ids(connection: sqlite3.Connection, group: Group, request: Request, skip: int, take: int) -> list[int]:
    """One status of many names: the ids with the status, filtered, from where the selection can begin."""
    statuses = ",".join(sorted({str(status) for _, status in group.arms}))
    condition, values = condition_of(request)
    bound, zone = zone_bound(connection, KEYS["id"], request)
    sql = f"""
    SELECT id FROM execution INDEXED BY execution_status
    WHERE status IN ({statuses}) AND {condition} {f"AND {bound}" if bound else ""}
    ORDER BY id {"DESC" if request.descending else "ASC"} LIMIT ? OFFSET ?
    """
    return [row_id for (row_id,) in connection.execute(sql, (*values, *zone, take, skip))]


def _window(request: Request) -> tuple[str, list[int]]:
    sql, values = "", []
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
    position = 1 if order == "job_name" else 0
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


def _counted_in_window(
    connection: sqlite3.Connection, groups: Iterable[Group], request: Request
) -> Iterator[Group]:
    """The groups with their counts inside the window: a walk over an index range for each."""
    window, values = _window(request)
    by_name = f"SELECT count(*) FROM execution INDEXED BY execution_name_started WHERE name_id = ? AND status = ?{window}"
    by_status = f"SELECT count(*) FROM execution INDEXED BY execution_status_started WHERE status = ?{window}"
    for group in groups:
        count = 0
        for name_id, status in group.arms:
            sql, key = (by_status, (status,)) if name_id is None else (by_name, (name_id, status))
            count += connection.execute(sql, (*key, *values)).fetchone()[0]
        if count:
            yield Group(count, group.arms)
