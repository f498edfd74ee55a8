"""The OpenAPI document: complete, valid, and made of the same tables as the app."""

import json
import re
from datetime import date, timedelta
from typing import Any

import falcon.inspect
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from jobstore.http import openapi
from jobstore.http.routes import DOCUMENT, HEALTH, METRICS, ROUTES
from jobstore.language import errors, examples
from jobstore.language.models import EXECUTION_FIELDS, JOB_FIELDS
from jobstore.language.parameters import GET_JOB_EXECUTIONS
from jobstore.wsgi import create_app

Json = dict[str, Any]
RAISED_BY_WRITING = {"CONFLICT", "INVALID_RECORD", "INVALID_SCHEDULE"}


@pytest.fixture(scope="module")
def document():
    return openapi.document()


def operations(document: Json) -> Json:
    return {path: item["get"] for path, item in document["paths"].items()}


def test_a_validator_accepts_it(document):
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_it_is_plain_json(document):
    assert json.loads(json.dumps(document)) == document


def test_every_route_of_the_app_is_in_it(document, tmp_path):
    app = create_app(tmp_path / "none.db", open_access=True)
    assert set(document["paths"]) == {route.path.rstrip("/") for route in falcon.inspect.inspect_routes(app)}


def test_every_parameter_of_every_route_is_in_it_in_the_tables_order(document):
    for route in ROUTES:
        told = operations(document)[route.template]["parameters"]
        assert [each["name"] for each in told] == [each.name for each in route.operation.parameters]
        for each, parameter in zip(told, route.operation.parameters, strict=True):
            assert each["in"] == ("path" if f"{{{parameter.name}}}" in route.template else "query")
            assert each["required"] is parameter.required
            assert each["schema"].get("default") == parameter.default
            assert each["description"] == parameter.description


def test_every_error_code_that_an_answer_may_carry_is_in_it(document):
    def codes(error: type[errors.JobStoreError] = errors.JobStoreError) -> set[str]:
        return {error.code}.union(*(codes(child) for child in error.__subclasses__()))

    told = document["components"]["schemas"]["Fault"]["properties"]["code"]["enum"]
    assert set(told) == codes() - RAISED_BY_WRITING
    assert told == sorted(told)


def test_every_status_that_an_error_may_have_is_a_response_with_the_envelope(document):
    responses = document["components"]["responses"]
    told = {name: getattr(errors, name) for name in responses}
    assert {each.http_status for each in told.values()} == {400, 401, 403, 404, 405, 413, 500, 503}
    for name, response in responses.items():
        content = response["content"]["application/json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Error"}
        assert content["example"]["error"]["code"] == told[name].code
        assert "X-Request-Id" in response["headers"]
    assert "WWW-Authenticate" in responses["Unauthorized"]["headers"]
    assert "Allow" in responses["MethodNotAllowed"]["headers"]
    assert "Retry-After" in responses["StoreError"]["headers"]


def test_every_operation_names_the_statuses_it_may_answer(document):
    for path, operation in operations(document).items():
        statuses = set(operation["responses"])
        if path in {HEALTH, DOCUMENT}:
            assert operation["security"] == []
            assert statuses >= {"200", "304", "500"}
        elif path == METRICS:
            assert statuses == {"200", "304", "401", "403", "500", "503"}
        else:
            assert statuses >= {"200", "304", "400", "401", "403", "413", "500", "503"}
            assert ("404" in statuses) == any(
                each["name"] in {"job_id", "execution_id"} for each in operation["parameters"]
            )
        for status, response in operation["responses"].items():
            if status not in {"200", "304"}:
                name = response["$ref"].rpartition("/")[2]
                assert getattr(errors, name).http_status == int(status)


def test_operations_have_the_names_of_the_queries(document):
    names = [each["operationId"] for each in operations(document).values()]
    assert len(set(names)) == len(names)
    assert {route.operation.name for route in ROUTES} <= set(names)


def test_it_needs_a_bearer_token_by_default(document):
    assert document["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_nothing_in_components_is_unused(document):
    used = set(re.findall(r"#/components/(\w+/[\w-]+)", json.dumps(document)))
    told = {f"{kind}/{name}" for kind in ("headers", "responses", "schemas") for name in document["components"][kind]}
    assert told - used == {"responses/MethodNotAllowed", "headers/Allow"} - used


def test_the_schemas_have_the_seeds_fields_all_required_and_described(document):
    for name, fields in (("Job", JOB_FIELDS), ("Execution", EXECUTION_FIELDS)):
        schema = document["components"]["schemas"][name]
        assert tuple(schema["properties"]) == fields
        assert tuple(schema["required"]) == fields
        assert all(each.get("description") for each in schema["properties"].values())
        assert ">>>" not in schema["description"]


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("Job", examples.JOB),
        ("JobPage", examples.JOB_PAGE),
        ("Execution", examples.EXECUTION),
        ("ExecutionPage", examples.EXECUTION_PAGE),
        ("Stats", examples.STATS),
        ("JobStatePage", examples.JOB_STATE_PAGE),
        ("Histogram", examples.HISTOGRAM),
    ],
)
def test_the_seeds_examples_stand_in_it_and_fit_their_schemas(document, name, example):
    schema = document["components"]["schemas"][name]
    assert schema["examples"] == [example]
    assert json.dumps(schema["examples"][0]) == json.dumps(example), "the order is the seed's"
    assert valid({**schema, "components": document["components"]}, example)


