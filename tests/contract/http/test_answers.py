"""What each route answers, and what it answers to words that are wrong."""

import re

import falcon.inspect
import pytest

from jobstore.http.routes import ROUTES
from jobstore.language import schemas
from jobstore.language.models import EXECUTION_FIELDS, JOB_FIELDS
from jobstore.metrics import CONTENT_TYPE, metrics

COMMON = {
    "cache-control": "private, no-cache",
    "x-content-type-options": "nosniff",
    "vary": "Accept-Encoding, Authorization",
    "content-type": "application/json",
}
TARGETS = [
    "/api/v1/jobs",
    "/api/v1/jobs/executions",
    "/api/v1/jobs/sync_klines_1h",
    "/api/v1/jobs/1/executions",
    "/api/v1/stats",
    "/api/v1/executions/12345",
    "/api/v1/states",
    "/api/v1/histogram",
    "/healthz",
    "/openapi.json",
    "/metrics",
]


def template_of(target: str) -> str:
    return (
        target.replace("/sync_klines_1h", "/{job_id}").replace("/1/", "/{job_id}/").replace("/12345", "/{execution_id}")
    )


def test_every_route_of_the_app_is_tested_here(app):
    assert {route.path.rstrip("/") for route in falcon.inspect.inspect_routes(app)} == set(map(template_of, TARGETS))


def test_the_seeds_answers_come_out_as_the_seed_shows_them(ask, seed_jobs, seed_executions):
    assert ask("/api/v1/jobs").json["data"] == seed_jobs
    assert ask("/api/v1/jobs/sync_klines_1h").json == seed_jobs[0]
    assert ask("/api/v1/jobs/1").json == seed_jobs[0]
    assert ask("/api/v1/jobs/executions").json["data"] == seed_executions
    assert ask("/api/v1/jobs/sync_klines_1h/executions").json["data"] == seed_executions[:1]
    assert ask("/api/v1/jobs/executions?search=failed").json["data"] == seed_executions[1:]


def test_fields_come_in_the_seeds_order(ask):
    assert tuple(ask("/api/v1/jobs/1").json) == JOB_FIELDS
    assert tuple(ask("/api/v1/jobs/executions").json["data"][0]) == EXECUTION_FIELDS
    assert list(ask("/api/v1/jobs").json) == ["data", "pagination"]


@pytest.mark.parametrize(
    ("target", "method", "keywords"),
    [
        ("/api/v1/jobs?search=KLINE&limit=1&order_desc=true", "list_jobs", {"search": "KLINE", "limit": 1, "order_desc": True}),
        ("/api/v1/jobs?enabled=1&order_by=next_run_at", "list_jobs", {"enabled": True, "order_by": "next_run_at"}),
        ("/api/v1/jobs/1", "get_job", {"job_id": 1}),
        ("/api/v1/jobs/executions?status=FAILURE,TIMEOUT", "list_job_executions", {"status": ["FAILURE", "TIMEOUT"]}),
        ("/api/v1/jobs/executions?after=2026-01-15T01:00:00%2B01:00&before=2026-01-15T01:00:00+01:00", "list_job_executions",
         {"after": "2026-01-15T00:00:00Z", "before": "2026-01-15T00:00:00Z"}),
        ("/api/v1/jobs/2/executions?order_by=duration_ms", "get_job_executions", {"job_id": 2, "order_by": "duration_ms"}),
        ("/api/v1/stats", "job_stats", {}),
        ("/api/v1/stats?job_id=sync_klines_1h&after=2026-01-01", "job_stats", {"job_id": "1", "after": "2026-01-01"}),
    ],
)  # fmt: skip
def test_an_answer_is_the_document_that_python_gets(ask, datahub, target, method, keywords):
    assert ask(target).json == getattr(datahub, method)(**keywords)


def test_the_models_read_what_the_routes_answer(ask):
    for route, target in zip(ROUTES, TARGETS, strict=False):
        document = ask(target).json
        parsed = getattr(schemas, route.answer).model_validate(document)
        assert parsed.model_dump(mode="json") == document


def test_text_is_utf_8_and_not_escaped(ask):
    answer = ask("/api/v1/jobs/任务")
    assert answer.error == ("NOT_FOUND", "Job not found: 任务")
    assert "任务".encode() in answer.body


