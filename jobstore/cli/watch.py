"""``--watch``: draws the answer repeatedly, each time over the last one."""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from jobstore.cli.endings import ending_cleanly
from jobstore.cli.screen import current_screen, rendered
from jobstore.language.errors import InvalidParameter, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.text import Text

    from jobstore.cli.screen import Screen

LEAST_SECONDS, MOST_SECONDS = 0.1, 86_400.0
OTHER_SCREEN, OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def watch_seconds(text: str | None) -> float | None:
    """Parse the seconds between drawings, None if not given; raise `InvalidParameter` outside 0.1 to 86400."""
    if text is None:
        return None
    seconds = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text) else 0.0
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise InvalidParameter(f"--watch must be a number of seconds from 0.1 to 86400; received {shown(text)}")
    return seconds


def watch(draw: Callable[[Screen], list[Text]], seconds: float, *, utc: bool) -> None:
    """Draw until Ctrl-C: on a terminal over the last drawing, in a pipe one after another."""
    if not sys.stdout.isatty():
        while True:
            screen = current_screen(utc=utc)
            sys.stdout.write(rendered(draw(screen), colour=screen.colour) + "\n")
            sys.stdout.flush()
            time.sleep(seconds)
    with _other_screen():
        while True:
            screen = current_screen(utc=utc)
            sys.stdout.write(frame(draw(screen), screen, seconds))
            sys.stdout.flush()
            time.sleep(seconds)


def frame(lines: list[Text], screen: Screen, seconds: float) -> str:
    """Return the codes and text that overwrite the last drawing without flicker, cut to the screen's height."""
    from rich.text import Text

    room = (screen.height or len(lines) + 1) - 1
    if len(lines) > room:
        hidden = len(lines) - room + 1
        lines = [*lines[: room - 1], Text(f"… {hidden} more lines; make the window taller or --limit smaller", "dim")]
    note = Text(f"every {seconds:g} s; Ctrl-C to stop", "dim")
    text = rendered([*lines, note], colour=screen.colour).rstrip("\n")
    return f"{HOME}{text.replace(chr(10), END_OF_LINE + chr(10))}{END_OF_LINE}{END_OF_SCREEN}"


@contextmanager
def _other_screen() -> Iterator[None]:
    """Use the terminal's alternate screen, and restore the previous contents however the watch ends."""
    with ending_cleanly():
        sys.stdout.write(OTHER_SCREEN)
        try:
            yield
        finally:
            with suppress(OSError):  # the terminal may be gone
                sys.stdout.write(OWN_SCREEN)
                sys.stdout.flush()
