"""The way by columns says what the way by rows says, or gives up."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobstore.language import fields as values
from jobstore.language.errors import InvalidRecord
from jobstore.language.models import EXECUTION_FIELDS, Status
from jobstore.language.records import Execution, execution_from_document
from jobstore.transfer import columns

RUN: dict[str, Any] = {"job_name": "a", "status": "SUCCESS", "started_at": "2026-01-15T08:00:00Z"}
WHOLE: dict[str, Any] = {
    **dict.fromkeys(EXECUTION_FIELDS), **RUN, "id": "7", "job_id": "3", "created_at": "2026-01-15T07:59:59.000001Z",
    "completed_at": "2026-01-15T08:00:01Z", "duration_ms": 1000, "result": {"a": [1]}, "error": "x", "trace_id": "t",
    "worker_id": "w", "parameters_snapshot": {"b": None},
}  # fmt: skip


def rows_of(documents: list[Any]) -> list[Execution] | None:
    """What the way by columns found, as rows of the other way; none where it gave up."""
    found = columns.execution_columns(documents)
    if found is None:
        return None
    job_numbers = [None if job_id is None else values.checked_number(job_id, "job_id") for job_id in found.job_ids]
    workers = [values.checked_label(worker, "worker_id") for worker in found.workers]
    checked: list[Any] = [found.ids or [None] * len(documents), job_numbers, *found[2:]]
    checked[Execution._fields.index("worker")] = workers
    return [Execution(*row) for row in zip(*checked, strict=True)]


@pytest.mark.parametrize(
    "documents",
    [
        [RUN],
        [WHOLE],
        [{**WHOLE, "id": 1, "job_id": 2}, {**WHOLE, "id": 5, "job_id": "2", "job_name": None}],
        [
            {"job_name": "a", "status": "PENDING", "created_at": "2026-01-15T08:00:00Z"},
            {**RUN, "status": Status.TIMEOUT},
        ],
        [
            {**RUN, "started_at": datetime(2026, 1, 15, 8, tzinfo=UTC)},
            {**RUN, "started_at": "2026-01-15T08:00:00+08:00"},
        ],
        [
            {
                **RUN,
                "error": "界",
                "trace_id": "轨迹",
                "worker_id": "工",
                "result": {"b": ["界", None]},
                "duration_ms": -5,
            }
        ],
        [{**RUN, "error": "x" * 65536, "trace_id": "x" * 512, "duration_ms": values.LARGEST_DURATION_MS}],
    ],
)
def test_plain_documents_are_read_by_column(documents):
    assert rows_of(documents) == [execution_from_document(document) for document in documents]


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "ok"}, {"status": None}, {"id": "x"}, {"id": "07"}, {"id": "+7"}, {"id": "７"}, {"id": 0}, {"id": True},
        {"id": "0"}, {"id": 2**62 + 1}, {"id": None}, {"job_id": True}, {"job_id": 1.0}, {"job_name": 1},
        {"duration_ms": 1.5}, {"duration_ms": True}, {"duration_ms": 2**42}, {"duration_ms": -(2**42)},
        {"worker_id": 5}, {"worker_id": ["w"]}, {"trace_id": "\ud800"}, {"trace_id": ""}, {"trace_id": "a\0"},
        {"trace_id": "x" * 513}, {"error": 5}, {"error": "x" * 65537}, {"error": "界" * 21846}, {"error": "\ud800"},
        {"result": float("nan")}, {"result": [float("inf"), None]}, {"parameters_snapshot": {"a": object()}},
        {"started_at": "2026-01"}, {"started_at": None, "created_at": None}, {"completed_at": 5}, {"jobname": 5},
    ],
)  # fmt: skip
def test_what_is_not_plain_or_breaks_a_rule_is_left_to_the_other_way(odd):
    assert columns.execution_columns([WHOLE, {**WHOLE, **odd}, WHOLE]) is None


@pytest.mark.parametrize("document", ["x", None, [RUN], type("Own", (dict,), {})(RUN)])
def test_what_is_no_dict_is_left_to_the_other_way(document):
    assert columns.execution_columns([RUN, document]) is None


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
words = st.none() | st.text(min_size=1, max_size=5)
numbers = st.integers(-1, 5) | st.integers(0, 5).map(str)
moments = st.sampled_from(["2026-01-15T08:00:00Z", "2026-01-15 08:00:00.5+01:00", datetime(2026, 1, 15, tzinfo=UTC)])
trees = st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=3)
fields: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(EXECUTION_FIELDS, words | scalars),
    **dict.fromkeys(("id", "job_id"), numbers),
    **dict.fromkeys(("started_at", "completed_at", "created_at"), moments),
    **dict.fromkeys(("result", "parameters_snapshot"), trees),
    "status": st.sampled_from(Status) | st.sampled_from(Status).map(str),
    "duration_ms": st.integers(0, 9),
}
one_document = st.fixed_dictionaries({}, optional=fields).map(lambda given: {**RUN, **given})
some_documents = st.lists(one_document, min_size=1, max_size=3)


@given(some_documents)
def test_what_is_read_by_column_is_what_is_read_by_row(documents):
    with suppress(InvalidRecord):  # the loader checks numbers of jobs and workers, each once
        found = rows_of(documents)
        if found is not None:
            assert found == [execution_from_document(document) for document in documents]
