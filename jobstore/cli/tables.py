"""Tables as lines of text that fit a given width, or of any length without one.

If a table is too wide, it shrinks in three steps: optional columns are cut to their `least` width, then optional
columns are dropped, highest `rank` first, then the others are cut. A cell marked `beneath` is not cut like this: if its
column is too narrow, its text goes under its row.

rich's own tables can neither drop columns by priority nor put lines between rows, so only its `Text` is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2
HEADER_STYLE = "bold"
NARROWEST = 4
MOST_LINES = 4
"""The most lines of a wrapped cell; `jobstore execution` shows the whole text."""


class Cell(NamedTuple):
    """A value and its style. The text must be free of control characters (`phrases.plain`).

    Attributes:
        beneath: show the text under the row if the column is too narrow for it.
    """

    text: str
    style: str = ""
    beneath: bool = False


NOTHING = Cell("")


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title, and how it shrinks on a narrow screen.

    Attributes:
        right: align to the right.
        rank: 0 for a column that is never dropped; of the others, the highest is dropped first.
        least: the width to which it may be cut; 0 to cut it only as a last resort.
        most: the largest width on a screen; 0 for no limit.
    """

    title: str
    right: bool = False
    rank: int = 0
    least: int = 0
    most: int = 0


def lines(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None) -> list[Text]:
    """Return the header and the rows, each line at most `width` cells wide (None: no limit)."""
    natural = [_natural_width(column, [row[at] for row in rows], width) for at, column in enumerate(columns)]
    widths = natural if width is None else fitted(columns, natural, width)
    head = _line(columns, [Cell(column.title, HEADER_STYLE) for column in columns], widths)
    found = [head]
    for row in rows:
        hidden = [at for at, cell in enumerate(row) if cell.beneath and cell_len(cell.text) > widths[at]]
        found.append(_line(columns, [NOTHING if at in hidden else cell for at, cell in enumerate(row)], widths))
        for at in hidden:
            indent = widths[0] + GAP
            found += [Text.assemble(" " * indent, line) for line in wrapped(row[at], indent, width)]
    return found


def _natural_width(column: Column, cells: Sequence[Cell], width: int | None) -> int:
    widest = max((cell_len(cell.text) for cell in cells), default=0)
    if not widest and column.rank and width is not None:
        return 0  # drop an empty optional column
    widest = max(widest, cell_len(column.title))
    return widest if width is None or not column.most else min(widest, max(column.most, column.least))


def fitted(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Return the width of each column on a screen; 0 for a column that is dropped.

    >>> fitted([Column("JOB"), Column("ERROR", rank=1, least=10)], [20, 40], 50)
    [20, 28]
    >>> fitted([Column("JOB"), Column("ERROR", rank=1, least=10)], [20, 40], 30)
    [20, 0]
    """
    widths = list(natural)
    leaving = sorted((at for at, column in enumerate(columns) if column.rank), key=lambda at: columns[at].rank)
    while True:
        over = _total(widths) - width
        if over <= 0:
            return widths
        cut = _cut(columns, widths, over, staying=not leaving)
        if _total(cut) <= width:
            return cut
        if not leaving:
            return _squeezed(cut, width)
        widths[leaving.pop()] = 0


def _total(widths: Sequence[int]) -> int:
    shown = [width for width in widths if width]
    return sum(shown) + GAP * (len(shown) - 1)


def _cut(columns: Sequence[Column], widths: Sequence[int], over: int, *, staying: bool) -> list[int]:
    """Cut columns towards their `least`, highest rank first; with `staying`, also those that are never dropped."""
    cut = list(widths)
    for at in sorted(range(len(cut)), key=lambda at: -columns[at].rank):
        if columns[at].least and cut[at] and (columns[at].rank or staying):
            given = max(0, min(over, cut[at] - columns[at].least))
            cut[at] -= given
            over -= given
    return cut


def _squeezed(widths: list[int], width: int) -> list[int]:
    """As a last resort, repeatedly take one cell from the widest column."""
    while _total(widths) > width and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _line(columns: Sequence[Column], cells: Sequence[Cell], widths: Sequence[int]) -> Text:
    line, blanks = Text(no_wrap=True), 0
    for column, cell, width in zip(columns, cells, widths, strict=True):
        if width:
            text = cut_text(cell, width)
            rest = width - text.cell_len
            # Before the next cell: the last one needs none, and in a pipe a column may be megabytes wide.
            line.append(" " * (blanks + rest if column.right else blanks))
            line.append_text(text)
            blanks = GAP if column.right else GAP + rest
    line.rstrip()
    return line


def cut_text(cell: Cell, width: int) -> Text:
    """Return a cell's text cut to `width` cells; a cut text ends in ``…``."""
    text = Text(cell.text, style=cell.style)
    text.truncate(width, overflow="ellipsis")
    return text


def cut_lines(lines: list[Text], width: int | None) -> list[Text]:
    """Cut the lines to the width of the screen; leave them unchanged without one."""
    if width is not None:
        for line in lines:
            line.truncate(width, overflow="ellipsis")
    return lines


def wrapped(cell: Cell, indent: int, width: int | None) -> list[Text]:
    """Wrap a cell's text into at most `MOST_LINES` lines that fit after an indent."""
    room = max(NARROWEST, (width or 0) - indent)
    text = Text(cell.text, style=cell.style)
    text.truncate(room * MOST_LINES, overflow="ellipsis")
    return list(text.wrap(Console(width=room), room))
