"""The pages in docs/: their links lead somewhere, their tables are complete, their code is code, the HTTP page's runs."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tomllib
from datetime import date
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.cli.app import SECTIONS
from jobstore.http import serve
from jobstore.http.reply import MAX_BODY_BYTES
from jobstore.http.routes import DOCUMENT, HEALTH, ROUTES
from jobstore.http.tokens import LONGEST_HEADER
from jobstore.integrations import runrecord
from jobstore.language import errors, fields
from jobstore.language.instants import MIN_US
from jobstore.language.models import STATUS_OF_CODE
from jobstore.language.parameters import OPERATIONS
from jobstore.mcp import LARGEST_ANSWER_BYTES
from jobstore.storage import limits, schema
from tests.desk import Desk, programs_in, wait_for_line
from tests.documents import DOCUMENTS, ROOT, Block, anchors, blocks, links, prose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README, DOCS = ROOT / "README.md", ROOT / "docs"
ERRORS_PAGE, COMMANDS = DOCS / "errors.md", DOCS / "command-line.md"
HTTP, DECISIONS, FORMAT = DOCS / "http.md", DOCS / "decisions.md", DOCS / "file-format.md"
ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.JobStoreError)]
CODES = sorted({each.code for each in ERRORS})


def relative(document: Path) -> str:
    return str(document.relative_to(ROOT))


# Links, tables, decisions.


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_link_leads_to_a_file_and_a_heading_in_it(document: Path) -> None:
    broken = []
    for link in links(document):
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            target = (document.parent / file).resolve() if file else document
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
    assert broken == []


@pytest.mark.parametrize("code", CODES)
def test_every_error_code_is_told(code: str) -> None:
    assert [relative(page) for page in (ERRORS_PAGE, HTTP) if f"`{code}`" not in prose(page)] == []


def test_every_route_and_every_parameter_is_on_the_http_page() -> None:
    text = prose(HTTP)
    names = {parameter.name for operation in OPERATIONS.values() for parameter in operation.parameters}
    paths = {route.template for route in ROUTES} | {HEALTH, DOCUMENT}
    assert [path for path in sorted(paths) if f"`GET {path}`" not in text] == []
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_every_command_is_on_its_page() -> None:
    text = COMMANDS.read_text(encoding="utf-8")
    commands = {entry.name for _, entries in SECTIONS for entry in entries}
    assert [name for name in sorted(commands) if not re.search(rf"jobstore\W+{name}\b", text)] == []


def test_every_decision_has_a_date_a_question_and_few_lines() -> None:
    _, *decisions = DECISIONS.read_text(encoding="utf-8").split("\n### ")
    assert len(decisions) > 20
    for decision in decisions:
        title, *lines = [line for line in decision.partition("\n## ")[0].splitlines() if line.strip()]
        assert date.fromisoformat(title[:10]), title
        assert title.endswith("?"), title
        assert 1 <= len(lines) <= 8, title
        assert "**Why:**" in " ".join(lines), title


# Code.


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_block_of_code_is_well_formed(document: Path) -> None:
    for block in blocks(document):
        check_syntax(block)


def check_syntax(block: Block) -> None:
    if block.language == "python":
        ast.parse(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language in {"bash", "sh"}:
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    else:
        assert block.language in {"console", "text", "sql", "nginx", "ini", "dockerfile"}, block.language


def test_an_error_says_what_the_comment_says(desk: Desk) -> None:
    (code,) = [each for each in blocks(ERRORS_PAGE) if each.title == "# errors.py"]
    promised = re.search(r"print\(error.code, error\)  # (.+)", code.text)
    assert promised is not None
    assert desk.run(code) == f"{promised[1]}\n"


@pytest.mark.parametrize("page", ["client.md", "tools.md"])
def test_what_a_program_of_one_s_own_needs_is_imported(desk: Desk, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("TOKEN", "s3cret")
    name, some = "datahub_list_jobs", SimpleNamespace
    turn = some(tool_calls=[some(id="1", function=some(name=name, arguments="{}"))])
    content = [some(type="tool_use", id="1", name=name, input={})]
    names: dict[str, object] = {"response": some(content=content, choices=[some(message=turn)]), "messages": []}
    with jobstore.open("jobs.db") as store:
        for each in blocks(DOCS / page):
            if each.language == "python":
                exec(each.text, names)
                names["datahub"] = store  # in place of one at an address where nothing listens


# The HTTP page.


def block(pattern: str) -> Block:
    (found,) = [each for each in blocks(HTTP) if re.search(pattern, each.title)]
    return found


@pytest.fixture
def desk(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with a store in which one job failed once."""
    execution = {"id": "1", "job_name": "sync_klines", "status": "FAILURE", "started_at": "2026-01-15T08:00:00Z"}
    job = {"name": "sync_klines", "job_type": "kline", "job_category": "sync", "schedule": "0 * * * *"}
    jobstore.load(tmp_path / "jobs.db", {"jobs": [job], "executions": [execution]})
    return Desk(tmp_path, programs_in(tmp_path_factory.mktemp("bin")))


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")