def valid(schema: Json, value: object) -> bool:
    return jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(value)


def test_every_parameters_example_is_accepted(document):
    for route in ROUTES:
        for each in operations(document)[route.template]["parameters"]:
            text = ",".join(each["example"]) if isinstance(each["example"], list) else str(each["example"])
            text = text.lower() if isinstance(each["example"], bool) else text
            pairs = {**dict.fromkeys(route.path_parameters, "1"), each["name"]: text}
            route.operation.from_text(pairs.items())
            assert valid({**each["schema"], "components": document["components"]}, each["example"])


def test_where_it_is_mounted_is_the_server(document):
    assert document["servers"] == [{"url": "/"}]
    assert openapi.document("/ops")["servers"] == [{"url": "/ops"}]


def test_each_document_is_its_callers_own():
    first = openapi.document()
    first["paths"].clear()
    first["components"]["headers"].clear()
    first["components"]["schemas"]["Job"].clear()
    assert openapi.document()["paths"]
    assert openapi.document()["components"]["headers"]
    assert openapi.document()["components"]["schemas"]["Job"]


# The pattern of times

DAYS = [date(1, 1, 1) + timedelta(days=7 * number) for number in range(0, 521_000, 13)]
CLOCKS = [
    "",
    "T00:00",
    " 23:59:59",
    "T12:30:00.5Z",
    "T12:30:00.123456789",
    "T08:00+08:00",
    "T08:00:00-11:59",
    "T00:00 05:30",
]


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_pattern_takes_every_time_that_the_parameters_take(clock):
    assert all(re.search(openapi.INSTANT_PATTERN, f"{day}{clock}") for day in DAYS)
    assert is_taken(f"2024-02-29{clock}")


def is_taken(text: str) -> bool:
    try:
        GET_JOB_EXECUTIONS.from_text([("job_id", "1"), ("after", text)])
    except errors.InvalidParameter:
        return False
    return True


@given(st.from_regex(openapi.INSTANT_PATTERN, fullmatch=True))
def test_the_parameters_take_every_time_that_the_pattern_takes(text):
    assert is_taken(text) or text[:4] in {"0001", "9999"}


DIGITS = [f"{number:02d}" for number in (0, 1, 2, 4, 11, 12, 13, 23, 24, 28, 29, 30, 31, 32, 59, 60, 99)]
NEAR_TIMES = st.builds(
    "{}-{}-{}{}{}:{}{}{}".format,
    st.sampled_from(["0000", "0004", "1900", "2000", "2023", "2024", "2100", "400", "20260"]),
    *[st.sampled_from(DIGITS)] * 2,
    st.sampled_from("T t_"),
    *[st.sampled_from(DIGITS)] * 2,
    st.sampled_from(["", ":00", ":59", ":60", ":00.", ":00.1", ":00.1234567890"]),
    st.sampled_from(["", "Z", "z", "+00:00", "-23:59", "+24:00", "+01", "+0100", "+01:60", " 01:00"]),
)


@given(NEAR_TIMES)
def test_pattern_and_parameters_agree_on_what_is_nearly_a_time(text):
    assert bool(re.search(openapi.INSTANT_PATTERN, text)) == is_taken(text)


@pytest.mark.parametrize(
    "text", ["", "now", "20260101", "2026-W01-1", "1767225600", "2026-01-01T", "2026-1-1", "２０２６-01-01"]
)
def test_neither_takes_what_is_no_time(text):
    assert not re.search(openapi.INSTANT_PATTERN, text)
    assert not is_taken(text)


def test_the_document_of_an_open_server_asks_for_no_token():
    made = openapi.document(is_open=True)
    text = json.dumps(made)
    assert not [word for word in ("bearer", "401", "403", "Permission", "Unauthorized", "WWW-Auth") if word in text]
    validate(made)


def test_numbers_and_patterns_are_what_generators_take(document):
    text = json.dumps(document)
    assert all(int(number) <= 2**53 for number in re.findall(r"(?<![.\d])\d{9,}", text))
    assert not re.search(r"\(\?[=!<]", text)
