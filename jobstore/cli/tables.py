"""Tables as lines of text that fit a width, or, with no width, are written out in full.

What does not fit gives way in three steps: columns that may leave are cut down to their least, then they leave by
rank, then the columns that stay are cut. A cell marked `beneath` is never cut: where its column has no room for it,
it is written in full under its row.

rich's own tables know neither columns that leave in an order nor lines between rows, so only its text is used here.
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
"""Lines that a cell takes beneath its row; `jobstore execution` shows all of it."""


class Cell(NamedTuple):
    """One value and how it is coloured; the text holds no controls (`phrases.plain`).

    Attributes:
        beneath: where its column has no room for all of it, lines under the row say it.
    """

    text: str
    style: str = ""
    beneath: bool = False


NOTHING = Cell("")


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and what may be done with the column on a narrow screen.

    Attributes:
        right: numbers and distances stand at the right.
        rank: 0 stays; of the others the highest leaves first.
        least: cells that are left of it when it is cut; 0 is cut only when nothing else helps.
        most: cells that it takes at most on a screen; 0 is all it needs.
    """

    title: str
    right: bool = False
    rank: int = 0
    least: int = 0
    most: int = 0


def lines(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None) -> list[Text]:
    """The header and the rows, each line at most `width` cells wide (None: as wide as it comes)."""
    natural = [_natural_width(column, [row[at] for row in rows], width) for at, column in enumerate(columns)]
    widths = natural if width is None else fitted(columns, natural, width)
    head = _line(columns, [Cell(column.title, HEADER_STYLE) for column in columns], widths)
    found = [head]
    for row in rows:
        hidden = [at for at, cell in enumerate(row) if cell.beneath and cell_len(cell.text) > widths[at]]
        found.append(_line(columns, [NOTHING if at in hidden else cell for at, cell in enumerate(row)], widths))
        for at in hidden:
            found += _beneath(row[at], widths[0] + GAP, width)
    return found


def _natural_width(column: Column, cells: Sequence[Cell], width: int | None) -> int:
    widest = max((cell_len(cell.text) for cell in cells), default=0)
    if not widest and column.rank and width is not None:
        return 0  # an optional column that is empty
    widest = max(widest, cell_len(column.title))
    return widest if width is None or not column.most else min(widest, max(column.most, column.least))


def fitted(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """The width of each column on a screen; 0 is a column that is left out.

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
    """Take from the columns that may be cut, the first to leave giving first, those that stay only at the end."""
    cut = list(widths)
    for at in sorted(range(len(cut)), key=lambda at: -columns[at].rank):
        if columns[at].least and cut[at] and (columns[at].rank or staying):
            given = max(0, min(over, cut[at] - columns[at].least))
            cut[at] -= given
            over -= given
    return cut


def _squeezed(widths: list[int], width: int) -> list[int]:
    """The last resort on a very narrow screen: the widest column gives, a cell at a time."""
    while _total(widths) > width and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _line(columns: Sequence[Column], cells: Sequence[Cell], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True)
    for column, cell, width in zip(columns, cells, widths, strict=True):
        if width:
            if line:
                line.append(" " * GAP)
            line.append_text(_set(cell, width, right=column.right))
    line.rstrip()
    return line


def _set(cell: Cell, width: int, *, right: bool) -> Text:
    text = cut_text(cell, width)
    blanks = " " * (width - text.cell_len)
    return Text.assemble(blanks, text) if right else Text.assemble(text, blanks)


def cut_text(cell: Cell, width: int) -> Text:
    """At most `width` cells of the text, ending in ``…`` where some of it is missing."""
    text = Text(cell.text, style=cell.style)
    text.truncate(width, overflow="ellipsis")
    return text


def cut_lines(lines: list[Text], width: int | None) -> list[Text]:
    """The lines, none wider than the screen; unchanged in a pipe or a file."""
    if width is not None:
        for line in lines:
            line.truncate(width, overflow="ellipsis")
    return lines


def _beneath(cell: Cell, indent: int, width: int | None) -> list[Text]:
    """Under the second column, where the eye goes on from the row: all of it, or as much as anyone reads in a list."""
    room = max(NARROWEST, (width or 0) - indent)
    text = Text(cell.text, style=cell.style)
    text.truncate(room * MOST_LINES, overflow="ellipsis")
    return [Text.assemble(" " * indent, line) for line in text.wrap(Console(width=room), room)]
