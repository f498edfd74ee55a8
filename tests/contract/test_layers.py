"""Who may import whom: the folders of the package, as a table, and the libraries that live in one folder alone.

An edge that is not in the table fails; so does a module that has no room. Imports for type checkers alone do not
count: a type ties nothing together when the program runs.
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jobstore

FOLDER = Path(jobstore.__file__).parent

MAY_IMPORT: dict[str, str] = {
    "language": "",
    "replacing": "",
    "handling": "",
    "storage": "language replacing",
    "engine": "language storage",
    "recording": "language storage replacing",
    "transfer": "language storage engine recording store replacing",
    "store": "language storage engine queries reading postgres",
    "postgres": "language storage engine queries reading",
    "reading": "language storage engine queries",
    "queries": "language",
    # interfaces: each knows the store, none knows another
    "http": "language store queries metrics web replacing handling package",
    "web": "language queries",
    "integrations": "language store recording replacing",
    "tools": "language queries package",
    "mcp": "language store queries tools handling package",
    "metrics": "language queries",
    "testing": "language store transfer",
    "pytest_plugin": "store testing package",
    "wsgi": "language http",
    "tokens": "http",
    "cli": "language store queries recording transfer http integrations mcp metrics replacing handling package",
    "__main__": "cli",
    "package": "language store queries recording transfer http",
}
"""A folder, or a file of the root, may import itself and these.

Language knows nothing, nor does `replacing`, which any may call to replace a file; storage knows language; engine and recording know storage and not each other; transfer knows
both; an interface knows the store and no other interface. The command line is what puts the others on a screen.
"""

AT_HOME = {
    "croniter": "language",
    "sqlite_utils": "storage transfer",
    "pyroaring": "storage engine",
    "psycopg": "storage transfer",
    "pydantic": "language http mcp",
    "falcon": "http",
    "jinja2": "web",
    "markupsafe": "web",
    "waitress": "http",
    "mcp": "mcp",
    "httpx": "http",
    "click": "cli",
    "rich": "cli",
    "apscheduler": "integrations",
    "apprise": "integrations",
    "huey": "integrations",
    "pytest": "pytest_plugin testing",
}
"""Libraries, and the folders that use them."""


def modules() -> dict[str, Path]:
    """Every module by its name inside the package; the package itself is ""."""
    found = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


class Imports(ast.NodeVisitor):
    """What a module imports when it runs, at its top or later, as full names."""

    def __init__(self) -> None:
        self.at_top: set[str] = set()
        self.later: set[str] = set()
        self._depth = 0

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    def visit_Import(self, node: ast.Import) -> None:
        self._add(*(alias.name for alias in node.names))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert not node.level, "imports are absolute"
        self._add(*(f"{node.module}.{alias.name}" for alias in node.names))

    def _add(self, *names: str) -> None:
        (self.later if self._depth else self.at_top).update(names)


def imports_of(path: Path) -> Imports:
    found = Imports()
    found.visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


IMPORTS = {module: imports_of(path) for module, path in MODULES.items()}


def module_of(name: str) -> str | None:
    """The module of this package that an imported name lies in."""
    if name != "jobstore" and not name.startswith("jobstore."):
        return None
    inside = name.removeprefix("jobstore").removeprefix(".")
    while inside not in MODULES:
        inside = inside.rpartition(".")[0]
    return inside


def room_of(module: str) -> str:
    """The folder of a module, or its own name where it stands in the root."""
    return module.partition(".")[0] or "package"


@pytest.mark.parametrize("module", sorted(MODULES), ids=lambda module: module or "jobstore")
def test_a_module_stands_in_one_room_and_imports_what_that_room_may(module: str) -> None:
    room = room_of(module)
    allowed = {room, *MAY_IMPORT[room].split()}
    for name in IMPORTS[module].at_top | IMPORTS[module].later:
        other = module_of(name)
        if other is not None:
            its_room = room_of(other)
            assert its_room in allowed, f"jobstore.{module} ({room}) may not import {name} ({its_room})"


@pytest.mark.parametrize("module", sorted(MODULES), ids=lambda module: module or "jobstore")
def test_a_library_is_used_in_its_own_rooms_alone(module: str) -> None:
    room = room_of(module)
    for name in IMPORTS[module].at_top | IMPORTS[module].later:
        library = name.partition(".")[0]
        assert room in AT_HOME.get(library, room).split(), f"jobstore.{module} may not import {library}"


def test_every_folder_is_in_the_table() -> None:
    assert {room_of(module) for module in MODULES} == MAY_IMPORT.keys()


def test_no_folder_imports_itself_through_others() -> None:
    graph = {room: set(others.split()) - {room, "package"} for room, others in MAY_IMPORT.items()}
    TopologicalSorter(graph).prepare()


def test_no_module_imports_itself_through_others_when_it_is_loaded() -> None:
    graph = {
        module: {other for name in found.at_top if (other := module_of(name)) not in {None, "", module}}
        for module, found in IMPORTS.items()
    }
    TopologicalSorter(graph).prepare()


def closure(*modules: str) -> set[str]:
    """All that modules bring with them, at once or later."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            names = IMPORTS[module].at_top | IMPORTS[module].later
            waiting += [other for name in names if (other := module_of(name))]
    return reached


@pytest.mark.parametrize("door", ["store", "wsgi", "tools", "mcp", "http.serve", "metrics", "http.client"])
def test_nothing_that_answers_a_query_knows_what_writes(door: str) -> None:
    known = {room_of(module) for module in closure(door) - {""}}
    assert not known & {"recording", "transfer"}
