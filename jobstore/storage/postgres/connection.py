"""A connection to a PostgreSQL server that takes the statements which SQLite takes.

Statements are written once, for both: placeholders are question marks, and what only SQLite knows (which index to
walk) is left out here. Whatever the driver raises leaves as a `StoreError` that names server and database, and never
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

# Where the tables are, unless the address names a search_path.
SCHEMA: Final = "jobstore"
# Of the schema, in its table of settings under ``schema_version``; a higher one is refused.
FORMAT: Final = 1
# The oldest version that the tests run on.
OLDEST_SERVER: Final = 150_000
# The first with a limit for whole transactions.
SERVER_17: Final = 170_000
# For a server that does not answer, unless the address names a connect_timeout.
CONNECT_SECONDS: Final = 10
# A network that fails without a word is noticed after a minute: 30 s of silence, then three questions.
_OPTIONS: Final = {
    "connect_timeout": CONNECT_SECONDS, "application_name": "jobstore",
    "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
}  # fmt: skip
# The longest that a reader's statement may take: no page needs it, and a forgotten one would hold up VACUUM.
STATEMENT_SECONDS: Final = 60

READER_PATIENCE_SECONDS: Final = STATEMENT_SECONDS + 5
"""A server that lives has cut the statement off by then; one that is stopped, or a network, says nothing for ever."""
WRITER_PATIENCE_SECONDS: Final = 30
"""Beside the time that a statement may wait for a lock."""

# The driver tells of errors on its way out of a failed call; ours has said what there is to say, and once.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_SEARCH_PATH: Final = re.compile(
    r"(?:-c\s*|--)search[_-]path\s*=\s*(?:\"((?:[^\"]|\"\")+)\"|([^\s,\"]+))", re.IGNORECASE
)


class _Whole(TextLoader):
    """Sums are numeric, and all that we add up is whole."""

    def load(self, data: Any) -> Any:
        return int(bytes(data))


class _Text(StrDumperUnknown):
    """No text of a server holds NUL; a run that ended must not stay open because of one in its error."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


