"""load, dump, export, prune, check and backup."""

import csv
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import jobstore
from jobstore.transfer.dump import dump
from tests.waiting import LONG_SECONDS, until

PROGRESS = re.compile(r"\x1b\[")


@pytest.fixture
def own(store, tmp_path):
    """A store that may be changed."""
    path = tmp_path / "own.db"
    jobstore.load(path, dump(store))
    return path


@pytest.mark.parametrize("form", [(), ("--jsonl",)])
def test_what_is_dumped_loads_into_the_same_store(cli, store, tmp_path, form):
    out, path = tmp_path / "jobs.json", tmp_path / "again.db"
    dumped = cli("dump", store, *form, "-o", out)
    assert (dumped.code, dumped.out) == (0, "")
    assert dumped.err == f"jobstore: wrote 69 documents to {out}\n"
    loaded = cli("load", path, out)
    assert (loaded.code, loaded.out) == (0, "")
    assert re.fullmatch(rf"jobstore: loaded 69 documents into {re.escape(str(path))} in [0-9.]+ s\n", loaded.err)
    assert dump(path) == dump(store)


def test_a_dumped_document_is_what_python_dumps(cli, store):
    assert cli("dump", store).json == dump(store)


@pytest.mark.parametrize(
    "world", [{"jobs": [], "executions": []}, {"jobs": [], "executions": [{"job_name": "gone", "status": "PENDING"}]}]
)
def test_a_store_without_jobs_dumps_too(cli, tmp_path, world):
    path = tmp_path / "few.db"
    world = {"jobs": [], "executions": world["executions"] and [
        {
            "id": "1", "job_id": "1", "job_name": "gone", "status": "PENDING", "started_at": None, "completed_at": None,
            "duration_ms": None, "result": None, "error": None, "trace_id": None, "worker_id": None,
            "parameters_snapshot": None, "created_at": "2026-01-01T00:00:00Z",
        }
    ]}  # fmt: skip
    jobstore.load(path, world)
    assert cli("dump", path).json == dump(path)


def test_a_store_is_copied_through_a_pipe(process, store, tmp_path):
    lines = process("dump", store, "--jsonl").out
    assert process("load", tmp_path / "copy.db", "-", stdin=lines).code == 0
    assert dump(tmp_path / "copy.db") == dump(store)


def test_a_store_that_is_there_is_not_loaded_over(cli, own, tmp_path):
    (tmp_path / "jobs.json").write_text('{"jobs": [], "executions": []}')
    before = own.read_bytes()
    answer = cli("load", own, tmp_path / "jobs.json")
    assert answer.code == 2
    assert answer.err.endswith("[CONFLICT]\n")
    assert own.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": [{}], "executions": []}', '{"job": {}}\n{"job": {}}'])
def test_what_is_no_store_is_refused_and_leaves_nothing(cli, tmp_path, text):
    (tmp_path / "in.json").write_text(text)
    answer = cli("load", tmp_path / "new.db", tmp_path / "in.json")
    assert answer.code == 2
    assert answer.err.endswith("[INVALID_RECORD]\n")
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".lock"] == ["in.json"]


def test_a_source_that_is_not_there_is_told(cli, tmp_path):
    answer = cli("load", tmp_path / "new.db", tmp_path / "nothing.json")
    assert answer.code in {2, 3}
    assert "nothing.json" in answer.err
    assert "Traceback" not in answer.err


def test_a_file_is_written_whole_or_not_at_all(cli, store, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    out.write_text("before")

    def broken(_path):
        yield {"store": {"timezone": "UTC"}}
        raise OSError(28, "No space left on device", "out.json")

    monkeypatch.setattr("jobstore.transfer.dump.dump_lines", broken)
    answer = cli("dump", store, "-o", out)
    assert (answer.code, answer.err) == (3, "jobstore: No space left on device: out.json [STORE_UNREADABLE]\n")
    assert out.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]


def test_an_age_beyond_all_time_is_refused_as_it_was_typed(cli, store):
    answer = cli("prune", store, "--older-than", "1000000d")
    assert answer.code == 2
    assert "--older-than must not reach back before the year 1; received '1000000d'" in answer.err


def test_a_folder_that_is_not_there_is_told(cli, store, tmp_path):
    answer = cli("dump", store, "-o", tmp_path / "no" / "out.json")
    assert answer.code == 3
    assert f"No such file or directory: {tmp_path}/no/out.json [" in answer.err


