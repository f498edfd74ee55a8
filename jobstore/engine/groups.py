"""Access paths for the orders in which ids decide: job_name, job_id and status with their ties, and id itself.

The values are groups, known with their counts; a page passes over whole groups by their counts and reads
the ids of one group from the index that has them in order. By id there is one group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from jobstore.engine.counters import Counters
from jobstore.engine.gathering import gathered
from jobstore.engine.orders import GATHERED, page_ids_deep
from jobstore.engine.selection import Part, Selection
from jobstore.engine.window import count_selected
from jobstore.engine.zones import key_bounds, page_ids_zoned
from jobstore.language.models import STATUS_CODES, STATUS_OF_CODE, Status
from jobstore.storage.schema import IS_NO_SUCCESS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from jobstore.engine.memory import Memory, NameBook
    from jobstore.engine.request import Request

ARMS_MERGED = 24
PATIENCE = 4
LEAST_BUDGET = 1_000
COUNTED_DIRECTLY = 2_000
"""A group of so few executions is counted in its index."""
PASSED = 5_000
"""Ids that a merge may pass over before bounds by period are quicker."""
SUCCESS = STATUS_CODES[Status.SUCCESS]
"""The status that most executions have, which no index by status alone holds."""
_JOB_NUMBER, _NAME = 0, 1
"""Where a name book's entry has them."""
_WORDS = [status.value for status in STATUS_OF_CODE]
GROUPED = frozenset({"id", "job_name", "job_id", "status"})


Arm = tuple[int | None, int]
"""An index range: a name (null: every name) and a status."""


@dataclass(frozen=True, slots=True)
class Group:
    """The selected executions that share a value of the order: how many, in which ranges, as a selection."""

    count: int
    arms: list[Arm]
    selection: Selection | None
    """Null: as the ranges say."""


def page_ids_grouped(connection: sqlite3.Connection, memory: Memory, order: str, request: Request) -> list[int]:
    """The ids at ``offset`` to ``offset + take`` of a selection in the order of a group, from the nearer end."""
    if request.offset > request.total - request.offset - request.take:
        return _ids(connection, memory, order, request.turned())[::-1]
    return _ids(connection, memory, order, request)


def _ids(connection: sqlite3.Connection, memory: Memory, order: str, request: Request) -> list[int]:
    book = memory.book(connection)
    if request.is_windowed and request.total <= GATHERED:
        return gather_groups(connection, book, order, request)
    if order == "id":
        groups: Iterable[Group] = [Group(request.total, _all_arms(request.selection), request.selection)]
    else:
        groups = _status_groups(request) if order == "status" else _name_groups(book, order, request)
        if request.is_windowed:
            groups = _counted_in_window(connection, book, groups, request)
    return walk_groups(connection, memory, groups, request)


def gather_groups(connection: sqlite3.Connection, book: NameBook, order: str, request: Request) -> list[int]:
    """Every selected id with its group, sorted: for windows that hold few."""
    column = {"id": "id", "status": "status"}.get(order, "name_id")
    if order == "id":
        value_of: Callable[[int], int | str] = int
    elif order == "status":
        value_of = _WORDS.__getitem__
    else:
        position = _NAME if order == "job_name" else _JOB_NUMBER
        value_of = lambda name_id: book.names[name_id][position]  # noqa: E731 - one of two
    keyed = [(value_of(value), row_id) for value, row_id in gathered(connection, column, request)]
    rows = sorted(keyed, reverse=request.descending)
    return [row_id for _, row_id in rows[request.offset : request.offset + request.take]]


def walk_groups(connection: sqlite3.Connection, memory: Memory, groups: Iterable[Group], request: Request) -> list[int]:
    """Whole groups passed over by their counts; then the ids of a group in order, until the page is full."""
    found: list[int] = []
    skip = request.offset
    for group in groups:
        if group.count <= skip:
            skip -= group.count
            continue
        found += _group_ids(connection, memory, group, request, skip, request.take - len(found))
        skip = 0
        if len(found) >= request.take:
            break
    return found


