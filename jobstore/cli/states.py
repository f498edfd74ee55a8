"""``execution``, ``histogram``, ``health`` and ``notify``; the states in the table of jobs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobstore.cli.command import Command
from jobstore.cli.options import (
    FileArgument,
    JobArgument,
    file_and_words,
    flag,
    named,
    needs,
    once,
    parameter_options,
    two_places,
    utc_option,
)
from jobstore.cli.reading import Question, answer, hinting_at_jobs, question, showing
from jobstore.cli.screen import current_screen, say, write_json, write_lines
from jobstore.language.errors import escaped
from jobstore.language.models import STATUSES, JobStateDocument
from jobstore.language.parameters import EXECUTION_HISTOGRAM, GET_EXECUTION, GET_JOB, LIST_JOB_STATES
from jobstore.language.states import WRONG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.text import Text

    from jobstore.cli.screen import Screen
    from jobstore.language.models import ExecutionDocument, HistogramDocument
    from jobstore.queries import Queries
    from jobstore.store import JobStore

UNHEALTHY = 1
RECEIVERS_VARIABLE = "JOBSTORE_NOTIFY"
STATE_FIELDS = tuple(JobStateDocument.__annotations__)
WIDEST_BAR = 40


# The table of jobs by state, for ``jobs --state``.


def states_question(**given: Any) -> Question:
    """`list_job_states` as the command line asks it."""
    if given.get("enabled"):
        raise click.UsageError("--enabled and --state exclude each other; --state=disabled lists disabled jobs.")
    return question(LIST_JOB_STATES, given, None, _state_table, "job", STATE_FIELDS)


def _state_table(_store: Queries, page: Any, screen: Screen) -> list[Text]:
    return state_lines(page["data"], screen)


def state_lines(jobs: Sequence[JobStateDocument], screen: Screen) -> list[Text]:
    """A line for each job: state, since when, what its newest execution says."""
    from jobstore.cli.tables import Column, lines

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
    from jobstore.cli import views
    from jobstore.cli.phrases import plain
    from jobstore.cli.tables import Cell

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


def _execution(file: str | None, execution: str | None, **given: Any) -> None:
    path, execution_id = two_places(file, execution, "ID", required=True)
    query = GET_EXECUTION.from_text([("execution_id", execution_id or "")])
    answer(path, Question(query, lambda _store, document, screen: execution_card(document, screen)), given)


def execution_card(execution: ExecutionDocument, screen: Screen) -> list[Text]:
    """Every field of an execution, nothing cut: a long line is left to the terminal to wrap."""
    from rich.text import Text

    from jobstore.cli import views
    from jobstore.cli.phrases import plain

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
    from rich.text import Text

    if said:
        yield Text()
        yield Text(title, style="dim")
        yield from (Text(f"  {escaped(line.expandtabs())}") for line in said)


def _json_lines(value: Any) -> list[str]:
    return [] if value is None else json.dumps(value, ensure_ascii=False, indent=2).splitlines()


# Counts over time.


def _histogram(file: str | None, job: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "JOB")
    answer(path, question(EXECUTION_HISTOGRAM, given, name, _histogram_table), given)


def _histogram_table(_store: Queries, histogram: HistogramDocument, screen: Screen) -> list[Text]:
    from jobstore.cli.tables import Cell, Column, lines

    statuses = [status for status in STATUSES if any(each["by_status"][status] for each in histogram["buckets"])]
    most = max((bucket["runs"] for bucket in histogram["buckets"]), default=0)
    title = f"START ({histogram['timezone']})" if screen.is_terminal else "START"
    columns = [Column(title), *(Column(each, right=screen.is_terminal) for each in ("RUNS", *statuses))]
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
        columns.append(Column("", rank=1))
    return lines(tuple(columns), rows, screen.width)


def _start_text(start_at: str, timezone: str, screen: Screen) -> str:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    if not screen.is_terminal:
        return start_at
    return f"{datetime.fromisoformat(start_at).astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M}"


# Health.


def _troubled(store: JobStore, names: Iterable[str], states: Iterable[str]) -> list[JobStateDocument]:
    """The jobs in some states, most urgent first; `names`: these jobs alone, or all where there is none."""
    from jobstore.integrations.notify import list_in_states

    wanted = {_name_of(store, name) for name in names}
    return [job for job in list_in_states(store, states) if not wanted or job["name"] in wanted]


def _name_of(store: JobStore, name: str) -> str:
    query = GET_JOB.from_text([("job_id", name)])
    with hinting_at_jobs(store, query):
        return str(store.answer(query)["name"])


def _health(file: str | None, jobs: tuple[str, ...], **given: Any) -> None:
    from jobstore.store import open as open_store

    path, words = file_and_words(file, jobs, lambda word: "/" not in word and not Path(word).is_file())
    names = [named(word) for word in words]
    query = LIST_JOB_STATES.from_text([("state", given["state"])] if given["state"] else [])
    with open_store(path) as store:
        found = _troubled(store, names, query.state or WRONG)
    if given["as_json"]:
        write_json({"data": found})
    elif found:
        screen = current_screen(utc=given["utc"])
        write_lines(state_lines(found, screen), colour=screen.colour)
    if found:
        raise click.exceptions.Exit(UNHEALTHY)


def _notify(file: str | None, urls: tuple[str, ...]) -> None:
    from jobstore.integrations.notify import notify as tell
    from jobstore.store import open as open_store

    path, receivers = file_and_words(file, urls, lambda word: "://" in word)
    receivers = receivers or os.environ.get(RECEIVERS_VARIABLE, "").split()
    if not receivers:
        raise click.UsageError(f"URL is missing: give the address of a receiver, or set {RECEIVERS_VARIABLE}.")
    needs("notify", "apprise")
    with open_store(path) as store:
        failed = tell(store, receivers)
    if failed:
        say(f"jobstore: could not tell {', '.join(failed)}; the next call tries again")
        raise click.exceptions.Exit(UNHEALTHY)


execution = Command(
    "execution",
    callback=_execution,
    help="Show one execution with its full error, result and parameters.",
    params=[
        FileArgument(),
        click.Argument(["execution"], required=False, metavar="ID"),
        *showing(many=False),
    ],
    examples=[
        ("jobstore execution jobs.db 12345", "everything, nothing cut"),
        ("jobstore execution jobs.db 12345 --json", "for programs"),
    ],
)
histogram = Command(
    "histogram",
    callback=_histogram,
    help="Count executions by hour or by day, of all jobs or of one.",
    params=[
        FileArgument(),
        JobArgument("[JOB]", "Only this job, by its name or number."),
        *parameter_options(EXECUTION_HISTOGRAM),
        *showing(many=False),
    ],
    examples=[
        ("jobstore histogram jobs.db --after 7d", "the last seven days, by hour"),
        ("jobstore histogram jobs.db --status FAILURE,TIMEOUT", "when things went wrong"),
        ("jobstore histogram jobs.db sync_klines_1h --bucket 1d --timezone Asia/Shanghai", "a job, by day"),
    ],
)
health = Command(
    "health",
    callback=_health,
    help="""Exit with code 1 if a job is lost, late or failing, and print a line for each.

    If all is well, print nothing and exit with code 0. Use it in monitoring programs and container health checks.""",
    params=[
        FileArgument(),
        click.Argument(["jobs"], nargs=-1, metavar="[JOB]..."),
        once("--state", metavar="STATE,…", help="The states to look for. [default: lost,late,failing]"),
        flag("--json", "Print the states of these jobs as the API returns them.", "as_json"),
        utc_option(),
    ],
    examples=[
        ("jobstore health jobs.db", "all jobs"),
        ("jobstore health jobs.db sync_klines_1h", "one job"),
        ("jobstore health jobs.db --state lost,late", "ignore failures"),
    ],
)


notify = Command(
    "notify",
    callback=_notify,
    help=f"""Send a message for each job that became lost, late or failing, and for each that recovered.

    Run it from a timer. Each call compares the jobs' states with those last sent to each receiver, which it keeps in
    FILE.notified, and sends only the changes. URL is an Apprise address (mailto://, json://, slack://, ...). To keep
    secrets out of the process list, set {RECEIVERS_VARIABLE} to the addresses instead, separated by blanks.""",
    params=[FileArgument(), click.Argument(["urls"], nargs=-1, metavar="URL...")],
    examples=[
        ("jobstore notify jobs.db 'mailto://user:password@example.com?to=ops@example.com'", "by mail"),
        ("*/5 * * * *  jobstore notify /var/lib/jobs.db json://10.0.0.7/alerts", "in a crontab, to a program"),
    ],
)
