"""``docs/integrations.md``: its programs run as printed, and do what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jobstore
from jobstore.integrations import names, outcomes
from jobstore.language import results
from tests.waiting import LONG_SECONDS, until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"
PROGRAM = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LATE = re.compile("skipped: maximum number of running instances reached|was missed by")
"""What APScheduler says on a busy machine."""
PROGRAMS = dict(PROGRAM.findall(PAGE.read_text(encoding="utf-8")))


def run(title: str, folder: Path) -> str:
    (folder / title).write_text(PROGRAMS[title], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, title], cwd=folder, capture_output=True, text=True, check=False, timeout=LONG_SECONDS
    )
    said = [line for line in done.stderr.splitlines() if not LATE.search(line)]
    assert (done.returncode, said) == (0, [])
    return done.stdout


def executions(folder: Path, store: str = "jobs.db") -> list[Any]:
    with jobstore.open(folder / store) as opened:
        return [
            (each["job_name"], each["status"], each["result"], each["error"])
            for each in opened.list_job_executions()["data"]
        ]


def test_every_program_of_the_page_is_run_here():
    assert set(PROGRAMS) == {
        "with_apscheduler.py",
        "with_huey.py",
        "own_decorator.py",
        "own_mirror.py",
        "at_the_start.py",
    }
    python = PAGE.read_text(encoding="utf-8").count("```python")
    assert python == len(PROGRAMS)


def test_the_program_with_apscheduler_records_its_runs(tmp_path):
    # Its scheduler rightly skips the runs whose second a busy machine has missed.
    until(lambda: re.search(r"'SUCCESS': [1-9]", run("with_apscheduler.py", tmp_path)))
    found = executions(tmp_path, "with_apscheduler.db")
    assert ("sync_klines_1h", "SUCCESS", {"inserted": 42}, None) in found


def test_the_program_with_huey_records_its_task(tmp_path):
    assert run("with_huey.py", tmp_path) == "{'exchange': 'BNC', 'inserted': 42}\n"
    with jobstore.open(tmp_path / "jobs.db") as store:
        assert {job["name"]: job["schedule"] for job in store.list_jobs()["data"]} == {
            "sync": None,
            "clean_up": "0 3 * * *",
        }


@pytest.mark.parametrize(
    ("title", "execution"),
    [
        ("own_decorator.py", ("sync_symbols_all", "SUCCESS", {"symbols": 3}, None)),
        ("own_mirror.py", ("reports%2Fdaily", "FAILURE", None, "ValueError: no data")),
    ],
)
def test_a_mirror_of_ones_own_records_its_run(tmp_path, title, execution):
    run(title, tmp_path)
    assert executions(tmp_path) == [execution]


def test_the_program_for_the_start_closes_what_was_interrupted(tmp_path):
    assert run("at_the_start.py", tmp_path) == "0 runs had been interrupted\n"


def test_the_figures_of_the_page_are_those_of_the_code():
    text = PAGE.read_text(encoding="utf-8")
    assert f"at most {results.TEXT_CHARACTERS:,} characters" in text
    assert f"more than {outcomes.RESULT_BYTES // 1024} KiB" in text
    assert f"the last {outcomes.TRACEBACK_CHARACTERS:,} characters" in text
    assert f"at most {outcomes.ERROR_CHARACTERS:,} |" in text
    assert names.job_name("reports/daily") == "reports%2Fdaily"
    assert names.job_name("42") == "%342"
