"""``--watch``: draws the answer repeatedly, each time over the last one."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from jobstore.cli.endings import ending_cleanly
from jobstore.cli.screen import current_screen, is_dumb, rendered
from jobstore.handling import handling
from jobstore.language.characters import escaped
from jobstore.language.errors import InvalidParameter, StoreError, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rich.text import Text

    from jobstore.cli.screen import Screen

_LOOK_UP_SECONDS = 0.2
"""How soon the answer is drawn again after a stop."""
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
    """Draw until Ctrl-C: on a terminal over the last drawing, in a pipe or on a dumb terminal one after another.

    If the store cannot be read later on, as while its server restarts, the reason is drawn until it can.
    """
    from rich.text import Text

    is_first = True

    def drawn(screen: Screen) -> list[Text]:
        nonlocal is_first
        try:
            lines = draw(screen)
        except StoreError as error:
            if is_first:
                raise
            return [Text(escaped(error.message), "red")]
        is_first = False
        return lines

    if not sys.stdout.isatty() or is_dumb():
        while True:
            screen = current_screen(utc=utc)
            sys.stdout.write(rendered(drawn(screen), colour=screen.colour) + "\n")
            sys.stdout.flush()
            time.sleep(seconds)
    with _other_screen() as resumed:
        while True:
            resumed.clear()
            screen = current_screen(utc=utc)
            sys.stdout.write(frame(drawn(screen), screen, seconds))
            sys.stdout.flush()
            until = time.monotonic() + seconds
            while not resumed and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, _LOOK_UP_SECONDS))


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
def _other_screen() -> Iterator[list[int]]:
    """Use the terminal's alternate screen, and restore the previous contents however the watch ends or is stopped.

    Yields:
        a list that gets an item whenever the watch goes on after Ctrl-Z.
    """
    resumed: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        # Not by sys.stdout, which may be writing just now.
        _show(OWN_SCREEN)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # returns when the shell lets us go on
        signal.signal(number, stop)
        _show(OTHER_SCREEN)
        resumed.append(number)

    stops = [signal.SIGTSTP] if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL else []
    with ending_cleanly(), handling(stop, *stops):
        sys.stdout.write(OTHER_SCREEN)
        try:
            yield resumed
        finally:
            with suppress(OSError):  # the terminal may be gone
                sys.stdout.write(OWN_SCREEN)
                sys.stdout.flush()


def _show(codes: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        os.write(sys.stdout.fileno(), codes.encode())
