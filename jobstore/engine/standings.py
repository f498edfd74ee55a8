"""The state of every job, kept current by the change log and the clock.

The first query reads every job. It reads how runs ended only for jobs whose state nothing more urgent decides (see
`state_of`): a late job is late however its last run ended. Afterwards only three things can change a state, and each
costs only the jobs it touches: a commit (the change log names the job), the time (a heap of deadlines: when a job
becomes late, when a run exceeds its timeout) and a process that dies (the few processes with open executions are
checked).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from jobstore.engine.fires import Fires, unit_of
from jobstore.engine.histories import PENDING, RUNNING, fetch_newest, fetch_open, fetch_outcomes
from jobstore.language.instants import MICROSECONDS
from jobstore.language.models import STATUS_CODES
from jobstore.language.states import (
    ATTENTION,
    STATES,
    Facts,
    late_from_us,
    lost_from_us,
    next_change_us,
    settled,
    state_of,
)
from jobstore.storage.processes import OWNER_COLUMNS, Owner, is_gone
from jobstore.storage.rows import in_chunks, marks
from jobstore.storage.schema import IS_NO_SUCCESS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator

    from jobstore.engine.histories import Newest, Rates
    from jobstore.language.states import Outcome, State


# Jobs whose newest executions are kept, a few kilobytes each: enough for several pages of the longest list.
NEWEST_REMEMBERED = 1_000


class Key(NamedTuple):
    """A job's position in attention order: its state's rank, since when, its name and its number."""

    rank: int
    since_us: int
    name: str
    number: int

    @property
    def state(self) -> State:
        """The state with this rank."""
        return STATES[self.rank]


class Standings:
    """The state of all jobs as of the last query."""

    fetch_newest = staticmethod(fetch_newest)

    def __init__(self, connection: sqlite3.Connection, fires: Fires) -> None:
        # Separate from the one of lists: this one needs times after each job's last change, lists need times after now.
        self._fires = Fires(fires.timezone)
        self._facts: dict[int, Facts] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._names: dict[int, str] = {}
        self._keys: dict[int, Key] = {}
        self.order: list[Key] = []
        """All jobs in attention order; callers must not change it."""
        self._deadlines: list[tuple[int, int]] = []
        self._now_us: int | None = None
        self._orphans = Orphans()
        self._newest: OrderedDict[int, Newest] = OrderedDict()
        self._rates: dict[int, Rates] = {}
        self.failures: dict[int, int] = {}
        """Failures in a row, for jobs that pages have shown; dropped when a job changes."""
        self._stale_jobs: set[int] = set()
        self._stale_names: set[int] = set()
        self._read(connection, None)

    def touch(self, job_numbers: Iterable[int], name_ids: Iterable[int], execution_ids: Iterable[int]) -> None:
        """Note what the change log names; it is read when states are next needed."""
        self._stale_jobs.update(job_numbers)
        self._stale_names.update(name_ids)
        self._orphans.touch(execution_ids)

    def refresh(self, connection: sqlite3.Connection, now_us: int) -> None:
        """Bring every state up to this snapshot and this moment."""
        # All names at once, not as they are noted: many changes may come before states are next needed.
        for some in in_chunks(self._stale_names):
            sql = f"SELECT job_number FROM job_name WHERE name_id IN ({marks(some)})"
            self._stale_jobs.update(number for (number,) in connection.execute(sql, some))
        changed = self._stale_jobs
        self._stale_jobs, self._stale_names = set(), set()
        for some in in_chunks(changed):
            self._forget(some)
            self._read(connection, some)
        moved = changed | self._orphans.refresh(connection)
        # If the clock was set back, deadlines that have passed may lie ahead again.
        if self._now_us is None or now_us < self._now_us:
            self._place_all(connection, now_us)
        else:
            moved.update(self._passed(now_us))
            self._place(connection, moved, now_us)
        self._now_us = now_us

    def key(self, number: int) -> Key:
        """A job's position in attention order."""
        return self._keys[number]

    def keys(self, numbers: Collection[int]) -> list[Key]:
        """Some jobs in attention order."""
        return sorted(self._keys[number] for number in numbers)

    def facts(self, number: int) -> Facts:
        """The facts that a job's state follows from."""
        return self._facts[number]

    def newest(self, connection: sqlite3.Connection, numbers: list[int]) -> dict[int, Newest]:
        """The newest executions of some jobs."""
        missing = [number for number in numbers if number not in self._newest]
        self._newest.update(self.fetch_newest(connection, missing))
        found = {number: self._newest[number] for number in numbers}
        # Only after the page is taken out: a page of a thousand jobs would otherwise drop its own first ones.
        while len(self._newest) > NEWEST_REMEMBERED:
            self._newest.popitem(last=False)
        return found

    def rates(self, connection: sqlite3.Connection, numbers: list[int]) -> dict[int, Rates]:
        """The rates of at least these jobs; the first call reads a hundred executions of each."""
        missing = [number for number in numbers if number not in self._rates]
        for some in in_chunks(missing):
            self._rates.update((number, newest.rates) for number, newest in self.fetch_newest(connection, some).items())
        return self._rates

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._facts.pop(number, None)
            self._outcomes.pop(number, None)
            self._newest.pop(number, None)
            self._rates.pop(number, None)
            self.failures.pop(number, None)

    def _read(self, connection: sqlite3.Connection, numbers: list[int] | None) -> None:
        """Read the facts of some jobs, or of all (None)."""
        oldest = fetch_open(connection, numbers)
        running, waiting = oldest[RUNNING], oldest[PENDING]
        where = "" if numbers is None else f"WHERE number IN ({marks(numbers)})"
        rows = connection.execute(f"{_JOBS} {where} ORDER BY schedule, 2", numbers or ())
        for number, updated_us, name, timeout_seconds, *timing in rows:
            last_run_us, created_us = timing[5:]
            # A job is due counting from its last change: fire times before its definition or its last run are not late.
            changed_us = max(updated_us, created_us, created_us if last_run_us is None else last_run_us)
            running_us, waiting_us = running.get(number), waiting.get(number)
            late_us = lost_us = None
            if running_us is None and waiting_us is None:
                due_us = self._fires.next_us(unit_of(*timing), changed_us)
                late_us = None if due_us is None else late_from_us(due_us)
            elif running_us is not None and timeout_seconds is not None:
                lost_us = lost_from_us(running_us, timeout_seconds * MICROSECONDS)
            self._names[number] = name
            self._facts[number] = Facts(
                bool(timing[2]), created_us, changed_us, last_run_us, late_us, lost_us, running_us, waiting_us
            )

    def _passed(self, now_us: int) -> Iterator[int]:
        """The jobs whose deadline has passed since the last query."""
        while self._deadlines and self._deadlines[0][0] <= now_us:
            yield heappop(self._deadlines)[1]

    def _place(self, connection: sqlite3.Connection, numbers: set[int], now_us: int) -> None:
        for number in numbers:
            old = self._keys.pop(number, None)
            if old is not None:
                del self.order[bisect_left(self.order, old)]
        for key in self._judge(connection, numbers & self._facts.keys(), now_us):
            insort(self.order, key)
            # Outdated deadlines stay in the heap: when one passes, the job is judged again, which changes nothing.
            deadline_us = next_change_us(self._facts[key.number], now_us)
            if deadline_us is not None:
                heappush(self._deadlines, (deadline_us, key.number))

    def _place_all(self, connection: sqlite3.Connection, now_us: int) -> None:
        """Place every job again: the first time, and if the clock was set back."""
        self._keys.clear()
        self.order = sorted(self._judge(connection, self._facts, now_us))
        deadlines = [(next_change_us(facts, now_us), number) for number, facts in self._facts.items()]
        self._deadlines = [(deadline_us, number) for deadline_us, number in deadlines if deadline_us is not None]
        heapify(self._deadlines)

    def _judge(self, connection: sqlite3.Connection, numbers: Collection[int], now_us: int) -> list[Key]:
        """Compute the positions of some jobs; how their runs ended is read where it matters, and remembered."""
        found = {number: state_of(self._facts[number], now_us, self._orphans.oldest_us(number)) for number in numbers}
        unread = [number for number, state in found.items() if state is None and number not in self._outcomes]
        self._outcomes.update(fetch_outcomes(connection, unread))
        for number, known in found.items():
            state, since_us = known or settled(self._facts[number], self._outcomes[number])
            self._keys[number] = Key(ATTENTION[state], since_us, self._names[number], number)
        return [self._keys[number] for number in found]


