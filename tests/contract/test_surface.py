"""The public surface: its names, its signatures, its errors with their codes, and what importing it costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import jobstore
from jobstore.language import errors
from jobstore.storage.connection import driver_errors, store_error
from tests.waiting import until

ROOT = Path(jobstore.__file__).parent

# --- names ------------------------------------------------------------------------------------------


def test_all_is_sorted_and_has_every_public_name_once() -> None:
    assert jobstore.__all__ == sorted(set(jobstore.__all__))
    public = {name for name in vars(jobstore) if not name.startswith("_")}
    modules = {name for name in public if inspect.ismodule(getattr(jobstore, name))}
    assert public - modules - {"annotations", "import_module", "TYPE_CHECKING"} <= set(jobstore.__all__)


@pytest.mark.parametrize("name", jobstore.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(jobstore, name) is not None
    assert getattr(jobstore, name) is getattr(importlib.import_module("jobstore"), name)


def test_a_listing_has_every_public_name() -> None:
    assert set(jobstore.__all__) <= set(dir(jobstore))


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "jobstore/__init__.py"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'jobstore' has no attribute 'job_store'"):
        jobstore.job_store  # type: ignore[attr-defined]  # noqa: B018 - the look-up is the test, as is the type's


def test_the_type_checker_sees_what_is_imported_late() -> None:
    """The names below `if TYPE_CHECKING` and those that `__getattr__` finds are the same, from the same places."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    block, unseen = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(unseen.test) == "not TYPE_CHECKING"
    (found,) = unseen.body
    assert isinstance(found, ast.FunctionDef)
    assert found.name == "__getattr__", "a checker that sees it takes a misspelt name for one of ours"
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == jobstore._LATE


def test_the_types_are_published() -> None:
    assert (ROOT / "py.typed").is_file()


# --- signatures: the names are fixed, other people's code relies on them ------------------------------

REQUIRED = inspect.Parameter.empty
PAGE = {"limit": 50, "offset": 0}
HISTORY = {
    "search": None, **PAGE, "order_by": "started_at", "order_desc": True, "before": None, "after": None,
    "status": None, "trace_id": None,
}  # fmt: skip
QUERIES: dict[str, dict[str, Any]] = {
    "list_jobs": {
        "search": None, **PAGE, "order_by": "name", "order_desc": False, "job_type": None, "job_category": None,
        "enabled": None,
    },
    "get_job": {"job_id": REQUIRED},
    "list_job_executions": HISTORY,
    "get_job_executions": {"job_id": REQUIRED, **HISTORY},
    "job_stats": {"job_id": None, "before": None, "after": None},
}  # fmt: skip
UNGIVEN = "what was there"
RECORDER: dict[str, dict[str, Any]] = {
    "__init__": {"path": REQUIRED, "timezone": None, "clock": None},
    "save_job": {
        "name": REQUIRED, "job_type": REQUIRED, "job_category": REQUIRED, "schedule": None, "interval_seconds": None,
        "description": None, "parameters": None, "timeout_seconds": None, "max_instances": 1, "enabled": True,
        "anchor_at": None, "next_run_at": None,
    },
    "enqueue": {"name": REQUIRED, "trace_id": None, "worker_id": None, "parameters": None, "at": None},
    "start": {"execution_id": REQUIRED, "worker_id": None, "trace_id": None, "at": None},
    "finish": {
        "execution_id": REQUIRED, "status": REQUIRED, "result": None, "error": None, "at": None, "duration_ms": None,
    },
    "run": {"name": REQUIRED, "worker_id": None, "trace_id": None, "parameters": None},
    "rename_job": {"old": REQUIRED, "new": REQUIRED},
    "remove_job": {"name": REQUIRED},
    "prune": {
        "before": None, "keep_last": None, "keep_failures_before": None, "archive": None, "dry_run": False,
    },
    "close_interrupted": {"grace_seconds": 60},
}  # fmt: skip
POSITIONAL = {"path", "name", "execution_id", "status", "old", "new"}
"""Of the recorder's; all others are given by keyword."""


