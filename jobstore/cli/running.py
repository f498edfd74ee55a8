"""``exec`` and ``completion``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from jobstore.cli.app import SHELLS, print_completion
from jobstore.cli.command import Command
from jobstore.cli.options import STORE_VARIABLE, ascii_integer, once
from jobstore.language.errors import InvalidParameter

COMMAND_WORDS = "jobstore.command"
NO_COMMAND = "COMMAND is missing: put it after '--'."


class _ExecCommand(Command):
    """One that takes what follows ``--`` as it is, and insists on the ``--``."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """FILE JOB [OPTIONS] -- COMMAND."""
        options, *words = super().collect_usage_pieces(ctx)
        return [*words, options, "-- COMMAND [ARG]..."]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Ours are the words before ``--``; an option of the command is never taken for one of ours."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[COMMAND_WORDS] = tuple(args[at + 1 :])
        try:
            return super().parse_args(ctx, args[:at])
        except click.UsageError:
            if at == len(args):  # the words that made no sense are the command's
                raise click.UsageError(NO_COMMAND, ctx) from None
            raise


def _exec(
    file: str | None,
    job: str | None,
    schedule: str | None,
    interval: str | None,
    timeout: str | None,
    category: str | None,
    job_type: str | None,
) -> int:
    ctx = click.get_current_context()
    command = ctx.meta[COMMAND_WORDS]
    if file is None or job is None:
        raise click.UsageError(f"FILE and JOB are both needed here, also where {STORE_VARIABLE} is set.", ctx)
    if not command:
        raise click.UsageError(NO_COMMAND, ctx)
    if schedule is not None and interval is not None:
        raise click.UsageError("--schedule and --interval exclude each other; give one.", ctx)
    interval_seconds = ascii_integer(interval, "--interval", 1)
    timeout_seconds = ascii_integer(timeout, "--timeout", 1)
    from jobstore.integrations.command import run  # noqa: PLC0415 - writers are heavy

    return run(
        Path(file),
        job,
        list(command),
        schedule=schedule,
        interval_seconds=interval_seconds,
        timeout_seconds=timeout_seconds,
        category=category,
        job_type=job_type,
    )


exec_ = _ExecCommand(
    "exec",
    callback=_exec,
    help="""Run COMMAND and record it as an execution of JOB.

    The store and the job are made if they are not there. Output and exit code pass through; past the time-out the
    command and all it started are killed, and the exit code is 124. A store that cannot be written is told on stderr
    and never stops the command.""",
    params=[
        click.Argument(["file"], required=False, metavar="FILE", help="The store.", type=click.Path()),
        click.Argument(["job"], required=False, metavar="JOB", help="The name of the job."),
        once("--schedule", metavar="CRON", help="When it runs, as crontab has it, so that the next run is known."),
        once("--interval", metavar="SECONDS", help="Or: how often it runs."),
        once("--timeout", metavar="SECONDS", help="Kill it after so long and record TIMEOUT."),
        once("--category", metavar="WORD", help="The job's category, such as sync or cleanup."),
        once("--type", "job_type", metavar="WORD", help="The job's type, such as kline."),
    ],
    examples=[
        ("jobstore exec jobs.db nightly --timeout 3600 -- rsync -a /data /backup", ""),
        ("0 2 * * * jobstore exec /var/lib/jobs.db nightly --schedule '0 2 * * *' -- nightly.sh", "in a crontab"),
    ],
)


def _completion(shell: str | None) -> int:
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise InvalidParameter(f"SHELL must be one of {', '.join(SHELLS)}; received {chosen!r}")
    return print_completion(chosen)


completion = Command(
    "completion",
    callback=_completion,
    help="Print the completion script of a shell: commands, options, fields, and the names of your jobs.",
    params=[
        click.Argument(
            ["shell"], required=False, metavar="[SHELL]", help="bash, zsh or fish; the shell you use if left out."
        )
    ],
    examples=[
        ('eval "$(jobstore completion bash)"', "in ~/.bashrc"),
        ('eval "$(jobstore completion zsh)"', "in ~/.zshrc"),
        ("jobstore completion fish | source", "in ~/.config/fish/config.fish"),
    ],
)
