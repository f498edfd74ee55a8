"""Whole stores into a PostgreSQL server and out of it: what `load`, `dump` and `check` do at an address."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import errors

from jobstore.language.errors import Conflict
from jobstore.language.search import UNICODE_VERSION
from jobstore.storage.documents import execution_document
from jobstore.storage.postgres.connection import Connection, Place, check_is_store, format_of, server_errors, translated
from jobstore.storage.postgres.schema import create_tables, finish_tables, lock_schema
from jobstore.storage.rows import EXECUTION_SELECT, JOB_SELECT, JobRow
from jobstore.transfer.load import EXECUTION_COLUMNS, Loader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from jobstore.language.address import Address

ROWS_AT_ONCE: Final = 2_000
_TAKEN: Final = re.compile(r"\(id\)=\(([0-9]+)\)")


class ServerLoader(Loader):
    """Fills the tables in one transaction, by COPY: nobody sees them before they are complete."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._place = Place(address.secret)
        self._connection = Connection(self._place)
        try:
            with self.errors():
                self._begin(address)
        except BaseException:
            self.close()
            raise

    def _begin(self, address: Address) -> None:
        lock_schema(self._connection)
        if format_of(self._connection) is not None:
            raise Conflict(
                f"There is a job store at {address} already; name another database, or another schema with "
                "options=-csearch_path%3DNAME, or drop the schema first"
            )
        self._connection.execute("SET LOCAL maintenance_work_mem = '256MB'")  # indexes are made at the end
        create_tables(self._connection)

    def close(self) -> None:
        """Ends the connection, and with it a transaction that was not committed."""
        self._connection.close()

    def errors(self) -> AbstractContextManager[None]:
        """Names the database in errors."""
        return server_errors(self._place)

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Copies rows. FREEZE: the table is as new as they are, and its pages need no second look later."""
        copy = f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FREEZE)"
        with self._connection.raw.cursor().copy(copy) as stream:
            for row in rows:
                stream.write_row(row)

    def insert_executions(self, rows: list[tuple[Any, ...]], *, is_new: bool) -> int | None:  # noqa: ARG002 - all go by COPY
        """Copies executions; where an id comes twice, the server names it."""
        try:
            self.insert("execution", EXECUTION_COLUMNS, rows)
        except errors.UniqueViolation as error:
            taken = _TAKEN.search(error.diag.message_detail or "")
            if taken is None:
                raise
            return max(place for place, row in enumerate(rows) if row[0] == int(taken[1]))
        return None

    def complete(self, timezone: str, last_number: int, last_id: int) -> None:
        """Finishes the tables and shows them."""
        settings = [("timezone", timezone), ("unicode_version", UNICODE_VERSION)]
        self._connection.executemany("INSERT INTO setting (key, value) VALUES (?, ?)", settings)
        finish_tables(self._connection, counted=True)
        for table, column, last in (("job", "number", last_number), ("execution", "id", last_id)):
            self._connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), greatest(?, 1), ?)", (last, last > 0)
            )
        self._connection.commit()


@contextmanager
def new_store(address: Address) -> Iterator[Loader]:
    """A store in the making on a server, which is there at the end of the block; after an error nothing is."""
    loader = ServerLoader(address)
    try:
        yield loader
        with loader.errors():
            loader.finish()
    finally:
        loader.close()


def dump_lines(address: Address) -> Iterator[dict[str, Any]]:
    """The lines of a dump, from one snapshot, streamed by a cursor of the server."""
    from jobstore.transfer.dump import job_line  # it knows this module

    with reading(address) as connection:
        yield {"store": _store_line(connection)}
        for row in rows_of(connection, f"{JOB_SELECT}ORDER BY number"):
            yield {"job": job_line(JobRow._make(row))}
        for row in rows_of(connection, f"{EXECUTION_SELECT}ORDER BY e.id"):
            yield {"execution": execution_document(cast("Any", row))}


@contextmanager
def reading(address: Address) -> Iterator[Connection]:
    """A connection in one snapshot of the store."""
    place = Place(address.secret)
    connection = Connection(place, is_reader=True)
    try:
        with server_errors(place):
            check_is_store(connection)
            connection.begin_snapshot()
            yield connection
    finally:
        connection.close()


def rows_of(connection: Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement, of which a few thousand at a time are here."""
    with connection.raw.cursor(name="jobstore_rows") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(translated(sql))
        yield from cursor


def _store_line(connection: Connection) -> dict[str, Any]:
    return {
        "timezone": connection.value("SELECT value FROM setting WHERE key = 'timezone'"),
        "next_number": _next(connection, "job", "number"),
        "next_execution_id": _next(connection, "execution", "id"),
    }


def _next(connection: Connection, table: str, column: str) -> int:
    """The number that is given next; by the rows alone, where the role may not read sequences."""
    sequence = f"pg_get_serial_sequence('{table}', '{column}')"
    given = connection.value(
        f"SELECT CASE WHEN has_sequence_privilege({sequence}, 'USAGE, SELECT') "
        f"THEN pg_sequence_last_value({sequence}::regclass) END"
    )
    highest = connection.value(f"SELECT coalesce(max({column}), 0) FROM {table}")
    return max(int(given or 0), int(highest)) + 1
