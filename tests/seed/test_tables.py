"""Every row of the document's tables, at every place that repeats it."""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Any

import pytest

import jobstore
from jobstore.http import openapi
from jobstore.language.parameters import OPERATIONS, Kind
from jobstore.queries import Queries
from tests.seed import api
from tests.wsgi import ask

ROWS = [(endpoint, row) for endpoint in api.ENDPOINTS for row in endpoint.requests]
ROW_IDS = [
    f"{endpoint.operation}: {row.name} is {'a required' if row.required else 'an optional'} {row.type}"
    for endpoint, row in ROWS
]
KINDS = {
    "string": {Kind.TERM, Kind.CHOICE, Kind.JOB_REF},
    "int": {Kind.INTEGER},
    "bool": {Kind.FLAG},
    "datetime": {Kind.INSTANT},
}
SCHEMA_TYPES = {"string": "string", "int": "integer", "bool": "boolean", "datetime": "string", "object": None}
TEXT_OF = {"true": True, "false": False, "50": 50, "0": 0}


def default_of(row: api.Request) -> object:
    return None if row.default == api.NONE else TEXT_OF.get(row.default, row.default)


@pytest.mark.parametrize(("endpoint", "row"), ROWS, ids=ROW_IDS)
def test_a_parameter_has_its_type_need_and_default(endpoint: api.Endpoint, row: api.Request) -> None:
    parameter = next(p for p in OPERATIONS[endpoint.operation].parameters if p.name == row.name)
    assert parameter.kind in KINDS[row.type]
    assert (parameter.required, parameter.default) == (row.required, default_of(row))


@pytest.mark.parametrize(("endpoint", "row"), ROWS, ids=ROW_IDS)
def test_python_takes_the_parameter_by_its_name_with_its_default(endpoint: api.Endpoint, row: api.Request) -> None:
    keyword = inspect.signature(getattr(Queries, endpoint.operation)).parameters[row.name]
    assert keyword.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert keyword.default is (inspect.Parameter.empty if row.required else default_of(row))


@pytest.mark.parametrize(("endpoint", "row"), ROWS, ids=ROW_IDS)
def test_the_openapi_document_has_the_parameter(endpoint: api.Endpoint, row: api.Request) -> None:
    described: Any = openapi.document()["paths"][endpoint.path]["get"]["parameters"]
    (parameter,) = [p for p in described if p["name"] == row.name]
    assert (parameter["in"], parameter["required"]) == (row.place, row.required)
    assert parameter["schema"]["type"] == SCHEMA_TYPES[row.type]
    assert parameter["schema"].get("default") == default_of(row)


@pytest.mark.parametrize("endpoint", api.ENDPOINTS, ids=lambda endpoint: endpoint.operation)
def test_the_parameters_come_in_the_documents_order(endpoint: api.Endpoint) -> None:
    ours = [p.name for p in OPERATIONS[endpoint.operation].parameters]
    assert ours[: len(endpoint.requests)] == [row.name for row in endpoint.requests]


@pytest.mark.parametrize("endpoint", api.ENDPOINTS, ids=lambda endpoint: f"GET {endpoint.path}")
def test_the_endpoint_answers_get(app: Any, endpoint: api.Endpoint) -> None:
    assert ask(app, endpoint.path.format(job_id="1"), token="YOUR_TOKEN").status == 200


@pytest.mark.parametrize("endpoint", api.ENDPOINTS, ids=lambda endpoint: f"{endpoint.path} needs {endpoint.permission}")
def test_the_endpoint_needs_its_permission(app: Any, endpoint: api.Endpoint) -> None:
    path = endpoint.path.format(job_id="1")
    without, bare = ask(app, path, token="NO_PERMISSION"), ask(app, path, token=None)
    assert (without.status, bare.status) == (403, 401)
    assert endpoint.permission in without.json["error"]["message"]


@pytest.mark.parametrize("operation", ["list_jobs", "list_job_executions", "get_job_executions"])
@pytest.mark.parametrize(("limit", "is_good"), [(0, False), (1, True), (1000, True), (1001, False)])
def test_limit_ranges_from_1_to_1000(datahub: jobstore.JobStore, operation: str, limit: int, is_good: bool) -> None:
    job = {"job_id": "1"} if operation == "get_job_executions" else {}
    if is_good:
        assert getattr(datahub, operation)(**job, limit=limit)["pagination"]["page_size"] == limit
    else:
        with pytest.raises(jobstore.InvalidParameter, match="limit must be an integer from 1 to 1000"):
            getattr(datahub, operation)(**job, limit=limit)


