"""The line that installs a missing extra, wherever the package came from."""

import importlib.metadata
import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

from jobstore.language import extras


@pytest.mark.parametrize(
    ("noted", "requirement"),
    [
        (None, "jobstore[http]"),
        ({}, "jobstore[http]"),
        ({"url": "file:///srv/a clone", "dir_info": {}}, "jobstore[http] @ file:///srv/a clone"),
        (
            {"url": "https://git.example.com/x", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "jobstore[http] @ git+https://git.example.com/x@abc",
        ),
    ],
)
def test_an_installed_package_is_installed_again_from_where_it_came(monkeypatch, tmp_path, noted, requirement):
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "jobstore" / "language" / "extras.py"))
    found = SimpleNamespace(read_text=lambda _name: None if noted is None else json.dumps(noted))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: found)
    assert shlex.split(extras.install_command("http")) == [sys.executable, "-m", "pip", "install", requirement]


def test_a_clone_is_installed_from_the_clone(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "jobstore"\n')
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "jobstore" / "language" / "extras.py"))
    assert shlex.split(extras.install_command("mcp"))[-2:] == ["-e", f"{tmp_path}[mcp]"]


def test_the_project_of_someone_who_has_jobstore_in_its_folder_is_no_clone(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "jobstore" / "language" / "extras.py"))
    assert str(tmp_path) not in extras.install_command("http")


def run_without(module: str, code: str) -> str:
    code = f"import sys; sys.modules[{module!r}] = None; {code}"
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stderr


def test_without_the_client_everything_but_a_connection_is_there():
    assert run_without("httpx", "import jobstore, inspect; inspect.getmembers(jobstore)") == ""
    said = run_without("httpx", "import jobstore; jobstore.connect('http://h')")
    assert "ImportError: jobstore.connect needs the extra 'client'; install it: " in said


@pytest.mark.parametrize("call", ["check(url)", "dump(url)", "load(url, {})", "open(url)", "Recorder(url)"])
def test_an_address_without_the_driver_names_the_extra(call):
    said = run_without("psycopg", f"import jobstore; url = 'postgresql://h/d'; jobstore.{call}")
    assert "needs the extra 'postgres'; install it: " in said


@pytest.mark.parametrize("name", ["apscheduler", "huey"])
def test_a_mirror_without_its_library_names_the_extra(name):
    code = f"import sys; sys.modules[{name!r}] = None; import jobstore.integrations.{name}"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert f"ImportError: jobstore.integrations.{name} needs the extra '{name}'; install it: " in done.stderr
