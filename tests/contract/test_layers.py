"""Who may import whom: the rooms of the package, as a table, and the libraries that live in one room alone.

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

ROOMS: dict[str, str] = {
    "words": "instants models search words params queries values examples",
    "reading": "documents engine engine.bits engine.chunks engine.connection engine.counters engine.digests engine.executions engine.fires engine.gathering engine.groups "
    "engine.jobbook engine.jobs engine.jobtexts engine.memory engine.orders engine.planes engine.request engine.rows engine.schema engine.segments engine.selection engine.sliced engine.spans engine.started "
    "engine.stats engine.traces engine.window engine.zones",
    "store": "store retention",
    "writing": "engine.writing engine.folders engine.gate engine.reserve engine.sealing columns liveness records",
    "recorder": "recorder recording pruning archive",
    "fixtures": "fixtures loading demo",
    "upkeep": "upkeep inspection",
    "models": "schemas",
    "tokens": "tokens tokenfile",
    "http": "http.* wsgi",
    "openapi": "openapi",
    "serve": "serve",
    "tools": "tools",
    "mcp": "mcp",
    "client": "client",
    "metrics": "metrics",
    "execute": "execute processgroup",
    "integrations": "integrations.*",
    "testing": "testing pytest_plugin",
    "cli": "cli.* __main__",
    "errors": "errors",
    "schedule": "schedule",
    "forking": "forking",
    "package": "",
}
"""The modules of each room; the package itself is a room of its own."""

MAY_IMPORT: dict[str, str] = {
    # from words outside to an answer: each knows what stands above it
    "errors": "",
    "forking": "",
    "words": "errors",
    "schedule": "errors words",
    "reading": "errors words schedule",
    "store": "errors words reading forking",
    # the other room: who writes may know how the file is read, never the other way round
    "writing": "errors words schedule reading forking",
    "recorder": "errors words schedule reading writing",
    "fixtures": "errors words schedule reading writing",
    "upkeep": "errors words schedule reading writing",
    # what is given to the outside
    "package": "errors words store",
    "models": "errors words",
    "tokens": "errors words",
    "tools": "errors words",
    "metrics": "errors words",
    "openapi": "errors words models tokens http package",
    "http": "errors words store tokens openapi",
    "serve": "errors words store http",
    "mcp": "errors words store tools package",
    "client": "errors words http package",
    "execute": "errors words schedule store recorder",
    "integrations": "errors words schedule store execute",
    "testing": "errors words store fixtures",
    "cli": "errors words schedule store recorder fixtures upkeep tokens serve mcp metrics openapi execute package",
}
"""A room may import itself and these."""

AT_HOME = {
    "croniter": "schedule",
    "sqlite_utils": "reading writing",
    "pydantic": "models openapi mcp",
    "falcon": "http",
    "waitress": "serve",
    "mcp": "mcp",
    "httpx": "client",
    "click": "cli",
    "rich": "cli",
    "apscheduler": "integrations",
    "huey": "integrations",
    "pytest": "testing",
}
"""Libraries, and the rooms that use them."""


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


def rooms_of(module: str) -> list[str]:
    """The rooms that claim a module: there should be one."""
    return [
        room
        for room, members in ROOMS.items()
        if any(
            module == member or (member.endswith("*") and f"{module}.".startswith(member[:-1]))
            for member in members.split(" ")
        )
    ]


@pytest.mark.parametrize("module", sorted(MODULES), ids=lambda module: module or "jobstore")
def test_a_module_stands_in_one_room_and_imports_what_that_room_may(module: str) -> None:
    (room,) = rooms_of(module)
    allowed = {room, *MAY_IMPORT[room].split()}
    for name in IMPORTS[module].at_top | IMPORTS[module].later:
        other = module_of(name)
        if other is not None:
            (its_room,) = rooms_of(other)
            assert its_room in allowed, f"jobstore.{module} ({room}) may not import {name} ({its_room})"


@pytest.mark.parametrize("module", sorted(MODULES), ids=lambda module: module or "jobstore")
def test_a_library_is_used_in_its_own_rooms_alone(module: str) -> None:
    (room,) = rooms_of(module)
    for name in IMPORTS[module].at_top | IMPORTS[module].later:
        library = name.partition(".")[0]
        assert room in AT_HOME.get(library, room).split(), f"jobstore.{module} may not import {library}"


def test_every_member_of_a_room_exists_and_every_room_is_in_the_table() -> None:
    assert ROOMS.keys() == MAY_IMPORT.keys()
    for members in ROOMS.values():
        for member in members.split():
            assert member.removesuffix(".*") in MODULES


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


@pytest.mark.parametrize(
    "door", ["store", "wsgi", "tools", "mcp", "serve", "metrics", "client", "openapi", "retention"]
)
def test_nothing_that_answers_a_query_knows_what_writes(door: str) -> None:
    known = {room for module in closure(door) for room in rooms_of(module)}
    assert not known & {"writing", "recorder", "fixtures", "upkeep"}
