"""The command line: ``jobstore`` and ``python -m jobstore``.

Data goes to stdout, messages and progress to stderr. Exit codes: 0 success, 1 not found or a failed check, 2 wrong
usage or input, 3 the store or a disk cannot be used, 130 after Ctrl-C, 141 if the reader of a pipe is gone. With
``--json`` or ``--jsonl``, an error is also written to stdout as the API's envelope.
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

_INTERRUPTED = 130
_were_closed: set[int] = set()


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and exit with its code."""
    open_standard_descriptors()
    try:
        from jobstore.cli.app import run  # `import jobstore.cli` stays free of click

        if sys.argv[1:2] == ["exec"]:
            # sqlite-utils imports these if they are installed; under a limit on memory or threads that may kill us.
            sys.modules["numpy"] = sys.modules["pandas"] = None  # type: ignore[assignment]
            import jobstore.cli.running
            import jobstore.integrations.command  # noqa: F401
    except KeyboardInterrupt:  # nothing was begun yet
        os._exit(_INTERRUPTED)
    except (Exception, SystemExit) as error:  # a broken module may even exit
        _run_unrecorded(sys.argv[1:], error)
        raise
    sys.exit(run(sys.argv[1:]))


def open_standard_descriptors() -> None:
    """Open those of the descriptors 0 to 2 that are closed.

    Otherwise the next opened file, perhaps the store, would get such a number, and our output would go into it.
    The descriptors are not inheritable: a command we execute finds them closed, as we did.
    """
    for wanted, stream, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(wanted)
        except OSError:
            _open_nowhere(wanted)
            _were_closed.add(wanted)
            setattr(sys, stream, os.fdopen(wanted, mode, encoding="utf-8", errors="backslashreplace", closefd=False))


def was_closed(descriptor: int) -> bool:
    """Whether a standard descriptor was closed when we were started, so that what is written there is lost."""
    return descriptor in _were_closed


def _open_nowhere(wanted: int) -> None:
    try:
        opened = os.open(os.devnull, os.O_RDWR)
    except OSError:  # without /dev, open a folder: all that counts is to occupy the number
        opened = os.open("/", os.O_RDONLY)
    if opened != wanted:
        os.dup2(opened, wanted, inheritable=False)
        os.close(opened)


def _run_unrecorded(arguments: Sequence[str], error: BaseException) -> None:
    """Run the command of ``exec`` without a record: a broken installation must not keep it from running."""
    if "exec" not in arguments[:1] or "--" not in arguments:
        return
    command = list(arguments[arguments.index("--") + 1 :])
    with suppress(OSError):
        os.write(2, f"jobstore: this run is not recorded: {type(error).__name__}: {error}\n".encode())
    if command:
        become(command)


def become(command: list[str]) -> NoReturn:
    """Replace this process by the command, if it cannot run as a child."""
    for each in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these; the command must not
        signal.signal(each, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - running the given command is the purpose
    except FileNotFoundError:
        sys.exit(127)
    except OSError:
        os.execv("/bin/sh", ["sh", *command])  # noqa: S606
