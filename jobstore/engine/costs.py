"""The cost model: the cost of each step of an access path, in microseconds.

Measured at one and ten million executions on a warm file; only the ratios matter. ``docs/engine.md`` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass


# Constants, not settings: a user could not measure them. Change one only after the benchmark has shown a wrong choice.
@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of one step of each kind, in microseconds."""

    passed: float = 0.01
    """Pass an index entry without testing it."""
    filtered: float = 0.06
    """Pass an entry of a covering index and test it against a filter."""
    row: float = 2.0
    """Look up a row, or pass one in the table."""
    fetched: float = 0.4
    """Fetch an entry of a covering index and sort it."""
    opened: float = 6.0
    """Open one more index range."""
    algebra: float = 0.001
    """Process one execution in a pass over the bitmaps."""
    loaded: float = 0.004
    """Load one execution of a segment that the file has."""
    built: float = 1.0
    """Add one execution to the bitmaps of one kind, from its row."""


# Two limits that several paths share; the other limits stand with the path that they belong to.
FEW = 256
"""So few executions that reading them costs less than any way around it."""
FEW_RANGES = 24
"""So few index ranges that SQLite opens one for each in a single statement."""

# Read as `costs.COSTS` at each use, not imported by name: a test replaces it to force an access path.
COSTS = Costs()
