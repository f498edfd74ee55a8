"""`jobstore.http.serve.serve`: what it refuses to start with, and what it does once it runs."""

import contextlib
import http.client
import json
import logging
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobstore.http import tokens
from jobstore.http.hosts import is_loopback
from jobstore.http.serve import Server, serve
from jobstore.language.errors import InvalidParameter, StoreNotFound
from jobstore.wsgi import create_app
from tests.waiting import LONG_SECONDS

GOOD = {"s3cret": {"read:jobs"}}


def never(_url: str) -> None:
    pytest.fail("it listened")


def test_without_tokens_it_does_not_start(seed_path):
    with pytest.raises(InvalidParameter, match="exactly one of tokens=, authenticate= and open_access=True"):
        serve(seed_path, port=0, ready=never)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "", "127.0.0.1.example.com", "::ffff:10.0.0.1"]
)
def test_open_to_all_it_listens_on_loopback_only(seed_path, host):
    with pytest.raises(InvalidParameter, match=r"listen on 127\.0\.0\.1"):
        serve(seed_path, host=host, port=0, open_access=True, ready=never)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_what_loopback_is(host):
    assert is_loopback(host)


def test_with_tokens_and_open_at_once_it_does_not_start(seed_path):
    with pytest.raises(InvalidParameter, match="exactly one"):
        serve(seed_path, port=0, tokens=GOOD, open_access=True, ready=never)


def test_a_store_that_is_not_there_is_told_at_the_start(tmp_path):
    with pytest.raises(StoreNotFound):
        serve(tmp_path / "nowhere.db", port=0, tokens=GOOD, ready=never)


def test_a_port_that_is_taken_is_told_with_its_number(seed_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InvalidParameter, match=f"Port {port} on 127.0.0.1 is in use; choose another port"):
            serve(seed_path, port=port, tokens=GOOD, ready=never)


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("no such host.invalid", 0), ("203.0.113.7", 0)]
)
def test_an_address_that_cannot_be_had_is_told(seed_path, host, port):
    with pytest.raises(InvalidParameter, match=r"Cannot listen on|port must be"):
        serve(seed_path, host=host, port=port, tokens=GOOD, ready=never)