class Orphans:
    """RUNNING executions whose process is gone; no row and no commit records that."""

    def __init__(self) -> None:
        self._gone: set[tuple[int, Owner]] = set()
        self._runs: dict[int, tuple[int, int]] = {}
        self._oldest_us: dict[int, int] = {}
        self._touched: set[int] = set()

    def touch(self, execution_ids: Iterable[int]) -> None:
        """Note changed orphans; any other execution was changed by a living process, and so is still none."""
        self._touched.update(self._runs.keys() & execution_ids)

    def oldest_us(self, job_number: int) -> int | None:
        """The start of a job's oldest orphan; None if it has none."""
        return self._oldest_us.get(job_number)

    def refresh(self, connection: sqlite3.Connection) -> set[int]:
        """Check the processes with open executions; return the jobs whose orphans have changed."""
        before = self._oldest_us
        for execution_id in self._touched:
            del self._runs[execution_id]
        found = [(row[0], Owner(*row[1:])) for row in connection.execute(_PROCESSES)]
        # A dead process stays dead: check only the others, by owner too, since a deleted process's number may be
        # reused.
        gone = {(key, owner) for key, owner in found if (key, owner) in self._gone or is_gone(owner)}
        keys = [key for key, _ in gone - self._gone]
        if keys or self._touched:
            self._read(connection, keys)
        self._gone, self._touched = gone, set()
        return {number for number, _ in before.items() ^ self._oldest_us.items()}

    def _read(self, connection: sqlite3.Connection, process_ids: list[int]) -> None:
        """Read the running executions of newly dead processes, and those of the touched ones that still run."""
        for column, keys in (("started_by", process_ids), ("id", list(self._touched))):
            for some in in_chunks(keys):
                for execution_id, *run in connection.execute(_RUNS_OF.format(column=column, marks=marks(some)), some):
                    self._runs[execution_id] = (run[0], run[1])
        self._oldest_us = {}
        for number, start_us in self._runs.values():
            self._oldest_us[number] = min(start_us, self._oldest_us.get(number, start_us))


_PROCESSES = f"SELECT process_id, {OWNER_COLUMNS} FROM process AS p"
_RUNS_OF = f"""
SELECT e.id, n.job_number, e.effective_us
FROM execution AS e JOIN job_name AS n USING (name_id)
WHERE e.{IS_NO_SUCCESS} AND e.status = {STATUS_CODES["RUNNING"]} AND e.{{column}} IN ({{marks}})
"""

# In order of schedule and last change: jobs with one expression follow each other from the earliest on, and share the
# fire time computed for the previous one (see `Fires.next_us`).
_JOBS = """
SELECT number, updated_us, name, timeout_seconds,
    schedule, interval_seconds, enabled, anchor_us, next_run_us, last_run_us, created_us
FROM job
"""
