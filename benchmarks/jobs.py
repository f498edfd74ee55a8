"""The lists of jobs, at ten and at a hundred thousand jobs, and the statistics."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.history import DENSE, Job, fleet
from benchmarks.measure import FLOOR, OURS, Line, Settings, rivals
from benchmarks.pages import NOW, Floor, MovingClock, open_store
from benchmarks.peers import HandWritten
from jobstore.language.instants import instant_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.datasets import Dataset
    from benchmarks.measure import Ask
    from jobstore import JobStore

    Known = tuple[list[int], list[int | None]]

PART, STATISTICS = "Jobs", "Statistics"


def statistics(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """``job_stats`` of one job and of all executions."""
    with ExitStack() as opened:
        store, floor, naive = _opened(dataset, opened)
        name = next(job.name for job in fleet() if job.period == 1)
        (number,), (next_run,) = _known(floor, [store.get_job(name)])
        for what, job_id, bound in (("one job", name, 10), ("all", None, 300)):
            candidates: dict[str, Ask] = {
                FLOOR: lambda _: floor.job(number, next_run),
                OURS: partial(_stats, store, job_id),
                "naive": partial(_stats, naive, job_id),
            }
            line = rivals(
                STATISTICS, f"job_stats of {what}", dataset.label, settings, candidates, most_ms=bound, same=_stats_key
            )
            del line.detail["p99"], line.figures[1]  # a ratio to one row says nothing here
            yield line


def lists(dataset: Dataset, count: int, settings: Settings) -> Iterator[Line]:
    """``list_jobs`` and ``get_job`` of a store with so many jobs."""
    label, rounds = f"{count // 1000}k jobs", settings.rounds
    candidates: dict[str, Any]
    with ExitStack() as opened:
        store, floor, naive = _opened(dataset, opened)
        moving = opened.enter_context(closing(open_store(dataset.path(OURS), MovingClock())))
        terms = _terms(fleet(count), rounds + 10)
        for what, asked, most in (("seen", [DENSE] * len(terms), 1.2), ("new", terms, 3)):
            known = _known(floor, store.list_jobs(search=asked.pop())["data"])
            ours, theirs = iter(asked), iter(asked)  # each term once: a new one is new each time
            candidates = {
                FLOOR: lambda _, known=known: floor.jobs(*known),
                OURS: lambda _, terms=ours: store.list_jobs(search=next(terms)),
                "naive": lambda _, terms=theirs: naive.list_jobs(NOW, next(terms)),
            }
            same = _list_key if what == "seen" else None
            yield rivals(PART, f"list_jobs, search, {what} term", label, settings, candidates, most=most, same=same)
        first, clock = _known(floor, store.list_jobs(order_by="next_run_at")["data"]), MovingClock()
        candidates = {
            FLOOR: lambda _: floor.jobs(*first),
            OURS: lambda _: moving.list_jobs(order_by="next_run_at"),
            "naive": lambda _: naive.list_jobs(clock()),
        }
        yield rivals(PART, "list_jobs by next_run_at, moving clock", label, settings, candidates, most_ms=1)
        name = fleet(count)[77].name
        (number,), (next_run,) = _known(floor, [store.get_job(name)])
        candidates = {
            FLOOR: lambda _: floor.job(number, next_run),
            OURS: lambda _: store.get_job(name),
            "naive": lambda _: naive.get_job(name),
        }
        yield rivals(PART, "get_job", label, settings, candidates, unit="one-row reads", most=2)


def _opened(dataset: Dataset, opened: ExitStack) -> tuple[JobStore, Floor, HandWritten]:
    store = opened.enter_context(closing(open_store(dataset.path(OURS))))
    floor = opened.enter_context(closing(Floor(dataset.path(OURS))))
    naive = HandWritten(dataset.path("naive"), careful=False)
    opened.callback(naive.connection.close)
    return store, floor, naive


def _known(floor: Floor, jobs: Sequence[Any]) -> Known:
    """The numbers and next runs of the jobs on a page."""
    ask = floor.connection.execute
    numbers = [ask("SELECT number FROM job WHERE name = ?", (job["name"],)).fetchone()[0] for job in jobs]
    texts = [job["next_run_at"] for job in jobs]
    return numbers, [text and instant_us(datetime.fromisoformat(text)) for text in texts]


def _terms(jobs: Sequence[Job], count: int) -> list[str]:
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
