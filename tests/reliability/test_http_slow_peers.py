"""Slow and hostile peers of `jobstore serve`: whoever asks a plain question is answered meanwhile.

A server whose deadlines are hours away tells it from one that answers once it has given up a peer.
"""

import contextlib
import http.client
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import jobstore
from jobstore.http.app import create_app
from jobstore.http.serve import Server
from jobstore.language import examples
from tests.reliability.scale import scaled
from tests.waiting import LONG_SECONDS, until

SERVE = """
import sys
from jobstore.http import serve

serve.REQUEST_SECONDS = serve.IDLE_SECONDS = serve.STALLED_SECONDS = 7200
serve.serve(sys.argv[1], port=0, tokens={"s3cret": {"read:jobs"}}, ready=lambda url: print(url, flush=True))
"""
GOOD_REQUESTS = scaled(20)
GOOD = {"Authorization": "Bearer s3cret"}
Sockets = list[socket.socket]


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    """400 executions with a result of 60 KB: a page of all is 24 MB."""
    wide = {**examples.EXECUTION, "result": {"text": "x" * 60_000}}
    path = tmp_path_factory.mktemp("store") / "jobs.db"
    executions = ({**wide, "id": str(number)} for number in range(1, 401))
    jobstore.load(path, {"jobs": examples.JOB_PAGE["data"], "executions": executions})
    return path


@pytest.fixture(scope="module")
def port(store_path):
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(store_path)], text=True, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        yield urlsplit(process.stdout.readline().strip()).port
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def peers() -> Iterator[Sockets]:
    opened: Sockets = []
    yield opened
    for each in opened:
        each.close()


def connect(port: int, peers: Sockets, receive_buffer: int | None = None) -> socket.socket:
    peer = socket.socket()
    peers.append(peer)
    if receive_buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(LONG_SECONDS)
    peer.connect(("127.0.0.1", port))
    return peer


def check_a_good_request(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG_SECONDS)
    try:
        connection.request("GET", "/api/v1/jobs", headers=GOOD)
        response = connection.getresponse()
        assert json.loads(response.read())["pagination"]["total"] == 2
    finally:
        connection.close()


def check_good_requests(port: int, between: Any = lambda: None) -> None:
    """Many good requests while the attack goes on."""
    for _ in range(GOOD_REQUESTS):
        check_a_good_request(port)
        between()


def send_to_all(peers: Sockets, data: bytes) -> None:
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.send(data)


def test_150_connections_that_send_nothing(port, peers):
    for _ in range(150):
        connect(port, peers)
    check_good_requests(port)


def test_150_requests_that_trickle_in(port, peers):
    for _ in range(150):
        connect(port, peers).send(b"GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\nX-A: ")
    check_good_requests(port, lambda: send_to_all(peers, b"a"))


def test_connections_without_end(port, peers):
    def hundred_more() -> None:
        if len(peers) < 900:
            for _ in range(100):
                connect(port, peers)

    check_good_requests(port, hundred_more)
    assert len(peers) == 900


def test_peers_that_ask_for_much_and_do_not_read(port, peers):
    asked = b"GET /api/v1/jobs/executions?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n\r\n"
    for _ in range(12):
        connect(port, peers, receive_buffer=4096).send(asked)
    check_good_requests(port)


def test_a_peer_that_reads_slowly_and_asks_again_and_again_holds_no_thread(port, peers):
    asked = b"GET /api/v1/jobs/executions?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n\r\n"
    for _ in range(8):  # twice as many as there are threads
        connect(port, peers, receive_buffer=4096).send(asked * 20)
    check_good_requests(port)


