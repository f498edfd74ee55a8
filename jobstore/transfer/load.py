"""Bulk load of a new store: bare tables first, then indexes, counters and triggers once at the end.

`Loader` turns documents into rows. `FileLoader` here writes them to a file, `jobstore.transfer.server` to a server.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from itertools import chain, count, islice, pairwise
from typing import TYPE_CHECKING, Any, Final

from jobstore.language.errors import InvalidRecord, InvalidSchedule
from jobstore.language.fields import checked_keys, checked_label, checked_name, checked_number
from jobstore.language.instants import instant_us
from jobstore.language.records import Execution, Job, execution_from_document, job_from_document
from jobstore.language.search import fold
from jobstore.storage.connection import driver_errors, open_file
from jobstore.storage.schema import finish_tables
from jobstore.storage.segments import save_all_segments
from jobstore.storage.writer import INCREMENTAL, apply_schema, write_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    Progress = Callable[[int], None]
    Placed = Iterable[tuple[int, Any]]
    """Documents with their place in the source, for error messages."""

CHUNK: Final = 4096
"""Executions that are written together."""
TOGETHER: Final = 64
"""Rows per statement: their values must not exceed the 999 that every build of SQLite accepts."""
SHARED_PARAMETERS: Final = 100_000
"""The most distinct parameters that are stored once each; later ones are stored in their executions."""
SHARED_CHARACTERS: Final = 4096
CACHE_KIB: Final = 128 * 1024
STORE_KEYS: Final = dict.fromkeys(("timezone", "next_number", "next_execution_id")).keys()

EXECUTION_COLUMNS: Final = (
    "id", "name_id", "status", "effective_us", "started_by", "created_us", "completed_us", "duration_ms", "worker_id",
    "parameter_set_id", "parameters", "trace_id", "result", "error",
)  # fmt: skip
_INSERT_EXECUTION: Final = f"INSERT INTO execution ({', '.join(EXECUTION_COLUMNS)}) VALUES ({'?, ' * 13}?)"
_INSERT_TOGETHER: Final = _INSERT_EXECUTION + f", ({'?, ' * 13}?)" * (TOGETHER - 1)


class Loader(ABC):
    """Makes the rows of a store that nobody sees yet; the dictionaries are kept in memory and written at the end."""

    def __init__(self) -> None:
        self._store: Mapping[str, Any] | None = None
        self._numbers_by_name: dict[str, int] = {}
        self._names_by_number: dict[int, str] = {}
        self._free_numbers = count(1)
        self._numbered_here: set[str] = set()
        self._has_ended = False
        self._last_number = 0
        self._last_id = 0
        self._name_keys = _Keys(self._name_key)
        self._keys_by_name: dict[tuple[int | None, str], int] = {}
        self._worker_keys = _Keys(self._worker_key, {None: None})
        self._sets: dict[str, int] = {}

    @abstractmethod
    def close(self) -> None:
        """Close the connection; an unfinished store is lost."""

    @abstractmethod
    def errors(self) -> AbstractContextManager[None]:
        """Turn the driver's errors into ours."""

    @abstractmethod
    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write the rows of a small table."""

    @abstractmethod
    def insert_executions(self, rows: list[tuple[Any, ...]], *, is_new: bool) -> int | None:
        """Write executions; the index of the first whose id exists already, else None. With `is_new` none exists."""

    @abstractmethod
    def complete(self, timezone: str, last_number: int, last_id: int) -> None:
        """Add settings, counters, indexes and triggers, set the last numbers given, and commit."""

    def add(self, kind: str, documents: Placed, where: str, progress: Progress | None) -> None:
        """Add consecutive documents of one kind: ``store``, ``job`` or ``execution``; or note a dump's ``end``."""
        if kind == "execution":
            self.add_executions(documents, where, progress)
        elif kind == "job":
            self.add_jobs(documents, where, progress)
        elif kind == "end":
            self._has_ended = bool(list(documents))
        else:
            for place, document in documents:
                self.set_store(document, where, place)

    def check_end(self) -> None:
        """Refuse the lines of a dump that was cut off."""
        if "next_execution_id" in (self._store or {}) and not self._has_ended:
            raise InvalidRecord('the dump ends early, without its last line, {"end": {}}; dump the store again')

    def set_store(self, document: object, where: str = "the document", place: int = 0) -> None:
        """Take the description of the store: everything beside its two lists."""
        with _Place(where, place):
            if self._store is not None:
                raise InvalidRecord('there is a second {"store": ...} line')
            self._store = _checked_store(document)

    def add_jobs(self, documents: Placed, where: str, progress: Progress | None) -> None:
        """Add jobs; those without a number get one when the numbers of all others are known."""
        now_us = instant_us(datetime.now(UTC))
        jobs = []
        place = _Place(where)
        for place.number, document in documents:
            with place:
                job = job_from_document(document, now_us)
                self._know_job(job.number, job.name)
            jobs.append(job)
        with self.errors():
            self.insert("job", Job._fields, (self._numbered(job) for job in jobs))
        if progress is not None:
            progress(len(jobs))

    def add_executions(self, documents: Placed, where: str, progress: Progress | None) -> None:
        stream = iter(documents)
        while chunk := _chunk(stream):
            self._insert_executions(chunk, where)
            if progress is not None:
                progress(len(chunk))

    def finish(self) -> None:
        """Write the dictionaries and complete the store."""
        store = self._store or {"timezone": "UTC"}
        names, last_number = self._numbered_names(max(store.get("next_number", 1) - 1, self._last_number))
        self.insert("job_name", ("name_id", "job_number", "name", "folded"), names)
        workers = [(key, worker) for worker, key in self._worker_keys.items() if key is not None]
        self.insert("worker", ("worker_id", "name"), workers)
        sets = ((key, text) for text, key in self._sets.items())
        self.insert("parameter_set", ("parameter_set_id", "parameters"), sets)
        last_id = max(store.get("next_execution_id", 1) - 1, self._last_id)
        self.complete(store["timezone"], last_number, last_id)

    # --- jobs

    def _know_job(self, number: int, name: str) -> None:
        if name in self._numbers_by_name:
            raise InvalidRecord(f"two jobs have the name {name}; rename one")
        if number in self._names_by_number:
            raise InvalidRecord(f"number {number} already belongs to the job {self._names_by_number[number]}")
        self._numbers_by_name[name] = 0
        if number:
            self._name_job(number, name)

    def _numbered(self, job: Job) -> Job:
        if job.number:
            return job
        self._numbered_here.add(job.name)
        number = next(free for free in self._free_numbers if free not in self._names_by_number)
        self._name_job(number, job.name)
        return job._replace(number=number)

    def _name_job(self, number: int, name: str) -> None:
        self._numbers_by_name[name] = number
        self._names_by_number[number] = name
        self._last_number = max(self._last_number, number)

    # --- executions

    def _insert_executions(self, chunk: dict[int, Any], where: str) -> None:
        last_id = self._last_id
        rows = self._rows(chunk, where)
        is_new = rows[0][0] > last_id and all(one[0] < next_one[0] for one, next_one in pairwise(rows))
        with self.errors():
            failed = self.insert_executions(rows, is_new=is_new)
        if failed is not None:
            place = [*chunk][failed]
            raise InvalidRecord(f"{where.format(place)}: the id {rows[failed][0]} is already in use")

    def _rows(self, chunk: dict[int, Any], where: str) -> list[tuple[Any, ...]]:
        place = _Place(where)
        rows = []
        for place.number, document in chunk.items():
            with place:
                rows.append(self._row(execution_from_document(document)))
        return rows

    def _row(self, given: Execution) -> tuple[Any, ...]:
        number = self._last_id + 1 if given.id is None else given.id
        self._last_id = max(self._last_id, number)
        name_key = self._name_keys[given.job_number, given.job_name]
        shared = None
        if given.parameters is not None:
            shared = self._sets.get(given.parameters) or self._set_key(given.parameters)
        return (
            number, name_key, given.status, given.effective_us, given.is_started, given.created_us,
            given.completed_us, given.duration_ms, self._worker_keys[given.worker], shared,
            given.parameters if shared is None else None, given.trace_id, given.result, given.error,
        )  # fmt: skip

    def _name_key(self, reference: tuple[int | str | None, object]) -> int:
        """The key of a job and its name at the time; an execution gives both or one of them."""
        job_id, job_name = reference
        job_number = None if job_id is None else checked_number(job_id, "job_id")
        if job_name is None and job_number is None:
            raise InvalidRecord("an execution needs job_name or job_id; both are missing")
        name = self._names_by_number.get(job_number or 0) if job_name is None else checked_name(job_name, "job_name")
        if name is None:
            raise InvalidRecord(f"an execution of the job {job_number}, which is not loaded, needs its job_name")
        # A job_id of another store says nothing about jobs that got their numbers here.
        owner = self._names_by_number.get(job_number or 0)
        is_here = job_number is None or not self._numbered_here.isdisjoint({name, owner})
        number = self._numbers_by_name.get(name) if is_here else job_number
        key = self._keys_by_name.get((number, name))
        if key is None:
            self._last_number = max(self._last_number, number or 0)
            key = self._keys_by_name[number, name] = len(self._keys_by_name) + 1
        return key

    def _worker_key(self, worker: str) -> int:
        checked_label(worker, "worker_id")
        return len(self._worker_keys)

    def _set_key(self, parameters: str) -> int | None:
        if len(self._sets) >= SHARED_PARAMETERS or len(parameters) > SHARED_CHARACTERS:
            return None
        key = self._sets[parameters] = len(self._sets) + 1
        return key

    def _numbered_names(self, last_number: int) -> tuple[list[tuple[int, int, str, str]], int]:
        """The rows of job_name; removed jobs known only by name get numbers beyond all others."""
        rows = []
        for (given, name), key in self._keys_by_name.items():
            number = given
            if number is None:
                last_number += 1
                number = last_number
            rows.append((key, number, name, fold(name)))
        return rows, last_number


