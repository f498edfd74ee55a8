"""The tools over MCP: a real client session against a real process, and what goes over the pipes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult, TextContent

import jobstore
from jobstore import tools
from jobstore.language.query import Query
from jobstore.mcp import create_server
from tests import warm
from tests.waiting import LONG_SECONDS

SERVE = """
import sys
from datetime import UTC, datetime
import jobstore.mcp

jobstore.mcp.LAST_ANSWERS_SECONDS = 600  # so that a test which waits for it in vain does not pass

def clock():
    print("a stray line that must not reach the wire")
    return datetime(2026, 1, 15, 8, 30, tzinfo=UTC)

jobstore.mcp.run(sys.argv[1], clock=clock)
"""


def in_session(store: Any, ask: Callable[[Client], Awaitable[None]]) -> None:
    """Ask in a session with a server of the store in this process, or of the file in another."""

    async def session() -> None:
        with anyio.fail_after(LONG_SECONDS):
            async with Client(store) as client:
                await ask(client)

    anyio.run(session)


@pytest.fixture
def process(seed_path, tmp_path):
    """How a host starts a server of the seed's file."""
    return StdioServerParameters(command=sys.executable, args=["-c", SERVE, str(seed_path)], cwd=Path.cwd())


def document_of(result: CallToolResult) -> Any:
    """The document that a result carries, once it is sure to carry the same one twice."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert json.loads(content.text) == result.structured_content
    assert list(json.loads(content.text)) == list(result.structured_content)
    return result.structured_content


# A host's session with the real thing.


def test_a_session_lists_the_tools_and_gets_the_seeds_answers(process, seed_jobs, seed_executions):
    async def ask(client: Client) -> None:
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools] == list(tools.TOOLS)
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in listed.tools)
        assert [tool.model_dump(by_alias=True, exclude_none=True) for tool in listed.tools] == tools.definitions("mcp")

        page = await client.call_tool("datahub_list_jobs", {"search": "kline", "limit": 20})
        assert document_of(page)["data"] == seed_jobs[:1]
        job = await client.call_tool("datahub_get_job", {"job_id": "sync_klines_1h"})
        assert document_of(job) == seed_jobs[0]
        failed = {"search": "failed", "limit": 20, "after": "2026-01-01T00:00:00Z"}
        page = await client.call_tool("datahub_list_job_executions", failed)
        assert document_of(page)["data"] == seed_executions[1:]
        latest = {"job_id": "sync_klines_1h", "limit": 10, "order_desc": True}
        page = await client.call_tool("datahub_get_job_executions", latest)
        assert document_of(page)["data"] == seed_executions[:1]
        stats = await client.call_tool("datahub_get_job_stats")
        assert document_of(stats)["by_status"]["FAILURE"] == 1

    in_session(process, ask)


def test_a_host_is_told_what_the_server_is_for(seed_path):
    async def ask(client: Client) -> None:
        assert client.server_info
        assert client.server_info.name == "jobstore"
        assert client.server_info.version == jobstore.__version__
        assert client.instructions
        assert "Read-only" in client.instructions

    with jobstore.open(seed_path) as store:
        in_session(create_server(store), ask)


# What goes over the pipes.

HELLO = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def call(number: int | str, name: str = "datahub_list_jobs", **arguments: object) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, "arguments": arguments},
    }  # fmt: skip


def spoken(seed_path: object, *lines: object) -> tuple[list[dict[str, Any]], str]:
    """What a server answers to lines that come all at once, and then the end; and what it logs."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    words = ("-c", SERVE, seed_path)
    done = warm.forker(warm.TOOLS).run(
        words, cwd=Path.cwd(), variables=os.environ, given=text.encode("utf-8", "surrogatepass")
    )
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


@contextmanager
def served(seed_path: object) -> Iterator[tuple[warm.Process, IO[bytes], IO[bytes], IO[bytes]]]:
    """A server process, and the ends of its pipes that the test holds."""
    (into, stdin), (stdout, out), (stderr, err) = [os.pipe() for _ in range(3)]
    process = warm.forker(warm.TOOLS).start(("-c", SERVE, seed_path), (into, out, err), Path.cwd(), os.environ)
    for descriptor in (into, out, err):
        os.close(descriptor)
    try:
        with os.fdopen(stdin, "wb") as writer, os.fdopen(stdout, "rb") as reader, os.fdopen(stderr, "rb") as log:
            yield process, writer, reader, log
    finally:
        process.kill()


def test_everything_that_was_asked_is_answered_before_the_end_of_the_input_ends_it(seed_path):
    answers, _ = spoken(seed_path, HELLO, READY, *(call(number, limit=number) for number in range(1, 31)))
    assert {answer["id"] for answer in answers} == set(range(31))
    assert not any(answer["result"].get("isError") for answer in answers)


