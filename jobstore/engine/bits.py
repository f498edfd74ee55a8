"""Digests of all executions in memory: which ones a request selects, kept exact by the change log.

What is asked for is read from the file once; chunks without a digest there (those still being written, or
written to since) are made from their rows. After that, rows that changed are looked up one by one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import reduce
from itertools import groupby
from operator import and_, or_
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from jobstore.engine import digests
from jobstore.engine.chunks import (
    about_of,
    blob_of,
    chunk_of,
    open_chunks,
    planes_of,
    rows_by_id,
    rows_of,
    sealed_chunks,
    trace_scale_of,
    worker_ranks,
)
from jobstore.engine.counters import in_chunks
from jobstore.engine.digests import CHUNK, About, Hours, Row, Sliced, TraceScale
from jobstore.engine.planes import LANES, Column, either, ends_of, joined, lanes, patch
from jobstore.engine.selection import ALL_STATUSES
from jobstore.engine.spans import Window
from jobstore.storage.schema import SEALED_FROM

if TYPE_CHECKING:
    import sqlite3
    from array import array
    from collections.abc import Callable, Iterable, Iterator

    from jobstore.engine.counters import Counters
    from jobstore.engine.planes import Planes
    from jobstore.engine.request import Request
    from jobstore.engine.selection import Part

_T = TypeVar("_T")
OPEN_ROWS = 4 * CHUNK
"""So many executions may be outside of digests; a reader makes their digests itself, some microseconds each."""
OPEN_CHUNKS = 64
MOST_CHANGED = CHUNK
"""Who asked once for a page by bits and then no more shall not remember all that changes from then on."""
NAMES_REMEMBERED = 3
"""Sets of names whose planes are kept; each is a bit for each execution."""
PLANES_KEPT = 8
"""Of other keys, when the planes of a key are read; a plane is a bit for each execution, and a key has some twenty."""
FEW_ROWS = 16
"""Names that have less than one execution in so many are looked up in their index."""
VIEWS_REMEMBERED = 1
"""Selections with their windows whose planes are kept, until something changes: for who turns pages."""
HOURS_REMEMBERED = 64
NO_SCALE = TraceScale("", "0")
BYTES = 256
"""So many workers have ranks that are bytes."""


def _breadth(column: Column) -> int:
    return len(column.planes)


class Step(NamedTuple):
    """A stretch of an order: the executions that have the same bits of a key down to a level."""

    level: int
    low: int
    """Executions that come before them."""
    runs: int
    planes: Planes


@dataclass(slots=True)
class View:
    """What a request selects."""

    planes: Planes
    ends: list[int]
    """How many there are up to the end of each piece of a plane."""
    key: str = ""
    steps: list[Step] = field(default_factory=list)
    """On the way to the page that was last found by that key; the next page begins there."""

    @property
    def count(self) -> int:
        """How many there are."""
        return self.ends[-1]


class Bits:
    """The planes of every execution; one for each connection, used by one thread at a time."""

    def __init__(self, about: dict[int, About]) -> None:
        self.chunks = sorted(about)
        """The chunks that hold executions; `Planes` are in this order."""
        self._about = [about[chunk] for chunk in self.chunks]
        self._trace_code = NO_SCALE.coder()
        self._statuses: list[Planes] = []
        self._all: Planes = []
        self._columns: OrderedDict[int, Column] = OrderedDict()
        self._ranks: list[int | None] = []
        self._hours: OrderedDict[int, Hours] = OrderedDict()
        self._names: OrderedDict[Counters, Planes] = OrderedDict()
        self._views: OrderedDict[tuple[object, ...], View] = OrderedDict()
        self._own_names: dict[int, array[int]] = {}
        """Of chunks that have no digest in the file."""
        self._changed: set[int] = set()
        self._read: dict[int, list[Row]] = {}
        """Rows of such chunks that this request has read, for the parts that are yet to be made of them."""

    # --- what a request selects

    def view(self, connection: sqlite3.Connection, request: Request) -> View:
        """The executions of a request; made once for as long as nothing changes."""
        asked = (request.selection.parts, request.after_us, request.before_us)
        view = self._views.get(asked)
        if view is None:
            planes = self._chosen(connection, request)
            view = self._views[asked] = View(planes, ends_of(planes))
            if len(self._views) > VIEWS_REMEMBERED:
                self._views.popitem(last=False)
        self._views.move_to_end(asked)
        return view

    def _chosen(self, connection: sqlite3.Connection, request: Request) -> Planes:
        parts = [self._part(connection, part) for part in request.selection.parts]
        planes = either(parts)
        if not request.is_windowed:
            return planes
        planes = planes.copy()
        window = Window(connection, request.after_us, request.before_us)
        for place, about in enumerate(self._about):
            if not window.holds(about):
                chunk, stretch = self.chunks[place], slice(place * LANES, (place + 1) * LANES)
                inside = 0 if window.is_beyond(about) else window.plane(chunk, self._hours_of(connection, chunk))
                planes[stretch] = map(and_, planes[stretch], lanes(inside))
        return planes

    def _part(self, connection: sqlite3.Connection, part: Part) -> Planes:
        if not self._statuses:
            found = self._loaded(connection, digests.STATUSES, digests.unpack_statuses, digests.statuses)
            self._statuses = [[] for _ in ALL_STATUSES]
            for chunk in found:
                for planes, plane in zip(self._statuses, chunk, strict=True):
                    planes.extend(lanes(plane))
            self._all = either(self._statuses)
        if part.statuses == ALL_STATUSES:
            return self._all if part.names is None else self._names_of(connection, part.counters)
        planes = either([self._statuses[status] for status in part.statuses])
        return planes if part.names is None else list(map(and_, planes, self._names_of(connection, part.counters)))

    def _names_of(self, connection: sqlite3.Connection, counters: Counters) -> Planes:
        planes = self._names.get(counters)
        if planes is None:
            names = counters.names or set()
            everything = sum([about.runs for about in self._about])
            is_few = counters.total(ALL_STATUSES) * FEW_ROWS < everything
            planes = self._looked_up(connection, names) if is_few else self._looked_at(connection, names)
            self._names[counters] = planes
            if len(self._names) > NAMES_REMEMBERED:
                self._names.popitem(last=False)
        self._names.move_to_end(counters)
        return planes

    def _looked_up(self, connection: sqlite3.Connection, names: set[int]) -> Planes:
        """The planes of few executions: an index entry for each."""
        ids: list[int] = []
        for some in in_chunks(names):
            marks = ",".join("?" * len(some))
            sql = f"SELECT id FROM execution INDEXED BY execution_name WHERE name_id IN ({marks})"
            ids += [row_id for (row_id,) in connection.execute(sql, some)]
        found = planes_of(ids)
        return joined(found.get(chunk, 0) for chunk in self.chunks)

    def _looked_at(self, connection: sqlite3.Connection, names: set[int]) -> Planes:
        """The planes of many: the name of every execution is looked at, some twenty million a second."""
        is_wanted = bytearray(max(names, default=0) + 1)
        for name_id in names:
            is_wanted[name_id] = 1
        planes: Planes = []
        for chunk in self.chunks:
            slots = self._own_names.get(chunk) or self._name_slots(connection, chunk)
            try:
                flags = bytes(map(is_wanted.__getitem__, slots))
            except IndexError:  # a name beyond those that are wanted
                is_wanted.extend(bytes(max(slots) + 1 - len(is_wanted)))
                flags = bytes(map(is_wanted.__getitem__, slots))
            planes += lanes(digests.plane_of(flags))
        return planes

    def _name_slots(self, connection: sqlite3.Connection, chunk: int) -> array[int]:
        data = blob_of(connection, chunk, digests.NAMES)
        if data is not None:
            return digests.unpack_slots(data)
        slots = self._own_names[chunk] = digests.names(self._rows(connection, chunk))
        return slots

    def _hours_of(self, connection: sqlite3.Connection, chunk: int) -> Hours:
        hours = self._hours.get(chunk)
        if hours is None:
            data = blob_of(connection, chunk, digests.HOURS)
            numbers = digests.hours(self._rows(connection, chunk)) if data is None else digests.unpack_slots(data)
            hours = self._hours[chunk] = Hours(numbers)
            if len(self._hours) > HOURS_REMEMBERED:
                self._hours.popitem(last=False)
        self._hours.move_to_end(chunk)
        return hours

    # --- keys

    def durations(self, connection: sqlite3.Connection) -> Column:
        """The durations."""
        keys = self._loaded(connection, digests.DURATIONS, digests.unpack_sliced, digests.durations)
        return self._column(digests.DURATIONS, lambda: Column.of(keys))

    def traces(self, connection: sqlite3.Connection) -> Column:
        """The codes of the trace ids."""

        def made() -> Column:
            self._trace_code = (trace_scale_of(connection) or NO_SCALE).coder()
            return Column.of(self._loaded(connection, digests.TRACES, digests.unpack_sliced, self._traces))

        return self._column(digests.TRACES, made)

    def _traces(self, rows: Iterable[Row]) -> Sliced:
        return digests.traces(rows, self._trace_code)

    def workers(self, connection: sqlite3.Connection) -> Column:
        """The ranks of the workers' names; made anew when there is a new worker."""

        def made() -> Column:
            self._ranks = worker_ranks(connection)
            keys = self._loaded(connection, digests.WORKERS, digests.unpack_slots, digests.workers)
            return Column.of(map(self._ranked, keys))

        return self._column(digests.WORKERS, made)

    def _ranked(self, slots: array[int]) -> Sliced:
        """The ranks of the workers of a chunk."""
        if len(self._ranks) <= BYTES:
            return digests.sliced_bytes(bytes(map(bytes([rank or 0 for rank in self._ranks]).__getitem__, slots)))
        return digests.sliced(list(map(self._ranks.__getitem__, slots)))

    def _column(self, part: int, made: Callable[[], Column]) -> Column:
        """What is remembered of a key, or is made now."""
        if part not in self._columns:
            while self._columns and sum(map(_breadth, self._columns.values())) > PLANES_KEPT:
                self._columns.popitem(last=False)
            self._columns[part] = made()
        self._columns.move_to_end(part)
        return self._columns[part]

    def _loaded(
        self,
        connection: sqlite3.Connection,
        part: int,
        unpack: Callable[[bytes], _T],
        made: Callable[[Iterable[Row]], _T],
    ) -> Iterator[_T]:
        """A part of every chunk, read or made."""
        for chunk in self.chunks:
            data = blob_of(connection, chunk, part)
            yield made(self._rows(connection, chunk)) if data is None else unpack(data)

    def _rows(self, connection: sqlite3.Connection, chunk: int) -> list[Row]:
        """The executions of a chunk that has no digest in the file."""
        if chunk not in self._read:
            self._read[chunk] = rows_of(connection, chunk)
        return self._read[chunk]

    # --- what changed

    def changed(self, row_ids: Iterable[int]) -> bool:
        """Notes executions that were added, changed or removed; False where reading all anew is less."""
        self._changed.update(row_ids)
        return len(self._changed) <= MOST_CHANGED

    def catch_up(self, connection: sqlite3.Connection) -> bool:
        """Looks up what changed since the last request; False where there is a new chunk between others."""
        self._read.clear()
        changed, self._changed = sorted(self._changed), set()
        if changed:
            self._views.clear()
        for chunk, members in groupby(changed, key=chunk_of):
            ids = list(members)
            rows = list(rows_by_id(connection, ids))
            if chunk not in self.chunks and rows:
                if chunk < self.chunks[-1]:
                    return False
                self.chunks.append(chunk)
                self._about.append(digests.about(rows))
            if chunk in self.chunks:
                self._patch(self.chunks.index(chunk), [digests.slot_of(row_id) for row_id in ids], rows)
        return True

    def _patch(self, place: int, slots: list[int], rows: list[Row]) -> None:
        """Sets what is remembered of some slots of a chunk anew."""
        touched = digests.plane_of_slots(slots)
        runs, low_us, high_us = self._about[place]
        starts = [row.effective_us for row in rows]
        self._about[place] = About(runs, min([low_us, *starts]), max([high_us, *starts]))
        if self._statuses:
            fresh = digests.statuses(rows)
            for planes, new in zip(self._statuses, fresh, strict=True):
                patch(planes, place, touched, new)
            patch(self._all, place, touched, reduce(or_, fresh))
        for counters, planes in self._names.items():
            members = [digests.slot_of(row.id) for row in rows if row.name_id in (counters.names or ())]
            patch(planes, place, touched, digests.plane_of_slots(members))
        self._patch_slots(self.chunks[place], slots, rows)
        self._patch_columns(place, touched, rows)

    def _patch_slots(self, chunk: int, slots: list[int], rows: list[Row]) -> None:
        names, hours = self._own_names.get(chunk), self._hours.get(chunk)
        if names is not None:
            for slot in slots:
                names[slot] = 0
            for row in rows:
                names[digests.slot_of(row.id)] = row.name_id
        if hours is not None:
            for row in rows:
                hours.put(digests.slot_of(row.id), digests.hour_number(row.effective_us))

    def _patch_columns(self, place: int, touched: int, rows: list[Row]) -> None:
        for part, made in ((digests.DURATIONS, digests.durations), (digests.TRACES, self._traces)):
            if part in self._columns:
                self._columns[part].patch(place, touched, made(rows))
        if digests.WORKERS in self._columns:
            if any((row.worker_id or 0) >= len(self._ranks) for row in rows):
                del self._columns[digests.WORKERS]
            else:
                codes = digests.codes(rows, lambda row: self._ranks[row.worker_id or 0])
                self._columns[digests.WORKERS].patch(place, touched, digests.sliced(codes))


def open_bits(connection: sqlite3.Connection, everything: int) -> Bits | None:
    """The digests of a file; None where there are too few of them: the file is small, or not sealed."""
    if everything < SEALED_FROM:
        return None
    about = sealed_chunks(connection)
    outside = everything - sum([one.runs for one in about.values()])
    if not 0 <= outside <= OPEN_ROWS:
        return None
    found = _with_open_chunks(connection, about)
    if found is None:
        return None
    return Bits(found)


def _with_open_chunks(connection: sqlite3.Connection, sealed: dict[int, About]) -> dict[int, About] | None:
    """Every chunk that holds executions; one look-up for each that has no digest, or for each gap between them."""
    found = dict(sealed)
    for chunk in open_chunks(connection, sealed):
        if len(found) - len(sealed) == OPEN_CHUNKS:
            return None
        found[chunk] = about_of(connection, chunk)
    return found
