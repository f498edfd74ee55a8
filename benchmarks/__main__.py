"""``python -m benchmarks``: the whole run; ``guard``: the regression check of CI; ``report``: a run's tables again."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks import guard, jobs, pages, postgres, processes, report, serving, sweep, writes
from benchmarks.datasets import CONSOLE, Dataset, prepare
from benchmarks.history import SIZES
from benchmarks.measure import Line, Settings

FOLDER = Path(__file__).parent
FIGURES = FOLDER / "out" / "figures.json"
PARTS: dict[str, Callable[[Dataset, Settings], Iterator[Line]]] = {
    "queries": pages.run,
    "sweep": sweep.run,
    "jobs": jobs.run,
    "writes": writes.run,
    "http": serving.run,
    "processes": processes.run,
    "postgres": postgres.run,
}


@dataclass(slots=True)
class Run:
    """What was measured, how long each part took, and the parts that broke off."""

    lines: list[Line] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def add(self, what: str, lines: Iterable[Line]) -> None:
        """Measures a part; each line is named on the terminal when it is done."""
        begun = time.perf_counter()
        try:
            for line in lines:
                CONSOLE.print(f"{what}: {line.name}: {line.figures[0]} {line.note}", highlight=False)
                self.lines.append(line)
        except Exception:  # noqa: BLE001 - a long run goes on with its other parts, and fails at its end
            self.failed.append(what)
            CONSOLE.print_exception()
        self.seconds[what] = round(time.perf_counter() - begun, 1)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", "sizes", type=click.Choice(list(SIZES)), multiple=True, help="Repeat for several; default 1M.")
@click.option("--only", "parts", type=click.Choice(list(PARTS)), multiple=True, help="Only these parts; default all.")
@click.option("--match", default="", help="Of the queries only those whose name contains this.")
@click.option("--rounds", type=click.IntRange(5), default=200, show_default=True, help="Calls of each quick candidate.")
@click.option("--budget", type=float, default=1.5, show_default=True, help="Seconds for a slow candidate of a query.")
@click.option("--sweep-seconds", type=float, default=60, show_default=True, help="Time for the sweep of a size.")
@click.option("--compare-seconds", type=float, default=60, show_default=True, help="Time to compare its answers.")
@click.option("--data", type=click.Path(path_type=Path), default=FOLDER / "data", help="Where the data sets are kept.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), default=FIGURES, help="Where the figures go.")
@click.pass_context
def main(
    context: click.Context, /, sizes: tuple[str, ...], parts: tuple[str, ...], data: Path, json_file: Path, **asked: Any
) -> None:
    """Builds the data, measures every candidate in rotation, prints the tables; the figures go to a file."""
    if context.invoked_subcommand is not None:
        return
    begun, commit, run = time.perf_counter(), report.commit(), Run()
    sizes = tuple(sorted(sizes or ("1M",), key=SIZES.__getitem__))
    settings = Settings(sizes, parts or tuple(PARTS), **asked)
    try:
        for label in sizes:
            dataset = prepare(data, label)
            for part in settings.parts:
                run.add(f"{label} {part}", PARTS[part](dataset, settings))
    except KeyboardInterrupt:  # an hour's figures are worth keeping
        run.failed.append("the rest")
    took = {"commit": commit, "seconds": round(time.perf_counter() - begun), "parts": run.seconds}
    report.write_json(json_file, run.lines, took)
    click.echo("\n".join(report.blocks(json_file)))
    if run.failed:
        raise click.ClickException(f"broken off: {', '.join(run.failed)}")


@main.command("report")
@click.option("--json", "json_file", type=click.Path(path_type=Path, exists=True), default=FIGURES)
@click.option("--write", is_flag=True, help="Put the tables between the markers in both READMEs.")
def report_again(json_file: Path, *, write: bool) -> None:
    """Prints the tables of the last run again, with the reasons of now."""
    for path, block in zip((FOLDER.parent / "README.md", FOLDER / "README.md"), report.blocks(json_file), strict=True):
        click.echo(block)
        if write:
            report.replace_block(path, block)


@main.command("guard")
def check() -> None:
    """Small sizes, generous ratios, rows touched, query plans: fails where an index or a counter is lost."""
    problems = guard.check()
    click.echo("\n".join((*problems, f"{len(problems)} problems")))
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
