"""Slow and hostile peers of `jobstore serve`: whoever asks a plain question is answered within a second meanwhile."""

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

import jobstore
from jobstore.http.app import create_app
from jobstore.http.serve import Server
from jobstore.language import examples

SERVE = """
import sys
from jobstore.http.serve import serve

serve(sys.argv[1], port=0, tokens={"s3cret": {"read:jobs"}}, ready=lambda url: print(url, flush=True))
"""
ATTACK_SECONDS = float(os.environ.get("JOBSTORE_ATTACK_SECONDS", "1.5"))
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
        assert process.wait(timeout=10) == 0
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
    peer.settimeout(5)
    peer.connect(("127.0.0.1", port))
    return peer


def seconds_of_a_good_request(port: int) -> float:
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/api/v1/jobs", headers=GOOD)
        response = connection.getresponse()
        assert json.loads(response.read())["pagination"]["total"] == 2
    finally:
        connection.close()
    return time.monotonic() - began


def longest_good_request(port: int, between: Any = lambda: None) -> float:
    """The slowest of many good requests while the attack goes on."""
    deadline = time.monotonic() + ATTACK_SECONDS
    longest = 0.0
    while time.monotonic() < deadline:
        longest = max(longest, seconds_of_a_good_request(port))
        between()
    return longest


def send_to_all(peers: Sockets, data: bytes) -> None:
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.send(data)


def test_150_connections_that_send_nothing(port, peers):
    for _ in range(150):
        connect(port, peers)
    assert longest_good_request(port) < 3


def test_150_requests_that_trickle_in(port, peers):
    for _ in range(150):
        connect(port, peers).send(b"GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\nX-A: ")
    assert longest_good_request(port, lambda: send_to_all(peers, b"a")) < 3


def test_connections_without_end(port, peers):
    def hundred_more() -> None:
        if len(peers) < 900:
            for _ in range(100):
                connect(port, peers)

    assert longest_good_request(port, hundred_more) < 3
    assert len(peers) == 900


def test_peers_that_ask_for_much_and_do_not_read(port, peers):
    asked = b"GET /api/v1/jobs/executions?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n\r\n"
    for _ in range(12):
        connect(port, peers, receive_buffer=4096).send(asked)
    assert longest_good_request(port) < 3


def test_a_peer_that_reads_slowly_and_asks_again_and_again_holds_no_thread(port, peers):
    asked = b"GET /api/v1/jobs/executions?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n\r\n"
    for _ in range(8):  # twice as many as there are threads
        connect(port, peers, receive_buffer=4096).send(asked * 20)
    assert longest_good_request(port) < 3


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

    assert longest_good_request(port, some_of_each) < 3


# The deadlines, shortened


@pytest.fixture
def quick(store_path, monkeypatch):
    """A server in this process whose deadlines are a second."""
    for name in ("REQUEST_SECONDS", "IDLE_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(f"jobstore.http.serve.{name}", 1)
    monkeypatch.setattr("jobstore.http.serve.MAX_CONNECTIONS", 20)
    server = Server(create_app(store_path, open_access=True), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield urlsplit(server.url).port
    server.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()


def seconds_until_closed(peer: socket.socket, between: Any = lambda: None) -> float:
    began = time.monotonic()
    peer.settimeout(0.05)
    while time.monotonic() - began < 15:
        with contextlib.suppress(TimeoutError):
            try:
                if not peer.recv(65536):
                    break
            except ConnectionError:
                break
        with contextlib.suppress(OSError):
            between()
    return time.monotonic() - began


def test_a_connection_that_sends_nothing_is_closed(quick, peers):
    assert 0.5 < seconds_until_closed(connect(quick, peers)) < 5


def test_a_request_that_trickles_in_is_closed_at_its_deadline(quick, peers):
    peer = connect(quick, peers)
    peer.send(b"GET / HTTP/1.1\r\nX-A: ")
    assert 0.5 < seconds_until_closed(peer, lambda: peer.send(b"a")) < 5


def test_a_body_that_trickles_in_is_closed_at_its_deadline(quick, peers):
    peer = connect(quick, peers)
    peer.send(b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    assert 0.5 < seconds_until_closed(peer, lambda: peer.send(b"a")) < 5


def test_a_connection_that_is_used_stays_open(quick):
    connection = http.client.HTTPConnection("127.0.0.1", quick, timeout=5)
    connection.connect()
    kept = connection.sock
    for _ in range(12):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        time.sleep(0.2)
    assert connection.sock is kept
    connection.close()


def test_a_peer_that_stopped_reading_is_dropped(quick, peers):
    peer = connect(quick, peers, receive_buffer=4096)
    peer.send(b"GET /api/v1/jobs/executions?limit=400 HTTP/1.1\r\nHost: x\r\n\r\n")
    deadline = time.monotonic() + 10
    poller = select.poll()
    poller.register(peer, select.POLLRDHUP | select.POLLERR | select.POLLHUP)
    while not poller.poll(100):
        assert time.monotonic() < deadline, "the server kept the connection"


def test_at_the_limit_the_one_served_the_longest_ago_makes_room(quick, peers):
    first = connect(quick, peers)
    first.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    while not first.recv(1000).endswith(b"}"):
        pass
    for _ in range(19):
        connect(quick, peers)
    assert seconds_of_a_good_request(quick) < 1
    assert select.select([first], [], [], 2)[0], "the first was to go"
    with pytest.raises(ConnectionResetError):
        first.recv(1000)


def test_a_large_page_reaches_a_peer_that_reads(quick):
    connection = http.client.HTTPConnection("127.0.0.1", quick, timeout=10)
    connection.request("GET", "/api/v1/jobs/executions?limit=400")
    assert len(json.loads(connection.getresponse().read())["data"]) == 400
    connection.close()
