"""The writing connection to a PostgreSQL server: what `jobstore.storage.writer` is for a file.

Any number of hosts write at once, so a transaction may fail: another one changed the same execution, or both added the
same name. Each is one snapshot (REPEATABLE READ). If another transaction has changed a row that it also writes, it ends
with nothing written, and its steps are repeated. Each transaction first locks the table ``execution`` in a mode that
recorders share; deleting unused rows takes a mode that briefly blocks all of them.

A connection may be lost at any time. If COMMIT was not sent, nothing is written, and the steps are repeated on a new
connection. Otherwise the log of changes says whether the transaction wrote its rows.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import psycopg
from psycopg import errors

from jobstore.language.errors import StoreBusy, StoreError, StoreUnreadable
from jobstore.language.search import UNICODE_VERSION
from jobstore.storage.forking import Forkable, keep_for_good, tell_of_forks
from jobstore.storage.lock import ThreadLock
from jobstore.storage.postgres.connection import Connection, Place, ServerErrors, check_is_store, is_loss, refused
from jobstore.storage.postgres.schema import fold, migrate, settle_restored
from jobstore.storage.postgres.unused import delete_unused, find_unused, forget_processes
from jobstore.storage.transactions import OutcomeUnknown, Transactions, WriterClosed
from jobstore.storage.turns import CHANCE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from jobstore.language.address import Address

_log = logging.getLogger("jobstore")

# On average, this many commits of all recorders lie between two folds; chosen at random, so nothing is counted.
TIDIED_EVERY: Final = 128
# Pause between two attempts to reach a server that is down: a restart takes seconds.
RECONNECT_SECONDS: Final = 0.1
LOOK_AGAIN_SECONDS: Final = 0.01
# A recorder that is suspended during a transaction blocks others for no longer than this.
STOPPED_SECONDS: Final = 60
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE execution IN ROW EXCLUSIVE MODE; "
    "SELECT pg_current_xact_id()::text::bigint"
)
# Most statements of a recorder find a row by its key, so the server may keep their plans ("auto").
_SETTLE_IN: Final = f"""
SELECT set_config('jobstore.session', ?, false), set_config('plan_cache_mode', 'auto', false),
    set_config('idle_in_transaction_session_timeout', '{STOPPED_SECONDS}s', false),
    pg_is_in_recovery(), pid, backend_start::text
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
_STILL_THERE: Final = "SELECT 1 FROM pg_stat_activity WHERE pid = ? AND backend_start::text IS NOT DISTINCT FROM ?"
_WRITTEN: Final = """
SELECT f.trimmed >= ?, EXISTS (SELECT 1 FROM change AS c WHERE c.xid = ? AND c.session = ?) FROM folding AS f
"""
# Another transaction came first; repeated after it, the same steps see what it wrote and act on it.
_PASSING: Final = (
    errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation, errors.ExclusionViolation,
)  # fmt: skip


