"""What a run finds: lines with a figure, a goal, and whether it is met."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


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
    def missed(self) -> str:
        """How far the value is from the bound."""
        if self.at_most is not None:
            return f"missed: {brief(self.value / self.at_most)} times the goal"
        return f"missed: {brief(self.value / (self.at_least or 1))} of the goal"

    def __str__(self) -> str:
        return f"{brief(self.value)} {self.unit}"


@dataclass(slots=True)
class Line:
    """One row of the table: what was measured at one size."""

    part: str
    name: str
    size: str
    figures: list[Figure]
    detail: dict[str, Any] = field(default_factory=dict)
    growth: float | None = None

    @property
    def met(self) -> bool:
        """Whether every bound holds, that of the growth too."""
        return all(figure.met for figure in self.figures) and (self.growth is None or self.growth <= MOST_GROWTH)

    @property
    def has_goal(self) -> bool:
        """Whether anything is promised here."""
        return any(figure.goal for figure in self.figures)

    def document(self) -> dict[str, Any]:
        """The line for JSON."""
        return {**asdict(self), "met": self.met}


MOST_GROWTH = 1.5
"""From 100k to 10M executions, on every query."""
GROWN = ("100k", "10M")


def add_growth(lines: list[Line]) -> None:
    """Writes into each 10M line of a query how its ratio grew from 100k, where both were measured."""
    small = {(line.part, line.name): line for line in lines if line.size == GROWN[0]}
    for line in lines:
        before = small.get((line.part, line.name))
        if line.size == GROWN[1] and before is not None and line.detail.get("grows", False):
            line.growth = line.figures[0].value / before.figures[0].value


def brief(value: float) -> str:
    """Three figures are enough.

    >>> [brief(value) for value in (0.0312, 1.0, 13.26, 123.4, 12345.0)]
    ['0.0312', '1', '13.3', '123', '12,345']
    """
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