def is_a(kind: str, value: object) -> bool:
    if kind == "datetime":
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() is not None
    types = {"string": str, "int": int, "bool": bool, "object": dict}
    return type(value) is types[kind]


def test_a_job_has_the_documents_fields_in_its_order(datahub: jobstore.JobStore) -> None:
    for job in datahub.list_jobs()["data"]:
        assert list(job) == list(api.JOB_FIELDS)


def test_an_execution_has_the_documents_fields_in_its_order(datahub: jobstore.JobStore) -> None:
    for execution in datahub.list_job_executions()["data"]:
        assert list(execution) == list(api.EXECUTION_FIELDS)


@pytest.mark.parametrize(("field", "kind"), api.JOB_FIELDS.items(), ids=lambda word: f"{word}")
def test_a_field_of_a_job_has_its_type_or_is_null(whole: jobstore.JobStore, field: str, kind: str) -> None:
    values = [job[field] for job in whole.list_jobs()["data"]]  # type: ignore[literal-required]
    assert all(value is None or is_a(kind, value) for value in values)
    assert any(value is not None for value in values)


@pytest.mark.parametrize(("field", "kind"), api.EXECUTION_FIELDS.items(), ids=lambda word: f"{word}")
def test_a_field_of_an_execution_has_its_type_or_is_null(whole: jobstore.JobStore, field: str, kind: str) -> None:
    values = [run[field] for run in whole.list_job_executions()["data"]]  # type: ignore[literal-required]
    assert all(value is None or is_a(kind, value) for value in values)
    assert any(value is not None for value in values)


@pytest.mark.parametrize(
    ("schema", "field", "kind"),
    [("Job", *row) for row in api.JOB_FIELDS.items()] + [("Execution", *row) for row in api.EXECUTION_FIELDS.items()],
    ids=lambda word: f"{word}",
)
def test_the_openapi_document_describes_the_field(schema: str, field: str, kind: str) -> None:
    schemas: Any = openapi.document()["components"]["schemas"]
    described = schemas[schema]["properties"][field]
    choices = described.get("anyOf", [described])
    named = [schemas[choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice for choice in choices]
    assert field in schemas[schema]["required"]
    if kind != "object":
        assert SCHEMA_TYPES[kind] in [choice.get("type") for choice in named]
    if kind == "datetime":
        assert "date-time" in [choice.get("format") for choice in named]


def test_the_id_of_a_job_is_its_name(whole: jobstore.JobStore) -> None:
    assert all(job["id"] == job["name"] for job in whole.list_jobs()["data"])


@pytest.mark.parametrize("job_type", api.JOB_TYPES)
def test_a_job_may_have_the_type(whole: jobstore.JobStore, job_type: str) -> None:
    page = whole.list_jobs(job_type=job_type)
    assert {job["job_type"] for job in page["data"]} == {job_type}


@pytest.mark.parametrize("job_category", api.JOB_CATEGORIES)
def test_a_job_may_have_the_category(whole: jobstore.JobStore, job_category: str) -> None:
    page = whole.list_jobs(job_category=job_category)
    assert {job["job_category"] for job in page["data"]} == {job_category}


def test_a_cron_job_has_an_expression_and_an_interval_job_has_seconds(whole: jobstore.JobStore) -> None:
    jobs = whole.list_jobs()["data"]
    assert {job["schedule_type"] for job in jobs} == set(api.SCHEDULE_TYPES)
    for job in jobs:
        assert (job["schedule"] is None) == (job["schedule_type"] != "cron")
        assert (job["interval_seconds"] is None) == (job["schedule_type"] != "interval")


def test_the_statuses_are_the_documents() -> None:
    assert [status.value for status in jobstore.Status] == list(api.STATUSES)


@pytest.mark.parametrize(("status", "words"), api.STATUSES.items(), ids=list(api.STATUSES))
def test_a_status_is_found_by_its_name_and_by_its_words(tmp_path: Any, status: str, words: str) -> None:
    at = "2026-01-15T08:00:00Z"
    runs = [{"job_name": "gone", "status": each, "created_at": at, "started_at": at} for each in api.STATUSES]
    jobstore.load(tmp_path / "jobs.db", {"executions": runs})
    with jobstore.open(tmp_path / "jobs.db") as store:
        for term in (status, status.lower(), words):
            assert [run["status"] for run in store.list_job_executions(search=term)["data"]] == [status]
