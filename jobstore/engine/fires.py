"""Next fire times, remembered for each distinct schedule.

A next run is never stored in the file. Jobs that fire together (one cron expression, one interval grid) form a unit
with one remembered time, valid until it passes. Ordering jobs by next run sorts units, not jobs.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from jobstore.language.errors import InvalidSchedule
from jobstore.language.schedule import next_cron_us, next_interval_us

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_log = logging.getLogger("jobstore")

Unit = tuple[str | None, int | None, int | None]
"""What determines a fire time: (cron expression, -, -), (-, interval seconds, anchor) or (-, -, announced time)."""
NEVER: Unit = (None, None, None)

# Memory limit; beyond it everything is forgotten, since each time can be computed again.
TIMES_REMEMBERED = 100_000
# Up to this number, jobs are sorted one by one. For more, walk the units: thousands of jobs share a few schedules.
FEW_JOBS = 1_000


def unit_of(
    schedule: str | None,
    interval_seconds: int | None,
    enabled: int,
    anchor_us: int | None,
    next_run_us: int | None,
    last_run_us: int | None,
    created_us: int,
) -> Unit:
    """The unit of a job; a disabled job never fires."""
    # One unit for all disabled jobs: their fire times never have to be computed one by one.
    if not enabled:
        return NEVER
    if schedule is not None:
        return (schedule, None, None)
    if interval_seconds is None:
        return (None, None, next_run_us)
    # Without an anchor, an interval counts from the last run, or from the job's creation before the first run.
    anchor = anchor_us if anchor_us is not None else last_run_us if last_run_us is not None else created_us
    return (None, interval_seconds, anchor)


class Fires:
    """Next fire times of units, each computed once and remembered until it passes."""

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self._times: dict[Unit, tuple[int, int | None]] = {}

    def next_us(self, unit: Unit, us: int) -> int | None:
        """The first fire time strictly after an instant; None if there is none or the schedule is invalid.

        A remembered time serves every later instant before it: 12:00, computed at 11:05, also answers for 11:59.
        """
        known = self._times.get(unit)
        # An earlier instant (the clock was set back) may have an earlier fire time.
        if known is not None and known[0] <= us and (known[1] is None or us < known[1]):
            return known[1]
        if len(self._times) > TIMES_REMEMBERED:
            self._times.clear()
        found = self._computed(unit, us)
        self._times[unit] = (us, found)
        return found

    def _computed(self, unit: Unit, us: int) -> int | None:
        try:
            return _first_us(unit, self.timezone, us)
        # A loaded row may hold a schedule that this version cannot parse. One bad job must not fail the whole list.
        except InvalidSchedule as error:
            _log.warning("a schedule in the store cannot be computed, its next run is null: %s", error)
            return None


def _first_us(unit: Unit, timezone: str, us: int) -> int | None:
    expression, interval_seconds, moment_us = unit
    if expression is not None:
        return next_cron_us(expression, timezone, us)
    if moment_us is None:
        return None
    if interval_seconds is None:
        return moment_us if moment_us > us else None
    return next_interval_us(interval_seconds, moment_us, us)


class NextRuns:
    """All jobs by next fire time, nulls last, ties by number.

    Keeps a sorted list of (fire time, unit). When time passes, only the units at the front are computed again.
    """

    def __init__(self, fires: Fires) -> None:
        self._fires = fires
        self._unit_of: dict[int, Unit] = {}
        self._members: dict[Unit, list[int]] = {}
        self._times: list[tuple[int, Unit]] = []
        self._untimed: set[Unit] = set()
        self._now_us = 0

    def put(self, number: int, unit: Unit) -> None:
        """Add a job, or move it to another unit."""
        if self._unit_of.get(number) == unit:
            return
        self.drop(number)
        self._unit_of[number] = unit
        members = self._members.get(unit)
        if members is None:
            self._members[unit] = [number]
            self._untimed.add(unit)
        else:
            # Members stay sorted by number, which breaks ties between jobs that fire at the same moment.
            insort(members, number)

    def drop(self, number: int) -> None:
        """Remove a job, if it is there."""
        unit = self._unit_of.pop(number, None)
        if unit is not None:
            members = self._members[unit]
            # An empty unit stays until its time has passed: finding it among the times would mean a scan of all.
            del members[bisect_left(members, number)]

    def next_us(self, number: int, now_us: int) -> int | None:
        """The next fire time of a job, or None."""
        return self._fires.next_us(self._unit_of[number], now_us)

    def page(
        self, among: Collection[int] | None, now_us: int, *, descending: bool, offset: int, take: int
    ) -> list[int]:
        """The job numbers at ``offset`` to ``offset + take`` by next fire time, of the jobs in `among` or of all.

        Costs a step for each unit that is skipped, and one for each job of the units on the page.
        """
        self._advance(now_us)
        # Units know nothing of a search: a few jobs are faster to sort on their own.
        if among is not None and len(among) <= FEW_JOBS:
            return self._few(among, now_us, descending=descending)[offset : offset + take]
        found: list[int] = []
        for numbers in self._groups(descending=descending):
            chosen = numbers if among is None else [number for number in numbers if number in among]
            if offset >= len(chosen):
                offset -= len(chosen)
                continue
            found += chosen[offset : offset + take - len(found)]
            offset = 0
            if len(found) == take:
                break
        return found

    def _few(self, among: Iterable[int], now_us: int, *, descending: bool) -> list[int]:
        timed, null = [], []
        for number in among:
            fires_us = self.next_us(number, now_us)
            if fires_us is None:
                null.append(number)
            else:
                timed.append((fires_us, number))
        timed.sort(reverse=descending)
        null.sort(reverse=descending)
        return [number for _, number in timed] + null

    def _advance(self, now_us: int) -> None:
        """Compute the times that have passed again; the rest stay, so the sort is nearly one pass."""
        if now_us < self._now_us:
            # The clock was set back: units may have earlier fire times again.
            self._untimed.update(self._members)
            self._times.clear()
        self._now_us = now_us
        passed = 0
        # The list is sorted, so stop at the first time still to come.
        for fires_us, unit in self._times:
            if fires_us > now_us:
                break
            self._untimed.add(unit)
            passed += 1
        if passed:
            del self._times[:passed]
        if self._untimed:
            self._time(now_us)

    def _time(self, now_us: int) -> None:
        for unit in self._untimed:
            if not self._members.get(unit):
                self._members.pop(unit, None)
                continue
            fires_us = self._fires.next_us(unit, now_us)
            if fires_us is not None:
                self._times.append((fires_us, unit))
        # Sort by time only: a unit holds nulls, which do not compare. It is nearly sorted, so this is about one pass.
        self._times.sort(key=itemgetter(0))
        self._untimed.clear()

    def _groups(self, *, descending: bool) -> Iterator[list[int]]:
        """The jobs of each fire time in order of number, then those that never fire."""
        timed = reversed(self._times) if descending else iter(self._times)
        # Several units may fire at the same moment: numbers then break ties among all their jobs together.
        for _, entries in groupby(timed, key=itemgetter(0)):
            numbers = [number for _, unit in entries for number in self._members.get(unit, ())]
            numbers.sort(reverse=descending)
            yield numbers
        known = {unit for _, unit in self._times}
        null = [number for unit, numbers in self._members.items() if unit not in known for number in numbers]
        null.sort(reverse=descending)
        yield null
