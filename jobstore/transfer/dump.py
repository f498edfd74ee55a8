"""`load` and `dump`: whole stores from documents and back, as one document or as lines that stream.

A store is built in a file beside its path, without indexes, counters or a journal. It is finished once and only then
given its name, so there is the complete store or none.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from jobstore.language.address import Address, location_of
from jobstore.language.errors import Conflict, InvalidRecord
from jobstore.language.fields import checked_keys
from jobstore.language.instants import instant_text
from jobstore.language.records import Job
from jobstore.storage.connection import Reading, driver_errors
from jobstore.storage.documents import execution_document, job_document
from jobstore.storage.folders import check_folder
from jobstore.storage.limits import TIMEOUT_SECONDS
from jobstore.storage.lock import lock_of
from jobstore.storage.rows import EXECUTION_SELECT, JOB_SELECT, fetch_timezone
from jobstore.storage.writer import (
    make_room,
    move_into_place,
    real_path,
    refuse_left_over,
    refuse_side_name,
    remove_store,
)
from jobstore.transfer.load import STORE_KEYS, FileLoader

if TYPE_CHECKING:
    import sqlite3

    from jobstore.language.address import Where
    from jobstore.transfer.load import Loader, Progress

DOCUMENT_KEYS: Final = dict.fromkeys((*STORE_KEYS, "jobs", "executions")).keys()
LINE_KEYS: Final = dict.fromkeys(("store", "job", "execution", "end")).keys()
END_LINE: Final[dict[str, Any]] = {"end": {}}
"""The last line of a dump: without it, a program that was killed in the middle would look like a smaller store."""


def load(path: Where, document: Mapping[str, Any], *, progress: Progress | None = None) -> None:
    """Build a store at `path` from ``{"jobs": [...], "executions": [...]}`` in the job API's shape.

    Either list may be any iterable and is read once, so a large history streams. Jobs without a ``number`` are numbered
    in order from 1, skipping the numbers that other jobs have. An execution without an ``id`` gets the one after the
    highest so far; one with only a ``job_name`` belongs to the loaded job of that name, or else to a removed job.
    ``timezone``, ``next_number`` and ``next_execution_id`` are as `dump` writes them. After an error there is no store.

    Args:
        path: a file that does not exist yet, or the address of a database (or a schema in it) without a store.
        document: what to build.
        progress: called with the number of further documents loaded.

    Raises:
        Conflict: a file or a store already exists at `path`.
        InvalidRecord: a document breaks a rule; the message says which one.
        InvalidSchedule: a job's schedule can never be computed.
        StoreError: the file cannot be written.
    """
    given = checked_keys(document, DOCUMENT_KEYS)
    with _new_store(path) as loader:
        loader.set_store({key: given[key] for key in STORE_KEYS if key in given})
        loader.add_jobs(enumerate(_listed(given, "jobs")), "jobs[{}]", progress)
        loader.add_executions(enumerate(_listed(given, "executions")), "executions[{}]", progress)


def load_file(path: Where, source: str | os.PathLike[str] | IO[bytes], *, progress: Progress | None = None) -> None:
    """Build a store at `path` from a file with `dump`'s document, or with JSON lines, which stream.

    Lines are ``{"store": {...}}``, ``{"job": {...}}`` and ``{"execution": {...}}``, or documents as `export` and an
    archive write them. A job must come before executions that have only its name. A dump, whose first line has
    ``next_execution_id``, must have its last line, ``{"end": {}}``, or it is not whole.

    Args:
        path: a file that does not exist yet, or the address of a database (or a schema in it) without a store.
        source: the path of the file, or the file opened for bytes.
        progress: called with the number of further documents loaded.

    Raises:
        InvalidRecord: the source is not JSON or not whole, or a document breaks a rule; the message says which one.
        Conflict: a file or a store already exists at `path`.
        StoreError: the file cannot be written.
    """
    if isinstance(source, str | os.PathLike):
        with _opened(Path(source)) as lines:
            _load_lines(path, lines, progress)
    else:
        _load_lines(path, source, progress)


def dump(path: Where) -> dict[str, Any]:
    """The document from which `load` builds the same store: its settings, all jobs and all executions.

    Raises:
        StoreError: the file cannot be read.
    """
    document: dict[str, Any] = {"jobs": [], "executions": []}
    for line in dump_lines(path):
        ((kind, value),) = line.items()
        if kind == "store":
            document = {**value, **document}
        else:
            document[f"{kind}s"].append(value)
    return document


def dump_lines(path: Where) -> Iterator[dict[str, Any]]:
    """The contents of `dump` as lines, from one snapshot: the store, its jobs by number, its executions by id.

    Raises:
        StoreError: the file cannot be read.
    """
    location = location_of(path)
    if isinstance(location, Address):
        from jobstore.transfer.server import dump_lines as dump_server  # its driver comes with an extra

        yield from dump_server(location)
        return
    with Reading(location) as reading:
        yield from reading.handed_out([{"store": _store_line(reading.connection)}])
        for row in reading.rows(f"{JOB_SELECT}ORDER BY number"):
            yield {"job": job_line(Job._make(row))}
        for row in reading.rows(f"{EXECUTION_SELECT}ORDER BY e.id"):
            yield {"execution": execution_document(row)}


def _store_line(connection: sqlite3.Connection) -> dict[str, Any]:
    return {
        "timezone": fetch_timezone(connection),
        "next_number": _next(connection, "job"),
        "next_execution_id": _next(connection, "execution"),
    }


def _next(connection: sqlite3.Connection, table: str) -> int:
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return 1 if found is None else int(found[0]) + 1


def job_line(row: Job) -> dict[str, Any]:
    document = job_document(row, row.next_run_us)
    return {**document, "number": row.number, "anchor_at": instant_text(row.anchor_us)}


def _listed(given: Mapping[str, Any], key: str) -> Iterable[Any]:
    values = given.get(key, ())
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidRecord(f"{key} must be a list of documents; received a value of type {type(values).__name__}")
    return values


# --- sources --------------------------------------------------------------------------------------


@contextmanager
def _opened(source: Path) -> Iterator[IO[bytes]]:
    try:
        lines = source.open("rb")
    except (OSError, ValueError) as error:
        raise InvalidRecord(f"{source} cannot be read: {getattr(error, 'strerror', error)}") from None
    with lines:
        yield lines


def _load_lines(path: Where, source: IO[bytes], progress: Progress | None) -> None:
    """Load lines; if the first one is not a line of a dump, load the whole source as one document."""
    first = next((line for line in source if line.strip()), b"")
    if not _is_line(first):
        load(path, _json(first + source.read(), "the document"), progress=progress)
        return
    lines = enumerate(chain([first], source), 1)
    with _new_store(path) as loader:
        parsed = ((number, _json(line, f"line {number}")) for number, line in lines if line.strip())
        for kind, group in groupby(((number, *_line(value, number)) for number, value in parsed), key=itemgetter(1)):
            loader.add(kind, ((number, document) for number, _, document in group), "line {}", progress)
        loader.check_end()


def _is_line(text: bytes) -> bool:
    """Whether a text is a line of a dump or an export, and not the whole document."""
    try:
        value = _json(text, "the line")
    except InvalidRecord:
        return False
    return isinstance(value, dict) and not value.keys() <= DOCUMENT_KEYS


_MANY_DIGITS: Final = re.compile(rb"[0-9]{19}")


def _json(text: bytes, where: str) -> Any:
    """Parse JSON; integers of any size stay integers, so that too large ones are refused later."""
    try:
        # orjson turns an integer beyond 64 bits into a float.
        return json.loads(text, parse_constant=_no_constant) if _MANY_DIGITS.search(text) else orjson.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"{where} is not valid JSON: {error}") from None


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def _line(value: Any, number: int) -> tuple[str, Any]:
    """The kind and the document of a line of a dump, or of a document as exported or archived."""
    if isinstance(value, dict):
        if len(value) == 1 and value.keys() <= LINE_KEYS:
            ((kind, document),) = value.items()
            return kind, document
        for kind, fields in _DOCUMENTS:
            if value.keys() >= fields:
                return kind, value
    raise InvalidRecord(
        f'line {number} must be {{"store": ...}}, {{"job": ...}} or {{"execution": ...}}, as dump writes them, '
        "or the document of a job or an execution, as export writes it"
    )


_DOCUMENTS: Final = (("execution", {"job_name", "status"}), ("job", {"name", "job_type"}))
"""The fields by which a document of a kind is recognized."""


# --- building -------------------------------------------------------------------------------------


@contextmanager
def _new_store(path: Where) -> Iterator[Loader]:
    """Load a new store, which exists at the end of the block, and not after an error."""
    location = location_of(path)
    if isinstance(location, Address):
        from jobstore.transfer.server import new_store  # its driver comes with an extra

        with new_store(location) as loader:
            yield loader
    else:
        with _new_file(real_path(location)) as loader:
            yield loader


@contextmanager
def _new_file(file: Path) -> Iterator[Loader]:
    _refuse_taken(file)
    check_folder(file.parent)
    making = file.with_name(f".{file.name}.{secrets.token_hex(4)}.loading")
    try:
        with driver_errors(file):
            make_room(making)
            loader = FileLoader(making, file)
        try:
            yield loader
            with driver_errors(file):
                loader.finish()
        finally:
            loader.close()
        with driver_errors(file):
            _publish(making, file)
    except BaseException:
        remove_store(making)
        raise


def _publish(making: Path, file: Path) -> None:
    """Give the finished store its name, unless another file has it by now."""
    with lock_of(file).acquired(TIMEOUT_SECONDS):
        _refuse_taken(file)
        move_into_place(making, file)
        lock_of(file).share()


def _refuse_taken(file: Path) -> None:
    if os.path.lexists(file):
        raise Conflict(f"{file} already exists; choose another path, or remove the file first")
    refuse_side_name(file)
    refuse_left_over(file)