def defaults(function: Any) -> dict[str, Any]:
    """Parameters in order with their defaults; a default that means "as it was" shows what a new job gets."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {parameter.name: getattr(parameter.default, "value", parameter.default) for parameter in parameters}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_has_its_parameters_as_method_and_as_function(name: str) -> None:
    assert list(defaults(getattr(jobstore.JobStore, name)).items()) == list(QUERIES[name].items())
    assert getattr(jobstore, name) is getattr(jobstore.JobStore, name)


@pytest.mark.parametrize("name", RECORDER)
def test_a_call_of_the_recorder_has_its_parameters(name: str) -> None:
    method = getattr(jobstore.Recorder, name)
    expected = RECORDER[name]
    found = defaults(method)
    assert list(found.items())[: len(expected)] == list(expected.items())
    kinds = {parameter.name: parameter.kind for parameter in inspect.signature(method).parameters.values()}
    for parameter in expected:
        is_positional = kinds[parameter] is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert is_positional == (parameter in POSITIONAL)


def test_open_takes_a_path_and_a_clock() -> None:
    parameters = inspect.signature(jobstore.open).parameters
    assert [(p.name, p.default, p.kind.name) for p in parameters.values()] == [
        ("path", REQUIRED, "POSITIONAL_OR_KEYWORD"),
        ("clock", None, "KEYWORD_ONLY"),
    ]


# --- errors -----------------------------------------------------------------------------------------

CODES = {
    "NotFound": ("NOT_FOUND", 404, LookupError),
    "InvalidParameter": ("INVALID_PARAMETER", 400, ValueError),
    "InvalidSchedule": ("INVALID_SCHEDULE", 400, ValueError),
    "InvalidRecord": ("INVALID_RECORD", 400, ValueError),
    "Conflict": ("CONFLICT", 409, errors.JobStoreError),
    "Unauthorized": ("UNAUTHORIZED", 401, errors.JobStoreError),
    "Forbidden": ("FORBIDDEN", 403, errors.JobStoreError),
    "MethodNotAllowed": ("METHOD_NOT_ALLOWED", 405, errors.JobStoreError),
    "ResponseTooLarge": ("RESPONSE_TOO_LARGE", 413, errors.JobStoreError),
    "InternalError": ("INTERNAL", 500, errors.JobStoreError),
    "StoreBusy": ("STORE_BUSY", 503, errors.StoreError),
    "StoreNotFound": ("STORE_NOT_FOUND", 503, errors.StoreError),
    "NotAStore": ("NOT_A_STORE", 503, errors.StoreError),
    "StoreCorrupt": ("STORE_CORRUPT", 503, errors.StoreError),
    "StoreFull": ("STORE_FULL", 503, errors.StoreError),
    "StoreUnreadable": ("STORE_UNREADABLE", 503, errors.StoreError),
    "SchemaTooNew": ("SCHEMA_TOO_NEW", 503, errors.StoreError),
    "SchemaTooOld": ("SCHEMA_TOO_OLD", 503, errors.StoreError),
}


def tree(root: type[errors.JobStoreError]) -> list[type[errors.JobStoreError]]:
    return [child for direct in root.__subclasses__() for child in (direct, *tree(direct))]


def test_every_error_has_its_code_status_and_builtin_parent() -> None:
    for name, (code, status, parent) in CODES.items():
        error = getattr(jobstore, name)
        assert (error.code, error.http_status) == (code, status)
        assert issubclass(error, errors.JobStoreError)
        assert issubclass(error, parent)


def test_the_tree_holds_no_other_error_and_no_code_twice() -> None:
    named = {error.__name__ for error in tree(errors.JobStoreError) if error.__module__ == errors.__name__}
    assert named == CODES.keys() | {"StoreError"}
    assert named | {"JobStoreError"} <= set(jobstore.__all__)
    assert len({code for code, _, _ in CODES.values()}) == len(CODES)


def test_the_tree_is_drawn_in_the_docstring() -> None:
    drawn = errors.__doc__ or ""
    for name, (code, status, _) in CODES.items():
        (line,) = [line for line in drawn.splitlines() if f"── {name}" in line]
        assert code in line
        assert status == 503 or str(status) in line


PRIMARY = {
    name: getattr(sqlite3, name)
    for name in dir(sqlite3)
    if name.startswith("SQLITE_") and isinstance(getattr(sqlite3, name), int)
    and name.removeprefix("SQLITE_") in {
        "ERROR", "INTERNAL", "PERM", "ABORT", "BUSY", "LOCKED", "NOMEM", "READONLY", "INTERRUPT", "IOERR", "CORRUPT",
        "NOTFOUND", "FULL", "CANTOPEN", "PROTOCOL", "EMPTY", "SCHEMA", "TOOBIG", "CONSTRAINT", "MISMATCH", "MISUSE",
        "NOLFS", "AUTH", "FORMAT", "RANGE", "NOTADB", "NOTICE", "WARNING", "ROW", "DONE",
    }
}  # fmt: skip
EXTENDED = {
    name: value
    for name in dir(sqlite3)
    if name.startswith("SQLITE_") and isinstance(value := getattr(sqlite3, name), int) and value & 0xFF and value >> 8
    and f"SQLITE_{name.split('_')[1]}" in PRIMARY
}  # fmt: skip
KINDS = {
    "SQLITE_BUSY": errors.StoreBusy, "SQLITE_LOCKED": errors.StoreBusy, "SQLITE_PROTOCOL": errors.StoreBusy,
    "SQLITE_CORRUPT": errors.StoreCorrupt, "SQLITE_NOTADB": errors.NotAStore, "SQLITE_FULL": errors.StoreFull,
    "SQLITE_READONLY": errors.StoreUnreadable, "SQLITE_CANTOPEN": errors.StoreUnreadable,
    "SQLITE_IOERR": errors.StoreUnreadable, "SQLITE_PERM": errors.StoreUnreadable, "SQLITE_AUTH": errors.StoreUnreadable,
    "SQLITE_NOMEM": errors.StoreUnreadable, "SQLITE_IOERR_SHMSIZE": errors.StoreFull,
}  # fmt: skip


def raised(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("what the driver says")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("name", [*PRIMARY, *EXTENDED])
def test_every_code_of_the_driver_leaves_as_a_store_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    error = store_error(raised({**PRIMARY, **EXTENDED}[name]), path)
    primary = "_".join(name.split("_")[:2])
    assert isinstance(error, KINDS.get(name, KINDS.get(primary, errors.StoreError)))
    assert str(path) in str(error)
    assert "what the driver says" not in str(error)


DRIVERS_OWN: tuple[type[Exception], ...] = (
    sqlite3.Error, sqlite3.DatabaseError, sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError,
    sqlite3.InternalError, sqlite3.NotSupportedError, sqlite3.OperationalError, sqlite3.ProgrammingError,
)  # fmt: skip
SYSTEMS: tuple[Exception, ...] = (
    OSError(5, "Input/output error"), PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such file"),
    MemoryError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), sqlite3.OperationalError("Could not decode to UTF-8 column 'name' with text 'x'"),
)  # fmt: skip


OURS: tuple[Exception, ...] = (OverflowError("x"), KeyError("x"))


@pytest.mark.parametrize("error", SYSTEMS, ids=lambda error: type(error).__name__)
def test_what_the_system_raises_leaves_as_a_store_error(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(errors.StoreError) as caught, driver_errors(tmp_path / "jobs.db"):
        raise error
    assert str(tmp_path / "jobs.db") in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [*(kind("x") for kind in DRIVERS_OWN), *OURS], ids=lambda error: type(error).__name__)
def test_a_defect_of_ours_is_never_called_a_fault_of_the_file(error: Exception, tmp_path: Path) -> None:
    """The driver gives no code to what it complains of itself: a closed connection, a wrong number of values."""
    with pytest.raises(type(error)) as caught, driver_errors(tmp_path / "jobs.db"):
        raise error
    assert caught.value is error


# --- importing --------------------------------------------------------------------------------------

HEAVY = ("pydantic", "sqlite_utils", "croniter", "falcon", "click", "rich", "mcp", "httpx", "waitress", "apscheduler")
NAMES_AND_TIMES = """
import sys, time
begun = time.perf_counter()
import jobstore
spent = time.perf_counter() - begun
print(spent, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported() -> tuple[float, set[str]]:
    """The seconds that `import jobstore` takes in a fresh process, and the packages that it brings."""
    said = subprocess.run(
        [sys.executable, "-c", NAMES_AND_TIMES], capture_output=True, check=True, text=True, cwd=ROOT.parent
    )
    seconds, *names = said.stdout.split()
    return float(seconds), set(names)


def test_importing_the_package_brings_no_door_and_nothing_heavy() -> None:
    seconds, names = imported()
    assert not names & set(HEAVY)
    # 40 ms on an idle machine; the bound of 150 ms is measured by the benchmark, this one holds on a busy machine too.
    assert seconds < 1.5 or until(lambda: imported()[0] < 1.5)


def test_reading_a_store_brings_no_door(seed_path: Path) -> None:
    code = f"""
import sys, jobstore
with jobstore.open({str(seed_path)!r}) as store:
    store.list_jobs(), store.get_job(1), store.list_job_executions(search="failed"), store.job_stats()
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT.parent)
    assert not set(said.stdout.split()) & (set(HEAVY) - {"croniter"})
