"""Names and defaults, what a door makes of text and JSON, the tables and their schemas."""

from typing import cast

import jsonschema  # type: ignore[import-untyped]
import pytest

from jobstore.language import parameters as params
from jobstore.language.errors import InvalidParameter
from jobstore.language.parameters import (
    GET_JOB,
    GET_JOB_EXECUTIONS,
    LIST_JOB_EXECUTIONS,
    LIST_JOBS,
    OPERATIONS,
    ExecutionsQuery,
    JobsQuery,
    Kind,
    Parameter,
    StatsQuery,
    executions_query,
    from_json,
    from_text,
    jobs_query,
    stats_query,
)

LARGEST = 2**63 - 1
EVERY_PARAMETER = [(operation, parameter) for operation in OPERATIONS.values() for parameter in operation.parameters]


DOORS = pytest.mark.parametrize(
    "door", [lambda operation, values: from_text(operation, values.items()), from_json], ids=["text", "json"]
)


# Defaults


def test_jobs_have_the_defaults_of_the_seed():
    assert jobs_query({}) == JobsQuery(
        needle="",
        limit=50,
        offset=0,
        order_by="name",
        order_desc=False,
        job_type=None,
        job_category=None,
        enabled=None,
    )


def test_executions_have_the_defaults_of_the_seed():
    assert executions_query({}) == ExecutionsQuery(
        needle="",
        meant=frozenset(),
        limit=50,
        offset=0,
        order_by="started_at",
        order_desc=True,
        after_us=None,
        before_us=None,
        statuses=None,
        trace_id=None,
    )


def test_stats_have_no_window_by_default_and_leave_the_job_alone():
    assert stats_query({"job_id": 5}) == StatsQuery(None, None)


def test_a_default_that_is_given_is_the_same_as_none_given():
    given = {parameter.name: parameter.default for parameter in LIST_JOB_EXECUTIONS.parameters}
    assert executions_query(given) == executions_query({})


@pytest.mark.parametrize(
    ("name", "impostor"),
    [("limit", 50.0), ("offset", False), ("offset", 0.0), ("order_desc", 0), ("order_by", None), ("limit", None)],
)
def test_what_merely_equals_a_default_is_still_checked(name, impostor):
    with pytest.raises(InvalidParameter, match=rf"^{name} must be"):
        jobs_query({name: impostor})


# Names of parameters


@pytest.mark.parametrize(
    ("operation", "name", "message"),
    [
        (
            LIST_JOBS,
            "limt",
            "Unknown parameter 'limt'; did you mean 'limit'? Allowed: search, limit, offset, order_by, order_desc, ",
        ),
        (LIST_JOB_EXECUTIONS, "Order-By", "Unknown parameter 'Order-By'; did you mean 'order_by'? Allowed: "),
        (LIST_JOBS, "jobType", "Unknown parameter 'jobType'; did you mean 'job_type'? Allowed: "),
        (LIST_JOBS, "LIMIT", "Unknown parameter 'LIMIT'; did you mean 'limit'? Allowed: "),
        (GET_JOB, "zzz", "Unknown parameter 'zzz'. Allowed: job_id"),
        (LIST_JOBS, "", "Unknown parameter ''. Allowed: "),
        (LIST_JOBS, "q" * 500, f"Unknown parameter '{'q' * 78}…. Allowed: "),
        (LIST_JOBS, "status", "Unknown parameter 'status'. Allowed: "),
        (LIST_JOB_EXECUTIONS, "job_id", "Unknown parameter 'job_id'. Allowed: "),
    ],
)
@DOORS
def test_an_unknown_parameter_is_refused_with_what_was_meant(door, operation, name, message):
    with pytest.raises(InvalidParameter) as refused:
        door(operation, {name: "5"})
    assert str(refused.value).startswith(message)


def test_a_name_that_is_no_text_is_unknown():
    values: dict[object, object] = {5: 5}
    with pytest.raises(InvalidParameter, match=r"^Unknown parameter 5\. Allowed: search"):
        from_json(LIST_JOBS, cast("dict[str, object]", values))


@pytest.mark.parametrize("pairs", [[("limit", "5"), ("limit", "5")], [("search", ""), ("limit", "5"), ("search", "")]])
def test_a_parameter_given_twice_is_refused_even_when_it_says_the_same(pairs):
    with pytest.raises(InvalidParameter, match=r"^Parameter (limit|search) was given twice; give it once$"):
        from_text(LIST_JOBS, pairs)


@pytest.mark.parametrize("operation", [GET_JOB, GET_JOB_EXECUTIONS])
@DOORS
def test_a_required_parameter_must_be_there(door, operation):
    with pytest.raises(InvalidParameter, match=r"^job_id is required; give job_id=sync_klines_1h$"):
        door(operation, {})


@pytest.mark.parametrize("values", [None, [], "limit", 5, [("limit", 5)]])
def test_parameters_in_json_are_an_object(values):
    with pytest.raises(InvalidParameter, match=r"^parameters must be an object; received "):
        from_json(LIST_JOBS, values)


# Doors


def test_text_becomes_the_keywords_of_the_method():
    pairs = [("job_id", "1"), ("search", "Failed"), ("limit", "5"), ("order_desc", "0"), ("status", "FAILURE,TIMEOUT")]
    assert from_text(GET_JOB_EXECUTIONS, iter(pairs)) == {
        "job_id": "1",
        "search": "Failed",
        "limit": 5,
        "order_desc": False,
        "status": ("FAILURE", "TIMEOUT"),
    }


def test_json_stays_as_it_is_and_is_not_shared():
    values = {"job_id": 1, "search": None, "limit": 5, "status": ["FAILURE"], "after": None}
    checked = from_json(GET_JOB_EXECUTIONS, values)
    assert checked == values
    assert checked is not values


