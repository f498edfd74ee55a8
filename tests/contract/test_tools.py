"""The tools for language models: what a model is told, and what a call answers."""

import inspect
import json
import re
from datetime import UTC, datetime
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # brought by the mcp SDK; its stubs are a package of their own
import pytest

import jobstore
from jobstore import tools
from jobstore.language.parameters import OPERATIONS

NAMES = [
    "datahub_list_jobs",
    "datahub_get_job",
    "datahub_list_job_executions",
    "datahub_get_job_executions",
    "datahub_get_job_stats",
    "datahub_get_execution",
    "datahub_list_job_states",
    "datahub_get_execution_histogram",
]


def parameters_of(definition: dict[str, Any]) -> dict[str, Any]:
    """The schema of the parameters, wherever an API keeps it."""
    inner = definition.get("function", definition)
    return next(inner[key] for key in ("parameters", "input_schema", "inputSchema") if key in inner)


def keywords_in(schema: Any) -> set[str]:
    """Every JSON Schema keyword that a schema of parameters uses."""
    found = set(schema) - {"properties"}
    for below in schema.get("properties", {}).values():
        found |= keywords_in(below)
    for below in [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]:
        found |= keywords_in(below)
    return found


# The seed's own calls.


def test_the_seeds_call_that_lists_jobs_gets_the_seeds_jobs(datahub, seed_jobs):
    page = tools.call(datahub, {"tool": "datahub_list_jobs", "parameters": {"search": "kline", "limit": 20}})
    assert page["data"] == seed_jobs[:1]
    assert page["pagination"] == {
        "page": 1, "page_size": 20, "total": 1, "total_pages": 1, "has_next": False, "has_prev": False,
    }  # fmt: skip


def test_the_seeds_call_for_one_job_gets_the_seeds_job(datahub, seed_jobs):
    envelope = {"tool": "datahub_get_job", "parameters": {"job_id": "sync_klines_1h"}}
    assert tools.call(datahub, envelope) == seed_jobs[0]


def test_the_seeds_call_that_lists_executions_gets_the_seeds_failure(datahub, seed_executions):
    wanted = {"search": "failed", "limit": 20, "after": "2026-01-01T00:00:00Z"}
    page = tools.call(datahub, {"tool": "datahub_list_job_executions", "parameters": wanted})
    assert page["data"] == seed_executions[1:]


def test_the_seeds_call_for_the_executions_of_a_job_gets_the_seeds_success(datahub, seed_executions):
    wanted = {"job_id": "sync_klines_1h", "limit": 10, "order_desc": True}
    page = tools.call(datahub, {"tool": "datahub_get_job_executions", "parameters": wanted})
    assert page["data"] == seed_executions[:1]


def test_the_fifth_tool_counts(datahub):
    assert tools.call(datahub, {"tool": "datahub_get_job_stats"}) == datahub.job_stats()


def test_an_answer_is_the_document_of_the_method_of_the_same_query(datahub):
    for tool in tools.TOOLS.values():
        required = [parameter.name for parameter in tool.operation.parameters if parameter.required]
        values = {"job_id": 2} if required == ["job_id"] else {"execution_id": 12344} if required else {}
        expected = getattr(datahub, tool.operation.name)(**values)
        answer = tools.call(datahub, {"tool": tool.name, "parameters": values})
        assert json.dumps(answer) == json.dumps(expected)


# Calls that are refused.


