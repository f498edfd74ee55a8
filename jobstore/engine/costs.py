"""The cost model: what a page costs by each access path, in microseconds; the only tuning constants of the engine.

Measured at one and ten million executions on a warm file; only their ratios matter. ``docs/engine.md`` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass


# Constants and no settings: a user could not measure them, and only their ratios matter. Change one only after the
# benchmark has shown a wrong choice.
@dataclass(frozen=True, slots=True)
class Costs:
    """One step of each kind, in microseconds."""

    passed: float = 0.01
    """Pass an index entry that no filter looks at."""
    filtered: float = 0.06
    """Pass an entry of a covering index that a filter looks at."""
    row: float = 2.0
    """Look up a row, or pass one of the table."""
    fetched: float = 0.4
    """Fetch an entry of a covering index and sort it."""
    opened: float = 6.0
    """Open one more index range."""
    algebra: float = 0.001
    """Look at an execution in a pass over the bitmaps."""
    loaded: float = 0.004
    """Load an execution of a segment that the file has."""
    built: float = 1.0
    """Put an execution into the bitmaps of one kind, from its row."""


# Looked up as `costs.COSTS` at each use, not imported by name: a test replaces it to force an access path.
COSTS = Costs()
