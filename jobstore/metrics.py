"""A store's numbers in Prometheus' text format, version 0.0.4: for a scrape, or for a textfile collector.

Counts of the executions that are kept are gauges: pruning makes them smaller. Runs and failures are counters: they
include what was pruned. A series for each job is bounded by `MAX_JOBS`; what is left out is counted, and the totals are
over all. A job's label is ``job_name``: ``job`` is the scraper's own.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobstore.language.errors import InvalidParameter, NotFound
from jobstore.language.instants import MICROSECONDS, instant_us
from jobstore.language.models import STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jobstore.language.models import JobStateDocument, StatsDocument
    from jobstore.queries import Queries

MAX_JOBS: Final = 500
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PAGE: Final = 1000


class Sample(NamedTuple):
    """One line: labels by name, and a value."""

    labels: tuple[tuple[str, str], ...]
    value: float


class Family(NamedTuple):
    """One metric: its name, what it says, its samples, and its type."""

    name: str
    help: str
    samples: Sequence[Sample]
    type: str = "gauge"


def metrics(store: Queries, *, max_jobs: int = MAX_JOBS) -> str:
    r"""The store's numbers as Prometheus reads them, ending in a line feed.

    Jobs by state and executions kept by status, over all; and for each of the first `max_jobs` jobs by name: its type,
    category and state, whether it is enabled, its runs and failures so far, its executions kept by status, its
    durations in seconds, and when it last ran, succeeded, failed and will run next, in seconds since 1970. What a job
    never did has no line.

    Raises:
        StoreError: the store cannot be read.
    """
    return "".join(map(text, families(store, max_jobs)))


def families(store: Queries, max_jobs: int = MAX_JOBS) -> list[Family]:
    """The metrics as values; one without samples is left out."""
    states = store.list_job_states(limit=1)
    totals = store.run_totals()
    jobs = list(_paged(store.list_job_states, max_jobs))
    starts = {job["name"]: job["last_run_at"] for job in _paged(store.list_jobs, max_jobs)}
    seen = [(job, stats) for job in jobs if (stats := _stats(store, job)) is not None]
    found = (*_of_all(store, states["states"], len(jobs)), *_of_jobs(seen, starts), *_counters(seen, totals))
    return [family for family in found if family.samples]


def _paged(listed: Callable[..., Any], most: int) -> Iterator[Any]:
    """The documents of the first jobs by name."""
    for offset in range(0, most, _PAGE):
        page = listed(limit=min(_PAGE, most - offset), offset=offset, order_by="name")
        yield from page["data"]
        if not page["pagination"]["has_next"]:
            return


def _stats(store: Queries, job: JobStateDocument) -> StatsDocument | None:
    try:
        return store.job_stats(job["name"])
    except (NotFound, InvalidParameter):  # removed a moment ago, or of a name that could be none
        return None


def _of_all(store: Queries, states: Mapping[str, int], shown: int) -> Iterator[Family]:
    stats = store.job_stats()
    yield Family(
        "jobstore_jobs", "Jobs in each state.", [_sample(count, state=state) for state, count in states.items()]
    )
    yield Family(
        "jobstore_jobs_left_out",
        "Jobs without series of their own here, because there are too many.",
        [_sample(max(0, sum(states.values()) - shown))],
    )
    yield Family(
        "jobstore_executions",
        "Executions kept, of all jobs, removed ones included, by status.",
        [_sample(stats["by_status"][status], status=status) for status in STATUSES],
    )


def _of_jobs(
    seen: Sequence[tuple[JobStateDocument, StatsDocument]], starts: Mapping[str, str | None]
) -> Iterator[Family]:
    yield Family(
        "jobstore_job_info",
        "The job's type and category; always 1, to join with the other series.",
        [
            _sample(1, job_name=job["name"], job_type=job["job_type"], job_category=job["job_category"])
            for job, _ in seen
        ],
    )
    yield Family(
        "jobstore_job_state",
        "1 for the state that the job is in.",
        [_sample(1, job_name=job["name"], state=job["state"]) for job, _ in seen],
    )
    yield Family(
        "jobstore_job_enabled",
        "Whether the job is enabled.",
        [_sample(int(job["state"] != "disabled"), job_name=job["name"]) for job, _ in seen],
    )
    yield Family(
        "jobstore_job_failures_in_a_row",
        "Finished runs that failed or timed out since the last success.",
        [_sample(job["failures_in_a_row"], job_name=job["name"]) for job, _ in seen],
    )
    yield Family(
        "jobstore_job_executions",
        "Executions kept, by status.",
        [
            _sample(stats["by_status"][status], job_name=job["name"], status=status)
            for job, stats in seen
            for status in STATUSES
        ],
    )
    yield Family(
        "jobstore_job_duration_seconds",
        "Durations of the finished executions kept: average, p50, p95 and max.",
        list(_durations(seen)),
    )
    names = [job["name"] for job, _ in seen]
    yield _moments("last_run", "the latest start", names, [starts.get(name) for name in names])
    yield _moments(
        "last_success", "the start of the latest success", names, [each["last_success_at"] for _, each in seen]
    )
    yield _moments(
        "last_failure", "the start of the latest failure", names, [each["last_failure_at"] for _, each in seen]
    )
    yield _moments("next_run", "the next run", names, [job["next_run_at"] for job, _ in seen])


def _counters(
    seen: Sequence[tuple[JobStateDocument, StatsDocument]], totals: Mapping[int, tuple[int, int]]
) -> Iterator[Family]:
    """Nothing where the store knows no totals: a count that pruning makes smaller is no counter."""
    told = [(job["name"], totals.get(int(stats["job_id"] or 0), (0, 0))) for job, stats in seen] if totals else []
    yield Family(
        "jobstore_job_runs_total",
        "Runs so far, whatever came of them, pruned ones included.",
        [_sample(runs, job_name=name) for name, (runs, _) in told],
        "counter",
    )
    yield Family(
        "jobstore_job_failures_total",
        "Runs so far that failed or timed out, pruned ones included.",
        [_sample(failures, job_name=name) for name, (_, failures) in told],
        "counter",
    )


def _moments(name: str, words: str, jobs: Sequence[str], stamps: Sequence[str | None]) -> Family:
    return Family(
        f"jobstore_job_{name}_timestamp_seconds",
        f"The time of {words}, in seconds since 1970.",
        [_sample(_seconds(stamp), job_name=job) for job, stamp in zip(jobs, stamps, strict=True) if stamp is not None],
    )


def _durations(seen: Sequence[tuple[JobStateDocument, StatsDocument]]) -> Iterator[Sample]:
    for job, stats in seen:
        spent: Mapping[str, Any] = {**stats["duration_ms"]}
        for statistic, milliseconds in spent.items():
            if milliseconds is not None:
                yield _sample(milliseconds / 1000, job_name=job["name"], statistic=statistic)


def _sample(value: float, **labels: str) -> Sample:
    return Sample(tuple(labels.items()), value)


def _seconds(stamp: str) -> float:
    return instant_us(datetime.fromisoformat(stamp)) / MICROSECONDS


# The text format.


def text(family: Family) -> str:
    r"""A metric in the text format: HELP, TYPE, then its samples.

    >>> print(text(Family("up", "Is it up?", [Sample((("job", 'a "b" \\ c'),), 1.0)])), end="")
    # HELP up Is it up?
    # TYPE up gauge
    up{job="a \"b\" \\ c"} 1
    """
    head = f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.type}\n"
    return head + "".join(
        f"{family.name}{_labels(sample.labels)} {number(sample.value)}\n" for sample in family.samples
    )


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return (
        "{"
        + ",".join(f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"' for name, value in labels)
        + "}"
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def number(value: float) -> str:
    """A value without an exponent, and without digits that it does not have.

    >>> number(3), number(0.25), number(1768464000.5), number(2e-06)
    ('3', '0.25', '1768464000.5', '0.000002')
    """
    if value == int(value):
        return str(int(value))
    return f"{value:.6f}".rstrip("0").rstrip(".")
