"""The client over HTTP: a script that moves from a file to a server must not notice."""

import inspect
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

import jobstore
from jobstore.http.client import RemoteJobStore
from jobstore.wsgi import create_app

TOKEN = "s3cret-token-of-the-tests"
QUERIES = [
    "list_jobs", "get_job", "list_job_executions", "get_job_executions", "job_stats", "get_execution",
    "list_job_states", "execution_histogram",
]  # fmt: skip


def over(app: Callable[..., Any], url: str = "http://jobs.test", token: str | None = TOKEN) -> RemoteJobStore:
    """A client of a WSGI application, without a network."""

    def spoken_to_by_a_server(environ, start_response):
        # A WSGI server hands the bytes of the path over as latin-1; httpx hands over the text that they mean.
        return app(environ | {"PATH_INFO": environ["PATH_INFO"].encode().decode("latin-1")}, start_response)

    return jobstore.connect(url, token=token, transport=httpx.WSGITransport(app=spoken_to_by_a_server))


@pytest.fixture
def remote(datahub):
    with over(create_app(datahub, tokens={TOKEN: {"read:jobs"}})) as store:
        yield store


def outcome(store: jobstore.Queries, query: str, *arguments: object, **keywords: object) -> tuple[object, ...]:
    """What a caller sees: a document, or the class and the words of an error."""
    try:
        return ("document", getattr(store, query)(*arguments, **keywords))
    except jobstore.JobStoreError as error:
        return (type(error), error.code, error.message)
    except TypeError:
        return (TypeError,)


def brief(value: object) -> str:
    return ascii(value)[:60]


# The same answers.


class Five(IntEnum):
    FIVE = 5


EAST = timezone(timedelta(hours=8))
LISTS: list[dict[str, Any]] = [
    {},
    {"limit": 1},
    {"limit": 1, "offset": 1},
    {"limit": Five.FIVE},
    {"offset": 2**63 - 1},
    {"search": ""},
    {"search": "  FAILED "},
    {"search": "%&=+#?/;"},
    {"search": "失败"},
    {"search": "ＳＹＮＣ"},
    {"search": "x" * 200},
    {"search": "x" * 201},
    {"search": "\0"},
    {"search": "\ud800"},
    {"search": 5},
    {"order_by": "duration_ms", "order_desc": False},
    {"order_by": "result"},
    {"order_desc": 1},
    {"order_desc": "true"},
    {"limit": "20"},
    {"limit": True},
    {"limit": 1.0},
    {"limit": 0},
    {"limit": 1001},
    {"limit": None},
    {"limit": 10**4000},
    {"offset": -1},
    {"after": "2026-01-15T04:00:00Z"},
    {"after": "2026-01-15T12:00:00+08:00"},
    {"after": "2026-01-15 12:00 08:00"},
    {"after": datetime(2026, 1, 15, 12, tzinfo=EAST)},
    {"before": datetime(2026, 1, 15, 0, 0, 0, 1, tzinfo=UTC)},
    {"before": datetime(2026, 1, 15)},
    {"after": datetime(1900, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai"))},  # its offset then had seconds
    {"before": "now"},
    {"before": 1768464000},
    {"after": "2026-01-15T08:00:00Z", "before": "2026-01-15T08:00:00Z"},
    {"after": "2026-01-16", "before": "2026-01-15"},
    {"status": "FAILURE"},
    {"status": jobstore.Status.FAILURE},
    {"status": ["TIMEOUT", "FAILURE"]},
    {"status": {jobstore.Status.SUCCESS}},  # a set; of two, the order of the id would depend on the process
    {"status": ("SUCCESS", "SUCCESS")},
    {"status": "FAILURE,TIMEOUT"},
    {"status": "failed"},
    {"status": []},
    {"status": [None]},
    {"trace_id": "abc123def456"},
    {"trace_id": "ABC123DEF456"},
    {"trace_id": ""},
    {"trace_id": "a b+c%d&e=f/g?h#i"},
    {"limt": 5},
]
NAMES: list[Any] = [
    "sync_klines_1h", "sync_symbols_all", 1, 2, "1", "01", "2", 3, 0, -1, 2**63, 10**4000, "", " ", "nobody", "Sync_klines_1h",
    "任务", "a b", "a/b", "/", "..", ".", "executions", "sync_klines_1h/executions", "sync_klines_1h/", "a%2Fb", "%", "%2e",
    "a?b=c", "a#b", "a;b", "a\\b", "a\nb", "a\r\nb", "\t", "\0", "\ud800", "x" * 200, "x" * 201, "１", None, True, 1.0, [], b"x",
]  # fmt: skip


@pytest.mark.parametrize("keywords", LISTS, ids=brief)
def test_a_list_of_executions_is_that_of_the_file(datahub, remote, keywords):
    for query, arguments in (("list_job_executions", ()), ("get_job_executions", ("sync_klines_1h",))):
        expected = outcome(datahub, query, *arguments, **keywords)
        assert outcome(remote, query, *arguments, **keywords) == expected


@pytest.mark.parametrize("name", NAMES, ids=brief)
def test_a_job_is_named_as_for_the_file(datahub, remote, name):
    for query in ("get_job", "get_job_executions", "job_stats"):
        assert outcome(remote, query, name) == outcome(datahub, query, name)
    wrong = {"limit": 0, "after": "never"}
    assert outcome(remote, "get_job_executions", name, **wrong) == outcome(datahub, "get_job_executions", name, **wrong)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"search": "kline", "limit": 20},
        {"search": "SYNC", "order_by": "next_run_at", "order_desc": True},
        {"job_type": "kline"},
        {"job_category": "Sync"},
        {"enabled": True},
        {"enabled": False},
        {"enabled": 1},
        {"enabled": "true"},
        {"job_type": ""},
        {"job_type": "x" * 201},
        {"order_by": "parameters"},
        {"order_by": "started_at"},
    ],
    ids=brief,
)
def test_a_list_of_jobs_is_that_of_the_file(datahub, remote, keywords):
    assert outcome(remote, "list_jobs", **keywords) == outcome(datahub, "list_jobs", **keywords)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"job_id": 1},
        {"job_id": "nobody"},
        {"after": "2026-01-15", "before": datetime(2026, 1, 15, 8, tzinfo=UTC)},
        {"after": "2026-01-16", "before": "2026-01-15"},
        {"job_id": "nobody", "after": "never"},
        {"job_id": "", "after": "never"},
    ],
    ids=brief,
)
def test_numbers_are_those_of_the_file(datahub, remote, keywords):
    assert outcome(remote, "job_stats", **keywords) == outcome(datahub, "job_stats", **keywords)


