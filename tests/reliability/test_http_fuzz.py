"""Any request at all gets an answer in the API's own form: never a 500, never an exception, never a body of another kind."""

import json
import os
import sys
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobstore
from jobstore.language import examples
from jobstore.wsgi import create_app

EXAMPLES = int(os.environ.get("JOBSTORE_FUZZ_EXAMPLES", "500"))
NAMES = [
    "search",
    "limit",
    "offset",
    "order_by",
    "order_desc",
    "before",
    "after",
    "status",
    "trace_id",
    "enabled",
    "job_id",
    "state",
    "lang",
    "bucket",
    "timezone",
    "x",
]
LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60)
BYTES = st.binary(max_size=40).map(lambda data: data.decode("latin-1"))
ESCAPES = st.lists(
    st.one_of(st.sampled_from(["%", "%0", "%00", "%ff", "%zz", "%ED%A0%80", "%25", "+", "&", "=", ";"]), LATIN)
).map("".join)
SEGMENTS = st.one_of(
    st.sampled_from(
        ["api", "v1", "jobs", "executions", "stats", "states", "histogram", "1", "sync_klines_1h", "", ".", ".."]
    ),
    BYTES,
)
PATHS = st.one_of(
    st.lists(SEGMENTS, max_size=6).map(lambda parts: "/" + "/".join(parts)),
    st.builds("/api/v1/jobs{}{}".format, st.sampled_from(["", "/", "/executions", "/1/executions"]), BYTES),
    st.builds("/api/v1/jobs/{}{}".format, BYTES, st.sampled_from(["", "/executions"])),
    st.builds("/api/v1/{}{}".format, st.sampled_from(["executions/", "states", "histogram"]), BYTES),
    LATIN,
)
VALUES = st.one_of(
    ESCAPES,
    st.sampled_from(
        ["0", "1", "1000", "1001", "true", "2026-01-01", "9" * 30, "name", "FAILURE", "failed", "1h", "UTC", "late"]
    ),
)
QUERIES = st.one_of(
    ESCAPES,
    st.lists(st.builds("{}={}".format, st.one_of(st.sampled_from(NAMES), ESCAPES), VALUES), max_size=4).map("&".join),
)
AUTHORIZATIONS = st.one_of(
    st.just("Bearer s3cret"), st.just("Bearer s3cret"), LATIN, st.builds("Bearer {}".format, LATIN)
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "HTTP_IF_NONE_MATCH": LATIN,
        "HTTP_ACCEPT_ENCODING": st.one_of(LATIN, st.just("gzip"), st.builds("gzip;q={}".format, LATIN)),
        "HTTP_X_REQUEST_ID": LATIN,
        "HTTP_ORIGIN": LATIN,
        "HTTP_ACCESS_CONTROL_REQUEST_METHOD": LATIN,
        "HTTP_HOST": LATIN,
        "HTTP_X_FORWARDED_HOST": LATIN,
        "HTTP_FORWARDED": LATIN,
        "CONTENT_TYPE": LATIN,
        "CONTENT_LENGTH": LATIN,
    },
)
METHODS = st.one_of(st.just("GET"), st.just("GET"), st.sampled_from(["HEAD", "OPTIONS", "POST", "WEBSOCKET"]), LATIN)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "jobs.db"
    jobstore.load(path, {"jobs": examples.JOB_PAGE["data"], "executions": examples.EXECUTION_PAGE["data"]})
    return create_app(path, tokens={"s3cret": {"read:jobs"}}, cors_origins=["https://jobs.example.com"])


def asked(app: Any, environ: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    started: list[Any] = []
    body = b"".join(app(environ, lambda status, headers, _exc=None: started.append((status, dict(headers)))))
    ((status, headers),) = started
    return int(status[:3]), headers, body


def test_any_request_gets_an_answer_in_the_apis_own_form(app):
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(method=METHODS, path=PATHS, query=QUERIES, authorization=AUTHORIZATIONS, headers=HEADERS, prefix=LATIN)
    def check(method, path, query, authorization, headers, prefix):
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": prefix,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "HTTP_AUTHORIZATION": authorization,
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
            "wsgi.errors": sys.stderr,
            **headers,
        }
        status, answered, body = asked(app, environ)
        assert status in {200, 204, 304, 400, 401, 403, 404, 405}
        assert answered["x-content-type-options"] == "nosniff"
        for name, value in answered.items():
            assert value.isascii(), name
            assert value.isprintable(), name
        if status >= 400 and method != "HEAD":
            assert set(json.loads(body)["error"]) == {"code", "message"}
            assert b"Traceback" not in body

    check()


def test_an_environ_with_the_least_that_wsgi_asks_for_is_enough(app):
    environ = {
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
    }
    assert asked(app, environ)[0] == 401
    assert asked(app, {**environ, "HTTP_AUTHORIZATION": "Bearer s3cret"})[0] == 404
    assert asked(app, {**environ, "PATH_INFO": "/api/v1/jobs", "HTTP_AUTHORIZATION": "Bearer s3cret"})[0] == 200
