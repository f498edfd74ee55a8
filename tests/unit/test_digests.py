"""Digests: what is packed comes out again, codes keep the order of their keys, slots are found by their rank."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstore.engine import digests
from jobstore.engine.digests import CHUNK, Hours, Row, TraceScale
from jobstore.engine.planes import LANE, slots_between
from jobstore.language.instants import MAX_US, MIN_US

DURATIONS = st.none() | st.integers(-(2**42) + 1, 2**42 - 1)
TEXTS = st.text(alphabet=st.sampled_from("0189afgAZ-é键\U0001f680"), min_size=1, max_size=12)
ROWS = st.lists(
    st.builds(
        Row,
        id=st.integers(CHUNK, 2 * CHUNK - 1),
        name_id=st.integers(1, 2**32 - 1),
        status=st.integers(0, 4),
        effective_us=st.integers(MIN_US, MAX_US),
        worker_id=st.none() | st.integers(1, 2**32 - 1),
        duration_ms=DURATIONS,
        trace_id=st.none() | TEXTS,
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row.id,
)
HEX = TraceScale("", "0123456789abcdef")


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_what_is_packed_comes_out_again(rows: list[Row]) -> None:
    code = HEX.coder()
    packed = digests.digest(rows, code)
    assert digests.unpack_about(packed[digests.ABOUT]) == digests.about(rows)
    assert digests.unpack_slots(packed[digests.NAMES]) == digests.names(rows)
    assert digests.unpack_slots(packed[digests.HOURS]) == digests.hours(rows)
    assert digests.unpack_slots(packed[digests.WORKERS]) == digests.workers(rows)
    assert digests.unpack_statuses(packed[digests.STATUSES]) == digests.statuses(rows)
    assert digests.unpack_sliced(packed[digests.DURATIONS]) == digests.durations(rows)
    assert digests.unpack_sliced(packed[digests.TRACES]) == digests.traces(rows, code)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_planes_say_what_the_rows_say(rows: list[Row]) -> None:
    statuses, durations = digests.statuses(rows), digests.durations(rows)
    for row in rows:
        bit = 1 << digests.slot_of(row.id)
        assert [bool(plane & bit) for plane in statuses] == [status == row.status for status in range(5)]
        assert bool(durations.present & bit) == (row.duration_ms is not None)
        if row.duration_ms is not None:
            code = sum(1 << number for number, plane in durations.planes.items() if plane & bit)
            assert code == row.duration_ms + digests.DURATION_BIAS
    assert sum(plane.bit_count() for plane in statuses) == len(rows)


@given(st.lists(TEXTS, max_size=6), st.lists(TEXTS, min_size=2, max_size=12))
def test_codes_of_traces_are_in_the_order_of_the_traces_whatever_the_scale_was_made_of(
    known: list[str], later: list[str]
) -> None:
    code = digests.trace_scale(min(known, default=None), max(known, default=None), known).coder()
    ordered = sorted(later)
    codes = [code(trace_id) for trace_id in ordered]
    assert codes == sorted(codes, key=lambda value: -1 if value is None else value)
    assert None not in codes
    assert code(None) is None


def test_a_scale_tells_what_its_digits_tell_beyond_the_common_prefix() -> None:
    scale = digests.trace_scale("run-00", "run-ff", ["run-00", "run-a7", "run-ff", None])
    assert scale == TraceScale("run-", "07af")
    code = scale.coder()
    assert code("run-07") < code("run-0a") < code("run-70")  # type: ignore[operator]
    assert code("run-3") == code("run-7")  # no digit of the scale: counts as the next one
    assert code("a") == 0
    assert code("z") > code("run-ff")  # type: ignore[operator]


@settings(deadline=None)
@given(st.sets(st.integers(0, LANE - 1), min_size=1, max_size=80), st.data())
def test_slots_are_found_by_their_rank(slots: set[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(slots) - 1))
    last = data.draw(st.integers(first + 1, len(slots)))
    assert slots_between(digests.plane_of_slots(slots), first, last) == sorted(slots)[first:last]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, CHUNK - 1), st.integers(1, 3_000), min_size=1, max_size=20), st.data())
def test_hours_are_told_also_after_they_moved_far_apart(hours: dict[int, int], data: st.DataObject) -> None:
    numbers = digests.slots([], lambda row: row.id)
    for slot, hour in hours.items():
        numbers[slot] = hour
    kept = Hours(numbers)
    for slot, hour in data.draw(st.dictionaries(st.sampled_from(sorted(hours)), st.integers(1, 90_000_000))).items():
        kept.put(slot, hour)
        hours[slot] = hour
    first, last = data.draw(st.integers(1, 3_000)), data.draw(st.integers(1, 90_000_000))
    assert kept.between(first, last) == digests.plane_of_slots(s for s, hour in hours.items() if first <= hour <= last)


@pytest.mark.parametrize(
    ("unpack", "data"),
    [
        (digests.unpack_about, b"short"),
        (digests.unpack_slots, b"not zlib"),
        (digests.unpack_slots, b"x\x9c\x03\x00\x00\x00\x00\x01"),
        (digests.unpack_statuses, b""),
        (digests.unpack_sliced, b"\xff" * 15),
        (digests.unpack_sliced, b"\xff" * 16),
    ],
)
def test_a_blob_that_is_no_digest_is_a_value_error(unpack: object, data: bytes) -> None:
    with pytest.raises(ValueError, match="digest"):
        unpack(data)  # type: ignore[operator]
