"""Access paths by created_at, completed_at, duration_ms, trace_id and worker_id: nulls last, ties by id.

Each order has an index in which it is walked from the nearer end. Where a selection is rare its keys are
gathered through the index that knows the selection; ``docs/engine.md`` says what each path costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobstore.engine.gathering import gathered, is_known
from jobstore.engine.segments import KEYS, Key, LackingSegment, MergedSegment, Segment
from jobstore.engine.selection import ALL_STATUSES
from jobstore.engine.sliced import page_ids_in_order, page_ids_sliced
from jobstore.engine.started import LEAST_BUDGET
from jobstore.engine.window import count_selected
from jobstore.engine.zones import ZONED, key_bounds, page_ids_zoned
from jobstore.language.models import FINISHED, STATUS_CODES
from jobstore.storage.rows import KeyQuery
from jobstore.storage.schema import SPAN_ALL

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from jobstore.engine.memory import Memory
    from jobstore.engine.request import Request
    from jobstore.engine.selection import Selection

GATHERED = 20_000
"""A selection of at most so many executions is gathered when a walk would be longer."""
NAMES_MERGED = 24
"""So many names are merged in the index that begins with the name."""
GATHERED_ZONED = 2_000
"""The same where bounds by period can spare most of it."""
GATHERED_LATE = 200_000
"""A walk that ran out of budget gathers a selection up to this size; beyond, it walks on to the end."""
WALKED = 25_000
"""Index entries that a filtered walk may look at."""
PASSED = 10_000
"""Entries that a page without a filter may pass over, where bounds by period can spare it."""
PATIENCE = 4
_OPEN = frozenset(ALL_STATUSES) - {STATUS_CODES[status] for status in FINISHED}
ROW_COST = 4
"""Entries of a covering index that cost as much as one with a look at its row."""
PLAIN_ENTRIES = 8
"""So many entries without a filter cost as much as one with."""
SLICED_FREELY = 2_000
SLICED_A_WALK = 1_000
"""A page by bits costs as much as a walk over so many entries, and one more for so many executions there are."""
SLICED = frozenset({"duration_ms", "trace_id", "worker.name"})
"""Keys that digests have."""
ZONED_FIRST = 1_000
"""A longer walk is more than reading a few hours of a selection that an index knows."""
ZONED_BUDGET = 12_000
"""Bounds of an hour reach as far as its longest run: a walk may first have to pass a few hours."""


def page_ids_by(connection: sqlite3.Connection, memory: Memory, order: str, request: Request) -> list[int] | KeyQuery:
    """The ids at ``offset`` to ``offset + take`` of a selection in the order of a field, from the nearer end."""
    key = KEYS[order]
    if request.is_plain and request.offset <= PASSED:
        keys = walk_plain(connection, key, request)
        if keys is not None:
            return keys
    if _is_long(key, request):
        found = _sliced(connection, memory, key, request)
        if found is not None:
            return found
    return _page_ids(connection, memory, key, request)


def _is_long(key: Key, request: Request) -> bool:
    """Whether a walk from the nearer end, or gathering, costs more than a look at every execution's bits."""
    nearest = min(request.offset, request.total - request.offset - request.take) + request.take
    if request.is_plain:
        cost = nearest // PLAIN_ENTRIES
    elif key.name_index is not None and _is_few_names(request):
        cost = min(_among_entries(request, nearest), request.total * ROW_COST)
    else:
        walked = nearest * (request.everything // request.total)
        cost = min(walked * (1 if key.is_covered else ROW_COST), request.total * ROW_COST)
    return cost > SLICED_FREELY + request.everything // SLICED_A_WALK


def _among_entries(request: Request, end: int) -> int:
    """What a walk among few names' own entries costs, to so many that are selected; the index knows the names alone."""
    (part,) = request.selection.parts
    if part.statuses == ALL_STATUSES and not request.is_windowed:
        return end // PLAIN_ENTRIES
    return end * part.counters.total(ALL_STATUSES) // request.total * ROW_COST


def _sliced(connection: sqlite3.Connection, memory: Memory, key: Key, request: Request) -> list[int] | None:
    """The page by bits, where this key and this file have them."""
    bits = memory.bits(connection) if key.column in SLICED else None
    return None if bits is None else page_ids_sliced(connection, bits, key.column, request)


def walk_plain(connection: sqlite3.Connection, key: Key, request: Request) -> KeyQuery | None:
    """The first pages without a filter: an index entry for each row passed or taken.

    Returns:
        None where too few executions may have the key.
    """
    if key.nullable:
        if key.present is None:
            return None
        sql = f"SELECT sum({key.present}) FROM period_tally WHERE span = ? AND period = 0"
        (present,) = connection.execute(sql, (SPAN_ALL,)).fetchone()
        if present < request.offset + request.take:
            return None
    segment, *_ = _segments(connection, key, request, nulls_first=False)
    return KeyQuery(f"{segment.select('id')} LIMIT ? OFFSET ?", (request.take, request.offset))


def _page_ids(connection: sqlite3.Connection, memory: Memory, key: Key, request: Request) -> list[int]:
    parted = _parted(connection, key, request)
    if parted is not None:
        return _page_of_two(connection, memory, key, request, *parted)
    if request.offset > request.total - request.offset - request.take:
        return _ids(connection, memory, key, request.turned(), nulls_first=True)[::-1]
    return _ids(connection, memory, key, request, nulls_first=False)


def _parted(connection: sqlite3.Connection, key: Key, request: Request) -> tuple[Selection, Selection] | None:
    """What of a selection has the key, and what has none, where that goes by status; five counters tell."""
    if key.present is None:
        return None
    rows = connection.execute(
        f"SELECT status, runs, {key.present} FROM period_tally WHERE span = ? AND period = 0", (SPAN_ALL,)
    ).fetchall()
    absent = {status for status, _, present in rows if not present}
    wanted = {status for part in request.selection.parts for status in part.statuses}
    if any(0 < present < runs for status, runs, present in rows if status in wanted) or not absent & wanted:
        return None
    return request.selection.only(wanted - absent), request.selection.only(absent)


def _page_of_two(
    connection: sqlite3.Connection, memory: Memory, key: Key, request: Request, present: Selection, absent: Selection
) -> list[int]:
    """The page where two selections follow one another: by the key, then, for want of it, by id."""
    total = count_selected(connection, present, request.after_us, request.before_us)
    first = replace(request, selection=present, total=total, take=max(0, min(request.take, total - request.offset)))
    ids = _page_ids(connection, memory, key, first) if first.take else []
    rest = request.take - first.take
    if rest:
        last = replace(
            request, selection=absent, total=request.total - total, offset=max(0, request.offset - total), take=rest
        )
        ids += page_ids_by_id(connection, memory, last)
    return ids


def page_ids_by_id(connection: sqlite3.Connection, memory: Memory, request: Request) -> list[int]:
    """A page in the order of ids, from the nearer end."""
    if request.offset > request.total - request.offset - request.take:
        return page_ids_by_id(connection, memory, request.turned())[::-1]
    if request.total <= GATHERED:
        ids = sorted([row_id for _, row_id in gathered(connection, "id", request)], reverse=request.descending)
        return ids[request.offset : request.offset + request.take]
    found = page_ids_deep(connection, memory, request)
    if found is not None:
        return found
    return scan(
        connection, [Segment("execution", "", f"id {request.direction}")], request, is_filtered=not request.is_plain
    )


def page_ids_deep(connection: sqlite3.Connection, memory: Memory, request: Request) -> list[int] | None:
    """A page of a wide selection in the order of ids, by bits or by bounds of periods."""
    bits = memory.bits(connection)
    return page_ids_zoned(connection, "id", request) if bits is None else page_ids_in_order(connection, bits, request)


def _ids(connection: sqlite3.Connection, memory: Memory, key: Key, request: Request, *, nulls_first: bool) -> list[int]:
    """Chooses the path; the request begins at the nearer end."""
    is_zoned = _is_zoned(connection, key, request)
    segments = _segments(connection, key, request, nulls_first=nulls_first)
    if request.is_plain and not (is_zoned and request.offset > PASSED):
        return scan(connection, segments, request, is_filtered=False)
    among = _name_segments(key, request, nulls_first=nulls_first)
    found = None
    if among is not None:
        found = _page_among(connection, among, request)
        if found is None:
            found = _uneven(connection, memory, key, request, nulls_first=nulls_first)
    if found is None and request.total <= min(GATHERED_ZONED if is_zoned else GATHERED, request.expected):
        found = gather(connection, key, request, nulls_first=nulls_first)
    if found is None and is_zoned:
        found = _page_zoned(connection, key, segments[0], request)
    elif found is None:
        found = _walked(connection, segments[0], request, LEAST_BUDGET)
        if found is None:
            found = _uneven(connection, memory, key, request, nulls_first=nulls_first)
    return _at_last(connection, key, among or segments, request, nulls_first=nulls_first) if found is None else found


def _page_zoned(
    connection: sqlite3.Connection, key: Key, segment: Segment | LackingSegment, request: Request
) -> list[int] | None:
    """By bounds of periods: at once for a narrow selection that an index knows, else after a short walk."""
    is_narrow = request.expected > ZONED_FIRST and all(map(is_known, request.selection.parts))
    found = None if is_narrow else _walked(connection, segment, request, ZONED_BUDGET)
    if found is None:
        found = page_ids_zoned(connection, key.column, request)
    return _walked(connection, segment, request, ZONED_BUDGET) if found is None and is_narrow else found


def _at_last(
    connection: sqlite3.Connection,
    key: Key,
    segments: Sequence[Segment | MergedSegment | LackingSegment],
    request: Request,
    *,
    nulls_first: bool,
) -> list[int]:
    """What no other path found."""
    if request.total <= (GATHERED if key.is_covered else GATHERED_LATE):
        return gather(connection, key, request, nulls_first=nulls_first)
    return scan(connection, segments, request, is_filtered=True)


def _page_among(
    connection: sqlite3.Connection, among: Sequence[MergedSegment | LackingSegment], request: Request
) -> list[int] | None:
    """The page among few names' own entries; filtered, where that promises to be short and is."""
    (part,) = request.selection.parts
    if part.statuses == ALL_STATUSES and not request.is_windowed:
        return scan(connection, among, request, is_filtered=False)  # the names are all there is to it
    promised = _among_entries(request, request.offset + request.take) // ROW_COST
    if promised > WALKED // ROW_COST:
        return None
    return walk_filtered(connection, among[0], request, PATIENCE * promised + LEAST_BUDGET)


def _uneven(
    connection: sqlite3.Connection, memory: Memory, key: Key, request: Request, *, nulls_first: bool
) -> list[int] | None:
    """By bits, what a walk did not find where an even spread would have it."""
    if nulls_first:
        found = _sliced(connection, memory, key, request.turned())
        return None if found is None else found[::-1]
    return _sliced(connection, memory, key, request)


def _walked(
    connection: sqlite3.Connection, segment: Segment | LackingSegment, request: Request, least: int
) -> list[int] | None:
    """A filtered walk, where it promises to be short."""
    if request.expected > WALKED:
        return None
    return walk_filtered(connection, segment, request, min(WALKED, PATIENCE * request.expected + least))


def _all_have(connection: sqlite3.Connection, key: Key, request: Request) -> bool:
    """Whether every execution with one of the request's statuses has the key."""
    statuses = ",".join(sorted({str(status) for part in request.selection.parts for status in part.statuses}))
    (lacking,) = connection.execute(
        f"""
        SELECT coalesce(sum(runs - {key.present}), 0) FROM period_tally
        WHERE span = {SPAN_ALL} AND period = 0 AND status IN ({statuses})
        """
    ).fetchone()
    return not lacking


def _segments(
    connection: sqlite3.Connection, key: Key, request: Request, *, nulls_first: bool
) -> list[Segment | LackingSegment]:
    source, direction = f"execution INDEXED BY {key.index}", request.direction
    if key.column == "worker.name":
        # Ids move with time: within each worker the walk begins where the selection can.
        bounds, values = _bounds(connection, "id", request, is_zoned=True)
        joined = f"worker CROSS JOIN {source} ON execution.worker_id = worker.worker_id"
        present = Segment(joined, bounds, f"worker.name {direction}, execution.id {direction}", values)
        absent = _lacking(key, "worker_id", request)
    else:
        bounds, values = _bounds(connection, key.column, request, is_zoned=_is_zoned(connection, key, request))
        order = f"{key.column} {direction}, id {direction}"
        present = Segment(source, bounds or f"{key.column} IS NOT NULL", order, values)
        absent = _lacking(key, key.column, request)
    if not key.nullable:
        return [present]
    return [absent, present] if nulls_first else [present, absent]


def _lacking(key: Key, column: str, request: Request) -> Segment | LackingSegment:
    """The executions without a key: all in its index, but for a key that comes with the end."""
    if key.present is None:
        return Segment(f"execution INDEXED BY {key.index}", f"{column} IS NULL", f"id {request.direction}")
    return LackingSegment(key, request.direction, _unended(request))


def _unended(request: Request) -> tuple[int, ...]:
    """The statuses of the request with which an execution has not ended."""
    return tuple(sorted({code for part in request.selection.parts for code in part.statuses if code in _OPEN}))


def _bounds(
    connection: sqlite3.Connection, column: str, request: Request, *, is_zoned: bool
) -> tuple[str, tuple[int, ...]]:
    """Where a walk may begin and end, for keys that move with time."""
    if request.is_plain or not is_zoned:
        return "", ()
    return f"execution.{column} BETWEEN ? AND ?", key_bounds(connection, column, request)


def _is_zoned(connection: sqlite3.Connection, key: Key, request: Request) -> bool:
    """Whether bounds by period say where the key of every selected execution lies."""
    return key.column in ZONED and (not key.nullable or _all_have(connection, key, request))


def _name_segments(key: Key, request: Request, *, nulls_first: bool) -> list[MergedSegment | LackingSegment] | None:
    """The stretches of the index that begins with the name, where the selection is few names."""
    if key.name_index is None or not _is_few_names(request):
        return None
    source = f"execution INDEXED BY {key.name_index}"
    names = tuple(sorted(request.selection.parts[0].names or ()))
    present = MergedSegment(source, f"{key.column} IS NOT NULL", key.column, request.direction, names)
    absent = LackingSegment(key, request.direction, _unended(request), names)
    return [absent, present] if nulls_first else [present, absent]


def _is_few_names(request: Request) -> bool:
    parts = request.selection.parts
    return len(parts) == 1 and parts[0].names is not None and len(parts[0].names) <= NAMES_MERGED


def scan(
    connection: sqlite3.Connection,
    segments: Sequence[Segment | MergedSegment | LackingSegment],
    request: Request,
    *,
    is_filtered: bool,
) -> list[int]:
    """The order's index (or a few names' part of it), filtered inside SQLite until the page is full.

    The one path whose cost grows: with the depth of the page, and with the distance to the first match.
    """
    condition, values = _condition(request) if is_filtered else ("", ())
    found: list[int] = []
    skip, take = request.offset, request.take
    for segment in segments:
        bound = segment.bound(values)
        sql = segment.select("execution.id AS id", condition)
        rows = connection.execute(f"{sql} LIMIT ? OFFSET ?", (*bound, take - len(found), skip))
        ids = [row[0] for row in rows]
        found += ids
        if len(found) == take:
            break
        if ids:
            skip = 0
        elif skip:
            (passed,) = connection.execute(f"SELECT count(*) FROM ({sql})", bound).fetchone()
            skip -= passed
    return found


def _condition(request: Request) -> tuple[str, Sequence[int | bytes]]:
    """The selection and the window in SQL."""
    sql, masks = request.selection.condition()
    values: list[int | bytes] = [*masks]
    if request.after_us is not None:
        sql += " AND effective_us >= ?"
        values.append(request.after_us)
    if request.before_us is not None:
        sql += " AND effective_us <= ?"
        values.append(request.before_us)
    return sql, values


def walk_filtered(
    connection: sqlite3.Connection, segment: Segment | MergedSegment | LackingSegment, request: Request, budget: int
) -> list[int] | None:
    """The order's index with a filter: (offset + take) / density entries and as many rows.

    Returns:
        None when the budget of entries, or the executions that have the key, are spent first.
    """
    condition, values = _condition(request)
    # What an index covers must not be looked up in the rows: what it may lack is named only where it is compared.
    start = ", effective_us" if request.is_windowed else ""
    status = "" if all(part.statuses == ALL_STATUSES for part in request.selection.parts) else ", status"
    keys = segment.select(f"execution.id AS id, name_id{status}{start}")
    sql = f"SELECT id FROM ({keys} LIMIT ?) WHERE {condition} LIMIT ? OFFSET ?"
    rows = connection.execute(sql, (*segment.bound(()), budget, *values, request.take, request.offset))
    ids = [row_id for (row_id,) in rows]
    return ids if len(ids) == request.take else None


def gather(connection: sqlite3.Connection, key: Key, request: Request, *, nulls_first: bool) -> list[int]:
    """Every selected key, through the index that knows the selection, then the page of them: one row lookup each."""
    column = _WORKER_NAME if key.column == "worker.name" else key.column
    rows = list(gathered(connection, column, request))
    ids = in_order(rows, descending=request.descending, nulls_first=nulls_first)
    return ids[request.offset : request.offset + request.take]


def in_order(keyed: list[tuple[Any, int]], *, descending: bool, nulls_first: bool = False) -> list[int]:
    """The ids by key, null keys apart, ties by id in the same direction."""
    present = sorted([row for row in keyed if row[0] is not None], reverse=descending)
    absent = sorted([row_id for key, row_id in keyed if key is None], reverse=descending)
    ids = [row_id for _, row_id in present]
    return absent + ids if nulls_first else ids + absent


_WORKER_NAME = "(SELECT name FROM worker WHERE worker.worker_id = execution.worker_id)"