class _Driver(psycopg.Connection["tuple[Any, ...]"]):
    """A connection that gives up a server from which nothing comes."""

    patience_seconds: float | None = None

    def wait(self, gen: Generator[Any, Any, Any], *values: Any, **more: Any) -> Any:
        return super().wait(gen if self.patience_seconds is None else self._bounded(gen), *values, **more)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        patience = self.patience_seconds or 0
        given_up_at = time.monotonic() + patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # the driver wakes it ten times a second, with 0 where nothing came
                if ready:
                    given_up_at = time.monotonic() + patience
                elif time.monotonic() >= given_up_at:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {patience:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


class Place:
    """Where a store is: the address, and what of it may be shown.

    Attributes:
        address: with its password, if it holds one; never shown.
        schema: the PostgreSQL schema of its tables, the first of a search_path.
        quoted: the schema as SQL writes it.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            written = conninfo_to_dict(address)
        except (psycopg.Error, UnicodeDecodeError):  # the message repeats the address
            raise StoreUnreadable(
                "The address of the PostgreSQL store cannot be understood; "
                "write it as postgresql://user@host:port/database"
            ) from None
        named = _SEARCH_PATH.findall(re.sub(r"\\(.)", r"\1", str(written.get("options") or "")))
        quoted, plain = named[-1] if named else ("", SCHEMA)  # the last counts, as for the server
        self.schema = quoted.replace('""', '"') or plain.lower()
        if self.schema == "$user" or self.schema.startswith("pg_"):
            raise InvalidParameter(f"A store cannot be in the schema {self.schema}; name another as search_path")
        # What PG* variables and the service they name say counts too, except where the tables are.
        told = {
            o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val not in (None, o.compiled)
        }
        self._known = {**told, **written}
        self.quoted = '"' + self.schema.replace('"', '""') + '"'

    def __str__(self) -> str:
        """For messages: the database, the host, and the schema if it is another."""
        known = self._known
        service = f"the host of the service {known['service']}" if "service" in known else "this machine"
        host = str(known.get("host") or known.get("hostaddr") or service)
        host = f"[{host}]" if ":" in host else host
        database = known.get("dbname") or "the default database"
        port = f":{known['port']}" if known.get("port") and "," not in host else ""
        schema = "" if self.schema == SCHEMA else f", schema {self.schema}"
        return f"PostgreSQL database {database} at {host}{port}{schema}"

    def hidden(self, text: str) -> str:
        """A text of libpq on one line and without the password."""
        password = str(self._known.get("password") or "")
        # libpq asks the reader a question there, and our own message says what to do.
        text = re.sub(r"Is the server running[^?]*\?", "", text)
        text = " ".join(text.split())
        # As a word: a short one is in half of all words, and to cut it out there would show which it is.
        return re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "...", text) if password else text

    def connect(self, **options: Any) -> _Driver:
        """A connection of the driver; `options` count where the address says nothing."""
        try:
            given = {k: v for k, v in options.items() if k not in self._known}
            return _Driver.connect(self.address, client_encoding="UTF8", **given)
        except psycopg.ProgrammingError as error:
            said = self.hidden(str(error))
            raise StoreUnreadable(f"The address of {self} cannot be used ({said}); correct it") from None


class Connection:
    """One connection, used by one thread at a time.

    It commits when told to; a statement outside a transaction begins one, or, for a reader (`is_reader`), does not.

    Attributes:
        place: which store.
        raw: the connection of the driver, for COPY.
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
                f"{self.place} has the encoding {encoding}, which has no room for every text; "
                "create it with ENCODING 'UTF8' TEMPLATE template0"
            )
        # One type for all integers, or each size would be another prepared statement.
        self.raw.adapters.register_dumper(int, Int8BinaryDumper)
        self.raw.adapters.register_loader("numeric", _Whole)
        self.raw.adapters.register_dumper(str, _Text)
        settings = {
            "search_path": self.place.quoted,
            # To compile a statement takes longer than most of ours run.
            "jit": "off",
            "work_mem": "64MB",
            # The right plan of a page depends on its values: a plan made for any value would walk the wrong index.
            "plan_cache_mode": "force_custom_plan",
            "statement_timeout": f"{STATEMENT_SECONDS}s" if is_reader else "0",
            # Not less than a millisecond: none would mean for ever.
            "lock_timeout": f"{max(1, round(lock_seconds * 1000))}ms",
            # Of those that name none: a database may have another default, under which we would see too little.
            "default_transaction_isolation": "read committed",
            # A reader may hold a snapshot for long (an export): a limit of the server must not end it.
            "idle_in_transaction_session_timeout": "0",
            "DateStyle": "ISO",
            # Under a policy that hides rows, pages and totals would disagree: an error says that there is one.
            "row_security": "off",
        }
        if self.raw.info.server_version >= SERVER_17:
            settings["transaction_timeout"] = "0"
        # All in one statement: each would be another journey to the server.
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        self.raw.execute(f"SELECT {calls}", [text for pair in settings.items() for text in pair])
        if not is_reader:
            self.raw.commit()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run a statement; its rows are plain tuples."""
        return self.raw.execute(translated(sql), values) if values else self.raw.execute(translated(sql))

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first column of a statement's first row; None where there is none."""
        row = self.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def executemany(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each of the values, without waiting for each answer."""
        with self.raw.cursor() as cursor:
            cursor.executemany(translated(sql), values)

    def begin_snapshot(self) -> str:
        """Begin a transaction that sees one state of the database, and changes nothing; says which state."""
        cursor = self.raw.execute(
            # Both in one journey. Unprepared: two statements in one text cannot be prepared.
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_current_snapshot()::text",
            prepare=False,
        )
        cursor.nextset()
        (snapshot,) = cursor.fetchone() or ("",)
        return str(snapshot)

    def begin_long_snapshot(self) -> None:
        """The same for what reads everything: no timeout ends it."""
        self.begin_snapshot()
        self.execute("SET LOCAL statement_timeout = 0")
        self.raw.patience_seconds = None

    def commit(self) -> None:
        """Make the transaction last."""
        self.raw.commit()

    def rollback(self) -> None:
        """Undo the transaction; nothing where the connection is gone."""
        if not self.raw.closed:
            self.raw.rollback()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    @property
    def is_lost(self) -> bool:
        """Whether the server or the network has closed it."""
        return bool(self.raw.closed)

    def close(self) -> None:
        """Close it. Safe to call twice; in a child of the process that opened it, nothing happens."""
        if self._process == os.getpid():  # the driver would say good-bye to the server in the parent's name
            self.raw.close()

    def __del__(self) -> None:
        """Close it: the driver warns of connections that are left open."""
        if hasattr(self, "raw"):  # __init__ may have failed
            self.close()


_ONLY_SQLITE: Final = (
    # Jobs are read through the view that knows starts not folded yet; DELETE FROM and ONLY name the table itself.
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
    """A statement as PostgreSQL and the driver take it; made once for each text.

    >>> translated("SELECT id FROM execution INDEXED BY execution_started WHERE id = ?")
    'SELECT id FROM execution WHERE id = %s'
    """
    for pattern, ours in _ONLY_SQLITE:
        sql = pattern.sub(ours, sql)
    # Without values the driver does not look for placeholders, and a doubled percent sign would stay.
    return sql.replace("%", "%%").replace("?", "%s") if "?" in sql else sql


def is_worth_again(error: BaseException, connection: Connection) -> bool:
    """Whether a question may be asked once more: the connection was lost, or a standby gave up for its primary."""
    return isinstance(error, psycopg.Error) and (connection.is_lost or isinstance(error, errors.SerializationFailure))


def check_is_store(connection: Connection) -> None:
    """Raise unless the schema is that of a job store which this version reads.

    Raises:
        StoreNotFound: there is no such schema, or nothing in it.
        NotAStore: the schema is that of another program.
        SchemaTooNew: a newer jobstore made it.
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
    """The format of the store; None where there is none."""
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
    # By its full name: a search path leaves out a schema that the role may not use.
    row = connection.raw.execute(
        f"SELECT value::text FROM {connection.place.quoted}.setting WHERE key = 'schema_version'"
    ).fetchone()
    if row is None or not str(row[0]).isdecimal():
        raise NotAStore(f"{connection.place} has a table 'setting' without a schema_version; it is not a job store")
    return int(row[0])


class ServerErrors:
    """Whatever the driver or the server raises inside leaves as a `StoreError` that names the database."""

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
            # Without its cause: libpq's own text is in ours, and nothing else of it may be shown.
            raise ours from None

    def error_for(self, error: psycopg.Error) -> StoreError | None:
        """Ours for the driver's; None: it is a defect of ours."""
        return store_error(error, self.place)


server_errors = ServerErrors


_KINDS: Final[tuple[tuple[tuple[type[psycopg.Error], ...], type[StoreError], str], ...]] = (
    (
        # What passes by itself is StoreBusy: the user may try again and change nothing.
        (errors.QueryCanceled, errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected),
        StoreBusy,
        "{place} was blocked by others or took too long; try again",
    ),
    (
        (errors.TooManyConnections, errors.CannotConnectNow, errors.OutOfMemory, errors.ConfigurationLimitExceeded),
        StoreBusy,
        "{place} accepts no more connections or work at the moment ({said}); try again",
    ),
    (
        (errors.DiskFull,),
        StoreFull,
        "The disk of {place} is full; free space on the server, or run 'jobstore prune'",
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


def store_error(error: psycopg.Error, place: Place) -> StoreError | None:
    """Our error for the driver's, by its kind; None: it is a defect of ours."""
    for kinds, ours, text in _KINDS:
        if isinstance(error, kinds):
            return ours(text.format(place=place, said=_said(error, place)))
    # Without a kind of its own it is the connection, of which libpq tells in words alone.
    if isinstance(error, psycopg.OperationalError | psycopg.InternalError):
        return StoreUnreadable(_why_away(error, place))
    # A statement that the server cannot read is a defect of ours; what it read and refused is not.
    if error.sqlstate and not error.sqlstate.startswith("42"):
        return StoreUnreadable(
            f"{place} refused a statement ({_said(error, place)}); a trigger, rule or row of another program stands in "
            "its way: see 'jobstore check'"
        )
    return None


def _said(error: psycopg.Error, place: Place) -> str:
    return place.hidden(error.diag.message_primary or str(error))


def _why_away(error: psycopg.Error, place: Place) -> str:
    said = _said(error, place)
    if "password" in said or "authentication" in said or "pg_hba" in said:
        return (
            f"{place} rejected this user ({said}); give a password in PGPASSWORD or ~/.pgpass, and check the user and "
            "pg_hba.conf"
        )
    if "certificate" in said or "SSL" in said:
        return f"{place} cannot be reached with TLS ({said}); check host name, sslmode and sslrootcert in the address"
    if "does not exist" in said:
        return f"{place} does not exist ({said}); check the names in the address, or create the database with createdb"
    return f"{place} cannot be reached ({said}); check the address and that the server is running"