@pytest.mark.parametrize(
    ("query", "keywords"),
    [
        ("get_execution", {"execution_id": 12345}),
        ("get_execution", {"execution_id": "012345"}),
        *(("get_execution", {"execution_id": wrong}) for wrong in ("1", "a/b", "..", "latest", "", None, 2**70, "１")),
        ("list_job_states", {}),
        ("list_job_states", {"state": ["late", "failing"], "order_by": "p95_ms", "lang": "zh", "limit": 1}),
        ("list_job_states", {"state": "off"}),
        ("list_job_states", {"state": []}),
        ("execution_histogram", {}),
        ("execution_histogram", {"job_id": 2, "search": "失败", "bucket": "1d", "timezone": "Asia/Shanghai"}),
        ("execution_histogram", {"job_id": "nobody"}),
        ("execution_histogram", {"after": "2020-01-01", "before": "2026-01-01"}),
        ("execution_histogram", {"timezone": "Asia/Shangai"}),
        ("execution_histogram", {"timezone": None}),
    ],
    ids=brief,
)
def test_states_and_counts_are_those_of_the_file(datahub, remote, query, keywords):
    assert outcome(remote, query, **keywords) == outcome(datahub, query, **keywords)


@pytest.mark.parametrize("query", QUERIES)
def test_methods_and_plain_functions_have_the_signatures_of_the_file(datahub, remote, query):
    assert inspect.signature(getattr(remote, query)) == inspect.signature(getattr(datahub, query))
    arguments = (12345,) if query == "get_execution" else (1,) if query.startswith("get") else ()
    assert getattr(jobstore, query)(remote, *arguments) == getattr(datahub, query)(*arguments)


def test_the_keys_come_in_the_same_order(datahub, remote):
    assert list(remote.get_job(1)) == list(datahub.get_job(1))
    assert list(remote.list_job_executions()["data"][0]) == list(datahub.list_job_executions()["data"][0])


def test_every_name_that_a_job_may_have_reaches_it(tmp_path):
    names = [
        "a b", "a%2Fb", "%2e%2e", "...", "?limit=1", "#", "a&b=c", "a+b", "a;b", "a\\b", "\u00e9", "任务", "😀", "executions2", "..a",
        "x" * 200, "'\"<>", "1a", "１２",
    ]  # fmt: skip
    path = tmp_path / "jobs.db"
    with jobstore.Recorder(path) as recorder:
        for name in names:
            recorder.save_job(name, job_type="t", job_category="c", interval_seconds=60)
    with jobstore.open(path) as store, over(create_app(store, open_access=True), token=None) as remote:
        assert [remote.get_job(name)["name"] for name in names] == names
        assert all(remote.get_job_executions(name)["data"] == [] for name in names)


