"""Taking the history out of a store: `export` and `iter_executions`, oldest first, with the filters of the lists.

What is pruned and how is in `jobstore.recording.prune`; `Recorder.prune` is the way to it.
"""

from __future__ import annotations

from functools import partial
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TextIO

import orjson

from jobstore.engine.executions import select_all, select_of_job
from jobstore.engine.fires import Fires
from jobstore.engine.memory import Memory
from jobstore.language.csvtext import BOM, csv_line
from jobstore.language.errors import InvalidParameter, shown
from jobstore.language.instants import MAX_US, MIN_US
from jobstore.language.models import EXECUTION_FIELDS
from jobstore.language.parameters import GET_JOB_EXECUTIONS, LIST_JOB_EXECUTIONS
from jobstore.language.query import JobExecutionsQuery
from jobstore.storage.connection import driver_errors, open_reader
from jobstore.storage.documents import execution_document
from jobstore.storage.rows import fetch_executions, status_source

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from jobstore.engine.selection import Selection
    from jobstore.language.models import ExecutionDocument
    from jobstore.language.query import ExecutionsQuery
    from jobstore.store import JobStore

    Key = tuple[int, int]
    """Effective start and id: the order of an export."""

CHUNK: Final = 500
MOST_WALKS: Final = 250
"""Index ranges that are merged; beyond, one walk over all executions in order is quicker."""
JSON_FIELDS: Final = frozenset({"result", "parameters_snapshot"})
FORMS: Final = ("jsonl", "csv", "excel")


def export(
    store: JobStore,
    out: TextIO,
    *,
    form: str = "jsonl",
    progress: Callable[[int], None] | None = None,
    **filters: Any,
) -> int:
    """Writes executions to `out`, oldest first, and returns how many.

    Args:
        store: where from; all of it is from one snapshot.
        out: an open text file; in CSV give it ``newline=""``.
        form: ``jsonl``, a document a line, or ``csv``, a header and the thirteen fields, ``result`` and
            ``parameters_snapshot`` as JSON and null as nothing; ``excel`` is CSV that Excel knows for UTF-8, with
            an apostrophe before text that a spreadsheet would run as a formula.
        progress: is called with the number of further executions that were written.
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
    """Writes the documents in a form, and returns how many."""
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
    """The documents of all executions that the filters of the lists admit, by effective start and id, oldest first.

    They come from one snapshot on a connection of its own, which is held until the last one is taken or the
    iterator is closed. The filters are checked at once, not when the first document is asked for.

    Raises:
        InvalidParameter: a filter breaks its rule.
        NotFound: there is no job `job_id`.
        StoreError: the file cannot be read.
    """
    filters = {"search": search, "after": after, "before": before, "status": status, "trace_id": trace_id}
    if job_id is None:
        return iter_query(store, LIST_JOB_EXECUTIONS.query(filters))
    return iter_query(store, GET_JOB_EXECUTIONS.query({"job_id": job_id, **filters}))


def iter_query(store: JobStore, query: ExecutionsQuery) -> Iterator[ExecutionDocument]:
    """The same for a query value; its page and its order are left alone."""
    found = _stream(store.path, query)
    next(found)  # up to the point where the job is known to be there
    return found  # type: ignore[return-value]  # what is left are documents


def _stream(path: Path, query: ExecutionsQuery) -> Iterator[ExecutionDocument | None]:
    """First None, when the selection is made, then the documents."""
    with driver_errors(path):
        connection = open_reader(path)
        try:
            connection.execute("BEGIN")
            memory = Memory(Fires("UTC"))
            memory.sync(connection)
            if isinstance(query, JobExecutionsQuery):
                number = memory.job_number(connection, query.job_id)
                selection = select_of_job(connection, memory, query, number)
            else:
                selection = select_all(connection, memory, query)
            yield None
            keys = _keys(connection, selection, query)
            while chunk := [number for _, number in islice(keys, CHUNK)]:
                yield from map(execution_document, fetch_executions(connection, chunk))
        finally:
            connection.close()


def _keys(connection: sqlite3.Connection, selection: Selection, query: ExecutionsQuery) -> Iterator[Key]:
    """The keys of what is selected, in order: of few names or statuses by their ranges, else by one walk."""
    window = (
        MIN_US if query.after_us is None else query.after_us,
        MAX_US if query.before_us is None else query.before_us,
    )
    if query.trace_id is not None:
        return _of_trace(connection, selection, query.trace_id, window)
    ranges = list(islice(_ranges(selection), MOST_WALKS + 1))
    if len(ranges) > MOST_WALKS:
        return _of_all(connection, selection, window)
    return merge(*(_of_range(connection, name_id, status, window) for name_id, status in ranges))


def _ranges(selection: Selection) -> Iterator[tuple[int | None, int]]:
    """The index ranges that make up a selection: a status, of every name or of one."""
    for part in selection.parts:
        for name_id in [None] if part.names is None else part.names:
            for status in part.statuses:
                yield name_id, status


def _of_range(connection: sqlite3.Connection, name_id: int | None, status: int, window: Key) -> Iterable[Key]:
    """One range of an index that is in the order of the export."""
    source, values = status_source(status), tuple[int, ...](window)
    if name_id is not None:
        source, values = f"execution_name_started WHERE name_id = ? AND status = {status}", (name_id, *window)
    return connection.execute(
        f"""
        SELECT effective_us, id FROM execution INDEXED BY {source} AND effective_us BETWEEN ? AND ?
        ORDER BY effective_us, id
        """,
        values,
    )


def _of_all(connection: sqlite3.Connection, selection: Selection, window: Key) -> Iterator[Key]:
    """All executions in order, through the filter."""
    walk = connection.execute(
        """
        SELECT effective_us, id, name_id, status FROM execution
        WHERE effective_us BETWEEN ? AND ? ORDER BY effective_us, id
        """,
        window,
    )
    return ((start_us, number) for start_us, number, name_id, status in walk if selection.admits(name_id, status))


def _of_trace(connection: sqlite3.Connection, selection: Selection, trace_id: str, window: Key) -> Iterator[Key]:
    """A trace has few executions: they are gathered and sorted."""
    rows = connection.execute(
        """
        SELECT effective_us, id, name_id, status FROM execution
        WHERE trace_id = ? AND effective_us BETWEEN ? AND ?
        """,
        (trace_id, *window),
    )
    return iter(sorted((start_us, number) for start_us, number, name_id, status in rows
                       if selection.admits(name_id, status)))  # fmt: skip


def _write_lines(out: TextIO, documents: list[ExecutionDocument]) -> None:
    lines = [orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE) for document in documents]
    out.write(b"".join(lines).decode())


def _write_rows(out: TextIO, documents: list[ExecutionDocument], *, for_spreadsheet: bool) -> None:
    for document in documents:
        cells = [_cell(name, value) for name, value in document.items()]
        out.write(csv_line(cells, is_for_spreadsheet=for_spreadsheet))


def _cell(name: str, value: object) -> object:
    """JSON for the two fields that hold any value."""
    return orjson.dumps(value).decode() if name in JSON_FIELDS and value is not None else value