def _group_ids(
    connection: sqlite3.Connection, memory: Memory, group: Group, request: Request, skip: int, take: int
) -> list[int]:
    """Near an end few ranges are merged, or the table is walked; else bits or bounds by period say where to read."""
    is_few, is_walked = len(group.arms) <= ARMS_MERGED, (None, SUCCESS) in group.arms
    selection = group.selection or _selection_of(memory.book(connection), group.arms)
    within = replace(request, selection=selection, total=group.count, offset=skip, take=min(take, group.count - skip))
    found: list[int] | None = None
    if skip <= PASSED and not request.is_windowed:
        if is_few and not is_walked:
            return _merged_ids(connection, group, request, skip, take)
        found = walk_table(connection, within) if is_walked else None
    if found is None and group.count > GATHERED:
        found = (
            page_ids_zoned(connection, "id", within)
            if group.selection is None  # its names are nobody's to remember
            else page_ids_deep(connection, memory, within)
        )
    if found is None and is_walked and group.count <= GATHERED:
        ids = sorted([row_id for _, row_id in gathered(connection, "id", within)], reverse=request.descending)
        found = ids[skip : skip + within.take]
    if found is None:
        found = (_merged_ids if is_few else _many_ids)(connection, group, request, skip, take)
    return found


def walk_table(connection: sqlite3.Connection, request: Request) -> list[int] | None:
    """The table, which is in order of ids, filtered: (skipped + taken) / density rows.

    Returns:
        None where that promises to be long, or was longer than it promised.
    """
    if request.expected > PASSED:
        return None
    condition, values = request.selection.condition()
    sql = f"""
    SELECT id FROM (SELECT id, name_id, status FROM execution ORDER BY id {request.direction} LIMIT ?)
    WHERE {condition} LIMIT ? OFFSET ?
    """
    budget = PATIENCE * request.expected + LEAST_BUDGET
    rows = connection.execute(sql, (budget, *values, request.take, request.offset))
    ids = [row_id for (row_id,) in rows]
    return ids if len(ids) == request.take else None


def _merged_ids(connection: sqlite3.Connection, group: Group, request: Request, skip: int, take: int) -> list[int]:
    """Few ranges merged by SQLite: an index entry for each id skipped or taken."""
    ranges = _ranges(connection, group, request)
    sql = f"{' UNION ALL '.join(sql for sql, _ in ranges)} ORDER BY id {request.direction} LIMIT ? OFFSET ?"
    bound = [value for _, values in ranges for value in values]
    return [row_id for (row_id,) in connection.execute(sql, (*bound, take, skip))]


def _many_ids(connection: sqlite3.Connection, group: Group, request: Request, skip: int, take: int) -> list[int]:
    """Many ranges, read one by one, each at most to the end of the page."""
    end = skip + take
    found: list[int] = []
    for sql, values in _ranges(connection, group, request):
        rows = connection.execute(f"{sql} ORDER BY id {request.direction} LIMIT ?", (*values, end))
        found += [row_id for (row_id,) in rows]
    found.sort(reverse=request.descending)
    return found[skip:end]


def _arm(arm: Arm, request: Request, bounds: tuple[int, int] | None) -> tuple[str, list[int]]:
    """The ids of one range in an index that has them in order; with a window, from where it can begin, a row each."""
    name_id, status = arm
    window, values = _window(request)
    if bounds is not None:
        window, values = f"{window} AND id BETWEEN ? AND ?", [*values, *bounds]
    if name_id is None:
        source = "NOT INDEXED WHERE" if status == SUCCESS else f"INDEXED BY execution_status WHERE {IS_NO_SUCCESS} AND"
        return f"SELECT id FROM execution {source} status = {status}{window}", values
    sql = f"SELECT id FROM execution INDEXED BY execution_name WHERE name_id = ? AND status = {status}{window}"
    return sql, [name_id, *values]


