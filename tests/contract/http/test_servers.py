"""The application under real servers, each in a process of its own, and mounted in another application."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jobstore.wsgi import create_app
from tests.ports import free_port
from tests.waiting import LONG_SECONDS

APPLICATION = """
import jobstore
from jobstore.wsgi import create_app

application = create_app({store}, tokens={{"s3cret": {{"read:jobs"}}}})
"""
GOOD = {"Authorization": "Bearer s3cret"}


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended by SIGTERM, and must then end by itself."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=LONG_SECONDS)
    finally:
        process.kill()
        process.communicate()


def ask(port: int, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG_SECONDS)
    try:
        connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LONG_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ask(port, "/healthz")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"the server did not answer: {process.communicate()[0]}")


def check_the_door(port: int, seed_jobs: list[dict[str, Any]]) -> None:
    """What must be the same behind every server."""
    status, headers, body = ask(port, "/api/v1/jobs?order_by=id", **GOOD)
    assert (status, [each["name"] for each in json.loads(body)["data"]]) == (200, [each["name"] for each in seed_jobs])
    assert headers["content-length"] == str(len(body))
    assert headers["content-type"] == "application/json"
    status, again, nothing = ask(port, "/api/v1/jobs?order_by=id", **GOOD, If_None_Match=headers["etag"])
    assert (status, nothing, again["etag"]) == (304, b"", headers["etag"])
    status, head, nothing = ask(port, "/api/v1/jobs?order_by=id", "HEAD", **GOOD)
    assert (status, nothing, head["etag"]) == (200, b"", headers["etag"])
    status, packed, body = ask(port, "/openapi.json", Accept_Encoding="gzip")
    assert (status, packed["content-encoding"], body[:2]) == (200, "gzip", b"\x1f\x8b")
    assert ask(port, "/api/v1/jobs")[1]["www-authenticate"] == 'Bearer realm="jobstore"'
    assert ask(port, "/api/v1/jobs", "OPTIONS", **GOOD)[0] == 204
    status, headers, _ = ask(port, "/api/v1/jobs", "DELETE", **GOOD)
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    for target, expected in [
        ("/api/v1/jobs/1", 200),
        ("/api/v1/jobs/%ff", 400),
        ("/api/v1/jobs/%E4%BB%BB%E5%8A%A1", 404),
        ("/api/v1/jobs/a%2Fb", 404),
        ("/api/v1/jobs?search=%ff", 400),
        ("/api/v1/jobs?search=%E7%BA%BF", 200),
        ("/api/v1/jobs/executions?after=2026-01-01T00:00:00+08:00", 200),
        ("/nowhere", 404),
    ]:
        assert ask(port, target, **GOOD)[0] == expected, target


def many_at_once(port: int) -> set[int]:
    """The statuses of 80 requests from 8 threads."""
    statuses: set[int] = set()

    def client() -> None:
        for _ in range(10):
            statuses.add(ask(port, "/api/v1/jobs/executions", **GOOD)[0])

    clients = [threading.Thread(target=client) for _ in range(8)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return statuses


@pytest.mark.parametrize("opened", ["late, from a path", "before the fork"])
def test_gunicorn_with_preload(tmp_path, seed_path, seed_jobs, opened):
    store = repr(str(seed_path)) if opened == "late, from a path" else f"jobstore.open({str(seed_path)!r})"
    (tmp_path / "app.py").write_text(APPLICATION.format(store=store))
    command = ["-m", "gunicorn", "--preload", "--workers=2", "--threads=2", "--bind=127.0.0.1:0"]
    with running([*command, "app:application"], tmp_path) as process:
        assert process.stdout
        line = next(line for line in process.stdout if "Listening at" in line)
        found = re.search(r"http://127.0.0.1:(\d+)", line)
        assert found
        port = int(found[1])
        wait_for(port, process)
        check_the_door(port, seed_jobs)
        assert many_at_once(port) == {200}


def test_granian(tmp_path, seed_path, seed_jobs):
    (tmp_path / "app.py").write_text(APPLICATION.format(store=repr(str(seed_path))))
    port = free_port()
    command = ["-m", "granian", "--interface=wsgi", "--host=127.0.0.1", f"--port={port}", "app:application"]
    with running(command, tmp_path) as process:
        wait_for(port, process)
        check_the_door(port, seed_jobs)
        assert many_at_once(port) == {200}


SERVE = """
import sys
from jobstore.http.serve import serve

serve(sys.argv[1], port=0, tokens={"s3cret": {"read:jobs"}}, ready=lambda url: print(url, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_waitress_by_jobstore_serve_ends_though_a_client_idles(tmp_path, seed_path, seed_jobs, number):
    with running(["-c", SERVE, str(seed_path)], tmp_path) as process:
        assert process.stdout
        port = urlsplit(process.stdout.readline().strip()).port
        assert port
        check_the_door(port, seed_jobs)
        assert many_at_once(port) == {200}
        status, headers, _ = ask(port, "/healthz")
        assert (status, "server" in headers) == (200, False)
        idle = socket.create_connection(("127.0.0.1", port))
        process.send_signal(number)
        assert process.wait(timeout=LONG_SECONDS) == 0
        idle.close()


def test_an_application_may_mount_it_under_a_prefix(datahub, asker):
    api = create_app(datahub, tokens={"s3cret": {"read:jobs"}})

    def outer(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if not path.startswith("/ops/jobs-api/"):
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
            return [b"any"]
        environ["SCRIPT_NAME"] += "/ops/jobs-api"
        environ["PATH_INFO"] = path.removeprefix("/ops/jobs-api")
        return api(environ, start_response)

    ask_outer = asker(outer)
    assert ask_outer("/ops").body == b"any"
    answer = ask_outer("/ops/jobs-api/api/v1/jobs?limit=1", prefix="/v2")
    assert answer.json["pagination"]["total"] == 2
    assert answer.headers["link"].startswith("</v2/ops/jobs-api/api/v1/jobs?limit=1&offset=1>")
    assert ask_outer("/ops/jobs-api/healthz", token=None).status == 200
    assert ask_outer("/ops/jobs-api/openapi.json", token=None).json["servers"] == [{"url": "/ops/jobs-api"}]
    assert ask_outer("/ops/jobs-api/api/v1/jobs", token=None).status == 401
