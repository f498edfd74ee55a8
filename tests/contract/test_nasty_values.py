"""Nasty values in every parameter, through Python, HTTP, the tools and the command line: one stated code for all.

What each value should give is stated here, in plain rules that do not use the tables under test. A value that
every door takes must also get the same document from each.
"""

from __future__ import annotations

import io
import json
import math
import re
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

import jobstore
from jobstore import tools
from jobstore.cli.app import run
from jobstore.language.parameters import OPERATIONS, Kind
from jobstore.language.states import STATES
from jobstore.wsgi import create_app
from tests.reliability.scale import figure
from tests.wsgi import PATHS, ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = "OK"
BAD = "INVALID_PARAMETER"
MISSING = "NOT_FOUND"

TEXTS = (
    # nothing, blanks, what no file holds
    "", " ", "\t", "\n", "\u3000", "\0", "a\0b", "\ud800", "\udcff", "\U0010ffff", "\ufeff",
    # integers, and what int() takes for one
    "0", "1", "00", "007", "-1", "-0", "+5", "1_000", " 5", "5 ", "１２", "١٢", "²", "1e3", "0x10", "1.0", "1000", "1001",
    "2147483648", str(2**63 - 1), str(2**63), "9" * 25, "9" * 5000, "NaN", "Infinity",
    # flags and nothings
    "true", "false", "True", "TRUE", "yes", "on", "2", "null", "None", "undefined", "[]", "{}",
    # columns, near and far
    "name", "id", "rowid", "NAME", "name desc", "name;--", "started_at", "result", "parameters", "effective_us",
    # times, and what other parsers take for one
    "2026-01-01", "20260101", "2026-1-1", "2026-02-30", "2026-01-15T08:00:00Z", "2026-01-15 08:00",
    "2026-01-15T08:00:00+08:00", "2026-01-15T08:00:00 08:00", "2026-01-15T08:00:60Z", "2026-01-15T24:00:00Z",
    "2026-01-15T08:00:00.1234567Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+00:01", "0000-01-01",
    "2026-W03-4", "now", "1768464000", "２０２６-01-01", "2026-01-15T08:00:00z",
    # statuses
    "FAILURE", "failure", "FAILURE,TIMEOUT", "FAILURE,", ",", "FAILURE,FAILURE", "FAILURE TIMEOUT", "失败",
    # other languages' syntax
    "' OR 1=1 --", '"', "%", "_", "*", "<script>", "../../etc/passwd", "%00", "%ff", "${HOME}", "\\", ";", "a&limit=1", "a=b",
    "a+b", "#", "?",
    # long, wide, turned round
    "x" * 200, "x" * 201, "x" * 512, "x" * 513, "é" * 200, "𝄞" * 200, "\ufdfa" * 200, "\u202eabc",
    # what is there
    "sync_klines_1h", "executions", ".", "..",
)  # fmt: skip
EVERYWHERE = {
    "", "\0", "\ud800", "0", "1", "-1", " 5", "１２", "1001", "2147483648", "true", "null", "name", "id", "started_at",
    "2026-01-01", "2026-02-30", "FAILURE", "FAILURE,TIMEOUT", "FAILURE,", "' OR 1=1 --", "%00", "x" * 201, "x" * 513,
    "sync_klines_1h", "..",
}  # fmt: skip
"""Tried with every parameter: one of each sort at least, and every text that some parameter accepts."""
TIMES = {
    "2026-01-01", "2026-01-15T08:00:00Z", "2026-01-15 08:00", "2026-01-15T08:00:00+08:00", "2026-01-15T08:00:00 08:00",
    "2026-01-15T08:00:00.1234567Z",
}  # fmt: skip
STATUSES = {"PENDING", "RUNNING", "SUCCESS", "FAILURE", "TIMEOUT"}
ORDERS = {
    "list_jobs": {"name", "id"},
    "list_job_states": {"name"},
    "list_job_executions": {"id", "started_at"},
    "get_job_executions": {"id", "started_at"},
}
"""Those of the texts above that name a field one can order by."""

PARAMETERS = [
    (operation.name, parameter.name, parameter.kind)
    for operation in OPERATIONS.values()
    for parameter in operation.parameters
]
REFERENCES = {Kind.JOB_REF, Kind.EXECUTION_REF}
TOOLS = {"job_stats": "datahub_get_job_stats", "execution_histogram": "datahub_get_execution_histogram"}
COMMANDS = {
    "list_jobs": "jobs", "get_job": "job", "list_job_executions": "executions", "get_job_executions": "executions",
    "job_stats": "stats", "get_execution": "execution", "execution_histogram": "histogram",
    "list_job_states": f"jobs --state={','.join(STATES)}",
}  # fmt: skip


