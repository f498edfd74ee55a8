"""Measures the queries over executions: ours and the peers' against the floor, answers held against each other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.cases import CASES, Case
from benchmarks.measure import VARIANTS, Line, Settings, rivals
from benchmarks.peers import HandWritten
from benchmarks.subjects import Floor, open_store, page_ids, page_key

if TYPE_CHECKING:
    from benchmarks.datasets import Dataset

PART = "Executions"


class Bench:
    """The opened candidates of one data set."""

    def __init__(self, dataset: Dataset, settings: Settings | None = None, *, peers: bool = True) -> None:
        self.dataset = dataset
        self.settings = settings or Settings()
        self.store = open_store(dataset.path("jobstore"))
        self.floor = Floor(dataset.path("jobstore"))
        names = ("naive", "careful") if peers else ()
        self.peers = {name: HandWritten(dataset.path(name), careful=name == "careful") for name in names}

    def close(self) -> None:
        """Closes all files."""
        self.store.close()
        self.floor.close()
        for peer in self.peers.values():
            peer.connection.close()

    def measure(self, case: Case) -> Line:
        """One case, all candidates in rotation; a page of one row is held against the floor of the latest fifty."""
        queries = [self.placed(case, number) for number in range(VARIANTS)]
        one_row = "trace_id" in queries[0]
        known = [(CASES[0], {})] if one_row else [(case, query) for query in queries]
        ids = [page_ids(answer(self.store, *asked)) for asked in known]
        asks = {
            name: partial(_ask, candidate, case, queries)
            for name, candidate in (("jobstore", self.store), *self.peers.items())
        }
        line = rivals(
            PART, case.name, self.dataset.label,
            floor=lambda number: self.floor.executions(ids[number % len(ids)]),
            ours=asks.pop("jobstore"), others=asks,
            rounds=self.settings.rounds, budget=self.settings.budget_seconds,
            most=case.most, faster=case.faster if self.dataset.label == "10M" else None, same=page_key,
        )  # fmt: skip
        line.detail["grows"] = True
        return line

    def trace_case(self) -> Case:
        """The traces of the latest executions, looked up when they are asked for."""
        return Case("trace_id", lambda n: {"trace_id": answer(self.store, CASES[0], {})["data"][n]["trace_id"]}, 1)

    def placed(self, case: Case, number: int) -> dict[str, Any]:
        """The keywords of a variant, with the offset of a deep page."""
        query = case.query(number)
        if case.deep:
            query["offset"] = max(0, self.total(case, query) * 9 // 10 - 50 * number)
        return query

    def total(self, case: Case, query: dict[str, Any]) -> int:
        """How many executions match."""
        total: int = answer(self.store, case, {**query, "limit": 1})["pagination"]["total"]
        return total


def answer(candidate: Any, case: Case, query: dict[str, Any]) -> Any:
    """The page that a candidate gives."""
    return getattr(candidate, case.method)(**query)


def _ask(candidate: Any, case: Case, queries: list[dict[str, Any]], number: int) -> Any:
    return answer(candidate, case, queries[number])
