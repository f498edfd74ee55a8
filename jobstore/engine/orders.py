"""Pages in every order but the default: an index scan for near pages, fetch and sort for few rows, else bitmaps.

Nulls come last in both directions, ties are ordered by id. The cost model chooses the path, from exact counts. A scan
that relies on evenly spread matches has a budget, and gives up beyond it.
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
    """A field to order by, the column that stores it and the index that holds it in order."""

    column: str
    index: str | None = None
    """None: no index does."""
    is_covering: bool = False
    """Whether the index also holds the name and the status."""
    counted: str | None = None
    """The column of period_tally that counts the executions with a value."""
    is_nullable: bool = True
    moves_with_time: bool = False
    """Whether the order roughly follows the start, so that a window is roughly a range of it."""
    join: str = ""
    """The join of the table with the value to compare, where the column holds only its number."""
    value: str = "key"
    """The value to compare, in SQL."""


# The table is stored in order of ids: NOT INDEXED keeps SQLite from choosing an index in another order.
_ID = Key("id", "NOT INDEXED", is_nullable=False, moves_with_time=True)
_KEYS = {
    "id": _ID,
    "created_at": Key("created_us", "INDEXED BY execution_created", is_nullable=False, moves_with_time=True),
    "completed_at": Key("completed_us", "INDEXED BY execution_completed", True, "completed", moves_with_time=True),
    "duration_ms": Key("duration_ms", "INDEXED BY execution_duration", True, "timed"),
    "trace_id": Key("trace_id", "INDEXED BY execution_trace"),
    "worker_id": Key("worker_id", join="LEFT JOIN worker ON worker.worker_id = key", value="worker.name"),
    # No index has these orders; they serve only fetch and sort, for a trace or for few executions.
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
    """The parts of a selection with and without a key, if each status has either only keys or only nulls; else None."""
    # No counter says how many executions have a trace or a worker: nulls are sorted with the rest.
    if key.counted is None:
        return None
    counts = connection.execute(
        f"SELECT status, runs, {key.counted} FROM period_tally WHERE span = ? AND period = 0", (SPAN_ALL,)
    ).fetchall()
    statuses = wanted.selection.statuses
    # If each status has the key in all of its executions or in none, as recorders write them, the status decides.
    if any(0 < having < runs for status, runs, having in counts if status in statuses):
        return None
    absent = {status for status, _, having in counts if not having}
    return wanted.selection.only(statuses - absent), wanted.selection.only(absent)


def _page_of_two(
    connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted, present: Selection, absent: Selection
) -> list[int] | KeyQuery:
    """The page of two consecutive selections: first by the key, then the executions without one, by id.

    For example, 80 executions with a key and 40 without: positions 70 to 90 are positions 70 to 80 of the former by the
    key, then positions 0 to 10 of the latter by id.
    """
    total = wanted.total
    if absent.parts:
        total = count_selected(connection, present, wanted.after_us, wanted.before_us)
    take = max(0, min(wanted.take, total - wanted.offset))
    first = replace(wanted, selection=present, total=total, take=take)
    ids = _nearer(connection, memory, order, first) if take else []
    if take == wanted.take:
        return ids
    offset = max(0, wanted.offset - total)
    # Executions without the key are in order of ids, so this is a page by id, from where the keys end.
    last = replace(wanted, selection=absent, total=wanted.total - total, offset=offset, take=wanted.take - take)
    return [*_listed(connection, ids), *_listed(connection, _nearer(connection, memory, "id", last))]


def _listed(connection: sqlite3.Connection, ids: list[int] | KeyQuery) -> list[int]:
    if isinstance(ids, KeyQuery):
        found = [row_id for (row_id,) in connection.execute(ids.sql, ids.values)]
        return found[::-1] if ids.is_turned else found
    return ids


def _nearer(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int] | KeyQuery:
    """A page of executions that all have the key, counted from the nearer end."""
    if not wanted.is_far:
        return _chosen(connection, memory, order, wanted)
    found = _chosen(connection, memory, order, wanted.turned())
    return found._replace(is_turned=True) if isinstance(found, KeyQuery) else found[::-1]


# --- the choice


def _chosen(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int] | KeyQuery:
    """The page by the cheapest path; where a scan gives up, by the next cheapest."""
    key, model = _KEYS[order], costs.COSTS
    algebra = wanted.everything * model.algebra
    # Decided first, because it needs neither a counter nor a bitmap.
    if wanted.is_plain and not key.is_nullable and wanted.end * model.passed <= algebra:
        return _plain_scan(key, wanted)
    # An index without name and status, or a window on its entries, costs a row look-up for each entry.
    each = model.filtered if key.is_covering and not wanted.is_windowed else model.row
    # Twice what evenly spread matches would need: they seldom are.
    scan = inf if key.index is None else 2 * _entries(connection, memory, key, wanted) * each
    sources = _sources(connection, memory, key, wanted)
    fetch = sum([source.cost for source in sources])
    found = _by_bitmaps(connection, memory, order, wanted, min(scan, fetch))
    if found is None and scan < fetch:
        # The budget keeps a wrong estimate from costing more than the next path.
        found = _scan(connection, key, wanted, budget=round(min(fetch, max(algebra / 2, scan)) / each))
        if found is None:
            scan = wanted.everything * each  # the matches are rare in this part of the index
            found = _by_bitmaps(connection, memory, order, wanted, min(scan, fetch))
            if found is None and scan < fetch:
                found = _scan(connection, key, wanted, budget=_ALL)
    return fetch_and_sort(connection, key, sources, wanted) if found is None else found


_ALL = 2**62


def _by_bitmaps(
    connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted, otherwise: float
) -> list[int] | None:
    """The page by bitmaps, where that is cheaper than the other paths; else None.

    From the second page on that complete bitmaps would answer fastest, a reader builds some of the missing ones each
    time, for about as long as the other path takes. So a single query costs one scan, and a reader that continues soon
    has them all.
    """
    # Even complete bitmaps cost this much, so do not look at what is missing.
    if otherwise <= wanted.everything * costs.COSTS.algebra:
        return None
    bitmaps = memory.bitmaps
    cost = bitmaps.cost(connection, order, wanted)
    # Compared by identity below. The first such page builds nothing in advance: a command asks only once.
    if bitmaps.first_asked is None:
        bitmaps.first_asked = wanted
    if cost == inf or (cost >= otherwise and bitmaps.first_asked is wanted):
        return None
    # If bitmaps are cheaper even with everything missing, build it all; else build for as long as the other path takes.
    if not bitmaps.build(connection, order, wanted, inf if cost < otherwise else otherwise):
        return None
    return bitmaps.page_ids(connection, order, wanted)


def _entries(connection: sqlite3.Connection, memory: Memory, key: Key, wanted: Wanted) -> float:
    """Entries of the key's index up to the end of the page, if the matches are evenly spread."""
    # Ids, creations and completions rise with the starts: entries beyond the window come first and are passed over.
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
    """A page without a filter: an index entry for each row skipped or taken."""
    return KeyQuery(f"{_scan_sql('id', key, wanted)} LIMIT ? OFFSET ?", (wanted.take, wanted.offset))