# What is stated.


def is_text(text: str, longest: int, shortest: int = 0) -> bool:
    return shortest <= len(text) <= longest and not re.search("[\0\ud800-\udfff]", text)


def stated(operation: str, name: str, kind: Kind, text: str) -> str:
    """The code that a value gives, whatever the door."""
    if kind is Kind.JOB_REF:
        found = text == "sync_klines_1h" or (re.fullmatch("[0-9]+", text, re.ASCII) and int(text[:30]) in {1, 2})
        return BAD if not is_text(text, 200, 1) else GOOD if found else MISSING
    if kind is Kind.EXECUTION_REF:
        return BAD if not is_text(text, 200, 1) else MISSING
    return GOOD if is_good(operation, name, kind, text) else BAD


def is_good(operation: str, name: str, kind: Kind, text: str) -> bool:  # noqa: PLR0911 - a rule for each kind
    if kind is Kind.INTEGER:
        low, high = (1, 1000) if name == "limit" else (0, 2**63 - 1)
        return bool(re.fullmatch("[0-9]{1,30}", text, re.ASCII)) and low <= int(text) <= high
    if kind is Kind.FLAG:
        return text.lower() in {"true", "false", "1", "0"}
    if kind is Kind.CHOICE:
        return text in ORDERS[operation] if name == "order_by" else False
    if kind is Kind.CHOICES:
        return set(text.split(",")) <= (STATUSES if name == "status" else {"ok", "new", "late"})
    if kind is Kind.TIMEZONE:
        return text == "UTC"
    if kind is Kind.INSTANT:
        return text in TIMES
    if kind is Kind.TERM:
        return is_text(text.strip(), 200) and is_text(text, len(text))
    return is_text(text, 512 if name == "trace_id" else 200, 1)


def typed(kind: Kind, text: str) -> Any:
    """What a caller of a typed door gives who means the text; what means nothing stays text."""
    if kind is Kind.INTEGER and re.fullmatch("[0-9]{1,30}", text, re.ASCII):
        return int(text)
    if kind is Kind.FLAG and text.lower() in {"true", "false", "1", "0"}:
        return text.lower() in {"true", "1"}
    if kind is Kind.CHOICES and "," in text:
        return text.split(",")
    return text


# The doors. Each gives the code, and the document of an answer.

Outcome = tuple[str, Any]


def in_python(store: jobstore.JobStore, operation: str, values: dict[str, Any]) -> Outcome:
    try:
        return GOOD, getattr(store, operation)(**values)
    except jobstore.JobStoreError as error:
        return error.code, str(error)


def by_tool(store: jobstore.JobStore, operation: str, values: dict[str, Any]) -> Outcome:
    name = TOOLS.get(operation, f"datahub_{operation}")
    try:
        return GOOD, tools.call(store, {"tool": name, "parameters": values})
    except jobstore.JobStoreError as error:
        return error.code, str(error)


def over_http(app: Any, operation: str, values: dict[str, str]) -> Outcome:
    values = dict(values)
    path = PATHS[operation]
    if "{}" in path:
        path = path.format(escaped(values.pop("execution_id" if operation == "get_execution" else "job_id")))
    answer = ask(app, f"{path}?{'&'.join(f'{name}={escaped(value)}' for name, value in values.items())}", token=None)
    if answer.status == 200:
        return GOOD, answer.json
    error = answer.json["error"]
    return error["code"], error["message"]


def escaped(text: str) -> str:
    """Percent-encoded; half a surrogate pair as the bytes that it would have, or that it came from."""
    how = "surrogateescape" if re.search("[\udc80-\udcff]", text) else "surrogatepass"
    return quote(text.encode("utf-8", how), safe="")


def on_the_command_line(path: Path, operation: str, values: dict[str, str]) -> Outcome:
    values = dict(values)
    job = [values.pop(name) for name in ("job_id", "execution_id") if name in values]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    words = COMMANDS[operation].split()
    if "state" in values:
        words = words[:1]
    return command_outcome([*words, "--json", *options, "--", str(path), *job])


