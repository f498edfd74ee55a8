"""What of the history may go, and its going: in short batches, so that others record meanwhile.

A batch is one transaction: choose the oldest that may go, write them to the archive and to the disk, delete
them, note how long the archive is now. After a crash the archive is longer than the note says; what stands
beyond is compared with the store and deleted there, not archived again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.engine.sealing import seal_one
from jobstore.language.errors import InvalidParameter, JobStoreError, StoreFull, shown
from jobstore.language.instants import MAX_US
from jobstore.language.models import STATUS_CODES, Status
from jobstore.language.rules import Kind, Parameter
from jobstore.recording.archive import Archive
from jobstore.storage.connection import driver_errors, open_reader
from jobstore.storage.reserve import give_up_reserve, keep_reserve

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterator

    from jobstore.storage.writer import Writer

    Progress = Callable[[int], None]

_log = logging.getLogger("jobstore")

FIRST_BATCH: Final = 100
LARGEST_BATCH: Final = 1000
EMERGENCY_BATCH: Final = 20
BATCH_SECONDS: Final = (0.02, 0.06)
"""A batch that took less than the first is followed by a larger one, more than the second by a smaller one."""
PAUSE_SECONDS: Final = 0.002
"""Between batches; longer than a waiting writer sleeps before it looks again."""
SCANNED: Final = 5_000
"""Executions that one batch looks at; most of them may be kept."""
LARGEST_KEEP: Final = 10_000_000
LARGEST_DAYS: Final = 3_650_000

_SUCCESS = STATUS_CODES[Status.SUCCESS]
_BAD = (STATUS_CODES[Status.FAILURE], STATUS_CODES[Status.TIMEOUT])


class Candidate(NamedTuple):
    """An execution that may go, in the order in which they go."""

    effective_us: int
    id: int
    name_id: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What may go, in instants.

    Attributes:
        until_us: by status, the effective start that those that go lie before.
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
        raise InvalidParameter("prune needs before or keep_last, or all the history would go; give one of them")
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
        self.is_done = False

    def next_ids(self, connection: sqlite3.Connection, most: int) -> list[int]:
        """The next executions to go; perhaps none, and more to come, until `is_done`."""
        looked_at = list(islice(self._candidates(connection), SCANNED))
        chosen: list[int] = []
        for candidate in looked_at:
            if len(chosen) == most:
                return chosen
            self._seen = (candidate.effective_us, candidate.id)
            if self._may_go(connection, candidate):
                chosen.append(candidate.id)
        self.is_done = len(looked_at) < SCANNED
        return chosen

    def _candidates(self, connection: sqlite3.Connection) -> Iterator[Candidate]:
        """Those beyond the last one seen, whatever the status, in order: one index range for each status."""
        walks = [
            connection.execute(
                """
                SELECT effective_us, id, name_id FROM execution
                WHERE status = ? AND (effective_us, id) > (?, ?) AND effective_us < ?
                ORDER BY effective_us, id
                """,
                (status, *self._seen, until_us),
            )
            for status, until_us in self._rules.until_us.items()
        ]
        return map(Candidate._make, merge(*walks))

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
    """How many would go now, from one snapshot; nothing is changed."""
    from pathlib import Path  # only here

    with driver_errors(Path(path)):
        connection = open_reader(Path(path))
        try:
            connection.execute("BEGIN")
            chooser, found = Chooser(bounds), 0
            while not chooser.is_done:
                found += len(chooser.next_ids(connection, SCANNED))
            return found
        finally:
            connection.close()


def prune(
    writer: Writer,
    chooser: Chooser,
    *,
    archive: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    budget_seconds: float | None = None,
    batch: int = FIRST_BATCH,
) -> tuple[int, bool]:
    """Removes what may go; how many went, and whether that was all.

    Args:
        writer: of the store.
        chooser: of what may go.
        archive: the file that gets them first, as JSON lines.
        progress: is called with the number that went, after each batch.
        budget_seconds: no further batch begins after that time; there is always one. One digest is written anew then,
            without a budget every one that went.
        batch: how many go at first.
    """
    if archive is None:
        return _prune(writer, chooser, None, progress, budget_seconds, batch)
    with Archive(archive, writer) as kept:
        before = kept.recover()
        if progress is not None and before:
            progress(before)
        gone, is_all = _prune(writer, chooser, kept, progress, budget_seconds, batch)
        return before + gone, is_all


def _prune(
    writer: Writer,
    chooser: Chooser,
    archive: Archive | None,
    progress: Progress | None,
    budget_seconds: float | None,
    batch: int,
) -> tuple[int, bool]:
    gone, begun = 0, time.monotonic()
    while not chooser.is_done:
        started = time.monotonic()
        with writer.transaction() as connection:
            ids = chooser.next_ids(connection, batch)
            if archive is not None:
                archive.take(connection, ids)
            connection.executemany("DELETE FROM execution WHERE id = ?", [(number,) for number in ids])
        gone += len(ids)
        if progress is not None and ids:
            progress(len(ids))
        now = time.monotonic()
        if budget_seconds is not None and now - begun >= budget_seconds:
            break
        batch = next_batch(batch, now - started)
        time.sleep(PAUSE_SECONDS)
    if gone and chooser.is_done:  # what was pruned has lost its digests
        while seal_next(writer) and budget_seconds is None:
            time.sleep(PAUSE_SECONDS)
    return gone, chooser.is_done


def seal_next(writer: Writer) -> bool:
    """Writes the next digest that is due, in a transaction of its own; whether there was one.

    What fails is told to the log: nothing is lost, readers walk what has no digest.
    """
    try:
        with writer.transaction() as connection:
            return seal_one(connection)
    except JobStoreError as error:
        _log.warning("a digest could not be written to %s: %s", writer.path, error)
        return False


def next_batch(batch: int, seconds: float) -> int:
    """How many go next, so that a batch keeps others waiting for a short time on any machine.

    >>> next_batch(100, 0.001), next_batch(100, 0.03), next_batch(100, 0.5)
    (150, 100, 50)
    """
    short, long = BATCH_SECONDS
    if seconds < short:
        return min(batch + batch // 2, LARGEST_BATCH)
    return max(batch // 2, 1) if seconds > long else batch


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
                ids = chooser.next_ids(connection, batch)
                connection.executemany("DELETE FROM execution WHERE id = ?", [(number,) for number in ids])
        except StoreFull:
            if batch == 1:
                raise
            batch, chooser = batch // 2, None  # what it chose is still there
            continue
        _write_back(writer)
        gone += len(ids)
        if progress is not None and ids:
            progress(len(ids))
    keep_reserve(writer.file)
    return gone


def _write_back(writer: Writer) -> None:
    """Moves the log into the file and gives its room back."""
    with writer.held() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@dataclass(frozen=True, slots=True)
class Retention:
    """How a recorder prunes by itself: now and then after a finish, for a short time.

    Attributes:
        days: executions that started longer ago go.
        keep_last: none of the newest of each job go.
        failure_days: failures and time-outs go only when they started longer ago than this.
        archive: the file that gets them first, as JSON lines.
        every_seconds: between two passes over the history.
        budget_seconds: after which a pass pauses, to go on ten times as long later.
    """

    days: float | None = None
    keep_last: int | None = None
    failure_days: float | None = None
    archive: str | os.PathLike[str] | None = None
    every_seconds: float = 3600.0
    budget_seconds: float = 0.1

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

    def __init__(self, retention: Retention, writer: Writer, clock: Callable[[], datetime]) -> None:
        self._retention = retention
        self._writer = writer
        self._clock = clock
        self._due = 0.0
        self._chooser: Chooser | None = None
        retention.rules(clock())

    def prune_if_due(self) -> None:
        """Goes on with the pass that was interrupted, or begins one; what fails is told to the log."""
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
        chooser = self._chooser or Chooser(self._retention.rules(self._clock()))
        self._chooser = chooser
        _, is_all = prune(
            self._writer, chooser, archive=self._retention.archive, budget_seconds=self._retention.budget_seconds
        )
        if is_all:
            self._chooser = None
        return is_all