@pytest.mark.parametrize("target", TARGETS)
def test_each_answer_has_the_common_headers_and_its_length(ask, target):
    answer = ask(target)
    assert answer.status == 200
    kind = {"content-type": CONTENT_TYPE} if target == "/metrics" else {}
    assert answer.headers.items() >= (COMMON | kind).items()
    assert answer.headers["content-length"] == str(len(answer.body))
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    assert not [name for name in answer.headers if name.startswith("access-control")]


# Methods


@pytest.mark.parametrize("target", TARGETS)
def test_head_answers_as_get_does_without_the_body(ask, target):
    got, head = ask(target), ask(target, "HEAD")
    assert head.status == 200
    assert head.body == b""
    assert head.headers | {"x-request-id": ""} == got.headers | {"x-request-id": ""}


def test_head_of_an_error_is_the_error_without_its_body(ask):
    answer = ask("/api/v1/jobs/nowhere", "HEAD")
    assert (answer.status, answer.body) == (404, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("target", TARGETS)
def test_options_says_which_methods_there_are(ask, target):
    answer = ask(target, "OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert "content-type" not in answer.headers


METHODS = [
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "QUERY",
    "BREW",
    "FALCON-CUSTOM",
    "WEBSOCKET",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", [*METHODS, "get", "Head"])
def test_every_other_method_is_not_allowed(ask, target, method):
    answer = ask(target, method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert answer.error == ("METHOD_NOT_ALLOWED", f"{method} is not allowed here; this API is read-only")
    assert answer.headers.items() >= COMMON.items()


def test_a_method_that_is_no_word_is_not_repeated(ask):
    assert ask("/api/v1/jobs", "<script>" * 20).error[1] == "This method is not allowed here; this API is read-only"


# Paths


@pytest.mark.parametrize(
    "target",
    [
        "/", "", "/api", "/api/v1", "/api/v1/", "/api/v2/jobs",
        "/API/v1/jobs", "/api/v1/jobs/executions//", "/api/v1/jobs/1/", "/api/v1/jobs/1/runs", "/api/v1/jobs/a%2Fb", "/api/v1//jobs",
        "/api/v1/stats/", "/healthz/", "/openapi.yaml", "/%ff", "/api/v1/jobs/1/executions/2", "/favicon.ico",
        "//", "/api/v1/jobs/../jobs",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "BREW"])
def test_an_unknown_path_is_not_found_whatever_the_method(ask, target, method):
    answer = ask(target, method)
    assert answer.status == 404
    assert answer.error[0] == "NOT_FOUND"
    assert "/api/v1/jobs/{job_id}/executions" in answer.error[1]


def test_the_list_of_all_executions_wins_over_a_job_of_that_name(ask):
    assert "pagination" in ask("/api/v1/jobs/executions").json


@pytest.mark.parametrize("target", ["/api/v1/jobs", "/api/v1/jobs/executions", "/api/v1/jobs/1/executions"])
def test_a_slash_at_the_end_of_a_collection_means_the_collection(ask, target):
    assert ask(f"{target}/?limit=1").json == ask(f"{target}?limit=1").json


@pytest.mark.parametrize(
    "query", ["status=FAILURE&status=SUCCESS", "status=FAILURE,SUCCESS", 'status=["FAILURE","SUCCESS"]']
)
def test_a_list_may_be_repeated_or_in_one(ask, datahub, query):
    assert ask(f"/api/v1/jobs/executions?{query}").json == datahub.list_job_executions(status=["FAILURE", "SUCCESS"])


def test_a_flag_may_be_in_any_case(ask, datahub):
    assert ask("/api/v1/jobs?order_desc=True&enabled=TRUE").json == datahub.list_jobs(order_desc=True, enabled=True)


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        *((name, tail) for name in ("%ff", "%ED%A0%80", "a%00b", "x" * 201, "%c3%28") for tail in ("", "/executions")),
        ("", "/executions"),
    ],
)
def test_what_could_be_no_name_is_an_invalid_parameter(ask, name, tail):
    answer = ask(f"/api/v1/jobs/{name}{tail}")
    assert answer.status == 400
    assert answer.error[0] == "INVALID_PARAMETER"
    assert answer.error[1].startswith("job_id must be")


@pytest.mark.parametrize(
    "name", ["invalid_job_name", "0", "3", "9" * 30, "%EF%BF%BD", "%2e", "a%20b", "a+b", "x" * 200]
)
@pytest.mark.parametrize("tail", ["", "/executions"])
def test_a_job_that_is_not_there_is_not_found_in_the_seeds_words(ask, name, tail):
    answer = ask(f"/api/v1/jobs/{name}{tail}")
    decoded = {"%EF%BF%BD": "\ufffd", "%2e": ".", "a%20b": "a b"}.get(name, name)
    assert (answer.status, answer.error) == (404, ("NOT_FOUND", f"Job not found: {decoded}"))


# Query strings


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=%EF%BC%91%EF%BC%92", "limit"),
        ("limit=1_0", "limit"),
        ("limit=+5", "limit"),
        ("limit=", "limit"),
        ("limit", "limit"),
        ("limit=5&limit=5", "limit was given twice"),
        ("l%69mit=5&limit=6", "limit was given twice"),
        ("offset=9223372036854775808", "offset"),
        ("order_by=rowid", "order_by"),
        ("order_desc=yes", "order_desc"),
        ("after=20260101", "after"),
        ("after=2026-01-02&before=2026-01-01", "after"),
        ("status=failure", "status"),
        ("trace_id=", "trace_id"),
        ("search=a%00b", "search"),
        ("search=%ff", "search"),
        ("search=%ED%A0%80", "search"),
        ("search=%zz", "search"),
        ("search=50%", "search"),
        ("search=\xff", "search"),
        ("search=" + "x" * 201, "search"),
        ("%ff=1", "name of a parameter"),
        ("limt=5", "'limt'; did you mean 'limit'"),
        ("=5", "''"),
        ("job_id=1", "'job_id'"),
        ("limit[]=5", "'limit[]'"),
        ("limit=5;offset=1", "limit"),
    ],
)
def test_words_that_are_wrong_get_one_clear_refusal_that_names_the_parameter(ask, query, names):
    answer = ask(f"/api/v1/jobs/executions?{query}")
    assert answer.status == 400
    code, message = answer.error
    assert code == "INVALID_PARAMETER"
    assert names in message