@contextlib.contextmanager
def serving(app: Any, host: str = "127.0.0.1") -> Iterator[str]:
    server = Server(app, host=host, port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join(timeout=LONG_SECONDS)
        assert not thread.is_alive()


def status_of(url: str, token: str | None = None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=LONG_SECONDS) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_token_that_is_revoked_is_refused_by_the_running_server(seed_path, tmp_path):
    path = tmp_path / "jobs.db.tokens"
    token = tokens.create(path, label="web")
    with serving(create_app(seed_path, authenticate=tokens.load(path))) as url:
        assert status_of(f"{url}/api/v1/jobs", token) == 200
        later = tokens.create(path, label="later")
        assert status_of(f"{url}/api/v1/jobs", later) == 200
        tokens.revoke(path, "web")
        assert status_of(f"{url}/api/v1/jobs", token) == 401
        assert status_of(f"{url}/api/v1/jobs", later) == 200


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_the_address_it_tells_is_the_one_to_ask(seed_path, host):
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with serving(create_app(seed_path, open_access=True), host) as url:
        assert status_of(f"{url}/api/v1/jobs") == 200


def test_serve_in_a_thread_runs_and_tells_its_address(seed_path):
    """No signal can reach it there, so this one runs until the process ends."""
    listening = threading.Event()
    urls = []

    def ready(url: str) -> None:
        urls.append(url)
        listening.set()

    keywords = {"port": 0, "open_access": True, "ready": ready}
    threading.Thread(target=serve, args=(seed_path,), kwargs=keywords, daemon=True).start()
    assert listening.wait(LONG_SECONDS)
    with urllib.request.urlopen(f"{urls[0]}/api/v1/jobs", timeout=LONG_SECONDS) as response:
        assert json.load(response)["pagination"]["total"] == 2


def said_to(url: str, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """What the server answers to bytes that no client would send."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=LONG_SECONDS) as peer:
        peer.sendall(data)
        response = http.client.HTTPResponse(peer)
        response.begin()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


REFUSED = [
    (400, b"GET /api/v1/jobs?search=\xe5\xa4\xb1 HTTP/1.1\r\n\r\n", "curl -G --data-urlencode"),
    (400, b"GET /api/v1/jobs/\xff HTTP/1.1\r\n\r\n", "curl -G --data-urlencode"),
    (400, b"GET http://[ HTTP/1.1\r\n\r\n", "not well-formed HTTP"),
    (400, b"GET http://[x]:y/ HTTP/1.1\r\n\r\n", "not well-formed HTTP"),
    (400, b"nonsense\r\n\r\n", "not well-formed HTTP"),
    (400, b"get / HTTP/1.1\r\n\r\n", "not well-formed HTTP"),
    (400, b"GET / HTTP/1.1\r\nAuthorization Bearer s3cret\r\n\r\n", "not well-formed HTTP"),
    (400, b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "not well-formed HTTP"),
    (400, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not well-formed HTTP"),
    (
        400,
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "not well-formed HTTP",
    ),
    (400, b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "not well-formed HTTP"),
    (413, b"POST / HTTP/1.1\r\nContent-Length: 65536\r\n\r\n", "64 KB"),
    (431, b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", "32 KB"),
    (431, b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", "32 KB"),
    (501, b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding"),
]


@pytest.mark.parametrize(("status", "data", "words"), REFUSED)
def test_what_the_server_refuses_itself_is_said_as_the_api_says_errors(seed_path, caplog, status, data, words):
    caplog.set_level(logging.DEBUG)
    with serving(create_app(seed_path, tokens=GOOD)) as url:
        answered, headers, body = said_to(url, data)
    assert answered == status
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    error = json.loads(body)["error"]
    assert error["code"] == "INVALID_PARAMETER"
    assert words in error["message"]
    assert f"{headers['x-request-id']} - - {status} refused" in caplog.text
    assert "s3cret" not in caplog.text + body.decode()
    assert max(len(record.getMessage()) for record in caplog.records) < 300


@contextlib.contextmanager
def served(path: Path, **keywords: Any) -> Iterator[str]:
    """`serve` in a process of its own, ended with the test."""
    code = "import json, sys; from jobstore.http.serve import serve; path, keywords = sys.argv[1:]; "
    code += "serve(path, port=0, ready=lambda url: print(url, flush=True), **json.loads(keywords))"
    command = [sys.executable, "-c", code, str(path), json.dumps(keywords)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def asked_as(url: str, host: str) -> int:
    request = b"GET /api/v1/jobs HTTP/1.1\r\nHost: " + host.encode() + b"\r\nAuthorization: Bearer s3cret\r\n\r\n"
    return said_to(url, request)[0]


@pytest.mark.parametrize("who", [{"open_access": True}, {"tokens": {"s3cret": ["read:jobs"]}}])
def test_a_server_answers_to_its_own_names_alone(seed_path, who):
    with served(seed_path, **who, host_names=["jobs.example.com"]) as url:
        for host in ("localhost", "127.0.0.1:1", "jobs.example.com", socket.gethostname()):
            assert asked_as(url, host) == 200
        for host in ("evil.example", "testserver.evil.example", "evil"):
            assert asked_as(url, host) == 403


def test_no_log_of_the_server_has_a_token(seed_path, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(create_app(seed_path, tokens=GOOD)) as url:
        assert status_of(f"{url}/api/v1/jobs", "s3cret") == 200
        assert status_of(f"{url}/api/v1/jobs", "unknown-token") == 401
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=LONG_SECONDS) as peer:
            peer.send(b"GET /api/v1/jobs HTTP/1.1\r\nAuthorization: Bearer s3cret\r\nBroken\r\n\r\n")
            assert b"400" in peer.recv(1000)
    assert "GET /api/v1/jobs 200" in caplog.text
    assert "s3cret" not in caplog.text
    assert "unknown-token" not in caplog.text