@needs_curl
def test_a_file_is_served_asked_and_polled_as_printed(desk: Desk) -> None:
    with desk.running(desk.text(block("^.umask .*laptop"))) as serving:
        wait_for_line(serving, "serving")
        said = desk.run(block("^export TOKEN"))
        polled = desk.shell(f"TOKEN=$(cat token)\n{desk.text(block('^poll'))}")
    assert said.count('"job_name":"sync_klines"') == 2
    assert re.search("(?i)^etag: ", said, re.MULTILINE)
    assert polled.split() == ["200", "304"]


def test_tokens_are_made_listed_and_revoked_as_printed(desk: Desk) -> None:
    said = desk.run(block("^.umask .*grafana"))
    assert "grafana" in said
    assert "grafana" not in desk.shell("jobstore token list jobs.db")


@needs_curl
@pytest.mark.parametrize("server", ["gunicorn", "granian"])
def test_a_server_runs_the_application_as_printed(desk: Desk, server: str) -> None:
    desk.write(block("^# app.py"))
    asking = f"curl -sS --retry 100 --retry-delay 1 --retry-connrefused -H 'Authorization: Bearer s3cret' {api(desk)}/api/v1/jobs"
    with desk.running(desk.text(block(f"^{server} "))) as process:
        assert '"name":"sync_klines"' in desk.shell(asking)
        os.killpg(process.pid, signal.SIGKILL)  # at Ctrl-C, either of them may stay for minutes


def api(desk: Desk) -> str:
    return f"http://127.0.0.1:{desk.port}"


@needs_curl
def test_the_mounted_application_answers_under_its_prefix(desk: Desk) -> None:
    desk.write(block("^# app.py"))
    desk.write(block("^# mounted.py"))
    asking = f"curl -sS --retry 100 --retry-delay 1 --retry-connrefused -H 'Authorization: Bearer s3cret' {api(desk)}"
    with desk.running(desk.text(block("^gunicorn ")).replace("app:", "mounted:")):
        assert '"name":"sync_klines"' in desk.shell(f"{asking}/ops/jobs/api/v1/jobs")
        assert desk.shell(f"{asking}/elsewhere") == "the rest of your application\n"


# The page about the file.


@pytest.fixture
def connection(desk: Desk) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(desk.folder / "jobs.db")
    yield connection
    connection.close()


def test_every_table_and_column_of_the_file_is_told_and_no_other(connection: sqlite3.Connection) -> None:
    text = prose(FORMAT)
    told = set(re.findall(r"\*\*(\w+)\*\*", text))
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if not name.startswith(("sqlite_", "_sqlite"))
    }
    columns = {row[1] for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}
    assert told == tables
    assert [column for column in sorted(columns) if f"`{column}`" not in text] == []


def test_the_queries_on_the_page_about_the_file_answer(connection: sqlite3.Connection) -> None:
    failed, history = (connection.execute(each.text).fetchall() for each in blocks(FORMAT) if each.language == "sql")
    assert failed == [(None,)]  # of another job
    assert history == [(1, "sync_klines", 0, "2026-01-15 08:00:00", None, None)]


def test_the_numbers_on_the_page_about_the_file_are_those_of_the_format() -> None:
    text = prose(FORMAT)
    assert f"`0x{schema.APPLICATION_ID:X}`" in text
    assert f"the format: {schema.SCHEMA_VERSION}." in text
    assert f"{schema.CHANGES_KEPT:,}" in text
    assert f"{-MIN_US}" in text
    for code, status in enumerate(STATUS_OF_CODE):
        assert f"{code} {status}" in text


def test_the_bounds_on_the_page_about_reliability_are_those_of_the_code() -> None:
    text = (DOCS / "reliability.md").read_text(encoding="utf-8")
    for line in (
        f"`jobstore serve` | {serve.MAX_CONNECTIONS} |",
        f"at the same time | {serve.THREADS} |",
        f"line and headers | {serve.MAX_HEADER_BYTES // 1024} KiB |",
        f"request's body | {serve.MAX_REQUEST_BODY_BYTES // 1024} KiB |",
        f"a token | {LONGEST_HEADER} characters |",
        f"to arrive | {serve.REQUEST_SECONDS} s |",
        f"not used | {serve.IDLE_SECONDS} s |",
        f"stopped reading | {serve.STALLED_SECONDS} s |",
        f"over HTTP | {MAX_BODY_BYTES // 2**20} MiB |",
        f"an AI tool | {LARGEST_ANSWER_BYTES // 2**20} MiB |",
        f"an error | {fields.TEXT_BYTES // 1024} KiB |",
        f"a JSON value | {fields.DEEPEST} levels |",
        f"for others | {limits.TIMEOUT_SECONDS:g} s,",
        f"after it | {runrecord.PATIENCE_BEFORE_SECONDS:g} s, and {runrecord.PATIENCE_AFTER_SECONDS:g} s |",
        f"beside the store | {limits.LOG_BYTES // 2**20} MiB,",
    ):
        assert line in text, line


# The site.


def test_every_public_name_is_in_the_reference() -> None:
    modules = {"testing", "tokens", "tools"}
    listed = set(
        re.findall(r"^::: jobstore\.(\w+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    functions = {name for name in jobstore.__all__ if hasattr(jobstore.Queries, name)}  # its methods, the store first
    assert listed == set(jobstore.__all__) - functions - {"__version__"} | modules


def test_every_page_is_in_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in sorted(DOCS.glob("*.md")) if f": {page.name}\n" not in site] == []
