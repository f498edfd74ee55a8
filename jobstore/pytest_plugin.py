"""Stores for tests: a pytest plugin that is there once the package is installed.

``jobstore_factory`` builds stores from as little as a test cares about, ``jobstore_clock`` is their clock
and stands still, ``jobstore_snapshot`` compares a document with the JSON file beside the test. The
modules these need are imported when a test first asks for one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from difflib import unified_diff
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from jobstore.store import JobStore
    from jobstore.testing import FrozenClock

UPDATE_OPTION = "--jobstore-snapshot-update"
SNAPSHOT_FOLDER = "__snapshots__"

_LONGEST_PART = 100
"""Bytes; a file's name has at most 255, and up to two parts, two digests and a number in it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option: whether snapshots are written instead of compared."""
    parser.getgroup("jobstore").addoption(
        UPDATE_OPTION, action="store_true", help="write the files of jobstore_snapshot instead of comparing with them"
    )


@pytest.fixture
def jobstore_clock() -> FrozenClock:
    """A clock that stands at 2026-01-15T09:00:00Z: ``set`` and ``advance`` move it."""
    from jobstore.testing import FrozenClock  # see the module's docstring

    return FrozenClock()


@pytest.fixture
def jobstore_factory(tmp_path: Path, jobstore_clock: FrozenClock) -> Iterator[Callable[..., JobStore]]:
    """Build stores: ``jobstore_factory(jobs=[...], executions=[...], now=..., timezone=...)`` -> `JobStore`.

    What is left out of jobs and executions is filled in by `jobstore.testing.document`; an execution
    needs ``job_name`` and ``status``. All stores of a test share ``jobstore_clock``, which ``now`` sets.
    """
    from jobstore import testing  # see the module's docstring

    stores: list[JobStore] = []

    def build(
        jobs: Iterable[Mapping[str, Any] | str] = (),
        executions: Iterable[Mapping[str, Any]] = (),
        *,
        now: datetime | str | None = None,
        timezone: str = "UTC",
    ) -> JobStore:
        if now is not None:
            jobstore_clock.set(now)
        contents = testing.document(jobs, executions, now=jobstore_clock.now, timezone=timezone)
        store = testing.build(tmp_path / f"jobstore-{len(stores) + 1}.db", contents, jobstore_clock)
        stores.append(store)
        return store

    yield build
    for store in stores:
        store.close()


@pytest.fixture
def jobstore_snapshot(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compare a document or a page with its file: ``jobstore_snapshot(page)``, or with ``name=`` for several.

    The file is ``__snapshots__/<module>/<test>.json`` beside the test, written by ``--jobstore-snapshot-update``: with
    ``Class.`` before the test where it is in one, ``-parameters`` and ``@name`` after it, and ``+2`` for a second call.
    Since the clock stands still, a document is the same in every run, the order of its fields included.
    """
    folder = request.path.parent / SNAPSHOT_FOLDER / request.path.stem
    is_update = bool(request.config.getoption(UPDATE_OPTION))
    asked: Counter[str] = Counter()

    test = _file_name(request.node.nodeid.split("::", 1)[-1].replace("::", "."))

    def compare(document: Any, *, name: str | None = None) -> None:
        __tracebackhide__ = True
        label = test if name is None else f"{test}@{_file_name(name)}"
        asked[label] += 1
        number = f"+{asked[label]}" if asked[label] > 1 else ""
        _compare(folder / f"{label}{number}.json", _as_text(document), is_update=is_update)

    return compare


def _file_name(words: str) -> str:
    """Words as part of a file's name; a digest keeps names apart whose words were replaced or cut."""
    plain = re.sub(r"^(\w[\w.]*)\[(.*)\]$", r"\1-\2", words, flags=re.DOTALL)
    name = re.sub(r"[^\w.-]+", "_", plain).encode()[:_LONGEST_PART].decode(errors="ignore")
    return name if name == plain else f"{name}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def _as_text(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _compare(file: Path, found: str, *, is_update: bool) -> None:
    """Fail with the difference line by line; with `is_update` writes the file instead."""
    __tracebackhide__ = True
    expected = file.read_text(encoding="utf-8") if file.exists() else None
    if found == expected:
        return
    if is_update:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found, encoding="utf-8")
    elif expected is None:
        pytest.fail(f"There is no snapshot {file} yet; run pytest with {UPDATE_OPTION} to write it")
    else:
        difference = unified_diff(expected.splitlines(), found.splitlines(), str(file), "this run", lineterm="", n=2)
        pytest.fail("\n".join([*difference, f"If this run is right, {UPDATE_OPTION} writes it"]))
