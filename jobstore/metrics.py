"""A store's numbers in Prometheus' text format, version 0.0.4: for a textfile collector, or behind any web server.

Everything is a gauge: counts are of the executions that are kept, so pruning makes them smaller. A
series for each job is bounded by `MAX_JOBS`; what is left out is counted, and the totals are over all.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.language.errors import InvalidParameter, NotFound
from jobstore.language.instants import MICROSECONDS, instant_us
from jobstore.language.models import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobstore.language.models import JobDocument, StatsDocument
    from jobstore.queries import Queries

MAX_JOBS: Final = 500
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PAGE: Final = 1000


class Sample(NamedTuple):
    """One line: labels by name, and a value."""

    labels: tuple[tuple[str, str], ...]
    value: float


class Family(NamedTuple):
    """One metric: its name, what it says, and its samples."""

    name: str
    help: str
    samples: Sequence[Sample]


def metrics(store: Queries, *, max_jobs: int = MAX_JOBS) -> str:
    r"""The store's numbers as Prometheus reads them, ending in a line feed.

    Jobs in all and switched on; executions kept by status; and for each of the first `max_jobs` jobs by
    name: whether it is switched on, its executions by status, its durations in seconds, and when it last
    ran, succeeded, failed and will run next, in seconds since 1970. What a job never did has no line.

    Raises:
        StoreError: the store cannot be read.
    """
    return "".join(map(text, families(store, max_jobs)))


def families(store: Queries, max_jobs: int = MAX_JOBS) -> list[Family]:
    """The metrics as values; one without samples is left out."""
    jobs = list(_jobs(store, max_jobs))
    seen = [(job, stats) for job in jobs if (stats := _stats(store, job)) is not None]
    return [family for family in (*_of_all(store, len(jobs)), *_of_jobs(seen)) if family.samples]


def _jobs(store: Queries, most: int) -> Iterator[JobDocument]:
    for offset in range(0, most, _PAGE):
        page = store.list_jobs(limit=min(_PAGE, most - offset), offset=offset)
        yield from page["data"]
        if not page["pagination"]["has_next"]:
            return


def _stats(store: Queries, job: JobDocument) -> StatsDocument | None:
    try:
        return store.job_stats(job["id"])
    except (NotFound, InvalidParameter):  # removed a moment ago, or of a name that could be none
        return None


def _of_all(store: Queries, shown: int) -> Iterator[Family]:
    totals = {enabled: store.list_jobs(limit=1, enabled=enabled)["pagination"]["total"] for enabled in (True, False)}
    stats = store.job_stats()
    yield Family(
        "jobstore_jobs",
        "Jobs, switched on or off.",
        [_sample(totals[enabled], enabled=_flag(enabled)) for enabled in (True, False)],
    )
    yield Family(
        "jobstore_jobs_left_out",
        "Jobs without series of their own here, because there are too many.",
        [_sample(max(0, sum(totals.values()) - shown))],
    )
    yield Family(
        "jobstore_executions",
        "Executions kept, of all jobs, removed ones included, by status.",
        [_sample(stats["by_status"][status], status=status) for status in STATUSES],
    )


def _of_jobs(seen: Sequence[tuple[JobDocument, StatsDocument]]) -> Iterator[Family]:
    yield Family(
        "jobstore_job_enabled",
        "Whether the job is switched on.",
        [_sample(int(job["enabled"]), job=job["name"]) for job, _ in seen],
    )
    yield Family(
        "jobstore_job_executions",
        "Executions kept, by status.",
        [_sample(stats["by_status"][each], job=job["name"], status=each) for job, stats in seen for each in STATUSES],
    )
    yield Family(
        "jobstore_job_duration_seconds",
        "Durations of the finished executions kept: average, p50, p95 and max.",
        list(_durations(seen)),
    )
    names = [job["name"] for job, _ in seen]
    yield _moments("last_run", "the latest start", names, [job["last_run_at"] for job, _ in seen])
    yield _moments(
        "last_success", "the start of the latest success", names, [each["last_success_at"] for _, each in seen]
    )
    yield _moments(
        "last_failure", "the start of the latest failure", names, [each["last_failure_at"] for _, each in seen]
    )
    yield _moments("next_run", "the next run", names, [job["next_run_at"] for job, _ in seen])


def _moments(name: str, words: str, jobs: Sequence[str], stamps: Sequence[str | None]) -> Family:
    return Family(
        f"jobstore_job_{name}_timestamp_seconds",
        f"The time of {words}, in seconds since 1970.",
        [_sample(_seconds(stamp), job=job) for job, stamp in zip(jobs, stamps, strict=True) if stamp is not None],
    )


def _durations(seen: Sequence[tuple[JobDocument, StatsDocument]]) -> Iterator[Sample]:
    for job, stats in seen:
        spent = stats["duration_ms"]
        for label, milliseconds in (
            ("average", spent["average"]), ("p50", spent["p50"]), ("p95", spent["p95"]), ("max", spent["max"]),
        ):  # fmt: skip
            if milliseconds is not None:
                yield _sample(milliseconds / 1000, job=job["name"], statistic=label)


def _sample(value: float, **labels: str) -> Sample:
    return Sample(tuple(labels.items()), value)


def _seconds(stamp: str) -> float:
    return instant_us(datetime.fromisoformat(stamp)) / MICROSECONDS


def _flag(value: bool) -> str:
    return "true" if value else "false"


# The text format.


def text(family: Family) -> str:
    r"""A metric in the text format: HELP, TYPE, then its samples.

    >>> print(text(Family("up", "Is it up?", [Sample((("job", 'a "b" \\ c'),), 1.0)])), end="")
    # HELP up Is it up?
    # TYPE up gauge
    up{job="a \"b\" \\ c"} 1
    """
    head = f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} gauge\n"
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
