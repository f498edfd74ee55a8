"""Pages in every order but the default: an index scan for near pages, fetch and sort for few, bitmaps for the rest.

Nulls come last in both directions, ties go by id. Which path a page takes is decided by the cost model, from exact
counts; a scan that relies on an even spread of the matches has a budget, and gives up beyond it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

import orjson

from jobstore.engine import costs
from jobstore.engine.selection import ALL_STATUSES, Part, Selection, Wanted
from jobstore.engine.window import count_before, count_between, count_selected
from jobstore.language.models import STATUS_OF_CODE
from jobstore.storage.rows import SUCCESS, KeyQuery
from jobstore.storage.schema import IS_NO_SUCCESS, SPAN_ALL

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from jobstore.engine.memory import Memory
    from jobstore.language.query import ExecutionsQuery

_WORDS = [status.value for status in STATUS_OF_CODE]


@dataclass(frozen=True, slots=True)
class Key:
    """A field to order by: where it is stored, and what holds it in order."""

    column: str
    index: str | None = None
    """None: nothing does."""
    is_covering: bool = False
    """Whether the index also holds the name and the status."""
    counted: str | None = None
    """The counter in period_tally of executions that have it."""
    is_nullable: bool = True
    moves_with_time: bool = False
    """Whether a window is a stretch of its order, more or less."""
    join: str = ""
    """The table that has what is compared, where the column only names it,"""
    value: str = "key"
    """and what that is."""


# The table itself is in order of ids: NOT INDEXED keeps SQLite from taking an index that is in another order.
_ID = Key("id", "NOT INDEXED", is_nullable=False, moves_with_time=True)
_KEYS = {
    "id": _ID,
    "created_at": Key("created_us", "INDEXED BY execution_created", is_nullable=False, moves_with_time=True),
    "completed_at": Key("completed_us", "INDEXED BY execution_completed", True, "completed", moves_with_time=True),
    "duration_ms": Key("duration_ms", "INDEXED BY execution_duration", True, "timed"),
    "trace_id": Key("trace_id", "INDEXED BY execution_trace"),
    "worker_id": Key("worker_id", join="LEFT JOIN worker ON worker.worker_id = key", value="worker.name"),
    # These are only sorted by: of a trace, or of few.
    "started_at": Key("effective_us"),
    "status": Key(f"CASE status {' '.join(f'WHEN {c} THEN {w!r}' for c, w in enumerate(_WORDS))} END"),
    "job_id": Key("(SELECT job_number FROM job_name WHERE job_name.name_id = execution.name_id)"),
    "job_name": Key("(SELECT name FROM job_name WHERE job_name.name_id = execution.name_id)"),
}


def page_ids_by(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int] | KeyQuery:
    """The ids at ``offset`` to ``offset + take`` of a selection, in the order of a field."""
    if order == "status":
        return _page_of_groups(connection, memory, _status_groups(connection, wanted), wanted)
    if order in {"job_id", "job_name"}:
        return _page_by_name(connection, memory, order, wanted)
    key = _KEYS[order]
    if not key.is_nullable:
        return _nearer(connection, memory, order, wanted)
    parted = _parted(connection, key, wanted)
    if parted is None:
        return _chosen(connection, memory, order, wanted)
    return _page_of_two(connection, memory, order, wanted, *parted)


def _parted(connection: sqlite3.Connection, key: Key, wanted: Wanted) -> tuple[Selection, Selection] | None:
    """The part of a selection with a key and the part without, where the status decides; five counters tell."""
    # Of a trace or a worker no counter tells how many executions have one: then nulls are sorted with the rest.
    if key.counted is None:
        return None
    counts = connection.execute(
        f"SELECT status, runs, {key.counted} FROM period_tally WHERE span = ? AND period = 0", (SPAN_ALL,)
    ).fetchall()
    statuses = wanted.selection.statuses
    # Where every status has the key in all of its executions or in none (as recorders write them), nulls need no look.
    if any(0 < having < runs for status, runs, having in counts if status in statuses):
        return None
    absent = {status for status, _, having in counts if not having}
    return wanted.selection.only(statuses - absent), wanted.selection.only(absent)


def _page_of_two(
    connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted, present: Selection, absent: Selection
) -> list[int] | KeyQuery:
    """The page where two selections follow one another: by the key, then, for want of it, by id."""
    total = wanted.total
    if absent.parts:
        total = count_selected(connection, present, wanted.after_us, wanted.before_us)
    take = max(0, min(wanted.take, total - wanted.offset))
    first = replace(wanted, selection=present, total=total, take=take)
    ids = _nearer(connection, memory, order, first) if take else []
    if take == wanted.take:
        return ids
    offset = max(0, wanted.offset - total)
    # What lacks the key is in order of ids alone, so this is a page by id, from where the keys end.
    last = replace(wanted, selection=absent, total=wanted.total - total, offset=offset, take=wanted.take - take)
    return [*_listed(connection, ids), *_listed(connection, _nearer(connection, memory, "id", last))]


def _listed(connection: sqlite3.Connection, ids: list[int] | KeyQuery) -> list[int]:
    if isinstance(ids, KeyQuery):
        found = [row_id for (row_id,) in connection.execute(ids.sql, ids.values)]
        return found[::-1] if ids.is_turned else found
    return ids


def _nearer(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int] | KeyQuery:
    """The page of executions that all have the key, from the nearer end."""
    # For few executions the direction saves less than a second kind of statement costs to prepare.
    if not wanted.is_far or wanted.total <= _FEW:
        return _chosen(connection, memory, order, wanted)
    found = _chosen(connection, memory, order, wanted.turned())
    return found._replace(is_turned=True) if isinstance(found, KeyQuery) else found[::-1]


# --- the choice


def _chosen(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int] | KeyQuery:
    """The page by the cheapest path, and by the next one where a scan gives up."""
    key, model = _KEYS[order], costs.COSTS
    algebra = wanted.everything * model.algebra
    # Decided first, since it asks nothing of the file: no counter, no bitmap.
    if wanted.is_plain and not key.is_nullable and wanted.end * model.passed <= algebra:
        return _plain_scan(key, wanted)
    # An index that does not hold the name and the status, or a window over its start, costs a row for each entry.
    each = model.filtered if key.is_covering and not wanted.is_windowed else model.row
    # Twice what an even spread of the matches needs, for they are seldom spread evenly.
    scan = inf if key.index is None else 2 * _entries(connection, memory, key, wanted) * each
    sources = _sources(connection, memory, key, wanted)
    fetch = sum([source.cost for source in sources])
    found = _by_bitmaps(connection, memory, order, wanted, min(scan, fetch))
    if found is None and scan < fetch:
        # The budget keeps a wrong guess from costing more than the path that was not taken.
        found = _scan(connection, key, wanted, budget=round(min(fetch, max(algebra / 2, scan)) / each))
        if found is None:
            scan = wanted.everything * each  # the matches are rare just here
            found = _by_bitmaps(connection, memory, order, wanted, min(scan, fetch))
            if found is None and scan < fetch:
                found = _scan(connection, key, wanted, budget=_ALL)
    return fetch_and_sort(connection, key, sources, wanted) if found is None else found


# Where at least one execution in 100 is selected, a server may walk the ids: it soon meets a page of them.
_DENSE = 100
# Up to this number of executions a page is always counted from the first one on.
_FEW = 10_000
_ALL = 2**62


def _by_bitmaps(
    connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted, otherwise: float
) -> list[int] | None:
    """The page by bitmaps, where that is cheaper than the other paths.

    A reader that asks a second time for what they would be best at makes some of what is missing each time, for about
    as long as the other path takes. So one question costs one scan, and a reader that goes on soon has them all.
    """
    # Even complete, bitmaps cost this much: no need to look at what is missing.
    if otherwise <= wanted.everything * costs.COSTS.algebra:
        return None
    bitmaps = memory.bitmaps
    cost = bitmaps.cost(connection, order, wanted)
    # Compared by identity below: the first page that asks builds nothing in advance, since a command asks only once.
    if bitmaps.first_asked is None:
        bitmaps.first_asked = wanted
    if cost == inf or (cost >= otherwise and bitmaps.first_asked is wanted):
        return None
    # Cheaper even with all that is missing: then it is read at once. Else only for as long as the other path takes.
    if not bitmaps.build(connection, order, wanted, inf if cost < otherwise else otherwise):
        return None
    return bitmaps.page_ids(connection, order, wanted)


def _entries(connection: sqlite3.Connection, memory: Memory, key: Key, wanted: Wanted) -> float:
    """Entries of the key's index up to the end of the page, if the matches are evenly spread."""
    # Ids, creations and completions rise with the starts: what lies after or before a window is passed over first.
    if not wanted.is_windowed or not key.moves_with_time:
        return wanted.end * wanted.everything / wanted.total
    everything = Part(memory.all(connection), ALL_STATUSES)
    before = 0
    if wanted.descending and wanted.before_us is not None:
        before = wanted.everything - count_before(connection, everything, wanted.before_us + 1)
    elif not wanted.descending and wanted.after_us is not None:
        before = count_before(connection, everything, wanted.after_us)
    return before + wanted.end * _inside(connection, memory, ALL_STATUSES, wanted) / wanted.total


