"""Which executions may be deleted, and deleting them in short batches, so that others can record in between.

A batch is one transaction: choose the oldest executions that may be deleted, append them to the archive and sync it,
delete them, and note the archive's new length. `jobstore.recording.archive` explains the recovery after a crash.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from heapq import merge
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.language.errors import InvalidParameter, StoreCorrupt, StoreError, shown
from jobstore.language.instants import MAX_US
from jobstore.language.models import STATUS_CODES, Status
from jobstore.language.rules import Kind, Parameter
from jobstore.recording.archive import Archive
from jobstore.recording.definitions import forget_names
from jobstore.recording.leftovers import flush_segments
from jobstore.storage.pruned import note_pruned
from jobstore.storage.rows import delete_by_id, is_server, schema_version, status_source
from jobstore.storage.soundness import is_server_sound, is_sound
from jobstore.storage.transactions import OutcomeUnknown

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from jobstore.storage.transactions import Transactions

    Progress = Callable[[int], None]

FIRST_BATCH: Final = 50
SMALLEST_BATCH: Final = 20
"""Smaller batches would only slow a prune down: each has a fixed cost, and a busy machine makes even them slow."""
LARGEST_BATCH: Final = 1000
BATCH_SECONDS: Final = (0.004, 0.012)
"""After a batch shorter than the first the next is larger, after one longer than the second smaller."""
PAUSE_SECONDS: Final = 0.002
"""Between batches; longer than a waiting writer sleeps before it tries the lock again."""
SCANNED: Final = 5_000
"""The most executions that one batch looks at; it may keep most of them."""
LARGEST_KEEP: Final = 10_000_000

_SUCCESS = STATUS_CODES[Status.SUCCESS]
_BAD = (STATUS_CODES[Status.FAILURE], STATUS_CODES[Status.TIMEOUT])


class Candidate(NamedTuple):
    """A finished execution before the bound of its status; candidates sort in the order of deletion."""

    effective_us: int
    id: int
    name_id: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be deleted, in instants.

    Attributes:
        until_us: for each finished status, the effective start before which executions may be deleted.
        keep_last: how many of each job's newest executions stay.
    """

    until_us: dict[int, int]
    keep_last: int


def rules(before: object, keep_last: object, keep_failures_before: object) -> Rules:
    """Validate the rules of a prune.

    Raises:
        InvalidParameter: a bound breaks its rule, or there is neither `before` nor `keep_last`.
    """
    if before is None and keep_last is None:
        raise InvalidParameter("prune() needs `before` or `keep_last`; without one it would delete the whole history")
    until_us = MAX_US + 1 if before is None else _instant("before", before)
    failures_us = until_us if keep_failures_before is None else _instant("keep_failures_before", keep_failures_before)
    if keep_last is not None and (type(keep_last) is not int or not 0 <= keep_last <= LARGEST_KEEP):
        raise InvalidParameter(f"keep_last must be an integer from 0 to {LARGEST_KEEP}; received {shown(keep_last)}")
    limits = {_SUCCESS: until_us, **dict.fromkeys(_BAD, min(until_us, failures_us))}
    return Rules(limits, keep_last or 0)


def _instant(name: str, value: object) -> int:
    return int(Parameter(name, Kind.INSTANT, "").check(value, value))