def command_outcome(words: list[str]) -> Outcome:
    """What a command writes to stdout, and whether its exit code goes with it."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = run(words)
    assert isinstance(out.buffer, io.BytesIO)
    document = json.loads(out.buffer.getvalue())
    if code == 0:
        return GOOD, document
    assert code == {MISSING: 1, BAD: 2}[document["error"]["code"]]
    return document["error"]["code"], document["error"]["message"]


def settled(document: Any) -> Any:
    """A document without what the clock moves."""
    jobs = document.get("data", [document])
    return [{field: value for field, value in job.items() if field != "next_run_at"} for job in jobs]


@pytest.fixture(scope="module")
def store(seed_path: Path) -> Iterator[jobstore.JobStore]:
    with jobstore.open(seed_path) as store:
        yield store


@pytest.fixture(scope="module")
def app(store: jobstore.JobStore) -> Any:
    return create_app(store, open_access=True)


def required(operation: str, name: str) -> dict[str, Any]:
    """What must be given beside the parameter that is tried."""
    return {"job_id": "1"} if operation == "get_job_executions" and name != "job_id" else {}


def texts(operation: str, name: str, kind: Kind) -> list[str]:
    """What one operation's parameter is tried with: some of every sort, and a share of the rest.

    A parameter that several operations have is checked by its name and kind, so they share the rest; the soak tries
    all with each.
    """
    sharing = [each for each, *parameter in PARAMETERS if parameter == [name, kind]]
    turn = sharing.index(operation)
    share = {text for number, text in enumerate(TEXTS) if number % len(sharing) == turn}
    return [text for text in TEXTS if figure(0, 1) or text in share or text in EVERYWHERE]


def cells(operation: str, name: str, kind: Kind) -> list[tuple[str, tuple[str, ...]]]:
    """Each text with the doors that can say it."""
    doors = ["Python", "tools", "HTTP", "command line"]
    found = []
    for text in texts(operation, name, kind):
        # A flag of the command line has two spellings and no value; these two paths are those of lists.
        unsayable = {"command line"} if kind is Kind.FLAG else set()
        unsayable |= {"HTTP"} if (operation, name) == ("get_job", "job_id") and text in {"", "executions"} else set()
        found.append((text, tuple(door for door in doors if door not in unsayable)))
    return found


@pytest.mark.parametrize(("operation", "name", "kind"), PARAMETERS)
def test_a_nasty_value_gives_its_stated_code_through_every_door(
    store: jobstore.JobStore, app: Any, seed_path: Path, operation: str, name: str, kind: Kind
) -> None:
    beside = required(operation, name)
    wrong: list[object] = []
    for text, doors in cells(operation, name, kind):
        keywords, words = {**beside, name: typed(kind, text)}, {**beside, name: text}
        ways: dict[str, tuple[Any, ...]] = {
            "Python": (in_python, store, keywords),
            "tools": (by_tool, store, keywords),
            "HTTP": (over_http, app, words),
            "command line": (on_the_command_line, seed_path, words),
        }
        outcomes = {}
        for door in doors:
            way, through, values = ways[door]
            outcomes[door] = way(through, operation, values)
        expected = stated(operation, name, kind, text)
        wrong += [(text[:40], expected, door, got) for door, got in outcomes.items() if got[0] != expected]
        if expected == GOOD:
            answers = [settled(document) for _, document in outcomes.values()]
            wrong += [(text[:40], "the same answer", answers)] if any(a != answers[0] for a in answers) else []
        elif expected == BAD:
            wrong += [(text[:40], "names it", got) for got in outcomes.values() if name not in got[1]]
    assert not wrong, wrong


def test_every_text_is_tried_with_every_name_and_kind_of_parameter() -> None:
    tried: dict[tuple[str, Kind], set[str]] = {}
    for operation, name, kind in PARAMETERS:
        tried.setdefault((name, kind), set()).update(texts(operation, name, kind))
    assert set(map(frozenset, tried.values())) == {frozenset(TEXTS)}
    assert set(TEXTS) >= EVERYWHERE


def test_there_are_more_than_three_thousand_cells() -> None:
    assert len(TEXTS) >= 60
    assert sum(len(doors) for parameter in PARAMETERS for _, doors in cells(*parameter)) > 3_000


# What only a typed door can be given.

FAR_EAST = timezone(timedelta(hours=23, minutes=59))
ODD: tuple[Any, ...] = (
    1.0, 1.5, math.nan, math.inf, -1, 2**63, 2**64, 10**5000, -(10**5000), True, False, [], {}, [[]], [None], [1], {"a": 1},
    ["FAILURE", "nothing"], [["FAILURE"]], "\0",
)  # fmt: skip
ODD_IN_PYTHON: tuple[Any, ...] = (
    *ODD, b"name", bytearray(b"1"), object(), int, range(3), {1, 2}, frozenset({"FAILURE", ""}),
    datetime(2026, 1, 1), datetime.max.replace(tzinfo=UTC) + timedelta(0), datetime.min.replace(tzinfo=FAR_EAST),
)  # fmt: skip


def admits(name: str, kind: Kind, value: Any) -> set[str]:
    """The codes that a value of another type may give, as the rules of types say."""
    if (
        kind in {Kind.JOB_REF, Kind.EXECUTION_REF}
        and isinstance(value, int)
        and not isinstance(value, bool)
        and abs(value) < 10**199
    ):
        return {MISSING}
    if kind is Kind.FLAG and isinstance(value, bool):
        return {GOOD}
    if kind is Kind.INTEGER and name == "offset" and value is False:
        return {BAD}
    if kind is Kind.INSTANT and isinstance(value, datetime) and value.tzinfo is UTC:
        return {GOOD, BAD}  # a histogram from now to the year 9999 has too many buckets
    return {BAD}


@pytest.mark.parametrize(("operation", "name", "kind"), PARAMETERS)
def test_a_value_of_another_type_is_refused_by_every_typed_door(
    store: jobstore.JobStore, operation: str, name: str, kind: Kind
) -> None:
    beside = required(operation, name)
    for value in ODD_IN_PYTHON:
        code, said = in_python(store, operation, {**beside, name: value})
        assert code in admits(name, kind, value), (value, said)
        assert code != BAD or (name in said and len(said) < 600)
    for value in ODD:
        code, said = by_tool(store, operation, {**beside, name: value})
        assert code in admits(name, kind, value), (value, said)


@pytest.mark.parametrize(("operation", "name", "kind"), PARAMETERS)
def test_none_means_no_filter_and_is_refused_where_there_is_a_default(
    store: jobstore.JobStore, operation: str, name: str, kind: Kind
) -> None:
    parameter = next(p for p in OPERATIONS[operation].parameters if p.name == name)
    expected = BAD if parameter.required or parameter.default is not None else GOOD
    for door in (in_python, by_tool):
        code, _ = door(store, operation, {**required(operation, name), name: None})
        assert code == expected


# Names of parameters.


@pytest.mark.parametrize("operation", list(OPERATIONS))
@pytest.mark.parametrize("name", ["limt", "Limit", "order-by", "x", "search[]", "limit ", "1", "select", "\u0130"])
def test_an_unknown_parameter_is_refused_by_name(
    store: jobstore.JobStore, app: Any, seed_path: Path, operation: str, name: str
) -> None:
    first = OPERATIONS[operation].parameters[0]
    beside = {first.name: "1"} if first.required else {}
    outcomes = [
        by_tool(store, operation, {**beside, name: "1"}),
        over_http(app, operation, {**beside, quote(name): "1"}),
        on_the_command_line(seed_path, operation, {**beside, f"{name}\u200b": "1"}),
    ]
    assert [code for code, _ in outcomes] == [BAD] * 3
    with pytest.raises(TypeError):
        getattr(store, operation)(**beside, **{name: "1"})


@pytest.mark.parametrize(
    ("operation", "name"), [(operation, name) for operation, name, kind in PARAMETERS if kind not in REFERENCES]
)
def test_a_parameter_given_twice_is_refused(app: Any, seed_path: Path, operation: str, name: str) -> None:
    path = PATHS[operation].format("1")
    answer = ask(app, f"{path}?{name}=true&{name}=true", token=None)
    assert (answer.status, answer.json["error"]["code"]) == (400, BAD)
    job = ["1"] if operation == "get_job_executions" else []
    kind = next(kind for o, n, kind in PARAMETERS if (o, n) == (operation, name))
    option = f"--{name.replace('_', '-')}" + ("" if kind is Kind.FLAG else "=1")
    words = COMMANDS[operation].split()[: 1 if name == "state" else None]
    code, said = command_outcome([*words, "--json", option, option, "--", str(seed_path), *job])
    assert (code, name in said) == (BAD, True)
