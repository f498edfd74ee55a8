"""Makes the pictures of the docs, from a fixed clock and fixed data: ``python docs/pictures.py``."""

from __future__ import annotations

import io
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

import jobstore
from jobstore.cli import demo, drawing
from jobstore.cli.screen import Screen
from jobstore.language.instants import instant_us
from jobstore.language.parameters import LIST_JOBS

NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
COLUMNS = 108
FOLDER = Path(__file__).parent


def main() -> None:
    """``jobs.svg``: the table that ``jobstore jobs`` prints on the demo's store."""
    screen = Screen(width=COLUMNS, height=None, colour=True, marks=True, zone=UTC, now_us=instant_us(NOW))
    console = Console(record=True, width=COLUMNS, force_terminal=True, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.db"
        jobstore.load(path, demo.document(instant_us(NOW), demo.SEED))
        with jobstore.open(path, clock=lambda: NOW) as store:
            query = LIST_JOBS.query({})
            for line in drawing.drawn(store, query, store.answer(query), screen):
                console.print(line, soft_wrap=True)
    drawn = console.export_svg(title="jobstore jobs jobs.db", theme=MONOKAI)
    # rich fetches a font from elsewhere; each text has its length, so any fixed-width font will do
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL).replace("Fira Code", "ui-monospace")
    (FOLDER / "jobs.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
