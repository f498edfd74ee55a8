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
VERY_SLOW_SECONDS = 5.0
"""One call of such a candidate must do."""


@dataclass(slots=True)
class Series:
    """The calls of one candidate: ratios to the floor of their round, and seconds."""

    ratios: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, seconds: float, floor: float) -> None:
        """Takes in a call and the floor of its round."""
        self.seconds.append(seconds)
        self.ratios.append(seconds / floor)

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
    candidates: Mapping[str, Callable[[int], object]],
    *,
    rounds: int,
    budget_seconds: float = 2.0,
    before: Callable[[], object] | None = None,
) -> dict[str, Series]:
    """Calls all candidates in each round, the first one another each time; ``floor`` must be among them.

    A slow candidate takes part in as many rounds of its own as fit into its budget, at least one.
    ``before`` is called before each call, and its time is not counted.
    """
    prepare = before or (lambda: None)
    first = {name: _warmed(call, prepare) for name, call in candidates.items()}
    slow = {name for name, seconds in first.items() if seconds > SLOW_SECONDS and name != FLOOR}
    quick = [name for name in candidates if name not in slow]
    found = {name: Series() for name in candidates}
    gc.collect()
    for number in range(rounds):
        cut = number % len(quick)
        took = {name: timed(candidates[name], number, prepare) for name in (*quick[cut:], *quick[:cut])}
        for name, seconds in took.items():
            found[name].add(seconds, took[FLOOR])
    for name in slow:
        for number in range(min(rounds, max(1, int(budget_seconds / first[name])))):
            # after a scan the caches would be cold for the floor: it is taken before, the median of three
            floor = statistics.median(timed(candidates[FLOOR], number, prepare) for _ in range(3))
            again = first[name] < VERY_SLOW_SECONDS
            found[name].add(timed(candidates[name], number, prepare) if again else first[name], floor)
    return found


def _warmed(call: Callable[[int], object], prepare: Callable[[], object]) -> float:
    """Seconds of a first call, or of a second where that costs little."""
    seconds = timed(call, 0, prepare)
    return seconds if seconds > 1 else timed(call, 0, prepare)


def timed(call: Callable[[int], object], number: int, prepare: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    prepare()
    begun = time.perf_counter()
    call(number)
    return time.perf_counter() - begun
