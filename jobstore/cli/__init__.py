"""The command line: ``jobstore`` and ``python -m jobstore``.

Data goes to stdout, messages and progress to stderr. Exit codes: 0 good, 1 not found or a check that
failed, 2 usage and refused input, 3 a store (or a disk) that cannot be used, 130 after Ctrl-C, 141
where the reader of a pipe went away. With ``--json`` or ``--jsonl`` an error is the API's envelope on
stdout, beside the message on stderr.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command that this process was started with, and end the process."""
    open_standard_descriptors()
    try:
        from jobstore.cli.app import run  # `import jobstore.cli` stays free of click

        if sys.argv[1:2] == ["exec"]:
            # sqlite-utils imports these where they are; their threads and memory may end us where a limit is set.
            sys.modules["numpy"] = sys.modules["pandas"] = None  # type: ignore[assignment]
            import jobstore.cli.running
            import jobstore.integrations.command  # noqa: F401
    except Exception as error:
        _run_unrecorded(sys.argv[1:], error)
        raise
    sys.exit(run(sys.argv[1:]))


def open_standard_descriptors() -> None:
    """Open what is closed of descriptors 0 to 2: else the next file, perhaps a store, gets its number and our output.

    They close again where a command is executed, which then sees what we were given.
    """
    for wanted, stream, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(wanted)
        except OSError:
            _open_nowhere(wanted)
            setattr(sys, stream, os.fdopen(wanted, mode, encoding="utf-8", errors="backslashreplace", closefd=False))


def _open_nowhere(wanted: int) -> None:
    try:
        opened = os.open(os.devnull, os.O_RDWR)
    except OSError:  # no /dev in here: a folder can be neither read nor written to, but the number is taken
        opened = os.open("/", os.O_RDONLY)
    if opened != wanted:
        os.dup2(opened, wanted, inheritable=False)
        os.close(opened)


def _run_unrecorded(arguments: Sequence[str], error: Exception) -> None:
    """An installation that is broken must not keep a command from running: become the command."""
    if "exec" not in arguments[:1] or "--" not in arguments:
        return
    command = list(arguments[arguments.index("--") + 1 :])
    with suppress(OSError):
        os.write(2, f"jobstore: this run is not recorded: {type(error).__name__}: {error}\n".encode())
    if command:
        become(command)


def become(command: list[str]) -> NoReturn:
    """Be the command from now on: what is left where it cannot be run beside us."""
    for each in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
        signal.signal(each, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - to run what one is given is the task
    except FileNotFoundError:
        sys.exit(127)
    except OSError:
        os.execv("/bin/sh", ["sh", *command])  # noqa: S606
