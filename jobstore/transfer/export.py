"""`export` and `iter_executions`: the history of a store, oldest first, with the filters of the lists."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import orjson

from jobstore.engine.executions import select_all, select_of_job
from jobstore.language.csvtext import BOM, csv_document, csv_line
from jobstore.language.errors import InvalidParameter, StoreBusy, shown
from jobstore.language.instants import MAX_US, MIN_US
from jobstore.language.models import EXECUTION_FIELDS
from jobstore.language.parameters import GET_JOB_EXECUTIONS, LIST_JOB_EXECUTIONS
from jobstore.language.query import JobExecutionsQuery
from jobstore.storage.documents import execution_document
from jobstore.storage.rows import fetch_executions, status_source
from jobstore.storage.sidefiles import DATABASE, base_of, belongs_to

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from jobstore.engine.memory import Memory
    from jobstore.engine.selection import Selection
    from jobstore.language.address import Location
    from jobstore.language.models import ExecutionDocument
    from jobstore.language.query import ExecutionsQuery
    from jobstore.store import JobStore

    Key = tuple[int, int]
    """Effective start and id: the order of an export."""
    Window = tuple[int, int, int]
    """The executions after a key, up to an effective start."""

CHUNK: Final = 500
LOOKED_AT: Final = 2_000
"""Executions per batch if each has to be looked at; most of them may not match."""
MOST_WALKS: Final = 250
"""The most index ranges to merge; beyond that, one scan of all executions in order is faster."""
FORMS: Final = ("jsonl", "csv", "excel")


def export(
    store: JobStore,
    out: TextIO,
    *,
    form: str = "jsonl",
    progress: Callable[[int], None] | None = None,
    **filters: Any,
) -> int:
    """Write executions to `out`, oldest first, and return how many.

    Args:
        store: the store; `iter_executions` says how changes during the export count.
        out: an open text file; for CSV, open it with ``newline=""``.
        form: ``jsonl``: one document per line. ``csv``: a header and the thirteen fields, with ``result`` and
            ``parameters_snapshot`` as JSON and null as an empty cell. ``excel``: CSV that Excel recognizes as UTF-8,
            with an apostrophe before text that a spreadsheet would run as a formula.
        progress: called with the number of further executions written.
        filters: ``job_id``, ``search``, ``after``, ``before``, ``status``, ``trace_id``, as in the lists.

    Raises:
        InvalidParameter: a filter or the form breaks its rule.
        NotFound: there is no job `job_id`.
        StoreError: the file cannot be read.
    """
    if form not in FORMS:
        raise InvalidParameter(f"form must be jsonl, csv or excel; received {shown(form)}")
    return write_executions(iter_executions(store, **filters), out, form, progress)


def write_executions(
    documents: Iterator[ExecutionDocument], out: TextIO, form: str, progress: Callable[[int], None] | None
) -> int:
    written = 0
    write = _write_lines if form == "jsonl" else partial(_write_rows, for_spreadsheet=form == "excel")
    if form != "jsonl":
        out.write(f"{BOM if form == 'excel' else ''}{csv_line(EXECUTION_FIELDS)}")
    while chunk := list(islice(documents, CHUNK)):
        write(out, chunk)
        written += len(chunk)
        if progress is not None:
            progress(len(chunk))
    return written


def refuse_own_file(out: str | None, store: Location) -> None:
    """Refuse to write an export over this store or another; None is stdout.

    Raises:
        InvalidParameter: the path is the store, a file beside one, or a database.
    """
    path = Path(os.path.realpath("/dev/stdout" if out in {None, "-"} else str(out)))
    if base_of(path) or (isinstance(store, Path) and belongs_to(path, store)):
        raise InvalidParameter(f"-o must not be the store or a file beside it; received {shown(out or str(path))}")
    if _is_database(path):
        raise InvalidParameter(f"-o must not be a database; received {shown(out or str(path))}. Remove that file first")


def _is_database(path: Path) -> bool:
    with suppress(OSError):  # if it cannot be read, writing it will report that
        if path.is_file():
            with path.open("rb") as file:
                return file.read(len(DATABASE)) == DATABASE
    return False


def iter_executions(
    store: JobStore,
    *,
    job_id: str | int | None = None,
    search: str | None = None,
    after: object = None,
    before: object = None,
    status: object = None,
    trace_id: str | None = None,
) -> Iterator[ExecutionDocument]:
    """The documents of all executions that match the filters of the lists, by effective start and id, oldest first.

    They are read in batches, each from one snapshot. Between batches no lock or snapshot is held: others may record and
    prune, and the iterator may be abandoned at any point. An execution that matches throughout comes exactly once; one
    recorded after the call does not come; one that changes or is deleted meanwhile comes at most once, as its batch
    found it. The filters are checked at the call, not with the first document.

    Raises:
        InvalidParameter: a filter breaks its rule.
        NotFound: there is no job `job_id`.
        StoreBusy: another file has taken the store's path meanwhile, as after `jobstore restore`.
        StoreError: the file cannot be read.
    """
    filters = {"search": search, "after": after, "before": before, "status": status, "trace_id": trace_id}
    if job_id is None:
        return iter_query(store, LIST_JOB_EXECUTIONS.query(filters))
    return iter_query(store, GET_JOB_EXECUTIONS.query({"job_id": job_id, **filters}))


def iter_query(store: JobStore, query: ExecutionsQuery) -> Iterator[ExecutionDocument]:
    """`iter_executions` for a query value; its page and order are ignored."""
    last_id = store.read(partial(_last_id, query))
    return _documents(store, query, last_id, store.identity)


def _last_id(query: ExecutionsQuery, connection: sqlite3.Connection, memory: Memory) -> int:
    """The highest id of all executions; raises if there is no such job."""
    _selection(query, connection, memory)
    (last_id,) = connection.execute("SELECT coalesce(max(id), 0) FROM execution").fetchone()
    return int(last_id)


def _documents(store: JobStore, query: ExecutionsQuery, last_id: int, identity: object) -> Iterator[ExecutionDocument]:
    seen: Key | None = (MIN_US if query.after_us is None else query.after_us, -1)
    waiting: set[str] = set()
    while seen is not None:
        documents, seen = store.read(partial(_batch, query, seen, last_id))
        # The rest of another history would look like the rest of this one.
        if store.identity != identity:
            raise StoreBusy(f"{store.path} was replaced while its executions were read; begin again")
        for document in documents:
            if document["id"] in waiting:
                continue  # it came already, while it waited; its start moved it here
            if document["started_at"] is None:
                waiting.add(document["id"])
            yield document


def _batch(
    query: ExecutionsQuery, seen: Key, last_id: int, connection: sqlite3.Connection, memory: Memory
) -> tuple[list[ExecutionDocument], Key | None]:
    """The documents after a key, and the key to continue from (None at the end)."""
    keys, reached = _keys(connection, _selection(query, connection, memory), query, seen)
    rows = fetch_executions(connection, [number for _, number in keys if number <= last_id])
    return list(map(execution_document, rows)), reached


def _selection(query: ExecutionsQuery, connection: sqlite3.Connection, memory: Memory) -> Selection:
    if isinstance(query, JobExecutionsQuery):
        return select_of_job(connection, memory, query, memory.job_number(connection, query.job_id))
    return select_all(connection, memory, query)


def _keys(
    connection: sqlite3.Connection, selection: Selection, query: ExecutionsQuery, seen: Key
) -> tuple[list[Key], Key | None]:
    """The next selected keys, in order: merged from a few index ranges, else filtered from a scan of all."""
    window = (*seen, MAX_US if query.before_us is None else query.before_us)
    if query.trace_id is not None:
        return _of_trace(connection, selection, query.trace_id, window), None
    ranges = list(islice(selection.ranges(), MOST_WALKS + 1))
    if len(ranges) > MOST_WALKS:
        return _of_all(connection, selection, window)
    cursors = [_of_range(connection, name_id, status, window) for name_id, status in ranges]
    keys: list[Key] = list(islice(merge(*cursors), CHUNK))
    for cursor in cursors:
        cursor.close()  # an open one would hold the snapshot
    return keys, keys[-1] if len(keys) == CHUNK else None


def _of_range(connection: sqlite3.Connection, name_id: int | None, status: int, window: Window) -> sqlite3.Cursor:
    source, values = status_source(status), tuple[int, ...](window)
    if name_id is not None:
        source, values = f"execution_name_started WHERE name_id = ? AND status = {status}", (name_id, *window)
    return connection.execute(
        f"""
        SELECT effective_us, id FROM execution INDEXED BY {source} AND (effective_us, id) > (?, ?) AND effective_us <= ?
        ORDER BY effective_us, id LIMIT {CHUNK}
        """,
        values,
    )


def _of_all(connection: sqlite3.Connection, selection: Selection, window: Window) -> tuple[list[Key], Key | None]:
    """Scan all executions in order and filter them; a batch looks at a bounded number."""
    walk = connection.execute(
        """
        SELECT effective_us, id, name_id, status FROM execution
        WHERE (effective_us, id) > (?, ?) AND effective_us <= ? ORDER BY effective_us, id LIMIT ?
        """,
        (*window, LOOKED_AT),
    )
    rows = walk.fetchall()
    keys = [(start_us, number) for start_us, number, name_id, status in rows if selection.admits(name_id, status)]
    return keys, rows[-1][:2] if len(rows) == LOOKED_AT else None


def _of_trace(connection: sqlite3.Connection, selection: Selection, trace_id: str, window: Window) -> list[Key]:
    """Fetch and sort: a trace has few executions."""
    rows = connection.execute(
        """
        SELECT effective_us, id, name_id, status FROM execution
        WHERE trace_id = ? AND (effective_us, id) > (?, ?) AND effective_us <= ?
        """,
        (trace_id, *window),
    )
    return sorted((start_us, number) for start_us, number, name_id, status in rows
                  if selection.admits(name_id, status))  # fmt: skip


def _write_lines(out: TextIO, documents: list[ExecutionDocument]) -> None:
    lines = [orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE) for document in documents]
    out.write(b"".join(lines).decode())


def _write_rows(out: TextIO, documents: list[ExecutionDocument], *, for_spreadsheet: bool) -> None:
    out.writelines(
        csv_document(document, EXECUTION_FIELDS, is_for_spreadsheet=for_spreadsheet) for document in documents
    )
