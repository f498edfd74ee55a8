"""One line of CSV (RFC 4180, but ended by a line feed alone, as tools on this side of the world expect)."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

BOM: Final = "\ufeff"
"""At the head of a file it tells Excel that what follows is UTF-8."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula, and runs it."""


def csv_line(cells: Iterable[object], *, is_for_spreadsheet: bool = False) -> str:
    r"""The cells with commas between them, and a line feed.

    None is an empty cell, a flag ``true`` or ``false``, an object or a list is compact JSON.

    Args:
        cells: the values.
        is_for_spreadsheet: whether text that a spreadsheet would run as a formula gets an apostrophe before it.

    >>> csv_line(["a", None, 5, {"n": [1]}, "two\rlines"])
    'a,,5,"{""n"":[1]}","two\rlines"\n'
    >>> csv_line(["=1+1", -1], is_for_spreadsheet=True)
    "'=1+1,-1\n"
    """
    line = io.StringIO(newline="")
    # With this ending, each Python quotes a bare carriage return; with "\n" some versions leave it as it is.
    csv.writer(line, lineterminator="\r\n").writerow([_text(cell, is_for_spreadsheet) for cell in cells])
    return f"{line.getvalue()[:-2]}\n"


def _text(cell: object, is_for_spreadsheet: bool) -> object:
    if isinstance(cell, str):
        return f"'{cell}" if is_for_spreadsheet and cell.startswith(_FORMULA) else cell
    if isinstance(cell, bool | dict | list):
        return json.dumps(cell, ensure_ascii=False, separators=(",", ":"))
    return cell