def test_an_api_under_a_prefix_is_found_there(datahub):
    app = create_app(datahub, open_access=True)

    def mounted(environ, start_response):
        assert environ["PATH_INFO"] == "/data/hub/api/v1/jobs/1"
        return app(environ | {"SCRIPT_NAME": "/data/hub", "PATH_INFO": environ["PATH_INFO"][9:]}, start_response)

    for url in ("http://jobs.test/data/hub", "http://jobs.test/data/hub/"):
        assert over(mounted, url).get_job(1) == datahub.get_job(1)


# Errors of the server and of the network.


def test_no_token_a_wrong_one_and_one_without_the_permission_are_told_apart(datahub):
    app = create_app(datahub, tokens={TOKEN: {"read:jobs"}, "weak": {"read:other"}})
    with pytest.raises(jobstore.Unauthorized):
        over(app, token=None).list_jobs()
    with pytest.raises(jobstore.Unauthorized):
        over(app, token="wrong").list_jobs()
    with pytest.raises(jobstore.Forbidden, match="read:jobs"):
        over(app, token="weak").list_jobs()


def test_a_store_that_is_not_there_is_the_same_error_with_the_public_words(tmp_path):
    with pytest.raises(jobstore.StoreNotFound) as missing:
        over(create_app(tmp_path / "none.db", open_access=True)).list_jobs()
    assert str(tmp_path) not in missing.value.message


def test_a_page_that_is_too_large_says_which_limit_is_not(datahub):
    with pytest.raises(jobstore.ResponseTooLarge, match="limit="):
        over(create_app(datahub, open_access=True, max_body_bytes=700)).list_job_executions()


def all_errors(root: type[jobstore.JobStoreError] = jobstore.JobStoreError) -> list[type[jobstore.JobStoreError]]:
    """Those of the language: what other modules derive depends on what is imported, and comes back as its parent."""
    found = [below for child in root.__subclasses__() for below in (child, *all_errors(child))]
    return [error for error in found if error.__module__ == root.__module__]


def answering(status: str, body: bytes, *headers: tuple[str, str]) -> Callable[..., list[bytes]]:
    def app(_environ, start_response):
        start_response(status, list(headers))
        return [body]

    return app


@pytest.mark.parametrize("error", all_errors(), ids=lambda each: each.__name__)
def test_every_code_comes_back_as_its_class(error):
    body = f'{{"error": {{"code": "{error.code}", "message": "what the server says"}}}}'.encode()
    with pytest.raises(jobstore.JobStoreError, match=r"^what the server says$") as raised:
        over(answering(f"{error.http_status} No", body)).list_jobs()
    expected = jobstore.StoreUnreadable if error is jobstore.StoreError else error
    assert type(raised.value) is expected


@pytest.mark.parametrize(
    ("app", "expected", "words"),
    [
        (answering("200 OK", b"<html>Log in</html>"), jobstore.StoreUnreadable, "not as a job API"),
        (answering("200 OK", b'{"status": "ok"}'), jobstore.StoreUnreadable, "not as a job API"),
        (answering("200 OK", b"[1]"), jobstore.StoreUnreadable, "not as a job API"),
        (answering("200 OK", b'{"data": [\xff]}'), jobstore.StoreUnreadable, "not as a job API"),
        (answering("200 OK", b"[" * 100_000), jobstore.StoreUnreadable, "not as a job API"),
        (answering("204 No Content", b""), jobstore.StoreUnreadable, "204"),
        (answering("404 Not Found", b"no such page"), jobstore.StoreUnreadable, "404"),
        (answering("502 Bad Gateway", b"nginx"), jobstore.StoreUnreadable, "502"),
        (answering("401 Unauthorized", b"proxy"), jobstore.Unauthorized, "401"),
        (answering("403 Forbidden", b"proxy"), jobstore.Forbidden, "403"),
        (answering("500 Oops", b'{"error": "text"}'), jobstore.StoreUnreadable, "500"),
        (answering("500 Oops", b'{"error": {"code": 5, "message": "m"}}'), jobstore.StoreUnreadable, "500"),
        (answering("503 No", b'{"error": {"code": "STORE_ON_FIRE", "message": "m"}}'), jobstore.StoreError, "m"),
        (answering("418 No", b'{"error": {"code": "TEAPOT", "message": "m"}}'), jobstore.InternalError, "m"),
        (answering("302 Found", b"", ("Location", "http://evil.test/")), jobstore.StoreUnreadable, "evil.test"),
        (
            answering("200 OK", b"no gzip at all", ("Content-Encoding", "gzip")),
            jobstore.StoreUnreadable,
            "Cannot reach",
        ),
    ],
)
def test_an_answer_that_is_none_of_this_api_is_a_typed_error(app, expected, words):
    with pytest.raises(expected, match=words):
        over(app).list_jobs()


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("get_job", ["a"]),
        ("get_execution", ["1"]),
        ("job_stats", []),
        ("list_job_states", []),
        ("execution_histogram", []),
    ],
)
def test_an_answer_of_another_api_is_no_document(query, arguments):
    with pytest.raises(jobstore.StoreUnreadable, match="not as a job API"):
        getattr(over(answering("200 OK", b'{"message": "hello"}')), query)(*arguments)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://[::1", "gopher://a"])
