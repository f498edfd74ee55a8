"""A connection to a PostgreSQL server that accepts the statements written for SQLite.

Statements are written once, for both databases: placeholders are question marks, and hints that only SQLite knows
(which index to use) are removed here. Errors of the driver become a `StoreError` that names server and database, never
the password.
"""

from __future__ import annotations

import logging
import os
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors, pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrDumperUnknown, TextLoader

from jobstore.language.errors import (
    InvalidParameter,
    NotAStore,
    SchemaTooNew,
    SchemaTooOld,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnreadable,
)
from jobstore.storage.limits import READ_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from types import TracebackType

DRIVER_ERROR: Final = psycopg.Error
# The schema of the tables, unless the address names a search_path.
SCHEMA: Final = "jobstore"
# The format, stored in the table of settings under ``schema_version``; a higher one is refused.
FORMAT: Final = 1
# The oldest version that the tests run on.
OLDEST_SERVER: Final = 150_000
# The first version with a timeout for whole transactions.
SERVER_17: Final = 170_000
# How long to wait for a server that does not answer, unless the address names a connect_timeout.
CONNECT_SECONDS: Final = 10
# A network that fails silently is noticed after a minute: 30 s of silence, then three probes.
_OPTIONS: Final = {
    "connect_timeout": CONNECT_SECONDS, "application_name": "jobstore",
    "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
}  # fmt: skip
# The longest that a reader's statement may run: no page needs it, and a forgotten one would hold up VACUUM.
STATEMENT_SECONDS: Final = 60

READER_PATIENCE_SECONDS: Final = STATEMENT_SECONDS + 5
"""How long a reader waits. A live server has ended the statement by then; a suspended one never answers."""
WRITER_PATIENCE_SECONDS: Final = 30
"""How long a writer waits beyond the time that a statement may wait for a lock."""

# The driver also logs errors when a call fails; our error already says everything.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_SEARCH_PATH: Final = re.compile(
    r"(?:-c\s*|--)search[_-]path\s*=\s*(?:\"((?:[^\"]|\"\")+)\"|([^\s,\"]+))", re.IGNORECASE
)


class _Whole(TextLoader):
    """Loads numeric values as int: sums are numeric, and all of ours are whole."""

    def load(self, data: Any) -> Any:
        return int(bytes(data))