def test_a_bar_is_drawn_on_a_terminal_and_removed(terminal, store, tmp_path):
    one = terminal("load", "new.db", "jobs.json")
    assert one.end() != 0  # there is no such source: the bar does not hide why
    assert "jobs.json" in one.text
    jobs = tmp_path / "jobs.json"
    jobs.write_text(json.dumps(dump(store)))
    one = terminal("load", "new.db", "jobs.json")
    assert one.end() == 0
    assert "Loading new.db" in one.text
    assert one.text.splitlines()[-1].endswith("s")


# export


def test_exported_lines_are_the_documents_oldest_first(cli, store):
    lines = [json.loads(line) for line in cli("export", store).lines]
    with jobstore.open(store) as datahub:
        wanted = datahub.list_job_executions(limit=1000, order_desc=False)["data"]
    assert lines == wanted


def test_an_export_takes_the_filters_of_the_list(cli, store):
    def ids(*words: str) -> list[str]:
        return [json.loads(line)["id"] for line in cli("export", store, *words).lines]

    assert ids("--search", "failed") == ["2"]
    assert ids("sync_klines_1h") == ["1", "3"]
    assert ids("1", "--status", "TIMEOUT") == ["3"]
    assert ids("--trace-id", "trace-4") == ["4"]
    assert ids("--after", "2026-01-15T09:00:00Z") == ["3", "4", "5"]
    assert cli("export", store, "nobody").code == 1
    assert cli("export", store, "--limit", "3").code == 2
    assert cli("export", store, "--format", "xml").code == 2


@pytest.mark.parametrize("command", ["export", "dump"])
def test_a_relative_output_in_a_folder_that_is_gone_is_told(cli, store, tmp_path, monkeypatch, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    answer = cli(command, str(store), "-o", "out")
    assert answer.code == 3
    assert "The current folder no longer exists; give absolute paths" in answer.err


def test_an_export_as_csv_has_a_heading_and_every_field(cli, store, tmp_path):
    out = tmp_path / "runs.csv"
    answer = cli("export", store, "--format", "csv", "-o", out)
    assert answer.err == f"jobstore: wrote 65 executions to {out}\n"
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"), newline="")))
    assert len(rows) == 65
    assert next(row for row in rows if row["id"] == "2")["job_name"] == "同步交易对"


# prune


def test_pruning_says_how_many_went(cli, own):
    answer = cli("prune", own, "--keep-last", "10")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == "jobstore: deleted 52 executions of 65\n"
    assert cli("executions", own, "--json").json["pagination"]["total"] == 13


def test_a_dry_run_says_what_would_go_and_changes_nothing(cli, own):
    answer = cli("prune", own, "--before", "2026-01-15T08:30:00Z", "--dry-run")
    assert answer.err == "jobstore: would delete 32 executions of 65; nothing was changed\n"
    assert cli("executions", own, "--json").json["pagination"]["total"] == 65


def test_what_is_pruned_is_archived_first(cli, own, tmp_path):
    archive = tmp_path / "old.jsonl"
    answer = cli("prune", own, "--before", "2026-01-15T08:30:00Z", "--archive", archive)
    assert answer.err == f"jobstore: deleted 32 executions of 65, archived in {archive}\n"
    assert len(archive.read_text(encoding="utf-8").splitlines()) == 32


def test_failures_may_be_kept_for_longer(cli, own):
    words = ("--before", "2026-01-16", "--keep-failures-before", "2026-01-01", "--dry-run")
    assert "would delete 61 executions" in cli("prune", own, *words).err


@pytest.mark.parametrize(
    "words", [(), ("--before", "20260101"), ("--keep-last", "１"), ("--keep-last", "-1"), ("--before", "now")]
)
def test_pruning_refuses_what_says_too_little_or_nothing(cli, own, words):
    answer = cli("prune", own, *words)
    assert answer.code == 2
    assert words or "prune needs --older-than, --before or --keep-last; " in answer.err
    assert cli("executions", own, "--json").json["pagination"]["total"] == 65


def test_an_emergency_without_bounds_gives_up_the_reserve_alone(cli, own):
    assert cli("prune", own, "--emergency").code == 0
    assert cli("executions", own, "--json").json["pagination"]["total"] == 65


def test_pruning_makes_no_store(cli, tmp_path):
    assert cli("prune", tmp_path / "none.db", "--keep-last", "1").code == 3
    assert list(tmp_path.iterdir()) == []


# check and backup


def test_a_sound_store_passes_the_check(cli, own):
    answer = cli("check", own)
    assert (answer.code, answer.out, answer.err) == (0, "", f"jobstore: {own} is sound\n")


def test_a_store_whose_counters_are_wrong_fails_the_check(cli, own):
    import sqlite3

    connection = sqlite3.connect(own)
    connection.execute("UPDATE name_tally SET runs = runs + 1")
    connection.commit()
    connection.close()
    answer = cli("check", own)
    assert answer.code == 1
    assert answer.out
    assert "problem" in answer.err


def test_a_backup_is_the_same_store(cli, own, tmp_path):
    target = tmp_path / "copy.db"
    answer = cli("backup", own, target)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith(f"jobstore: copied {own} to {target} in ")
    assert dump(target) == dump(own)


def test_a_backup_goes_over_no_file(cli, own, tmp_path):
    target = tmp_path / "there.txt"
    target.write_text("mine")
    assert cli("backup", own, target).code in {2, 3}
    assert target.read_text() == "mine"


def test_a_damaged_store_fails_the_check_without_a_traceback(process, own):
    size = own.stat().st_size
    with own.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 20_000)
    answer = process("check", own)
    assert answer.code in {1, 3}
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "words", [("check", "own.db"), ("backup", "own.db", "copy.db"), ("prune", "own.db", "--keep-last", "1")]
)
def test_long_work_shows_a_bar_on_a_terminal(terminal, own, words):
    one = terminal(*words)
    assert one.end() == 0
    assert any(label in one.text for label in ("Checking own.db", "Copying own.db", "Pruning own.db"))
    assert one.text.splitlines()[-1].startswith("jobstore: ") or "jobstore: " in one.text.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("[bold]a.db", "[bold]a.db"), ("a\x1b[31m.db", "a\\x1b[31m.db"), ("a\u202e.db", "a\\u202e.db")],
)
@pytest.mark.parametrize("words", [("check",), ("prune", "--keep-last", "1"), ("compact",), ("backup",)])
def test_a_path_is_no_instruction_to_the_terminal(terminal, own, name, shown, words):
    own.rename(own.with_name(name))
    one = terminal(words[0], name, *words[1:], *(["copy.db"] if words == ("backup",) else []))
    assert one.end() == 0
    assert shown in one.text
    assert [each for each in (name, " a.db") if each in one.text and each != shown] == []


