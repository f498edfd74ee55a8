"""Measures ``list_jobs``, ``get_job`` and ``job_stats``, at ten and at a hundred thousand jobs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.fleet import DENSE, FleetJob, fleet
from benchmarks.measure import FLOOR, in_rotation
from benchmarks.peers import HandWritten
from benchmarks.queries import Disagreement
from benchmarks.results import Figure, Line
from benchmarks.subjects import NOW, Floor, MovingClock, open_store
from jobstore.language.instants import instant_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.measure import Series
    from benchmarks.queries import Settings

PART = "jobs"
COMPARED_UP_TO = 10_000
"""The naive order by next run takes a minute for ten times as many."""


class JobBench:
    """Our store and the naive one with the same jobs."""

    def __init__(self, ours: Path, naive: Path, label: str, settings: Settings, *, jobs: int = 10_000) -> None:
        self.label = label
        self.jobs = fleet(jobs)
        self.settings = settings
        self.still = open_store(ours)
        self.moving = open_store(ours, MovingClock())
        self.floor = Floor(ours)
        self.naive = HandWritten(naive, careful=False)

    def close(self) -> None:
        """Closes all files."""
        self.still.close()
        self.moving.close()
        self.floor.close()
        self.naive.connection.close()

    def run(self) -> Iterator[Line]:
        """All lines over jobs."""
        yield self.seen_term()
        yield self.new_term()
        yield self.next_run()
        yield self.one_job()

    def seen_term(self) -> Line:
        """The same search again and again."""
        return self._measured("list_jobs, search, seen term", {"search": DENSE}, Figure(0, "F", at_most=1.2))

    def new_term(self) -> Line:
        """A search that was never asked before in each round."""
        terms = _terms(self.jobs, self.settings.rounds + 8)
        asked = iter(terms)
        known = self._known(self.still.list_jobs(search=terms[-1]))
        candidates: dict[str, Callable[[int], object]] = {
            FLOOR: lambda _: self.floor.jobs(*known),
            "jobstore": lambda _: orjson.dumps(self.still.list_jobs(search=next(asked))),
            "naive": lambda n: orjson.dumps(self.naive.list_jobs(now=NOW, search=terms[n])),
        }
        found = in_rotation(candidates, rounds=self.settings.rounds)
        return self._line("list_jobs, search, new term", found, Figure(0, "F", at_most=3))

    def next_run(self) -> Line:
        """The next to run, while the clock moves on."""
        query: dict[str, Any] = {"order_by": "next_run_at"}
        if len(self.jobs) <= COMPARED_UP_TO:
            self._compare(query)
        known = self._known(self.still.list_jobs(**query))
        clock = MovingClock()
        candidates: dict[str, Callable[[int], object]] = {
            FLOOR: lambda _: self.floor.jobs(*known),
            "jobstore": lambda _: orjson.dumps(self.moving.list_jobs(**query)),
            "naive": lambda _: orjson.dumps(self.naive.list_jobs(now=clock(), **query)),
        }
        found = in_rotation(candidates, rounds=self.settings.rounds, budget_seconds=self.settings.budget_seconds)
        line = self._line("list_jobs by next_run_at, moving clock", found, Figure(0, "F"))
        line.figures.insert(1, Figure(found["jobstore"].milliseconds, "ms", at_most=1))
        return line

    def one_job(self) -> Line:
        """One job by name against reading the row of a known number."""
        name = self.jobs[77].name
        known = self._known({"data": [self.still.get_job(name)]})
        candidates: dict[str, Callable[[int], object]] = {
            FLOOR: lambda _: self.floor.job(known[0][0], known[1][0]),
            "jobstore": lambda _: orjson.dumps(self.still.get_job(name)),
            "naive": lambda _: orjson.dumps(self.naive.get_job(name)),
        }
        found = in_rotation(candidates, rounds=self.settings.rounds * 5)
        return self._line("get_job", found, Figure(0, "one-row reads", at_most=2))

    def stats(self) -> Iterator[Line]:
        """``job_stats`` of one job and of all executions."""
        name = next(job.name for job in self.jobs if job.cadence.period == 1)
        for job_id, bound in ((name, 10), (None, 300)):
            ours: Any = self.still.job_stats(job_id)
            theirs = self.naive.job_stats(job_id)
            found = [_stats_key(ours), _stats_key(theirs)]
            if found[0] != found[1]:
                raise Disagreement(f"job_stats({job_id!r}): jobstore {found[0]}, naive {found[1]}")
            yield self._stats_line(job_id, bound)

    def _stats_line(self, job_id: str | None, bound: int) -> Line:
        known = self._known({"data": [self.still.get_job(self.jobs[77].name)]})
        candidates: dict[str, Callable[[int], object]] = {
            FLOOR: lambda _: self.floor.job(known[0][0], known[1][0]),
            "jobstore": lambda _: self.still.job_stats(job_id),
            "naive": lambda _: self.naive.job_stats(job_id),
        }
        found = in_rotation(candidates, rounds=20, budget_seconds=self.settings.budget_seconds)
        line = self._line(f"job_stats of {'all' if job_id is None else 'one job'}", found, Figure(0, "F"))
        line.figures[0] = Figure(found["jobstore"].milliseconds, "ms", at_most=bound)
        del line.detail["p99"]  # of a ratio that says nothing here
        return line

    def _measured(self, name: str, query: dict[str, Any], goal: Figure) -> Line:
        self._compare(query)
        known = self._known(self.still.list_jobs(**query))
        candidates: dict[str, Callable[[int], object]] = {
            FLOOR: lambda _: self.floor.jobs(*known),
            "jobstore": lambda _: orjson.dumps(self.still.list_jobs(**query)),
            "naive": lambda _: orjson.dumps(self.naive.list_jobs(now=NOW, **query)),
        }
        return self._line(name, in_rotation(candidates, rounds=self.settings.rounds), goal)

    def _compare(self, query: dict[str, Any]) -> None:
        ours: Any = self.still.list_jobs(**query)
        theirs = self.naive.list_jobs(now=NOW, **query)
        seen = [[(job["name"], job["next_run_at"]) for job in page["data"]] for page in (ours, theirs)]
        if seen[0] != seen[1] or ours["pagination"] != theirs["pagination"]:
            raise Disagreement(f"list_jobs({query}): jobstore {seen[0][:3]}, naive {seen[1][:3]}")

    def _known(self, page: Any) -> tuple[list[int], list[int | None]]:
        """The numbers and next runs of the jobs on a page."""
        numbers, runs = [], []
        for job in page["data"]:
            row = self.floor.connection.execute("SELECT number FROM job WHERE name = ?", (job["name"],)).fetchone()
            numbers.append(row[0])
            runs.append(_instant(job["next_run_at"]))
        return numbers, runs

    def _line(self, name: str, found: dict[str, Series], goal: Figure) -> Line:
        ours = found["jobstore"]
        figures = [
            Figure(ours.ratio, goal.unit, goal.at_most),
            Figure(found["naive"].ratio / ours.ratio, "x naive"),
        ]
        milliseconds = {candidate: series.milliseconds for candidate, series in found.items()}
        return Line(PART, name, self.label, figures, {"p99": ours.ratio_p99, "milliseconds": milliseconds})


def _terms(jobs: Sequence[FleetJob], count: int) -> list[str]:
    """Distinct parts of names, each in fifty jobs or more (so the page is full) and in few enough to search for."""
    names = [job.name for job in jobs[:10_000]]
    for length in range(5, 16):
        seen = Counter(part for name in names for part in {name[at : at + length] for at in range(len(name) - length)})
        terms = sorted(term for term, found in seen.items() if 50 <= found <= 1_000)
        if len(terms) >= count:
            return terms[:: len(terms) // count][:count]
    raise AssertionError("the fleet has too few distinct parts of names")


def _instant(text: str | None) -> int | None:
    from datetime import datetime  # one line of this module needs it

    return None if text is None else instant_us(datetime.fromisoformat(text))


def _stats_key(stats: dict[str, Any]) -> tuple[Any, ...]:
    durations = stats["duration_ms"]
    by_status = {status: count for status, count in stats["by_status"].items() if count}
    return stats["runs"], sorted(by_status.items()), durations["p50"], durations["p95"], durations["max"]
