"""``jobstore exec``: runs a command and records it, for crontab and systemd.

The command runs with its own descriptors, signals and output, and its exit code is returned, whatever happens to the
store, to the disk or to our messages.
"""

from __future__ import annotations

import os
from math import ceil
from typing import TYPE_CHECKING, Any, TypedDict

from jobstore.integrations.output import TAIL_BYTES, say
from jobstore.integrations.processgroup import GRACE_SECONDS, NOT_EXECUTABLE, Group, kill_all, signals_passed_on
from jobstore.integrations.runrecord import LARGEST_OUTPUT_BYTES, RunRecord
from jobstore.integrations.secrets import masked
from jobstore.language.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

    from jobstore.language.address import Where

HOOK_SECONDS = 60.0

_LONGEST_COMMAND = 4000
_LONGEST_ERROR = 32 * 1024
"""The longest error passed to the hook in an environment variable; Linux allows 128 KiB."""


class Options(TypedDict, total=False):
    """How to run and record a command; each option may be left out.

    Attributes:
        schedule: the job's cron expression, which makes the next run known. Default: an existing job keeps its own.
        interval_seconds: the job's interval, instead of `schedule`.
        timeout_seconds: after this time, the command and all it started get SIGTERM, then SIGKILL. Default: never.
        category: the job's category. Default for a new job: ``scheduled``.
        job_type: the job's type. Default for a new job: ``command``.
        timezone: the IANA zone of a store that is created. Default: this machine's.
        last_resort: called, after a message, if no process can be created for the command.
        keep_output: how many bytes of the end of the output to keep in ``result["output"]``, after a failure too.
            Default: 8 KiB, in ``result`` after a success and in ``error`` after a failure. 0: keep nothing; the
            command then writes to `stdout` and `stderr` directly, without a pipe.
        on_failure: a shell command to run after a failure or timeout, for at most a minute, with ``JOBSTORE_JOB``,
            ``JOBSTORE_EXECUTION_ID``, ``JOBSTORE_STATUS``, ``JOBSTORE_ERROR`` and ``JOBSTORE_DB``.
        grace_seconds: the time between SIGTERM and SIGKILL. Default: 10.
        stdout: the file descriptor for the command's stdout. Default: 1.
        stderr: the file descriptor for the command's stderr. Default: 2.
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
    this process go to the command and everything it started instead.

    Args:
        path: the store, a file or an address.
        job: the name of the job; characters that a name may not contain are percent-encoded (``reports/daily`` becomes
            ``reports%2Fdaily``).
        command: the program and its arguments; no shell interprets them.
        **options: the keywords of `Options`.

    Returns:
        The command's own exit code; 128 plus the signal's number if a signal killed it, 124 after a timeout, 127 if
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
    """Run the --on-failure command; if that fails, only print a message."""
    import subprocess

    known = {f"JOBSTORE_{key}": value[:_LONGEST_ERROR] for key, value in facts.items()}
    try:
        process = subprocess.Popen(  # noqa: S603 - running the given command is the purpose
            ["/bin/sh", "-c", hook], env={**os.environ, **known}, stdin=subprocess.DEVNULL, stdout=stdout,
            stderr=stderr, start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        say(f"the --on-failure command could not be started: {error}")
        return
    try:
        code = process.wait(HOOK_SECONDS)
    except BaseException as error:  # also Ctrl-C, which does not reach a session of its own
        kill_all(process)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        say(f"the --on-failure command did not end within {HOOK_SECONDS:g} s and was killed")
    else:
        if code:
            say(f"the --on-failure command ended with exit code {code}")


def _shown_command(command: Sequence[str]) -> list[str]:
    """Return the command for the record: valid in JSON, likely secrets masked, cut if very long."""
    shown, room = [], _LONGEST_COMMAND
    for word in command:
        text = os.fsencode(word).decode("utf-8", "backslashreplace")
        shown.append(text if len(text) <= room else f"{text[:room]}…")
        room -= len(text)
        if room <= 0:
            break
    return [str(word) for word in masked(shown)]
