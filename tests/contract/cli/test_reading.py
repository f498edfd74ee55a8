"""What jobs, job, executions and stats print: documents, lines, tables for programs; and their exit codes."""

import csv
import io
import json
import re
from typing import Any

import pytest

import jobstore

FROZEN = {"next_run_at"}


def without_clock(document: Any) -> Any:
    """A document without what moves while the test runs."""
    if isinstance(document, dict):
        return {key: without_clock(value) for key, value in document.items() if key not in FROZEN}
    return [without_clock(each) for each in document] if isinstance(document, list) else document


@pytest.mark.parametrize(
    ("words", "method", "keywords"),
    [
        (("jobs",), "list_jobs", {}),
        (("jobs", "--search", "kline", "--limit", "1"), "list_jobs", {"search": "kline", "limit": 1}),
        (("jobs", "--order-by", "schedule", "--order-desc"), "list_jobs", {"order_by": "schedule", "order_desc": True}),
        (("jobs", "--disabled", "--job-category", "cleanup"), "list_jobs", {"enabled": False, "job_category": "cleanup"}),
        (("jobs", "--enabled", "--job-type", "symbol"), "list_jobs", {"enabled": True, "job_type": "symbol"}),
        (("executions",), "list_job_executions", {}),
        (("executions", "--search", "失败"), "list_job_executions", {"search": "失败"}),
        (("executions", "--offset", "60", "--order-asc"), "list_job_executions", {"offset": 60, "order_desc": False}),
        (
            ("executions", "--status", "FAILURE,TIMEOUT", "--after", "2026-01-15"),
            "list_job_executions",
            {"status": ["FAILURE", "TIMEOUT"], "after": "2026-01-15"},
        ),
        (("executions", "--trace-id", "trace-3"), "list_job_executions", {"trace_id": "trace-3"}),
    ],
)  # fmt: skip
def test_json_is_the_document_that_python_gets(cli, store, words, method, keywords):
    answer = cli(words[0], store, *words[1:], "--json")
    with jobstore.open(store) as datahub:
        wanted = getattr(datahub, method)(**keywords)
    assert (answer.code, answer.err) == (0, "")
    assert without_clock(answer.json) == without_clock(wanted)
    assert list(answer.json["data"][0]) == list(wanted["data"][0])


@pytest.mark.parametrize("ref", ["同步交易对", "2"])
def test_json_of_a_job_is_the_bare_document(cli, store, ref):
    answer = cli("job", store, ref, "--json")
    assert answer.json["name"] == "同步交易对"
    assert "同步所有交易所的交易对" in answer.out


def test_json_of_one_job_s_executions_and_stats_are_its_own(cli, store):
    page = cli("executions", store, "sync_klines_1h", "--json").json
    assert [each["id"] for each in page["data"]] == ["3", "1"]
    assert cli("stats", store, "1", "--json").json["by_status"]["TIMEOUT"] == 1
    assert cli("stats", store, "--json").json["runs"] == 65


def test_lines_are_all_that_match_unless_limited(cli, store, monkeypatch):
    monkeypatch.setattr("jobstore.cli.reading.LARGEST_PAGE", 7)
    ids = [json.loads(line)["id"] for line in cli("executions", store, "--jsonl").lines]
    with jobstore.open(store) as datahub:
        assert ids == [each["id"] for each in datahub.list_job_executions(limit=1000)["data"]]
    assert len(cli("executions", store, "--jsonl", "--limit", "5").lines) == 5
    assert len(cli("executions", store, "--jsonl", "--offset", "60").lines) == 5
    assert len(cli("executions", store, "--jsonl", "--search", "timed out").lines) == 1


def test_lines_give_no_run_twice_when_another_starts_between_two_pages(store):
    from jobstore.cli import reading
    from jobstore.language.parameters import LIST_JOB_EXECUTIONS

    class Growing:
        def answer(self, query):
            ids = ("2", "1") if query.offset else ("3", "2")
            return {"data": [{"id": each} for each in ids], "pagination": {"has_next": not query.offset}}

    growing: Any = Growing()

    asked = reading.query_of(LIST_JOB_EXECUTIONS, {})
    assert [each["id"] for each in reading.documents(growing, asked, {})] == ["3", "2", "1"]


