"""Output: a terminal of some width, or a pipe; all text, colours and JSON are written here."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from jobstore.language.errors import escaped
from jobstore.language.instants import instant_us
from jobstore.replacing import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import tzinfo

    from rich.text import Text

MARKS = "✓✗▶○…"
STDOUT: Final = frozenset({None, "-", "/dev/stdout"})
"""What `-o` calls it."""
_OPENED: Final = ("/dev/fd/", "/dev/stderr", "/proc/")
"""How names of what is open already begin."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What an answer must know of the place it is shown in.

    Attributes:
        width: cells in a line; None in a pipe or a file, where nothing is cut.
        height: lines; None like `width`.
        colour: whether colours and marks are wanted (never with NO_COLOR or into a pipe).
        marks: whether ✓ and ✗ can be written at all.
        zone: of the times shown; None is this machine's.
        now_us: what "ago" counts from.
    """

    width: int | None
    height: int | None
    colour: bool
    marks: bool
    zone: tzinfo | None
    now_us: int

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it."""
        return self.width is not None


def current_screen(*, utc: bool = False, stream: TextIO | None = None) -> Screen:
    """The screen that stdout is now; a terminal may have changed its size since the last look."""
    from shutil import get_terminal_size  # it brings compressors, and each cron line waits for it

    stream = stream or sys.stdout
    terminal = stream.isatty()
    size = get_terminal_size() if terminal else None
    return Screen(
        width=max(size.columns, 20) if size else None,
        height=size.lines if size else None,
        colour=wants_colour(terminal=terminal),
        marks=terminal and can_write(stream, MARKS),
        zone=UTC if utc else None,
        now_us=instant_us(datetime.now(UTC)),
    )


def wants_colour(*, terminal: bool) -> bool:
    """NO_COLOR (no-color.org) beats FORCE_COLOR, FORCE_COLOR a pipe, and a dumb terminal has none."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return terminal and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def can_write(stream: TextIO, text: str) -> bool:
    """Whether the stream's encoding knows the characters."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def write_lines(lines: Iterable[Text | str], *, colour: bool) -> None:
    """Lines to stdout, in colours or bare."""
    sys.stdout.write(rendered(lines, colour=colour))
    sys.stdout.flush()


def rendered(lines: Iterable[Text | str], *, colour: bool) -> str:
    """The lines as a terminal takes them."""
    if not colour:
        return "".join(f"{line if isinstance(line, str) else line.plain}\n" for line in lines)
    from rich.console import Console  # the largest part of rich, for colours alone

    console = Console(force_terminal=True, color_system="standard", highlight=False, emoji=False, markup=False)
    with console.capture() as capture:
        for line in lines:
            console.print(line, soft_wrap=True)
    return capture.get()


def write_json(document: object) -> None:
    """A document to stdout as people read JSON."""
    stdout_in_utf8().write(f"{json.dumps(document, ensure_ascii=False, indent=2)}\n")
    sys.stdout.flush()


def write_json_line(document: object) -> None:
    """A document to stdout on a line of its own; the caller flushes."""
    stdout_in_utf8().write(f"{json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n")


def stdout_in_utf8() -> TextIO:
    """Stdout for data: UTF-8 and line feeds, whatever the locale.

    Half a surrogate pair, which no file should hold, comes out as an escape that JSON reads back.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
    return sys.stdout


@contextmanager
def output(target: str | None) -> Iterator[TextIO]:
    """Where data goes: stdout, or a file that is there whole or not at all; one that is replaced keeps mode and owner.

    Raises:
        OSError: it cannot be written.
    """
    if target is None or target in STDOUT:
        yield stdout_in_utf8()
        sys.stdout.flush()
        return
    # As it was named: what a shell has opened for us (/dev/fd/63) need not have a path that leads there.
    given = Path(target)
    if target.startswith(_OPENED) or (given.exists() and not given.is_file()):  # a device or a named pipe
        with given.open("a", encoding="utf-8", newline="") as opened:
            yield opened
        return
    path = Path(os.path.realpath(target))
    with replacing(path) as out:
        yield out


def say(message: str) -> None:
    """A message to stderr, safe on a terminal; data alone goes to stdout, and what was said there stands before."""
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.write("".join(f"{escaped(line)}\n" for line in message.split("\n")))
    sys.stderr.flush()
