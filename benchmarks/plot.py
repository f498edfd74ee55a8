"""The growth of each query with the history, as an SVG: ours flat, the others rising."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from benchmarks.history import SIZES

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Line

COLUMNS = 4
STYLES = {"jobstore": ("#0b6e4f", "o"), "careful": ("#b8860b", "s"), "naive": ("#a4243b", "^")}


def draw(path: Path, lines: list[Line]) -> None:
    """One small picture for each query: milliseconds over executions, both scales logarithmic; none without queries."""
    series = _series(lines)
    if not series:
        return
    import matplotlib as mpl  # slow to import, and only plots need it

    mpl.use("svg")
    from matplotlib import pyplot as plt

    rows = -(-len(series) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(14, 2.6 * rows), sharex=True, sharey=True, squeeze=False)
    for place, (name, by_candidate) in zip(axes.flat, series.items(), strict=False):
        for candidate, points in by_candidate.items():
            colour, marker = STYLES[candidate]
            place.plot(*zip(*sorted(points), strict=True), color=colour, marker=marker, markersize=4, label=candidate)
        place.set(title=name, xscale="log", yscale="log")
        place.title.set_fontsize(9)
        place.grid(visible=True, alpha=0.3)
    for place in axes.flat[len(series) :]:
        place.set_visible(False)
    figure.supxlabel("executions in the file")
    figure.supylabel("milliseconds for a page of 50")
    axes.flat[0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _series(lines: list[Line]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Query -> candidate -> (executions, milliseconds)."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line.detail.get("grows"):
            for candidate, milliseconds in line.detail["milliseconds"].items():
                if candidate in STYLES:
                    found[line.name][candidate].append((SIZES[line.size], milliseconds))
    return found
