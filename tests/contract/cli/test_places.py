"""FILE, and JOBSTORE_DB in its place."""

import shutil

import pytest


@pytest.fixture
def named(store, monkeypatch):
    """The store named by the variable."""
    monkeypatch.setenv("JOBSTORE_DB", str(store))
    return store


@pytest.mark.parametrize("words", [("jobs",), ("executions",), ("stats",), ("metrics",), ("dump",), ("export",)])
def test_the_variable_stands_in_for_the_file(cli, named, words):
    assert cli(*words).code == 0


def test_a_lone_argument_is_then_the_job(cli, named):
    assert cli("job", "sync_klines_1h", "--json").json["name"] == "sync_klines_1h"
    assert cli("executions", "1", "--json").json["pagination"]["total"] == 2
    assert cli("stats", "poll", "--json").json["runs"] == 62


def test_a_lone_argument_with_a_slash_is_the_file(cli, store, tmp_path, monkeypatch):
    monkeypatch.setenv("JOBSTORE_DB", str(tmp_path / "not there.db"))
    assert cli("executions", store, "--json").code == 0
    assert cli("executions", "other.db", "--json").code == 3


def test_two_arguments_are_the_file_and_the_job(cli, store, tmp_path, monkeypatch):
    monkeypatch.setenv("JOBSTORE_DB", str(tmp_path / "not there.db"))
    assert cli("job", store, "1", "--json").json["name"] == "sync_klines_1h"


def test_a_file_beats_the_variable_where_nothing_else_follows(cli, store, monkeypatch):
    monkeypatch.setenv("JOBSTORE_DB", "/nowhere/jobs.db")
    assert cli("jobs", store).code == 0


def test_a_file_that_was_taken_for_a_job_is_explained(cli, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(named, "other.db")
    answer = cli("executions", "other.db")
    assert answer.code == 1
    assert "JOBSTORE_DB is set, so 'other.db' was read as JOB; write './other.db' for the file" in answer.err
    assert "JOBSTORE_DB" not in cli("executions", "no_such_job").err
    assert cli("executions", "./other.db").code == 0


def test_an_empty_variable_is_none(cli, monkeypatch):
    monkeypatch.setenv("JOBSTORE_DB", "")
    answer = cli("jobs")
    assert answer.code == 2
    assert "FILE is missing" in answer.err


@pytest.mark.parametrize(
    ("words", "missing"), [(("job", "a.db"), "NAME"), (("load", "a.db"), "SOURCE"), (("backup", "a.db"), "TARGET")]
)
def test_what_must_follow_the_file_is_named(cli, words, missing):
    answer = cli(*words)
    assert answer.code == 2
    assert f"{missing} is missing" in answer.err


def test_a_job_may_be_called_like_an_option_after_two_dashes(cli, store):
    assert cli("job", store, "--", "--limit").err == "jobstore: Job not found: --limit [NOT_FOUND]\n"