def _ranges(connection: sqlite3.Connection, group: Group, request: Request) -> list[tuple[str, list[int]]]:
    bounds = key_bounds(connection, "id", request) if request.is_windowed else None
    return [_arm(arm, request, bounds) for arm in group.arms]


def _window(request: Request) -> tuple[str, list[int]]:
    sql, values = "", list[int]()
    if request.after_us is not None:
        sql, values = sql + " AND effective_us >= ?", [*values, request.after_us]
    if request.before_us is not None:
        sql, values = sql + " AND effective_us <= ?", [*values, request.before_us]
    return sql, values


def _all_arms(selection: Selection) -> list[Arm]:
    """The ranges of a selection; a range that holds nothing may be among those of several names."""
    arms: list[Arm] = []
    for part in selection.parts:
        present = [status for status in part.statuses if part.counters.total((status,))]
        names: Iterable[int | None] = [None] if part.names is None else part.names
        arms += [(name_id, status) for name_id in names for status in present]
    return arms


def _status_groups(request: Request) -> Iterator[Group]:
    """The statuses in the order of their words."""
    for status in sorted(range(len(_WORDS)), key=_WORDS.__getitem__, reverse=request.descending):
        selection = request.selection.only([status])
        if selection.parts:
            yield Group(selection.total, _all_arms(selection), selection)


def _name_groups(book: NameBook, order: str, request: Request) -> Iterator[Group]:
    """The names, or the jobs, in order."""
    chosen, of_chosen, of_all = _by_name(request.selection)
    position = _NAME if order == "job_name" else _JOB_NUMBER
    for _, members in _in_order(book, position, None if of_all else chosen, descending=request.descending):
        count, arms = 0, list[Arm]()
        for name_id in members:
            totals = book.totals[name_id]
            for status in of_chosen if name_id in chosen else of_all:
                if totals[status]:
                    count += totals[status]
                    arms.append((name_id, status))
        if count:
            yield Group(count, arms, None)


def _by_name(selection: Selection) -> tuple[set[int], set[int], set[int]]:
    """The names told apart, the statuses that count for them, and those that count for every name."""
    chosen: set[int] = set()
    of_chosen: set[int] = set()
    of_all: set[int] = set()
    for part in selection.parts:
        if part.names is None:
            of_all.update(part.statuses)
        else:
            chosen, of_chosen = part.names, set(part.statuses)
    return chosen, of_chosen | of_all, of_all


def _selection_of(book: NameBook, arms: list[Arm]) -> Selection:
    """Ranges as a selection: names that share their statuses in one part."""
    statuses: dict[int, list[int]] = {}
    for name_id, status in arms:
        if name_id is not None:
            statuses.setdefault(name_id, []).append(status)
    parts: dict[tuple[int, ...], set[int]] = {}
    for name_id, own in statuses.items():
        parts.setdefault(tuple(sorted(own)), set()).add(name_id)
    return Selection(tuple(Part(Counters(names, book.summed(names)), own) for own, names in parts.items()))


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
    connection: sqlite3.Connection, book: NameBook, groups: Iterable[Group], request: Request
) -> Iterator[Group]:
    """The groups with their counts inside the window: of small ones in an index, of large ones by counters."""
    window, values = _window(request)
    sql = f"SELECT count(*) FROM execution INDEXED BY execution_name_started WHERE name_id = ? AND status = ?{window}"
    for group in groups:
        if group.selection is not None or group.count > COUNTED_DIRECTLY:
            selection = group.selection or _selection_of(book, group.arms)
            count = count_selected(connection, selection, request.after_us, request.before_us)
        else:
            count = sum([connection.execute(sql, (*arm, *values)).fetchone()[0] for arm in group.arms])
        if count:
            yield replace(group, count=count)