def test_several_requests_at_once_get_one_answer_that_says_so(port, peers):
    peer = connect(port, peers)
    peer.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    received = b"".join(iter(lambda: peer.recv(1000), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in received


def test_garbage_and_headers_without_end(port, peers):
    def some_of_each() -> None:
        for data in (b"\x16\x03\x01\x02\x00" * 50, b"GET " + b"/" * 40_000, b"\r\n" * 2000, b"A: " + b"b" * 100_000):
            with contextlib.suppress(OSError):
                connect(port, peers).sendall(data + b"\r\n\r\n")
        while len(peers) > 200:
            peers.pop(0).close()

    check_good_requests(port, some_of_each)


# The deadlines, shortened


@pytest.fixture
def quick(store_path, monkeypatch):
    """A server in this process whose deadlines are a second."""
    with server_with_deadlines(1, store_path, monkeypatch) as port:
        yield port


@pytest.fixture
def roomy(store_path, monkeypatch):
    """The same with deadlines that are never met."""
    with server_with_deadlines(7200, store_path, monkeypatch) as port:
        yield port


@contextlib.contextmanager
def server_with_deadlines(seconds: int, store_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int | None]:
    for name in ("REQUEST_SECONDS", "IDLE_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(f"jobstore.http.serve.{name}", seconds)
    monkeypatch.setattr("jobstore.http.serve.MAX_CONNECTIONS", 20)
    server = Server(create_app(store_path, open_access=True), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield urlsplit(server.url).port
    finally:
        server.stop()
        thread.join(LONG_SECONDS)
    assert not thread.is_alive()


def wait_until_closed(peer: socket.socket, began: float, between: Any = lambda: None) -> None:
    """Also that it was not closed before its deadline, a second after it began."""
    peer.settimeout(0.05)

    def closed() -> bool:
        with contextlib.suppress(TimeoutError):
            try:
                if not peer.recv(65536):
                    return True
            except ConnectionError:
                return True
        with contextlib.suppress(OSError):
            between()
        return False

    until(closed)
    assert time.monotonic() - began > 0.5


def test_a_connection_that_sends_nothing_is_closed(quick, peers):
    began = time.monotonic()
    wait_until_closed(connect(quick, peers), began)


def test_a_request_that_trickles_in_is_closed_at_its_deadline(quick, peers):
    began = time.monotonic()
    peer = connect(quick, peers)
    peer.send(b"GET / HTTP/1.1\r\nX-A: ")
    wait_until_closed(peer, began, lambda: peer.send(b"a"))


def test_a_body_that_trickles_in_is_closed_at_its_deadline(quick, peers):
    began = time.monotonic()
    peer = connect(quick, peers)
    peer.send(b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    wait_until_closed(peer, began, lambda: peer.send(b"a"))


def stays_open(port: int) -> bool:
    """Whether a connection that is used again and again outlives the deadline of an idle one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG_SECONDS)
    connection.connect()
    kept = connection.sock
    with contextlib.suppress(ConnectionError), contextlib.closing(connection):
        for _ in range(12):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b'{"status":"ok"}'
            time.sleep(0.2)
        return connection.sock is kept
    return False


def test_a_connection_that_is_used_stays_open(quick):
    until(lambda: stays_open(quick))  # once: a busy machine may itself be idle for longer than a second


def test_a_peer_that_stopped_reading_is_dropped(quick, peers):
    peer = connect(quick, peers, receive_buffer=4096)
    peer.send(b"GET /api/v1/jobs/executions?limit=400 HTTP/1.1\r\nHost: x\r\n\r\n")
    poller = select.poll()
    poller.register(peer, select.POLLRDHUP | select.POLLERR | select.POLLHUP)
    assert poller.poll(LONG_SECONDS * 1000), "the server kept the connection"


def makes_room(port: int, peers: list[socket.socket]) -> bool:
    """Whether a connection, served and then idle, is closed when nineteen younger ones and one more are there."""
    first = connect(port, peers)
    first.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    while not first.recv(1000).endswith(b"}"):
        pass
    for _ in range(19):
        connect(port, peers)
    check_a_good_request(port)
    if not select.select([first], [], [], 5)[0]:
        return False
    with pytest.raises(ConnectionResetError):
        first.recv(1000)
    return True


def test_at_the_limit_the_one_served_the_longest_ago_makes_room(roomy, peers):
    until(lambda: makes_room(roomy, peers))  # a server that pauses after the answer notes it later than the others came


def test_a_large_page_reaches_a_peer_that_reads(roomy):
    connection = http.client.HTTPConnection("127.0.0.1", roomy, timeout=LONG_SECONDS)
    connection.request("GET", "/api/v1/jobs/executions?limit=400")
    assert len(json.loads(connection.getresponse().read())["data"]) == 400
    connection.close()
