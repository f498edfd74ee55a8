"""The page about cron, systemd and containers: its lines run, and systemd takes its units."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jobstore
from tests.documents import ROOT, blocks

PAGE = ROOT / "docs" / "deployment.md"
INSTALLED = "/opt/jobstore/bin/jobstore"


def written(language: str) -> dict[str, str]:
    """The files that the page prints, by their names."""
    return {
        block.title.removeprefix("# "): block.text
        for block in blocks(PAGE)
        if block.language == language and block.title
    }


@pytest.fixture
def here(tmp_path):
    """A function that puts the page's paths into a folder, where its programs are."""
    program = tmp_path / "jobstore"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m jobstore "$@"\n')
    command = tmp_path / "nightly.sh"
    command.write_text("#!/bin/sh\necho done\n")
    for each in (program, command):
        each.chmod(0o755)
    places = {
        INSTALLED: str(program), "/var/lib/jobstore": str(tmp_path), "/usr/local/bin/nightly.sh": str(command),
        "/data": str(tmp_path),
    }  # fmt: skip
    return lambda text: re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], text)


def the_run(folder: Path) -> tuple[str, str, str | None]:
    with jobstore.open(folder / "jobs.db") as store:
        (found,) = store.list_job_executions()["data"]
        return found["job_name"], found["status"], store.get_job(found["job_name"])["schedule"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path, here):
    units = written("ini")
    assert {Path(name).suffix for name in units} == {".service", ".timer"}
    for name, text in units.items():
        (tmp_path / name).write_text(here(text))
    line = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in units)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_the_command_of_the_unit_runs_and_is_recorded(tmp_path, here):
    line = next(line for line in written("ini")["nightly.service"].splitlines() if line.startswith("ExecStart="))
    done = subprocess.run(
        shlex.split(here(line.removeprefix("ExecStart="))), capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert the_run(tmp_path) == ("nightly", "SUCCESS", "0 2 * * *")


def test_the_line_of_the_crontab_runs_and_is_recorded(tmp_path, here):
    (line,) = re.findall(r"^0 2 \* \* \*  (.*)$", PAGE.read_text(), re.MULTILINE)
    done = subprocess.run(
        ["/bin/sh", "-c", here(line)], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert the_run(tmp_path) == ("nightly", "SUCCESS", "0 2 * * *")


def test_no_line_of_a_crontab_relies_on_the_path_of_cron():
    entry = re.compile(r"^(?:(?:[\d*/,-]+ +){3}\S+ +\S+|@[a-z]+) +(.*\bjobstore .*)$", re.MULTILINE)
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    commands = [command for page in pages for command in entry.findall(page.read_text())]
    assert commands
    assert [command for command in commands if not re.search(r"(?:^|\s)/\S*/jobstore ", command)] == []


def test_what_the_container_starts_runs_and_is_recorded(tmp_path, here):
    text = written("dockerfile")["Dockerfile"]
    lists = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE)
    words = [word for each in lists for word in json.loads(each)]
    assert words[0] == "jobstore"
    line = [here(INSTALLED), *(here(word) for word in words[1:])]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "hello\n"
    assert the_run(tmp_path) == ("hello", "SUCCESS", None)