def test_what_is_written_through_a_link_leaves_the_link(cli, store, tmp_path):
    (tmp_path / "link.json").symlink_to("real.json")
    assert cli("dump", store, "-o", tmp_path / "link.json").code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").stat().st_size > 0


def test_a_file_that_is_replaced_keeps_its_mode(cli, store, tmp_path):
    for command, mode in (("dump", 0o600), ("export", 0o640), ("dump", 0o644)):
        out = tmp_path / f"{command}{mode}"
        out.touch()
        out.chmod(mode)
        assert cli(command, store, "-o", out).code == 0
        assert out.read_text(encoding="utf-8")
        assert stat.S_IMODE(out.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make another user's files")
@pytest.mark.parametrize("command", ["dump", "export"])
@pytest.mark.parametrize("is_link", [False, True])
def test_in_a_folder_for_everybody_no_file_of_another_user_is_replaced(cli, store, tmp_path, command, is_link):
    folder, victim = tmp_path / "everybody", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("mine", encoding="utf-8")
    out = folder / "out"
    if is_link:
        out.symlink_to(victim)
    else:
        out.write_text("another's", encoding="utf-8")
    os.chown(out, 47_001, 47_001, follow_symlinks=False)
    folder.chmod(0o1777)
    refused = cli(command, store, "-o", out)
    assert (refused.code, refused.err) == (
        3, f"jobstore: Another user made this in a world-writable folder; give another path: {out} [STORE_UNREADABLE]\n",
    )  # fmt: skip
    assert victim.read_text(encoding="utf-8") == "mine"
    folder.chmod(0o755)
    assert cli(command, store, "-o", out).code == 0  # in the folder of one user, that user decides


def test_who_may_not_give_the_group_gives_its_rights_to_no_other_one(cli, store, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(22, "Invalid argument")

    out = tmp_path / "out.json"
    out.touch()
    out.chmod(0o664)
    monkeypatch.setattr(os, "chown", refused)
    assert cli("dump", store, "-o", out).code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o644


@pytest.mark.parametrize("command", ["dump", "export"])
@pytest.mark.parametrize(("mode", "made"), [(0o600, 0o600), (0o640, 0o600), (0o644, 0o644), (0o664, 0o644)])
def test_a_new_file_is_no_more_open_than_the_store(cli, own, tmp_path, command, mode, made):
    own.chmod(mode)
    out = tmp_path / "out.json"
    previous = os.umask(0o022)
    try:
        assert cli(command, own, "-o", out).code == 0
        assert stat.S_IMODE(out.stat().st_mode) == made
        out.chmod(0o640)
        assert cli(command, own, "-o", out).code == 0
        assert stat.S_IMODE(out.stat().st_mode) == 0o640  # as its owner made it
    finally:
        os.umask(previous)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_leaves_nothing_half_made(store, tmp_path, number):
    first, *_ = dump(store)["jobs"]
    with subprocess.Popen(
        [sys.executable, "-m", "jobstore", "load", str(tmp_path / "new.db"), "-"], stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 - no threads here; under nohup, it is ignored
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(f"{json.dumps({'job': first})}\n".encode())
        process.stdin.flush()
        until(lambda: list(tmp_path.glob(".new.db.*.loading")))
        process.send_signal(number)
        assert process.wait(LONG_SECONDS) == -number
    assert [each.name for each in tmp_path.iterdir() if "new.db" in each.name] == []


@pytest.mark.parametrize("command", ["dump", "export"])
def test_nothing_is_written_over_the_store_it_comes_from(cli, own, tmp_path, command):
    (tmp_path / "link.db").symlink_to(own)
    before = own.read_bytes()
    other = tmp_path / "other.db"
    other.write_bytes(before)
    Path(f"{own}.tokens").touch()
    os.link(f"{own}.tokens", tmp_path / "tokens")
    beside = [f"{own}{end}" for end in ("-wal", ".lock", ".tokens", ".notified")]
    for out in (own, *beside, tmp_path / "tokens", f"{other}-wal", tmp_path / "link.db"):
        answer = cli(command, own, "-o", out)
        assert (answer.code, answer.out) == (2, "")
        assert "-o must not be the store or a file beside it" in answer.err
    assert "-o must not be a database" in cli(command, own, "-o", other).err
    assert other.read_bytes() == own.read_bytes() == before
    assert cli(command, own, "-o", f"{own}-copy.json").code == 0


def test_what_a_shell_would_add_to_the_store_is_refused(own):
    before = own.read_bytes()
    with own.open("ab") as out:  # dump jobs.db >> jobs.db
        done = subprocess.run(
            [sys.executable, "-m", "jobstore", "dump", own], check=False, stdout=out, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert b"must not be the store" in done.stderr
    assert own.read_bytes() == before


def test_what_a_shell_has_opened_is_written_to_and_not_replaced(cli, store, tmp_path):
    wanted = cli("dump", store).out
    assert cli("dump", store, "-o", "/dev/stdout").out == wanted
    (tmp_path / "log").write_text("before\n")
    with (tmp_path / "log").open("a") as log:  # >> log
        assert cli("dump", store, "-o", f"/dev/fd/{log.fileno()}").code == 0
    assert (tmp_path / "log").read_text(encoding="utf-8") == f"before\n{wanted}"
    reads, writes = os.pipe()  # >(...)
    with os.fdopen(reads, encoding="utf-8") as pipe:
        assert cli("export", store, "--search", "failed", "-o", f"/dev/fd/{writes}").code == 0
        os.close(writes)
        assert json.loads(pipe.read())["id"] == "2"


def test_a_file_that_may_not_be_replaced_is_named_as_it_was_asked_for(cli, store, tmp_path, monkeypatch):
    def refused(part, path):
        raise PermissionError(1, "Operation not permitted", str(part), None, str(path))

    monkeypatch.setattr(Path, "replace", refused)  # as where it is another user's, in a folder like /tmp
    answer = cli("dump", store, "-o", tmp_path / "out.json")
    assert (answer.code, answer.err) == (
        3, f"jobstore: Operation not permitted: {tmp_path}/out.json [STORE_UNREADABLE]\n"
    )  # fmt: skip
    assert [*tmp_path.iterdir()] == []


def test_a_dump_that_was_cut_off_makes_no_store(process, cli, store, tmp_path):
    """As when the dumping side of a pipe is killed: each line that came is whole."""
    whole = cli("dump", store, "--jsonl").out.splitlines(keepends=True)
    for kept in (len(whole) - 1, 3, 1):
        (tmp_path / "cut.jsonl").write_text("".join(whole[:kept]), encoding="utf-8")
        answer = cli("load", tmp_path / "new.db", tmp_path / "cut.jsonl")
        assert answer.code == 2
        assert "the dump ends early" in answer.err
        assert not (tmp_path / "new.db").exists()