def _scan_sql(columns: str, key: Key, wanted: Wanted) -> str:
    # IS NOT NULL exactly as in the partial indexes, or SQLite could not use them.
    order = f"{key.column} {wanted.direction}" + ("" if key is _ID else f", id {wanted.direction}")
    return f"SELECT {columns} FROM execution {key.index} WHERE {key.column} IS NOT NULL ORDER BY {order}"


def _scan(connection: sqlite3.Connection, key: Key, wanted: Wanted, *, budget: int) -> list[int] | None:
    """A filtered scan of the key's index: (offset + take) / density entries.

    Returns:
        None if the budget, or the executions that have the key, run out before the page is full.
    """
    condition, values = wanted.condition()
    # A column that the index lacks costs a row look-up for each entry, so the start is named only where it is compared.
    columns = "id, name_id, status" + (", effective_us" if wanted.is_windowed else "")
    sql = f"""
    SELECT id FROM ({_scan_sql(columns, key, wanted)} LIMIT ?) AS entries WHERE {condition or "TRUE"} LIMIT ? OFFSET ?
    """
    # The inner LIMIT stops a scan whose matches are rare: the outer one counts only matches.
    rows = connection.execute(sql, (budget, *values, wanted.take, wanted.offset))
    ids = [row_id for (row_id,) in rows]
    return ids if len(ids) == wanted.take else None


# --- fetch and sort


@dataclass(frozen=True, slots=True)
class Source:
    """The index and condition by which a part of the selection is fetched, and the cost in microseconds."""

    sql: str
    values: tuple[int | str | bytes, ...]
    cost: float


def _sources(connection: sqlite3.Connection, memory: Memory, key: Key, wanted: Wanted) -> list[Source]:
    return [_source(connection, memory, key, part, wanted) for part in wanted.selection.parts]