@pytest.mark.parametrize("form", ["--json", "--jsonl"])
def test_an_error_is_the_envelope_on_stdout_and_a_message_on_stderr(cli, store, form):
    answer = cli("executions", store, "invalid_job_name", form)
    assert answer.code == 1
    assert answer.json == {"error": {"code": "NOT_FOUND", "message": "Job not found: invalid_job_name"}}
    assert answer.err == "jobstore: Job not found: invalid_job_name [NOT_FOUND]\n"
    if form == "--jsonl":
        assert len(answer.lines) == 1


def test_without_json_an_error_leaves_stdout_empty(cli, store):
    answer = cli("job", store, "invalid_job_name")
    assert (answer.code, answer.out) == (1, "")


def foreign(path):
    import sqlite3

    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, "STORE_NOT_FOUND"),
        (lambda path: path.mkdir(), "NOT_A_STORE"),
        (lambda path: path.write_bytes(b""), "NOT_A_STORE"),
        (lambda path: path.write_bytes(b"x" * 5000), "NOT_A_STORE"),
        (foreign, "NOT_A_STORE"),
    ],
)
@pytest.mark.parametrize("command", ["jobs", "executions", "stats", "dump", "export", "metrics", "prune", "check"])
def test_a_file_that_is_no_store_is_told_with_code_3_and_left_as_it_was(cli, tmp_path, make, code, command):
    path = tmp_path / "some.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    answer = cli(command, path, *(["--before", "2026-01-01"] if command == "prune" else []))
    assert answer.code == 3
    assert answer.err.rstrip().endswith(f"[{code}]")
    assert "Traceback" not in answer.err
    assert (path.read_bytes() if path.is_file() else None) == before


# Tables in a pipe.


def test_a_table_in_a_pipe_is_plain_aligned_and_whole(cli, store):
    answer = cli("executions", store, "--status", "FAILURE", "--utc")
    assert answer.lines == [
        "ID  JOB         STATUS   STARTED               TOOK  WORKER     TRACE    ERROR_OR_RESULT",
        r"2   同步交易对  FAILURE  2026-01-15T08:01:00Z  1.5s  worker-01  trace-2  交易所返回错误：\x1b[31m请求过于频繁 second line",
    ]


def test_text_from_the_store_cannot_reach_the_terminal_s_controls(cli, store):
    for words in (("executions", store), ("jobs", store), ("job", store, "2"), ("export", store, "--format", "jsonl")):
        assert "\x1b" not in cli(*words).out


def test_times_are_this_machine_s_unless_utc_is_asked_for(cli, store):
    assert "2026-01-15T13:46:00+05:45" in cli("executions", store, "--status", "FAILURE").out
    assert "2026-01-15T08:01:00Z" in cli("executions", store, "--status", "FAILURE", "--utc").out
    assert "2026-01-15 14:45:00 UTC+05:45  (" in cli("job", store, "1").out
    assert "2026-01-15 09:00:00 UTC  (" in cli("job", store, "1", "--utc").out


def test_a_page_that_is_not_all_says_so_on_stderr(cli, store):
    assert cli("executions", store).err == "jobstore: rows 1-50 of 65; next: --offset 50\n"
    assert cli("executions", store, "--offset", "50").err == ""
    assert cli("executions", store, "--offset", "99").err == "jobstore: no rows from --offset 99 on; there are 65\n"
    nothing = cli("jobs", store, "--search", "nothing")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "jobstore: no jobs match\n")


@pytest.mark.parametrize(
    ("name", "state"),
    [("sync_klines_1h", "late"), ("同步交易对", "late"), ("poll", "lost"), ("switched_off", "disabled")],
)
def test_the_state_of_a_job_is_a_word(cli, store, name, state):
    row = next(line for line in cli("jobs", store).lines if line.startswith(name))
    assert row.split()[1] == state


def test_schedules_are_shown_as_they_are(cli, store):
    said = cli("jobs", store).out
    assert "30 2 * * 1" in said
    assert "every 5 min" in said
    assert "30 2 * * 1  (At 02:30, only on Monday; Asia/Shanghai)" in cli("job", store, "2").out


def test_a_job_s_card_has_its_numbers(cli, store):
    said = cli("job", store, "sync_klines_1h").out
    assert "2: 1 SUCCESS, 1 TIMEOUT" in said
    assert "average 1.5s" in said
    assert "timeout 5 min, 1 instance at once" in said


def test_stats_count_by_status(cli, store):
    said = cli("stats", store).out
    assert re.search(r"FAILURE +1 +1\.5 %", said)
    assert re.search(r"runs +65\n", said)
    assert re.search(r"success rate +96\.83 % of finished runs", said)
    assert "all jobs  from 2026-01-16 00:00:00 UTC" in cli("stats", store, "--after", "2026-01-16", "--utc").lines[0]


