"""SVG geometry of the charts: strips, bars, dots and lanes. The templates add colours and words.

Horizontal positions are percentages, so a chart fits any width; vertical ones are pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CLASSES: Final = {"SUCCESS": "ok", "FAILURE": "bad", "TIMEOUT": "out", "RUNNING": "run", "PENDING": "wait"}
STRIP_MARKS, STEP = 20, 7
STRIP_WIDTH, STRIP_HEIGHT = STRIP_MARKS * STEP, 26
_BASE, _TALLEST, _SMALLEST = 19, 17, 3
BARS_HEIGHT, DOTS_HEIGHT = 120, 150
MOST_MARKS: Final = 400
_ORDER = ("SUCCESS", "RUNNING", "PENDING", "TIMEOUT", "FAILURE")
"""The statuses in a bar, from bottom to top."""


def strip(recent: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the SVG paths of a job's latest runs, by CSS class: the newest run at the right, height as duration.

    Failures have a cross and timeouts a dash below the line, so that they can be told apart without colour.
    """
    recent = recent[-STRIP_MARKS:]
    longest = max((each["duration_ms"] or 0 for each in recent), default=0) or 1
    paths: dict[str, str] = {}
    for place, each in enumerate(recent, STRIP_MARKS - len(recent)):
        kind = CLASSES[each["status"]]
        x = place * STEP + STEP // 2
        height = max(_SMALLEST, round(_TALLEST * (each["duration_ms"] or 0) / longest))
        if kind == "run":
            height = _TALLEST
        paths[kind] = paths.get(kind, "") + f"M{x} {_BASE}v-{height}"
        if kind in {"bad", "out"}:
            mark = f"M{x - 2} 21.5l4 4m0-4l-4 4" if kind == "bad" else f"M{x - 2.5} 23.5h5"
            paths[f"{kind} mark"] = paths.get(f"{kind} mark", "") + mark
    return paths


def bars(buckets: Sequence[Mapping[str, Any]], statuses: Iterable[str]) -> tuple[list[dict[str, Any]], int]:
    """Return a stacked bar for each bucket, and the number of runs in the tallest bar."""
    shown = [status for status in _ORDER if status in set(statuses)]
    sums = [sum(each["by_status"][status] for status in shown) for each in buckets]
    most = max(sums, default=0)
    width = 100 / max(len(buckets), 1)
    found = []
    for place, (bucket, total) in enumerate(zip(buckets, sums, strict=True)):
        parts, floor = [], float(BARS_HEIGHT)
        for status in shown:
            count = bucket["by_status"][status]
            if count:
                height = max(2.0, count * (BARS_HEIGHT - 8) / most)
                floor -= height
                parts.append({"kind": CLASSES[status], "y": round(max(0, floor), 1), "h": round(height, 1)})
        found.append(
            {"x": round(place * width, 3), "w": round(width * 0.84, 3), "full": round(width, 3), "parts": parts}
            | {"total": total, "bucket": bucket}
        )
    return found, most


def dots(executions: Sequence[Mapping[str, Any]], timeout_ms: int | None) -> dict[str, Any]:
    """Return a dot for each finished run, oldest first, and the timeout's line if durations come near it."""
    finished = [each for each in executions if each["duration_ms"] is not None][:MOST_MARKS][::-1]
    longest = max((each["duration_ms"] for each in finished), default=0) or 1
    is_near = timeout_ms is not None and timeout_ms <= 3 * longest
    top = max(longest, timeout_ms or 0) if is_near else longest
    scale = (DOTS_HEIGHT - 16) / top
    step = 100 / max(len(finished), 1)
    return {
        "dots": [
            {
                "x": round((place + 0.5) * step, 2),
                "y": round(DOTS_HEIGHT - 6 - each["duration_ms"] * scale, 1),
                "kind": CLASSES[each["status"]],
                "run": each,
            }
            for place, each in enumerate(finished)
        ],
        "top_ms": top,
        "timeout_y": round(DOTS_HEIGHT - 6 - timeout_ms * scale, 1) if is_near and timeout_ms else None,
    }


def across(at: float, after: float, before: float) -> float:
    """Return the position of an instant in a window, in percent; an instant outside gets the nearer edge."""
    return round(min(100.0, max(0.0, 100 * (at - after) / (before - after))), 3)