def test_a_session_survives_every_bad_call_and_says_what_was_wrong(seed_path):
    bad: list[tuple[str, dict[str, Any], str, str]] = [
        ("datahub_list_jobs", {"limit": "20"}, "INVALID_PARAMETER", "limit must be"),
        ("datahub_list_jobs", {"limit": True}, "INVALID_PARAMETER", "limit must be"),
        ("datahub_list_jobs", {"limit": 1.5}, "INVALID_PARAMETER", "limit must be"),
        ("datahub_list_jobs", {"limit": 10**300}, "INVALID_PARAMETER", "limit must be"),
        ("datahub_list_jobs", {"limt": 20}, "INVALID_PARAMETER", "did you mean 'limit'?"),
        ("datahub_list_jobs", {"search": "\0"}, "INVALID_PARAMETER", "search must be"),
        ("datahub_list_jobs", {"search": {"a": [[[[]]]]}}, "INVALID_PARAMETER", "search must be"),
        ("datahub_list_jobs", {"search": "x" * 1_000_000}, "INVALID_PARAMETER", "search must be"),
        ("datahub_list_job_executions", {"status": "failed"}, "INVALID_PARAMETER", "did you mean 'FAILURE'?"),
        ("datahub_list_job_executions", {"after": "now"}, "INVALID_PARAMETER", "after must be"),
        ("datahub_get_job", {}, "INVALID_PARAMETER", "job_id is required"),
        ("datahub_get_job", {"job_id": "invalid_job_name"}, "NOT_FOUND", "Job not found: invalid_job_name"),
        ("datahub_get_jobs", {}, "INVALID_PARAMETER", "did you mean 'datahub_get_job'?"),
        ("../../etc/passwd", {}, "INVALID_PARAMETER", "Unknown tool"),
    ]

    calls = [call(number, name, **arguments) for number, (name, arguments, _, _) in enumerate(bad, 1)]
    answers, _ = spoken(seed_path, HELLO, READY, *calls, call("good", limit=20))
    results = {answer["id"]: CallToolResult.model_validate(answer["result"]) for answer in answers if answer["id"] != 0}
    for number, (_, _, code, words) in enumerate(bad, 1):
        error = document_of(results[number])["error"]
        assert results[number].is_error
        assert set(error) == {"code", "message"}
        assert error["code"] == code
        assert words in error["message"]
    assert not results["good"].is_error


def test_nothing_but_the_protocol_goes_to_stdout(seed_path):
    answers, log = spoken(seed_path, HELLO, READY, call(1), call(2, "nobody"))
    assert [answer["jsonrpc"] for answer in answers] == ["2.0"] * 3
    assert "a stray line that must not reach the wire" in log


def test_no_input_is_no_output(seed_path):
    assert spoken(seed_path) == ([], "")


def test_a_line_that_cannot_be_read_is_answered_so_that_no_host_waits(seed_path):
    lines: list[tuple[str, int | str | None, int]] = [
        ("not json", None, -32700),
        ('{"jsonrpc": "2.0", "id": 1, "method": "tools/call"', None, -32700),
        (json.dumps(call(2, search="\ud800")), 2, -32700),
        (json.dumps(call("three", search="\ud800")), "three", -32700),
        (json.dumps(call("\ud800", search="\ud800")), None, -32700),
        (json.dumps(call(4, search="\ud800")).replace(" 4", " true"), None, -32700),
        ("[" * 100_000, None, -32700),
        (json.dumps(call(5)).replace("{}", '{"limit": ' + "9" * 5000 + "}"), None, -32700),
        ("[]", None, -32600),
        ("{}", None, -32600),
        ("5", None, -32600),
        (json.dumps(call(6)).replace("{}", "[1]"), 6, -32602),
        ('{"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": []}', 8, -32600),
        ('{"jsonrpc": "2.0", "id": "nine"}', "nine", -32600),
        ('{"id": 10, "result": {}}', None, -32600),  # 10 would be a request of ours
    ]
    answers, log = spoken(seed_path, HELLO, READY, *(line for line, _, _ in lines), call(7))
    refused = [(answer["id"], answer["error"]["code"]) for answer in answers if "error" in answer]
    assert sorted(refused, key=str) == sorted(((number, code) for _, number, code in lines), key=str)
    (good,) = (answer for answer in answers if answer["id"] == 7)
    assert not good["result"]["isError"]
    assert "Traceback" not in log


def test_blank_lines_are_nothing(seed_path):
    answers, _ = spoken(seed_path, "", HELLO, "  ", READY, "", call(1))
    assert [answer["id"] for answer in answers] == [0, 1]


def test_a_call_that_was_cancelled_is_not_waited_for(seed_path):
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    answers, _ = spoken(seed_path, HELLO, READY, call(1), cancel, call(2))
    assert {0, 2} <= {answer["id"] for answer in answers}


def test_a_cancellation_of_nothing_that_was_asked_changes_nothing(seed_path):
    lines: list[object] = []
    numbers: list[object] = [[], {}, None, 1.5, True, "1"]
    for own, number in enumerate(numbers, 2):
        lines.append({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}})
        lines.append(call(own))
    answers, _ = spoken(seed_path, HELLO, READY, *lines)
    assert sorted(answer["id"] for answer in answers) == [0, *range(2, 8)]


