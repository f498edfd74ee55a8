"""``jobstore exec``: a command run and recorded, for crontab and systemd.

The command runs, sees its own descriptors, signals and output, and ends with its own code, whatever happens to the
store, to the disk or to our messages.
"""

from __future__ import annotations

import os
from math import ceil
from typing import TYPE_CHECKING, Any, Final, TypedDict

from jobstore.integrations.output import TAIL_BYTES, say
from jobstore.integrations.processgroup import GRACE_SECONDS, NOT_EXECUTABLE, Group, signals_passed_on
from jobstore.integrations.runrecord import LARGEST_OUTPUT_BYTES, RunRecord
from jobstore.integrations.secrets import masked
from jobstore.language.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

    from jobstore.language.address import Where

HOOK_SECONDS: Final = 60.0

_LONGEST_COMMAND = 4000
_LONGEST_ERROR = 32 * 1024
"""In a variable: Linux takes 128 KiB in one."""


class Options(TypedDict, total=False):
    """How a command is run and recorded; what is left out has the default named here.

    Attributes:
        schedule: the cron expression, so that the next run is known. Not given: the job keeps what it has.
        interval_seconds: or the interval.
        timeout_seconds: after this time the whole process group gets SIGTERM, then SIGKILL. Not given: never.
        category: the job's category; ``scheduled`` for a new job unless given.
        job_type: the job's type; ``command`` for a new job unless given.
        timezone: the IANA zone of a store that is created; this machine's unless given.
        last_resort: called, after a message, where no process can be created for the command.
        keep_output: keep this many bytes of the end of the output in ``result["output"]``, after a failure too. Not
            given: 8 KiB, in ``result`` after a success and in ``error`` after a failure. 0: keep nothing; the
            command then writes to `stdout` and `stderr` itself, with no pipe between.
        on_failure: a shell command to run after a run that failed or timed out, with ``JOBSTORE_JOB``,
            ``JOBSTORE_EXECUTION_ID``, ``JOBSTORE_STATUS``, ``JOBSTORE_ERROR`` and ``JOBSTORE_DB``; at most a minute.
        grace_seconds: between SIGTERM and SIGKILL.
        stdout: the file descriptor that gets the command's output; 1 unless given.
        stderr: the one that gets its messages; 2 unless given.
    """

    schedule: str | None
    interval_seconds: int | None
    timeout_seconds: float | None
    category: str | None
    job_type: str | None
    timezone: str | None
    last_resort: Callable[[], object] | None
    keep_output: int | None
    on_failure: str | None
    grace_seconds: float
    stdout: int
    stderr: int


def run(path: Where, job: str, command: Sequence[str], **options: Unpack[Options]) -> int:
    """Run a command, record the run as an execution of `job` and return the exit code for the shell.

    The store and the job are created if they do not exist. Output is passed on as it comes. Signals that would end
    this process are sent to the command and everything it started.

    Args:
        path: the store, a file or an address.
        job: the name of the job; what no name may hold is written as in a URL (``reports/daily`` is
            ``reports%2Fdaily``).
        command: the program and its arguments; no shell reads them.
        **options: the keywords of `Options`.

    Returns:
        The command's own exit code; 128 and the signal's number if a signal killed it, 124 after a timeout, 127 if
        there is no such command, 126 if it cannot be executed.

    Raises:
        InvalidParameter: the command is empty.
    """
    if not command:
        raise InvalidParameter("command must name a program; received none")
    keep_output, last_resort = options.get("keep_output"), options.get("last_resort")
    grace_seconds, on_failure = options.get("grace_seconds", GRACE_SECONDS), options.get("on_failure")
    stdout, stderr = options.get("stdout", 1), options.get("stderr", 2)
    kept = TAIL_BYTES if keep_output is None else min(keep_output, LARGEST_OUTPUT_BYTES)
    job_fields = {**_job_fields(options), "parameters": {"command": _shown_command(command)}}
    zone = options.get("timezone")
    record = RunRecord(path, job, job_fields, timezone=zone, keeps_always=bool(keep_output))
    group = Group(command, stdout=stdout, stderr=stderr, keep_bytes=kept)
    with signals_passed_on(group):
        record.begin()
        ended = group.start() or group.wait(timeout_seconds=options.get("timeout_seconds"), grace_seconds=grace_seconds)
        if not (ended.is_refused and last_resort):
            record.end(ended)
    if ended.is_refused and last_resort:
        say(f"this run of {job} is recorded without its end: {ended.reason}")
        last_resort()
    group.drain(patience_seconds=grace_seconds if ended.timed_out else None)
    if ended.exit_code >= NOT_EXECUTABLE and ended.seconds is None and ended.reason:
        say(ended.reason)
    if ended.exit_code and on_failure:
        _run_hook(on_failure, record.facts(), stdout, stderr)
    return ended.exit_code


def _job_fields(options: Options) -> dict[str, Any]:
    """What the options say of the job."""
    timeout_seconds = options.get("timeout_seconds")
    fields = {
        "schedule": options.get("schedule"),
        "interval_seconds": options.get("interval_seconds"),
        "timeout_seconds": None if timeout_seconds is None else max(1, ceil(timeout_seconds)),
        "job_category": options.get("category"),
        "job_type": options.get("job_type"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _run_hook(hook: str, facts: dict[str, str], stdout: int, stderr: int) -> None:
    """Run the hook; if it fails, print a message and nothing more."""
    import subprocess

    known = {f"JOBSTORE_{key}": value[:_LONGEST_ERROR] for key, value in facts.items()}
    try:
        done = subprocess.run(  # noqa: S603 - to run what one is given is the task
            ["/bin/sh", "-c", hook], env={**os.environ, **known}, stdin=subprocess.DEVNULL, stdout=stdout,
            stderr=stderr, timeout=HOOK_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        say(f"the --on-failure command did not end within {HOOK_SECONDS:g} s and was killed")
    except (OSError, ValueError) as error:
        say(f"the --on-failure command could not be started: {error}")
    else:
        if done.returncode:
            say(f"the --on-failure command ended with exit code {done.returncode}")


def _shown_command(command: Sequence[str]) -> list[str]:
    """The command as JSON can hold it, what looks like a secret masked; a very long one is cut."""
    shown, room = [], _LONGEST_COMMAND
    for word in command:
        text = os.fsencode(word).decode("utf-8", "backslashreplace")
        shown.append(text if len(text) <= room else f"{text[:room]}…")
        room -= len(text)
        if room <= 0:
            break
    return [str(word) for word in masked(shown)]
