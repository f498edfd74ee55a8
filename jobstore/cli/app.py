"""The table of commands, and the one place that turns an error into a message and an exit code."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from jobstore import __version__
from jobstore.cli.command import COMPLETE_VARIABLE, Entry, LazyGroup
from jobstore.cli.options import MEANT, STORE_VARIABLE, TAKEN_FOR
from jobstore.cli.screen import say, write_json, write_json_line
from jobstore.language.errors import JobStoreError, NotFound, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

FOUND, NOT_FOUND, REFUSED, STORE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141

SECTIONS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Look",
        (
            Entry("demo", "Create a demo store and show what you can ask.", "jobstore.cli.trial", "demo"),
            Entry("jobs", "List the jobs: state, schedule, last run and next run.", "jobstore.cli.reading", "jobs"),
            Entry("job", "Show one job.", "jobstore.cli.reading", "job"),
            Entry("executions", "List executions, newest first.", "jobstore.cli.reading", "executions"),
            Entry(
                "execution", "Show one execution with its full error and result.", "jobstore.cli.states", "execution"
            ),
            Entry("health", "Exit with code 1 if a job is lost, late or failing.", "jobstore.cli.states", "health"),
            Entry("notify", "Send a message when a job fails or recovers.", "jobstore.cli.states", "notify"),
            Entry("histogram", "Count executions by hour or by day.", "jobstore.cli.states", "histogram"),
            Entry("stats", "Count runs by status, with success rate and durations.", "jobstore.cli.reading", "stats"),
        ),
    ),
    (
        "Serve",
        (
            Entry("serve", "Serve the web page and the HTTP API.", "jobstore.cli.serving", "serve"),
            Entry("token", "Create, list and revoke tokens for the HTTP API.", "jobstore.cli.serving", "token"),
            Entry("openapi", "Print the OpenAPI document of the HTTP API.", "jobstore.cli.serving", "openapi"),
            Entry("mcp", "Answer AI programs over MCP (stdio).", "jobstore.cli.serving", "mcp"),
            Entry("metrics", "Print metrics for Prometheus.", "jobstore.cli.serving", "metrics"),
        ),
    ),
    (
        "Record",
        (
            Entry("exec", "Run a command and record it, from crontab or systemd.", "jobstore.cli.running", "exec_"),
            Entry("cron", "Rewrite a crontab so that its commands are recorded.", "jobstore.cli.cron", "cron"),
        ),
    ),
    (
        "Keep",
        (
            Entry("load", "Create a store from JSON.", "jobstore.cli.keeping", "load"),
            Entry("dump", "Write a whole store as JSON.", "jobstore.cli.keeping", "dump"),
            Entry("export", "Write executions as JSON lines or CSV, oldest first.", "jobstore.cli.keeping", "export"),
            Entry("prune", "Delete old executions.", "jobstore.cli.upkeep", "prune"),
            Entry("compact", "Return the space of deleted executions to the disk.", "jobstore.cli.mending", "compact"),
            Entry(
                "close-interrupted", "Close runs whose process is gone.", "jobstore.cli.mending",
                "close_interrupted",
            ),
            Entry("timezone", "Print or change the time zone of cron expressions.", "jobstore.cli.mending", "timezone"),
            Entry("check", "Check a store for damage.", "jobstore.cli.upkeep", "check"),
            Entry("backup", "Copy a store that is in use.", "jobstore.cli.upkeep", "backup"),
            Entry("restore", "Replace a store with a backup.", "jobstore.cli.upkeep", "restore"),
        ),
    ),
    (
        "Set up",
        (Entry("completion", "Print a shell's completion script.", "jobstore.cli.running", "completion"),),
    ),
)  # fmt: skip
EPILOG = f"""\
{STORE_VARIABLE} names the store to use if FILE is left out. Data goes to stdout, messages to stderr.
Exit codes: 0 success, 1 not found or a failed check, 2 wrong usage or input, 3 the store cannot be used.

