"""Taking times in rotation: each candidate is divided by the floor of the same round.

Machines are shared and their clock varies by two, so no absolute time is compared with another:
only ratios of calls made one after the other, and of those the median and the 99th percentile.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

Ask = Callable[[int], Any]

FLOOR, OURS = "floor", "jobstore"
VARIANTS = 8
"""After this many rounds, the same questions are asked again."""
SLOW_SECONDS, VERY_SLOW_SECONDS = 0.02, 5.0
"""A slow candidate is called less often, in its own rounds: it empties the caches. A very slow one is called once."""


class Disagreement(AssertionError):
    """Two candidates gave different answers to the same question."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for on the command line: what to measure, and how long."""

    sizes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    match: str = ""
    rounds: int = 200
    budget: float = 1.5
    sweep_seconds: float = 60.0
    compare_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its unit (``F``, ``x naive``, ``ms``, ``MB``) and the bound it is held to."""

    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the bound holds; true where there is none."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def goal(self) -> str:
        """The bound in words, empty where there is none."""
        if self.at_most is not None:
            return f"≤ {brief(self.at_most)} {self.unit}"
        return "" if self.at_least is None else f"≥ {brief(self.at_least)} {self.unit}"

    @property
    def fault(self) -> str:
        """How far a value is from the bound that it misses."""
        times = self.value / (self.at_least or self.at_most or 1)
        if times > 2:
            return f"{brief(times)} x the goal"
        percent = abs(times - 1) * 100
        much = f"{percent:.0f} %" if percent >= 1 else "less than 1 %"
        return f"{much} {'over' if times > 1 else 'short'}"

    def __str__(self) -> str:
        text = f"{brief(self.value)} {self.unit}".strip()
        return text if self.met else f"**{text}**"


@dataclass(slots=True)
class Line:
    """What was measured at one size; the details are for the JSON."""

    part: str
    name: str
    size: str
    figures: list[Figure]
    detail: dict[str, Any] = field(default_factory=dict)
    note: str = ""


class Series(NamedTuple):
    """The calls of one candidate: median and 99th percentile of the ratios to the floors; the median time."""

    ratio: float
    p99: float
    milliseconds: float


def rivals(
    part: str, name: str, size: str, settings: Settings, candidates: Mapping[str, Ask], *,
    unit: str = "F", most: float | None = None, most_ms: float | None = None, faster: float | None = None,
    same: Callable[[Any], Any] | None = None, before: Callable[[], object] | None = None,
) -> Line:  # fmt: skip
    """One line: all in rotation, then the others' answers held against ours by what ``same`` makes of them.

    The first figure is in ``unit``, or in milliseconds where ``most_ms`` bounds those; ``faster`` bounds ``x naive``.
    """
    answers: dict[str, dict[int, Any]] = {who: {} for who in candidates if who != FLOOR}
    asked = {who: _kept(candidates[who], answers[who]) for who in answers}
    found = in_rotation({FLOOR: candidates[FLOOR], **asked}, settings.rounds, settings.budget, before)
    others = [who for who in answers if who != OURS]
    if same:
        for other, number in [(who, at) for who in others for at in answers[who]]:
            mine = answers[OURS].get(number) or candidates[OURS](number)
            check_equal(f"{name}, {other}", same(mine), same(answers[other][number]))
    ours = found[OURS]
    figures = [Figure(ours.ratio, unit, most)]
    if most_ms is not None:
        figures.insert(0, Figure(ours.milliseconds, "ms", most_ms))
    for other in others:
        bound = faster if other == "naive" else None
        figures.append(Figure(found[other].ratio / ours.ratio, f"x {other}", at_least=bound))
    milliseconds = {who: series.milliseconds for who, series in found.items()}
    return Line(part, name, size, figures, {"p99": ours.p99, "milliseconds": milliseconds})


def _kept(ask: Ask, answers: dict[int, Any]) -> Ask:
    """Asks the variant of a round and makes JSON of the answer; keeps the first answer to each variant."""

    def asked(number: int) -> bytes:
        answer = ask(number % VARIANTS)
        answers.setdefault(number % VARIANTS, answer)
        return answer if isinstance(answer, bytes) else orjson.dumps(answer)

    return asked


def check_equal(what: str, ours: Any, theirs: Any) -> None:
    if ours != theirs:
        raise Disagreement(f"{what}: jobstore says {str(ours)[:300]}, not {str(theirs)[:300]}")


def in_rotation(
    candidates: Mapping[str, Ask], rounds: int, budget_seconds: float = 2.0, before: Callable[[], object] | None = None
) -> dict[str, Series]:
    """Calls all candidates in each round, the first one another each time; ``floor`` must be among them.

    A slow candidate takes part in as many rounds of its own as fit into its budget, at least one.
    ``before`` is called before each call, and its time is not counted.
    """
    first = {name: _warmed(call, before) for name, call in candidates.items()}
    slow = [name for name, seconds in first.items() if seconds > SLOW_SECONDS and name != FLOOR]
    quick = [name for name in candidates if name not in slow]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}  # its seconds, the floor's
    gc.collect()
    for number in range(rounds):
        cut = number % len(quick)
        took = {name: timed(candidates[name], number, before) for name in (*quick[cut:], *quick[:cut])}
        for name, seconds in took.items():
            taken[name].append((seconds, took[FLOOR]))
    for name in slow:
        for number in range(min(rounds, max(1, int(budget_seconds / first[name])))):
            # after a scan the caches would be cold for the floor: it is taken before, the median of three
            floor = statistics.median(timed(candidates[FLOOR], number, before) for _ in range(3))
            again = first[name] < VERY_SLOW_SECONDS
            taken[name].append((timed(candidates[name], number, before) if again else first[name], floor))
    return {name: _series(pairs) for name, pairs in taken.items()}


def _series(pairs: list[tuple[float, float]]) -> Series:
    ratios = sorted(seconds / floor for seconds, floor in pairs)
    p99 = ratios[-(-len(ratios) * 99 // 100) - 1]  # 99 % do not exceed it
    return Series(statistics.median(ratios), p99, statistics.median(seconds for seconds, _ in pairs) * 1000)


def _warmed(call: Ask, before: Callable[[], object] | None) -> float:
    """Seconds of a first call, or of a second where that costs little."""
    seconds = timed(call, 0, before)
    return seconds if seconds > 1 else timed(call, 0, before)


def timed(call: Ask, number: int, before: Callable[[], object] | None = None) -> float:
    """Seconds that one call takes."""
    if before:
        before()
    begun = time.perf_counter()
    call(number)
    return time.perf_counter() - begun


def brief(value: float) -> str:
    """Three figures are enough.

    >>> [brief(value) for value in (0.0312, 1.0, 13.26, 123.4, 12345.0)]
    ['0.0312', '1', '13.3', '123', '12,345']
    """
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