# --- an index scan


def _plain_scan(key: Key, wanted: Wanted) -> KeyQuery:
    """The page without a filter: an index entry for each row passed or taken."""
    return KeyQuery(f"{_scan_sql('id', key, wanted)} LIMIT ? OFFSET ?", (wanted.take, wanted.offset))


def _scan_sql(columns: str, key: Key, wanted: Wanted) -> str:
    # IS NOT NULL word for word as in the partial indexes, or SQLite could not use them.
    order = f"{key.column} {wanted.direction}" + ("" if key is _ID else f", id {wanted.direction}")
    return f"SELECT {columns} FROM execution {key.index} WHERE {key.column} IS NOT NULL ORDER BY {order}"


def _scan(connection: sqlite3.Connection, key: Key, wanted: Wanted, *, budget: int) -> list[int] | None:
    """The key's index, filtered: (offset + take) / density entries.

    Returns:
        None when the budget of entries, or the executions that have the key, are spent first.
    """
    condition, values = wanted.condition()
    # What an index covers must not be looked up in the rows: what it may lack is named only where it is compared.
    columns = "id, name_id, status" + (", effective_us" if wanted.is_windowed else "")
    sql = f"""
    SELECT id FROM ({_scan_sql(columns, key, wanted)} LIMIT ?) AS entries WHERE {condition or "TRUE"} LIMIT ? OFFSET ?
    """
    # The inner LIMIT is what stops a scan whose matches are rare: the outer one counts matches alone.
    rows = connection.execute(sql, (budget, *values, wanted.take, wanted.offset))
    ids = [row_id for (row_id,) in rows]
    return ids if len(ids) == wanted.take else None


