"""What a run gave, as JSON: always JSON, always bounded, whatever came."""

from __future__ import annotations

import enum
import json
import uuid
from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobstore.language.errors import InvalidRecord
from jobstore.language.fields import TEXT_BYTES, json_text
from jobstore.language.results import result_text

NAN = float("nan")


class Level(enum.Enum):
    UNKNOWN = NAN
    NESTED = {"worst": float("-inf")}  # noqa: RUF012
    ONE = 1


class Colour(enum.StrEnum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: object


Pair = namedtuple("Pair", "first second")  # noqa: PYI024


class Silent:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Hostile(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.int64(3), 3),
        ({"n": np.int64(3), "mean": np.float32(1.5)}, {"n": 3, "mean": 1.5}),
        (np.float64("nan"), None),
        (np.bool_(True), True),
        (np.array([1, 2, 3]), [1, 2, 3]),
        (np.array([[1.5, NAN]]), [[1.5, None]]),
        (np.array(3.5), 3.5),
        (np.datetime64("2026-01-15"), "2026-01-15"),
        (Decimal("0.1"), 0.1),
        (Decimal("NaN"), None),
        (Fraction(1, 2), 0.5),
        (NAN, None),
        ([float("inf"), {"a": NAN}], [None, {"a": None}]),
        (Level.UNKNOWN, None),
        ({"level": Level.NESTED}, {"level": {"worst": None}}),
        (Level.ONE, 1),
        (Colour.RED, "red"),
        (Point(1, Level.UNKNOWN), {"x": 1, "y": None}),
        (Pair(1, {2}), {"first": 1, "second": [2]}),
        (datetime(2026, 1, 15, 8, tzinfo=UTC), "2026-01-15T08:00:00+00:00"),
        (date(2026, 1, 15), "2026-01-15"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Path("/tmp/x"), "/tmp/x"),
        (2**70, str(2**70)),
        (-(2**63), -(2**63)),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "(1, 2)": "c"}),
        ("\ud800", "\\ud800"),
        (b"\xff", "\\xff"),
        (Silent(), "<Silent>"),
        ([Silent(), 1], ["<Silent>", 1]),
        (Hostile(a=1), {"a": 1}),
        (range(3), "range(0, 3)"),
        (None, None),
        (Point, "<class 'tests.unit.test_results.Point'>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_becomes_json(value: object, kept: object) -> None:
    text = result_text(value)
    found = None if text is None else json.loads(text)
    assert (found, type(found)) == (kept, type(kept))


def test_what_is_too_large_is_cut_and_says_so() -> None:
    for value in ("é" * TEXT_BYTES, [{"word"}] * TEXT_BYTES, 10**5000):
        text = result_text(value)
        assert text is not None
        assert len(text.encode()) <= TEXT_BYTES
    kept = json.loads(result_text("x" * 100_000) or "")
    assert kept["bytes"] == 100_002
    assert kept["cut"].startswith('"xxx')


def test_what_refers_to_itself_or_is_very_deep_comes_to_an_end() -> None:
    around: list[object] = []
    around += [around, around]
    deep: object = {1}
    for _ in range(5000):
        deep = [deep]
    for value in (around, deep):
        text = result_text(value)
        assert text is not None
        assert len(text.encode()) <= TEXT_BYTES


@pytest.mark.parametrize(
    "value",
    [NAN, [np.float64("inf")], Level.UNKNOWN, [Level.NESTED], {1}, Decimal("NaN"), np.array([1]), {1: 2}, Point(1, 2)],
)
def test_what_is_given_explicitly_must_be_json(value: object) -> None:
    with pytest.raises(InvalidRecord, match="result must be JSON"):
        json_text(value, "result")


def test_numbers_of_other_libraries_are_numbers() -> None:
    assert json_text([np.int64(3), np.float32(0.5), np.bool_(False), Decimal("1.5"), Level.ONE], "result") == (
        "[3,0.5,false,1.5,1]"
    )


def test_dates_and_durations_of_numpy_become_text_in_every_unit():
    """Those in nanoseconds convert to a number, too, which would say nothing."""
    moment = "2026-01-01T00:00:00.123456789"
    value = {"at": np.datetime64(moment), "took": np.timedelta64(5, "ns"), "all": np.array([moment], "datetime64[ns]")}
    assert json.loads(result_text(value) or "") == {"at": moment, "took": "5 nanoseconds", "all": [moment]}
    for item in value.values():
        with pytest.raises(InvalidRecord, match="must be JSON"):
            json_text(item, "result")


def test_a_value_may_leave_one_level_for_an_object_around_it():
    deepest: list[object] = []
    for _ in range(62):
        deepest = [deepest]
    assert json_text({"value": json.loads(result_text(deepest, is_inner=True) or "")}, "result")
    cut = json.loads(result_text([deepest], is_inner=True) or "")
    assert json_text({"value": cut}, "result")
    assert json.loads(result_text([deepest]) or "") == [deepest]
    assert result_text(None, is_inner=True) is None
