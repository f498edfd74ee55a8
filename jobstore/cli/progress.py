"""The progress bar of long commands, shown on stderr if it is a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobstore.language.characters import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress


class Tally:
    """Counts finished records; a `progress` callback for the library."""

    def __init__(self) -> None:
        self.done = 0
        self._begun = time.monotonic()

    def __call__(self, further: int) -> None:
        """Add a number of finished records."""
        self.done += further

    @property
    def seconds(self) -> float:
        """The seconds since the work began."""
        return time.monotonic() - self._begun


class _Shown(Tally):
    def __init__(self, bar: Progress, total: int | None, label: str) -> None:
        super().__init__()
        self._bar = bar
        self._task = bar.add_task(label, total=total)

    def __call__(self, further: int) -> None:
        super().__call__(further)
        self._bar.advance(self._task, further)


@contextmanager
def progress(label: str, total: int | None = None, *, quiet: bool = False) -> Iterator[Tally]:
    """Return a tally that shows a progress bar on stderr if that is a terminal.

    Args:
        label: the text beside the bar.
        total: the expected number of records; None if unknown.
        quiet: show no bar, since the data goes to the same terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield Tally()
        return
    with _bar(total) as bar:
        yield _Shown(bar, total, escaped(label))


def _bar(total: int | None) -> Progress:
    from rich.console import Console  # heavy, and only a person at a terminal needs it
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    known: tuple[ProgressColumn, ...] = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    unknown: tuple[ProgressColumn, ...] = (TextColumn("{task.completed:,}"), TimeElapsedColumn())
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        *(known if total is not None else unknown),
        console=Console(stderr=True),
        transient=True,
    )