# --- fetch and sort


@dataclass(frozen=True, slots=True)
class Source:
    """Where a part of the selection is fetched from."""

    sql: str
    values: tuple[int | str | bytes, ...]
    cost: float


def _sources(connection: sqlite3.Connection, memory: Memory, key: Key, wanted: Wanted) -> list[Source]:
    return [_source(connection, memory, key, part, wanted) for part in wanted.selection.parts]


def _source(connection: sqlite3.Connection, memory: Memory, key: Key, part: Part, wanted: Wanted) -> Source:
    """The index that knows a part best: that of all starts or of rare statuses with a filter, or that of names."""
    model = costs.COSTS
    most = min(part.total, wanted.total)
    inside, window = ("AND effective_us BETWEEN ? AND ?", wanted.window) if wanted.is_windowed else ("", ())
    looked_up = 0 if key.column in {"id", "effective_us"} else model.row
    condition, values = part.condition()
    filtered: tuple[int, ...] = ALL_STATUSES
    index = "execution_started WHERE"
    # The partial index holds all but successes: few entries, already by status.
    if SUCCESS not in part.statuses:
        index, filtered = f"execution_status_started WHERE {IS_NO_SUCCESS} AND", part.statuses
    entries = _inside(connection, memory, filtered, wanted) * model.filtered
    cost = most * (model.fetched + looked_up) + entries
    found = Source(f"{index} {condition} {inside}", (*values, *window), cost)
    if part.names is None:
        return found
    # The index of names also holds the duration, so no row has to be read for it.
    if key.column == "duration_ms":
        looked_up = 0
    # One value of JSON: as many marks as names would be another statement for each number of names.
    names = orjson.dumps(sorted(part.names)).decode()
    statuses = ",".join(map(str, part.statuses))
    cost = most * (model.fetched + looked_up) + len(part.names) * len(part.statuses) * model.opened
    by_name = Source(
        f"""execution_name_started WHERE name_id IN (SELECT value FROM json_each(?)) AND status IN ({statuses})
        {inside}""",
        (names, *window), cost,
    )  # fmt: skip
    return min(found, by_name, key=lambda source: source.cost)


