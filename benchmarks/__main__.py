"""``python -m benchmarks``: the whole run; ``python -m benchmarks guard``: the regression check of CI."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console

from benchmarks import plot, report
from benchmarks.history import SIZES
from benchmarks.queries import Settings
from benchmarks.results import add_growth
from benchmarks.runs import PARTS, Run

FOLDER = Path(__file__).parent


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", "sizes", type=click.Choice(list(SIZES)), multiple=True, help="Repeat for several; default 1M.")
@click.option("--only", "parts", type=click.Choice(list(PARTS)), multiple=True, help="Only these parts; default all.")
@click.option("--match", default="", help="Of the queries only those whose name contains this.")
@click.option("--rounds", type=click.IntRange(5), default=200, show_default=True, help="Calls of each quick candidate.")
@click.option("--budget", type=float, default=1.5, show_default=True, help="Seconds for a slow candidate of a query.")
@click.option("--sweep-seconds", type=float, default=60, show_default=True, help="Time for the sweep of a size.")
@click.option("--data", type=click.Path(path_type=Path), default=FOLDER / "data", help="Where the data sets are kept.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), default=FOLDER / "out" / "figures.json")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), default=FOLDER / "out" / "growth.svg")
@click.pass_context
def main(
    context: click.Context,
    sizes: tuple[str, ...],
    parts: tuple[str, ...],
    match: str,
    rounds: int,
    budget: float,
    sweep_seconds: float,
    data: Path,
    json_file: Path,
    plot_file: Path,
) -> None:
    """Builds the data, measures every candidate in rotation, prints the table; figures and plot go to files."""
    if context.invoked_subcommand is not None:
        return
    begun = time.perf_counter()
    sizes = tuple(sorted(sizes or ("1M",), key=SIZES.__getitem__))
    talk = Console(stderr=True)
    run = Run(data, sizes, parts or tuple(PARTS), Settings(rounds, budget, sweep_seconds), talk, match)
    lines = run.lines()
    add_growth(lines)
    seconds = time.perf_counter() - begun
    report.write_json(json_file, lines, seconds)
    plot.draw(plot_file, lines)
    for size in dict.fromkeys(line.size for line in lines):
        click.echo(report.markdown([line for line in lines if line.size == size], size))
    click.echo(f"{report.caption(report.machine())}; {seconds:.0f} s")
    talk.print(f"figures: {json_file}, plot: {plot_file}")
    if run.failed:
        raise click.ClickException(f"broken off: {', '.join(run.failed)}")


@main.command()
def guard() -> None:
    """Small sizes, generous ratios, rows touched, query plans: fails where an index or a counter is lost."""
    from benchmarks.guard import check  # the run above does not need it

    problems = check(Console(stderr=True))
    for problem in problems:
        click.echo(problem)
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
