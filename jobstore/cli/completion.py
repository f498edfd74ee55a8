"""Completion for bash that quotes what it inserts.

click's own script inserts values unquoted, so completing a job named ``$(touch x)`` would create a command
substitution. zsh and fish quote by themselves.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

from click.shell_completion import ShellComplete, add_completion_class
from click.shell_completion import shell_complete as complete_words

from jobstore.cli.command import COMPLETE_VARIABLE
from jobstore.cli.options import STORE_VARIABLE

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_UNSAFE: Final = re.compile(r"[^\w@%+,./=:-]")
_SCRIPT: Final = """\
%(complete_func)s() {
    local IFS=$'\\n' type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class BashCompletion(ShellComplete):
    """Parses the command line itself, since bash splits words at ``:`` and ``=``, and quotes the completions."""

    name = "bash"
    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the word at the cursor; a variable before the command is set."""
        words, begun, _ = typed(os.environ.get("COMP_LINE", ""))
        while words and _ASSIGNMENT.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            if name == STORE_VARIABLE:
                os.environ[name] = value
        return words[1:], begun

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return ``plain,VALUE``; the value omits the part of the word that bash keeps."""
        if item.type != "plain":
            return f"{item.type},"
        _, begun, quote = typed(os.environ.get("COMP_LINE", ""))
        breaks = "" if quote else os.environ.get("COMP_BREAKS", "")
        kept = max((begun.rfind(mark) + 1 for mark in ":=" if mark in breaks), default=0)
        return f"plain,{quoted(str(item.value)[kept:], quote)}"


def typed(line: str) -> tuple[list[str], str, str]:
    r"""Split a command line: the complete words, the last word (unquoted), and the quote that is still open in it.

    >>> typed("jobstore job jobs.db my\\ jo"), typed("jobstore jobs "), typed("jobstore job 'a b")
    ((['jobstore', 'job', 'jobs.db'], 'my jo', ''), (['jobstore', 'jobs'], '', ''), (['jobstore', 'job'], 'a b', "'"))
    """
    for quote in ("", "'", '"'):
        try:
            words = shlex.split(f"{line}{quote or '_'}")
        except ValueError:
            continue
        last = words.pop()
        return words, last if quote else last.removesuffix("_"), quote
    return [], "", ""


def quoted(value: str, quote: str) -> str:
    r"""Quote a value for bash; `quote` is the quote that is already open, or empty.

    >>> quoted("$(touch x)", ""), quoted("$HOME", '"'), quoted("a b", "'")
    ('\\$\\(touch\\ x\\)', '\\$HOME', 'a b')
    """
    if quote == "'":
        return value.replace("'", "'\\''")
    unsafe = re.compile(r'["$`\\!]') if quote else _UNSAFE
    return unsafe.sub(lambda found: f"\\{found[0]}", value)


def complete(group: click.Command, instruction: str) -> int:
    """Carry out a shell's instruction from `COMPLETE_VARIABLE`, print the answer and return the exit code."""
    add_completion_class(BashCompletion)
    return complete_words(group, {}, "jobstore", COMPLETE_VARIABLE, instruction)