Start with 'jobstore demo'. 'jobstore COMMAND --help' has examples."""


def commands() -> click.Group:
    """Return the whole command line as a click group."""
    return LazyGroup(
        SECTIONS,
        name="jobstore",
        help="Scheduled jobs and their history: when they run next, what ran, what failed and why.",
        epilog=EPILOG,
        params=[
            click.Option(
                ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version,
                help="Show the version.",
            ),
        ],
    )  # fmt: skip


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"jobstore {__version__}")
        ctx.exit()


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; print expected errors as messages."""
    _be_lenient()
    try:
        code = _dispatch(list(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _quiet(INTERRUPTED)
    except BrokenPipeError:
        return _quiet(BROKEN_PIPE)
    except (JobStoreError, click.ClickException, OSError) as error:
        return _refused(error, arguments)
    return code


def _be_lenient() -> None:
    """Print what the locale cannot encode as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(arguments: list[str]) -> int:
    group = commands()
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        from jobstore.cli.completion import complete

        return complete(group, instruction)
    try:
        with group.make_context("jobstore", arguments) as ctx:
            try:
                return group.invoke(ctx) or FOUND
            except NotFound as error:
                raise NotFound(f"{error.message}{_meant(ctx)}{_misread(ctx)}") from None
    except click.exceptions.Exit as end:
        return end.exit_code


def _meant(ctx: click.Context) -> str:
    """Suggest the job with a name similar to the one typed."""
    near = ctx.meta.get(MEANT)
    return f"; did you mean {near!r}?" if near else ""


def _misread(ctx: click.Context) -> str:
    """If `JOBSTORE_DB` made a file name be read as a job, say what to write instead."""
    word, name = ctx.meta.get(TAKEN_FOR, ("", ""))
    if not word or not os.path.exists(word):  # noqa: PTH110 - a word that may not be a path
        return ""
    return f" ({STORE_VARIABLE} is set, so {word!r} was read as {name}; write './{word}' for the file)"


def _quiet(code: int) -> int:
    """Flush, and return the code. If the reader is gone, discard the rest: Python would fail writing it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return code


def _refused(error: JobStoreError | click.ClickException | OSError, arguments: Sequence[str]) -> int:
    code, message, hint = described(error)
    if wants_json(arguments):
        with suppress(OSError):  # the error may be that stdout cannot be written
            _envelope({"error": {"code": code, "message": message}}, lines="--jsonl" in arguments)
    with suppress(OSError):
        say(f"jobstore: {message} [{code}]{hint}")
    return _quiet(exit_code(error))


def _envelope(envelope: dict[str, object], *, lines: bool) -> None:
    if lines:
        write_json_line(envelope)
        sys.stdout.flush()
    else:
        write_json(envelope)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for JSON, even if they are not valid. Those after ``--`` belong to another command."""
    words = list(arguments)
    ours = words[: words.index("--")] if "--" in words else words
    return bool({"--json", "--jsonl"} & set(ours))


def described(error: JobStoreError | click.ClickException | OSError) -> tuple[str, str, str]:
    """Return an error's code, its message, and for wrong usage a hint to the help."""
    if isinstance(error, JobStoreError):
        return error.code, error.message, _TIME_HINT if error.message.startswith(_TIMES) else ""
    if isinstance(error, click.UsageError):
        return "INVALID_PARAMETER", error.format_message().rstrip("."), _where_to_read(error)
    if isinstance(error, click.ClickException):
        return "INVALID_PARAMETER", error.format_message(), ""
    if isinstance(error, FileNotFoundError) and not error.filename:  # the system names no file only here
        return StoreError.code, "The current folder no longer exists; give absolute paths", ""
    place = f": {error.filename}" if error.filename else ""
    return StoreError.code, f"{error.strerror or error}{place}", ""


_TIMES: Final = tuple(f"{name} must be a time: " for name in ("after", "before", "keep_failures_before"))
_TIME_HINT: Final = (
    "\nThe command line also takes today, yesterday, or how long ago, such as 24h or 7d. A time without an offset is "
    "in this machine's time zone, or in UTC with --utc."
)


def _where_to_read(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "jobstore"
    return f"\nTry '{path} --help'."


def exit_code(error: BaseException) -> int:
    """Return 1 for something not found, 3 for a store or a disk that failed, 2 for refused input."""
    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, StoreError | OSError):
        return STORE
    if isinstance(error, JobStoreError) and error.http_status >= 500:  # noqa: PLR2004 - a bug in jobstore
        return STORE
    return REFUSED
