"""Which executions may be deleted, and deleting them in short batches, so that others record meanwhile.

A batch is one transaction: choose the oldest that may go, append them to the archive and bring it to the disk, delete
them, note how long the archive is now. `jobstore.recording.archive` says what a crash in between leaves.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.language.errors import InvalidParameter, JobStoreError, StoreFull, shown
from jobstore.language.instants import MAX_US, instant_datetime, instant_text, instant_us
from jobstore.language.models import STATUS_CODES, Status
from jobstore.language.rules import Kind, Parameter
from jobstore.recording.archive import Archive
from jobstore.recording.definitions import forget_names
from jobstore.storage.connection import Reading
from jobstore.storage.pruned import note_pruned
from jobstore.storage.reserve import give_up_reserve, keep_reserve
from jobstore.storage.rows import status_source
from jobstore.storage.schema import DAY_US, IS_NO_SUCCESS
from jobstore.storage.segments import due_segments, is_unchanged, make_segment, save_segment
from jobstore.storage.writer import INCREMENTAL

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Sequence

    from jobstore.storage.writer import Writer

    Progress = Callable[[int], None]

_log = logging.getLogger("jobstore")

FIRST_BATCH: Final = 50
SMALLEST_BATCH: Final = 20
"""What a batch costs beside its executions, and a machine that is busy, would make smaller ones slower still."""
LARGEST_BATCH: Final = 1000
EMERGENCY_BATCH: Final = 20
BATCH_SECONDS: Final = (0.004, 0.012)
"""A batch that took less than the first is followed by a larger one, more than the second by a smaller one."""
PAUSE_SECONDS: Final = 0.002
"""Between batches; longer than a waiting writer sleeps before it looks again."""
SCANNED: Final = 5_000
"""Executions that one batch looks at, at most; most of them may be kept."""
COMPACTED_PAGES: Final = 50
"""That one step of `compact` moves."""
CLOCK_TOLERANCE_US: Final = DAY_US
LONGEST_GAP_US: Final = 366 * DAY_US
"""Where the history is silent for longer than that, it cannot be told from a wrong clock."""
LARGEST_KEEP: Final = 10_000_000
LARGEST_DAYS: Final = 3_650_000

_SUCCESS = STATUS_CODES[Status.SUCCESS]
_BAD = (STATUS_CODES[Status.FAILURE], STATUS_CODES[Status.TIMEOUT])


class Candidate(NamedTuple):
    """A finished execution earlier than the bound of its status, in the order in which they are deleted."""

    effective_us: int
    id: int
    name_id: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be deleted, in instants.

    Attributes:
        until_us: by finished status, the effective start before which executions may be deleted.
        keep_last: how many of the newest of each job stay.
    """

    until_us: dict[int, int]
    keep_last: int


