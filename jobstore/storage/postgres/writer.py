"""The writing connection to a PostgreSQL server: what `jobstore.storage.writer` is for a file.

Any number of hosts write at once, so a transaction may have to be given up: another changed the same execution, or
both added the same name. It is one snapshot (REPEATABLE READ), so whatever it read and another changed ends it with
nothing written, and its steps are taken again. Each transaction first takes a lock on the table ``execution`` that
no other recorder waits for; the deletion of unused words takes one that all wait for, for a moment.

A connection may be lost at any time. Before COMMIT was sent nothing is written, and the steps are taken again on a new
connection. Afterwards the rows tell that it wrote, or did not write, into the log of changes.
"""

from __future__ import annotations

import logging
import random
import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import psycopg
from psycopg import errors

from jobstore.language.errors import Conflict, StoreBusy, StoreError, StoreUnreadable
from jobstore.language.search import UNICODE_VERSION
from jobstore.storage.forking import keep_for_good, tell_of_forks
from jobstore.storage.lock import ThreadLock
from jobstore.storage.postgres.connection import Connection, Place, ServerErrors, check_is_store
from jobstore.storage.postgres.schema import fold, migrate, settle_restored
from jobstore.storage.postgres.unused import delete_unused, find_unused, forget_processes
from jobstore.storage.transactions import OutcomeUnknown, Transactions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from jobstore.language.address import Address

_log = logging.getLogger("jobstore")

