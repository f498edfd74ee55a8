"""Filling a new file in bulk: bare tables first, then indexes, counters and triggers once at the end."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final

from jobstore.engine.schema import finish_tables
from jobstore.engine.writing import apply_schema, write_settings
from jobstore.errors import InvalidRecord, InvalidSchedule
from jobstore.instants import instant_us
from jobstore.records import Job, execution_from_document, job_from_document
from jobstore.search import fold
from jobstore.values import checked_keys, checked_name, checked_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    Progress = Callable[[int], None]
    Placed = Iterable[tuple[int, Any]]
    """Documents with their place in the source, for messages."""

CHUNK: Final = 4_000
"""Executions that are read before they are written together."""
SHARED_PARAMETERS: Final = 100_000
"""Distinct parameters that are kept once each; those that come later stand in their execution."""
SHARED_CHARACTERS: Final = 4096
CACHE_KIB: Final = 128 * 1024
STORE_KEYS: Final = dict.fromkeys(("timezone", "next_number", "next_execution_id")).keys()

_INSERT_JOB: Final = f"INSERT INTO job (number, {', '.join(Job._fields)}) VALUES ({'?, ' * len(Job._fields)}?)"
_INSERT_EXECUTION: Final = f"""
INSERT INTO execution (
    id, name_id, status, effective_us, started_by, created_us, completed_us, duration_ms, worker_id,
    parameter_set_id, parameters, trace_id, result, error
) VALUES ({"?, " * 13}?)
"""


class Loader:
    """Fills a file that nobody else sees; what its dictionaries hold is written at the end."""

    def __init__(self, making: Path) -> None:
        self._connection = sqlite3.connect(f"{making.as_uri()}?mode=rwc", uri=True, isolation_level=None)
        _make_bare_tables(self._connection)
        self._store: Mapping[str, Any] | None = None
        self._numbers_by_name: dict[str, int] = {}
        self._names_by_number: dict[int, str] = {}
        self._free_numbers = count(1)
        self._last_number = 0
        self._last_id = 0
        self._names: list[tuple[int | None, str]] = []
        self._keys_by_reference: dict[tuple[int | None, str | None], int] = {}
        self._keys_by_name: dict[tuple[int | None, str], int] = {}
        self._workers: dict[str | None, int | None] = {None: None}
        self._sets: dict[str, int] = {}

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()

    def add(self, kind: str, documents: Placed, where: str, progress: Progress | None) -> None:
        """Takes neighbours of one kind: ``store``, ``job`` or ``execution``."""
        if kind == "execution":
            self.add_executions(documents, where, progress)
        elif kind == "job":
            self.add_jobs(documents, where, progress)
        else:
            for place, document in documents:
                self.set_store(document, where.format(place))

    def set_store(self, document: object, where: str = "the document") -> None:
        """Takes what the file knows beside its two lists."""
        if self._store is not None:
            raise InvalidRecord(f"{where}: the store is described already")
        with _Place(where):
            self._store = _checked_store(document)

    def add_jobs(self, documents: Placed, where: str, progress: Progress | None) -> None:
        """Takes jobs; those without a number get one after all that bring theirs are known."""
        now_us = instant_us(datetime.now(UTC))
        parsed = []
        for place, document in documents:
            with _Place(where.format(place)):
                number, job = job_from_document(document, now_us)
                self._know_job(number, job.name)
                parsed.append((number, job))
        rows = [(self._number_of(number, job.name), *job) for number, job in parsed]
        self._connection.executemany(_INSERT_JOB, rows)
        if progress is not None:
            progress(len(rows))

    def add_executions(self, documents: Placed, where: str, progress: Progress | None) -> None:
        """Takes executions as they stream by."""
        stream = iter(documents)
        while chunk := list(islice(stream, CHUNK)):
            rows = self._execution_rows(chunk, where)
            before = self._connection.total_changes
            try:
                self._connection.executemany(_INSERT_EXECUTION, rows)
            except sqlite3.IntegrityError:  # the one way in which rows that were checked can fail
                failed = self._connection.total_changes - before
                place, number = chunk[failed][0], rows[failed][0]
                raise InvalidRecord(f"{where.format(place)}: there is an execution {number} already") from None
            if progress is not None:
                progress(len(chunk))

    def finish(self) -> None:
        """Writes the dictionaries, the counters, the indexes and the triggers."""
        store = self._store or {"timezone": "UTC"}
        names, last_number = self._numbered_names(max(store.get("next_number", 1) - 1, self._last_number))
        self._connection.executemany("INSERT INTO job_name VALUES (?, ?, ?, ?)", names)
        workers = [(key, worker) for worker, key in self._workers.items() if key is not None]
        self._connection.executemany("INSERT INTO worker VALUES (?, ?)", workers)
        self._connection.executemany(
            "INSERT INTO parameter_set VALUES (?, ?)", ((key, text) for text, key in self._sets.items())
        )
        self._set_sequence("job", last_number)
        self._set_sequence("execution", max(store.get("next_execution_id", 1) - 1, self._last_id))
        write_settings(self._connection, store["timezone"])
        finish_tables(self._connection, counted=True)
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA locking_mode = NORMAL")
        self._connection.execute("PRAGMA journal_mode = WAL")

    # --- jobs

    def _know_job(self, number: int | None, name: str) -> None:
        if name in self._numbers_by_name:
            raise InvalidRecord(f"there are two jobs {name}; a name is given once")
        if number in self._names_by_number:
            raise InvalidRecord(f"number {number} is that of the job {self._names_by_number[number]} already")
        self._numbers_by_name[name] = 0
        if number is not None:
            self._name_job(number, name)

    def _number_of(self, number: int | None, name: str) -> int:
        if number is None:
            number = next(free for free in self._free_numbers if free not in self._names_by_number)
            self._name_job(number, name)
        return number

    def _name_job(self, number: int, name: str) -> None:
        self._numbers_by_name[name] = number
        self._names_by_number[number] = name
        self._last_number = max(self._last_number, number)

    # --- executions

    def _execution_rows(self, chunk: list[tuple[int, Any]], where: str) -> list[tuple[Any, ...]]:
        """The rows of some documents, their words turned into keys."""
        rows, place = [], 0
        name_keys, workers, sets = self._keys_by_reference, self._workers, self._sets
        try:
            for place, document in chunk:  # noqa: B007 - the error names the place
                (
                    number, job_number, name, status, effective_us, is_started, created_us, completed_us,
                    duration_ms, worker, parameters, trace_id, result, error,
                ) = execution_from_document(document)  # fmt: skip
                if number is None:
                    number = self._last_id + 1
                self._last_id = max(self._last_id, number)
                key = name_keys.get((job_number, name)) or self._name_key(job_number, name)
                if worker not in workers:
                    workers[worker] = len(workers)
                shared = None
                if parameters is not None:
                    shared = sets.get(parameters) or self._set_key(parameters)
                    if shared is not None:
                        parameters = None
                rows.append((
                    number, key, status, effective_us, is_started, created_us, completed_us, duration_ms,
                    workers[worker], shared, parameters, trace_id, result, error,
                ))  # fmt: skip
        except InvalidRecord as error:
            raise InvalidRecord(f"{where.format(place)}: {error}") from None
        return rows

    def _name_key(self, job_number: int | None, job_name: object) -> int:
        """The key of a job and its name at the time, which an execution gives both or one of."""
        if job_name is None and job_number is None:
            raise InvalidRecord("an execution needs job_name or job_id; both are missing")
        name = self._names_by_number.get(job_number or 0) if job_name is None else checked_name(job_name, "job_name")
        if name is None:
            raise InvalidRecord(f"an execution of the job {job_number}, which is not loaded, needs its job_name")
        number = self._numbers_by_name.get(name) if job_number is None else job_number
        key = self._keys_by_name.get((number, name))
        if key is None:
            self._names.append((number, name))
            self._last_number = max(self._last_number, number or 0)
            key = self._keys_by_name[number, name] = len(self._names)
        self._keys_by_reference[job_number, None if job_name is None else name] = key
        return key

    def _set_key(self, parameters: str) -> int | None:
        if len(self._sets) >= SHARED_PARAMETERS or len(parameters) > SHARED_CHARACTERS:
            return None
        key = self._sets[parameters] = len(self._sets) + 1
        return key

    def _numbered_names(self, last_number: int) -> tuple[list[tuple[int, int, str, str]], int]:
        """The dictionary of names; removed jobs known by name alone get numbers beyond all others."""
        rows = []
        for key, (given, name) in enumerate(self._names, 1):
            number = given
            if number is None:
                last_number += 1
                number = last_number
            rows.append((key, number, name, fold(name)))
        return rows, last_number

    def _set_sequence(self, table: str, last: int) -> None:
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))


class _Place:
    """Says in an error where the document stands."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidRecord | InvalidSchedule):
            raise type(error)(f"{self._where}: {error}") from None


def _checked_store(document: object) -> dict[str, Any]:
    from jobstore.schedule import check_timezone  # noqa: PLC0415 - croniter is heavy

    given = checked_keys(document, STORE_KEYS)
    numbers = {key: checked_number(given[key], key) for key in ("next_number", "next_execution_id") if key in given}
    return {"timezone": check_timezone(given.get("timezone", "UTC")), **numbers}


def _make_bare_tables(connection: sqlite3.Connection) -> None:
    """The schema without its indexes and triggers, which cost most while rows stream in."""
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", f"cache_size = -{CACHE_KIB}"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("PRAGMA threads = 2")
    connection.execute("BEGIN IMMEDIATE")
    apply_schema(connection)
    made = "SELECT type, name FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    for kind, name in connection.execute(f"{made} AND tbl_name NOT LIKE '\\_%' ESCAPE '\\'").fetchall():
        connection.execute(f'DROP {kind} "{name}"')
