"""``jobs``, ``job``, ``executions`` and ``stats``: query, then show the answer as a table, JSON, JSON lines or CSV."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from jobstore.cli.chosen import field_lines, fields_in, write_csv
from jobstore.cli.command import WATCH, Command
from jobstore.cli.options import (
    MEANT,
    FileArgument,
    JobArgument,
    flag,
    once,
    pairs,
    parameter_options,
    repeated,
    store_path,
    two_places,
    utc_option,
)
from jobstore.cli.screen import current_screen, say, write_json, write_json_line, write_lines
from jobstore.language.errors import NotFound
from jobstore.language.models import EXECUTION_FIELDS, JOB_FIELDS, JOB_ORDERS, STATE_ORDERS, JobStateDocument
from jobstore.language.parameters import (
    GET_JOB,
    GET_JOB_EXECUTIONS,
    JOB_STATS,
    LIST_JOB_EXECUTIONS,
    LIST_JOB_STATES,
    LIST_JOBS,
    Operation,
)
from jobstore.language.query import ExecutionsQuery, JobExecutionsQuery, JobsQuery, JobStatesQuery, Query
from jobstore.language.rules import suggestion
from jobstore.language.states import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.text import Text

    from jobstore.cli.screen import Screen
    from jobstore.language.address import Location
    from jobstore.store import JobStore

LARGEST_PAGE = 1000
STATE_FIELDS = tuple(JobStateDocument.__annotations__)


LISTED: dict[type[Query], tuple[str, tuple[str, ...]]] = {
    JobsQuery: ("job", JOB_FIELDS),
    JobStatesQuery: ("job", STATE_FIELDS),
    ExecutionsQuery: ("execution", EXECUTION_FIELDS),
    JobExecutionsQuery: ("execution", EXECUTION_FIELDS),
}
"""For each query that returns a page: the noun for its documents, and their fields."""


def query_of(operation: Operation[Any], given: Mapping[str, Any], job: str | None = None) -> Any:
    """Build a query from the arguments; raise `InvalidParameter` by the rules common to all interfaces."""
    return operation.from_text(pairs(operation, given) + ([("job_id", job)] if job is not None else []))


# The ways to show an answer.


def answer(path: Location, query: Any, given: Mapping[str, Any]) -> None:
    """Query the store at `path` and show the answer in the form that the options select."""
    from jobstore.cli.watch import watch, watch_seconds
    from jobstore.store import open as open_store

    seconds = watch_seconds(given["watch"])
    forms = [form for form in ("json", "jsonl", "csv", "excel") if given.get(f"as_{form}")]
    if len(forms) > 1 or (seconds and forms):
        words = [*(f"--{form}" for form in forms), *([WATCH] if seconds else [])]
        raise click.UsageError(f"{' and '.join(words)} exclude each other; give one.", click.get_current_context())
    _, known = LISTED.get(type(query), ("", ()))
    fields = fields_in(given.get("columns"), known)
    form = forms[0] if forms else ""
    with open_store(path) as store, hinting_at_jobs(store, query):
        if form in {"csv", "excel"}:
            write_csv(documents(store, query, given), fields or known, for_excel=form == "excel")
        elif form == "jsonl":
            for document in documents(store, query, given):
                write_json_line(document)
        elif form == "json":
            write_json(store.answer(query))
        elif seconds:
            watch(lambda screen: _with_footer(*drawn(store, query, fields, screen)), seconds, utc=given["utc"])
        else:
            show(store, query, fields, current_screen(utc=given["utc"]))


@contextmanager
def hinting_at_jobs(store: JobStore, query: Any) -> Iterator[None]:
    """If no job has the given name, keep a similar name for the error message."""
    try:
        yield
    except NotFound:
        job = getattr(query, "job_id", None)
        near = suggestion(job.name, job_names(store)) if job is not None else None
        if near:
            click.get_current_context().find_root().meta[MEANT] = near
        raise


def job_names(store: JobStore) -> tuple[str, ...]:
    """Return the names to search for a similar one: the first page of a thousand."""
    return tuple(job["name"] for job in store.list_jobs(limit=LARGEST_PAGE)["data"])


def show(store: JobStore, query: Any, fields: tuple[str, ...] | None, screen: Screen) -> None:
    """Print the table and the line about the page; in a pipe, that line goes to stderr, and only if rows are left."""
    lines, footer = drawn(store, query, fields, screen)
    write_lines(_with_footer(lines, footer) if screen.is_terminal else lines, colour=screen.colour)
    if not screen.is_terminal and (";" in footer or not lines):
        say(f"jobstore: {footer}")


def drawn(store: JobStore, query: Any, fields: tuple[str, ...] | None, screen: Screen) -> tuple[list[Text], str]:
    """Return the lines of an answer (only the chosen fields, if any), and for a page the line about its position."""
    from jobstore.cli import drawing, views

    document = store.answer(query)
    if "pagination" not in document:
        return drawing.drawn(store, query, document, screen), ""
    rows, (noun, _) = document["data"], LISTED[type(query)]
    footer = views.page_line(document["pagination"], query.offset, len(rows), noun)
    if fields and rows:
        return field_lines(rows, fields, screen), footer
    return drawing.drawn(store, query, document, screen) if rows else [], footer


def _with_footer(lines: list[Text], footer: str) -> list[Text]:
    from rich.text import Text

    return [*lines, Text(), Text(footer, style="dim")] if footer else lines


def documents(store: JobStore, query: Any, given: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the documents of one page if a limit is given, else of all pages.

    A run that starts meanwhile shifts the others by one, so the last document of a page may come again on the next
    page; it is not repeated.
    """
    if given.get("limit"):
        yield from store.answer(query)["data"]
        return
    offset, before = query.offset, frozenset[str]()
    while True:
        page = store.answer(replace(query, limit=LARGEST_PAGE, offset=offset))
        yield from (document for document in page["data"] if _key(document) not in before)
        if not page["pagination"]["has_next"]:
            return
        before = frozenset(_key(document) for document in page["data"])
        offset += LARGEST_PAGE


