"""The bitmap index: pages of any selection, in any order, at any depth, by set algebra.

For each kind of key (see `segments`) a reader holds one bitmap of executions for each bit of the key's code. A status
has a bit of its own. A search or a job is a bitmap too, built through the index on names. A window is found in the
planes of the start hour.

A page at a position is found by binary search over the bits, highest first. The selected executions without the bit
sort before those with it, so the count of the former says on which side the page lies. The search continues there with
the next bit, until few executions are left; their rows are read and sorted.

For example, the third of the durations 1, 6, 5, 2 (binary 001, 110, 101, 010): two lack the highest bit, so it is the
first of 110 and 101. One of these lacks the middle bit, so it is 101.

The planes of a kind come from the file's segments, or from the rows where a segment is missing. They follow the change
log: a changed execution is removed from every bitmap and added again from its row.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final

import orjson
from pyroaring import BitMap64

from jobstore.engine import costs
from jobstore.engine.counters import hour_begins_us, hour_of
from jobstore.engine.recent import Recent
from jobstore.engine.selection import ALL_STATUSES
from jobstore.storage.rows import in_chunks
from jobstore.storage.segments import (
    FEWEST,
    KINDS,
    PRESENT,
    SLOTS,
    kept_segments,
    make_planes,
    read_planes,
    segment_of,
    segments_of,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from jobstore.engine.counters import Counters
    from jobstore.engine.selection import Part, Wanted
    from jobstore.storage.segments import Planes

# If more executions share a code that is not the whole key, another path answers: each row would have to be read.
MOST_READ: Final = 50_000
# Small, so that the budget of a query is checked often while the names of a search are loaded.
NAMES_AT_ONCE: Final = 10
# Memory limits: a bitmap of ten million executions takes up to 1.3 MB, and a key has about twenty.
KEYS_KEPT: Final = 2
NAMES_KEPT: Final = 8
SELECTIONS_KEPT: Final = 4
COLUMNS: Final = {
    "created_at": "created_us",
    "completed_at": "completed_us",
    "duration_ms": "duration_ms",
    "trace_id": "trace_id",
}
# Kinds whose code is the whole key: executions that share every bit need only the order of their ids.
_EXACT: Final = frozenset({"duration_ms"})


class Keyed:
    """The planes of one kind; `missing` lists the segments not loaded yet."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.name = name
        self.kind = KINDS[name]
        self.planes: Planes = {}
        # For cost estimates only: a segment may be dropped before it is read, and is then built from its rows.
        self.missing = set(segments_of(connection))
        self.kept = set(kept_segments(connection, self.kind))
        self._taken: set[int] = set()

    @property
    def present(self) -> BitMap64:
        """The executions that have a code."""
        return self.plane(PRESENT)

    def plane(self, bit: int) -> BitMap64:
        """The executions whose code has a bit."""
        return self.planes.get(bit) or BitMap64()

    def bits(self) -> list[int]:
        """The bits of the codes, highest first."""
        return sorted(self.planes.keys() - {PRESENT}, reverse=True)

    def take(self, connection: sqlite3.Connection) -> bool:
        """Load one missing segment; return whether the file had it."""
        segment = self.missing.pop()
        self._taken.add(segment)
        kept = read_planes(connection, self.kind, segment)
        for bit, plane in (make_planes(connection, self.kind, segment) if kept is None else kept).items():
            if bit in self.planes:
                self.planes[bit] |= plane
            else:
                self.planes[bit] = plane
        # Run only after the last segment: it scans every container of a bitmap, and later changes from the log are few.
        if not self.missing:
            for plane in self.planes.values():
                plane.run_optimize()
        return kept is not None

    def put(self, execution_id: int, code: int | None, *, is_there: bool) -> None:
        """Update one execution to its current code. A segment that is not loaded yet needs no update."""
        segment = segment_of(execution_id)
        if segment not in self._taken:
            # It may be a segment that began after this key was made: then it is read whole when it is due.
            if self.missing:
                self.missing.add(segment)
                return
            self._taken.add(segment)  # all others are complete, so all that this one holds comes by the log
        for plane in self.planes.values():
            plane.discard(execution_id)
        if is_there and code is not None:
            code |= 1 << PRESENT
            while code:
                bit = code.bit_length() - 1
                self.planes.setdefault(bit, BitMap64()).add(execution_id)
                code ^= 1 << bit


