"""One line of CSV: RFC 4180, but ended by a line feed alone, as Unix tools expect."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BOM: Final = "\ufeff"
"""At the start of a file, it tells Excel that the file is UTF-8."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs text that starts with one of these as a formula."""


JSON_FIELDS: Final = frozenset({"result", "parameters", "parameters_snapshot"})
"""The fields that hold any value: their cells are JSON."""


def csv_document(document: Mapping[str, Any], fields: Iterable[str], *, is_for_spreadsheet: bool) -> str:
    """The fields of a document as one line of CSV; see `csv_line`."""
    cells = [
        _json(document[name]) if name in JSON_FIELDS and document[name] is not None else document[name]
        for name in fields
    ]
    return csv_line(cells, is_for_spreadsheet=is_for_spreadsheet)


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
        return _json(cell)
    return cell


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