class _Text(StrDumperUnknown):
    """Replaces NUL, which PostgreSQL text cannot hold: else a run with a NUL in its error could not be finished."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


class _Driver(psycopg.Connection["tuple[Any, ...]"]):
    """A driver connection that gives up on a server that sends nothing for `patience_seconds`."""

    patience_seconds: float | None = None

    def wait(self, gen: Generator[Any, Any, Any], *values: Any, **more: Any) -> Any:
        return super().wait(gen if self.patience_seconds is None else self._bounded(gen), *values, **more)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        patience = self.patience_seconds or 0
        given_up_at = time.monotonic() + patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # the driver resumes this ten times a second, with 0 if nothing arrived
                if ready:
                    given_up_at = time.monotonic() + patience
                elif time.monotonic() >= given_up_at:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {patience:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


class Place:
    """The address of a store, and how to show it without its secrets.

    Attributes:
        address: with its password, if any; never shown.
        schema: the PostgreSQL schema of its tables, the first of a search_path.
        quoted: the schema as SQL writes it.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            written = conninfo_to_dict(address)
        except (psycopg.Error, UnicodeDecodeError):  # the driver's message would repeat the address
            raise StoreUnreadable(
                "The address of the PostgreSQL store cannot be understood; "
                "write it as postgresql://user@host:port/database"
            ) from None
        named = _SEARCH_PATH.findall(re.sub(r"\\(.)", r"\1", str(written.get("options") or "")))
        quoted, plain = named[-1] if named else ("", SCHEMA)  # the last one counts, as on the server
        self.schema = quoted.replace('""', '"') or plain.lower()
        if self.schema == "$user" or self.schema.startswith("pg_"):
            raise InvalidParameter(f"A store cannot be in the schema {self.schema}; name another as search_path")
        # PG* variables and the service that they name count too, except for the schema.
        told = {
            o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val not in (None, o.compiled)
        }
        self._known = {**told, **written}
        self.quoted = '"' + self.schema.replace('"', '""') + '"'

    def __str__(self) -> str:
        """For messages: the database, the host, and the schema if it is not the default."""
        known = self._known
        service = f"the host of the service {known['service']}" if "service" in known else "this machine"
        host = str(known.get("host") or known.get("hostaddr") or service)
        host = f"[{host}]" if ":" in host else host
        database = known.get("dbname") or "the default database"
        port = f":{known['port']}" if known.get("port") and "," not in host else ""
        schema = "" if self.schema == SCHEMA else f", schema {self.schema}"
        return f"PostgreSQL database {database} at {host}{port}{schema}"

    def hidden(self, text: str) -> str:
        """A message of libpq on one line, without the password."""
        password = str(self._known.get("password") or "")
        # libpq asks the reader a question there, and our own message says what to do.
        text = re.sub(r"Is the server running[^?]*\?", "", text)
        text = " ".join(text.split())
        # Only as a whole word: a short password occurs inside other words, and blanking it there would reveal it.
        return re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "...", text) if password else text

    def connect(self, **options: Any) -> _Driver:
        """A connection of the driver; `options` apply where the address says nothing."""
        try:
            given = {k: v for k, v in options.items() if k not in self._known}
            return _Driver.connect(self.address, client_encoding="UTF8", **given)
        except psycopg.ProgrammingError as error:
            said = self.hidden(str(error))
            raise StoreUnreadable(f"The address of {self} cannot be used ({said}); correct it") from None


