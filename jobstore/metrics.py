"""A store's metrics in Prometheus' text format, version 0.0.4: for a scrape, or for a textfile collector.

Counts of stored executions are gauges, because pruning makes them smaller. Runs and failures are counters: they include
pruned ones. At most `MAX_JOBS` jobs have their own series; the others are counted, and totals include them. A job's
label is ``job_name``, because ``job`` is the scraper's own.
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


Samples = list[tuple[float, dict[str, str]]]
"""Values, each with its labels."""


class Family(NamedTuple):
    """One metric: its name, help text, samples and type."""

    name: str
    help: str
    samples: Samples
    type: str = "gauge"


def metrics(store: Queries, *, max_jobs: int = MAX_JOBS) -> str:
    r"""The store's metrics in Prometheus' text format, ending in a line feed.

    In total: jobs by state and stored executions by status. For each of the first `max_jobs` jobs by name: its type,
    category and state, whether it is enabled, its runs and failures so far, its stored executions by status, its
    durations in seconds, and when it last ran, succeeded, failed and will run next, in seconds since 1970. A value that
    does not exist has no line.

    Raises:
        StoreError: the store cannot be read.
    """
    return "".join(map(text, families(store, max_jobs)))


class _Job(NamedTuple):
    """A job with its own series; `totals` are its runs and failures so far, None if not known."""

    state: JobStateDocument
    stats: StatsDocument
    last_run_at: str | None
    totals: tuple[int, int] | None


def families(store: Queries, max_jobs: int = MAX_JOBS) -> list[Family]:
    """The metrics as values, without those that have no samples."""
    states = store.list_job_states(limit=1)["states"]
    totals = store.run_totals()
    shown = list(_paged(store.list_job_states, max_jobs))
    starts = {job["name"]: job["last_run_at"] for job in _paged(store.list_jobs, max_jobs)}
    jobs = []
    for state in shown:
        stats = _stats(store, state)
        if stats is not None:
            known = totals.get(int(state["job_id"]), (0, 0)) if totals else None
            jobs.append(_Job(state, stats, starts.get(state["name"]), known))
    found = (*_of_all(store, states, len(shown)), *_of_each(jobs))
    return [family for family in found if family.samples]


def _paged(listed: Callable[..., Any], most: int) -> Iterator[Any]:
    for offset in range(0, most, _PAGE):
        page = listed(limit=min(_PAGE, most - offset), offset=offset, order_by="name")
        yield from page["data"]
        if not page["pagination"]["has_next"]:
            return


def _stats(store: Queries, job: JobStateDocument) -> StatsDocument | None:
    try:
        return store.job_stats(job["name"])
    except (NotFound, InvalidParameter):  # just removed, or its name is not valid
        return None


def _of_all(store: Queries, states: Mapping[str, int], shown: int) -> Iterator[Family]:
    by_status = store.job_stats()["by_status"]
    yield Family("jobstore_jobs", "Jobs in each state.", [(count, {"state": state}) for state, count in states.items()])
    yield Family(
        "jobstore_jobs_left_out",
        "Jobs left out of the series by job because there are too many.",
        [(max(0, sum(states.values()) - shown), {})],
    )
    yield Family(
        "jobstore_executions",
        "Stored executions by status, of all jobs, including removed ones.",
        [(by_status[status], {"status": status}) for status in STATUSES],
    )


def _of_each(jobs: Sequence[_Job]) -> Iterator[Family]:
    def each(name: str, words: str, values: Callable[[_Job], Samples], kind: str = "gauge") -> Family:
        samples = [(value, {"job_name": job.state["name"], **labels}) for job in jobs for value, labels in values(job)]
        return Family(f"jobstore_job_{name}", words, samples, kind)

    def instant(name: str, words: str, at: Callable[[_Job], str | None]) -> Family:
        return each(
            f"{name}_timestamp_seconds",
            f"The time of {words}, in seconds since 1970.",
            lambda job: [(_seconds(text), {}) for text in [at(job)] if text is not None],
        )

    yield each(
        "info",
        "The job's type and category; always 1, to join with the other series.",
        lambda job: [(1, {"job_type": job.state["job_type"], "job_category": job.state["job_category"]})],
    )
    yield each("state", "1 for the state that the job is in.", lambda job: [(1, {"state": job.state["state"]})])
    yield each("enabled", "Whether the job is enabled.", lambda job: [(int(job.state["state"] != "disabled"), {})])
    yield each(
        "failures_in_a_row",
        "Finished runs that failed or timed out since the last success.",
        lambda job: [(job.state["failures_in_a_row"], {})],
    )
    yield each(
        "executions",
        "Stored executions by status.",
        lambda job: [(job.stats["by_status"][status], {"status": status}) for status in STATUSES],
    )
    yield each("duration_seconds", "Durations of stored finished executions: average, p50, p95 and max.", _durations)
    yield instant("last_run", "the latest start", lambda job: job.last_run_at)
    yield instant("last_success", "the start of the latest success", lambda job: job.stats["last_success_at"])
    yield instant("last_failure", "the start of the latest failure", lambda job: job.stats["last_failure_at"])
    yield instant("next_run", "the next run", lambda job: job.state["next_run_at"])
    # Without known totals there is no counter: a count that pruning makes smaller is not one.
    yield each(
        "runs_total",
        "Runs so far, whatever their outcome, including pruned ones.",
        lambda job: [(job.totals[0], {})] if job.totals else [],
        "counter",
    )
    yield each(
        "failures_total",
        "Runs so far that failed or timed out, including pruned ones.",
        lambda job: [(job.totals[1], {})] if job.totals else [],
        "counter",
    )


def _durations(job: _Job) -> Samples:
    spent: Mapping[str, Any] = {**job.stats["duration_ms"]}
    return [(ms / 1000, {"statistic": statistic}) for statistic, ms in spent.items() if ms is not None]


def _seconds(text: str) -> float:
    return instant_us(datetime.fromisoformat(text)) / MICROSECONDS


# The text format.


def text(family: Family) -> str:
    r"""A metric in the text format: HELP, TYPE, then its samples.

    >>> print(text(Family("up", "Is it up?", [(1.0, {"job": 'a "b" \\ c'})])), end="")
    # HELP up Is it up?
    # TYPE up gauge
    up{job="a \"b\" \\ c"} 1
    """
    head = f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.type}\n"
    return head + "".join(f"{family.name}{_labels(labels)} {number(value)}\n" for value, labels in family.samples)


def _labels(labels: dict[str, str]) -> str:
    pairs = [f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def number(value: float) -> str:
    """A value without an exponent and without trailing zeros.

    >>> number(3), number(0.25), number(1768464000.5), number(2e-06)
    ('3', '0.25', '1768464000.5', '0.000002')
    """
    if value == int(value):
        return str(int(value))
    return f"{value:.6f}".rstrip("0").rstrip(".")
