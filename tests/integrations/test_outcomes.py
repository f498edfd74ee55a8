"""Results and errors of anybody's callables, bounded and always JSON."""

from __future__ import annotations

import json
from collections import UserDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobstore.integrations.outcomes import RESULT_BYTES, error_text, kept_result, traceback_result
from jobstore.language.fields import json_text

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Point:
    x: int


class Rude:
    def __repr__(self):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")


class RudeError(Exception):
    __str__ = Rude.__str__
    __repr__ = Rude.__repr__


class RudeDict(dict[str, int]):
    def items(self):
        raise RuntimeError("no")


DEEP: list[object] = []
for _ in range(100):
    DEEP = [DEEP]
CIRCULAR: list[object] = []
CIRCULAR.append(CIRCULAR)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        ({"processed": 500, "of": [1, 2.5, None, True, "每"]}, {"processed": 500, "of": [1, 2.5, None, True, "每"]}),
        (3, {"value": 3}),
        ("done", {"value": "done"}),
        ([1, 2], {"value": [1, 2]}),
        ((1, 2), {"value": [1, 2]}),
        (True, {"value": True}),
        (b"\xff", {"value": "\\xff"}),
        (Point(1), {"x": 1}),
        (datetime(2026, 1, 15, tzinfo=UTC), {"value": "2026-01-15T00:00:00+00:00"}),
        ({1: 2}, {"1": 2}),
        (float("nan"), {"value": None}),
        ({"mean": float("nan"), "n": 3}, {"mean": None, "n": 3}),
        (2**70, {"value": str(2**70)}),
        ("half \ud800", {"value": "half \\ud800"}),
        (Rude(), {"value": "<Rude>"}),
        (UserDict(a=1), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_result_is_a_json_object_or_null(value, kept):
    assert kept_result(value) == kept


def test_a_result_is_a_copy():
    value = {"list": [1]}
    kept = kept_result(value)
    value["list"].append(2)
    assert kept == {"list": [1]}


def test_a_large_result_is_cut_and_says_how_large_it_was():
    kept = kept_result({"rows": "x" * RESULT_BYTES})
    assert kept["bytes"] == RESULT_BYTES + len('{"rows":""}')
    assert kept["cut"].startswith('{"rows":"xxx')
    assert len(kept["cut"]) == 1000
    assert kept_result("x" * 70_000)["bytes"] == 70_002
    for value in (CIRCULAR, DEEP, (object() for _ in range(3))):
        assert len(str(kept_result(value))) < 1000


def test_a_mapping_that_raises_is_no_more_than_its_text():
    assert kept_result(RudeDict(a=1)) in ({"a": 1}, {"value": "{'a': 1}"})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists))
def test_whatever_a_callable_returns_can_be_written(value):
    json_text(kept_result(value), "result")


def test_an_error_is_its_type_and_message():
    assert error_text(ValueError("no such pair")) == "ValueError: no such pair"
    assert error_text(ValueError()) == "ValueError"
    assert error_text(SystemExit(3)) == "SystemExit: 3"
    assert error_text(RudeError()) == "RudeError: (its message cannot be shown)"
    assert error_text(ValueError("\ud800")) == "ValueError: \\ud800"
    assert len(error_text(ValueError("x" * 5000))) == 2000


def deep(level: int) -> None:
    if level == 0:
        raise ValueError("at the bottom")
    deep(level - 1)


def raised(call: Callable[..., object], *arguments: object) -> BaseException:
    try:
        call(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_traceback_keeps_its_end_and_leaves_the_outermost_frames_out():
    kept = traceback_result(raised(deep, 100))["traceback"]
    assert kept.endswith("ValueError: at the bottom\n")
    assert len(kept) <= 4000
    error = raised(deep, 1)
    assert "in raised" in traceback_result(error)["traceback"]
    assert "in raised" not in traceback_result(error, skipped_frames=1)["traceback"]
    assert "in deep" in traceback_result(error, skipped_frames=1)["traceback"]


def rude():
    raise RudeError


def test_the_traceback_of_an_exception_that_cannot_be_told_is_its_type():
    kept = traceback_result(raised(rude))
    assert "RudeError" in kept["traceback"]
    json.dumps(kept)


class Final(Exception):
    def __str__(self):
        raise SystemExit(9)

    __repr__ = __str__


def test_a_text_that_ends_the_program_ends_it_not_before_the_record():
    assert kept_result([Final()]) == {"value": "<list>"}
    assert error_text(Final()) == "Final: (its message cannot be shown)"
    assert "traceback" in traceback_result(Final())
