"""``python -m benchmarks``: the whole run; ``guard``: the regression check of CI; ``report``: a run's tables again."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks import datasets, guard, jobs, postgres, processes, report, serving, sweep, writes
from benchmarks.history import SIZES
from benchmarks.measure import Settings
from benchmarks.pages import CASES, Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.datasets import Dataset
    from benchmarks.measure import Line

FOLDER = Path(__file__).parent
FIGURES = FOLDER / "out" / "figures.json"
MANY_JOBS = 100_000
POSTGRES_SIZE = "1M"
"""The goals of a server are set for this size; another one is measured with ``--only postgres`` alone."""


@dataclass(slots=True)
class Run:
    """What was asked for on the command line, and the parts that broke off."""

    data: Path
    sizes: tuple[str, ...]
    parts: tuple[str, ...]
    settings: Settings
    match: str
    console: Console
    failed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def lines(self) -> list[Line]:
        """Everything measured until the end or Ctrl-C; sizes one after the other."""
        found: list[Line] = []
        try:
            for label in self.sizes:
                dataset = datasets.prepare(self.data, label, self.console)
                for part in self.parts:
                    found += self._told(f"{label} {part}", PARTS[part](self, dataset))
        except KeyboardInterrupt:  # an hour's figures are worth keeping
            self.failed.append("the rest")
        return found

    def _told(self, what: str, lines: Iterable[Line]) -> Iterator[Line]:
        """The same lines, each named on the terminal when it is done."""
        begun = time.perf_counter()
        try:
            for line in lines:
                self.console.print(f"{what}: {line.name}: {line.figures[0]} {line.note}", highlight=False)
                yield line
        except Exception:  # noqa: BLE001 - a long run goes on with its other parts, and fails at its end
            self.failed.append(what)
            self.console.print_exception()
        self.seconds[what] = round(time.perf_counter() - begun, 1)


def _queries(run: Run, dataset: Dataset) -> Iterator[Line]:
    with closing(Bench(dataset, run.settings)) as bench:
        yield from (bench.measure(case) for case in CASES if run.match in case.name)


def _sweep(run: Run, dataset: Dataset) -> Iterator[Line]:
    with closing(Bench(dataset, run.settings)) as bench:
        yield from sweep.run(bench, run.console)


def _jobs(run: Run, dataset: Dataset) -> Iterator[Line]:
    """Statistics at each size; the lists, which do not depend on it, once."""
    yield from jobs.statistics(dataset, run.settings)
    if dataset.label == run.sizes[-1]:
        yield from jobs.lists(dataset, 10_000, run.settings)
        yield from jobs.lists(datasets.many_jobs(run.data, MANY_JOBS), MANY_JOBS, run.settings)


def _postgres(run: Run, dataset: Dataset) -> Iterator[Line]:
    if dataset.label == POSTGRES_SIZE or run.parts == ("postgres",):
        yield from postgres.run(dataset, run.settings)


PARTS: dict[str, Callable[[Run, Dataset], Iterator[Line]]] = {
    "queries": _queries,
    "sweep": _sweep,
    "jobs": _jobs,
    "writes": lambda run, dataset: writes.run(dataset, run.settings, loads=dataset.label == run.sizes[0]),
    "http": lambda run, dataset: serving.run(dataset, run.settings),
    "processes": lambda _, dataset: processes.run(dataset),
    "postgres": _postgres,
}


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
    context: click.Context, sizes: tuple[str, ...], parts: tuple[str, ...], match: str, rounds: int, budget: float,
    sweep_seconds: float, compare_seconds: float, data: Path, json_file: Path,
) -> None:  # fmt: skip
    """Builds the data, measures every candidate in rotation, prints the tables; the figures go to a file."""
    if context.invoked_subcommand is not None:
        return
    begun, commit = time.perf_counter(), report.commit()
    sizes = tuple(sorted(sizes or ("1M",), key=SIZES.__getitem__))
    settings = Settings(rounds, budget, sweep_seconds, compare_seconds)
    run = Run(data, sizes, parts or tuple(PARTS), settings, match, Console(stderr=True))
    lines = run.lines()
    took = {"commit": commit, "seconds": round(time.perf_counter() - begun), "parts": run.seconds}
    report.write_json(json_file, lines, took)
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