class PostgresWriter(Transactions, Forkable):
    """The writing connection of a recorder to a server; usable from several threads and across forks."""

    driver_error = psycopg.Error

    def __init__(self, address: Address, *, timezone: str = "UTC", timeout_seconds: float) -> None:
        """Connect to the store, or create it.

        Args:
            address: of the store.
            timezone: of a store that is created.
            timeout_seconds: how long a call waits for other writers, and for a server that is down.

        Raises:
            StoreError: the store cannot be used; the child class says why.
        """
        self.path = address
        self.place = place = Place(address.secret)
        self.timeout_seconds = timeout_seconds
        self.lock = ThreadLock(address)
        self.errors = _Errors(place)
        self._connection: Connection | None = None
        self._session: tuple[int, int, str] = (0, 0, "")
        """Identifies the connection: a random number, and the server process with its start time."""
        self._begun = (0, self._session)
        """The number of the last transaction, and its session."""
        self._is_committed = self._is_closed = False
        tell_of_forks(self)
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

    def close(self) -> None:
        if self._is_closed:
            return
        with self.lock.acquired(self.timeout_seconds):
            self._is_closed = True
            self.disconnect()

    def current(self) -> sqlite3.Connection:
        """The connection, opened again if there is none or it was lost; inside the turn."""
        if self._is_closed:
            raise WriterClosed(f"The recorder of {self.path} is closed; open another")
        connection = self._connection
        if connection is not None and not connection.is_lost:
            self.roll_back()  # what an interrupted call left open
        if self._connection is None or self._connection.is_lost:
            self._reconnect()
        return cast("sqlite3.Connection", self._connection)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction and read its number, in one round trip."""
        self._is_committed = False
        # The number is needed before anything is written: it identifies the outcome if the connection is lost.
        cursor = cast("Connection", connection).raw.execute(_BEGIN, prepare=False)
        while cursor.nextset():
            pass
        (xid,) = cursor.fetchone() or (0,)
        self._begun = (xid, self._session)

    def commit(self) -> None:
        """Commit the transaction; if the answer is lost, find out what happened, or raise `OutcomeUnknown`."""
        connection = self._connection
        if connection is None:
            return
        try:
            connection.raw.execute("COMMIT", prepare=False)
            self._is_committed = True
        except psycopg.Error as error:
            # The server answered that it refused the transaction; that is certain.
            if not is_loss(error):
                raise
            became = self._became(time.monotonic() + self.timeout_seconds)
            self._is_committed = became is True
            if became is None:
                raise OutcomeUnknown(
                    f"The connection to {self.path} was lost; the call may have been recorded, so check before you "
                    "repeat it"
                ) from None
            if not became:
                raise

    def is_committed(self) -> bool:
        """Whether the transaction was committed, after an exception during the commit."""
        connection = self._connection
        status = psycopg.pq.TransactionStatus
        if self._is_committed:
            return True
        if connection is not None and connection.raw.info.transaction_status == status.INTRANS:
            return False  # COMMIT was not sent
        return self._became(time.monotonic() + self.timeout_seconds) is True

    def tidy(self) -> None:
        """Now and then, fold the counters and delete old processes."""
        if CHANCE.randrange(TIDIED_EVERY) == 0:
            self._apart(fold)
            self._apart(forget_processes)

    def forget_unused(self) -> None:
        with self.reading() as reader:
            unused = find_unused(cast("Connection", reader))
        # The long pass over all executions is over by now: only the deletion blocks others.
        with self.held():
            self._apart(partial(delete_unused, unused=unused))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self.errors, closing(Connection(self.place, is_reader=True)) as connection:
            connection.begin_long_snapshot()
            yield cast("sqlite3.Connection", connection)

    def _apart(self, step: Callable[[Connection], object]) -> None:
        """Run a step in a transaction of its own, READ COMMITTED; a failed step is left for another time."""
        connection = self._connection
        if connection is None:
            return
        try:
            # The recorder begins its own transactions explicitly; in this mode the driver begins one with a statement.
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
        """Undo the open transaction; give up a connection that cannot."""
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
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Leave the connection open and unused, even at interpreter exit: closing it would end the parent's session."""
        self.lock = ThreadLock(self.path)
        if self._connection is not None:
            keep_for_good(self._connection.raw)
            self._connection = None

    def _settle_in(self) -> None:
        """Configure a new connection and give it a number of its own; raise `StoreUnreadable` on a standby."""
        assert self._connection is not None  # noqa: S101 - its callers have made one
        self._connection.raw.autocommit = True
        # Random, so that recorders of all hosts get different numbers without coordination.
        number = CHANCE.getrandbits(63)
        found = self._connection.execute(_SETTLE_IN, (str(number),)).fetchone() or ()
        *_, is_standby, pid, begun = found
        if is_standby:
            raise StoreUnreadable(f"{self.path} is a standby; record into the primary server")
        self._session = number, pid, begun

    def _reconnect(self) -> None:
        """Open a new connection; a failure may be repeated, so a call keeps trying until its time is up."""
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
        """Whether the last transaction was committed; None if that cannot be known.

        It was if the log of changes has a row with its number and its session. If there is none, it was not, or it
        wrote nothing that the log records and may safely be repeated. The answer is final only once the server process
        of the lost connection has ended, since that may still commit.
        """
        xid, session = self._begun
        number, *process = session
        while True:
            try:
                connection = self._connection
                if connection is None or connection.is_lost or connection.in_transaction:
                    self._reconnect()
                    connection = cast("Connection", self._connection)
                # While the server process of the lost connection lives, it may still commit.
                if self._session == session or not connection.execute(_STILL_THERE, process).fetchone():
                    is_forgotten, is_written = connection.execute(_WRITTEN, (xid, xid, number)).fetchone() or (
                        True,
                        False,
                    )
                    # Changes this old may have been trimmed from the log, so a missing row proves nothing.
                    return None if is_forgotten and not is_written else bool(is_written)
            except (StoreBusy, StoreUnreadable, psycopg.OperationalError):
                self.disconnect()
            if time.monotonic() >= deadline:
                return None
            time.sleep(LOOK_AGAIN_SECONDS)


class _Errors(ServerErrors):
    """As `ServerErrors`, and marks errors after which the steps may be repeated."""

    __slots__ = ()

    def error_for(self, error: psycopg.Error) -> StoreError | None:
        if isinstance(error, _PASSING):
            busy = StoreBusy(f"{self.place} was changed by others at the same time, several times in a row; try again")
            busy.may_repeat = True
            return busy
        ours = super().error_for(error)
        # The values that are recorded have been checked: another program's column or constraint refuses one.
        if ours is None and isinstance(error, psycopg.DataError) and error.sqlstate is not None:
            return refused(error, self.place)
        return ours


def _write_settings(connection: Connection, timezone: str) -> None:
    """Write the settings of a new store; existing ones stay."""
    connection.executemany(
        "INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
        [("timezone", timezone), ("unicode_version", UNICODE_VERSION)],
    )
    connection.commit()
