"""The name of the machine's zone, where it is told, where it is wrong and where only the clock tells."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobstore.integrations.localzone import Zone, local_timezone

ZONES = Path("/usr/share/zoneinfo")
IN_NAMESPACE = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]


@pytest.fixture(autouse=True)
def clock_again():
    yield
    time.tzset()


@pytest.mark.parametrize("name", ["Asia/Tokyo", "Europe/Berlin", "UTC", "America/St_Johns", "Asia/Kathmandu"])
@pytest.mark.parametrize("form", ["{}", ":{}", ":/usr/share/zoneinfo/{}", "/usr/share/zoneinfo/{}"])
def test_the_variable_names_the_zone(monkeypatch, name, form):
    if not (ZONES / name).exists():
        pytest.skip(f"{ZONES} is not there")
    monkeypatch.setenv("TZ", form.format(name))
    assert local_timezone() == Zone(name)


def test_a_variable_that_is_a_rule_gives_a_zone_of_that_clock_and_a_doubt(monkeypatch):
    monkeypatch.setenv("TZ", "XYZ-9")
    found = local_timezone()
    assert found.doubt
    assert found.name.startswith("Asia/")
    monkeypatch.setenv("TZ", "XYZ-9:07")
    assert local_timezone()[0] == "UTC"
    assert "no known time zone" in (local_timezone().doubt or "")


def test_an_empty_variable_is_utc(monkeypatch):
    monkeypatch.setenv("TZ", "")
    assert local_timezone() == Zone("UTC")


def can_mount() -> bool:
    done = subprocess.run([*IN_NAMESPACE, "mount --bind /etc /etc"], capture_output=True, check=False)
    return done.returncode == 0 and (ZONES / "Asia/Tokyo").exists()


@pytest.mark.skipif(not can_mount(), reason="no file can be mounted here")
@pytest.mark.parametrize(
    ("clock", "timezone", "name", "is_certain"),
    [
        ("Asia/Tokyo", "Asia/Tokyo", "Asia/Tokyo", True),
        ("Asia/Tokyo", "Europe/Berlin", "Asia/Tokyo", False),  # what is left over is not believed
        ("Asia/Tokyo", "", "Asia/Tokyo", False),
        ("Europe/Berlin", "Europe/Berlin", "Europe/Berlin", True),
        ("Etc/UTC", "Etc/UTC", "Etc/UTC", True),
    ],
)
def test_a_copy_of_the_clock_has_the_name_that_agrees_with_it(tmp_path, clock, timezone, name, is_certain):
    (tmp_path / "clock").write_bytes((ZONES / clock).read_bytes())
    (tmp_path / "timezone").write_text(f"{timezone}\n")
    mounts = f"mount --bind {tmp_path}/clock /etc/localtime && mount --bind {tmp_path}/timezone /etc/timezone"
    code = "from jobstore.integrations.localzone import local_timezone as z; print(*z(), sep='|')"
    script = f'touch /etc/timezone; {mounts} && exec "{sys.executable}" -c "{code}"'
    environment = {key: value for key, value in os.environ.items() if key != "TZ"}
    done = subprocess.run([*IN_NAMESPACE, script], capture_output=True, text=True, check=True, env=environment)
    found, doubt = done.stdout.strip().split("|")
    assert (found, doubt == "None") == (name, is_certain)
