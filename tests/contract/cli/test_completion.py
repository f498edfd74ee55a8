"""What bash inserts for a job's name, whatever the name is."""

import shutil
import subprocess
import sys

import pytest

import jobstore

from .conftest import ROOT, environment

NAMES = [
    "$(touch pwned)",
    "two words",
    "a*b",
    "a&b;c",
    "back\\slash",
    "shop:nightly",
    "shop:daily",
    "it's",
    "k=v",
    "同步",
]
DRIVER = """
eval "$({python} -m jobstore completion bash)"
jobstore() {{ {python} -m jobstore "$@"; }}
COMP_LINE=$1 COMP_POINT=${{#1}} COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:'
_jobstore_completion jobstore
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def offered(tmp_path):
    """What bash would offer for a line, in a folder with a store of oddly named jobs."""
    with jobstore.Recorder(tmp_path / "odd.db") as recorder:
        for name in NAMES:
            recorder.save_job(name, job_type="kline", job_category="sync")

    def ask(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", DRIVER.format(python=sys.executable), "bash", line],
            cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return done.stdout.splitlines()

    return ask


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_each_name_comes_back_as_one_word_and_runs_nothing(offered, tmp_path):
    values = offered("jobstore job odd.db ")
    read = subprocess.run(
        ["bash", "-c", "\n".join(f"printf '%s\\n' {value}" for value in values)], cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert sorted(read.stdout.splitlines()) == sorted(NAMES)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("begun", "values"),
    [
        ("two\\ w", ["two\\ words"]),
        ("shop:n", ["nightly"]),  # bash keeps what stands before its word break
        ("'shop:n", ["shop:nightly"]),
        ("k=", ["v"]),
        ('"$(to', ["\\$(touch pwned)"]),
        ("同", ["同步"]),
        ("zzz", []),
    ],
)
def test_a_word_that_was_begun_is_gone_on_with(offered, begun, values):
    assert [each for each in offered(f"jobstore job odd.db {begun}") if each] == values


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_commands_and_options_are_completed(offered):
    assert "executions" in offered("jobstore ex")
    assert "--order-by" in offered("jobstore jobs odd.db --order")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize("begun", ["jobstore job ~/odd.db shop:n", "jobstore job $FOLDER/odd.db shop:n"])
def test_the_jobs_of_a_store_are_found_where_the_shell_would_find_it(offered, tmp_path, monkeypatch, begun):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FOLDER", str(tmp_path))
    assert offered(begun) == ["nightly"]


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_a_variable_before_the_command_names_the_store(offered):
    assert offered("TZ=UTC JOBSTORE_DB=odd.db jobstore job shop:n") == ["nightly"]


@pytest.mark.parametrize(
    ("line", "kinds"),
    [("exec odd.db x -- ls /etc/hostn", ["file,"]), ("exec odd.db x -- ", ["file,"]), ("exec odd.db x ", [])],
)
def test_the_words_of_a_command_to_run_are_files(process, line, kinds):
    seen = process(_JOBSTORE_COMPLETE="bash_complete", COMP_LINE=f"jobstore {line}", COMP_BREAKS="")
    assert seen.out.split() == kinds