class Chooser:
    """Walks the history once, oldest first, and chooses what may be deleted.

    Which executions of a job `keep_last` keeps is determined at its first candidate; later runs only add to them.
    """

    def __init__(self, bounds: Rules) -> None:
        self._rules = bounds
        self.batch = FIRST_BATCH
        self._begin_anew(None)

    def _begin_anew(self, file: object) -> None:
        self._file = file
        self.seen = (-(2**62), 0)
        """The last key it passed; reset when a transaction is abandoned."""
        self._numbers: dict[int, int] = {}
        self._kept_from: dict[int, tuple[int, int]] = {}
        self.is_done = False

    def turn_to(self, identity: object, connection: sqlite3.Connection) -> None:
        """Start over if another file has replaced the one it walked, as after a restore."""
        file = None if is_server(connection) else (identity, schema_version(connection))
        # Otherwise a restored backup, if all older than the newest runs of the other file, would keep nothing.
        if file != self._file:
            self._begin_anew(file)

    def next_ones(self, connection: sqlite3.Connection, most: int) -> list[Candidate]:
        """The next executions to delete. May be empty although more follow, until `is_done`."""
        chosen: list[Candidate] = []
        looked_at = 0
        # A server sends all rows up to the LIMIT, read or not.
        scanned = min(SCANNED, 3 * most) if is_server(connection) else SCANNED
        walks = self._walks(connection, scanned)
        try:
            for candidate in islice(map(Candidate._make, merge(*walks)), scanned):
                if len(chosen) == most:
                    return chosen
                looked_at += 1
                self.seen = (candidate.effective_us, candidate.id)
                if self._may_go(connection, candidate):
                    chosen.append(candidate)
        finally:
            for walk in walks:
                walk.close()
        self.is_done = looked_at < scanned
        return chosen

    def names(self, connection: sqlite3.Connection, number: int) -> bool:
        """Whether the rules allow deleting this execution; never for an open one."""
        found = connection.execute(
            "SELECT effective_us, id, name_id, status FROM execution WHERE id = ?", (number,)
        ).fetchone()
        if found is None:
            return False
        *fields, status = found
        candidate = Candidate._make(fields)
        until_us = self._rules.until_us.get(status)
        return until_us is not None and candidate.effective_us < until_us and self._may_go(connection, candidate)

    def _walks(self, connection: sqlite3.Connection, most: int) -> list[sqlite3.Cursor]:
        """Executions after the last one seen, in order: one index range per status, read as far as needed."""
        return [
            connection.execute(
                f"""
                SELECT effective_us, id, name_id FROM execution INDEXED BY {status_source(status)}
                AND (effective_us, id) > (?, ?) AND effective_us < ? ORDER BY effective_us, id LIMIT ?
                """,
                (*self.seen, until_us, most),
            )
            for status, until_us in self._rules.until_us.items()
        ]

    def _may_go(self, connection: sqlite3.Connection, candidate: Candidate) -> bool:
        if not self._rules.keep_last:
            return True
        number = self._number(connection, candidate.name_id)
        if number not in self._kept_from:
            self._kept_from[number] = _kept_from(connection, number, self._rules.keep_last)
        return (candidate.effective_us, candidate.id) < self._kept_from[number]

    def _number(self, connection: sqlite3.Connection, name_id: int) -> int:
        if name_id not in self._numbers:
            self._numbers = dict(connection.execute("SELECT name_id, job_number FROM job_name"))
        return self._numbers[name_id]


def _kept_from(connection: sqlite3.Connection, number: int, keep_last: int) -> tuple[int, int]:
    """The key of the job's Nth newest execution, in any state, for ``keep_last=N``; all before it may be deleted."""
    if is_server(connection):
        return _kept_from_there(connection, number, keep_last)
    walks = [
        connection.execute(
            """
            SELECT effective_us, id FROM execution
            WHERE name_id = ? AND status = ? ORDER BY effective_us DESC, id DESC LIMIT ?
            """,
            (name_id, status, keep_last),
        )
        for (name_id,) in connection.execute("SELECT name_id FROM job_name WHERE job_number = ?", (number,)).fetchall()
        for status in STATUS_CODES.values()
    ]
    newest = list(islice(merge(*walks, reverse=True), keep_last))
    return newest[-1] if len(newest) == keep_last else (-(2**62), 0)


def _kept_from_there(connection: sqlite3.Connection, number: int, keep_last: int) -> tuple[int, int]:
    """`_kept_from` in one statement; otherwise the server would send every row."""
    names = connection.execute("SELECT name_id FROM job_name WHERE job_number = ?", (number,)).fetchall()
    walk = "SELECT effective_us, id FROM execution WHERE name_id = ? AND status = ?"
    walks = [(name_id, status) for (name_id,) in names for status in STATUS_CODES.values()]
    sql = f"{' UNION ALL '.join([walk] * len(walks))} ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET ?"
    found = connection.execute(sql, (*chain(*walks), keep_last - 1)).fetchone()
    return (-(2**62), 0) if found is None else (found[0], found[1])


def count_prunable(writer: Transactions, bounds: Rules) -> int:
    """How many executions would be deleted now, from one snapshot; changes nothing."""
    with _telling_damage(writer), writer.reading() as connection:
        chooser, found = Chooser(bounds), 0
        while not chooser.is_done:
            found += len(chooser.next_ones(connection, SCANNED))
        return found