class FileLoader(Loader):
    """Fills a file."""

    def __init__(self, making: Path, file: Path) -> None:
        """Create bare tables in `making`; error messages name `file`."""
        super().__init__()
        self._file = file
        self._connection = open_file(making, "mode=rwc")
        _make_bare_tables(self._connection)

    def close(self) -> None:
        self._connection.close()

    def errors(self) -> AbstractContextManager[None]:
        return driver_errors(self._file)

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        marks = f"{'?, ' * (len(columns) - 1)}?"
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def insert_executions(self, rows: list[tuple[Any, ...]], *, is_new: bool) -> int | None:
        """Write many rows per statement if no id can exist already, else one by one to find the one that does."""
        whole = len(rows) // TOGETHER * TOGETHER if is_new else 0
        for begin in range(0, whole, TOGETHER):
            values = chain.from_iterable(rows[begin : begin + TOGETHER])
            self._connection.execute(_INSERT_TOGETHER, tuple(values))
        before = self._connection.total_changes - whole
        try:
            self._connection.executemany(_INSERT_EXECUTION, rows[whole:])
        except sqlite3.IntegrityError:  # an id twice: the only rule that checked rows can break
            return self._connection.total_changes - before
        return None

    def complete(self, timezone: str, last_number: int, last_id: int) -> None:
        """Finish the file, and switch it to WAL mode."""
        for table, last in (("job", last_number), ("execution", last_id)):
            self._connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))
        write_settings(self._connection, timezone)
        finish_tables(self._connection, counted=True)
        save_all_segments(self._connection)
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA locking_mode = NORMAL")
        self._connection.execute("PRAGMA journal_mode = WAL")


