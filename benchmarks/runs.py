"""One run: the data sets it needs, then part by part what is measured on each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import datasets, joblists, postgres, processes, sweeping, writes
from benchmarks.cases import CASES
from benchmarks.queries import Bench, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from rich.console import Console

    from benchmarks.datasets import Dataset
    from benchmarks.results import Line

COMPARED_UP_TO = 100_000
"""The sweep asks the peers too while their scans are short."""
MANY_JOBS = 100_000


@dataclass(slots=True)
class Run:
    """What was asked for on the command line, and the parts that broke off."""

    data: Path
    sizes: tuple[str, ...]
    parts: tuple[str, ...]
    settings: Settings
    console: Console
    match: str
    failed: list[str] = field(default_factory=list)

    def lines(self) -> list[Line]:
        """Everything measured, in the order of the table; sizes one after the other."""
        found: list[Line] = []
        for label in self.sizes:
            dataset = datasets.prepare(self.data, label, console=self.console)
            for part in self.parts:
                found += self._told(f"{label} {part}", PARTS[part](self, dataset))
        if "jobs" in self.parts:
            found += self._told("100k jobs", _many_jobs(self))
        if "processes" in self.parts:
            found.append(processes.importing())
        return found

    def _told(self, what: str, lines: Iterable[Line]) -> Iterator[Line]:
        """The same lines, each named on the terminal when it is done."""
        try:
            for line in lines:
                self.console.print(f"{what}: {line.name}: {line.figures[0]}", highlight=False)
                yield line
        except Exception:  # noqa: BLE001 - a long run goes on with its other parts, and fails at its end
            self.failed.append(what)
            self.console.print_exception()


def _queries(run: Run, dataset: Dataset) -> Iterator[Line]:
    bench = Bench(dataset, run.settings)
    yield from bench.run(case for case in CASES if run.match in case.name)
    if not run.match:
        yield bench.trace()
        yield writes.foreign_commits(dataset, run.settings)
    bench.close()


def _sweep(run: Run, dataset: Dataset) -> Iterator[Line]:
    compared = dataset.size <= COMPARED_UP_TO
    bench = Bench(dataset, run.settings, peers=compared)
    yield from sweeping.run(bench, compared=compared)
    bench.close()


def _jobs(run: Run, dataset: Dataset) -> Iterator[Line]:
    bench = joblists.JobBench(dataset.path("jobstore"), dataset.path("naive"), dataset.label, run.settings)
    if dataset.label == run.sizes[-1]:
        yield from bench.run()
    yield from bench.stats()
    bench.close()


def _many_jobs(run: Run) -> Iterator[Line]:
    ours, naive = datasets.many_jobs(run.data, MANY_JOBS)
    bench = joblists.JobBench(ours, naive, "100k jobs", run.settings, jobs=MANY_JOBS)
    yield from bench.run()
    bench.close()


def _writes(run: Run, dataset: Dataset) -> Iterator[Line]:
    yield from writes.recording(dataset, run.settings)
    if dataset.label == run.sizes[0]:
        yield writes.bulk_load(dataset.label)
    yield from writes.built(dataset)


def _http(run: Run, dataset: Dataset) -> Iterator[Line]:
    from benchmarks import web  # Datasette is an extra that the guard does without

    yield web.in_process(dataset, run.settings)
    yield web.through_servers(dataset, run.settings)


def _processes(_: Run, dataset: Dataset) -> Iterator[Line]:
    yield from processes.opening(dataset)
    yield from processes.memory(dataset)


PARTS: dict[str, Callable[[Run, Dataset], Iterator[Line]]] = {
    "queries": _queries,
    "sweep": _sweep,
    "jobs": _jobs,
    "writes": _writes,
    "http": _http,
    "processes": _processes,
    "postgres": lambda run, dataset: postgres.run(dataset, run.settings),
}