def prune(
    writer: Transactions,
    chooser: Chooser,
    *,
    archive: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    budget_seconds: float | None = None,
) -> tuple[int, bool]:
    """Delete what `chooser` chooses; returns how many executions, and whether that was all.

    Args:
        writer: the store.
        chooser: what to delete; another call may continue it.
        archive: append the executions to this file first, as JSON lines.
        progress: called with the number deleted, after each batch.
        budget_seconds: start no further batch after this time; there is always one.
    """
    if archive is None:
        with _telling_damage(writer):
            return _prune(writer, chooser, None, progress, budget_seconds)
    with _telling_damage(writer), Archive(archive, writer) as kept:
        before = kept.recover(chooser.names)
        if progress is not None and before:
            progress(before)
        gone, is_all = _prune(writer, chooser, kept, progress, budget_seconds)
        return before + gone, is_all


@contextmanager
def _telling_damage(writer: Transactions) -> Iterator[None]:
    """Raise `StoreCorrupt` for a row that refers to a missing one, if the store is inconsistent."""
    try:
        yield
    except KeyError as error:
        with writer.reading() as connection:
            is_fine = is_server_sound(connection) if is_server(connection) else is_sound(connection)
        if is_fine:
            raise
        raise StoreCorrupt(
            f"{writer.path} is inconsistent: rows refer to missing ones. Run 'jobstore check', then restore a backup"
        ) from error


def _prune(
    writer: Transactions,
    chooser: Chooser,
    archive: Archive | None,
    progress: Progress | None,
    budget_seconds: float | None,
) -> tuple[int, bool]:
    gone, begun = 0, time.monotonic()
    while not chooser.is_done:
        length = 0 if archive is None else archive.length
        try:
            ones, started = writer.write(_batch(writer, chooser, archive))
        except StoreError as error:
            if archive is not None and not isinstance(error, OutcomeUnknown):
                with suppress(StoreError):
                    archive.cut(length)  # nothing of the batch was deleted
            raise
        gone += len(ones)
        if progress is not None and ones:
            progress(len(ones))
        now = time.monotonic()
        chooser.batch = next_batch(chooser.batch, now - started)
        if budget_seconds is not None and now - begun >= budget_seconds:
            break
        time.sleep(PAUSE_SECONDS)
    if chooser.is_done:
        flush_segments(writer, None if budget_seconds is None else begun + budget_seconds)
    return gone, chooser.is_done


def _batch(
    writer: Transactions, chooser: Chooser, archive: Archive | None
) -> Callable[[sqlite3.Connection], tuple[list[Candidate], float]]:
    """A step that deletes the next batch and returns it and its start time; a repetition starts at the same place."""
    seen, length = chooser.seen, 0 if archive is None else archive.length

    def delete(connection: sqlite3.Connection) -> tuple[list[Candidate], float]:
        started = time.monotonic()  # the wait for the lock does not count
        chooser.seen = seen
        chooser.turn_to(writer.identity, connection)
        ones = chooser.next_ones(connection, chooser.batch)
        if archive is not None:
            archive.cut(length)
            archive.take(connection, [one.id for one in ones])
        delete_executions(connection, ones)
        return ones, started

    return delete


def delete_executions(connection: sqlite3.Connection, ones: Sequence[Candidate]) -> None:
    """Delete executions, and the names of removed or renamed jobs that no execution has any more."""
    ids = [one.id for one in ones]
    note_pruned(connection, ids)
    delete_by_id(connection, ids)
    if is_server(connection):
        return  # `leftovers.forget_unused` deletes names there
    numbers = {
        number
        for name_id in {one.name_id for one in ones}
        for (number,) in connection.execute(
            """
            SELECT job_number FROM job_name AS n
            WHERE name_id = ? AND NOT EXISTS (SELECT 1 FROM name_tally AS t WHERE t.name_id = n.name_id)
            """,
            (name_id,),
        ).fetchall()
    }
    forget_names(connection, numbers)


def next_batch(batch: int, seconds: float) -> int:
    """The size of the next batch, so that each keeps others waiting only briefly on any machine.

    >>> next_batch(100, 0.001), next_batch(100, 0.01), next_batch(100, 0.5), next_batch(1, 0.5)
    (150, 100, 50, 20)
    """
    short, long = BATCH_SECONDS
    if seconds < short:
        batch = min(batch + batch // 2, LARGEST_BATCH)
    elif seconds > long:
        batch //= 2
    return max(batch, SMALLEST_BATCH)
