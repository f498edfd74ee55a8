"""Completion for bash: what is inserted is one word of the shell, whatever a job is called.

click's own script inserts values as they are, so a job named ``$(touch x)`` would become a command. zsh and fish
quote by themselves.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

from click.shell_completion import ShellComplete, add_completion_class
from click.shell_completion import shell_complete as complete_words

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

COMPLETE_VARIABLE: Final = "_JOBSTORE_COMPLETE"
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
    """Reads the line itself, since bash cuts words at ``:`` and ``=``, and quotes what it offers."""

    name = "bash"
    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the word at the cursor."""
        words, begun, _ = typed(os.environ.get("COMP_LINE", ""))
        return words[1:], begun

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """``plain,VALUE``, the value without what bash will keep of the word."""
        if item.type != "plain":
            return f"{item.type},"
        _, begun, quote = typed(os.environ.get("COMP_LINE", ""))
        breaks = "" if quote else os.environ.get("COMP_BREAKS", "")
        kept = max((begun.rfind(mark) + 1 for mark in ":=" if mark in breaks), default=0)
        return f"plain,{quoted(str(item.value)[kept:], quote)}"


def typed(line: str) -> tuple[list[str], str, str]:
    r"""The finished words of a command line, the last one, unquoted, and its open quote.

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
    r"""The value as bash reads it back, after an opening quote or without one.

    >>> quoted("$(touch x)", ""), quoted("$HOME", '"'), quoted("a b", "'")
    ('\\$\\(touch\\ x\\)', '\\$HOME', 'a b')
    """
    if quote == "'":
        return value.replace("'", "'\\''")
    unsafe = re.compile(r'["$`\\!]') if quote else _UNSAFE
    return unsafe.sub(lambda found: f"\\{found[0]}", value)


def complete(group: click.Command, instruction: str) -> int:
    """Answer what a shell asked for through `COMPLETE_VARIABLE`, on stdout."""
    add_completion_class(BashCompletion)
    return complete_words(group, {}, "jobstore", COMPLETE_VARIABLE, instruction)
