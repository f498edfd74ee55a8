"""`load`, `dump` and `check` for a store on a PostgreSQL server."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from jobstore.language.errors import Conflict, shown
from jobstore.language.instants import MIN_US
from jobstore.language.records import Job
from jobstore.language.search import UNICODE_VERSION
from jobstore.storage.documents import execution_document
from jobstore.storage.postgres.connection import Connection, Place, check_is_store, format_of, server_errors, translated
from jobstore.storage.postgres.schema import INDEXES, TABLES, TRIGGERS, create_tables, finish_tables, lock_schema
from jobstore.storage.rows import EXECUTION_SELECT, JOB_SELECT
from jobstore.storage.schema import DAY_US
from jobstore.transfer.check import EXECUTIONS, problems_of_server
from jobstore.transfer.load import EXECUTION_COLUMNS, Loader

# After `jobstore.storage.postgres`, whose error says how to install it.
from psycopg import errors  # isort: skip

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from jobstore.language.address import Address
    from jobstore.transfer.load import Progress

ROWS_AT_ONCE: Final = 2_000
_TAKEN: Final = re.compile(r"\(id\)=\(([0-9]+)\)")


class ServerLoader(Loader):
    """Fills the tables by COPY, in one transaction: nobody sees them before they are complete."""

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
                f"There is already a job store at {address}; name another database, or another schema with "
                "options=-csearch_path%3DNAME, or drop the schema first"
            )
        self._connection.execute("SET LOCAL maintenance_work_mem = '256MB'")  # for the indexes, built at the end
        create_tables(self._connection)

    def close(self) -> None:
        self._connection.close()

    def errors(self) -> AbstractContextManager[None]:
        return server_errors(self._place)

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Copy rows. The table is new in this transaction, so FREEZE is allowed and spares a later VACUUM."""
        copy = f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FREEZE)"
        with self._connection.raw.cursor().copy(copy) as stream:
            for row in rows:
                stream.write_row(row)

    def insert_executions(self, rows: list[tuple[Any, ...]], *, is_new: bool) -> int | None:  # noqa: ARG002 - all go by COPY
        """Copy executions; if an id occurs twice, the server's error names it."""
        try:
            self.insert("execution", EXECUTION_COLUMNS, rows)
        except errors.UniqueViolation as error:
            taken = _TAKEN.search(error.diag.message_detail or "")
            if taken is None:
                raise
            return max(place for place, row in enumerate(rows) if row[0] == int(taken[1]))
        return None

    def complete(self, timezone: str, last_number: int, last_id: int) -> None:
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
    """Load a new store on a server, which exists at the end of the block, and not after an error."""
    loader = ServerLoader(address)
    try:
        yield loader
        with loader.errors():
            loader.finish()
    finally:
        loader.close()


def dump_lines(address: Address) -> Iterator[dict[str, Any]]:
    """The lines of a dump, from one snapshot, streamed by a server-side cursor."""
    from jobstore.transfer.dump import job_line  # it imports this module

    with reading(address) as connection:
        yield {"store": _store_line(connection)}
        for row in rows_of(connection, f"{JOB_SELECT}ORDER BY number"):
            yield {"job": job_line(Job._make(row))}
        for row in rows_of(connection, f"{EXECUTION_SELECT}ORDER BY e.id"):
            yield {"execution": execution_document(cast("Any", row))}


@contextmanager
def reading(address: Address) -> Iterator[Connection]:
    """A connection with one snapshot of the store."""
    place = Place(address.secret)
    connection = Connection(place, is_reader=True)
    try:
        with server_errors(place):
            check_is_store(connection)
            connection.begin_long_snapshot()
            yield connection
    finally:
        connection.close()


def check(address: Address, progress: Progress | None) -> list[str]:
    with reading(address) as connection:
        taken = cast("sqlite3.Connection", connection)  # the checks use only what ours has
        own = (_unfit(connection), _name_days(connection), _numbers(connection), _references(connection))
        return list(problems_of_server(taken, rows_of(connection, EXECUTIONS), own, progress))