@pytest.mark.parametrize(
    ("envelope", "word"),
    [
        ("datahub_list_jobs", "must be an object"),
        (None, "must be an object"),
        ([["tool", "datahub_list_jobs"]], "must be an object"),
        ({}, "Unknown tool None"),
        ({"tool": None}, "Unknown tool None"),
        ({"tool": ["datahub_list_jobs"]}, "Unknown tool"),
        ({"tool": "datahub_list_job"}, "did you mean 'datahub_list_jobs'?"),
        ({"tool": "list_jobs"}, "did you mean 'datahub_list_jobs'?"),
        ({"tool": "rm -rf"}, "Allowed: datahub_list_jobs, datahub_get_job"),
        ({"tool": "\ud800" * 1000}, "Unknown tool"),
        ({"tool": "datahub_list_jobs", "arguments": {}}, "Unknown key 'arguments' in a tool call"),
        ({"tool": "datahub_list_jobs", "parameter": {}}, "did you mean 'parameters'?"),
        ({"tool": "datahub_list_jobs", 5: {}}, "Unknown key 5"),
        ({"tool": "datahub_list_jobs", "parameters": None}, "parameters must be an object"),
        ({"tool": "datahub_list_jobs", "parameters": []}, "parameters must be an object"),
        ({"tool": "datahub_list_jobs", "parameters": '{"limit": 20}'}, "parameters must be an object"),
        ({"tool": "datahub_list_jobs", "parameters": {"limt": 20}}, "did you mean 'limit'?"),
        ({"tool": "datahub_list_jobs", "parameters": {5: 20}}, "Unknown parameter 5"),
        ({"tool": "datahub_list_jobs", "parameters": {"job_id": "a"}}, "Unknown parameter 'job_id'"),
        ({"tool": "datahub_get_job"}, "job_id is required"),
        ({"tool": "datahub_get_job", "parameters": {"job_id": None}}, "job_id must be"),
    ],
)
def test_a_call_that_cannot_be_understood_is_refused_with_what_would_be_right(datahub, envelope, word):
    with pytest.raises(jobstore.InvalidParameter) as refusal:
        tools.call(datahub, envelope)
    assert word in refusal.value.message
    assert refusal.value.code == "INVALID_PARAMETER"
    assert len(refusal.value.message) < 400
    refusal.value.message.encode()


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "20"},
        {"limit": True},
        {"limit": 1.0},
        {"limit": 0},
        {"limit": 1001},
        {"limit": None},
        {"limit": 10**400},
        {"offset": -1},
        {"offset": 2**63},
        {"order_desc": 1},
        {"order_desc": "true"},
        {"order_desc": None},
        {"order_by": "result"},
        {"order_by": "STARTED_AT"},
        {"search": 5},
        {"search": "x" * 201},
        {"search": "\0"},
        {"search": "\ud800"},
        {"status": "failed"},
        {"status": "FAILURE,TIMEOUT"},
        {"status": []},
        {"status": ["FAILURE", None]},
        {"status": {"FAILURE": 1}},
        {"after": "2026"},
        {"after": 1768464000},
        {"after": "now"},
        {"before": "2026-01-15T25:00:00Z"},
        {"trace_id": ""},
        {"trace_id": 5},
        {"after": "2026-01-02", "before": "2026-01-01"},
    ],
)
def test_types_are_strict_and_a_refusal_is_that_of_the_method(datahub, parameters):
    with pytest.raises(jobstore.InvalidParameter) as refusal:
        tools.call(datahub, {"tool": "datahub_list_job_executions", "parameters": parameters})
    with pytest.raises(jobstore.InvalidParameter) as of_method:
        datahub.list_job_executions(**parameters)
    assert refusal.value.message == of_method.value.message


def test_null_stands_for_a_parameter_left_out_where_that_means_no_filter(datahub):
    values = {"search": None, "before": None, "after": None, "status": None, "trace_id": None}
    page = tools.call(datahub, {"tool": "datahub_list_job_executions", "parameters": values})
    assert page == datahub.list_job_executions()


def test_a_job_that_is_not_there_is_not_found_in_the_seeds_words(datahub):
    with pytest.raises(jobstore.NotFound, match=r"^Job not found: invalid_job_name$"):
        tools.call(datahub, {"tool": "datahub_get_job", "parameters": {"job_id": "invalid_job_name"}})


# What a model is told.


@pytest.mark.parametrize("style", tools.STYLES)
def test_every_style_has_all_tools_with_every_parameter(style):
    definitions = tools.definitions(style)
    assert [each.get("function", each)["name"] for each in definitions] == NAMES
    for definition, tool in zip(definitions, tools.TOOLS.values(), strict=True):
        schema = parameters_of(definition)
        assert list(schema["properties"]) == [parameter.name for parameter in tool.operation.parameters]
        assert all(each["description"] for each in schema["properties"].values())


def test_there_is_a_tool_for_every_query():
    assert {tool.operation.name for tool in tools.TOOLS.values()} == set(OPERATIONS)


@pytest.mark.parametrize("style", tools.STYLES)
def test_definitions_are_json_and_the_callers_to_change(style):
    definitions = tools.definitions(style)
    before = json.dumps(definitions)
    parameters_of(definitions[2])["properties"].clear()
    definitions[0].clear()
    assert json.dumps(tools.definitions(style)) == before


def test_the_plain_style_is_name_description_and_schema():
    for definition in tools.definitions():
        assert set(definition) == {"name", "description", "parameters"}
        jsonschema.Draft202012Validator.check_schema(definition["parameters"])


def test_each_api_gets_its_own_shape():
    def keys(style: str) -> set[str]:
        return set(tools.definitions(style)[1])

    assert keys("anthropic") == {"name", "description", "input_schema"}
    assert keys("mcp") == {"name", "title", "description", "inputSchema", "annotations"}
    assert keys("openai") == {"type", "function"}
    assert keys("openai-responses") == {"type", "name", "description", "parameters", "strict"}


def test_the_responses_api_is_told_whether_to_be_strict_since_it_would_be_by_itself():
    assert {each["strict"] for each in tools.definitions("openai-responses")} == {False}


