"""Taking times in rotation: each candidate is divided by the floor of the same round.

Machines are shared and their clock varies by two, so no absolute time is compared with another:
only ratios of calls made one after the other, and of those the median and the 99th percentile.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FLOOR = "floor"
SLOW_SECONDS = 0.02
"""A candidate that takes longer is called less often, and in rounds of its own: it empties the caches."""

Call = "Callable[[int], object]"


@dataclass(slots=True)
class Series:
    """The calls of one candidate: ratios to the floor of their round, and seconds."""

    ratios: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def ratio_p99(self) -> float:
        """The smallest ratio that 99 % of the rounds do not exceed."""
        return percentile(self.ratios, 99)

    @property
    def milliseconds(self) -> float:
        """The median time; shown, never compared."""
        return statistics.median(self.seconds) * 1000


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that ``percent`` of all do not exceed.

    >>> percentile([3.0, 1.0, 2.0], 50), percentile([3.0, 1.0, 2.0], 99)
    (2.0, 3.0)
    """
    ordered = sorted(values)
    return ordered[-(-len(ordered) * percent // 100) - 1]


def in_rotation(
    candidates: Mapping[str, Callable[[int], object]], *, rounds: int, budget_seconds: float
) -> dict[str, Series]:
    """Calls all candidates in each round, the first one another each time; ``floor`` must be among them.

    A slow candidate takes part in as many extra rounds as fit into its budget, at least one.
    """
    first = {name: timed(call, 0) for name, call in candidates.items()}
    first = {name: min(seconds, timed(candidates[name], 0)) if seconds < 1 else seconds for name, seconds in first.items()}
    slow = {name for name, seconds in first.items() if seconds > SLOW_SECONDS and name != FLOOR}
    found = {name: Series() for name in candidates}
    quick = [name for name in candidates if name not in slow]
    gc.collect()
    for number in range(rounds):
        cut = number % len(quick)
        _round(candidates, [*quick[cut:], *quick[:cut]], number, found)
    for name in slow:
        extra = min(rounds, max(1, int(budget_seconds / first[name])))
        for number in range(extra):
            _slow_round(candidates, name, number, found)
    return found


def timed(call: Callable[[int], object], number: int) -> float:
    """Seconds that one call takes."""
    begun = time.perf_counter()
    call(number)
    return time.perf_counter() - begun


def _round(
    candidates: Mapping[str, Callable[[int], object]], names: list[str], number: int, found: dict[str, Series]
) -> None:
    took = {name: timed(candidates[name], number) for name in names}
    for name, seconds in took.items():
        found[name].seconds.append(seconds)
        found[name].ratios.append(seconds / took[FLOOR])


def _slow_round(
    candidates: Mapping[str, Callable[[int], object]], name: str, number: int, found: dict[str, Series]
) -> None:
    """The floor is the median of three, taken before: after a scan its caches would be cold."""
    floor = statistics.median(timed(candidates[FLOOR], number) for _ in range(3))
    seconds = timed(candidates[name], number)
    found[name].seconds.append(seconds)
    found[name].ratios.append(seconds / floor)
