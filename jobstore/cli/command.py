"""The group that loads a command when it is named, and commands that show examples in their help."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
WATCH = "--watch"
EXAMPLE_CELLS = 78


class Entry(NamedTuple):
    """A command that is not loaded yet."""

    name: str
    summary: str
    module: str
    attribute: str


class LazyGroup(click.Group):
    """Commands in sections, each imported when it is asked for: the list alone needs none of them."""

    def __init__(self, sections: Sequence[tuple[str, Sequence[Entry]]], **more: Any) -> None:
        super().__init__(context_settings=SETTINGS, **more)
        self.sections = sections
        self.entries = {entry.name: entry for _, entries in sections for entry in entries}
        # click takes from here alone what may have been meant by a name that is none.
        self.commands = dict.fromkeys(self.entries, click.Command(None))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without arguments, show the help."""
        return super().parse_args(ctx, args or ["--help"])

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the sections."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command, imported now."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(import_module(entry.module), entry.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The sections, one line a command."""
        width = max(map(len, self.entries))
        for title, entries in self.sections:
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in entries])


class Command(click.Command):
    """A command whose help ends in examples, one a line, as they are typed.

    Args:
        examples: pairs of what to type and what it is for.
    """

    def __init__(self, name: str, *, examples: Sequence[tuple[str, str]] = (), **more: Any) -> None:
        super().__init__(name, context_settings=more.pop("context_settings", SETTINGS), **more)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """``--watch`` takes the next word only where that is a number: ``jobs --watch jobs.db`` means the file."""
        if any(WATCH in param.opts for param in self.params):
            args = watch_joined(args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, under each other."""
        if self.examples:
            with formatter.section("Examples"):
                for line in example_lines(self.examples):
                    formatter.write(f"  {line}\n")
        super().format_epilog(ctx, formatter)


def example_lines(examples: Sequence[tuple[str, str]]) -> list[str]:
    """What to type, what it is for beside it, or above it where that would not fit.

    >>> example_lines([("jobstore jobs jobs.db", "all jobs"), ("jobstore demo", "")])
    ['jobstore jobs jobs.db  # all jobs', 'jobstore demo']
    """
    width = max(len(typed) for typed, _ in examples)
    beside = [f"{typed.ljust(width)}  # {purpose}" if purpose else typed for typed, purpose in examples]
    if max(map(len, beside)) <= EXAMPLE_CELLS:
        return beside
    return [line for typed, purpose in examples for line in ((f"# {purpose}", typed) if purpose else (typed,))]


def watch_joined(args: Sequence[str]) -> list[str]:
    """The words with ``--watch`` made into ``--watch=SECONDS``.

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
