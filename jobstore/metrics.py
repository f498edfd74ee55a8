"""A store's metrics in Prometheus' text format, version 0.0.4: for a scrape, or for a textfile collector.

Counts of stored executions are gauges, because pruning makes them smaller. Runs and failures are counters: they include
pruned ones. At most `MAX_JOBS` jobs have their own series; the others are counted, and totals include them. A job's
label is ``job_name``, because ``job`` is the scraper's own.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
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
    """One line: pairs of label and text, and a value."""

    labels: tuple[tuple[str, str], ...]
    value: float


class Family(NamedTuple):
    """One metric: its name, help text, samples and type."""

    name: str
    help: str
    samples: Sequence[Sample]
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
    found = (*_of_all(store, states, len(shown)), *map(partial(_family, jobs), _OF_EACH_JOB))
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
    yield Family(
        "jobstore_jobs", "Jobs in each state.", [_sample(count, state=state) for state, count in states.items()]
    )
    yield Family(
        "jobstore_jobs_left_out",
        "Jobs left out of the series by job because there are too many.",
        [_sample(max(0, sum(states.values()) - shown))],
    )
    yield Family(
        "jobstore_executions",
        "Stored executions by status, of all jobs, including removed ones.",
        [_sample(by_status[status], status=status) for status in STATUSES],
    )


class _JobFamily(NamedTuple):
    """A metric of each job: its name, help text and type, and a function from a job to values with labels."""

    name: str
    help: str
    values: Callable[[_Job], list[tuple[float, dict[str, str]]]]
    type: str = "gauge"


def _family(jobs: Sequence[_Job], kind: _JobFamily) -> Family:
    samples = [
        _sample(value, job_name=job.state["name"], **labels) for job in jobs for value, labels in kind.values(job)
    ]
    return Family(f"jobstore_job_{kind.name}", kind.help, samples, kind.type)


def _instant(name: str, words: str, at: Callable[[_Job], str | None]) -> _JobFamily:
    return _JobFamily(
        f"{name}_timestamp_seconds",
        f"The time of {words}, in seconds since 1970.",
        lambda job: [(_seconds(text), {}) for text in [at(job)] if text is not None],
    )


def _durations(job: _Job) -> list[tuple[float, dict[str, str]]]:
    spent: Mapping[str, Any] = {**job.stats["duration_ms"]}
    return [(ms / 1000, {"statistic": statistic}) for statistic, ms in spent.items() if ms is not None]


_OF_EACH_JOB: Final = (
    _JobFamily(
        "info",
        "The job's type and category; always 1, to join with the other series.",
        lambda job: [(1, {"job_type": job.state["job_type"], "job_category": job.state["job_category"]})],
    ),
    _JobFamily("state", "1 for the state that the job is in.", lambda job: [(1, {"state": job.state["state"]})]),
    _JobFamily("enabled", "Whether the job is enabled.", lambda job: [(int(job.state["state"] != "disabled"), {})]),
    _JobFamily(
        "failures_in_a_row",
        "Finished runs that failed or timed out since the last success.",
        lambda job: [(job.state["failures_in_a_row"], {})],
    ),
    _JobFamily(
        "executions",
        "Stored executions by status.",
        lambda job: [(job.stats["by_status"][status], {"status": status}) for status in STATUSES],
    ),
    _JobFamily("duration_seconds", "Durations of stored finished executions: average, p50, p95 and max.", _durations),
    _instant("last_run", "the latest start", lambda job: job.last_run_at),
    _instant("last_success", "the start of the latest success", lambda job: job.stats["last_success_at"]),
    _instant("last_failure", "the start of the latest failure", lambda job: job.stats["last_failure_at"]),
    _instant("next_run", "the next run", lambda job: job.state["next_run_at"]),
    # Without known totals there is no counter: a count that pruning makes smaller is not one.
    _JobFamily(
        "runs_total",
        "Runs so far, whatever their outcome, including pruned ones.",
        lambda job: [(job.totals[0], {})] if job.totals else [],
        "counter",
    ),
    _JobFamily(
        "failures_total",
        "Runs so far that failed or timed out, including pruned ones.",
        lambda job: [(job.totals[1], {})] if job.totals else [],
        "counter",
    ),
)


def _sample(value: float, **labels: str) -> Sample:
    return Sample(tuple(labels.items()), value)


def _seconds(text: str) -> float:
    return instant_us(datetime.fromisoformat(text)) / MICROSECONDS


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
    pairs = [f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"' for name, value in labels]
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
