"""``--columns`` and ``--csv``: selected fields of documents as a table or as CSV."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from jobstore.cli.screen import stdout_in_utf8
from jobstore.language.csvtext import BOM, csv_document, csv_line
from jobstore.language.errors import InvalidParameter, shown
from jobstore.language.rules import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.text import Text

    from jobstore.cli.screen import Screen


def fields_in(text: str | None, known: Sequence[str]) -> tuple[str, ...] | None:
    """Parse ``--columns``, None if not given; raise `InvalidParameter` for an unknown or repeated field."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in known:
            near = suggestion(name, tuple(known))
            meant = f"; did you mean {near!r}?" if near else f". Fields: {', '.join(known)}"
            raise InvalidParameter(f"--columns has the unknown field {shown(name)}{meant}")
        if names.count(name) > 1:
            raise InvalidParameter(f"--columns has the field {name} twice; name it once")
    return names


def write_csv(documents: Iterable[Mapping[str, Any]], fields: Sequence[str], *, for_excel: bool) -> None:
    """Write a header and a line for each document to stdout."""
    out = stdout_in_utf8()
    out.write(f"{BOM if for_excel else ''}{csv_line(fields)}")
    for document in documents:
        out.write(csv_document(document, fields, is_for_spreadsheet=for_excel))
    sys.stdout.flush()


def field_lines(documents: Sequence[Mapping[str, Any]], fields: Sequence[str], screen: Screen) -> list[Text]:
    """Return the selected fields as a table."""
    from jobstore.cli.tables import Column, lines

    # On a narrow screen, drop the last columns first.
    columns = [Column(name.upper(), right=name in _NUMBERS, rank=at) for at, name in enumerate(fields)]
    rows = [[_cell(name, document[name], screen) for name in fields] for document in documents]
    return lines(columns, rows, screen.width)


_NUMBERS = frozenset({"duration_ms", "interval_seconds", "timeout_seconds", "max_instances"})


def _cell(name: str, value: Any, screen: Screen) -> Any:
    from jobstore.cli import phrases
    from jobstore.cli.tables import Cell
    from jobstore.cli.views import brief_json

    if value is None:
        return Cell("-", "dim")
    if name.endswith("_at"):
        us = phrases.instant(value) or 0
        return Cell(phrases.clock_time(us, screen.zone) if screen.is_terminal else phrases.stamp(us, screen.zone))
    return Cell(phrases.plain(value) if isinstance(value, str) else brief_json(value))
