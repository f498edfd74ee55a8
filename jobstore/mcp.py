"""The tools over the Model Context Protocol, for hosts that start servers and talk to them over stdio.

This uses the SDK's low-level server with `jobstore.tools`. The SDK's function tools would convert ``"20"`` to 20 and
drop unknown parameters; jobstore reports both as errors.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from contextlib import redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from jobstore import __version__, tools
from jobstore.handling import handling
from jobstore.language.errors import InternalError, JobStoreError, ResponseTooLarge, StoreBusy, StoreError
from jobstore.language.extras import missing
from jobstore.store import open as open_store

try:
    import anyio
    import anyio.to_thread
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server
    from mcp.shared.message import SessionMessage
    from mcp.types import (
        INVALID_REQUEST,
        PARSE_ERROR,
        CallToolResult,
        ErrorData,
        JSONRPCError,
        JSONRPCNotification,
        JSONRPCRequest,
        JSONRPCResponse,
        ListToolsResult,
        TextContent,
        Tool,
    )
except ImportError as error:
    raise missing("jobstore.mcp", "mcp") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.server import ServerRequestContext
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.types import CallToolRequestParams, JSONRPCMessage, PaginatedRequestParams

    from jobstore.language.address import Where
    from jobstore.queries import Queries

__all__ = ["create_server", "run"]

LARGEST_ANSWER_BYTES: Final = 1024 * 1024
"""Common hosts refuse more, and no model reads it. A page of 1000 executions like the job API's is half as large."""
AT_ONCE: Final = 4
"""The most calls that one server answers at the same time; each uses a thread."""
INSTRUCTIONS: Final = (
    "Read-only answers about scheduled jobs and their execution history: which jobs there are, when they run next, "
    "what ran, what failed and why. Nothing can be started, changed or deleted here. Start with datahub_get_job_stats "
    'or datahub_list_job_executions with status=["FAILURE", "TIMEOUT"] when asked what went wrong, and with '
    "datahub_list_jobs when asked what is scheduled. All times are in UTC."
)

_log = logging.getLogger(__name__)


