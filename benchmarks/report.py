"""The table of a run in Markdown, and the figures as JSON."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from benchmarks.results import MOST_GROWTH, Figure, Line, brief

HEADERS = ("", "goal", "measured", "p99", "against others", "growth", "")


def markdown(lines: list[Line], size: str) -> str:
    """The lines of one size as a Markdown table, which a terminal shows well enough."""
    rows = [HEADERS, tuple("---" for _ in HEADERS), *(row(line) for line in lines)]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return f"**{size}**\n\n{body}\n" if size else f"{body}\n"


def row(line: Line) -> tuple[str, ...]:
    """The cells of a line."""
    own = [figure for figure in line.figures if not _is_comparison(figure)] or line.figures[:1]
    others = [figure for figure in line.figures if figure not in own]
    goals = [figure.goal for figure in line.figures if figure.goal]
    p99 = line.detail.get("p99")
    return (
        line.name,
        "; ".join(goals),
        ", ".join(map(str, own)),
        "" if p99 is None else brief(p99),
        ", ".join(map(str, others)),
        "" if line.growth is None else brief(line.growth),
        verdict(line),
    )


def verdict(line: Line) -> str:
    """``ok``, how far a goal is missed, or nothing where none is set."""
    if not line.has_goal:
        return ""
    missed = [figure.missed for figure in line.figures if not figure.met]
    if line.growth is not None and line.growth > MOST_GROWTH:
        missed.append(f"growth {brief(line.growth)}")
    return "; ".join(missed) or "ok"


def _is_comparison(figure: Figure) -> bool:
    """Whether a figure says how others do, not how we do."""
    return figure.unit.removeprefix("x ") in ("naive", "careful", "datasette")


def write_json(path: Path, lines: list[Line], seconds: float) -> None:
    """All figures of a run as a file, with where and when it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine(), "seconds": round(seconds, 1), "lines": [line.document() for line in lines]}
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }


def caption(found: dict[str, Any]) -> str:
    """One line for below the table."""
    return (
        f"{found['date']}, `{found['command'].strip()}`; {found['processor']}, {found['cores']} cores, "
        f"{found['memory_gib']} GiB; Python {found['python']}, SQLite {found['sqlite']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