@pytest.mark.parametrize("style", ["anthropic", "openai", "openai-responses", "mcp"])
def test_a_model_gets_every_rule_but_the_regular_expressions(style):
    for definition in tools.definitions(style):
        schema = parameters_of(definition)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False
        assert "pattern" not in keywords_in(schema)
    limit = parameters_of(tools.definitions(style)[0])["properties"]["limit"]
    assert (limit["type"], limit["minimum"], limit["maximum"], limit["default"]) == ("integer", 1, 1000, 50)


@pytest.mark.parametrize("style", ["OpenAI", "claude", "", None, 5, ["mcp"]])
def test_an_unknown_style_is_refused_with_those_there_are(style):
    with pytest.raises(jobstore.InvalidParameter, match="Allowed: jsonschema, anthropic"):
        tools.definitions(style)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("datahub_list_jobs", ["next_run_at is computed", "has_next", "offset + limit", "UTC"]),
        ("datahub_get_job", ["next_run_at (computed", "datahub_list_jobs", "NOT_FOUND", "UTC"]),
        ("datahub_list_job_executions", ["newest first", "use status", "has_next", "offset + limit", "UTC"]),
        ("datahub_get_job_executions", ["newest first", "use status", "has_next", "offset + limit", "UTC"]),
        ("datahub_get_job_stats", ["instead of adding up pages", "UTC"]),
        ("datahub_get_execution", ["whole error", "NOT_FOUND", "UTC"]),
        ("datahub_list_job_states", ["most urgent first", "since when", "has_next", "UTC"]),
        ("datahub_get_execution_histogram", ["instead of adding up pages", "midnight of timezone", "UTC"]),
    ],
)
def test_a_description_steers(name, words):
    description = tools.TOOLS[name].description
    for word in words:
        assert word in description


def test_the_fields_that_a_description_names_are_the_documents_own(datahub):
    stats = tools.TOOLS["datahub_get_job_stats"].description
    assert all(field in stats for field in set(datahub.job_stats()) - {"job_id", "after", "before"})
    pages = tools.TOOLS["datahub_list_jobs"].description
    assert all(f'"{field}"' in pages for field in datahub.list_jobs()["pagination"])


def test_the_schema_admits_exactly_what_a_call_admits(datahub):
    schema = next(each["parameters"] for each in tools.definitions() if each["name"] == "datahub_get_job_executions")
    validator = jsonschema.Draft202012Validator(schema)
    values: list[Any] = [
        0, 1, -1, 1000, 1001, 2**63 - 1, 2**63, True, False, 1.5, "", " ", "1", "20", "true", "sync_klines_1h",
        "FAILURE", "failure", ["FAILURE"], ["FAILURE", "TIMEOUT"], [], [1], {}, "started_at", "result", "\0", "x" * 201,
        "x" * 513, "2026-01-01", "2026-01-01T08:00:00Z", "2026-01-01T08:00+08:00", "2026-1-1", "now", "１２",
    ]  # fmt: skip
    for parameter in schema["properties"]:
        for value in values:
            if parameter in {"job_id", "offset"} and value in (-1, 2**63 - 1, 2**63):
                continue  # numbers that no job has, and offsets that no JavaScript host could say
            wanted = {"job_id": "sync_klines_1h", parameter: value}
            assert validator.is_valid(wanted) == admitted(datahub, wanted), (parameter, value)


def admitted(store: jobstore.JobStore, parameters: dict[str, Any]) -> bool:
    try:
        tools.call(store, {"tool": "datahub_get_job_executions", "parameters": parameters})
    except jobstore.InvalidParameter:
        return False
    except jobstore.NotFound:
        return True
    return True


@pytest.mark.parametrize("style", tools.STYLES)
def test_the_schemas_stay_inside_what_model_apis_take(style):
    text = json.dumps(tools.definitions(style))
    assert all(int(number) <= 2**53 for number in re.findall(r"\d{9,}", text))
    assert "(?" not in text
    assert "\\u0000" not in text


def test_a_list_that_a_host_sends_as_text_is_taken(datahub):
    envelope = {"tool": "datahub_list_job_executions", "parameters": {"status": '["FAILURE", "TIMEOUT"]'}}
    assert tools.call(datahub, envelope) == datahub.list_job_executions(status=["FAILURE", "TIMEOUT"])


def test_an_aware_datetime_may_be_given_where_python_calls(datahub):
    parameters = {"after": datetime(2026, 1, 15, 4, tzinfo=UTC)}
    page = tools.call(datahub, {"tool": "datahub_list_job_executions", "parameters": parameters})
    assert [each["id"] for each in page["data"]] == ["12345"]


def test_defaults_in_the_definitions_are_those_of_the_methods(datahub):
    for definition, tool in zip(tools.definitions(), tools.TOOLS.values(), strict=True):
        signature = inspect.signature(getattr(datahub, tool.operation.name))
        for name, schema in definition["parameters"]["properties"].items():
            default = signature.parameters[name].default
            assert schema.get("default") == (None if default is inspect.Parameter.empty else default)