@pytest.mark.parametrize("words", [("job",), ("executions",), ("stats",), ("export",), ("health",), ("histogram",)])
def test_a_name_nobody_has_is_answered_with_the_nearest(cli, store, words):
    answer = cli(*words, store, "sync_kline_1h")
    assert answer.code == 1
    assert "Job not found: sync_kline_1h; did you mean 'sync_klines_1h'?" in answer.err
    assert "did you mean" not in cli(*words, store, "zzz").err


def test_the_numbers_of_a_job_are_headed_by_its_name(cli, store):
    assert cli("stats", store, "3").out.startswith("poll ")
    assert cli("stats", store).out.startswith("all jobs ")


# Chosen fields.


def test_csv_has_every_field_of_all_that_match(cli, store):
    rows = list(csv.DictReader(io.StringIO(cli("executions", store, "--csv").out)))
    assert len(rows) == 65
    with jobstore.open(store) as datahub:
        first = datahub.list_job_executions(limit=1)["data"][0]
    assert list(rows[0]) == list(first)
    assert rows[0]["id"] == first["id"]
    assert rows[-1]["result"] == '{"processed":1}'
    assert len(cli("jobs", store, "--csv", "--limit", "2").lines) == 3


@pytest.mark.parametrize(("listed", "exported"), [("--csv", "csv"), ("--excel", "excel")])
def test_a_list_and_an_export_write_the_same_cells(cli, tmp_path, listed, exported):
    path = tmp_path / "texts.db"
    results: tuple[object, ...] = ("plain", "=1+1", None, True, 0.5, {"b": ["\u65e5"]}, [])
    runs = [
        {"job_name": "a", "status": "SUCCESS", "started_at": "2026-01-15", "result": each, "parameters_snapshot": each}
        for each in results
    ]
    jobstore.load(path, {"jobs": [{"name": "a", "job_type": "t", "job_category": "c"}], "executions": runs})
    lines = cli("executions", path, listed, "--order-asc").lines
    assert lines == cli("export", path, "--format", exported).lines
    assert '"""plain"""' in lines[1]


def test_columns_choose_fields_in_their_order(cli, store):
    answer = cli("jobs", store, "--columns", "enabled,name", "--csv", "--order-by", "id")
    assert answer.lines == ["enabled,name", "true,poll", "false,switched_off", "true,sync_klines_1h", "true,同步交易对"]
    head, first, *_ = cli("executions", store, "poll", "--columns", "id,started_at,result").lines
    assert head.split() == ["ID", "STARTED_AT", "RESULT"]
    assert re.fullmatch(r"5 +2?-? *-", first)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--columns", "nam"), "unknown field 'nam'; did you mean 'name'?"),
        (("--columns", "name,,id"), "unknown field ''"),
        (("--columns", "name,name"), "has the field name twice"),
        (("--csv", "--json"), "--json and --csv exclude each other"),
        (("--csv", "--watch"), "--csv and --watch exclude each other"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(cli, store, words, said):
    answer = cli("jobs", store, *words)
    assert answer.code == 2
    assert said in answer.err


def test_marks_that_turn_or_hide_text_are_written_out(cli, tmp_path):
    error = "abc\u202egnp.exe zero\u200bwidth \x9b31m"
    with jobstore.Recorder(tmp_path / "odd.db") as recorder:
        recorder.save_job("poll", job_type="t", job_category="c", interval_seconds=60, description=error)
        recorder.finish(recorder.enqueue("poll", worker_id="w\u2066x"), "FAILURE", error=error)
    for words in (("jobs",), ("job",), ("executions",), ("execution",)):
        where = [tmp_path / "odd.db", *(["poll"] if words == ("job",) else ["1"] if words == ("execution",) else [])]
        answer = cli(*words, *where)
        assert answer.code == 0
        assert not set("\u202e\u200b\x9b\u2066") & set(answer.out), words


@pytest.mark.parametrize("typed", ["reports/daily", " daily", "executions", ".."])
def test_a_job_is_found_by_what_exec_was_given(process, cli, tmp_path, typed):
    store = tmp_path / "jobs.db"
    assert process("exec", str(store), typed, "--", "true").code == 0
    assert cli("job", str(store), typed).code == 0
    assert cli("health", str(store), typed).code == 0
    assert cli("export", str(store), typed).out.count("\n") == 1