class Named:
    """The executions recorded under the names of a search or a job; `done` lists the names loaded so far."""

    def __init__(self) -> None:
        self.rows = BitMap64()
        self.done: set[int] = set()

    def missing(self, counters: Counters) -> set[int]:
        """The names not loaded yet."""
        return (counters.names or set()) - self.done

    def take(self, connection: sqlite3.Connection, names: list[int]) -> int:
        """Load some names; return the number of their executions."""
        # One JSON text is twice as fast to fetch as one row for each id.
        sql = """
        SELECT json_group_array(id) FROM execution INDEXED BY execution_name_started
        WHERE name_id IN (SELECT value FROM json_each(?))
        """
        (text,) = connection.execute(sql, (orjson.dumps(names).decode(),)).fetchone()
        ids = orjson.loads(text)
        self.rows.update(ids)
        self.done.update(names)
        return len(ids)


class Bitmaps:
    """The bitmaps that a reader has so far."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, Keyed] = OrderedDict()
        self._names: Recent[object, Named] = Recent(NAMES_KEPT)
        self._selected: Recent[object, BitMap64] = Recent(SELECTIONS_KEPT)
        self._workers: dict[int, BitMap64] | None = None
        self.first_asked: Wanted | None = None
        """The first page that complete bitmaps would have answered fastest."""

    def changed(self, connection: sqlite3.Connection, execution_ids: Iterable[int]) -> None:
        """Apply changes that other connections committed."""
        # Selections cannot be updated: a change may move an execution into or out of any status, name or window.
        self._selected.clear()
        self._workers = None
        # Most readers never use bitmaps and must not pay a row look-up for each change.
        if not self._keys and not self._names:
            return
        keys = list(self._keys.values())
        # One look-up by id gives the codes of all kinds, so each row is read once however many keys are held.
        codes = ", ".join(["name_id", *(key.kind.code for key in keys)])
        for execution_id in execution_ids:
            if execution_id < 0:  # a bitmap cannot hold it; `_are_near` then rules bitmaps out for every page
                continue
            row = connection.execute(f"SELECT {codes} FROM execution WHERE id = ?", (execution_id,)).fetchone()
            for place, key in enumerate(keys, 1):
                key.put(execution_id, None if row is None else row[place], is_there=row is not None)
            for named in self._names.values():
                named.rows.discard(execution_id)
                if row is not None and row[0] in named.done:
                    named.rows.add(execution_id)

    # --- what is missing, and what it costs to build

    def cost(self, connection: sqlite3.Connection, order: str, wanted: Wanted) -> float:
        """The cost of a page by bitmaps, in microseconds; infinite where bitmaps cannot hold the ids."""
        model = costs.COSTS
        if not _are_near(connection, wanted.everything):
            return inf
        spent = wanted.everything * model.algebra
        for kind in _kinds(order, wanted):
            key = self._key(connection, kind)
            made = len(key.missing - key.kept)
            # A small store has one segment that is not full; without min(), bitmaps would never seem worthwhile there.
            spent += made * min(SLOTS, wanted.everything) * model.built
            spent += (len(key.missing) - made) * SLOTS * model.loaded
        for counters, named in self._named(wanted):
            runs = max(0, counters.total(ALL_STATUSES) - len(named.rows))
            # Twice: each id is read from the index and then added to the bitmap.
            spent += 2 * runs * model.filtered + len(named.missing(counters)) * model.opened
        return spent

    def build(self, connection: sqlite3.Connection, order: str, wanted: Wanted, budget: float) -> bool:
        """Load what a page needs, for about `budget` microseconds; return whether everything is loaded."""
        model = costs.COSTS
        for kind in _kinds(order, wanted):
            key = self._key(connection, kind)
            while key.missing:
                if budget <= 0:
                    return False
                budget -= SLOTS * (model.loaded if key.take(connection) else model.built)
        for counters, named in self._named(wanted):
            for names in in_chunks(named.missing(counters), NAMES_AT_ONCE):
                if budget <= 0:
                    return False
                budget -= len(names) * model.opened + 2 * named.take(connection, names) * model.filtered
        return True

    def _key(self, connection: sqlite3.Connection, kind: str) -> Keyed:
        key = self._keys.get(kind)
        if key is None:
            key = self._keys[kind] = Keyed(connection, kind)
            # Every page needs the statuses and every window the starts, so only the keys of orders replace each other.
            orders = [one for one in self._keys if one not in {"status", "started_at"}]
            if len(orders) > KEYS_KEPT:
                del self._keys[orders[0]]
        self._keys.move_to_end(kind)
        return key

    def _named(self, wanted: Wanted) -> list[tuple[Counters, Named]]:
        """The parts of a selection that are limited to some names: their counters and their bitmaps."""
        # A selection has at most two parts, so `Recent` cannot drop what this query needs.
        return [
            (part.counters, self._names.used(part.counters.key, Named))
            for part in wanted.selection.parts
            if part.names is not None
        ]

    # --- pages, once everything is loaded

    def page_ids(self, connection: sqlite3.Connection, order: str, wanted: Wanted) -> list[int] | None:
        """The ids of a page, in order; None if too many executions share the code of the key."""
        rows = self._rows(connection, wanted)
        if order == "id":
            return _cut(rows, wanted.offset, wanted.take, descending=wanted.descending)
        key = self._keys[order]
        if order == "worker_id":
            # Bits cannot rank workers, whose numbers are not in order of their names. They are few: one by one.
            if self._workers is None:
                self._workers = dict(_values(key, key.present))
            workers = connection.execute("SELECT worker_id FROM worker ORDER BY name").fetchall()
            groups = [self._workers[worker] for (worker,) in workers if worker in self._workers]
            return _grouped(rows, groups, rows - key.present, wanted)
        having = rows & key.present
        first, last = min(wanted.offset, len(having)), min(wanted.end, len(having))
        if wanted.descending:
            first, last = len(having) - last, len(having) - first
        try:
            ids = _ranked(connection, key, having, first, last, key.bits()) if first < last else []
        except _TooManyShareError:
            return None
        if wanted.descending:
            ids.reverse()
        rest = wanted.take - len(ids)
        if rest:
            ids += _cut(rows - key.present, max(0, wanted.offset - len(having)), rest, descending=wanted.descending)
        return ids

    def _rows(self, connection: sqlite3.Connection, wanted: Wanted) -> BitMap64:
        """The selected executions inside the window; remembered, since pages of one selection follow each other."""
        parts = tuple([(part.counters.key, part.statuses) for part in wanted.selection.parts])
        asked = (parts, wanted.after_us, wanted.before_us)
        return self._selected.used(asked, lambda: self._selection(connection, wanted))

    def _selection(self, connection: sqlite3.Connection, wanted: Wanted) -> BitMap64:
        rows = BitMap64()
        for part in wanted.selection.parts:
            rows |= self._part(part)
        return rows & self._window(connection, wanted) if wanted.is_windowed else rows

    def _part(self, part: Part) -> BitMap64:
        status = self._keys["status"]
        rows = status.present
        if part.statuses != ALL_STATUSES:
            rows = BitMap64.union(*map(status.plane, part.statuses))
        return rows if part.names is None else rows & self._names[part.counters.key].rows

    def _window(self, connection: sqlite3.Connection, wanted: Wanted) -> BitMap64:
        """The executions that start inside the window: whole hours from the planes, the edges from an index.

        For example, 09:20 to 11:40 takes the hour from 10:00 from the planes, and the rest from the index.
        """
        key = self._keys["started_at"]
        first_us, last_us = wanted.window
        rows = key.present
        edges: list[tuple[int, int]] = []
        if wanted.before_us is not None:
            # The planes know only hours. Hours before this one lie inside; this hour's part of the window is in an
            # index.
            hour = hour_of(last_us + 1)
            rows = _below(key, rows, hour)
            edges.append((max(first_us, hour_begins_us(hour)), last_us))
        if wanted.after_us is not None:
            # The first hour that lies inside as a whole; the part of the window before it comes from the index.
            hour = hour_of(first_us - 1) + 1
            rows = rows - _below(key, key.present, hour)
            edges.append((first_us, min(last_us, hour_begins_us(hour) - 1)))
        sql = "SELECT id FROM execution INDEXED BY execution_started WHERE effective_us BETWEEN ? AND ?"
        for edge in edges:
            rows |= BitMap64([row_id for (row_id,) in connection.execute(sql, edge)])
        return rows


def _kinds(order: str, wanted: Wanted) -> list[str]:
    kinds = ["status"]
    if wanted.is_windowed:
        kinds.append("started_at")
    return kinds if order == "id" else [*kinds, order]


def _are_near(connection: sqlite3.Connection, everything: int) -> bool:
    """Whether no id is negative (recorders never write one) and the ids lie close enough together for few segments."""
    # With ids far apart (a store loaded with its old ids), segments would hold few executions but cost a look-up each.
    most = (everything + SLOTS) // FEWEST
    # Two subqueries: SQLite seeks to one end of the table for each, but scans for min() and max() together.
    sql = "SELECT (SELECT min(id) FROM execution), (SELECT max(id) FROM execution)"
    first, last = connection.execute(sql).fetchone()
    if first < 0:
        return False
    if segment_of(last) - segment_of(first) < most:
        return True
    # A few outlying ids (2^40, say) stretch the range without adding segments, so count the segments, up to the limit.
    return sum(1 for _ in islice(segments_of(connection), most + 1)) <= most


class _TooManyShareError(Exception):
    """More executions share a code than `MOST_READ`."""


def _ranked(
    connection: sqlite3.Connection, key: Keyed, rows: BitMap64, first: int, last: int, bits: list[int]
) -> list[int]:
    """The ids at positions `first` to `last` in ascending order of the key, ties by id.

    For example, positions 100 to 150 of 1,000 executions, 600 of which lack the highest bit: all of the page lies among
    those 600, at the same positions. Of these, 120 lack the next bit: the page straddles it, so positions 100 to 120 of
    the 120 come first, then positions 0 to 30 of the other 480.
    """
    for done, bit in enumerate(bits, 1):
        if len(rows) <= costs.FEW:
            break
        # One pass splits the rows; counting first and splitting afterwards would take two.
        ones = rows & key.planes[bit]
        zeros = len(rows) - len(ones)
        # Nearly always the whole page lies on one side of the bit. Only a page that straddles it looks at both sides.
        if last <= zeros:
            rows = rows - ones
        elif first >= zeros:
            rows, first, last = ones, first - zeros, last - zeros
        else:
            low = _ranked(connection, key, rows - ones, first, zeros, bits[done:])
            return low + _ranked(connection, key, ones, 0, last - zeros, bits[done:])
    # Executions that share a whole code may still differ in the key (a minute, three characters): the rows decide.
    if len(rows) <= costs.FEW or key.name not in _EXACT:
        rows_in_order = _sorted(connection, COLUMNS[key.name], rows)
        return rows_in_order[first:last]
    return list(rows[first:last])


def _sorted(connection: sqlite3.Connection, column: str, rows: BitMap64) -> list[int]:
    """The ids in order of a column, ties by id; reads one row for each."""
    if len(rows) > MOST_READ:
        raise _TooManyShareError
    keyed: list[tuple[int | str, int]] = []
    for some in in_chunks(list(rows)):
        marks = ",".join("?" * len(some))
        keyed += connection.execute(f"SELECT {column}, id FROM execution WHERE id IN ({marks})", some)
    return [row_id for _, row_id in sorted(keyed)]


def _below(key: Keyed, rows: BitMap64, code: int) -> BitMap64:
    """The executions among `rows` whose code is lower than `code`.

    A code is lower if it has a 0 at the first bit, from the highest, where the two differ. For example, below 101:
    codes 0xx, which differ at the highest bit, and code 100, which differs at the last.
    """
    equal, found = rows, BitMap64()
    # Over every bit that a code can have: `code` may have bits that no execution has.
    for bit in range(PRESENT - 1, -1, -1):
        plane = key.planes.get(bit)
        if code >> bit & 1:
            found |= equal if plane is None else equal - plane
            equal = BitMap64() if plane is None else equal & plane
        elif plane is not None:
            equal = equal - plane
        if not equal:
            break
    return found


def _values(key: Keyed, rows: BitMap64) -> Iterator[tuple[int, BitMap64]]:
    """Each code that occurs among `rows`, in ascending order, with its executions."""
    return _split(key, rows, key.bits(), 0)


def _split(key: Keyed, rows: BitMap64, bits: list[int], code: int) -> Iterator[tuple[int, BitMap64]]:
    if not rows:
        return
    if not bits:
        yield code, rows
        return
    plane = key.planes[bits[0]]
    yield from _split(key, rows - plane, bits[1:], code)
    yield from _split(key, rows & plane, bits[1:], code | 1 << bits[0])


def _grouped(rows: BitMap64, groups: list[BitMap64], rest: BitMap64, wanted: Wanted) -> list[int]:
    """A page of consecutive groups, ids in order within each; `rest` comes last in both directions."""
    ordered = groups[::-1] if wanted.descending else groups
    found: list[int] = []
    skip = wanted.offset
    for group in [*ordered, rest]:
        count = rows.intersection_cardinality(group)
        if count > skip:
            found += _cut(rows & group, skip, wanted.take - len(found), descending=wanted.descending)
        skip = max(0, skip - count)
        if len(found) == wanted.take:
            break
    return found


def _cut(rows: BitMap64, skip: int, take: int, *, descending: bool) -> list[int]:
    """The next `take` ids in order, after the first `skip`."""
    if not descending:
        return list(rows[skip : skip + take])
    # Bitmaps ascend, so a descending page is a slice counted from the end; only that slice is reversed.
    end = len(rows) - skip
    return list(rows[max(0, end - take) : end])[::-1]
