"""SQLite 3.37 is enough: an older one is named at once, and no statement uses what came later."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import jobstore

LATER = {
    r"->>?\s*'\$": "3.38",
    r"\bunixepoch\s*\(": "3.38",
    r"\bformat\s*\((?=[^)]*\bSELECT)": "3.38",
    r"\bIS (NOT )?DISTINCT FROM\b": "3.39",
    r"\b(RIGHT|FULL) (OUTER )?JOIN\b": "3.39",
    r"\btimediff\s*\(": "3.43",
    r"\boctet_length\s*\(": "3.43",
    r"\bstring_agg\s*\(": "3.44",
    r"\bconcat(_ws)?\s*\(": "3.44",
    r"\bjson_pretty\s*\(": "3.46",
    r"\bjsonb\w*\s*\(": "3.45",
}
"""What statements may hold, and the version that brought it."""
FOLDER = Path(jobstore.__file__).parent
SQL = re.compile(r'"{1,3}[^"]*\b(?:SELECT|INSERT|UPDATE|DELETE|CREATE)\b[^"]*"{1,3}')


FOR_A_SERVER = FOLDER / "storage/postgres", FOLDER / "transfer/server.py"
FILES = [path for path in sorted(FOLDER.rglob("*.py")) if not any(map(path.is_relative_to, FOR_A_SERVER))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_no_statement_needs_a_later_sqlite(path):
    for statement in SQL.findall(path.read_text(encoding="utf-8")):
        found = [version for pattern, version in LATER.items() if re.search(pattern, statement)]
        assert not found, statement


@pytest.mark.parametrize(("version", "is_enough"), [((3, 36, 9), False), ((3, 37, 0), True)])
def test_an_older_sqlite_is_named(version, is_enough):
    code = f"import sqlite3; sqlite3.sqlite_version_info = {version}; import jobstore; jobstore.open"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) == is_enough
    assert is_enough or "jobstore needs SQLite 3.37 or newer; this Python has" in done.stderr