def _inside(connection: sqlite3.Connection, memory: Memory, statuses: tuple[int, ...], wanted: Wanted) -> int:
    """Executions inside the window with some statuses, whatever their names."""
    return count_between(connection, Part(memory.all(connection), statuses), wanted.after_us, wanted.before_us)


def fetch_and_sort(connection: sqlite3.Connection, key: Key, sources: Iterable[Source], wanted: Wanted) -> list[int]:
    """Every selected key, through the indexes that know the selection, sorted: as many entries as match."""
    sources = list(sources)
    column = "" if key is _ID else f", {key.column} AS key"
    # Nulls last in both directions, as everywhere.
    order = "" if key is _ID else f"{key.value} IS NULL, {key.value} {wanted.direction}, "
    # The plus sign keeps a server from walking all ids in their order, unless that soon meets a selected one.
    own_id = "id" if key is _ID and wanted.total * _DENSE >= wanted.everything else "+id"
    arms = [f"SELECT id{column} FROM execution INDEXED BY {source.sql}" for source in sources]
    sql = f"""
    SELECT id FROM ({" UNION ALL ".join(arms)}) AS found {key.join}
    ORDER BY {order}{own_id} {wanted.direction} LIMIT ? OFFSET ?
    """
    values = [value for source in sources for value in source.values]
    return [row_id for (row_id,) in connection.execute(sql, (*values, wanted.take, wanted.offset))]


def page_ids_sorted(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int]:
    """The page of a selection that is known to be small."""
    key = _KEYS[order]
    return fetch_and_sort(connection, key, _sources(connection, memory, key, wanted), wanted)


def page_ids_of_trace(
    connection: sqlite3.Connection, selection: Selection, query: ExecutionsQuery, trace_id: str
) -> tuple[int, list[int]]:
    """How many selected executions a trace has, and the ids of the page: a trace is a handful, so all are read."""
    wanted = Wanted(selection, 0, 1, query.after_us, query.before_us, query.order_desc, query.offset, query.limit)
    condition, values = wanted.condition()
    source = Source(f"execution_trace WHERE trace_id = ? AND {condition}", (trace_id, *values), 0)
    # Counted in the rows of the trace: no counter knows traces, and its few rows are read for the page anyway.
    (total,) = connection.execute(f"SELECT count(*) FROM execution INDEXED BY {source.sql}", source.values).fetchone()
    return total, fetch_and_sort(connection, _KEYS[query.order_by], [source], wanted)


# --- groups: orders in which many executions share a value, and ids decide among them

Group = tuple[int, Selection]
"""How many executions share a value, and which."""


def _page_of_groups(
    connection: sqlite3.Connection, memory: Memory, groups: Iterable[Group], wanted: Wanted
) -> list[int]:
    """Whole groups are passed over by their counts; then the ids of a group in order, until the page is full."""
    found: list[int] = []
    skip = wanted.offset
    for count, selection in groups:
        if count <= skip:
            skip -= count
            continue
        take = min(wanted.take - len(found), count - skip)
        within = replace(wanted, selection=selection, total=count, offset=skip, take=take)
        found += _listed(connection, _nearer(connection, memory, "id", within))
        skip = 0
        if len(found) == wanted.take:
            break
    return found


def _status_groups(connection: sqlite3.Connection, wanted: Wanted) -> Iterator[Group]:
    """The statuses in the order of their words."""
    for status in sorted(ALL_STATUSES, key=_WORDS.__getitem__, reverse=wanted.descending):
        selection = wanted.selection.only([status])
        count = count_selected(connection, selection, wanted.after_us, wanted.before_us)
        if count:
            yield count, selection


def _page_by_name(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int]:
    """The page in the order of names or jobs, whose counts say in which group it begins."""
    if wanted.descending:
        # Groups are kept in one direction only; the other is the same page from the other end.
        return _page_by_name(connection, memory, order, wanted.turned())[::-1]
    names = memory.names(connection)
    groups = names.groups_of(connection, order, wanted)
    # A history of one job: the order of names decides nothing, so the ids alone do.
    if len(groups.ends) == 1:
        return _listed(connection, _nearer(connection, memory, "id", wanted))

    def selections() -> Iterator[Group]:
        for place in range(bisect_right(groups.ends, wanted.offset), len(groups.ends)):
            yield groups.count(place), names.selection_of(groups.members[place], wanted.selection)

    begun = groups.begin(bisect_right(groups.ends, wanted.offset))
    return _page_of_groups(connection, memory, selections(), replace(wanted, offset=wanted.offset - begun))