def _source(connection: sqlite3.Connection, memory: Memory, key: Key, part: Part, wanted: Wanted) -> Source:
    """The cheaper index for a part: that of all starts (or of rare statuses) with a filter, or that of names."""
    model = costs.COSTS
    most = min(part.total, wanted.total)
    inside, window = ("AND effective_us BETWEEN ? AND ?", wanted.window) if wanted.is_windowed else ("", ())
    looked_up = 0 if key.column in {"id", "effective_us"} else model.row
    condition, values = part.condition()
    filtered: tuple[int, ...] = ALL_STATUSES
    index = "execution_started WHERE"
    # The partial index holds every status but SUCCESS: few entries, ordered by status.
    if SUCCESS not in part.statuses:
        index, filtered = f"execution_status_started WHERE {IS_NO_SUCCESS} AND", part.statuses
    entries = _inside(connection, memory, filtered, wanted) * model.filtered
    cost = most * (model.fetched + looked_up) + entries
    found = Source(f"{index} {condition} {inside}", (*values, *window), cost)
    if part.names is None:
        return found
    # The index of names also holds the duration, so no row is read for it.
    if key.column == "duration_ms":
        looked_up = 0
    # One JSON value: a placeholder for each name would make another statement for each number of names.
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
    """Executions inside the window with some statuses, of any name."""
    return count_between(connection, Part(memory.all(connection), statuses), wanted.after_us, wanted.before_us)


def fetch_and_sort(connection: sqlite3.Connection, key: Key, sources: Iterable[Source], wanted: Wanted) -> list[int]:
    """Read every selected key through the given indexes and sort: costs as many entries as match."""
    sources = list(sources)
    column = "" if key is _ID else f", {key.column} AS key"
    # Nulls last in both directions.
    order = "" if key is _ID else f"{key.value} IS NULL, {key.value} {wanted.direction}, "
    # The plus sign keeps a server from scanning all ids in order where sorting the selected ones costs less.
    model = costs.COSTS
    is_scan_better = wanted.end * wanted.everything * model.row <= wanted.total**2 * model.fetched
    own_id = "id" if key is _ID and is_scan_better else "+id"
    arms = [f"SELECT id{column} FROM execution INDEXED BY {source.sql}" for source in sources]
    sql = f"""
    SELECT id FROM ({" UNION ALL ".join(arms)}) AS found {key.join}
    ORDER BY {order}{own_id} {wanted.direction} LIMIT ? OFFSET ?
    """
    values = [value for source in sources for value in source.values]
    return [row_id for (row_id,) in connection.execute(sql, (*values, wanted.take, wanted.offset))]


def page_ids_sorted(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int]:
    """A page of a selection that is known to be small."""
    key = _KEYS[order]
    return fetch_and_sort(connection, key, _sources(connection, memory, key, wanted), wanted)


def page_ids_of_trace(
    connection: sqlite3.Connection, selection: Selection, query: ExecutionsQuery, trace_id: str
) -> tuple[int, list[int]]:
    """The number of selected executions of a trace, and the ids of the page; reads them all, since a trace is small."""
    wanted = Wanted(selection, 0, 1, query.after_us, query.before_us, query.order_desc, query.offset, query.limit)
    condition, values = wanted.condition()
    source = Source(f"execution_trace WHERE trace_id = ? AND {condition}", (trace_id, *values), 0)
    # Counted in the rows: no counter knows traces, and the page reads these few rows anyway.
    (total,) = connection.execute(f"SELECT count(*) FROM execution INDEXED BY {source.sql}", source.values).fetchone()
    return total, fetch_and_sort(connection, _KEYS[query.order_by], [source], wanted)


# --- groups: orders in which many executions share a value, with ties ordered by id

Group = tuple[int, Selection]
"""The number of executions that share a value, and their selection."""


def _page_of_groups(
    connection: sqlite3.Connection, memory: Memory, groups: Iterable[Group], wanted: Wanted
) -> list[int]:
    """A page of consecutive groups, by id within each; whole groups are skipped by their counts."""
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
    """The statuses that have executions, in the order of their words."""
    for status in sorted(ALL_STATUSES, key=_WORDS.__getitem__, reverse=wanted.descending):
        selection = wanted.selection.only([status])
        count = count_selected(connection, selection, wanted.after_us, wanted.before_us)
        if count:
            yield count, selection


def _page_by_name(connection: sqlite3.Connection, memory: Memory, order: str, wanted: Wanted) -> list[int]:
    """A page in the order of names or jobs, whose cumulative counts say in which group it begins."""
    if wanted.descending:
        # Groups are kept in one direction; the other is the same page counted from the other end.
        return _page_by_name(connection, memory, order, wanted.turned())[::-1]
    names = memory.names(connection)
    groups = names.groups_of(connection, order, wanted)
    # With one group (the history of one job), only the ids decide.
    if len(groups.ends) == 1:
        return _listed(connection, _nearer(connection, memory, "id", wanted))

    def selections() -> Iterator[Group]:
        for place in range(bisect_right(groups.ends, wanted.offset), len(groups.ends)):
            yield groups.count(place), names.selection_of(groups.members[place], wanted.selection)

    begun = groups.begin(bisect_right(groups.ends, wanted.offset))
    return _page_of_groups(connection, memory, selections(), replace(wanted, offset=wanted.offset - begun))