class Connection:
    """One connection, used by one thread at a time.

    It never commits by itself. Outside a transaction, a statement begins one, except for a reader (`is_reader`).

    Attributes:
        place: the address of the store.
        raw: the driver's connection, for COPY.
    """

    def __init__(self, place: Place, *, is_reader: bool = False, lock_seconds: float | None = None) -> None:
        self.place = place
        self._process = os.getpid()
        with server_errors(place):
            self.raw = place.connect(autocommit=is_reader, **_OPTIONS)
            if is_reader:
                self.raw.patience_seconds = READER_PATIENCE_SECONDS
            elif lock_seconds is not None:
                self.raw.patience_seconds = lock_seconds + WRITER_PATIENCE_SECONDS
            try:
                self._prepare(
                    is_reader=is_reader, lock_seconds=READ_TIMEOUT_SECONDS if lock_seconds is None else lock_seconds
                )
            except BaseException:
                self.raw.close()
                raise

    def _prepare(self, *, is_reader: bool, lock_seconds: float) -> None:
        if self.raw.info.server_version < OLDEST_SERVER:
            raise StoreUnreadable(f"{self.place} is older than PostgreSQL 15; use a newer server")
        encoding = self.raw.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreUnreadable(
                f"{self.place} has the encoding {encoding}, which cannot store every character; "
                "create it with ENCODING 'UTF8' TEMPLATE template0"
            )
        # One type for all integers: otherwise each size would need another prepared statement.
        self.raw.adapters.register_dumper(int, Int8BinaryDumper)
        self.raw.adapters.register_loader("numeric", _Whole)
        self.raw.adapters.register_dumper(str, _Text)
        settings = {
            "search_path": self.place.quoted,
            # Compiling a statement takes longer than most of ours run.
            "jit": "off",
            "work_mem": "64MB",
            # The best plan of a page depends on its values: a generic plan would use the wrong index.
            "plan_cache_mode": "force_custom_plan",
            "statement_timeout": f"{STATEMENT_SECONDS}s" if is_reader else "0",
            # At least a millisecond: 0 would mean no limit.
            "lock_timeout": f"{max(1, round(lock_seconds * 1000))}ms",
            # For transactions that name no level: another default of the database could show us too little.
            "default_transaction_isolation": "read committed",
            # A reader may hold a snapshot for long (an export); a limit of the server must not end it.
            "idle_in_transaction_session_timeout": "0",
            "DateStyle": "ISO",
            "synchronous_commit": "on",
            # A policy that hides rows would make pages and totals disagree; "off" raises an error instead.
            "row_security": "off",
        }
        if self.raw.info.server_version >= SERVER_17:
            settings["transaction_timeout"] = "0"
        # All in one statement: each would be another round trip to the server.
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        answer = self.raw.execute(
            f"SELECT {calls}, current_setting('session_replication_role')",
            [text for pair in settings.items() for text in pair],
        ).fetchone()
        if not is_reader:
            self.raw.commit()
            if answer is not None and answer[-1] == "replica":
                raise StoreUnreadable(
                    f"{self.place} has session_replication_role = replica, which switches off the triggers that count; "
                    "as a superuser: ALTER ROLE ... SET session_replication_role = origin"
                )

    def execute(self, sql: str, values: Sequence[Any] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run a statement; its rows are plain tuples."""
        return self.raw.execute(translated(sql), values) if values else self.raw.execute(translated(sql))

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row of a statement; None if there is no row."""
        row = self.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def executemany(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each of the values, without waiting for each answer."""
        with self.raw.cursor() as cursor:
            cursor.executemany(translated(sql), values)

    def begin_snapshot(self) -> str:
        """Begin a read-only transaction on one snapshot of the database; return the snapshot as text."""
        cursor = self.raw.execute(
            # Both in one round trip. Unprepared: two statements in one text cannot be prepared.
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_current_snapshot()::text",
            prepare=False,
        )
        cursor.nextset()
        (snapshot,) = cursor.fetchone() or ("",)
        return str(snapshot)

    def begin_long_snapshot(self) -> None:
        """Begin the same for a read of everything: no timeout ends it."""
        self.begin_snapshot()
        self.execute("SET LOCAL statement_timeout = 0")
        self.raw.patience_seconds = None

    def commit(self) -> None:
        self.raw.commit()

    def rollback(self) -> None:
        """Roll the transaction back; does nothing if the connection is lost."""
        if not self.raw.closed:
            self.raw.rollback()

    @property
    def in_transaction(self) -> bool:
        return self.raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    @property
    def is_lost(self) -> bool:
        """Whether the connection is closed, for example by the server or the network."""
        return bool(self.raw.closed)

    def close(self) -> None:
        """Close the connection. Safe to call twice; does nothing in a child of the process that opened it."""
        if self._process == os.getpid():  # in a child, the driver would end the parent's session
            self.raw.close()

    def __del__(self) -> None:
        """Close the connection: the driver warns of open ones."""
        if hasattr(self, "raw"):  # __init__ may have failed
            self.close()


_ONLY_SQLITE: Final = (
    # Read jobs through the view that includes starts not folded yet; DELETE FROM and ONLY name the table itself.
    (re.compile(r"(?<!DELETE )\b(FROM|JOIN) job\b(?! AS)"), r"\1 job_now AS job"),
    (re.compile(r"(?<!DELETE )\b(FROM|JOIN) job AS"), r"\1 job_now AS"),
    (re.compile(r" (?:NOT INDEXED|INDEXED BY \w+)"), ""),
    (re.compile("CROSS JOIN"), "JOIN"),
    (re.compile("x'01'"), r"'\\x01'::bytea"),
    (
        re.compile(r"IN \(SELECT value FROM json_each\(\?\)\)"),
        "= ANY(ARRAY(SELECT json_array_elements_text(?::json)::int))",
    ),
)


@lru_cache(maxsize=1024)
def translated(sql: str) -> str:
    """A statement as PostgreSQL and the driver take it; cached by its text.

    >>> translated("SELECT id FROM execution INDEXED BY execution_started WHERE id = ?")
    'SELECT id FROM execution WHERE id = %s'
    """
    for pattern, ours in _ONLY_SQLITE:
        sql = pattern.sub(ours, sql)
    # Without values, the driver does not look for placeholders, and a doubled percent sign would stay doubled.
    return sql.replace("%", "%%").replace("?", "%s") if "?" in sql else sql


def is_worth_again(error: BaseException, connection: Connection) -> bool:
    """Whether a query may be repeated: the connection was lost, or a standby cancelled it in favour of its primary."""
    return isinstance(error, psycopg.Error) and (connection.is_lost or isinstance(error, errors.SerializationFailure))


def check_is_store(connection: Connection) -> None:
    """Raise unless the schema is that of a job store in the format that this version reads.

    Raises:
        StoreNotFound: there is no such schema, or nothing in it.
        NotAStore: the schema is that of another program.
        SchemaTooNew: a newer jobstore made it.
        SchemaTooOld: an older jobstore made it; a Recorder upgrades it.
    """
    place = connection.place
    version = format_of(connection)
    if version is None:
        raise StoreNotFound(
            f"There is no job store in {place}; a Recorder creates one, or 'jobstore load' does from a dump"
        )
    if version > FORMAT:
        raise SchemaTooNew(
            f"{place} has format {version}, and this jobstore reads formats up to {FORMAT}; upgrade jobstore"
        )
    if version < FORMAT:
        raise SchemaTooOld(
            f"{place} has format {version}, and this jobstore reads format {FORMAT}; open it once with a Recorder to "
            "upgrade it"
        )


def format_of(connection: Connection) -> int | None:
    """The format of the store; None if there is no store. Raises `NotAStore` for tables of another program."""
    schema = connection.place.schema
    found = connection.execute(
        """
        SELECT t.relname FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_class AS t ON t.relnamespace = n.oid
        WHERE n.nspname = ? AND t.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
        """,
        (schema,),
    ).fetchall()
    if not found:
        return None
    if ("setting",) not in found or ("execution",) not in found:
        raise NotAStore(
            f"{connection.place} has tables in the schema {schema!r} which do not belong to a job store; "
            "name another schema with options=-csearch_path%3DNAME"
        )
    # With the schema's name: a search path skips schemas that the role may not use.
    row = connection.raw.execute(
        f"SELECT value::text FROM {connection.place.quoted}.setting WHERE key = 'schema_version'"
    ).fetchone()
    if row is None or not str(row[0]).isdecimal():
        raise NotAStore(f"{connection.place} has a table 'setting' without a schema_version; it is not a job store")
    return int(row[0])


class ServerErrors:
    """A context manager: errors of the driver or the server leave it as a `StoreError` that names the database."""

    __slots__ = ("place",)

    def __init__(self, place: Place) -> None:
        self.place = place

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ours = self.error_for(error) if isinstance(error, psycopg.Error) else None
        if ours is not None:
            # Without its cause: our message includes libpq's text, and nothing else of it may be shown.
            raise ours from None

    def error_for(self, error: psycopg.Error) -> StoreError | None:
        ours = store_error(error, self.place)
        if ours is not None:
            ours.may_repeat = is_loss(error)
        return ours


server_errors = ServerErrors


_BUSY: Final = "{place} accepts no more connections or work at the moment ({said}); try again"

_KINDS: Final[tuple[tuple[tuple[type[psycopg.Error], ...], type[StoreError], str], ...]] = (
    (
        # What passes by itself is StoreBusy: the user may try again without changing anything.
        (errors.QueryCanceled, errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected),
        StoreBusy,
        "{place} was blocked by others or took too long; try again",
    ),
    (
        (errors.TooManyConnections, errors.CannotConnectNow, errors.OutOfMemory, errors.ConfigurationLimitExceeded),
        StoreBusy,
        _BUSY,
    ),
    (
        (errors.DiskFull,),
        StoreFull,
        "The disk of {place} is full; free space on the server",
    ),
    (
        (errors.DataCorrupted, errors.IndexCorrupted),
        StoreCorrupt,
        "{place} is damaged ({said}). Check the server, then restore a backup",
    ),
    (
        (errors.InsufficientPrivilege,),
        StoreUnreadable,
        (
            "{place} is closed to this role ({said}). To read, it needs USAGE on the schema and SELECT on its tables; "
            "to record, INSERT, UPDATE and DELETE as well; to make a store, CREATE on the database"
        ),
    ),
    (
        (errors.ReadOnlySqlTransaction,),
        StoreUnreadable,
        "{place} is a standby or read-only; record into the primary server",
    ),
    (
        (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn, errors.UndefinedFunction),
        StoreNotFound,
        "The tables of {place} are gone or changed ({said}); open the store again",
    ),
    (
        (errors.DuplicatePreparedStatement, errors.InvalidSqlStatementName),
        StoreUnreadable,
        "{place} is behind a pooler that pools transactions ({said}); let it pool sessions (pool_mode=session)",
    ),
    (
        (errors.SequenceGeneratorLimitExceeded,),
        StoreFull,
        "{place} has used its last number ({said}); move to a new store",
    ),
    (
        (errors.DuplicateTable, errors.DuplicateObject, errors.DuplicateFunction, errors.ReservedName),
        NotAStore,
        "{place} does not contain a job store ({said}); name another schema with options=-csearch_path%3DNAME",
    ),
)


# SQLSTATEs that end a connection: shutdown, crash, starting up, idle for too long, broken.
_LOST: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "08000", "08003", "08006", "08007"})


def is_loss(error: psycopg.Error) -> bool:
    """Whether the connection is lost, or is closed by this error."""
    return (isinstance(error, psycopg.OperationalError) and error.sqlstate is None) or error.sqlstate in _LOST


def store_error(error: psycopg.Error, place: Place) -> StoreError | None:
    """The `StoreError` for an error of the driver, by its class; None if the error is a defect of ours."""
    for kinds, ours, text in _KINDS:
        if isinstance(error, kinds):
            return ours(text.format(place=place, said=_said(error, place)))
    # An error without a class of its own concerns the connection; only libpq's words describe it.
    if isinstance(error, psycopg.OperationalError | psycopg.InternalError):
        said = _said(error, place)
        if _LATER.search(said):
            return StoreBusy(_BUSY.format(place=place, said=said))
        return StoreUnreadable(_why_away(said, place))
    # A statement that the server cannot parse, or a value that it cannot take, is a defect of ours. A value inside a
    # function (then there is a context) may be another program's.
    is_ours = error.sqlstate is None or error.sqlstate[:2] == "42"
    if is_ours or (isinstance(error, psycopg.DataError) and not error.diag.context):
        return None
    return refused(error, place)


def refused(error: psycopg.Error, place: Place) -> StoreUnreadable:
    """The error for a statement that something in the database refuses."""
    return StoreUnreadable(
        f"{place} refused a statement ({_said(error, place)}); a trigger, rule or row of another program may be the "
        "cause: see 'jobstore check'"
    )


def _said(error: psycopg.Error, place: Place) -> str:
    return place.hidden(error.diag.message_primary or str(error))


# What a server or PgBouncer says to a connection that it may accept later.
_LATER: Final = re.compile(
    "too many (?:clients|connections)|connection slots are reserved|no more connections allowed|the database system is"
)


_ABOUT_THE_USER: Final = (
    "password", "authentication", "pg_hba", 'role "', "local user", "permission denied for database"
)  # fmt: skip


def _why_away(said: str, place: Place) -> str:
    if any(words in said for words in _ABOUT_THE_USER):
        return (
            f"{place} rejected this user ({said}); give a password in PGPASSWORD or ~/.pgpass, and check the user and "
            "pg_hba.conf"
        )
    if "certificate" in said or "SSL" in said:
        return f"{place} cannot be reached with TLS ({said}); check host name, sslmode and sslrootcert in the address"
    if "does not exist" in said:
        return f"{place} does not exist ({said}); check the names in the address, or create the database with createdb"
    return f"{place} cannot be reached ({said}); check the address and that the server is running"