@pytest.mark.parametrize(
    "query", ["search=", "search", "search=+%20", "&", "limit=50&", "&&offset=0", "search=%E2%84%AA", ""]
)
def test_words_that_are_right_are_taken(ask, query):
    assert ask(f"/api/v1/jobs?{query}").status == 200


def test_a_job_takes_no_parameters(ask):
    assert ask("/api/v1/jobs/1?limit=5").error == ("INVALID_PARAMETER", "Unknown parameter 'limit'. Allowed: job_id")
    assert ask("/api/v1/jobs/1?job_id=2").error[0] == "INVALID_PARAMETER"


def test_a_probe_may_add_to_the_open_paths_what_it_likes(ask):
    assert ask("/healthz?now=1&%ff").json == {"status": "ok"}
    assert ask("/openapi.json?v=2").status == 200


def test_the_document_names_the_prefix_it_was_asked_under(ask):
    for number in range(12):  # more than are remembered
        assert ask("/openapi.json", prefix=f"/p{number}").json["servers"] == [{"url": f"/p{number}"}]
    assert ask("/openapi.json").json["servers"] == [{"url": "/"}]


# Request ids


@pytest.mark.parametrize("given", ["a", "5f1c-2.x_Y", "x" * 64])
def test_a_well_formed_request_id_is_kept(ask, given):
    assert ask("/api/v1/jobs", x_request_id=given).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\nb", "é", "<b>", "s3cret"])
def test_any_other_gets_a_new_one(ask, given):
    assert re.fullmatch("[0-9a-f]{32}", ask("/api/v1/jobs", x_request_id=given).headers["x-request-id"])


def test_no_two_requests_share_an_id(ask):
    assert len({ask("/healthz").headers["x-request-id"] for _ in range(50)}) == 50


def test_metrics_are_text_for_prometheus_behind_the_token(ask, datahub):
    answer = ask("/metrics?debug=1")
    assert (answer.status, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    assert answer.body.decode() == metrics(datahub)
    assert ask("/metrics", token=None).status == 401
    assert ask("/metrics", token="powerless").status == 403
