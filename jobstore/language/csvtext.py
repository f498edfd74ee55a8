"""One line of CSV: RFC 4180, but ended by a line feed alone, as Unix tools expect."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

BOM: Final = "\ufeff"
"""At the start of a file, it tells Excel that the file is UTF-8."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs text that starts with one of these as a formula."""


def csv_line(cells: Iterable[object], *, is_for_spreadsheet: bool = False) -> str:
    r"""The cells as one line of CSV, ended by a line feed.

    None becomes an empty cell, a bool ``true`` or ``false``, a dict or list compact JSON.

    Args:
        cells: the values, in order.
        is_for_spreadsheet: whether to put an apostrophe before text that a spreadsheet would run as a formula.

    >>> csv_line(["a", None, 5, {"n": [1]}, "two\rlines"])
    'a,,5,"{""n"":[1]}","two\rlines"\n'
    >>> csv_line(["=1+1", -1], is_for_spreadsheet=True)
    "'=1+1,-1\n"
    """
    line = io.StringIO(newline="")
    # With "\r\n", every Python version quotes a bare carriage return; with "\n", some do not.
    csv.writer(line, lineterminator="\r\n").writerow([_text(cell, is_for_spreadsheet) for cell in cells])
    return f"{line.getvalue()[:-2]}\n"


def _text(cell: object, is_for_spreadsheet: bool) -> object:
    if isinstance(cell, str):
        return f"'{cell}" if is_for_spreadsheet and cell.startswith(_FORMULA) else cell
    if isinstance(cell, bool | dict | list):
        return json.dumps(cell, ensure_ascii=False, separators=(",", ":"))
    return cell
