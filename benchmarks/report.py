"""The figures of a run as JSON, and from that the Markdown of both READMEs: what is printed is what they show."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
import sys
import tomllib
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from benchmarks.measure import Figure, Line, brief

BEGIN, END = "<!-- figures: python -m benchmarks report --write -->", "<!-- end of figures -->"
MOST_GROWTH = 1.5
"""From 100k to 10M executions, on every query."""
FIVE = {
    "latest 50 of all": "latest 50 of all, with the exact total",
    "name search, dense": "search that a quarter of the runs match",
    "one job's latest": "one job's latest 50",
    "job_stats of all": "statistics of all",
    "first query, then warm: latest, cold file": "first query of a process (latest 50), file not in the cache",
}
"""Name of a line -> the words for it in the README."""
REASONS: dict[str, str] = {
    beginning: words
    for words, beginnings in tomllib.loads(Path(__file__).with_name("reasons.toml").read_text()).items()
    for beginning in beginnings
}

Sized = dict[str, Line]
"""The same line at each size."""


def commit() -> str:
    """The commit that is checked out, marked where something was changed since."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def write_json(path: Path, lines: list[Line], took: dict[str, Any]) -> None:
    """All figures of a run as a file, with where and when it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": _machine(), **took, "lines": [asdict(line) for line in lines]}
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def blocks(path: Path) -> tuple[str, str]:
    """The five lines for the README, and everything for the benchmark's own page, of the figures in a file."""
    run = orjson.loads(path.read_bytes())
    parts: dict[str, dict[str, Sized]] = {}
    for line in run["lines"]:
        made = Line(**{**line, "figures": [Figure(**figure) for figure in line["figures"]]})
        parts.setdefault(made.part, {}).setdefault(made.name, {})[made.size] = made
    return _five(parts, run["machine"]), _all(parts, run)


def replace_block(path: Path, block: str) -> None:
    """Puts a block between the markers of a document."""
    parts = re.split(f"({re.escape(BEGIN)}|{re.escape(END)})", path.read_text())
    if len(parts) != 5:
        raise ValueError(f"{path} needs the two markers {BEGIN} and {END}, once each")
    path.write_text("".join((*parts[:2], f"\n{block}", *parts[3:])))


def _five(parts: dict[str, dict[str, Sized]], machine: dict[str, Any]) -> str:
    lines = {name: sized for named in parts.values() for name, sized in named.items() if name in FIVE}
    sizes = _sizes(lines)
    rows = [
        [words, *(_milliseconds(lines[name][size]) if size in lines[name] else "" for size in sizes)]
        for name, words in FIVE.items()
        if name in lines
    ]
    where = f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, load average {machine['load']:.1f}"
    return _table([f"milliseconds ({where})", *(f"{size} runs" for size in sizes)], rows)


def _milliseconds(line: Line) -> str:
    own = [figure.value for figure in line.figures if figure.unit == "ms"]
    return brief(round(own[0] if own else line.detail["milliseconds"]["jobstore"], 1))


def _all(parts: dict[str, dict[str, Sized]], run: dict[str, Any]) -> str:
    """A caption, a table for each part with the sizes side by side, the goals that were missed with their reasons."""
    tables, missed = [], []
    for part, lines in parts.items():
        sizes = _sizes(lines)
        growth = ["growth"] if any(_growth(sized) for sized in lines.values()) else []
        rows = [_row(name, sized, sizes, grows=bool(growth)) for name, sized in lines.items()]
        tables.append(f"**{part}**\n\n{_table(['', 'goal', *sizes, *growth], rows)}")
        missed += [[name, ", ".join(_missed(sized)), _reason(name)] for name, sized in lines.items() if _missed(sized)]
    why = f"**Goals not met, and why**\n\n{_table(['', 'missed', 'why'], missed)}"
    return "\n".join((_caption(parts, run), *tables, why))


def _sizes(lines: dict[str, Sized]) -> list[str]:
    return list(dict.fromkeys(size for sized in lines.values() for size in sized))


def _reason(name: str) -> str:
    fitting = [beginning for beginning in REASONS if name.startswith(beginning)]
    return REASONS[max(fitting, key=len)] if fitting else "not found out"


def _caption(parts: dict[str, dict[str, Sized]], run: dict[str, Any]) -> str:
    """When, where, of what and how the figures were taken."""
    machine = run["machine"]
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in run["parts"].items() if seconds >= 1)
    lines = (line for named in parts.values() for sized in named.values() for line in sized.values())
    servers = sorted({line.detail["server"] for line in lines if "server" in line.detail})
    versions = ", ".join((f"Python {machine['python']}", f"SQLite {machine['sqlite']}", *servers))
    return (
        f"{machine['date']}, commit {run['commit']}: `{machine['command']}`\n\n"
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, load average "
        f"{machine['load']:.1f} over 15 minutes; {versions}. It took {run['seconds']} s: {took}.\n"
    )


def _row(name: str, sized: Sized, sizes: list[str], *, grows: bool) -> list[str]:
    goals = dict.fromkeys(figure.goal for line in sized.values() for figure in line.figures if figure.goal)
    cells = [_cell(sized[size]) if size in sized else "" for size in sizes]
    return [name, "; ".join(goals), *cells, *([str(_growth(sized) or "")] if grows else [])]


def _cell(line: Line) -> str:
    """Its figures, those that miss their goal in bold; the 99th percentile behind the ratio that it belongs to."""
    texts = list(map(str, line.figures))
    if p99 := line.detail.get("p99"):
        ratio = next(at for at, figure in enumerate(line.figures) if figure.unit != "ms")
        texts[ratio] += f" (p99 {brief(p99)})"
    return "; ".join(filter(None, (*texts, line.note)))


def _missed(sized: Sized) -> list[str]:
    growth = _growth(sized)
    faults = [f"{size}: {figure.fault}" for size, line in sized.items() for figure in line.figures if not figure.met]
    return faults + (["growth"] if growth and not growth.met else [])


def _growth(sized: Sized) -> Figure | None:
    """The ratio at 10M over that at 100k, of a query that was measured at both."""
    if not {"100k", "10M"} <= set(sized) or "grows" not in sized["10M"].detail:
        return None
    return Figure(sized["10M"].figures[0].value / sized["100k"].figures[0].value, "", at_most=MOST_GROWTH)


def _table(headers: list[str], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headers, ["---"] * len(headers), *rows))


def _machine() -> dict[str, Any]:
    """What the figures depend on."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"^model name\s*: (.*)", told, re.MULTILINE)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m benchmarks {' '.join(sys.argv[1:])}".strip(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "processor": named[1] if named else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load": os.getloadavg()[2],
    }
