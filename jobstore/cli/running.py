"""``exec`` and ``completion``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobstore.cli import become
from jobstore.cli.app import commands
from jobstore.cli.command import Command
from jobstore.cli.options import STORE_VARIABLE, FileArgument, once, optional
from jobstore.cli.when import length_option
from jobstore.language.errors import InvalidParameter, shown

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMAND_WORDS = "jobstore.command"
_IS_AFTER = "jobstore.is_after"
"""The context key for whether ``--`` has been typed."""
_UNITS = {"k": 1024, "m": 1024**2}
_LONGEST_SIZE = 10
SHELLS = ("bash", "zsh", "fish")
NO_COMMAND = "COMMAND is missing: put it after '--'."


class _ExecCommand(Command):
    """A command that requires ``--`` and does not parse what follows it."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        options, *words = super().collect_usage_pieces(ctx)
        return [*words, options, "-- COMMAND [ARG]..."]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse only the words before ``--``, so that no option of the command is taken for one of ours."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_IS_AFTER] = at < len(args)
        ctx.meta[COMMAND_WORDS] = tuple(args[at + 1 :])
        try:
            return super().parse_args(ctx, args[:at])
        except click.UsageError:
            if at == len(args):  # without '--', the wrong words are probably the command
                raise click.UsageError(NO_COMMAND, ctx) from None
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete files in the command."""
        from click.shell_completion import CompletionItem

        is_command = ctx.meta.get(_IS_AFTER, False)
        return [CompletionItem(incomplete, type="file")] if is_command else super().shell_complete(ctx, incomplete)


def _exec(
    file: str | None,
    job: str | None,
    schedule: str | None,
    interval: str | None,
    timeout: str | None,
    category: str | None,
    job_type: str | None,
    timezone: str | None,
    keep_output: str | None,
    on_failure: str | None,
) -> int:
    ctx = click.get_current_context()
    command = ctx.meta[COMMAND_WORDS]
    if file is None or job is None:
        raise click.UsageError(f"FILE and JOB are both needed before '--', even if {STORE_VARIABLE} is set.", ctx)
    if not command:
        raise click.UsageError(NO_COMMAND, ctx)
    if schedule is not None and interval is not None:
        raise click.UsageError("--schedule and --interval exclude each other; give one.", ctx)
    interval_seconds, timeout_seconds = length_option(interval, "--interval"), length_option(timeout, "--timeout")
    from jobstore.integrations.command import run

    return run(
        file,
        job,
        list(command),
        schedule=schedule,
        interval_seconds=interval_seconds,
        timeout_seconds=timeout_seconds,
        category=category,
        job_type=job_type,
        timezone=timezone,
        keep_output=size_option(keep_output, "--keep-output"),
        on_failure=on_failure,
        last_resort=lambda: become(list(command)),
    )


def size_option(text: str | None, option: str) -> int | None:
    """Parse a size option into bytes.

    >>> size_option("64k", "--keep-output"), size_option("0", "--keep-output")
    (65536, 0)

    Raises:
        InvalidParameter: it is not a size.
    """
    if text is None:
        return None
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in _UNITS else (text, "")
    if not (number.isascii() and number.isdecimal() and len(number) < _LONGEST_SIZE):
        raise InvalidParameter(f"{option} must be bytes, or a size such as 8k or 60k; received {shown(text)}")
    return int(number) * _UNITS.get(unit, 1)


exec_ = _ExecCommand(
    "exec",
    callback=_exec,
    help="""Run COMMAND and record it as an execution of JOB.

    The command runs and its exit code is returned, whatever happens to the store; its output, descriptors and signals
    pass through unchanged. The store and the job are created if they do not exist. After a timeout the command and all
    it started are killed, and the exit code is 124. No shell reads COMMAND: for 'cd x && y' write
    -- sh -c 'cd x && y'.""",
    params=[
        FileArgument("The store: a file or a postgresql:// address."),
        optional("job", "JOB", "The name of the job."),
        once("--schedule", "CRON", "The job's cron expression, as in the crontab; makes the next run known."),
        once("--interval", "TIME", "Instead of --schedule: how often the job runs, such as 15m."),
        once("--timeout", "TIME", "Kill the command after this time, such as 1h30m, and record TIMEOUT."),
        once("--category", "WORD", "The job's category, such as sync or cleanup."),
        once("--type", "WORD", "The job's type, such as kline.", name="job_type"),
        once("--timezone", "ZONE", "The time zone of a new store. Default: this machine's."),
        once(
            "--keep-output",
            "SIZE",
            "How much of the end of the output to keep in the result; at most 60k, counted as JSON. 0: keep nothing, "
            "use no pipe. [default: 8k]",
        ),
        once(
            "--on-failure",
            "CMD",
            "A shell command to run after a failure or timeout. Its environment has JOBSTORE_JOB, "
            "JOBSTORE_EXECUTION_ID, JOBSTORE_STATUS, JOBSTORE_ERROR and JOBSTORE_DB.",
        ),
    ],
    examples=[
        ("jobstore exec jobs.db nightly --timeout 3600 -- rsync -a /data /backup", ""),
        ("jobstore exec jobs.db nightly --on-failure 'echo $JOBSTORE_ERROR | mail -s nightly me' -- nightly.sh", ""),
        (
            "0 2 * * * /usr/bin/jobstore exec /srv/jobs.db nightly --schedule '0 2 * * *' -- /srv/job",
            "in a crontab",
        ),
    ],
)


def _completion(shell: str | None) -> int:
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise InvalidParameter(f"SHELL must be one of {', '.join(SHELLS)}; received {chosen!r}")
    from jobstore.cli.completion import complete

    return complete(commands(), f"{chosen}_source")


completion = Command(
    "completion",
    callback=_completion,
    help="Print a shell's completion script: it completes commands, options, fields and the names of your jobs.",
    params=[optional("shell", "[SHELL]", "bash, zsh or fish. Default: the shell you use.")],
    examples=[
        ('eval "$(jobstore completion bash)"', "in ~/.bashrc"),
        ('eval "$(jobstore completion zsh)"', "in ~/.zshrc"),
        ("jobstore completion fish | source", "in ~/.config/fish/config.fish"),
    ],
)