def _chunk(stream: Iterator[tuple[int, Any]]) -> dict[int, Any]:
    """The next documents by place. A dict, because a list of pairs would make garbage collection walk all documents."""
    return dict(islice(stream, CHUNK))


class _Keys(dict[Any, Any]):
    """A cache of dictionary keys: `ask` gives the key of a new text."""

    def __init__(self, ask: Callable[[Any], int], known: Mapping[Any, Any] | None = None) -> None:
        super().__init__(known or {})
        self._ask = ask

    def __missing__(self, word: Any) -> int:
        key = self[word] = self._ask(word)
        return key


class _Place:
    """Prefixes an error with the place of the document."""

    def __init__(self, where: str, number: int = 0) -> None:
        self._where = where
        self.number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidRecord | InvalidSchedule):
            raise type(error)(f"{self._where.format(self.number)}: {error}") from None


def _checked_store(document: object) -> dict[str, Any]:
    from jobstore.language.zones import check_timezone  # zoneinfo is slow to import

    given = checked_keys(document, STORE_KEYS)
    numbers = {key: checked_number(given[key], key) for key in ("next_number", "next_execution_id") if key in given}
    return {"timezone": check_timezone(given.get("timezone", "UTC")), **numbers}


def _make_bare_tables(connection: sqlite3.Connection) -> None:
    """Create the tables without indexes and triggers, which would slow the load most."""
    connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", f"cache_size = -{CACHE_KIB}"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("PRAGMA threads = 2")
    connection.execute("BEGIN IMMEDIATE")
    apply_schema(connection)
    made = "SELECT type, name FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    for kind, name in connection.execute(f"{made} AND tbl_name NOT LIKE '\\_%' ESCAPE '\\'").fetchall():
        connection.execute(f'DROP {kind} "{name}"')
