"""Output to a terminal, a pipe or a file: all text, colours and JSON of the command line are written here."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, cast

from jobstore.cli.endings import ending_cleanly
from jobstore.language.characters import escaped
from jobstore.language.instants import instant_us
from jobstore.replacing import is_planted, replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import tzinfo

    from rich.text import Text

    from jobstore.language.address import Location

MARKS = "✓✗▶○…"
STDOUT: Final = frozenset({None, "-", "/dev/stdout"})
"""The values of `-o` that mean stdout."""
_OPENED: Final = ("/dev/fd/", "/dev/stderr", "/proc/")
"""Prefixes of names that refer to open descriptors."""


@dataclass(frozen=True, slots=True)
class Screen:
    """The properties of the place where an answer is shown.

    Attributes:
        width: the cells in a line; None in a pipe or a file, where nothing is cut.
        height: the number of lines; None like `width`.
        colour: whether to use colours; see `wants_colour`.
        marks: whether the terminal can show ✓ and ✗.
        zone: the time zone of displayed times; None is this machine's.
        now_us: the current time, in microseconds since the epoch.
    """

    width: int | None
    height: int | None
    colour: bool
    marks: bool
    zone: tzinfo | None
    now_us: int

    @property
    def is_terminal(self) -> bool:
        """Whether the output goes to a terminal."""
        return self.width is not None


def current_screen(*, utc: bool = False, stream: TextIO | None = None) -> Screen:
    """Return the current screen; a terminal's size may have changed since the last call."""
    from shutil import get_terminal_size  # slow to import, which would delay each cron job

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
    """Decide on colours: NO_COLOR (no-color.org) first, then FORCE_COLOR, then whether the terminal can show them."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return terminal and not is_dumb()


def is_dumb() -> bool:
    """Whether the terminal, if there is one, shows control codes as text."""
    return (os.environ.get("TERM") or "dumb") in {"dumb", "unknown"}


def can_write(stream: TextIO, text: str) -> bool:
    """Whether the stream's encoding has all of the characters."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def write_lines(lines: Iterable[Text | str], *, colour: bool) -> None:
    """Write lines to stdout, with or without colours."""
    sys.stdout.write(rendered(lines, colour=colour))
    sys.stdout.flush()


def rendered(lines: Iterable[Text | str], *, colour: bool) -> str:
    """Return the lines as one text, with the terminal's colour codes if wanted."""
    if not colour:
        return "".join(f"{line if isinstance(line, str) else line.plain}\n" for line in lines)
    from rich.console import Console  # the largest part of rich, needed only for colours

    console = Console(force_terminal=True, color_system="standard", highlight=False, emoji=False, markup=False)
    with console.capture() as capture:
        for line in lines:
            console.print(line, soft_wrap=True)
    return capture.get()


def write_json(document: object) -> None:
    """Write a document to stdout as indented JSON."""
    stdout_in_utf8().write(f"{json.dumps(document, ensure_ascii=False, indent=2)}\n")
    sys.stdout.flush()


def write_json_line(document: object) -> None:
    """Write a document to stdout as one line of JSON; the caller flushes."""
    stdout_in_utf8().write(f"{json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n")


def stdout_in_utf8() -> TextIO:
    """Return stdout for data: in UTF-8 with line feeds, whatever the locale.

    A lone surrogate, which no store should hold, is written as an escape that JSON can read. So is, on a terminal, each
    control and invisible character.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
    return cast("TextIO", _Visible()) if sys.stdout.isatty() else sys.stdout


class _Visible(io.TextIOBase):
    """Stdout, where a text cannot control the terminal; JSON keeps its meaning."""

    def write(self, text: str) -> int:
        return sys.stdout.write(escaped(text, kept="\n", escape=lambda char: json.dumps(char)[1:-1]))


@contextmanager
def output(target: str | None, source: Location | None = None) -> Iterator[TextIO]:
    """Open the destination for data: stdout, or a file, which appears only when it is complete.

    A file that is replaced keeps its mode and owner. A new one is for this user only if not everybody may read
    `source`, the store that the data comes from.

    Raises:
        OSError: the file cannot be written.
    """
    if target is None or target in STDOUT:
        yield stdout_in_utf8()
        sys.stdout.flush()
        return
    # Open it by the given name: a descriptor that the shell opened (/dev/fd/63) may have no real path.
    given = Path(target)
    if target.startswith(_OPENED) or (given.exists() and not given.is_file()):  # a device or a named pipe
        with given.open("a", encoding="utf-8", newline="") as opened:
            yield opened
        return
    path = Path(os.path.realpath(target))
    for each in (given, path):
        _refuse_planted(each)
    with ending_cleanly(), replacing(path, mode=_mode(source)) as out:
        yield out


def _refuse_planted(path: Path) -> None:
    """Refuse a file or link that another user made in a world-writable folder, such as ``/tmp``.

    The kernel refuses to open one there (``fs.protected_symlinks``, ``fs.protected_regular``), but not to replace it.
    """
    with suppress(FileNotFoundError):
        if is_planted(path, path.lstat()):
            raise PermissionError(
                errno.EACCES, "Another user made this in a world-writable folder; give another path", str(path)
            )


def _mode(source: Location | None) -> int:
    if isinstance(source, Path):
        return 0o600 if source.exists() and not source.stat().st_mode & stat.S_IROTH else 0o666
    return 0o666 if source is None else 0o600  # a server asks its readers for a password


def say(message: str) -> None:
    """Write a message to stderr, safe for a terminal, after the data already written to stdout.

    A message that cannot be written is dropped: what has been done stays a success.
    """
    with suppress(OSError):
        sys.stdout.flush()
    try:
        sys.stderr.write("".join(f"{escaped(line)}\n" for line in message.split("\n")))
        sys.stderr.flush()
    except OSError:
        with suppress(OSError):
            discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discard what a stream could not write, which Python would try again at exit; later text is written as before."""
    kept, nowhere = os.dup(stream.fileno()), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
        stream.flush()
    finally:
        os.dup2(kept, stream.fileno())
        os.close(kept)
        os.close(nowhere)