@pytest.mark.parametrize(("operation", "parameter"), EVERY_PARAMETER)
def test_null_stands_for_a_default_of_none_and_for_no_other(operation, parameter):
    given = {"job_id": "x"} if operation.parameters[0].required else {}
    values = {**given, parameter.name: None}
    if parameter.required or parameter.default is not None:
        with pytest.raises(InvalidParameter, match=rf"^{parameter.name} must be .*; received None"):
            from_json(operation, values)
    else:
        assert from_json(operation, values) == values


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ({"limit": "20"}, "received '20'; give the number without quotes"),
        ({"enabled": "true"}, "received 'true'; give it without quotes"),
        ({"limit": "many"}, "received 'many'"),
        ({"enabled": "yes"}, "received 'yes'"),
    ],
)
def test_a_value_in_quotes_is_told_to_lose_them(values, remedy):
    with pytest.raises(InvalidParameter) as refused:
        from_json(LIST_JOBS, values)
    assert str(refused.value).endswith(remedy)


def test_what_came_is_shown_as_it_came():
    with pytest.raises(InvalidParameter) as refused:
        from_text(LIST_JOBS, [("limit", "1001")])
    assert str(refused.value) == "limit must be an integer from 1 to 1000; received '1001'"
    with pytest.raises(InvalidParameter) as refused:
        from_json(LIST_JOBS, {"limit": 1001})
    assert str(refused.value) == "limit must be an integer from 1 to 1000; received 1001"


# Tables


def test_the_operations_are_the_four_of_the_seed_and_the_stats():
    assert {name: [parameter.name for parameter in operation.parameters] for name, operation in OPERATIONS.items()} == {
        "list_jobs": ["search", "limit", "offset", "order_by", "order_desc", "job_type", "job_category", "enabled"],
        "get_job": ["job_id"],
        "list_job_executions": [
            "search",
            "limit",
            "offset",
            "order_by",
            "order_desc",
            "before",
            "after",
            "status",
            "trace_id",
        ],
        "get_job_executions": [
            "job_id",
            "search",
            "limit",
            "offset",
            "order_by",
            "order_desc",
            "before",
            "after",
            "status",
            "trace_id",
        ],
        "job_stats": ["job_id", "before", "after"],
    }


@pytest.mark.parametrize(("operation", "parameter"), EVERY_PARAMETER)
def test_every_parameter_is_described_with_an_example_that_is_accepted(operation, parameter):
    assert parameter.description.endswith(".")
    assert parameter.example is not None
    parameter.check(parameter.example, parameter.example)


def test_every_public_name_is_there():
    assert all(hasattr(params, name) for name in params.__all__)


# Schemas


@pytest.mark.parametrize("operation", OPERATIONS.values())
def test_the_schema_of_an_operation_is_a_closed_object(operation):
    schema = operation.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == [parameter.name for parameter in operation.parameters if parameter.required]
    assert list(schema["properties"]) == [parameter.name for parameter in operation.parameters]


@pytest.mark.parametrize(("operation", "parameter"), EVERY_PARAMETER)
def test_the_schema_of_a_parameter_takes_its_default_and_its_example(operation, parameter):
    schema = parameter.json_schema()
    assert schema["description"] == parameter.description
    assert schema.get("default") == parameter.default
    for value in [parameter.example, *([parameter.default] if parameter.default is not None else [])]:
        jsonschema.validate(value, schema)


def test_a_parameter_without_an_example_has_a_schema_without_one():
    assert Parameter("enabled", Kind.FLAG, "On.").json_schema() == {"description": "On.", "type": "boolean"}


SCHEMA_CASES: list[tuple[str, list[object], list[object]]] = [
    ("limit", [1, 1000], [0, 1001, "5", True]),
    ("offset", [0, LARGEST], [-1, 2**63]),
    ("order_desc", [True, False], [0, "true"]),
    ("order_by", ["started_at", "id"], ["error", ""]),
    ("status", ["FAILURE", ["FAILURE", "TIMEOUT"]], ["failure", [], ["x"], "FAILURE,TIMEOUT", [["FAILURE"]]]),
    ("search", ["", "x" * 200], ["x" * 201, "a\0", 5]),
    ("trace_id", ["x", "x" * 512], ["", "x" * 513, "\0"]),
    ("job_id", ["x", "x" * 200, 0, LARGEST], ["", "x" * 201, "\0", True, 1.5]),
    (
        "after",
        ["2026-01-15", "2026-01-15 08:00", "2026-01-15T08:00:00.123456789+08:00", "2026-01-15T08:00:00Z"],
        [
            "now",
            "20260115",
            "2026-13-01",
            "2026-01-32",
            "2026-01-15T24:00Z",
            "2026-01-15T08:00:00 08:00x",
            5,
            "2026-01-15Z",
        ],
    ),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, good, _ in SCHEMA_CASES for value in good])
def test_what_the_schema_takes_the_check_takes(name, value):
    jsonschema.validate({"job_id": "x", name: value}, GET_JOB_EXECUTIONS.json_schema())
    from_json(GET_JOB_EXECUTIONS, {"job_id": "x", name: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, _, bad in SCHEMA_CASES for value in bad])
def test_what_the_schema_refuses_the_check_refuses(name, value):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"job_id": "x", name: value}, GET_JOB_EXECUTIONS.json_schema())
    with pytest.raises(InvalidParameter):
        from_json(GET_JOB_EXECUTIONS, {"job_id": "x", name: value})


def test_every_kind_has_a_parameter():
    assert {parameter.kind for _, parameter in EVERY_PARAMETER} == set(Kind)
