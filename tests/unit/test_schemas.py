"""The models for those who want datetimes and enums."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

import jobstore
from jobstore.language import examples
from jobstore.language.models import EXECUTION_FIELDS, JOB_FIELDS, ScheduleType, Status


def test_a_document_becomes_datetimes_and_enums():
    job = jobstore.Job.model_validate(examples.JOB)
    assert job.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert job.schedule_type is ScheduleType.CRON
    execution = jobstore.Execution.model_validate(examples.EXECUTION)
    assert execution.status is Status.SUCCESS
    assert execution.completed_at
    assert execution.started_at
    assert (execution.completed_at - execution.started_at).seconds == 150


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-01-15T08:00:00.000001Z"])
def test_a_model_dumped_as_json_is_the_document_again(text):
    document = {
        **examples.EXECUTION,
        "started_at": text,
        "completed_at": None,
        "result": [1, {"a": None}],
        "error": "错误",
    }
    assert jobstore.Execution.model_validate(document).model_dump(mode="json") == document


def test_the_fields_come_in_the_seeds_order():
    assert tuple(jobstore.Job.model_fields) == JOB_FIELDS
    assert tuple(jobstore.Execution.model_fields) == EXECUTION_FIELDS


def test_an_older_client_reads_a_newer_server():
    assert jobstore.Job.model_validate({**examples.JOB, "owner": "ops"}).name == "sync_klines_1h"


@pytest.mark.parametrize("field", EXECUTION_FIELDS)
def test_no_field_may_be_missing(field):
    with pytest.raises(ValidationError, match=field):
        jobstore.Execution.model_validate({name: value for name, value in examples.EXECUTION.items() if name != field})


@pytest.mark.parametrize(
    "change",
    [{"status": "DONE"}, {"started_at": "yesterday"}, {"started_at": "2026-01-15T08:00:00"}, {"duration_ms": "long"}],
)
def test_what_is_no_document_is_refused(change):
    with pytest.raises(ValidationError):
        jobstore.Execution.model_validate({**examples.EXECUTION, **change})


def test_a_model_is_never_changed():
    job = jobstore.Job.model_validate(examples.JOB)
    with pytest.raises(ValidationError, match="frozen"):
        job.name = "other"
