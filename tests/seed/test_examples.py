"""The document's examples: the page of jobs, the job, both pages of executions and the error, word for word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.seed import api
from tests.wsgi import ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jobstore

PREFIX = "https://api.datahub.example.com"


def curl(app: Any, line: str) -> Any:
    """The answer to a curl line as the document prints it: its method, its path and query, its header."""
    words = line.replace("\\\n", " ").split('"')
    _, flag, method = words[0].split()
    name, _, value = words[3].partition(": ")
    assert flag == "-X"
    return ask(app, words[1].removeprefix(PREFIX), method=method, headers={name: value}, token=None)


def cut(page: Mapping[str, Any], shown: int) -> dict[str, Any]:
    """A page as the document prints it: the first few of its rows."""
    return {"data": page["data"][:shown], "pagination": page["pagination"]}


def written(document: object) -> str:
    """As JSON, so that the order of the fields counts."""
    return json.dumps(document, ensure_ascii=False)


def test_the_page_of_jobs_is_the_examples(whole: jobstore.JobStore) -> None:
    page = cut(whole.list_jobs(), shown=2)
    assert written(page) == written({"data": api.JOBS, "pagination": api.JOBS_PAGINATION})


def test_the_job_is_the_examples(datahub: jobstore.JobStore) -> None:
    assert written(datahub.get_job("sync_klines_1h")) == written(api.JOBS[0])


def test_the_page_of_all_executions_is_the_examples(whole: jobstore.JobStore) -> None:
    page = cut(whole.list_job_executions(), shown=2)
    assert written(page) == written({"data": api.EXECUTIONS, "pagination": api.EXECUTIONS_PAGINATION})


def test_the_page_of_one_jobs_executions_is_the_examples(whole: jobstore.JobStore) -> None:
    page = cut(whole.get_job_executions("sync_klines_1h"), shown=1)
    assert written(page) == written({"data": api.EXECUTIONS[:1], "pagination": api.JOB_EXECUTIONS_PAGINATION})


def test_an_unknown_job_is_a_404_in_the_examples_envelope(app: Any) -> None:
    answer = ask(app, "/api/v1/jobs/invalid_job_name", token="YOUR_TOKEN")
    assert (answer.status, written(answer.json)) == (404, written(api.ERROR))


def test_an_unknown_job_is_not_found_in_python(datahub: jobstore.JobStore) -> None:
    for query in (datahub.get_job, datahub.get_job_executions):
        with pytest.raises(LookupError) as caught:
            query("invalid_job_name")
        assert {"code": caught.value.code, "message": str(caught.value)} == api.ERROR["error"]  # type: ignore[attr-defined]


# The eleven curl lines. What the examples show of each answer is in the store of what is shown.

HOURLY, DAILY = api.JOBS
SUCCESS, FAILURE = api.EXECUTIONS
ANSWERS: dict[str, list[dict[str, Any]] | dict[str, Any]] = {
    "all jobs": [HOURLY, DAILY],
    "search kline": [HOURLY],
    "by name, descending": [DAILY, HOURLY],
    "a job by number": HOURLY,
    "a job by name": HOURLY,
    "latest executions": [SUCCESS, FAILURE],
    "failed executions": [FAILURE],
    "executions in a window": [FAILURE],
    "executions of a job": [SUCCESS],
    "failed executions of a job": [],
    "executions of a job since": [SUCCESS],
}


def test_there_are_eleven_curl_lines() -> None:
    assert len(api.CURL_LINES) == len(ANSWERS) == 11


@pytest.mark.parametrize("what", api.CURL_LINES)
def test_the_curl_line_gets_what_the_examples_show(app: Any, what: str) -> None:
    answer = curl(app, api.CURL_LINES[what])
    expected = ANSWERS[what]
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert written(answer.json["data"] if isinstance(expected, list) else answer.json) == written(expected)


@pytest.mark.parametrize("what", [what for what, expected in ANSWERS.items() if isinstance(expected, list)])
def test_the_curl_lines_page_counts_what_it_has(app: Any, what: str) -> None:
    count = len(ANSWERS[what])
    assert curl(app, api.CURL_LINES[what]).json["pagination"] == {
        "page": 1, "page_size": 50, "total": count, "total_pages": min(count, 1), "has_next": False, "has_prev": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("what", "pagination"),
    [
        ("all jobs", api.JOBS_PAGINATION),
        ("latest executions", api.EXECUTIONS_PAGINATION),
        ("executions of a job", api.JOB_EXECUTIONS_PAGINATION),
    ],
)
def test_the_curl_line_gets_the_examples_pagination_from_the_whole(
    whole_app: Any, what: str, pagination: dict[str, Any]
) -> None:
    assert written(curl(whole_app, api.CURL_LINES[what]).json["pagination"]) == written(pagination)


def test_failed_means_failure_and_not_timeout(whole_app: Any) -> None:
    page = curl(whole_app, api.CURL_LINES["failed executions"]).json
    assert [run["id"] for run in page["data"]] == ["12344"]
    assert curl(whole_app, api.CURL_LINES["failed executions"].replace("failed", "timeout")).json["data"]


def test_the_window_includes_both_its_ends(whole_app: Any) -> None:
    page = curl(whole_app, api.CURL_LINES["executions in a window"].replace("limit=50", "limit=1000")).json
    assert page["data"][0]["started_at"] == "2026-01-15T00:00:00Z"
    line = api.CURL_LINES["executions in a window"].replace('Z"', 'Z&order_desc=false"')
    assert curl(whole_app, line).json["data"][0]["started_at"] == "2026-01-01T00:00:00Z"