def rules(before: object, keep_last: object, keep_failures_before: object) -> Rules:
    """The rules, checked.

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
    """Goes through the history once, oldest first, past what stays.

    What is newest in a job is asked when its first candidate comes; what is recorded later only adds to what stays.
    """

    def __init__(self, bounds: Rules) -> None:
        self._rules = bounds
        self._seen = (-(2**62), 0)
        self._numbers: dict[int, int] = {}
        self._kept_from: dict[int, tuple[int, int]] = {}
        self.batch = FIRST_BATCH
        self.is_done = False

    def next_ones(self, connection: sqlite3.Connection, most: int) -> list[Candidate]:
        """The next executions to delete; perhaps none, and more to come, until `is_done`."""
        chosen: list[Candidate] = []
        looked_at = 0
        walks = self._walks(connection)
        try:
            for candidate in islice(map(Candidate._make, merge(*walks)), SCANNED):
                if len(chosen) == most:
                    return chosen
                looked_at += 1
                self._seen = (candidate.effective_us, candidate.id)
                if self._may_go(connection, candidate):
                    chosen.append(candidate)
        finally:
            for walk in walks:
                walk.close()
        self.is_done = looked_at < SCANNED
        return chosen

    def names(self, connection: sqlite3.Connection, number: int) -> bool:
        """Whether the rules name this execution; never an open one."""
        found = connection.execute(
            "SELECT effective_us, id, name_id, status FROM execution WHERE id = ?", (number,)
        ).fetchone()
        if found is None:
            return False
        *fields, status = found
        candidate = Candidate._make(fields)
        until_us = self._rules.until_us.get(status)
        return until_us is not None and candidate.effective_us < until_us and self._may_go(connection, candidate)

    def _walks(self, connection: sqlite3.Connection) -> list[sqlite3.Cursor]:
        """Those beyond the last one seen, in order: one index range for each status, read as far as it is needed."""
        return [
            connection.execute(
                f"""
                SELECT effective_us, id, name_id FROM execution INDEXED BY {status_source(status)}
                AND (effective_us, id) > (?, ?) AND effective_us < ? ORDER BY effective_us, id
                """,
                (*self._seen, until_us),
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
    """The oldest of the newest executions of a job, in any state; everything before it may go."""
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


def count_prunable(path: os.PathLike[str], bounds: Rules) -> int:
    """How many would be deleted now, from one snapshot; nothing is changed."""
    with Reading(Path(path)) as reading:
        chooser, found = Chooser(bounds), 0
        while not chooser.is_done:
            found += len(chooser.next_ones(reading.connection, SCANNED))
        return found


def prune(
    writer: Writer,
    chooser: Chooser,
    *,
    archive: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    budget_seconds: float | None = None,
) -> tuple[int, bool]:
    """Deletes what may go; how many executions that were, and whether that was all.

    Args:
        writer: of the store.
        chooser: of what may go.
        archive: the file to which they are appended first, as JSON lines.
        progress: is called with the number deleted, after each batch.
        budget_seconds: no further batch begins after that time; there is always one.
    """
    if archive is None:
        return _prune(writer, chooser, None, progress, budget_seconds)
    with Archive(archive, writer) as kept:
        before = kept.recover(chooser.names)
        if progress is not None and before:
            progress(before)
        gone, is_all = _prune(writer, chooser, kept, progress, budget_seconds)
        return before + gone, is_all


def _prune(
    writer: Writer,
    chooser: Chooser,
    archive: Archive | None,
    progress: Progress | None,
    budget_seconds: float | None,
) -> tuple[int, bool]:
    gone, begun = 0, time.monotonic()
    while not chooser.is_done:
        with writer.transaction() as connection:
            started = time.monotonic()  # a wait for others says nothing about this machine
            ones = chooser.next_ones(connection, chooser.batch)
            if archive is not None:
                archive.take(connection, [one.id for one in ones])
            delete_executions(connection, ones)
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


def delete_executions(connection: sqlite3.Connection, ones: Sequence[Candidate]) -> None:
    """Deletes executions, and with the last one of a removed or renamed job the name it was recorded under."""
    note_pruned(connection, [one.id for one in ones])
    connection.executemany("DELETE FROM execution WHERE id = ?", [(one.id,) for one in ones])
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


def forget_unused(writer: Writer) -> None:
    """Deletes the parameters and worker ids that no execution has any more.

    One pass over the executions finds them, in a snapshot and without the lock; under the lock only those are looked
    at again that may have changed since.
    """
    with Reading(writer.file) as reading:
        reader = reading.connection
        unused = _unused(reader, "parameter_set", "parameter_set_id"), _unused(reader, "worker", "worker_id")
        (newest,) = reader.execute("SELECT coalesce(max(id), 0) FROM execution").fetchone()
        changing = [
            key for (key,) in reader.execute(f"SELECT id FROM execution WHERE {IS_NO_SUCCESS} AND status IN (2, 3)")
        ]
    if any(unused):
        with writer.held() as connection:
            connection.execute("PRAGMA foreign_keys = OFF")  # each deleted key would be looked for in every execution
            try:
                _delete_unused(connection, *unused, newest, changing)
            finally:
                connection.execute("PRAGMA foreign_keys = ON")


def _unused(reader: sqlite3.Connection, table: str, key: str) -> set[int]:
    kept = {found for (found,) in reader.execute(f"SELECT {key} FROM {table}")}
    return kept - {found for (found,) in reader.execute(f"SELECT DISTINCT {key} FROM execution")} if kept else kept


def _delete_unused(
    connection: sqlite3.Connection, sets: set[int], workers: set[int], newest: int, changing: Sequence[int]
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = connection.execute(
            "SELECT parameter_set_id, worker_id FROM execution WHERE id > ?", (newest,)
        ).fetchall()
        for key in changing:
            rows += connection.execute("SELECT parameter_set_id, worker_id FROM execution WHERE id = ?", (key,))
        for table, unused, position in (("parameter_set", sets, 0), ("worker", workers, 1)):
            keys = [(key,) for key in unused - {row[position] for row in rows}]
            connection.executemany(f"DELETE FROM {table} WHERE {table}_id = ?", keys)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def compact(writer: Writer, progress: Progress | None) -> int:
    """Gives free pages back to the disk, some at a time; how many bytes the file shrank."""
    with writer.held() as connection:
        (kind,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        begin = _pages(connection)
        if kind != INCREMENTAL:  # a file of the first format: once as a whole, while others wait
            connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
            connection.execute("VACUUM")
    pages, left = begin, True
    while left:
        with writer.transaction() as connection:
            connection.execute(f"PRAGMA incremental_vacuum({COMPACTED_PAGES})").fetchall()
            before, pages = pages, _pages(connection)
            left = pages < before and connection.execute("PRAGMA freelist_count").fetchone() != (0,)
        if progress is not None and pages < before:
            progress((before - pages) * page_size)
        time.sleep(PAUSE_SECONDS)
    with writer.held() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return int((begin - pages) * page_size)


def _pages(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return int(pages)


def flush_segments(writer: Writer, deadline: float | None) -> None:
    """Writes the segments of the bitmap index that are due; none begins after the deadline.

    They are made from a snapshot without the lock, since that takes a tenth of a second each, and written at once, if
    nothing in them has changed since. What fails is logged: nothing is lost, readers use the rows instead.
    """
    try:
        with Reading(writer.path) as reading:
            due = list(due_segments(reading.connection))
        for segment in due:
            if deadline is not None and time.monotonic() >= deadline:
                return
            with Reading(writer.path) as reading:
                (seq,) = reading.connection.execute("SELECT coalesce(max(seq), 0) FROM change").fetchone()
                blobs = make_segment(reading.connection, segment)
            with writer.transaction() as connection:
                if blobs and is_unchanged(connection, segment, seq):
                    save_segment(connection, blobs)
    except JobStoreError as error:
        _log.warning("the bitmap index of %s could not be written: %s", writer.path, error)


def next_batch(batch: int, seconds: float) -> int:
    """How many to delete next, so that a batch keeps others waiting for a short time on any machine.

    >>> next_batch(100, 0.001), next_batch(100, 0.01), next_batch(100, 0.5), next_batch(1, 0.5)
    (150, 100, 50, 20)
    """
    short, long = BATCH_SECONDS
    if seconds < short:
        batch = min(batch + batch // 2, LARGEST_BATCH)
    elif seconds > long:
        batch //= 2
    return max(batch, SMALLEST_BATCH)


def prune_emergency(writer: Writer, bounds: Rules | None, progress: Progress | None) -> int:
    """The same on a full disk, in the room of the reserve; without bounds the room alone is given up.

    The log is written back after each small batch, so that it never needs more room than one.

    Raises:
        StoreFull: there is no room left even for one execution.
    """
    give_up_reserve(writer.file)
    _write_back(writer)
    gone, batch, chooser = 0, EMERGENCY_BATCH, None
    while bounds is not None and (chooser is None or not chooser.is_done):
        chooser = chooser or Chooser(bounds)
        try:
            with writer.transaction() as connection:
                ones = chooser.next_ones(connection, batch)
                delete_executions(connection, ones)
        except StoreFull:
            if batch == 1:
                raise
            batch, chooser = batch // 2, None  # what it chose is still there
            continue
        _write_back(writer)
        gone += len(ones)
        if progress is not None and ones:
            progress(len(ones))
    keep_reserve(writer.file)
    return gone


def _write_back(writer: Writer) -> None:
    """Moves the log into the file and gives its room back."""
    with writer.held() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@dataclass(frozen=True, slots=True)
class Retention:
    """How a recorder prunes by itself: now and then after a finish, for a short time.

    It stops, with a warning in the log, while the clock cannot be trusted: where it was set by more than a day, where
    the newest execution lies more than a day in the future, and, with `days`, where nothing was recorded for more than
    a year and then something was. `Recorder.prune` works all the same.

    Attributes:
        days: delete executions that started longer ago.
        keep_last: always keep each job's newest N executions.
        failure_days: delete failures and time-outs only if they started longer ago than this.
        archive: append the documents to this file first, as JSON lines.
        every_seconds: the pause between two passes over the history.
        budget_seconds: after this time a pass pauses; it goes on ten times as long later.
    """

    days: float | None = None
    keep_last: int | None = None
    failure_days: float | None = None
    archive: str | os.PathLike[str] | None = None
    every_seconds: float = 3600.0
    budget_seconds: float = 0.01

    def rules(self, now: datetime) -> Rules:
        """The rules as of a moment.

        Raises:
            InvalidParameter: a number breaks its rule, or there is neither `days` nor `keep_last`.
        """
        return rules(
            _days_before(now, self.days, "days"), self.keep_last, _days_before(now, self.failure_days, "failure_days")
        )


def _days_before(now: datetime, days: object, name: str) -> datetime | None:
    if days is None:
        return None
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days <= LARGEST_DAYS:
        raise InvalidParameter(f"{name} must be a number from 0 to {LARGEST_DAYS}; received {shown(days)}")
    return max(now.astimezone(UTC) - timedelta(days=days), datetime(1, 1, 1, tzinfo=UTC))


class Keeper:
    """Prunes for a recorder when it is time, and never lets that be felt but by a short wait."""

    def __init__(self, retention: Retention, writer: Writer, clock: Callable[[], datetime], *, is_system: bool) -> None:
        self._retention = retention
        self._writer = writer
        self._clock = clock
        self._drift_us = _drift_us if is_system else None
        self._first_drift_us = _drift_us()
        self._due = 0.0
        self._chooser: Chooser | None = None
        retention.rules(clock())

    def prune_if_due(self) -> None:
        """Continue the interrupted pass, or begin one; failures go to the log."""
        if time.monotonic() < self._due:
            return
        self._due = float("inf")  # other threads go on meanwhile
        pause = self._retention.every_seconds
        try:
            if not self._prune():
                pause = min(pause, 10 * self._retention.budget_seconds)
        except JobStoreError as error:
            self._chooser = None
            _log.warning("the recorder could not prune %s: %s", self._writer.path, error)
        finally:
            self._due = time.monotonic() + pause

    def _prune(self) -> bool:
        """Whether the pass came to its end."""
        if self._chooser is None:
            now = self._clock()
            doubt = self._doubt(instant_us(now))
            if doubt is not None:
                _log.warning(
                    "automatic pruning of %s has stopped: %s; set the clock right, or call prune() yourself",
                    self._writer.path,
                    doubt,
                )
                return True
            self._chooser = Chooser(self._retention.rules(now))
        _, is_all = prune(
            self._writer, self._chooser, archive=self._retention.archive, budget_seconds=self._retention.budget_seconds
        )
        if is_all:
            self._chooser = None
        return is_all

    def _doubt(self, now_us: int) -> str | None:
        """Why the clock cannot be trusted, if it cannot."""
        if self._drift_us is not None and abs(self._drift_us() - self._first_drift_us) > CLOCK_TOLERANCE_US:
            return "the clock was set by more than a day while this process ran"
        oldest_kept = _days_before(instant_datetime(now_us), self._retention.days, "days")
        until_us = None if oldest_kept is None else instant_us(oldest_kept)
        with self._writer.transaction() as connection:
            newest = _nearest(connection, MAX_US + 1)
            gap = None if until_us is None else _long_gap(connection, now_us)
        if newest is not None and newest > now_us + CLOCK_TOLERANCE_US:
            return f"the newest execution, of {instant_text(newest)}, lies in the future"
        if gap is not None and until_us is not None and gap[0] < until_us:
            return f"nothing was recorded between {instant_text(gap[0])} and {instant_text(gap[1])}"
        return None


def _drift_us() -> int:
    """How far the system's clock is from one that nobody sets, and that goes on while the machine sleeps."""
    steady = time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    return (time.time_ns() - steady) // 1000


def _long_gap(connection: sqlite3.Connection, now_us: int) -> tuple[int, int] | None:
    """The newest stretch of more than a year in which nothing was recorded."""
    later = now_us
    while (older := _nearest(connection, later - LONGEST_GAP_US)) is not None:
        following = _nearest(connection, older + 1, later=True) or now_us
        if following - older > LONGEST_GAP_US:
            return older, following
        later = older
    return None


def _nearest(connection: sqlite3.Connection, bound_us: int, *, later: bool = False) -> int | None:
    """The effective start nearest before a moment, or at or after it."""
    compared, order = (">=", "ASC") if later else ("<", "DESC")
    found = [
        effective_us
        for status in STATUS_CODES.values()
        for (effective_us,) in connection.execute(
            f"""
            SELECT effective_us FROM execution INDEXED BY {status_source(status)}
            AND effective_us {compared} ? ORDER BY effective_us {order} LIMIT 1
            """,
            (bound_us,),
        )
    ]
    return (min if later else max)(found, default=None)