def _unfit(connection: Connection) -> Iterator[str]:
    """Triggers that are missing, disabled or not ours, and indexes that are missing or not valid."""
    ours = set(re.findall(r"CREATE TRIGGER (\w+)", TRIGGERS))
    found = dict(connection.execute(_TRIGGERS_THERE, (connection.place.quoted,)).fetchall())
    for name in sorted(ours - {name for name, enabled in found.items() if enabled != "D"}):
        yield f"The trigger {name} is missing or disabled; without it, counters and the change log are not updated"
    for name in sorted(found.keys() - ours):
        yield f"The trigger {shown(name)} is not part of jobstore and can make recording fail"
    indexes = dict(connection.execute(_INDEXES_THERE, (connection.place.quoted,)).fetchall())
    for name in sorted(set(re.findall(r"CREATE (?:UNIQUE )?INDEX (\w+)", TABLES + INDEXES)) - indexes.keys()):
        yield f"The index {name} is missing; queries and recording need it"
    for name in sorted(name for name, is_valid in indexes.items() if not is_valid):
        yield f"The index {name} is not valid; run REINDEX INDEX on it"


_TRIGGERS_THERE: Final = """
SELECT tgname, tgenabled::text FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = ?::regnamespace AND NOT tgisinternal
"""
_INDEXES_THERE: Final = """
SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = ?::regnamespace
"""
_NAME_DAYS: Final = f"""
SELECT name_id, day, status, coalesce(said, 0), coalesce(counted, 0) FROM (
    SELECT name_id, day, status, sum(runs)::bigint AS said FROM name_day_tally GROUP BY 1, 2, 3
) AS kept FULL JOIN (
    SELECT name_id, (effective_us - {MIN_US}) / {DAY_US} AS day, status, count(*) AS counted FROM execution
    GROUP BY 1, 2, 3
) AS rows USING (name_id, day, status) WHERE coalesce(said, 0) <> coalesce(counted, 0)
"""


def _name_days(connection: Connection) -> Iterator[str]:
    for name_id, day, status, said, counted in connection.execute(_NAME_DAYS):
        yield f"The counter of name {name_id} on day {day} with status {status} is {said}; the rows add up to {counted}"


def _numbers(connection: Connection) -> Iterator[str]:
    """A number must never be reused."""
    for table, column in (("job", "number"), ("execution", "id")):
        given, highest = _given(connection, table, column)
        if given is not None and given < highest:
            yield f"The next {column} of the table {table} is already used: it is {given + 1}, the highest is {highest}"


def _references(connection: Connection) -> Iterator[str]:
    """Keys of executions without a row. The tables have no foreign keys: recorders would have to wait for them."""
    for table, key in (("job_name", "name_id"), ("worker", "worker_id"), ("parameter_set", "parameter_set_id")):
        lost = connection.execute(
            f"""
            SELECT e.id FROM execution AS e WHERE e.{key} IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM {table} AS t WHERE t.{key} = e.{key})
            """
        )
        for (row,) in lost:
            yield f"Row {row} of the table execution refers to a missing row of {table}"


def lag(address: Address) -> str | None:
    """How far a standby is behind its primary, in words; None for a primary."""
    with reading(address) as connection:
        is_standby, is_connected, is_level, seconds, at = connection.execute(_LAG).fetchone() or ()
    if not is_standby:
        return None
    if not is_connected:
        since = "it has received no change since it started" if at is None else f"its last change is of {at}"
        return f"a standby that receives nothing from its primary; {since}"
    return "a standby, level with its primary" if is_level else f"a standby, {seconds:.1f} s behind its primary"


_LAG: Final = """
SELECT pg_is_in_recovery(), EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL),
    pg_last_wal_receive_lsn() IS NOT DISTINCT FROM pg_last_wal_replay_lsn(),
    coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::float8,
    to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
"""


def rows_of(connection: Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement, fetched a few thousand at a time."""
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
    given, highest = _given(connection, table, column)
    return max(given or 0, highest) + 1


def _given(connection: Connection, table: str, column: str) -> tuple[int | None, int]:
    """The last number given (None if the role may not read the sequence), and the highest in the rows."""
    sequence = f"pg_get_serial_sequence('{table}', '{column}')"
    # The names of a removed job still have its number.
    named = "(SELECT max(job_number) FROM job_name)" if table == "job" else "0"
    found: tuple[int | None, int] | None = connection.execute(
        f"""
        SELECT CASE WHEN has_sequence_privilege({sequence}, 'USAGE, SELECT')
            THEN coalesce(pg_sequence_last_value({sequence}::regclass), 0) END, greatest(max({column}), {named}, 0)
        FROM {table}
        """
    ).fetchone()
    return found or (None, 0)
