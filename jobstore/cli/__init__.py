"""The command line: ``jobstore`` and ``python -m jobstore``.

Data goes to stdout, messages and progress to stderr. Exit codes: 0 good, 1 not found or a check that
failed, 2 usage and refused input, 3 a store (or a disk) that cannot be used, 130 after Ctrl-C, 141
where the reader of a pipe went away. With ``--json`` or ``--jsonl`` an error is the API's envelope on
stdout, beside the message on stderr.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command that this process was started with, and ends it."""
    from jobstore.cli.app import run  # noqa: PLC0415 - `import jobstore.cli` stays free of click

    sys.exit(run(sys.argv[1:]))
