"""The error for a missing optional library. It names the command that installs it."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path

DISTRIBUTION = "jobstore"


def missing(what: str, extra: str) -> ImportError:
    """The error to raise when a module needs an extra that is not installed."""
    return ImportError(f"{what} needs the extra '{extra}'; install it: {install_command(extra)}")


def install_command(extra: str) -> str:
    """The command that installs an extra into this Python, from the folder, address or index jobstore came from."""
    return shlex.join([sys.executable, "-m", "pip", "install", *_requirement(extra)])


def _requirement(extra: str) -> list[str]:
    clone = Path(__file__).resolve().parents[2]
    with suppress(OSError, UnicodeDecodeError):  # a project that has jobstore in its own folder has its own pyproject
        if f'name = "{DISTRIBUTION}"' in (clone / "pyproject.toml").read_text("utf-8"):
            return ["-e", f"{clone}[{extra}]"]
    came_from = _origin()
    return [f"{DISTRIBUTION}[{extra}] @ {came_from}" if came_from else f"{DISTRIBUTION}[{extra}]"]


def _origin() -> str | None:
    """The address that pip recorded if it did not install from an index (PEP 610)."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        noted = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    url, vcs = noted.get("url"), noted.get("vcs_info")
    return f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if url and vcs else url
