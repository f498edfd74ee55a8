"""One run: the data sets it needs, then part by part what is measured on each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import datasets, joblists, processes, sweeping, writes
from benchmarks.cases import CASES, sweep
from benchmarks.queries import Bench, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from benchmarks.datasets import Dataset
    from benchmarks.results import Line

PARTS = ("queries", "sweep", "jobs", "writes", "http", "processes")
COMPARED_UP_TO = 100_000
"""The sweep asks the peers too while their scans are short."""
MANY_JOBS = 100_000


class Run:
    """What was asked for on the command line."""

    def __init__(
        self,
        data: Path,
        sizes: tuple[str, ...],
        parts: tuple[str, ...],
        settings: Settings,
        console: Console,
        match: str,
    ) -> None:
        self.data = data
        self.sizes = sizes
        self.parts = parts
        self.settings = settings
        self.console = console
        self.match = match
        self.failed: list[str] = []  # parts that broke off, each with its traceback on the terminal

    def lines(self) -> list[Line]:
        """Everything measured, in the order of the table; sizes one after the other."""
        found: list[Line] = []
        for label in self.sizes:
            dataset = datasets.prepare(self.data, label, console=self.console)
            for part in PARTS:
                if part in self.parts:
                    found += self._shown(f"{label} {part}", _MEASURES[part](self, dataset))
        if "jobs" in self.parts:
            found += self._shown("100k jobs", self._many_jobs())
        if "processes" in self.parts:
            found.append(processes.importing())
        return found

    def _shown(self, what: str, lines: Iterator[Line]) -> Iterator[Line]:
        """The same lines, each named on the terminal when it is done."""
        columns = (TextColumn("{task.description:<60}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(what, total=None)
            try:
                for line in lines:
                    progress.update(task, advance=1, description=f"{what}: {line.name}"[:60])
                    yield line
            except Exception:  # noqa: BLE001 - a long run goes on with its other parts, and fails at its end
                self.failed.append(what)
                self.console.print_exception()

    def _queries(self, dataset: Dataset) -> Iterator[Line]:
        bench = Bench(dataset, self.settings)
        yield from bench.run(case for case in CASES if self.match in case.name)
        if not self.match:
            yield bench.trace()
        bench.close()
        if not self.match:
            yield writes.foreign_commits(dataset, self.settings)

    def _sweep(self, dataset: Dataset) -> Iterator[Line]:
        compared = dataset.size <= COMPARED_UP_TO
        bench = Bench(dataset, self.settings, peers=compared)
        with Progress(console=self.console, transient=True) as progress:
            task = progress.add_task("sweep", total=sum(1 for _ in sweep()))
            yield from sweeping.run(bench, lambda: progress.advance(task), compared=compared)
        bench.close()

    def _jobs(self, dataset: Dataset) -> Iterator[Line]:
        bench = joblists.JobBench(dataset.path("jobstore"), dataset.path("naive"), dataset.label, self.settings)
        if dataset.label == self.sizes[-1]:
            yield from bench.run()
        yield from bench.stats()
        bench.close()

    def _many_jobs(self) -> Iterator[Line]:
        ours, naive = datasets.many_jobs(self.data, MANY_JOBS)
        bench = joblists.JobBench(ours, naive, "100k jobs", self.settings, jobs=MANY_JOBS)
        yield from bench.run()
        bench.close()

    def _writes(self, dataset: Dataset) -> Iterator[Line]:
        yield from writes.recording(dataset, self.settings)
        if dataset.label == self.sizes[0]:
            yield writes.bulk_load(dataset.label)
        yield from writes.built(dataset)

    def _http(self, dataset: Dataset) -> Iterator[Line]:
        from benchmarks import web  # the peers are an extra that the guard does without

        yield from web.in_process(dataset, self.settings)
        yield from web.through_servers(dataset, self.settings)

    def _processes(self, dataset: Dataset) -> Iterator[Line]:
        yield from processes.opening(dataset)
        yield from processes.memory(dataset)


_MEASURES: dict[str, Callable[[Run, Dataset], Iterator[Line]]] = {
    "queries": Run._queries,  # noqa: SLF001 - the table of this class
    "sweep": Run._sweep,  # noqa: SLF001
    "jobs": Run._jobs,  # noqa: SLF001
    "writes": Run._writes,  # noqa: SLF001
    "http": Run._http,  # noqa: SLF001
    "processes": Run._processes,  # noqa: SLF001
}
