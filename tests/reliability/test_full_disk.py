"""A disk that is full: what was acknowledged can be read, and an emergency prune finds the way out."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from tests.reliability.scale import run_program, scaled

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def may_mount() -> bool:
    """Whether this user may make a file system that only its own process sees."""
    if shutil.which("unshare") is None:
        return False
    command = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="a file system of a given size needs unprivileged user namespaces")
def test_a_recorder_gets_out_of_a_full_disk(tmp_path):
    for size in [36, 41, *random.Random(7).choices(range(36, 80), k=scaled(1))]:
        figures = run_program("full_disk", tmp_path, size, prefix=OWN_MOUNTS)
        assert figures["recorded"] > 100
