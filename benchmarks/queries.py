"""Measures the queries over executions: ours and the peers' against the floor, answers held against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from benchmarks.cases import CASES, TRACE, VARIANTS, Case
from benchmarks.measure import FLOOR, in_rotation
from benchmarks.peers import HandWritten
from benchmarks.results import Figure, Line
from benchmarks.subjects import Floor, open_store, page_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.datasets import Dataset
    from benchmarks.measure import Series

PART = "executions"


class Candidate(Protocol):
    """What can answer the two queries over executions."""

    def list_job_executions(self, **query: Any) -> Any: ...  # noqa: D102

    def get_job_executions(self, job_id: str, **query: Any) -> Any: ...  # noqa: D102


class Disagreement(AssertionError):
    """Two candidates gave different answers to the same question."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How long to measure."""

    rounds: int = 200
    budget_seconds: float = 2.0
    sweep_seconds: float = 60.0


class Bench:
    """The opened candidates of one data set."""

    def __init__(self, dataset: Dataset, settings: Settings, *, peers: bool = True) -> None:
        self.dataset = dataset
        self.settings = settings
        self.store = open_store(dataset.path("jobstore"))
        self.floor = Floor(dataset.path("jobstore"))
        self.peers: dict[str, HandWritten] = {}
        if peers:
            self.peers = {
                "naive": HandWritten(dataset.path("naive"), careful=False),
                "careful": HandWritten(dataset.path("careful"), careful=True),
            }

    def close(self) -> None:
        """Closes all files."""
        self.store.close()
        self.floor.close()
        for peer in self.peers.values():
            peer.connection.close()

    def run(self, cases: Iterable[Case] = CASES) -> Iterator[Line]:
        """Measures case by case."""
        for case in cases:
            yield self.measure(case)

    def measure(self, case: Case) -> Line:
        """One case: its variants answered, then all candidates in rotation, then their answers compared."""
        queries = [self.placed(case, number) for number in range(VARIANTS)]
        ids = [page_ids(answer(self.store, case, query)) for query in queries]
        return self._rotate(case, queries, lambda number: self.floor.executions(ids[number % VARIANTS]))

    def trace(self) -> Line:
        """``trace_id=``: one row, held against the floor of the latest fifty."""
        case, ids = self.trace_case(), page_ids(answer(self.store, CASES[0], {}))
        return self._rotate(
            case, [case.query(number) for number in range(VARIANTS)], lambda _: self.floor.executions(ids)
        )

    def trace_case(self) -> Case:
        """The traces of the latest executions."""
        return Case(TRACE, lambda n: {"trace_id": answer(self.store, CASES[0], {})["data"][n]["trace_id"]}, 1)

    def _rotate(self, case: Case, queries: list[dict[str, Any]], floor: Callable[[int], object]) -> Line:
        asking = {"jobstore": Asking(self.store, case, queries)}
        asking |= {name: Asking(peer, case, queries) for name, peer in self.peers.items()}
        candidates: dict[str, Callable[[int], object]] = {FLOOR: floor, **asking}
        found = in_rotation(candidates, rounds=self.settings.rounds, budget_seconds=self.settings.budget_seconds)
        for name in self.peers:
            for number, page in asking[name].pages.items():
                check_equal(case, name, asking["jobstore"].page(number), page)
        return self._line(case, found, asking["jobstore"].page(0))

    def placed(self, case: Case, number: int) -> dict[str, Any]:
        """The keywords of a variant, with the offset of a deep page."""
        query = case.query(number)
        if case.deep:
            total = answer(self.store, case, {**query, "limit": 1})["pagination"]["total"]
            query["offset"] = max(0, total * 9 // 10 - 50 * number)
        return query

    def _line(self, case: Case, found: dict[str, Series], page: Any) -> Line:
        ours = found["jobstore"]
        figures = [Figure(ours.ratio, "F", at_most=case.most)]
        if "naive" in found:
            at_full_size = self.dataset.label == "10M"
            times = found["naive"].ratio / ours.ratio
            figures.append(Figure(times, "x naive", at_least=case.faster if at_full_size else None))
        if "careful" in found:
            figures.append(Figure(found["careful"].ratio / ours.ratio, "x careful"))
        detail = {
            "p99": ours.ratio_p99,
            "total": page["pagination"]["total"],
            "milliseconds": {name: series.milliseconds for name, series in found.items()},
            "rounds": {name: len(series.ratios) for name, series in found.items()},
            "grows": True,
        }
        return Line(PART, case.name, self.dataset.label, figures, detail)


def answer(candidate: Candidate | Any, case: Case, query: dict[str, Any]) -> Any:
    """The page that a candidate gives."""
    return getattr(candidate, case.method)(**query)


class Asking:
    """Asks the variant of a round and makes JSON of the answer; keeps the first answer to each variant."""

    def __init__(self, candidate: Any, case: Case, queries: list[dict[str, Any]]) -> None:
        self.ask = getattr(candidate, case.method)
        self.queries = queries
        self.pages: dict[int, Any] = {}

    def __call__(self, number: int) -> bytes:
        """The body of the answer."""
        page = self.ask(**self.queries[number % VARIANTS])
        self.pages.setdefault(number % VARIANTS, page)
        return orjson.dumps(page)

    def page(self, number: int) -> Any:
        """The first answer to a variant, asked for now if it never was."""
        return self.pages[number] if number in self.pages else self.ask(**self.queries[number])


def check_equal(case: Case, name: str, ours: Any, theirs: Any) -> None:
    """Raises unless both pages have the same ids in the same order and the same pagination."""
    if page_ids(ours) != page_ids(theirs) or ours["pagination"] != theirs["pagination"]:
        raise Disagreement(
            f"{case.name}: jobstore says {ours['pagination']} {page_ids(ours)[:5]}, "
            f"{name} says {theirs['pagination']} {page_ids(theirs)[:5]}"
        )
