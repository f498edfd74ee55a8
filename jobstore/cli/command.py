"""A group that imports a command when it is used, and commands with examples in their help."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
WATCH = "--watch"
COMPLETE_VARIABLE = "_JOBSTORE_COMPLETE"
"""Set by a shell's completion script: what to complete."""
EXAMPLE_CELLS = 78


class Entry(NamedTuple):
    """A command's name and summary, and where to import it from."""

    name: str
    summary: str
    module: str
    attribute: str


class LazyGroup(click.Group):
    """A group with sections that imports a command only when it is used; listing the commands imports none."""

    def __init__(self, sections: Sequence[tuple[str, Sequence[Entry]]], **more: Any) -> None:
        super().__init__(context_settings=SETTINGS, **more)
        self.sections = sections
        self.entries = {entry.name: entry for _, entries in sections for entry in entries}
        # click suggests similar names only from this dict.
        self.commands = dict.fromkeys(self.entries, click.Command(None))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help if there are no arguments."""
        return super().parse_args(ctx, args or ["--help"])

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the sections."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command; None if the name is unknown."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(import_module(entry.module), entry.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the sections, one line for each command."""
        width = max(map(len, self.entries))
        for title, entries in self.sections:
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in entries])


class Command(click.Command):
    """A command whose help ends with examples: pairs of the text to type and its purpose."""

    def __init__(self, name: str, *, examples: Sequence[tuple[str, str]] = (), **more: Any) -> None:
        super().__init__(name, context_settings=more.pop("context_settings", SETTINGS), **more)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let ``--watch`` take the next word only if it is a number: in ``jobs --watch jobs.db``, it is the file."""
        if any(WATCH in param.opts for param in self.params):
            args = watch_joined(args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the epilog."""
        if self.examples:
            with formatter.section("Examples"):
                for line in example_lines(self.examples):
                    formatter.write(f"  {line}\n")
        super().format_epilog(ctx, formatter)


def example_lines(examples: Sequence[tuple[str, str]]) -> list[str]:
    """Return the examples with their purposes beside them, or above them if one line would be too long.

    >>> example_lines([("jobstore jobs jobs.db", "all jobs"), ("jobstore demo", "")])
    ['jobstore jobs jobs.db  # all jobs', 'jobstore demo']
    """
    width = max(len(typed) for typed, _ in examples)
    beside = [f"{typed.ljust(width)}  # {purpose}" if purpose else typed for typed, purpose in examples]
    if max(map(len, beside)) <= EXAMPLE_CELLS:
        return beside
    return [line for typed, purpose in examples for line in ((f"# {purpose}", typed) if purpose else (typed,))]


def watch_joined(args: Sequence[str]) -> list[str]:
    """Return the arguments with ``--watch`` rewritten as ``--watch=SECONDS``.

    >>> watch_joined(["--watch", "jobs.db"]), watch_joined(["jobs.db", "--watch", "5"])
    (['--watch=2', 'jobs.db'], ['jobs.db', '--watch=5'])
    """
    joined: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*joined, word, *rest]
        if word == WATCH:
            number = rest.pop(0) if rest and re.fullmatch(r"[0-9.]+", rest[0]) and rest[0].strip(".") else "2"
            word = f"{WATCH}={number}"
        joined.append(word)
    return joined
