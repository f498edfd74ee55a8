"""serve, token, mcp, openapi and metrics."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import jobstore
from jobstore.http.tokenfile import STORES_OWN
from jobstore.storage.sidefiles import SIDE_FILES
from jobstore.transfer.dump import dump

from .conftest import DEADLINE_SECONDS, command, environment


@pytest.fixture
def own(store, tmp_path):
    """A store with a folder of its own, for the tokens beside it."""
    path = tmp_path / "own.db"
    jobstore.load(path, dump(store))
    return path


@contextmanager
def serving(*words, **variables):
    """A server on a free port, its address and what it said about itself."""
    with subprocess.Popen(
        command("serve", *words, "--port", "0"), stderr=subprocess.PIPE, text=True, env=environment(**variables)
    ) as process:
        assert process.stderr is not None
        try:
            said = process.stderr.readline()
            found = re.search(r"http://\S+", said)
            assert found, said + process.stderr.read()
            yield process, found[0], said
        finally:
            process.kill()


def get(url: str, token: str | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=DEADLINE_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_token_that_was_created_is_let_in_until_it_is_revoked(process, own):
    made = process("token", "create", own, "--label", "laptop")
    token = made.out.strip()
    assert made.code == 0
    assert len(made.out.splitlines()) == 1
    assert token not in made.err
    with serving(own) as (server, url, said):
        assert said.startswith(f"jobstore: serving {own} at {url} (tokens from {own}.tokens)")
        assert "curl -H" in server.stderr.readline()
        status, page = get(f"{url}/api/v1/jobs", token)
        assert (status, page["pagination"]["total"]) == (200, 4)
        assert get(f"{url}/api/v1/jobs")[0] == 401
        assert process("token", "revoke", own, "laptop").code == 0
        assert get(f"{url}/api/v1/jobs", token)[0] == 401
        server.send_signal(signal.SIGINT)
        assert server.wait(DEADLINE_SECONDS) == 0
    with serving(own) as (_, _, said):
        assert f"(tokens from {own}.tokens, which has none: every request is refused)" in said


def test_the_variable_s_tokens_are_let_in(own):
    with serving(own, JOBSTORE_TOKENS="s3cret") as (server, url, said):
        assert "(tokens from JOBSTORE_TOKENS)" in said
        assert get(f"{url}/api/v1/jobs/1", "s3cret")[1]["name"] == "sync_klines_1h"
        server.terminate()
        assert server.wait(DEADLINE_SECONDS) == 0


def test_an_open_server_lets_this_machine_in(own):
    with serving(own, "--open") as (_server, url, _said):
        assert get(f"{url}/api/v1/stats")[1]["runs"] == 65


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "serve needs a token: make one with 'jobstore token create"),
        (("--open", "--host", "0.0.0.0"), "only for this machine"),
        (("--open", "--tokens-file", "some.json"), "--open and --tokens-file exclude each other"),
        (("--port", "８０"), "--port must be an integer"),
        (("--open", "--port", "65536"), "--port must be an integer from 0 to 65535"),
    ],
)
def test_a_server_that_could_not_be_meant_does_not_start(cli, own, words, said):
    answer = cli("serve", own, *words)
    assert answer.code == 2
    assert said in answer.err


def test_a_host_that_is_not_there_is_told(cli, own, monkeypatch):
    monkeypatch.setenv("JOBSTORE_TOKENS", "s3cret")
    answer = cli("serve", own, "--host", "no such host")
    assert answer.code == 2
    assert "Cannot listen on no such host" in answer.err


def test_a_server_is_not_open_and_kept_at_once(cli, own, monkeypatch):
    monkeypatch.setenv("JOBSTORE_TOKENS", "s3cret")
    answer = cli("serve", own, "--open")
    assert answer.code == 2
    assert "s3cret" not in answer.err


def test_a_server_without_a_store_does_not_start(cli, tmp_path):
    assert cli("serve", tmp_path / "none.db", "--open").code == 3


# Tokens.


def test_a_list_of_tokens_shows_no_token(cli, own):
    tokens = [cli("token", "create", own, *words).out.strip() for words in ((), ("--label", "办公室"))]
    said = cli("token", "list", own)
    assert said.code == 0
    assert re.search(r"办公室 +read:jobs +20\d\d-\d\d-\d\d +never", said.out)
    listed = cli("token", "list", own, "--json").json
    assert [each["permissions"] for each in listed] == [["read:jobs"], ["read:jobs"]]
    for token in tokens:
        assert token not in said.out + json.dumps(listed)
    assert "sha256" not in json.dumps(listed)


def test_a_token_has_the_permissions_and_the_end_that_were_asked_for(cli, own, tmp_path):
    file = tmp_path / "tokens.json"
    words = ("--permission", "read:metrics", "--permission", "read:jobs", "--expires", "2999-01-01")
    assert cli("token", "create", own, "--tokens-file", file, *words).code == 0
    record = cli("token", "list", own, "--tokens-file", file, "--json").json[0]
    assert record["permissions"] == ["read:jobs", "read:metrics"]
    assert record["expires_at"] == "2999-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("create", "--expires", "2001-01-01"), 2), (("create", "--expires", "soon"), 2), (("create", "--label", ""), 2),
        (("create", "--permission", "x"), 2), (("revoke", "nobody"), 1), (("list", "--tokens-file", "none"), 1),
        (("revoke",), 2),
    ],
)  # fmt: skip
def test_a_bad_word_about_tokens_is_refused(cli, own, words, code):
    cli("token", "create", own)
    answer = cli("token", words[0], own, *words[1:])
    assert answer.code == code
    assert answer.out == ""
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ("serve", "."),
        ("token", "list", "/"),
        ("token", "create", "."),
        ("token", "revoke", "/", "x"),
        ("token", "create", ".."),
    ],
)
def test_a_folder_in_place_of_a_store_is_told(cli, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    answer = cli(*words)
    assert (answer.code, answer.out) == (2, "")
    assert "is a folder; give the path of a job store" in answer.err
    assert [*tmp_path.iterdir()] == []


def test_an_end_in_the_past_is_refused_under_the_name_of_its_option(cli, own):
    answer = cli("token", "create", own, "--expires", "2001-01-01")
    assert "--expires must be later than now; received '2001-01-01'" in answer.err


def test_a_store_s_own_files_are_no_token_files(cli, own):
    assert {*STORES_OWN, ".tokens"} == set(SIDE_FILES)
    for suffix in STORES_OWN:
        path = Path(f"{own}{suffix}")
        path.unlink(missing_ok=True)
        answer = cli("token", "create", own, "--tokens-file", path)
        assert (answer.code, answer.out) == (2, "")
        assert "is the name of a store's own file" in answer.err
        assert not path.exists()
    assert cli("token", "create", own, "--tokens-file", f"{own}.tokens").code == 0


def test_a_label_is_taken_once(cli, own):
    assert cli("token", "create", own, "--label", "a").code == 0
    assert cli("token", "create", own, "--label", "a").code == 2


# The other doors.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("where", "code"), [(">/dev/full", 3), (">&-", 2)])
def test_a_token_that_nobody_has_seen_is_not_kept(own, cli, where, code):
    line = ["sh", "-c", f'"$@" {where}', "sh", *command("token", "create", own, "--label", "laptop")]
    assert subprocess.run(line, env=environment(), stderr=subprocess.DEVNULL, check=False).returncode == code
    assert cli("token", "create", own, "--label", "laptop").code == 0


def test_the_openapi_document_is_printed(cli):
    document = cli("openapi").json
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/jobs/{job_id}" in document["paths"]


def test_mcp_speaks_nothing_but_the_protocol_on_stdout(own):
    hello = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    done = subprocess.run(
        command("mcp", own), input=json.dumps(hello) + "\n", capture_output=True, text=True, env=environment(),
        timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [1]


def test_metrics_are_printed_for_at_most_so_many_jobs(cli, store):
    said = cli("metrics", store)
    assert said.code == 0
    assert 'jobstore_job_executions{job_name="同步交易对",status="FAILURE"} 1\n' in said.out
    few = cli("metrics", store, "--max-jobs", "1").out
    assert "jobstore_jobs_left_out 3\n" in few
    assert cli("metrics", store, "--max-jobs", "x").code == 2


def test_what_is_not_installed_is_named_with_the_line_that_installs_it(cli, store, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for words, extra in ((("serve", store, "--open"), "http"), (("mcp", store), "mcp"), (("openapi",), "http")):
        answer = cli(*words)
        assert answer.code == 2
        assert f"pip install -e '{Path(jobstore.__file__).parents[1]}[{extra}]'" in answer.err
