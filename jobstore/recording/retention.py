"""Automatic pruning: a recorder keeps its history within bounds, and stops if the clock cannot be trusted."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobstore.language.address import refuse_address
from jobstore.language.errors import InvalidParameter, JobStoreError, shown
from jobstore.language.fields import LARGEST_SECONDS, checked_measure
from jobstore.language.instants import MAX_US, instant_datetime, instant_text, instant_us
from jobstore.language.models import STATUS_CODES
from jobstore.recording.prune import Chooser, Rules, prune, rules
from jobstore.storage.folders import folder_gone
from jobstore.storage.rows import status_source
from jobstore.storage.schema import DAY_US

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from jobstore.storage.transactions import Transactions

_log = logging.getLogger("jobstore")

CLOCK_TOLERANCE_US: Final = DAY_US
LONGEST_GAP_US: Final = 366 * DAY_US
"""A longer gap in the history looks the same as a wrong clock."""
LARGEST_DAYS: Final = 3_650_000


@dataclass(frozen=True, slots=True)
class Retention:
    """How a recorder prunes automatically: from time to time after a `finish`, for a short time.

    It stops, with a warning in the log, while the clock cannot be trusted: if it was set by more than a day, if the
    newest execution lies more than a day in the future, or, with `days`, if a gap of more than a year follows
    executions that would be deleted. `Recorder.prune` still works then.

    Attributes:
        days: delete executions that started longer ago than this; a period that begins before the year 1 deletes none.
        keep_last: always keep each job's newest N executions.
        failure_days: delete failures and timeouts only if they started longer ago than this.
        archive: append the documents to this file first, as JSON lines.
        every_seconds: the pause between two passes over the history.
        budget_seconds: a pass pauses after this time for ten times as long.
    """

    days: float | None = None
    keep_last: int | None = None
    failure_days: float | None = None
    archive: str | os.PathLike[str] | None = None
    every_seconds: float = 3600.0
    budget_seconds: float = 0.01

    def rules(self, now: datetime) -> Rules:
        """The rules of a prune at this moment.

        Raises:
            InvalidParameter: a number breaks its rule, or neither `days` nor `keep_last` is given.
        """
        if self.days is None and self.keep_last is None:
            raise InvalidParameter("Retention needs days or keep_last; without one it would delete the whole history")
        return rules(
            _days_before(now, self.days, "days"), self.keep_last, _days_before(now, self.failure_days, "failure_days")
        )


def _days_before(now: datetime, days: object, name: str) -> datetime | None:
    if days is None:
        return None
    period = timedelta(days=checked_measure(days, name, LARGEST_DAYS))
    moment, first = now.astimezone(UTC), datetime(1, 1, 1, tzinfo=UTC)
    return moment - min(period, moment - first)


def _check(retention: object) -> None:
    """Refuse what would otherwise fail after a run, when the recorder prunes."""
    if not isinstance(retention, Retention):
        raise InvalidParameter(f"retention must be a jobstore.Retention; received {shown(retention)}")
    archive = retention.archive
    if archive is not None and (not isinstance(archive, str | os.PathLike) or not os.fspath(archive)):
        raise InvalidParameter(f"archive must be the path of a file; received {shown(archive)}")
    refuse_address(archive, "archive")
    for name in ("every_seconds", "budget_seconds"):
        checked_measure(getattr(retention, name), name, LARGEST_SECONDS)


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError:
        raise folder_gone(path) from None


class Keeper:
    """Prunes for a recorder when it is due; callers notice only a short wait."""

    def __init__(
        self, retention: Retention, writer: Transactions, clock: Callable[[], datetime], *, is_system: bool
    ) -> None:
        _check(retention)
        if retention.archive is not None:  # resolved now: the process may change its folder
            retention = replace(retention, archive=_absolute(Path(retention.archive)))
        self._retention = retention
        self._writer = writer
        self._clock = clock
        self._drift_us = _drift_us if is_system else None
        self._first_drift_us = _drift_us()
        self._due = 0.0
        self._chooser: Chooser | None = None
        retention.rules(clock())

    def prune_if_due(self) -> None:
        """If it is due, continue the interrupted pass or begin one; failures are logged."""
        if time.monotonic() < self._due:
            return
        self._due = float("inf")  # other threads must not prune meanwhile
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
        """Prune for the budgeted time; whether the pass is complete."""
        if self._chooser is None:
            now = self._clock()
            doubt = self._doubt(instant_us(now))
            if doubt is not None:
                _log.warning(
                    "automatic pruning of %s has stopped: %s; correct the clock, or call prune() yourself",
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
        """Why the clock cannot be trusted; None if it can."""
        if self._drift_us is not None and abs(self._drift_us() - self._first_drift_us) > CLOCK_TOLERANCE_US:
            return "the clock was changed by more than a day while this process ran"
        oldest_kept = _days_before(instant_datetime(now_us), self._retention.days, "days")
        until_us = None if oldest_kept is None else instant_us(oldest_kept)
        newest, gap = self._writer.write(
            lambda connection: (
                _nearest(connection, MAX_US + 1),
                None if until_us is None else _long_gap(connection, now_us),
            )
        )
        if newest is not None and newest > now_us + CLOCK_TOLERANCE_US:
            return f"the newest execution, of {instant_text(newest)}, lies in the future"
        if gap is not None and until_us is not None and gap[0] < until_us:
            return f"nothing was recorded between {instant_text(gap[0])} and {instant_text(gap[1])}"
        return None


def _drift_us() -> int:
    """The difference between the system clock and a clock that cannot be set and keeps running in sleep mode."""
    steady = time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    return (time.time_ns() - steady) // 1000


def _long_gap(connection: sqlite3.Connection, now_us: int) -> tuple[int, int] | None:
    """The start and end of the newest gap of more than a year in the history; None if there is none."""
    later = now_us
    while (older := _nearest(connection, later - LONGEST_GAP_US)) is not None:
        following = _nearest(connection, older + 1, later=True) or now_us
        if following - older > LONGEST_GAP_US:
            return older, following
        later = older
    return None


def _nearest(connection: sqlite3.Connection, bound_us: int, *, later: bool = False) -> int | None:
    """The latest effective start before a moment; with `later`, the earliest at or after it."""
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
