"""`jobstore serve`: the API on waitress, with limits against slow and hostile clients.

With waitress's defaults, 100 connections that send nothing lock out everyone else for two minutes, and a client that
sends a byte now and then is never disconnected. Here

- a request must be complete `REQUEST_SECONDS` after its first byte;
- a connection without a request is closed after `IDLE_SECONDS`, one whose client stopped reading after
  `STALLED_SECONDS`; no thread ever waits for a client;
- at `MAX_CONNECTIONS`, a new connection replaces the one that was served longest ago, so a client that sends its
  request at once always gets an answer.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
import struct
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from jobstore import store as stores
from jobstore.handling import handling
from jobstore.http.app import create_app
from jobstore.http.faults import envelope
from jobstore.http.hosts import is_host_name, is_loopback
from jobstore.http.journal import LONGEST_TARGET, cut, log, request_id
from jobstore.language.characters import escaped
from jobstore.language.errors import InternalError, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from jobstore.http.gate import Authenticate
    from jobstore.language.address import Where

MAX_CONNECTIONS: Final = 400
"""Well below 1024, the limit of `select` and the usual one of open files: buffers and the store need some, too."""
REQUEST_SECONDS: Final = 10
IDLE_SECONDS: Final = 30
STALLED_SECONDS: Final = 20
MAX_HEADER_BYTES: Final = 32 * 1024
"""The longest sensible request (eight parameters of 200 characters in percent-encoded UTF-8) takes 20 KB."""
MAX_REQUEST_BODY_BYTES: Final = 64 * 1024
"""A small body is read, so that even a write gets its answer, 405."""
SHUTDOWN_SECONDS: Final = 0.5
_BACKLOG: Final = 1024
THREADS: Final = 4
"""The number of requests answered at the same time."""
_LARGEST_PORT: Final = 65_535
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def serve(
    path: Where,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    tokens: Mapping[str, Collection[str]] | None = None,
    authenticate: Authenticate | None = None,
    open_access: bool = False,
    host_names: Collection[str] = (),
    log_url: str | None = None,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve the web page and the API of the store at `path` until SIGTERM or SIGINT, then return within a second.

    Args:
        path: the store. It is opened at once, so a wrong path fails at the start.
        host: the address to listen on; with open access, a loopback address.
        port: the port; 0 takes a free one.
        tokens: as for `jobstore.wsgi.create_app`.
        authenticate: as for `jobstore.wsgi.create_app`.
        open_access: allow every request, without a token.
        host_names: the names accepted in ``Host``, beside IP addresses, ``localhost``, `host` and this machine's name.
        log_url: as for `jobstore.wsgi.create_app`.
        ready: called with the server's address (``http://127.0.0.1:8000``) as soon as it listens.

    Raises:
        InvalidParameter: no token is accepted, other machines could reach a server with open access, or the server
            cannot listen on the address.
        StoreError: the store does not exist or cannot be used.
    """
    if open_access and not is_loopback(host):
        raise InvalidParameter(
            f"Open access is only for this machine: listen on 127.0.0.1 (not {host}), or give tokens"
        )
    names = _own_names(host, host_names)
    admitted: dict[str, Any] = {"tokens": tokens, "authenticate": authenticate, "open_access": open_access}
    with stores.open(path) as store:
        app = create_app(store, **admitted, host_names=names, page=True, log_url=log_url)
        server = Server(app, host=host, port=port)
        _tame_log()
        with handling(lambda *_: server.stop(), signal.SIGTERM, signal.SIGINT):
            if ready is not None:
                ready(server.url)
            server.run()


def _own_names(host: str, told: Collection[str]) -> list[str]:
    return [*told, *(name for name in (host, socket.gethostname()) if is_host_name(name))]


def _tame_log() -> None:
    """Hide waitress's warnings about bursts unless a level is set, and shorten and escape what clients sent."""
    queue = logging.getLogger("waitress.queue")
    if queue.level == logging.NOTSET:
        queue.setLevel(logging.ERROR)
    logging.getLogger("waitress").addFilter(_plain)


def _plain(record: logging.LogRecord) -> bool:
    record.msg, record.args = escaped(cut(record.getMessage(), LONGEST_TARGET)), None
    return True


