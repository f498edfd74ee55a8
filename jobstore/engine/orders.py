"""Access paths in every other order than the default: by another field, nulls last, ties by id.

Each order has an index in which it is walked from the nearer end. Where a selection is rare its keys are
gathered through the index that knows the selection; ``docs/engine.md`` says what each path costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobstore.engine.counters import day_begins_us
from jobstore.engine.schema import DAY_US
from jobstore.engine.selection import ALL_STATUSES
from jobstore.engine.started import FARTHEST_US, LEAST_BUDGET
from jobstore.engine.window import days_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from jobstore.engine.selection import Part, Selection

GATHERED = 20_000
"""A selection of at most so many executions is gathered when a walk would be longer."""
GATHERED_LATE = 200_000
"""A walk that ran out of budget gathers a selection up to this size; beyond, it walks on to the end."""
WALKED = 25_000
"""Index entries that a filtered walk may look at."""
PATIENCE = 4


@dataclass(frozen=True, slots=True)
class Key:
    """A field to order by: where it is stored, and the indexes that hold it in order."""

    column: str
    index: str | None
    nullable: bool = True
    name_index: str | None = None
    """Starts with name_id."""
    zone: str | None = None
    """Columns of day_zone that bound it."""


KEYS = {
    "id": Key("id", None, nullable=False, zone="id"),
    "created_at": Key("created_us", "execution_created", nullable=False, zone="created"),
    "completed_at": Key("completed_us", "execution_completed", zone="completed"),
    "duration_ms": Key("duration_ms", "execution_duration", name_index="execution_name_duration"),
    "trace_id": Key("trace_id", "execution_trace"),
    "worker_id": Key("worker.name", "execution_worker"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A stretch of an order over a selection inside a window; `total` is what they hold together."""

    selection: Selection
    everything: int
    total: int
    after_us: int | None
    before_us: int | None
    descending: bool
    offset: int
    take: int

    @property
    def is_plain(self) -> bool:
        """Nothing is filtered."""
        return self.total == self.everything

    @property
    def direction(self) -> str:
        """The order in SQL."""
        return "DESC" if self.descending else "ASC"

    def turned(self) -> Request:
        """The same stretch, counted from the other end."""
        offset = self.total - self.offset - self.take
        return Request(
            self.selection, self.everything, self.total, self.after_us, self.before_us, not self.descending, offset,
            self.take,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an index in order: the executions that have the key, or those that have none."""

    source: str
    condition: str
    order: str
    values: tuple[int, ...] = ()

    def select(self, columns: str, condition: str = "") -> str:
        """The statement that walks it."""
        where = " AND ".join(part for part in (self.condition, condition) if part)
        return f"SELECT {columns} FROM {self.source} {f'WHERE {where}' if where else ''} ORDER BY {self.order}"


def page_ids_by(connection: sqlite3.Connection, order: str, request: Request) -> list[int]:
    """The ids at ``offset`` to ``offset + take`` of a selection in the order of a field, from the nearer end."""
    key = KEYS[order]
    if request.offset > request.total - request.offset - request.take:
        return _ids(connection, key, request.turned(), nulls_first=True)[::-1]
    return _ids(connection, key, request, nulls_first=False)


def _ids(connection: sqlite3.Connection, key: Key, request: Request, *, nulls_first: bool) -> list[int]:
    segments = _segments(connection, key, request, nulls_first=nulls_first)
    if request.is_plain:
        return walk_plain(connection, segments, request)
    among = _name_segments(key, request, nulls_first=nulls_first)
    if among is not None:
        return scan(connection, among, request)
    expected = (request.offset + request.take) * request.everything // request.total
    if request.total <= min(GATHERED, expected):
        return gather(connection, key, request, nulls_first=nulls_first)
    if expected <= WALKED:
        found = walk_filtered(connection, segments[0], request, min(WALKED, PATIENCE * expected + LEAST_BUDGET))
        if found is not None:
            return found
    if request.total <= GATHERED_LATE:
        return gather(connection, key, request, nulls_first=nulls_first)
    return scan(connection, segments, request)


def _segments(connection: sqlite3.Connection, key: Key, request: Request, *, nulls_first: bool) -> list[Segment]:
    direction = request.direction
    if key.column == "worker.name":
        source = "worker CROSS JOIN execution INDEXED BY execution_worker ON execution.worker_id = worker.worker_id"
        present = Segment(source, "", f"worker.name {direction}, execution.id {direction}")
        absent = Segment("execution INDEXED BY execution_worker", "worker_id IS NULL", f"id {direction}")
        return [absent, present] if nulls_first else [present, absent]
    source = "execution" if key.index is None else f"execution INDEXED BY {key.index}"
    order = f"id {direction}" if key.column == "id" else f"{key.column} {direction}, id {direction}"
    bound, values = zone_bound(connection, key, request)
    if not key.nullable:
        return [Segment(source, bound, order, values)]
    present = Segment(source, bound or f"{key.column} IS NOT NULL", order, values)
    absent = Segment(source, f"{key.column} IS NULL", f"id {direction}")
    return [absent, present] if nulls_first else [present, absent]


def zone_bound(connection: sqlite3.Connection, key: Key, request: Request) -> tuple[str, tuple[int, ...]]:
    """Where a walk may begin: the farthest key of any day that holds a selected execution; one row a day."""
    if key.zone is None or request.is_plain:
        return "", ()
    days = days_of(connection, request.selection)
    side, pick = ("high", max) if request.descending else ("low", min)
    rows = connection.execute(f"SELECT day, {key.zone}_{side} FROM day_zone")
    values = [value for day, value in rows if value is not None and day in days and _in_window(day, request)]
    if not values:
        return "", ()
    return f"{key.column} {'<=' if request.descending else '>='} ?", (pick(values),)


def _in_window(day: int, request: Request) -> bool:
    """Whether a day may hold an instant of the window."""
    begins_us = day_begins_us(day)
    return (request.before_us is None or begins_us <= request.before_us) and (
        request.after_us is None or begins_us + DAY_US > request.after_us
    )


def _name_segments(key: Key, request: Request, *, nulls_first: bool) -> list[Segment] | None:
    """The stretches of the index that begins with the name, where the selection is one name."""
    parts = request.selection.parts
    if key.name_index is None or len(parts) != 1 or parts[0].names is None or len(parts[0].names) != 1:
        return None
    (name_id,) = parts[0].names
    direction = request.direction
    source = f"execution INDEXED BY {key.name_index}"
    present = Segment(
        source, f"name_id = ? AND {key.column} IS NOT NULL", f"{key.column} {direction}, id {direction}", (name_id,)
    )
    absent = Segment(source, f"name_id = ? AND {key.column} IS NULL", f"id {direction}", (name_id,))
    return [absent, present] if nulls_first else [present, absent]


def walk_plain(connection: sqlite3.Connection, segments: list[Segment], request: Request) -> list[int]:
    """All executions in order: offset + take entries of the index, passed over inside SQLite."""
    return _taken(connection, segments, request, "", ())


def scan(connection: sqlite3.Connection, segments: list[Segment], request: Request) -> list[int]:
    """The order's index (or one name's part of it), filtered inside SQLite until the page is full.

    The one path whose cost grows: with the depth of the page, and with the distance to the first match.
    """
    condition, values = _condition(request)
    return _taken(connection, segments, request, condition, values)


def _taken(
    connection: sqlite3.Connection,
    segments: list[Segment],
    request: Request,
    condition: str,
    values: Sequence[int | bytes],
) -> list[int]:
    found: list[int] = []
    skip, take = request.offset, request.take
    for segment in segments:
        bound = (*segment.values, *values)
        sql = segment.select("execution.id", condition)
        ids = [row_id for (row_id,) in connection.execute(f"{sql} LIMIT ? OFFSET ?", (*bound, take - len(found), skip))]
        found += ids
        if len(found) == take:
            break
        if ids:
            skip = 0
        elif skip:
            (passed,) = connection.execute(f"SELECT count(*) FROM ({sql})", bound).fetchone()
            skip -= passed
    return found


def _condition(request: Request) -> tuple[str, list[int | bytes]]:
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


def walk_filtered(connection: sqlite3.Connection, segment: Segment, request: Request, budget: int) -> list[int] | None:
    """The order's index with a filter: (offset + take) / density entries and, where it is not covering, rows.

    Returns:
        None when the budget of entries, or the executions that have the key, are spent first.
    """
    condition, values = _condition(request)
    keys = segment.select("execution.id AS id, name_id, status, effective_us")
    sql = f"SELECT id FROM ({keys} LIMIT ?) WHERE {condition} LIMIT ? OFFSET ?"
    rows = connection.execute(sql, (*segment.values, budget, *values, request.take, request.offset))
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


def gathered(connection: sqlite3.Connection, column: str, request: Request) -> Iterator[tuple[Any, int]]:
    """A column and the id of every execution selected, in no order."""
    for part in request.selection.parts:
        yield from _part_gathered(connection, column, part, request)


def _part_gathered(
    connection: sqlite3.Connection, column: str, part: Part, request: Request
) -> Iterator[tuple[Any, int]]:
    window = (
        -FARTHEST_US if request.after_us is None else request.after_us,
        FARTHEST_US if request.before_us is None else request.before_us,
    )
    statuses = ",".join(map(str, part.statuses))
    if part.names is not None:
        sql = f"""
        SELECT {column}, id FROM execution INDEXED BY execution_name_started
        WHERE name_id = ? AND status IN ({statuses}) AND effective_us BETWEEN ? AND ?
        """
        for name_id in part.names:
            yield from connection.execute(sql, (name_id, *window))
    elif part.statuses != ALL_STATUSES:
        yield from connection.execute(
            f"""
            SELECT {column}, id FROM execution INDEXED BY execution_status_started
            WHERE status IN ({statuses}) AND effective_us BETWEEN ? AND ?
            """,
            window,
        )
    else:
        yield from connection.execute(
            f"""
            SELECT {column}, id FROM execution INDEXED BY execution_started
            WHERE effective_us BETWEEN ? AND ?
            """,
            window,
        )