def test_a_proxy_that_cannot_be_used_is_told_and_none_leads_back_to_this_machine(monkeypatch, proxy):
    for name in ("ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(jobstore.InvalidParameter, match="The proxy or the certificates that the environment names"):
        jobstore.connect("http://jobs.test")
    for here in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000/prefix"):
        jobstore.connect(here).close()


def test_certificates_that_cannot_be_read_are_told(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    for url in ("https://jobs.test", "https://127.0.0.1"):
        with pytest.raises(jobstore.InvalidParameter, match="certificates that the environment names"):
            jobstore.connect(url)
    jobstore.connect("http://127.0.0.1").close()  # without TLS, none are read


def test_a_redirect_is_not_followed_so_the_token_stays():
    seen = []

    def app(environ, start_response):
        seen.append(environ["HTTP_HOST"])
        start_response("307 Elsewhere", [("Location", "http://evil.test/api/v1/jobs")])
        return [b""]

    with pytest.raises(jobstore.StoreUnreadable, match="redirects"):
        over(app).list_jobs()
    assert seen == ["jobs.test"]


def test_what_breaks_a_rule_is_refused_before_anything_is_sent():
    def app(_environ, _start_response):
        raise AssertionError

    with pytest.raises(jobstore.InvalidParameter):
        over(app).list_job_executions(limit=0)
    with pytest.raises(jobstore.InvalidParameter):
        over(app).get_job("\ud800")


def test_a_server_that_is_not_there_is_a_store_that_cannot_be_read():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # held and not listening: nobody else can get the port meanwhile
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(jobstore.StoreUnreadable, match=r"Cannot reach http://127.*jobstore serve"):
            jobstore.connect(url, token=TOKEN).list_jobs()


def test_a_server_that_does_not_answer_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            jobstore.connect(url, token=TOKEN, timeout_seconds=0.2) as store,
            pytest.raises(jobstore.StoreUnreadable, match="did not answer in time"),
        ):
            store.list_jobs()


@contextmanager
def raw_server(*connections: list[bytes]) -> Iterator[tuple[str, list[int]]]:
    """A server that gives each connection its answers, whatever they promise, and hangs up after the last."""
    requests: list[int] = []

    def serve(listening: socket.socket) -> None:
        for answers in connections:
            connection, _ = listening.accept()
            with connection:
                for answer in answers:
                    requests.append(len(connection.recv(65536)))
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", requests
        thread.join(120)


def test_a_kept_connection_that_was_dropped_meanwhile_is_made_again():
    good = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: keep-alive\r\n\r\n{"id":"a"}'
    with raw_server([good, b""], [good]) as (url, requests), jobstore.connect(url) as store:
        assert [store.get_job(1)["id"], store.get_job(1)["id"]] == ["a", "a"]
    assert len(requests) == 3


def test_an_answer_that_breaks_off_is_a_typed_error():
    half = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id":'
    with (
        raw_server([half], [half]) as (url, _),
        jobstore.connect(url) as store,
        pytest.raises(jobstore.StoreUnreadable, match="Cannot reach"),
    ):
        store.get_job(1)


# The token.


@pytest.mark.parametrize(
    "token", ["", "hunter 2", "a\r\nX-Evil: 1", "tökén", "\ud800", "x" * 506, b"hunter2", 4711, True]
)
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(token):
    with pytest.raises(jobstore.InvalidParameter, match="not shown") as refusal:
        jobstore.connect("http://jobs.test", token=token)
    assert not token or str(token) not in refusal.value.message


def test_the_token_is_in_no_repr_and_no_traceback():
    def app(_environ, _start_response):
        raise httpx.ReadTimeout(f"a transport that tells: {TOKEN}"[:23])

    store = over(app)
    assert TOKEN not in repr(store)
    try:
        store.list_jobs()
    except jobstore.StoreUnreadable as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert TOKEN not in shown
    else:
        pytest.fail("the query should have failed")


# Opening and closing.


@pytest.mark.parametrize(
    "url",
    [
        "", "jobs.test", "ftp://jobs.test", "file:///etc/passwd", "http://", "http:///jobs", "http://h:0", "http://h:65536",
        "http://h?x=1", "http://h#x", "http:// h", "http://h/ a", "http://h\n", "http://[::1", "http://hé", "http://\ud800", None, 5,
        b"http://h",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(jobstore.InvalidParameter, match="url must be"):
        jobstore.connect(url)


def test_a_password_in_an_address_is_refused_and_not_shown():
    with pytest.raises(jobstore.InvalidParameter, match="token by itself") as refusal:
        jobstore.connect("http://user:hunter2@jobs.test")
    assert "hunter2" not in refusal.value.message


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 86401, "5", None, True])
def test_a_time_out_that_is_none_is_refused(seconds):
    with pytest.raises(jobstore.InvalidParameter, match="timeout_seconds"):
        jobstore.connect("http://jobs.test", timeout_seconds=seconds)


def test_closing_twice_does_nothing_and_a_closed_client_says_so(remote):
    remote.close()
    remote.close()
    with pytest.raises(jobstore.StoreUnreadable, match="connect again"):
        remote.list_jobs()


def test_without_httpx_the_remedy_is_named():
    code = "import sys; sys.modules['httpx'] = None\nimport jobstore\njobstore.connect('http://h')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert f"pip install -e '{Path(jobstore.__file__).parents[1]}[client]'" in done.stderr


# A real server.

SERVE = """
import sys, waitress
from jobstore.wsgi import create_app
server = waitress.create_server(create_app(sys.argv[1], tokens={sys.argv[2]: {"read:jobs"}}), host="127.0.0.1", port=0)
print(server.effective_port, flush=True)
server.run()
"""


@pytest.fixture(scope="module")
def address(seed_path):
    """The address of a server in another process."""
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(seed_path), TOKEN], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.communicate()