class Server:
    """A WSGI application on a socket. Call `run` in one thread, `stop` in another or in a signal handler."""

    def __init__(self, app: Callable[..., Any], *, host: str, port: int) -> None:
        """Listen at once; the kernel queues connections until `run`."""
        self._stopping = False
        self._map: dict[int, Any] = {}
        listening = _listen(host, port)
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.set_thread_count(THREADS)
        self._listener = _Listener(
            app,
            self._map,
            _sock=listening,
            dispatcher=self._dispatcher,
            adj=_adjustments(),
            sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
            bind_socket=False,
        )

    @property
    def url(self) -> str:
        """The address it listens on, such as ``http://127.0.0.1:8000``."""
        host, port = self._listener.effective_host, self._listener.effective_port
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Answer requests until `stop`, then wait up to `SHUTDOWN_SECONDS` for those in progress."""
        try:
            while not self._stopping:
                wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)
        finally:
            self._dispatcher.shutdown(timeout=SHUTDOWN_SECONDS)
            wasyncore.close_all(self._map)

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping = True
        with contextlib.suppress(OSError):  # `run` has already returned and closed the trigger
            self._listener.pull_trigger()


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _LARGEST_PORT:
        raise InvalidParameter(f"port must be an integer from 0 to {_LARGEST_PORT}; received {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InvalidParameter(f"Port {port} on {host} is in use; choose another port") from None
        reason, _, _ = str(error.strerror).partition(" (while attempting")  # as Python words it
        raise InvalidParameter(f"Cannot listen on {host}, port {port}: {reason}") from None


def _adjustments() -> Adjustments:
    return Adjustments(
        threads=THREADS,
        ident="",
        backlog=_BACKLOG,
        connection_limit=MAX_CONNECTIONS + 100,  # never reached: `_Listener` makes room at MAX_CONNECTIONS
        cleanup_interval=1,
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=MAX_REQUEST_BODY_BYTES,
        asyncore_use_poll=True,
        log_socket_errors=False,
        clear_untrusted_proxy_headers=False,  # `session` reads them, and says which it believes
    )


class _Refusal(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Answers what waitress refuses before the application sees it, in the API's error envelope."""

    def execute(self) -> None:
        error = self.request.error
        number = request_id({})
        log.info("%s - - %d refused: %s", number, error.code, error.reason)
        kind = InternalError if error.code == HTTPStatus.INTERNAL_SERVER_ERROR else InvalidParameter
        message = _REFUSALS.get(error.body) or _REFUSALS[error.reason].format(number)
        body = envelope(kind.code, message)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [
            ("Content-Type", "application/json"), ("Cache-Control", "private, no-cache"),
            ("X-Content-Type-Options", "nosniff"), ("X-Request-Id", number),
        ]  # fmt: skip
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


_REFUSALS: Final = {
    "Bad URI": "The address must be ASCII, with everything else percent-encoded; with curl: "
    "curl -G --data-urlencode 'search=失败' ADDRESS",
    "Bad Request": "The request is not well-formed HTTP",
    "Request Header Fields Too Large": f"Request line and headers must be shorter than {MAX_HEADER_BYTES // 1024} KB",
    "Request Entity Too Large": "This API needs no request body, and refuses one over "
    f"{MAX_REQUEST_BODY_BYTES // 1024} KB",
    "Not Implemented": "This Transfer-Encoding is not supported; send the request without a body",
    "Internal Server Error": "Internal error; the log has it under request id {}",
}


class _Request(HTTPRequestParser):  # type: ignore[misc]
    """A parser that refuses what waitress lets through: malformed addresses such as ``http://[``, and two lengths.

    A proxy may take the other length, and then the rest of the body for another reader's request (RFC 9112, 6.3).
    """

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:
            raise ParsingError("Bad Request") from None
        # waitress takes Transfer-Encoding out of the headers of HTTP/1.1, and ignores it in HTTP/1.0.
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Bad Request")


class _Connection(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection that knows how long its client has kept it waiting."""

    error_task_class = _Refusal
    parser_class = _Request
    began_at = 0.0
    """When the first byte of the incoming request arrived."""
    served_at = 0.0
    """When the last request was answered; before that, when the connection was made."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.served_at = time.time()
        super().__init__(*args, **keywords)

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.began_at = time.time()
        return bool(super().received(data))

    def service(self) -> None:
        """Answer one request, in a thread.

        Of pipelined requests, answer the first and close the connection, as RFC 9112, section 9.3.2, allows.
        Otherwise a thread would have to wait until the client has read each answer before the next.
        """
        if len(self.requests) > 1:
            self.requests[0].headers["CONNECTION"] = "close"
        super().service()
        self.served_at = time.time()

    def drop(self) -> None:
        """Reset the connection: an orderly close would first wait for the client to read the rest."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.handle_close()

    @property
    def is_waited_for(self) -> bool:
        """Whether it is the client's turn: nothing to answer and nothing left to send."""
        return not self.requests and not self.total_outbufs_len

    def is_overdue(self, now: float) -> bool:
        """Whether the client has taken too long to send a request or to read its answer."""
        silent = now - self.last_activity
        if self.total_outbufs_len:
            return bool(silent > STALLED_SECONDS)
        if self.requests:
            return False
        return bool(silent > IDLE_SECONDS or (self.request is not None and now - self.began_at > REQUEST_SECONDS))


class _Listener(TcpWSGIServer):  # type: ignore[misc]
    """Accepts every connection; at the limit, it closes the idle one that was served longest ago."""

    channel_class = _Connection

    def maintenance(self, now: float) -> None:
        """Close overdue connections; waitress calls this once a second.

        waitress's own version only marks a connection to be closed once its client has read everything.
        """
        for connection in list(self.active_channels.values()):
            if connection.is_overdue(now):
                connection.drop()

    def handle_accept(self) -> None:
        if len(self.active_channels) >= MAX_CONNECTIONS:
            self._make_room()
        super().handle_accept()

    def _make_room(self) -> None:
        waited_for = [each for each in self.active_channels.values() if each.is_waited_for]
        if waited_for:
            min(waited_for, key=lambda each: each.served_at).drop()
