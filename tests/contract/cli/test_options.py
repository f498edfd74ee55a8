"""The options are the parameters, and their words are read by the rules of every door."""

from collections.abc import Iterator
from typing import Any

import pytest

from jobstore.cli.app import commands
from jobstore.cli.reading import executions, jobs, stats
from jobstore.language import parameters as params
from jobstore.language.errors import InvalidParameter

READING = {
    "list_jobs": jobs,
    "list_job_executions": executions,
    "get_job_executions": executions,
    "job_stats": stats,
}


def queries() -> Iterator[Any]:
    for name, command in READING.items():
        for parameter in params.OPERATIONS[name].parameters:
            if parameter.name != "job_id":
                yield pytest.param(command, parameter, id=f"{name} {parameter.name}")


@pytest.mark.parametrize(("command", "parameter"), [*queries()])
def test_every_parameter_of_a_query_is_an_option_of_its_command(command, parameter):
    names = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert f"--{parameter.name.replace('_', '-')}" in names


WORDS = {
    params.Kind.TERM: "kline",
    params.Kind.TEXT: "x",
    params.Kind.INTEGER: "1",
    params.Kind.CHOICE: "id",
    params.Kind.CHOICES: "FAILURE",
    params.Kind.INSTANT: "2026-01-01",
}


@pytest.mark.parametrize(("command", "parameter"), [*queries()])
def test_an_option_given_twice_is_refused_unless_it_takes_several(cli, store, command, parameter):
    option = f"--{parameter.name.replace('_', '-')}"
    words = [option] if parameter.kind is params.Kind.FLAG else [option, WORDS[parameter.kind]]
    answer = cli(command.name, store, *words, *words, "--json")
    if parameter.kind is params.Kind.CHOICES:
        assert answer.code == 0
        return
    assert answer.code == 2
    assert answer.json["error"] == {
        "code": "INVALID_PARAMETER",
        "message": f"Parameter {parameter.name} was given twice; give it once",
    }


@pytest.mark.parametrize("words", [("--order-desc", "--order-asc"), ("--enabled", "--disabled")])
def test_a_switch_and_its_opposite_are_refused_together(cli, store, words):
    assert cli("jobs", store, *words).code == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limit", "0"), ("limit", "1001"), ("limit", "１２"), ("limit", "1_0"), ("limit", "+5"), ("limit", " 5"),
        ("limit", ""), ("limit", "-5"), ("limit", "1.0"), ("offset", "-1"), ("offset", str(2**63)), ("order_by", "rowid"),
        ("order_by", "NAME"), ("search", "x" * 201), ("search", "\udc80"), ("job_type", ""), ("job_category", ""),
    ],
)  # fmt: skip
def test_a_bad_word_has_the_code_and_message_of_every_door(cli, store, name, text):
    with pytest.raises(InvalidParameter) as refusal:
        params.LIST_JOBS.from_text([(name, text)])
    answer = cli("jobs", store, f"--{name.replace('_', '-')}={text}", "--json")
    assert answer.code == 2
    assert answer.json == {"error": {"code": "INVALID_PARAMETER", "message": refusal.value.message}}
    assert answer.err.startswith(f"jobstore: {refusal.value.message}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("after", "20260101"), ("before", "now"), ("after", "1768464000"), ("status", "failed"), ("status", ""),
        ("trace_id", ""), ("after", "2026-W03-1"), ("before", "9999-12-31T23:59:59-23:59"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("job", [(), ("sync_klines_1h",)])
def test_a_bad_word_about_executions_has_them_too(cli, store, job, name, text):
    with pytest.raises(InvalidParameter) as refusal:
        params.LIST_JOB_EXECUTIONS.from_text([(name, text)])
    answer = cli("executions", store, *job, f"--{name.replace('_', '-')}={text}", "--json")
    assert (answer.code, answer.json["error"]["message"]) == (2, refusal.value.message)


def test_crossed_bounds_are_refused(cli, store):
    answer = cli("stats", store, "--after", "2026-02-01", "--before", "2026-01-01")
    assert answer.code == 2
    assert "after must not be later than before" in answer.err


def test_a_blank_search_is_no_search(cli, store):
    assert cli("jobs", store, "--search=", "--json").json["pagination"]["total"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("jobs", "--limt", "3"), "No such option '--limt'. Did you mean '--limit'?"),
        (("jbos",), "No such command 'jbos'. Did you mean 'jobs'?"),
        (("token", "creat"), "No such command 'creat'. Did you mean 'create'?"),
        (("jobs", "--order-by"), "Option '--order-by' requires an argument"),
        (("jobs", "--order-desc=true"), "Option '--order-desc' does not take a value"),
        (("jobs", "a.db", "b.db"), "Got unexpected extra argument (b.db)"),
        (("jobs",), "FILE is missing: give the path of a job store, or set JOBSTORE_DB"),
    ],
)
def test_a_slip_in_the_words_says_what_was_meant_and_where_to_read(cli, words, said):
    answer = cli(*words)
    assert answer.code == 2
    assert answer.err.splitlines()[0] == f"jobstore: {said} [INVALID_PARAMETER]"
    assert answer.err.splitlines()[1].endswith("--help'.")
    assert answer.out == ""


def every_command(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    group = group or commands()
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield (*path, name)
        if hasattr(command, "list_commands"):
            yield from every_command(command, (*path, name))


@pytest.mark.parametrize("path", [*every_command()], ids=" ".join)
def test_every_command_has_help_with_examples(cli, path):
    answer = cli(*path, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: jobstore {' '.join(path)}")
    assert "Examples:" in answer.out or path in {("token",), ("cron",)}
    assert answer.err == ""


@pytest.mark.parametrize("path", [*every_command()], ids=" ".join)
def test_the_line_in_the_list_of_commands_says_what_the_help_says(cli, path):
    listed = next(line for line in cli(*path[:-1], "--help").lines if line.split()[:1] == [path[-1]])
    words = set(listed.lower().replace(".", "").split()[1:])
    assert len(words & set(cli(*path, "--help").out.lower().replace(".", "").split())) >= len(words) / 2


def test_help_lists_every_command_of_the_specification(cli):
    listed = {line.split()[0] for line in cli("--help").lines if line.startswith("  ")}
    assert listed >= {
        "demo",
        "jobs",
        "job",
        "executions",
        "stats",
        "serve",
        "mcp",
        "load",
        "dump",
        "export",
        "prune",
        "check",
        "backup",
        "token",
        "openapi",
        "exec",
        "metrics",
    }


@pytest.mark.parametrize("words", [(), ("token",)])
def test_no_words_at_all_are_answered_with_the_help(cli, words):
    answer = cli(*words)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == cli(*words, "--help").out


def test_the_version_is_the_package_s(cli):
    import jobstore

    assert cli("--version").out == f"jobstore {jobstore.__version__}\n"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("serve", "--open"), ("--port", "0")), (("serve", "--open"), ("--host", "localhost")),
        (("prune",), ("--before", "2026-01-01")), (("prune",), ("--keep-last", "1")), (("dump",), ("-o", "out")),
        (("export",), ("--format", "csv")), (("metrics",), ("--max-jobs", "1")), (("jobs",), ("--watch", "2")),
        (("token", "create"), ("--label", "a")),
    ],
)  # fmt: skip
def test_options_that_are_no_parameters_come_once_too(cli, store, words, option):
    answer = cli(*words, store, *option, *option)
    assert answer.code == 2
    assert f"{option[0]} was given twice; give it once [INVALID_PARAMETER]" in answer.err