def test_a_host_that_hangs_up_leaves_no_traceback(seed_path):
    with served(seed_path) as (process, stdin, stdout, stderr):
        stdin.write(f"{json.dumps(HELLO)}\n{json.dumps(READY)}\n".encode())
        stdin.flush()
        stdout.readline()
        stdout.close()
        for number in range(1, 4):
            stdin.write(f"{json.dumps(call(number))}\n".encode())
        stdin.close()
        assert process.wait() == 0
        log = stderr.read().decode()
    assert "Traceback" not in log
    assert "disconnected" in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_though_it_waits_for_input(seed_path, number):
    with served(seed_path) as (process, stdin, stdout, _):
        stdin.write(f"{json.dumps(HELLO)}\n".encode())
        stdin.flush()
        stdout.readline()
        process.send_signal(number)
        assert process.wait() == -number


def test_a_file_that_is_not_there_is_told_before_a_word_is_read(tmp_path):
    with served(tmp_path / "none.db") as (process, _, stdout, stderr):
        assert process.wait()
        assert stdout.read() == b""
        assert "StoreNotFound" in stderr.read().decode()


# What a server makes of its store.


class Answering(jobstore.Queries):
    """Queries that are answered, or fail, in the same way each time."""

    def __init__(self, answer: Callable[[], object]) -> None:
        self._given = answer

    def answer(self, query: Query) -> Any:
        return self._given()


def raising(error: Exception) -> Answering:
    def fail() -> object:
        raise error

    return Answering(fail)


def one_answer(store: jobstore.Queries, **options: int) -> CallToolResult:
    results: list[CallToolResult] = []

    async def ask(client: Client) -> None:
        results.append(await client.call_tool("datahub_list_jobs", {}))

    in_session(create_server(store, **options), ask)
    return results[0]


def test_a_defect_shows_its_code_to_the_model_and_its_traceback_to_the_log_alone(caplog):
    result = one_answer(raising(RuntimeError("a secret in /var/lib")))
    assert result.is_error
    assert document_of(result)["error"] == {
        "code": "INTERNAL", "message": "Internal error; the server's log has the details",
    }  # fmt: skip
    assert "a secret in /var/lib" in caplog.text


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            jobstore.StoreCorrupt("/home/me/jobs.db is damaged"),
            "The job store is unavailable; the server's log says why",
        ),
        (jobstore.StoreBusy("/home/me/jobs.db is busy"), "The job store is busy; try again in a moment"),
    ],
)
def test_what_concerns_the_file_is_told_in_the_log(caplog, error, message):
    result = one_answer(raising(error))
    assert document_of(result)["error"] == {"code": error.code, "message": message}
    assert "/home/me/jobs.db" in caplog.text


def test_an_answer_over_the_bound_names_a_limit_that_fits():
    def page(limit: int) -> Answering:
        return Answering(lambda: {"data": [{"name": "x" * 90}] * limit})

    result = one_answer(page(100), largest_answer_bytes=5_000)
    error = document_of(result)["error"]
    assert error["code"] == "RESPONSE_TOO_LARGE"
    fitting = int(error["message"].split("limit=")[1].split()[0])
    assert 30 <= fitting < 100
    assert not one_answer(page(fitting), largest_answer_bytes=5_000).is_error
    assert "limit=" not in document_of(one_answer(page(1), largest_answer_bytes=50))["error"]["message"]


def test_a_slow_query_holds_up_no_ping():
    asked, free = threading.Event(), threading.Event()

    def wait() -> object:
        asked.set()
        assert free.wait(LONG_SECONDS)
        return {"data": []}

    async def ask(client: Client) -> None:
        async def ask_slowly() -> None:
            results.append(await client.call_tool("datahub_list_jobs", {}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_slowly)
            await anyio.to_thread.run_sync(asked.wait, 10)
            await client.list_tools()
            free.set()

    results: list[CallToolResult] = []
    in_session(create_server(Answering(wait)), ask)
    assert document_of(results[0]) == {"data": []}


def test_text_of_every_script_goes_through_unescaped(tmp_path):
    path = tmp_path / "jobs.db"
    with jobstore.Recorder(path) as recorder:
        recorder.save_job("任务 😀", job_type="t", job_category="c", interval_seconds=60, description='\u2028"\\\n')
    with jobstore.open(path) as store:
        result = one_answer(store)
        document = document_of(result)
    assert document["data"][0]["name"] == "任务 😀"
    assert document["data"][0]["description"] == '\u2028"\\\n'


def test_without_the_sdk_the_remedy_is_named():
    code = "import sys; sys.modules['mcp.server.lowlevel'] = None\nimport jobstore.mcp"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG_SECONDS, check=False
    )
    assert f"pip install -e '{Path(jobstore.__file__).parents[1]}[mcp]'" in done.stderr
