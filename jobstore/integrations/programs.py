"""Explains why a program could not be started, and runs scripts without ``#!`` as execvp does."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""The exit codes of a shell."""

_SHELL = "/bin/sh"
_WORDS = """
. : alias bg break builtin case cd command continue declare do done else eval exec exit export fg fi for function
getopts hash if jobs let local popd pushd read readonly return select set shift shopt source then times trap type
typeset ulimit umask unalias unset until wait while { } ! [[ ((
"""
_SHELL_WORDS = frozenset(_WORDS.split())
_SHELL_SIGNS = frozenset(" \t\n=;&|<>()$`*?~'\"\\")


def without_interpreter(command: Sequence[str]) -> list[str]:
    """Return the command that runs a file in the shell, as execvp does if the system cannot execute it."""
    return [_SHELL, _found(command[0]) or command[0], *command[1:]]


def why_not_started(command: Sequence[str], error: BaseException) -> tuple[int, str]:
    """Return the exit code that a shell would return, and the reason in words.

    >>> why_not_started(["cd", "/srv"], FileNotFoundError(2, "No such file or directory"))
    (127, "cd: command not found; it is a word of the shell: write -- sh -c 'cd ...'")
    """
    program = command[0]
    if not program:
        return NOT_FOUND, "the command is empty"
    if not isinstance(error, FileNotFoundError):
        return NOT_EXECUTABLE, f"{program}: {getattr(error, 'strerror', None) or error}{_is_folder(program, error)}"
    found = _found(program)
    if found and os.path.exists(found):  # noqa: PTH110 - a word that may not be a path
        return NOT_FOUND, f"{program}: {_missing_interpreter(found)}"
    return NOT_FOUND, f"{program}: command not found{_hint(command)}"


def _found(program: str) -> str | None:
    from shutil import which  # slow to import, and needed only after a failure

    return program if "/" in program else which(program)


def _is_folder(program: str, error: BaseException) -> str:
    is_folder = getattr(error, "errno", None) == errno.EACCES and os.path.isdir(program)  # noqa: PTH112 - see above
    return " (it is a folder)" if is_folder else ""


def _missing_interpreter(path: str) -> str:
    """Explain a file that exists but is "not found": the interpreter or loader that should run it is missing."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - see above
            line = file.readline(256)
    except OSError:
        line = b""
    if not line.startswith(b"#!"):
        return "the program exists, but the loader or interpreter it names is missing on this machine"
    words = line[2:].rstrip(b"\n").split(None, 1)
    interpreter = words[0].decode("utf-8", "backslashreplace") if words else ""
    if line.rstrip(b"\n").endswith(b"\r"):
        interpreter = interpreter.rstrip("\r")
        return f"its first line, #!{interpreter}, ends in CR LF; save the file with Unix line ends (LF)"
    return f"its interpreter {interpreter} is missing"


def _hint(command: Sequence[str]) -> str:
    program = command[0]
    if program in _SHELL_WORDS:
        return f"; it is a word of the shell: write -- sh -c '{program} ...'"
    if _SHELL_SIGNS & set(program):
        return "; no shell reads the command: write -- sh -c '...'"
    return ""
