"""Measures ``list_jobs``, ``get_job`` and ``job_stats``, at ten and at a hundred thousand jobs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.fleet import DENSE, FleetJob, fleet
from benchmarks.measure import VARIANTS, Line, Settings, rivals
from benchmarks.peers import HandWritten
from benchmarks.subjects import NOW, Floor, MovingClock, open_store
from jobstore.language.instants import instant_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PART, STATISTICS = "Jobs", "Statistics"


class JobBench:
    """Our store and the naive one with the same jobs."""

    def __init__(self, ours: Path, naive: Path, settings: Settings, *, jobs: int = 10_000) -> None:
        self.label = f"{jobs // 1000}k jobs"
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
        rounds, first = self.settings.rounds, self._known(self.still.list_jobs(order_by="next_run_at"))
        yield self._search("seen term", [DENSE] * VARIANTS, 1.2, rounds)
        yield self._search("new term", _terms(self.jobs, rounds + 10), 3, rounds)
        clock = MovingClock()
        yield rivals(
            PART, "list_jobs by next_run_at, moving clock", self.label,
            floor=lambda _: self.floor.jobs(*first),
            ours=lambda _: self.moving.list_jobs(order_by="next_run_at"),
            others={"naive": lambda _: self.naive.list_jobs(now=clock(), order_by="next_run_at")},
            rounds=rounds, budget=self.settings.budget_seconds, most_ms=1,
        )  # fmt: skip
        name = self.jobs[77].name
        (number,), (next_run,) = self._known({"data": [self.still.get_job(name)]})
        yield rivals(
            PART, "get_job", self.label,
            floor=lambda _: self.floor.job(number, next_run),
            ours=lambda _: self.still.get_job(name), others={"naive": lambda _: self.naive.get_job(name)},
            rounds=rounds * 5, unit="one-row reads", most=2,
        )  # fmt: skip

    def _search(self, what: str, terms: list[str], most: float, rounds: int) -> Line:
        """A list of terms longer than the rounds is asked one after the other, each once."""
        known = self._known(self.still.list_jobs(search=terms.pop()))
        asked = iter(terms if len(terms) > rounds else terms * rounds)
        asked_of_naive = iter(terms if len(terms) > rounds else terms * rounds)
        return rivals(
            PART, f"list_jobs, search, {what}", self.label,
            floor=lambda _: self.floor.jobs(*known),
            ours=lambda _: self.still.list_jobs(search=next(asked)),
            others={"naive": lambda _: self.naive.list_jobs(now=NOW, search=next(asked_of_naive))},
            rounds=rounds, most=most, same=None if what == "new term" else _list_key,
        )  # fmt: skip

    def stats(self, label: str) -> Iterator[Line]:
        """``job_stats`` of one job and of all executions."""
        name = next(job.name for job in self.jobs if job.cadence.period == 1)
        (number,), (next_run,) = self._known({"data": [self.still.get_job(name)]})
        for what, job_id, bound in (("one job", name, 10), ("all", None, 300)):
            line = rivals(
                STATISTICS, f"job_stats of {what}", label,
                floor=lambda _: self.floor.job(number, next_run),
                ours=partial(_stats, self.still, job_id),
                others={"naive": partial(_stats, self.naive, job_id)},
                rounds=20, budget=self.settings.budget_seconds, most_ms=bound, same=_stats_key,
            )  # fmt: skip
            del line.detail["p99"], line.figures[1]  # a ratio to one row says nothing here
            yield line

    def _known(self, page: Any) -> tuple[list[int], list[int | None]]:
        """The numbers and next runs of the jobs on a page."""
        ask = self.floor.connection.execute
        numbers = [ask("SELECT number FROM job WHERE name = ?", (job["name"],)).fetchone()[0] for job in page["data"]]
        texts = [job["next_run_at"] for job in page["data"]]
        return numbers, [text and instant_us(datetime.fromisoformat(text)) for text in texts]


def _terms(jobs: Sequence[FleetJob], count: int) -> list[str]:
    """Distinct parts of names, each in fifty jobs or more (so the page is full) and in few enough to search for."""
    names = [job.name for job in jobs[:10_000]]
    for length in range(5, 16):
        seen = Counter(part for name in names for part in {name[at : at + length] for at in range(len(name) - length)})
        terms = sorted(term for term, found in seen.items() if 50 <= found <= 1_000)
        if len(terms) >= count:
            return terms[:: len(terms) // count][:count]
    raise AssertionError("the fleet has too few distinct parts of names")


def _stats(candidate: Any, job_id: str | None, _: int) -> Any:
    return candidate.job_stats(job_id)


def _list_key(page: Any) -> tuple[Any, ...]:
    return [(job["name"], job["next_run_at"]) for job in page["data"]], page["pagination"]


def _stats_key(stats: Any) -> tuple[Any, ...]:
    by_status = sorted((status, count) for status, count in stats["by_status"].items() if count)
    return stats["runs"], by_status, [stats["duration_ms"][key] for key in ("p50", "p95", "max")]
