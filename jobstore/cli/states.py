"""``execution``, ``histogram``, ``health`` and ``notify``."""

from __future__ import annotations

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
    optional,
    parameter_options,
    two_places,
    utc_option,
)
from jobstore.cli.reading import answer, hinting_at_jobs, query_of, showing
from jobstore.cli.screen import current_screen, say, write_json, write_lines
from jobstore.language.parameters import EXECUTION_HISTOGRAM, GET_EXECUTION, GET_JOB, LIST_JOB_STATES
from jobstore.language.states import WRONG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobstore.language.models import JobStateDocument
    from jobstore.store import JobStore

UNHEALTHY = 1
RECEIVERS_VARIABLE = "JOBSTORE_NOTIFY"


def _execution(file: str | None, execution: str | None, **given: Any) -> None:
    path, execution_id = two_places(file, execution, "ID", required=True)
    query = GET_EXECUTION.from_text([("execution_id", execution_id or "")])
    answer(path, query, given)


def _histogram(file: str | None, job: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "JOB")
    answer(path, query_of(EXECUTION_HISTOGRAM, given, name), given)


# Health.


def _troubled(store: JobStore, names: Iterable[str], states: Iterable[str]) -> list[JobStateDocument]:
    """Return the jobs in the given states, most urgent first: all of them, or only those in `names`."""
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
        from jobstore.cli.drawing import state_lines

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
        say(f"jobstore: could not notify {', '.join(failed)}; the next call tries again")
        raise click.exceptions.Exit(UNHEALTHY)


execution = Command(
    "execution",
    callback=_execution,
    help="Show one execution with its full error, result and parameters.",
    params=[
        FileArgument(),
        optional("execution", "ID", "The execution's id, as lists show it."),
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
        click.Argument(["jobs"], nargs=-1, metavar="[JOB]...", help="Only these jobs, by name or number."),
        once("--state", "STATE,…", "The states to look for. [default: lost,late,failing]"),
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
    help=f"""Send a message about jobs that became lost, late or failing, and about jobs that recovered.

    Run it from a timer. Each call compares the jobs' states with those last sent to each receiver, which it keeps in
    FILE.notified, and sends only the changes. URL is an Apprise address (mailto://, json://, slack://, ...). To keep
    secrets out of the process list, set {RECEIVERS_VARIABLE} to the addresses instead, separated by spaces.""",
    params=[FileArgument(), click.Argument(["urls"], nargs=-1, metavar="URL...", help="Apprise addresses.")],
    examples=[
        ("jobstore notify jobs.db 'mailto://user:password@example.com?to=ops@example.com'", "by mail"),
        ("*/5 * * * *  jobstore notify /var/lib/jobs.db json://10.0.0.7/alerts", "in a crontab, to a program"),
    ],
)
