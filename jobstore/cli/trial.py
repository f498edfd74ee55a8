"""``demo``: creates a demo store, shows the answers to four queries, and suggests what to try next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobstore.cli.command import Command
from jobstore.cli.options import FileArgument, ascii_integer, flag, once
from jobstore.cli.screen import current_screen, say, write_lines
from jobstore.language.address import file_of
from jobstore.language.errors import Conflict
from jobstore.language.instants import instant_us
from jobstore.language.parameters import GET_JOB, GET_JOB_EXECUTIONS, LIST_JOB_EXECUTIONS, LIST_JOBS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from jobstore.cli.screen import Screen
    from jobstore.store import JobStore

NAME = "jobstore-demo"
MOST_FILES = 1_000
PIPED_CELLS = 100
"""The width of the output in a pipe or a file."""


def _demo(file: str | None, seed: str | None, utc: bool, serve: bool) -> None:
    number = ascii_integer(seed, "--seed", 0)
    screen = current_screen(utc=utc)
    path = build(file, number, screen.now_us)
    from jobstore.store import open as open_store

    with open_store(path) as store:
        # Read the clock again: building took a while, and the store should not look older than it is.
        shown = replace(screen, width=screen.width or PIPED_CELLS, now_us=instant_us(datetime.now(UTC)))
        write_lines(tour(store, path, shown), colour=screen.colour)
    if serve:
        _open_page(path)


def _open_page(path: Path) -> None:
    from jobstore.cli.options import needs

    needs("http", "falcon", "waitress", "jinja2")
    from jobstore.http.serve import serve

    serve(path, port=0, open_access=True, ready=lambda url: say(f"jobstore: open {url}/ in a browser; Ctrl-C stops it"))


def build(file: str | None, seed: int | None, now_us: int) -> Path:
    """Create the store and return its path: the given one, or the first free name; raise `Conflict` if it is taken."""
    from jobstore.cli import demo as data
    from jobstore.cli.endings import ending_cleanly
    from jobstore.cli.progress import progress
    from jobstore.transfer.dump import load

    with ending_cleanly(), progress("Making four weeks of history") as tally:
        document = data.document(now_us, data.SEED if seed is None else seed)
        for path in [file_of(file, "The demo", "give the path of a file")] if file else free_paths():
            try:
                load(path, document, progress=tally)
            except Conflict:
                if file:
                    raise
            else:
                return path
    raise Conflict(f"There are {MOST_FILES} files named {NAME}*.db here; remove some, or name another FILE")


def free_paths() -> Iterator[Path]:
    """Yield possible paths in this folder, or in a temporary one if this is not writable; `load` refuses taken ones."""
    folder = Path() if os.access(".", os.W_OK) else Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    for number in range(1, MOST_FILES + 1):
        yield folder / (f"{NAME}.db" if number == 1 else f"{NAME}-{number}.db")


# What is shown.


def tour(store: JobStore, path: Path, screen: Screen) -> list[Text]:
    """Return the answers to four queries, each under its command, and what to try next."""
    from rich.text import Text

    from jobstore.cli.drawing import drawn

    file, program = shlex.quote(str(path)), called_as()
    executions = store.list_job_executions(limit=1)["pagination"]["total"]
    jobs = store.list_jobs(limit=1)["pagination"]["total"]
    lines = [Text.assemble((f"{jobs} jobs and {executions:,} runs of the last four weeks are in ", ""), (file, "bold"))]
    steps: list[tuple[str, str, Any]] = [
        ("Which jobs are there, and when do they run next?", f"jobs {file}", LIST_JOBS.query({})),
        ("What is this job?", f"job {file} sync_klines_1h", GET_JOB.query({"job_id": "sync_klines_1h"})),
        ("What ran last?", f"executions {file} --limit 6", LIST_JOB_EXECUTIONS.query({"limit": 6})),
        (
            "What failed, and why?",
            f"executions {file} monitor_depth --search failed --limit 4",
            GET_JOB_EXECUTIONS.query({"job_id": "monitor_depth", "search": "failed", "limit": 4}),
        ),
    ]
    for title, command, query in steps:
        document = store.answer(query)
        lines += ["", *_caption(title, f"{program} {command}", document)]  # type: ignore[list-item]
        lines += drawn(store, query, document, screen)
    return [*lines, Text(), *_next(f"{program} ", file)]


def _caption(title: str, command: str, document: object) -> list[Text]:
    from rich.text import Text

    said = ""
    if isinstance(document, dict) and document.get("pagination", {}).get("has_next"):
        said = f"  {len(document['data'])} of {document['pagination']['total']:,}"
    return [
        Text.assemble((title, "bold"), (said, "dim")),
        Text.assemble(("$ ", "dim"), (command, "cyan")),
    ]


def _next(program: str, file: str) -> list[Text]:
    from rich.text import Text

    following = [
        (f"{program}executions {file} --search failed", "all that failed"),
        (f"{program}stats {file}", "how reliable the jobs are"),
        (f"{program}jobs {file} --watch", "refresh every two seconds"),
        (f"{program}mcp {file}", "for an AI program"),
        (f"{program}--help", "the rest"),
        (f"{program}serve {file} --open", "the web page and the API: open http://127.0.0.1:8000/"),
    ]
    width = max(len(command) for command, _ in following)
    head = Text("Try next", "bold")
    padded = [(each.ljust(width) if why else each, f"  # {why}" if why else "") for each, why in following]
    return [head, *(Text.assemble(("$ ", "dim"), (each, "cyan"), why) for each, why in padded)]


def called_as() -> str:
    """Return how to call this program again: by name if the shell finds it, else by path."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(_short(Path(sys.executable)))} -m jobstore"
    found = shutil.which("jobstore")
    if called.name != "jobstore" or (found and called.exists() and Path(found).samefile(called)):
        return "jobstore"
    return shlex.quote(_short(called))


def _short(path: Path) -> str:
    """Return the shortest form of a program's path that a shell can call."""
    found = shutil.which(path.name)
    if found and Path(found) == path:
        return path.name
    relative = os.path.relpath(path)
    return relative if "/" in relative and len(relative) < len(str(path)) else str(path)


demo = Command(
    "demo",
    callback=_demo,
    help=f"""Create a demo store with realistic jobs and four weeks of history, and show what you can ask.

    Without FILE the store is {NAME}.db in this folder, or the next free name. No file is ever overwritten.""",
    params=[
        FileArgument("The store to create.", metavar="[FILE]"),
        once("--seed", "N", "A number; each one gives a different history."),
        flag("--utc", "Show times in UTC instead of this machine's zone."),
        flag("--serve", "Then serve the store's web page and print its address."),
    ],
    examples=[
        ("jobstore demo", ""),
        ("jobstore demo --serve", "and look at it in a browser"),
        ("jobstore demo my-demo.db --utc", ""),
    ],
)
