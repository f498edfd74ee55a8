"""The document's four tool calls, in its envelope, give what the four queries give."""

from __future__ import annotations

import json
from typing import Any

import pytest

import jobstore
from jobstore import tools
from tests.seed import api

ANSWERS: dict[str, list[dict[str, Any]] | dict[str, Any]] = {
    "datahub_list_jobs": api.JOBS[:1],
    "datahub_get_job": api.JOBS[0],
    "datahub_list_job_executions": api.EXECUTIONS[1:],
    "datahub_get_job_executions": api.EXECUTIONS[:1],
}


@pytest.mark.parametrize("envelope", api.TOOL_CALLS, ids=lambda envelope: envelope["tool"])
def test_the_tool_call_gets_what_the_examples_show(datahub: jobstore.JobStore, envelope: dict[str, Any]) -> None:
    answer, expected = tools.call(datahub, envelope), ANSWERS[envelope["tool"]]
    assert json.dumps(answer["data"] if isinstance(expected, list) else answer) == json.dumps(expected)


@pytest.mark.parametrize("envelope", api.TOOL_CALLS, ids=lambda envelope: envelope["tool"])
def test_the_tool_call_is_what_the_definitions_admit(envelope: dict[str, Any]) -> None:
    defined = {tool["name"]: tool["parameters"]["properties"] for tool in tools.definitions()}
    assert envelope["parameters"].keys() <= defined[envelope["tool"]].keys()


@pytest.mark.parametrize("envelope", api.TOOL_CALLS, ids=lambda envelope: envelope["tool"])
def test_the_tool_call_gets_the_same_as_python(whole: jobstore.JobStore, envelope: dict[str, Any]) -> None:
    method = getattr(whole, envelope["tool"].removeprefix("datahub_"))
    assert tools.call(whole, envelope) == method(**envelope["parameters"])