def test_a_real_server_gives_the_seeds_answers(datahub, address, seed_jobs, seed_executions):
    with jobstore.connect(address, token=TOKEN) as store:
        assert store.get_job("sync_klines_1h")["parameters"] == seed_jobs[0]["parameters"]
        assert store.list_job_executions(search="failed", limit=10, order_desc=True)["data"] == seed_executions[1:]
        after = "2026-01-01T00:00:00Z"
        history = store.get_job_executions(job_id="sync_klines_1h", limit=100, after=after)
        assert history == datahub.get_job_executions(job_id="sync_klines_1h", limit=100, after=after)
        assert outcome(store, "get_job", "nobody") == outcome(datahub, "get_job", "nobody")
        assert store.job_stats() == datahub.job_stats()
    with jobstore.connect(address, token="wrong") as store, pytest.raises(jobstore.Unauthorized):
        store.list_jobs()


def test_through_a_real_server_a_job_is_named_as_for_the_file(datahub, address):
    with jobstore.connect(address, token=TOKEN) as store:
        for name in NAMES:
            for query in ("get_job_executions", "job_stats"):
                assert outcome(store, query, name) == outcome(datahub, query, name), brief(name)


def test_threads_may_share_a_client(datahub, address):
    expected = datahub.list_job_executions()
    wrong: list[object] = []

    def ask(store: RemoteJobStore) -> None:
        wrong.extend(page for page in (store.list_job_executions() for _ in range(10)) if page != expected)

    with jobstore.connect(address, token=TOKEN) as store:
        threads = [threading.Thread(target=ask, args=(store,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


FORK = """
import os, sys, jobstore
store = jobstore.connect(sys.argv[1], token=sys.argv[2])
before = store.list_job_executions()
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        os._exit(0 if all(store.list_job_executions() == before for _ in range(5)) else 1)
    children.append(child)
same = all(store.list_job_executions() == before for _ in range(5))
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
store.close()
sys.exit(0 if same and codes == [0] * 4 else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_client_may_cross_a_fork(address):
    done = subprocess.run([sys.executable, "-c", FORK, address, TOKEN], timeout=120, check=False)
    assert done.returncode == 0