def create_server(store: Queries, *, largest_answer_bytes: int = LARGEST_ANSWER_BYTES) -> Server[Any]:
    """An MCP server with the eight tools over the store.

    An answer holds the document twice, structured and as JSON text, for new and old hosts. An error is a result with
    `isError` and ``{"error": {"code", "message"}}`` in the same two places, so that the model reads it and can correct
    itself; details about the file go only to the log.

    A query usually takes well under a millisecond, but runs in a thread, so that a slow one (a search through a long
    history) delays neither a ping nor other clients of the server.
    """
    places = anyio.CapacityLimiter(AT_ONCE)

    async def list_tools(
        _context: ServerRequestContext[Any], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[Tool.model_validate(tool) for tool in tools.definitions("mcp")])

    async def call_tool(_context: ServerRequestContext[Any], call: CallToolRequestParams) -> CallToolResult:
        answer = partial(_answer, store, call.name, call.arguments or {}, largest_answer_bytes)
        return await anyio.to_thread.run_sync(answer, limiter=places)

    return Server(
        "jobstore",
        version=__version__,
        title="Scheduled jobs",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _answer(store: Queries, name: str, arguments: dict[str, Any], largest_bytes: int) -> CallToolResult:
    """The result of one call; an exception becomes an error result."""
    try:
        document = tools.call(store, {"tool": name, "parameters": arguments})
        text = _json_text(document)
        _check_size(text, document, largest_bytes)
    except JobStoreError as error:
        return _refusal(error)
    except Exception:  # noqa: BLE001  # a defect of ours must not end the session, nor show itself to a model
        _log.exception("The call of %r failed", name)
        return _refusal(InternalError("Internal error; the server's log has the details"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=document)


def _refusal(error: JobStoreError) -> CallToolResult:
    document = {"error": {"code": error.code, "message": _public_message(error)}}
    return CallToolResult(
        content=[TextContent(type="text", text=_json_text(document))], structured_content=document, is_error=True
    )


def _public_message(error: JobStoreError) -> str:
    """The message for the model. A `StoreError` names the file, so its message goes only to the log."""
    if not isinstance(error, StoreError):
        return error.message
    _log.error("%s: %s", error.code, error.message)
    return "The job store is busy; try again in a moment" if isinstance(error, StoreBusy) else UNAVAILABLE


UNAVAILABLE: Final = "The job store is unavailable; the server's log says why"


def _json_text(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _check_size(text: str, document: Mapping[str, Any], largest_bytes: int) -> None:
    size = len(text.encode())
    if size <= largest_bytes:
        return
    records = len(document.get("data", ()))
    remedy = f". Use limit={max(1, records * largest_bytes // size)} or less" if records > 1 else ""
    raise ResponseTooLarge(f"The answer would be {_megabytes(size)}; the bound is {_megabytes(largest_bytes)}{remedy}")


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


# The server on stdio.

LAST_ANSWERS_SECONDS: Final = 10
"""How long to wait for the answers to open calls when the input ends."""


def run(path: Where, *, clock: Callable[[], datetime] | None = None) -> None:
    """Serve the store at the path or address over stdin and stdout until the input ends.

    The store is opened read-only before any input is read. Only the protocol goes to stdout; log lines go to stderr. It
    also ends if the host closes the pipes early, or at Ctrl-C.

    Raises:
        StoreError: the store cannot be opened.
    """
    # Python's own handler of Ctrl-C would first wait for the next line of input.
    with open_store(path, clock=clock) as store, handling(signal.SIG_DFL, signal.SIGINT):
        anyio.run(_serve, create_server(store))


async def _serve(server: Server[Any]) -> None:
    try:
        await _serve_stdio(server)
    except* (BrokenPipeError, anyio.BrokenResourceError):
        _log.warning("The host disconnected before it received all answers")


async def _serve_stdio(server: Server[Any]) -> None:
    """Serve this process's stdin and stdout.

    The SDK's own loop drops input that it cannot parse, so the host waits for an answer. It also drops open calls when
    the input ends, so ``printf ... | jobstore mcp jobs.db`` would print too few answers. Hence the relay.
    """
    to_server, asked = anyio.create_memory_object_stream[SessionMessage | Exception]()
    answered, from_server = anyio.create_memory_object_stream[SessionMessage]()
    relay = _Relay()
    async with stdio_server() as (incoming, outgoing), anyio.create_task_group() as tasks:
        tasks.start_soon(relay.questions, incoming, to_server, outgoing)
        tasks.start_soon(relay.answers, from_server, outgoing)
        # The SDK redirects the descriptor, but printed text might stay in a buffer until it restores the descriptor.
        with redirect_stdout(sys.stderr):
            await server.run(asked, answered, server.create_initialization_options())


class _Relay:
    """Passes messages between stdio and the server, and knows which requests have no answer yet."""

    def __init__(self) -> None:
        self._open: set[object] = set()
        self._changed = anyio.Event()

    async def questions(
        self,
        incoming: ReadStream[SessionMessage | Exception],
        to_server: MemoryObjectSendStream[SessionMessage | Exception],
        outgoing: WriteStream[SessionMessage],
    ) -> None:
        """Pass on the input; close the server's input only when all requests are answered."""
        async with to_server:
            async for item in incoming:
                if isinstance(item, Exception):
                    await _answer_unreadable(item, outgoing)
                else:
                    self._note(item.message)
                    await to_server.send(item)
            with anyio.move_on_after(LAST_ANSWERS_SECONDS):
                while self._open:
                    await self._changed.wait()

    async def answers(
        self, from_server: MemoryObjectReceiveStream[SessionMessage], outgoing: WriteStream[SessionMessage]
    ) -> None:
        async with outgoing:
            async for item in from_server:
                await outgoing.send(item)
                if isinstance(item.message, JSONRPCResponse | JSONRPCError):
                    self._close(item.message.id)

    def _note(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest):
            self._open.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            question = (message.params or {}).get("requestId")
            if isinstance(question, str | int):
                self._close(question)

    def _close(self, question: str | int | None) -> None:
        self._open.discard(question)
        self._changed.set()
        self._changed = anyio.Event()


async def _answer_unreadable(error: Exception, outgoing: WriteStream[SessionMessage]) -> None:
    """Answer a line that is not a message, under its id if that can be read; ignore blank lines."""
    line = _refused_line(error)
    number = _id_in(line) if line is not None else _id_of(_refused_message(error))
    if line is None:
        data = ErrorData(code=INVALID_REQUEST, message="Not a JSON-RPC 2.0 request, notification or response")
    elif line.strip():
        data = ErrorData(
            code=PARSE_ERROR, message="Not valid JSON in UTF-8: send one object per line, without surrogates"
        )
    else:
        return
    await outgoing.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=number, error=data)))


def _refused_line(error: Exception) -> str | None:
    """The line if it is not JSON; None if it is JSON but not a message."""
    if not isinstance(error, ValidationError):
        return None
    first = error.errors(include_url=False)[0]
    return str(first["input"]) if first["type"] == "json_invalid" else None


def _refused_message(error: Exception) -> object:
    """The JSON object that is not a message, from what it lacks to be one; None if it is no object, or a response."""
    found = error.errors(include_url=False) if isinstance(error, ValidationError) else []
    inputs = [each["input"] for each in found if each["type"] == "missing" and len(each["loc"]) == 2]  # noqa: PLR2004
    message = inputs[0] if inputs else None
    return None if isinstance(message, dict) and message.keys() & {"result", "error"} else message


def _id_in(line: str) -> str | int | None:
    """The id of a message, if Python's more lenient parser can read it (it accepts lone surrogates)."""
    try:
        return _id_of(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _id_of(message: object) -> str | int | None:
    identifier = message.get("id") if isinstance(message, dict) else None
    if isinstance(identifier, str):
        return identifier if identifier.isprintable() else None
    return identifier if type(identifier) is int else None