# On average, this many commits of all recorders lie between two foldings; chance decides, so nothing has to be counted.
TIDIED_EVERY: Final = 128
# Between two attempts to reach a server that is away: a restart takes seconds.
RECONNECT_SECONDS: Final = 0.1
LOOK_AGAIN_SECONDS: Final = 0.01
# A recorder that was stopped in the middle of a transaction holds others up for no longer.
STOPPED_SECONDS: Final = 60
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE execution IN ROW EXCLUSIVE MODE; "
    "SELECT pg_current_xact_id()::text::bigint"
)
# Most statements of a recorder find a row by its key: the server may keep their plans ("auto").
_SETTLE_IN: Final = f"""
SELECT set_config('jobstore.session', ?, false), set_config('plan_cache_mode', 'auto', false),
    set_config('idle_in_transaction_session_timeout', '{STOPPED_SECONDS}s', false),
    pg_is_in_recovery(), pid, backend_start::text
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
_STILL_THERE: Final = "SELECT 1 FROM pg_stat_activity WHERE pid = ? AND backend_start::text = ?"
_WRITTEN: Final = """
SELECT f.trimmed >= ?, EXISTS (SELECT 1 FROM change AS c WHERE c.xid = ? AND c.session = ?) FROM folding AS f
"""
# SQLSTATE of what ends a connection: shut down, crashed, not there yet, idle for too long, broken.
_LOST: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "08000", "08003", "08006", "08007"})
# Another transaction came first; with what it wrote in sight, the same steps do something else.
_PASSING: Final = (
    errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation, errors.ExclusionViolation,
)  # fmt: skip


class PostgresWriter(Transactions):
    """The one writing connection of a recorder; safe from several threads, and across forks."""

    driver_error = psycopg.Error

    def __init__(self, address: Address, *, timezone: str = "UTC", timeout_seconds: float) -> None:
        """Connects to the store, or makes it.

        Args:
            address: where it is.
            timezone: of a store that is made.
            timeout_seconds: how long a call waits for other writers, and for a server that is away.

        Raises:
            StoreError: or the child that says why the store cannot be used.
        """
        self.path = address
        self.place = place = Place(address.secret)
        self.timeout_seconds = timeout_seconds
        self.lock = ThreadLock(address)
        self.errors = _Errors(place)
        self._connection: Connection | None = None
        self._session: tuple[int, int, str] = (0, 0, "")
        """Of the connection: a number that no other has, and the server's process with its start."""
        self._begun = (0, self._session)
        """The last transaction: its number, and the session that it was of."""
        self._is_committed = self._is_closed = False
        with self.errors:
            try:
                connection = self._connection = Connection(place, lock_seconds=timeout_seconds)
                migrate(connection)
                settle_restored(connection)
                _write_settings(connection, timezone)
                self._settle_in()
            except BaseException:
                self.disconnect()
                raise
        tell_of_forks(self)

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        if self._is_closed:
            return
        with self.lock.acquired(self.timeout_seconds):
            self._is_closed = True
            self.disconnect()

    def current(self) -> sqlite3.Connection:
        """The connection, opened again if there is none or it was lost; inside the turn."""
        if self._is_closed:
            raise Conflict(f"The recorder of {self.path} is closed; open another")
        connection = self._connection
        if connection is not None and not connection.is_lost:
            self.roll_back()  # of a call that an exception ended before it could do so itself
        if self._connection is None or self._connection.is_lost:
            self._reconnect()
        return cast("sqlite3.Connection", self._connection)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction, and learn its number, in one question."""
        self._is_committed = False
        # The number is learnt before anything is written: it is what the outcome is asked by, if the connection is
        # lost.
        cursor = cast("Connection", connection).raw.execute(_BEGIN, prepare=False)
        while cursor.nextset():
            pass
        (xid,) = cursor.fetchone() or (0,)
        self._begun = (xid, self._session)

    def commit(self) -> None:
        """Commit the transaction; where the answer is lost, find out what became of it.

        Raises:
            OutcomeUnknown: that cannot be known.
        """
        connection = self._connection
        if connection is None:
            return
        try:
            connection.raw.execute("COMMIT", prepare=False)
            self._is_committed = True
        except psycopg.Error as error:
            # The server answered: the transaction was refused, and that is certain.
            if not _is_loss(error):
                raise
            became = self._became(time.monotonic() + self.timeout_seconds)
            self._is_committed = became is True
            if became is None:
                raise OutcomeUnknown(
                    f"{self.path} was lost during a call, which may or may not have been recorded; look it up before "
                    "you repeat it"
                ) from None
            if not became:
                raise

    def is_committed(self) -> bool:
        """What became of the transaction where an exception came while it was committed."""
        connection = self._connection
        status = psycopg.pq.TransactionStatus
        if self._is_committed:
            return True
        if connection is not None and connection.raw.info.transaction_status == status.INTRANS:
            return False  # COMMIT was not sent
        return self._became(time.monotonic() + self.timeout_seconds) is True

    def tidy(self) -> None:
        """Now and then, add up what was counted since the last time, and forget processes."""
        if random.randrange(TIDIED_EVERY) == 0:  # noqa: S311 - only to be out of step
            self._apart(fold)
            self._apart(forget_processes)

    def forget_unused(self) -> None:
        """Delete words and processes that no execution has any more."""
        with self.reading() as reader:
            unused = find_unused(cast("Connection", reader))
        # The long look at all executions is over by now: only the deletion holds others up.
        with self.held():
            self._apart(partial(delete_unused, unused=unused))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot of the store, on a connection of its own."""
        with self.errors, closing(Connection(self.place, is_reader=True)) as connection:
            connection.begin_long_snapshot()
            yield cast("sqlite3.Connection", connection)

    def _apart(self, step: Callable[[Connection], object]) -> None:
        """Take a step in a transaction of its own, READ COMMITTED; what fails is tried again at another time."""
        connection = self._connection
        if connection is None:
            return
        try:
            # The recorder's own transactions are begun by hand; in this mode the driver begins one at the first
            # statement.
            connection.raw.autocommit = False
            step(connection)
            connection.commit()
        except (psycopg.Error, StoreError) as error:
            level = logging.INFO if isinstance(error, (psycopg.OperationalError, StoreError)) else logging.WARNING
            words = "the maintenance of %s failed and will be tried again later: %s"
            _log.log(level, words, self.path, self.place.hidden(str(error)))
        finally:
            if self._connection is connection and not connection.is_lost:
                connection.rollback()
                connection.raw.autocommit = True

    def roll_back(self) -> None:
        """Undo what is open; a connection that cannot is given up."""
        connection, status = self._connection, psycopg.pq.TransactionStatus
        if connection is None:
            return
        try:
            found = connection.raw.info.transaction_status
            if found in {status.INTRANS, status.INERROR}:
                connection.raw.execute("ROLLBACK", prepare=False)
            elif found != status.IDLE:
                self.disconnect()
        except psycopg.Error:
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> None:
        """Nothing: the child leaves the connection alone."""

    def after_fork_in_parent(self) -> None:
        """Nothing."""

    def after_fork_in_child(self) -> None:
        """Leave the connection open and unused, beyond the end of the interpreter too: to close it would end it."""
        self.lock = ThreadLock(self.path)
        if self._connection is not None:
            keep_for_good(self._connection.raw)
            self._connection = None

    def _settle_in(self) -> None:
        """Give a new connection its settings and a number of its own.

        Raises:
            StoreUnreadable: the server is a standby.
        """
        assert self._connection is not None  # noqa: S101 - its callers have made one
        self._connection.raw.autocommit = True
        # By chance, not counted: recorders of all hosts must get different ones without asking each other.
        number = random.getrandbits(63)
        found = self._connection.execute(_SETTLE_IN, (str(number),)).fetchone() or ()
        *_, is_standby, pid, begun = found
        if is_standby:
            raise StoreUnreadable(f"{self.path} is a standby; record into the primary server")
        self._session = number, pid, begun

    def _reconnect(self) -> None:
        """Connects anew; while the server is away, a call tries again until its time is up."""
        self.disconnect()
        try:
            connection = self._connection = Connection(self.place, lock_seconds=self.timeout_seconds)
            check_is_store(connection)
            connection.rollback()
            self._settle_in()
        except (StoreBusy, StoreUnreadable) as error:
            self.disconnect()
            # The caller tries again at once, until its own time is up: the pause keeps it from spinning.
            time.sleep(RECONNECT_SECONDS)
            error.may_repeat = True
            raise
        except BaseException:
            self.disconnect()
            raise

    def _became(self, deadline: float) -> bool | None:
        """Whether the last transaction was committed; None where that cannot be known.

        One that changed nothing that is noted counts as not committed: it may be taken again.
        """
        xid, session = self._begun
        number, *process = session
        while True:
            try:
                connection = self._connection
                if connection is None or connection.is_lost or connection.in_transaction:
                    self._reconnect()
                    connection = cast("Connection", self._connection)
                # While the server's process of the lost connection lives, it may still commit: the answer would be too
                # early.
                if self._session == session or not connection.execute(_STILL_THERE, process).fetchone():
                    is_forgotten, is_written = connection.execute(_WRITTEN, (xid, xid, number)).fetchone() or (
                        True,
                        False,
                    )
                    # Changes so old may have been cut from the log: then their absence says nothing.
                    return None if is_forgotten and not is_written else bool(is_written)
            except (StoreBusy, StoreUnreadable, psycopg.OperationalError):
                self.disconnect()
            if time.monotonic() >= deadline:
                return None
            time.sleep(LOOK_AGAIN_SECONDS)


class _Errors(ServerErrors):
    """The same, with whether the steps may be taken again."""

    __slots__ = ()

    def error_for(self, error: psycopg.Error) -> StoreError | None:
        """Ours for the driver's; None: it is a defect of ours."""
        if isinstance(error, _PASSING):
            ours: StoreError | None = StoreBusy(
                f"{self.place} was changed by others at the same time, several times in a row; try again"
            )
            may_repeat = True
        else:
            ours = super().error_for(error)
            may_repeat = _is_loss(error)
        if ours is not None:
            ours.may_repeat = may_repeat
        return ours


def _is_loss(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or is closed by this error."""
    return (isinstance(error, psycopg.OperationalError) and error.sqlstate is None) or error.sqlstate in _LOST


def _write_settings(connection: Connection, timezone: str) -> None:
    """What a store knows of itself, unless it does."""
    connection.executemany(
        "INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
        [("timezone", timezone), ("unicode_version", UNICODE_VERSION)],
    )
    connection.commit()
