"""How each kind of query's answer is drawn on a screen: as a table or as a card."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from rich.text import Text

from jobstore.cli import views
from jobstore.cli.phrases import plain
from jobstore.cli.tables import Cell, Column, lines
from jobstore.language.characters import escaped
from jobstore.language.errors import InvalidParameter
from jobstore.language.models import STATUSES
from jobstore.language.query import (
    ExecutionQuery,
    ExecutionsQuery,
    HistogramQuery,
    JobExecutionsQuery,
    JobQuery,
    JobsQuery,
    JobStatesQuery,
    Query,
    StatsQuery,
)
from jobstore.queries import find_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jobstore.cli.screen import Screen
    from jobstore.language.models import ExecutionDocument, HistogramDocument, JobDocument, JobStateDocument
    from jobstore.store import JobStore

WIDEST_BAR: Final = 40


def drawn(store: JobStore, query: Query, document: Any, screen: Screen) -> list[Text]:
    """Return the answer to a query as lines of text."""
    return _DRAWINGS[type(query)](store, document, screen)


# Jobs, executions and statistics.


def _job_table(store: JobStore, page: Any, screen: Screen) -> list[Text]:
    return views.job_lines([_row(store, job) for job in page["data"]], screen)


def _row(store: JobStore, job: JobDocument) -> views.JobRow:
    try:
        found = find_state(store, job)
    except InvalidParameter:  # a stored name that the current rules refuse
        found = None
    return views.JobRow(job, found["state"] if found else "new", escaped(store.timezone))


def _job_card(store: JobStore, job: Any, screen: Screen) -> list[Text]:
    return views.job_card(_row(store, job), store.job_stats(job["id"]), screen)


def _execution_table(_store: JobStore, page: Any, screen: Screen) -> list[Text]:
    return views.execution_lines(page["data"], screen)


def _one_jobs_executions(_store: JobStore, page: Any, screen: Screen) -> list[Text]:
    return views.execution_lines(page["data"], screen, of_one_job=True)


def _stats_card(store: JobStore, stats: Any, screen: Screen) -> list[Text]:
    name = None if stats["job_id"] is None else store.get_job(stats["job_id"])["name"]
    return views.stats_card(stats, name, screen)


# Jobs by state.


def _state_table(_store: JobStore, page: Any, screen: Screen) -> list[Text]:
    return state_lines(page["data"], screen)


def state_lines(jobs: Sequence[JobStateDocument], screen: Screen) -> list[Text]:
    """Return a table of jobs: state, since when, and the error of the newest execution."""
    titles = ("JOB", "STATE", "SINCE", "IN_A_ROW", "NEXT_RUN", "SCHEDULE", "ERROR")
    if not screen.is_terminal:
        return lines(tuple(Column(title) for title in titles), [_state_cells(job, screen) for job in jobs], None)
    columns = (
        Column("JOB", least=12, most=34),
        Column("STATE"),
        Column("SINCE", right=True),
        Column("IN A ROW", right=True, rank=2),
        Column("NEXT RUN", right=True, rank=3),
        Column("SCHEDULE", rank=4, most=40),
        Column("ERROR", rank=5, least=40),
    )
    return lines(columns, [_state_cells(job, screen) for job in jobs], screen.width)


def _state_cells(job: JobStateDocument, screen: Screen) -> list[Any]:
    failures = job["failures_in_a_row"]
    last = job["last"]
    return [
        Cell(plain(job["name"]), "bold"),
        views.marked(job["state"], views.STATE_STYLES, screen),
        views.moment(job["since"], screen),
        Cell(str(failures)) if failures else views.ABSENT,
        views.moment(job["next_run_at"], screen),
        Cell(plain(job["schedule_text"]), "dim"),
        views.outcome(last) if last is not None and last["error"] else views.ABSENT,
    ]


# One execution.


def _execution_card(_store: JobStore, execution: ExecutionDocument, screen: Screen) -> list[Text]:
    """Show every field of an execution in full; the terminal wraps long lines."""
    status = views.marked(execution["status"], views.STATUS_STYLES, screen)
    head = Text.assemble(
        (plain(execution["job_name"]), "bold"), f"  execution {execution['id']}  ", (status.text, status.style)
    )
    facts = [
        ("started", views.when(execution["started_at"], screen)),
        ("completed", views.when(execution["completed_at"], screen)),
        ("created", views.when(execution["created_at"], screen)),
        ("took", "-" if execution["duration_ms"] is None else f"{execution['duration_ms']:,} ms"),
        ("worker", plain(execution["worker_id"] or "-")),
        ("trace", plain(execution["trace_id"] or "-")),
        ("job number", execution["job_id"]),
    ]
    blocks = [
        *_block("error", (execution["error"] or "").splitlines()),
        *_block("result", _json_lines(execution["result"])),
        *_block("parameters", _json_lines(execution["parameters_snapshot"])),
    ]
    return [head, Text(), *views.fact_lines(facts), *blocks]


def _block(title: str, said: Sequence[str]) -> Iterator[Text]:
    if said:
        yield Text()
        yield Text(title, style="dim")
        yield from (Text(f"  {escaped(line.expandtabs())}") for line in said)


def _json_lines(value: Any) -> list[str]:
    return [] if value is None else json.dumps(value, ensure_ascii=False, indent=2).splitlines()


# Counts over time.


def _histogram_table(_store: JobStore, histogram: HistogramDocument, screen: Screen) -> list[Text]:
    statuses = [status for status in STATUSES if any(each["by_status"][status] for each in histogram["buckets"])]
    most = max((bucket["runs"] for bucket in histogram["buckets"]), default=0)
    title = f"START ({histogram['timezone']})" if screen.is_terminal else "START"
    # On a narrow screen the start column stays, and the statuses are dropped, failures last.
    ranks: dict[str, int] = {status: len(STATUSES) - at for at, status in enumerate(STATUSES)}
    counts = (Column(each, right=screen.is_terminal, rank=ranks.get(each, 0)) for each in ("RUNS", *statuses))
    columns = [Column(title), *counts]
    rows = [
        [
            Cell(_start_text(bucket["start_at"], histogram["timezone"], screen)),
            Cell(f"{bucket['runs']:,}" if screen.is_terminal else str(bucket["runs"])),
            *(
                Cell(str(bucket["by_status"][status]), "" if bucket["by_status"][status] else "dim")
                for status in statuses
            ),
            *([Cell("▇" * -(-bucket["runs"] * WIDEST_BAR // most) if most else "", "cyan")] if screen.marks else []),
        ]
        for bucket in histogram["buckets"]
    ]
    if screen.marks:
        columns.append(Column("", rank=len(STATUSES) + 1))
    return lines(tuple(columns), rows, screen.width)


def _start_text(start_at: str, timezone: str, screen: Screen) -> str:
    if not screen.is_terminal:
        return start_at
    return f"{datetime.fromisoformat(start_at).astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M}"


_DRAWINGS: Final[Mapping[type[Query], Callable[[JobStore, Any, Screen], list[Text]]]] = {
    JobsQuery: _job_table,
    JobQuery: _job_card,
    ExecutionsQuery: _execution_table,
    JobExecutionsQuery: _one_jobs_executions,
    StatsQuery: _stats_card,
    ExecutionQuery: _execution_card,
    JobStatesQuery: _state_table,
    HistogramQuery: _histogram_table,
}
