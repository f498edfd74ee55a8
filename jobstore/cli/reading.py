"""``jobs``, ``job``, ``executions`` and ``stats``: ask, then show as a table, a document or lines of JSON."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

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
    store_path,
    two_places,
    utc_option,
)
from jobstore.cli.screen import current_screen, say, write_json, write_json_line, write_lines
from jobstore.language.errors import NotFound
from jobstore.language.models import EXECUTION_FIELDS, JOB_FIELDS, JOB_ORDERS, STATE_ORDERS
from jobstore.language.parameters import (
    GET_JOB,
    GET_JOB_EXECUTIONS,
    JOB_STATS,
    LIST_JOB_EXECUTIONS,
    LIST_JOBS,
    Operation,
)
from jobstore.language.rules import suggestion
from jobstore.language.states import STATES
from jobstore.queries import find_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.text import Text

    from jobstore.cli.screen import Screen
    from jobstore.language.address import Location
    from jobstore.store import JobStore

LARGEST_PAGE = 1000


class Question(NamedTuple):
    """What is asked, how the answer is drawn and called, and whether its page was given a size."""

    query: Any
    draw: Callable[[JobStore, Any, Screen], list[Text]]
    noun: str = ""
    is_limited: bool = False
    fields: tuple[str, ...] = ()
    """Of the documents on its page."""

    def ask(self, store: JobStore) -> Any:
        """The document."""
        return store.answer(self.query)


def question(
    operation: Operation[Any],
    given: Mapping[str, Any],
    job: str | None,
    draw: Callable[[JobStore, Any, Screen], list[Text]],
    noun: str = "",
    fields: tuple[str, ...] = (),
) -> Question:
    """The words of the command line, read by the rules of every interface.

    Raises:
        InvalidParameter: a word breaks its rule.
    """
    words = pairs(operation, given) + ([("job_id", job)] if job is not None else [])
    return Question(operation.from_text(words), draw, noun, bool(given.get("limit")), fields)


# The ways to show an answer.


def answer(path: Location, asked: Question, shown: Mapping[str, Any]) -> None:
    """Asks the store at `path` and shows what it says in the way that the options chose."""
    from jobstore.cli.watch import watch, watch_seconds
    from jobstore.store import open as open_store  # a refusal needs no store

    seconds = watch_seconds(shown["watch"])
    forms = [form for form in ("json", "jsonl", "csv", "excel") if shown.get(f"as_{form}")]
    if len(forms) > 1 or (seconds and forms):
        words = [*(f"--{form}" for form in forms), *([WATCH] if seconds else [])]
        raise click.UsageError(f"{' and '.join(words)} exclude each other; give one.", click.get_current_context())
    fields = fields_in(shown.get("columns"), asked.fields)
    if fields:
        asked = asked._replace(draw=lambda _store, page, screen: field_lines(page["data"], fields, screen))
    with open_store(path) as store, hinting_at_jobs(store, asked.query):
        if shown.get("as_csv") or shown.get("as_excel"):
            write_csv(documents(store, asked), fields or asked.fields, for_excel=bool(shown["as_excel"]))
        elif shown.get("as_jsonl"):
            write_json_lines(store, asked)
        elif shown["as_json"]:
            write_json(asked.ask(store))
        elif seconds:
            watch(lambda screen: _drawn(store, asked, screen), seconds, utc=shown["utc"])
        else:
            show(store, asked, current_screen(utc=shown["utc"]))


@contextmanager
def hinting_at_jobs(store: JobStore, query: Any) -> Iterator[None]:
    """Where no job has the name that was typed, the names near it are kept for the message."""
    try:
        yield
    except NotFound:
        job = getattr(query, "job_id", None)
        near = suggestion(job.name, job_names(store)) if job is not None else None
        if near:
            click.get_current_context().find_root().meta[MEANT] = near
        raise


def job_names(store: JobStore) -> tuple[str, ...]:
    """The names to choose from: those of the first page, as a person would look through them."""
    return tuple(job["name"] for job in store.list_jobs(limit=LARGEST_PAGE)["data"])


def show(store: JobStore, asked: Question, screen: Screen) -> None:
    """The table and the line about the page; in a pipe that goes to stderr, where there is more than is shown."""
    drawn, footer = _answered(store, asked, screen)
    if screen.is_terminal:
        drawn += _footer(footer)
    write_lines(drawn, colour=screen.colour)
    if not screen.is_terminal and (";" in footer or not drawn):
        say(f"jobstore: {footer}")


def _drawn(store: JobStore, asked: Question, screen: Screen) -> list[Text]:
    drawn, footer = _answered(store, asked, screen)
    return drawn + _footer(footer)


def _answered(store: JobStore, asked: Question, screen: Screen) -> tuple[list[Text], str]:
    from jobstore.cli import views  # what is drawn needs rich; JSON does not

    document = asked.ask(store)
    if "pagination" not in document:
        return asked.draw(store, document, screen), ""
    footer = views.page_line(document["pagination"], asked.query.offset, len(document["data"]), asked.noun)
    return asked.draw(store, document, screen) if document["data"] else [], footer


def _footer(line: str) -> list[Text]:
    from rich.text import Text  # what is drawn needs rich; JSON does not

    return [Text(), Text(line, style="dim")] if line else []


def write_json_lines(store: JobStore, asked: Question) -> None:
    """Print every document that matches, one a line; at most ``--limit`` of them, if given."""
    for document in documents(store, asked):
        write_json_line(document)


def documents(store: JobStore, asked: Question) -> Iterator[Any]:
    """The documents of one page where a limit was given, else of page after page.

    A run that starts meanwhile moves the others on by one: one seen on the page before is not given twice.
    """
    if asked.is_limited:
        yield from asked.ask(store)["data"]
        return
    offset, before = asked.query.offset, frozenset[str]()
    while True:
        page = store.answer(replace(asked.query, limit=LARGEST_PAGE, offset=offset))
        yield from (document for document in page["data"] if _key(document) not in before)
        if not page["pagination"]["has_next"]:
            return
        before = frozenset(_key(document) for document in page["data"])
        offset += LARGEST_PAGE


def _key(document: Mapping[str, Any]) -> str:
    """What tells a document from the others; of a state, its job."""
    key: str = document["job_id"] if "state" in document else document["id"]
    return key


# What is drawn.


def _job_table(store: JobStore, page: Any, screen: Screen) -> list[Text]:
    from jobstore.cli import views  # what is drawn needs rich; JSON does not

    return views.job_lines([_row(store, job) for job in page["data"]], screen)


def _row(store: JobStore, job: Any) -> Any:
    from jobstore.cli import views  # what is drawn needs rich; JSON does not
    from jobstore.language.errors import InvalidParameter

    try:
        found = find_state(store, job)
    except InvalidParameter:  # of a name that could be none
        found = None
    return views.JobRow(job, found["state"] if found else "new", store.timezone)


def _job_card(store: JobStore, job: Any, screen: Screen) -> list[Text]:
    from jobstore.cli import views  # what is drawn needs rich; JSON does not

    return views.job_card(_row(store, job), store.job_stats(job["id"]), screen)


def _execution_table(of_one_job: bool) -> Callable[[JobStore, Any, Screen], list[Text]]:
    def draw(_store: JobStore, page: Any, screen: Screen) -> list[Text]:
        from jobstore.cli import views  # what is drawn needs rich; JSON does not

        return views.execution_lines(page["data"], screen, of_one_job=of_one_job)

    return draw


def _stats_card(store: JobStore, stats: Any, screen: Screen) -> list[Text]:
    from jobstore.cli import views  # what is drawn needs rich; JSON does not

    name = None if stats["job_id"] is None else store.get_job(stats["job_id"])["name"]
    return views.stats_card(stats, name, screen)


def jobs_question(**given: Any) -> Question:
    """`list_jobs` as the command line asks it."""
    return question(LIST_JOBS, given, None, _job_table, "job", JOB_FIELDS)


def job_question(job: str) -> Question:
    """`get_job` as the command line asks it."""
    return question(GET_JOB, {}, job, _job_card)


def executions_question(job: str | None, **given: Any) -> Question:
    """`list_job_executions`, or with a job `get_job_executions`, as the command line asks it."""
    operation: Operation[Any] = LIST_JOB_EXECUTIONS if job is None else GET_JOB_EXECUTIONS
    draw = _execution_table(of_one_job=job is not None)
    return question(operation, given, job, draw, "execution", EXECUTION_FIELDS)


def stats_question(job: str | None, **given: Any) -> Question:
    """`job_stats` as the command line asks it."""
    return question(JOB_STATS, given, job, _stats_card)


# The commands.


def showing(*, many: bool) -> list[click.Parameter]:
    """The options that say how an answer is shown."""
    lines = [
        flag("--jsonl", "Print one document per line: all that match, or --limit of them.", "as_jsonl"),
        flag("--csv", "Print CSV: all that match, or --limit of them.", "as_csv"),
        flag("--excel", "Print CSV that is safe to open in Excel: marked as UTF-8, without formulas.", "as_excel"),
        once("--columns", metavar="FIELD,…", help="Show these fields of the documents, in this order."),
    ]
    return [
        flag("--json", "Print the document (or the error) as the API returns it.", "as_json"),
        *(lines if many else []),
        utc_option(),
        once(WATCH, metavar="[SECONDS]", help="Refresh every SECONDS (default 2) until Ctrl-C."),
    ]  # fmt: skip


def _jobs(file: str | None, **given: Any) -> None:
    path = store_path(file)
    if given["state"] or set(given["order_by"]) & (set(STATE_ORDERS) - set(JOB_ORDERS)):
        from jobstore.cli.states import states_question

        answer(path, states_question(**given), given)
    else:
        answer(path, jobs_question(**given), given)


def _job(file: str | None, job: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "NAME", required=True)
    answer(path, job_question(name or ""), given)


def _executions(file: str | None, job: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "JOB")
    answer(path, executions_question(name, **given), given)


def _stats(file: str | None, job: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "JOB")
    answer(path, stats_question(name, **given), given)


jobs = Command(
    "jobs",
    callback=_jobs,
    help="""List the jobs: what runs, when, and when next.

    STATE is the job's state: lost (a run's process is gone, or the run exceeded its timeout), late (the job was due
    more than five minutes ago and has not started), failing, running, waiting, new (it never ran), ok or disabled. With
    --state, or --order-by attention, success_rate or p95_ms, the table also shows since when, and the latest error.""",
    params=[
        FileArgument(),
        *parameter_options(LIST_JOBS),
        click.Option(
            ["--state"],
            multiple=True,
            metavar="STATE,…",
            help=f"Only jobs in this state. One of {', '.join(STATES)}, or several separated by commas.",
        ),
        *showing(many=True),
    ],
    examples=[
        ("jobstore jobs jobs.db", "all jobs, by name"),
        ("jobstore jobs jobs.db --search kline", "in name, type or category"),
        ("jobstore jobs jobs.db --order-by next_run_at", "what comes next"),
        ("jobstore jobs jobs.db --state lost,late,failing", "what needs attention, and since when"),
        ("jobstore jobs jobs.db --watch", "keep looking"),
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
    help="""List what ran, newest first, of all jobs or of one.

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