def _key(document: Mapping[str, Any]) -> str:
    """Return a document's unique id; for a job's state, the job's."""
    key: str = document["job_id"] if "state" in document else document["id"]
    return key


# The commands.


def showing(*, many: bool) -> list[click.Parameter]:
    """Return the options for the form of the answer."""
    lines = [
        flag("--jsonl", "Print one document per line: all that match, or --limit of them.", "as_jsonl"),
        flag("--csv", "Print CSV: all that match, or --limit of them.", "as_csv"),
        flag("--excel", "Print CSV that is safe to open in Excel: marked as UTF-8, without formulas.", "as_excel"),
        once("--columns", "FIELD,…", "Show these fields of the documents, in this order."),
    ]
    return [
        flag("--json", "Print the document (or the error) as the API returns it.", "as_json"),
        *(lines if many else []),
        utc_option(),
        once(WATCH, "[SECONDS]", "Refresh every SECONDS (default 2) until Ctrl-C."),
    ]  # fmt: skip


def _jobs(file: str | None, **given: Any) -> None:
    path = store_path(file)
    operation: Operation[Any] = LIST_JOBS
    if given["state"] or set(given["order_by"]) & (set(STATE_ORDERS) - set(JOB_ORDERS)):
        if given["enabled"]:
            raise click.UsageError("--enabled and --state exclude each other; --state=disabled lists disabled jobs.")
        operation = LIST_JOB_STATES
    answer(path, query_of(operation, given), given)


def _job(file: str | None, job: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "NAME", required=True)
    answer(path, query_of(GET_JOB, given, name), given)


def _executions(file: str | None, job: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "JOB")
    answer(path, query_of(executions_of(name), given, name), given)


def executions_of(job: str | None) -> Operation[Any]:
    """Return the operation that lists all executions, or those of one job."""
    return LIST_JOB_EXECUTIONS if job is None else GET_JOB_EXECUTIONS


def _stats(file: str | None, job: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "JOB")
    answer(path, query_of(JOB_STATS, given, name), given)


jobs = Command(
    "jobs",
    callback=_jobs,
    help="""List the jobs: state, schedule, last run and next run.

    STATE is the job's state: lost (a run's process is gone, or the run exceeded its timeout), late (the job was due
    more than five minutes ago and has not started), failing, running, waiting, new (it never ran), ok or disabled. With
    --state, or --order-by attention, success_rate or p95_ms, the table also shows since when, and the latest error.""",
    params=[
        FileArgument(),
        *parameter_options(LIST_JOBS),
        repeated(
            "--state",
            "STATE,…",
            f"Only jobs in one of these states: {', '.join(STATES)}. Separate several with commas.",
        ),
        *showing(many=True),
    ],
    examples=[
        ("jobstore jobs jobs.db", "all jobs, by name"),
        ("jobstore jobs jobs.db --search kline", "in name, type or category"),
        ("jobstore jobs jobs.db --order-by next_run_at", "what comes next"),
        ("jobstore jobs jobs.db --state lost,late,failing", "what needs attention, and since when"),
        ("jobstore jobs jobs.db --watch", "refresh every two seconds"),
        ("jobstore jobs jobs.db --columns name,next_run_at", "only these fields"),
        ("jobstore jobs jobs.db --jsonl | jq .name", "for programs"),
    ],
)
job = Command(
    "job",
    callback=_job,
    help="Show one job, by its name or number.",
    params=[
        FileArgument(),
        JobArgument("NAME", "The job's name or number; a name is tried first."),
        *showing(many=False),
    ],
    examples=[
        ("jobstore job jobs.db sync_klines_1h", ""),
        ("jobstore job jobs.db 1 --json", ""),
        ("JOBSTORE_DB=jobs.db jobstore job sync_klines_1h", "FILE left out"),
    ],
)
executions = Command(
    "executions",
    callback=_executions,
    help="""List the executions of all jobs or of one, newest first.

    With JOBSTORE_DB set, a single argument is JOB, unless it contains a '/': then it is FILE.""",
    params=[
        FileArgument(),
        JobArgument("[JOB]", "Only executions of this job, by its name or number."),
        *parameter_options(LIST_JOB_EXECUTIONS),
        *showing(many=True),
    ],
    examples=[
        ("jobstore executions jobs.db", "the latest"),
        ("jobstore executions jobs.db --search failed", "what failed"),
        ("jobstore executions jobs.db --status FAILURE,TIMEOUT", "what went wrong"),
        ("jobstore executions jobs.db sync_klines_1h", "one job"),
        ("jobstore executions jobs.db --after yesterday", "since yesterday, 00:00 here"),
        ("jobstore executions jobs.db --after 24h", "the last 24 hours"),
        ("jobstore executions jobs.db --order-by duration_ms", "the slowest"),
        ("jobstore executions jobs.db --excel --after 7d > week.csv", "for a spreadsheet"),
    ],
)
stats = Command(
    "stats",
    callback=_stats,
    help="Count runs by status, with success rate and durations, over one job or all.",
    params=[
        FileArgument(),
        JobArgument("[JOB]", "Only this job, by its name or number."),
        *parameter_options(JOB_STATS),
        *showing(many=False),
    ],
    examples=[
        ("jobstore stats jobs.db", "all jobs"),
        ("jobstore stats jobs.db sync_klines_1h --after 7d", "one job, the last seven days"),
    ],
)
