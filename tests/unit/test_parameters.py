"""The parameters of the queries: one table of what each takes and refuses, tried through text, JSON and Python alike."""

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import jsonschema  # type: ignore[import-untyped]
import pytest

from jobstore.language import parameters as params
from jobstore.language.errors import InvalidParameter
from jobstore.language.models import EXECUTION_ORDERS, JOB_ORDERS, Status
from jobstore.language.parameters import (
    EXECUTION_HISTOGRAM,
    GET_EXECUTION,
    GET_JOB,
    GET_JOB_EXECUTIONS,
    JOB_STATS,
    LIST_JOB_EXECUTIONS,
    LIST_JOB_STATES,
    LIST_JOBS,
    OPERATIONS,
    Kind,
    Operation,
    Parameter,
    operation_of,
)
from jobstore.language.query import ExecutionRef, ExecutionsQuery, JobRef, JobsQuery, StatsQuery, Term
from jobstore.language.states import State
from tests.instants import EIGHT, NO_MOMENTS, NO_TIMES, TIMES

LARGEST = 2**63 - 1
VAST = 10**5000  # more digits than Python prints
EVERY_PARAMETER = [(operation, parameter) for operation in OPERATIONS.values() for parameter in operation.parameters]


class Broken(tzinfo):
    """A zone that answers nonsense."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def utcoffset(self, _moment: datetime | None) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def tzname(self, _moment: datetime | None) -> str:
        return "broken"

    def dst(self, _moment: datetime | None) -> None:
        return None


class Size(IntEnum):
    SMALL = 10


class Word(StrEnum):
    ID = "id"


class Case(NamedTuple):
    """A parameter; texts and values with what the query holds for them; texts and values that are refused."""

    operation: Operation[Any]
    name: str
    rule: str
    texts: dict[str, object]
    values: list[tuple[object, object]]
    bad_texts: list[str]
    bad_values: list[object]


BAD_INTEGER_TEXTS = [
    *("", " ", "-1", "+5", "1_000", "1 000", " 5", "5 ", "5\n", "0x10", "1e2", "5.0", "1,000", "ten", "null", "true"),
    *("２０", "٢٠", "²", "①", "9223372036854775808", "18446744073709551616", "1" * 5000, "NaN", "inf", "5\x00"),
]
BAD_TERMS: list[object] = ["x" * 201, "任" * 201, "a\0b", "\0", "\ud800", "a\udfffb"]
TIME_RULE = r"a time: YYYY-MM-DD or YYYY-MM-DDTHH:MM\[:SS\[\.f\]\], with or without Z or ±HH:MM"
EXISTS = "a valid time in the years 1 to 9999"
AWARE = "a datetime with a time zone, in the years 1 to 9999 of UTC"
STATUS_RULE = "one or several of PENDING, RUNNING, SUCCESS, FAILURE, TIMEOUT"
JOBS = {
    "sync_klines_1h": JobRef("sync_klines_1h", None),
    "1": JobRef("1", 1),
    "007": JobRef("007", 7),
    str(LARGEST): JobRef(str(LARGEST), LARGEST),
    str(2**63): JobRef(str(2**63), None),
    "１": JobRef("１", None),
    "²": JobRef("²", None),
    "1.0": JobRef("1.0", None),
    " 1": JobRef(" 1", None),
    "a/b": JobRef("a/b", None),
    "任" * 200: JobRef("任" * 200, None),
}

CASES = [
    Case(
        LIST_JOBS,
        "limit",
        "an integer from 1 to 1000",
        {"1": 1, "1000": 1000, "0020": 20},
        [(1, 1), (1000, 1000), (Size.SMALL, 10)],
        [*BAD_INTEGER_TEXTS, "0", "000", "1001"],
        [0, -1, 1001, 2**63, -(2**63) - 1, VAST, True, False, 5.0, 50.0, "5", None, b"5", [5]],
    ),
    Case(
        LIST_JOB_EXECUTIONS,
        "offset",
        "an integer from 0 to 9223372036854775807",
        {"0": 0, "000": 0, "0" * 300 + "7": 7, str(LARGEST): LARGEST},
        [(0, 0), (LARGEST, LARGEST)],
        BAD_INTEGER_TEXTS,
        [-1, 2**63, 2**200, VAST, True, False, 0.0, "0", None],
    ),
    Case(
        LIST_JOBS,
        "enabled",
        "true or false",
        {"true": True, "1": True, "false": False, "0": False, "True": True, "FALSE": False, "tRuE": True},
        [(True, True), (False, False), (None, None)],
        ["", " ", "yes", "no", "on", "off", "2", "01", "１", "t", "true ", "ＴＲＵＥ", "null", "None"],
        [0, 1, "true", "", 1.0, [], object()],
    ),
    Case(LIST_JOBS, "order_desc", "true or false", {"True": True, "0": False}, [(True, True)], ["", "desc"], [0, None]),
    Case(
        LIST_JOBS,
        "order_by",
        "one of id, job_type, .*, updated_at",
        {field: field for field in JOB_ORDERS},
        [(Word.ID, "id")],
        ["", "parameters", "Name", "name ", "-name", "name desc", "name; --", "rowid", "started_at", "x" * 9999],
        [None, 1, ["name"], ("name",), b"name"],
    ),
    Case(
        LIST_JOB_EXECUTIONS,
        "order_by",
        "one of id, job_id, .*, created_at",
        {field: field for field in EXECUTION_ORDERS},
        [],
        ["result", "error", "parameters_snapshot", "next_run_at"],
        [],
    ),
    Case(
        LIST_JOBS,
        "search",
        "text of at most 200 characters, in UTF-8 and without NUL",
        {
            "": Term("", ""),
            " \t\u3000": Term("", ""),
            " ＫLine ": Term("ＫLine", "kline"),
            "%_\"*'": Term("%_\"*'", "%_\"*'"),
            " " * 500 + "x" * 200 + " " * 500: Term("x" * 200, "x" * 200),
            "ﷺ" * 200: Term("ﷺ" * 200, "صلى الله عليه وسلم" * 200),
        },
        [(None, Term("", "")), (Word.ID, Term("id", "id"))],
        [str(term) for term in BAD_TERMS],
        [*BAD_TERMS, 5, True, b"kline", ["kline"]],
    ),
    *(
        Case(
            operation,
            name,
            f"text of 1 to {longest} characters, in UTF-8 and without NUL",
            {value: value for value in ("K", " Kline ", "%", "Ｋ", "任务", "x" * longest)},
            [(None, None), (Word.ID, "id")],
            ["", "x" * (longest + 1), "a\0", "\ud800"],
            ["", 5, False, ["kline"]],
        )
        for operation, name, longest in (
            (LIST_JOBS, "job_type", 200),
            (LIST_JOBS, "job_category", 200),
            (LIST_JOB_EXECUTIONS, "trace_id", 512),
        )
    ),
    Case(
        LIST_JOB_EXECUTIONS,
        "status",
        STATUS_RULE,
        {
            "FAILURE": {"FAILURE"},
            "FAILURE,TIMEOUT": {"FAILURE", "TIMEOUT"},
            "RUNNING,RUNNING": {"RUNNING"},
            '["FAILURE", "TIMEOUT"]': {"FAILURE", "TIMEOUT"},
        },
        [
            (None, None),
            (Status.TIMEOUT, {"TIMEOUT"}),
            (["FAILURE", "FAILURE"], {"FAILURE"}),
            (("FAILURE", "TIMEOUT"), {"FAILURE", "TIMEOUT"}),
            ({"PENDING", Status.RUNNING}, {"PENDING", "RUNNING"}),
            (frozenset(Status), set(Status)),
        ],
        [
            *("", ",", "FAILURE,", ",FAILURE", "FAILURE, TIMEOUT", "FAILURE;TIMEOUT", "failure", "*"),
            *("[]", "[", "[1]"),
        ],
        [
            "",
            "FAILURE,TIMEOUT",
            "Failure",
            [],
            (),
            set(),
            [None],
            [["FAILURE"]],
            ["FAILURE", 3],
            {"FAILURE": 1},
            3,
            True,
        ],
    ),
    Case(JOB_STATS, "after", TIME_RULE, dict(TIMES), [], NO_TIMES, []),
    Case(LIST_JOB_EXECUTIONS, "before", EXISTS, dict(TIMES), [], NO_MOMENTS, []),
    Case(
        JOB_STATS,
        "before",
        f"{TIME_RULE}; .*; give text or a datetime with a time zone",
        {},
        [
            (None, None),
            (datetime(2026, 1, 15, 8, tzinfo=UTC), EIGHT),
            (datetime(2026, 1, 15, 16, tzinfo=timezone(timedelta(hours=8))), EIGHT),
            (datetime(2026, 1, 15, 9, tzinfo=ZoneInfo("Europe/Berlin")), EIGHT),
            (datetime(1970, 1, 1, tzinfo=UTC), 0),
        ],
        [],
        [0, 1768464000, 1768464000.0, True, b"2026-01-15", date(2026, 1, 15), timedelta(1), ["2026"]],
    ),
    Case(
        GET_JOB_EXECUTIONS,
        "after",
        AWARE,
        {},
        [],
        [],
        [
            datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
            *(datetime(2026, 1, 1, tzinfo=Broken(answer)) for answer in (8, timedelta(days=2))),
            *(datetime(2026, 1, 1, tzinfo=Broken(error)) for error in (NotImplementedError(), OverflowError())),
        ],
    ),
    Case(
        GET_JOB,
        "job_id",
        "a job's name .* or its number",
        dict(JOBS),
        [(1, JobRef("1", 1)), (0, JobRef("0", 0)), (-1, JobRef("-1", None)), (10**199, JobRef(str(10**199), None))],
        ["", "x" * 201, "1" * 201, "a\0b", "\udc80"],
        ["", 10**200, VAST, None, True, False, 1.0, b"1", ["1"], {}],
    ),
    Case(
        GET_EXECUTION,
        "execution_id",
        "the id of an execution, as in its field `id`",
        {"17": ExecutionRef("17", 17), "017": ExecutionRef("017", 17), "a/b": ExecutionRef("a/b", None)},
        [(17, ExecutionRef("17", 17)), (2**63, ExecutionRef(str(2**63), None))],
        ["", "1" * 201, "1\0"],
        ["", None, True, 17.0, b"17", [17], VAST],
    ),
    Case(
        LIST_JOB_STATES,
        "state",
        "one or several of lost, late, failing, running, waiting, new, ok, disabled",
        {"late": {"late"}, "late,lost": {"late", "lost"}, '["ok"]': {"ok"}},
        [(None, None), (State.NEW, {"new"}), (["late", State.LOST], {"late", "lost"})],
        ["", "Late", "late,", "failed", "late, lost"],
        ["", [], "late,lost", 1, True, ["late", None]],
    ),
    Case(
        EXECUTION_HISTOGRAM,
        "timezone",
        "an IANA name such as 'Europe/Berlin' or 'UTC'",
        {zone: zone for zone in ("UTC", "Asia/Kolkata", "Australia/Lord_Howe", "Etc/GMT+12")},
        [],
        ["", "utc ", "localtime", "+08:00", "Berlin", "../UTC", "Europe", "/etc/localtime", "x" * 5000, "a\0"],
        ["", 8, True, b"UTC", ["UTC"], ZoneInfo("UTC")],
    ),
    Case(JOB_STATS, "job_id", "a job's name .* or its number", {"1": JobRef("1", 1)}, [(None, None)], [""], [True]),
]


def named(operation: Operation[Any], name: str) -> Parameter:
    return next(parameter for parameter in operation.parameters if parameter.name == name)


def around(operation: Operation[Any], name: str, value: Any) -> dict[str, Any]:
    """The required parameters beside the one that is tried."""
    return {**{each.name: "x" for each in operation.parameters if each.required}, name: value}


def held(query: Any, operation: Operation[Any], name: str) -> object:
    return getattr(query, named(operation, name).field)


@pytest.mark.parametrize(
    ("case", "text", "value"),
    [pytest.param(case, text, value, id=f"{case.name}-{text[:20]!a}") for case in CASES for text, value in case.texts.items()],
)  # fmt: skip
def test_a_good_text_is_held_and_survives_being_written_again(case, text, value):
    query = case.operation.from_text(around(case.operation, case.name, text).items())
    assert held(query, case.operation, case.name) == value
    assert case.operation.from_text(case.operation.to_text(query).items()) == query


@pytest.mark.parametrize(("case", "value", "expected"), [(case, *pair) for case in CASES for pair in case.values])
def test_a_good_value_is_held_as_a_plain_one(case, value, expected):
    values = around(case.operation, case.name, value)
    for read in (case.operation.query, case.operation.from_json):
        found = held(read(values), case.operation, case.name)
        assert found == expected
        assert type(found) in {int, str, bool, frozenset, Term, JobRef, ExecutionRef, type(None)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation.name}-{case.name}")
def test_a_bad_text_is_refused_with_the_rule(case):
    for text in case.bad_texts:
        with pytest.raises(InvalidParameter, match=rf"^{case.name} must be {case.rule}; received '"):
            case.operation.from_text(around(case.operation, case.name, text).items())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation.name}-{case.name}")
def test_a_bad_value_is_refused_with_the_same_rule_in_python_and_json(case):
    for value in case.bad_values:
        for read in (case.operation.query, case.operation.from_json):
            with pytest.raises(InvalidParameter, match=rf"^{case.name} must be {case.rule}"):
                read(around(case.operation, case.name, value))


# What a refusal says


@pytest.mark.parametrize(
    ("operation", "name", "value", "message"),
    [
        (LIST_JOBS, "limit", "20", "received '20'; give the number without quotes"),
        (LIST_JOBS, "enabled", "True", "received 'True'; give it without quotes"),
        (LIST_JOBS, "limit", "many", "received 'many'"),
        (LIST_JOBS, "enabled", "yes", "received 'yes'"),
        (LIST_JOBS, "limit", 1001, "limit must be an integer from 1 to 1000; received 1001"),
        (LIST_JOB_EXECUTIONS, "order_by", "startedAt", "; received 'startedAt'; did you mean 'started_at'?"),
        (LIST_JOB_EXECUTIONS, "status", "failure", "did you mean 'FAILURE'?"),
        (LIST_JOB_EXECUTIONS, "status", "failed", "did you mean 'FAILURE'?"),
        (LIST_JOB_EXECUTIONS, "status", "失败", "did you mean 'FAILURE'?"),
        (LIST_JOB_EXECUTIONS, "status", "ok", "did you mean 'SUCCESS'?"),
        (LIST_JOB_EXECUTIONS, "status", "SUCCES", "did you mean 'SUCCESS'?"),
        (LIST_JOB_EXECUTIONS, "status", ["RUNNING", "TIMED_OUT"], "received 'TIMED_OUT'; did you mean 'TIMEOUT'?"),
        (LIST_JOB_EXECUTIONS, "status", "SUCCESS,FAILURE", "give several as a list"),
        (LIST_JOB_EXECUTIONS, "status", "CANCELLED", "received 'CANCELLED'"),
        (LIST_JOB_EXECUTIONS, "status", "x" * 300, "xxx…"),
        (LIST_JOB_EXECUTIONS, "status", [4], "received 4"),
        (
            JOB_STATS,
            "after",
            datetime(2026, 1, 15),
            "after must be a datetime with a time zone; received '2026-01-15 00:00:00'; add tzinfo=UTC, for example",
        ),
    ],
)
def test_a_refusal_shows_what_came_and_what_would_help(operation, name, value, message):
    for read in (operation.query, operation.from_json):
        with pytest.raises(InvalidParameter) as refused:
            read({name: value})
        assert str(refused.value).endswith(message)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("limit", "1001")], "limit must be an integer from 1 to 1000; received '1001'"),
        ([("limit", "5"), ("limit", "5")], "Parameter limit was given twice; give it once"),
        ([("search", ""), ("limit", "5"), ("search", "")], "Parameter search was given twice; give it once"),
    ],
)
def test_a_refused_text_is_shown_as_it_came(pairs, message):
    with pytest.raises(InvalidParameter) as refused:
        LIST_JOBS.from_text(pairs)
    assert str(refused.value) == message


def test_a_list_may_come_as_a_name_that_is_repeated():
    pairs = [("status", "FAILURE"), ("limit", "5"), ("status", "TIMEOUT,PENDING")]
    assert LIST_JOB_EXECUTIONS.from_text(pairs).status == frozenset({Status.FAILURE, Status.TIMEOUT, Status.PENDING})
    with pytest.raises(InvalidParameter, match=rf"^status must be {STATUS_RULE}; received 'FAILURE,'"):
        LIST_JOB_EXECUTIONS.from_text([("status", "FAILURE"), ("status", "")])


def test_a_list_may_come_as_json_text_where_json_is_read():
    assert LIST_JOB_EXECUTIONS.from_json({"status": '["FAILURE","TIMEOUT"]'}).status == frozenset(
        {Status.FAILURE, Status.TIMEOUT}
    )
    with pytest.raises(InvalidParameter, match=r"^status must be one or several of"):
        LIST_JOB_EXECUTIONS.query({"status": '["FAILURE","TIMEOUT"]'})


# Names of parameters


@pytest.mark.parametrize(
    ("operation", "name", "message"),
    [
        (
            LIST_JOBS,
            "limt",
            "Unknown parameter 'limt'; did you mean 'limit'? Allowed: search, limit, offset, order_by, order_desc, ",
        ),
        (LIST_JOB_EXECUTIONS, "Order-By", "Unknown parameter 'Order-By'; did you mean 'order_by'? Allowed: "),
        (LIST_JOBS, "jobType", "Unknown parameter 'jobType'; did you mean 'job_type'? Allowed: "),
        (LIST_JOBS, "LIMIT", "Unknown parameter 'LIMIT'; did you mean 'limit'? Allowed: "),
        (GET_JOB, "zzz", "Unknown parameter 'zzz'. Allowed: job_id"),
        (LIST_JOBS, "", "Unknown parameter ''. Allowed: "),
        (LIST_JOBS, "q" * 500, f"Unknown parameter '{'q' * 78}…. Allowed: "),
        (LIST_JOBS, "status", "Unknown parameter 'status'. Allowed: "),
        (LIST_JOB_EXECUTIONS, "job_id", "Unknown parameter 'job_id'. Allowed: "),
        (LIST_JOBS, 5, "Unknown parameter 5. Allowed: search"),
    ],
)
def test_an_unknown_parameter_is_refused_with_what_was_meant(operation, name, message):
    for read in (operation.query, operation.from_json, lambda values: operation.from_text(values.items())):
        with pytest.raises(InvalidParameter) as refused:
            read({name: "5"})
        assert str(refused.value).startswith(message)


@pytest.mark.parametrize("operation", [GET_JOB, GET_JOB_EXECUTIONS])
def test_a_required_parameter_must_be_there(operation):
    for read in (operation.query, operation.from_json, operation.from_text):
        with pytest.raises(InvalidParameter, match=r"^job_id is required; give job_id=sync_klines_1h$"):
            read({})


@pytest.mark.parametrize("values", [None, [], "limit", 5, [("limit", 5)]])
def test_parameters_in_json_are_an_object(values):
    with pytest.raises(InvalidParameter, match=r"^parameters must be an object; received "):
        LIST_JOBS.from_json(values)


# Defaults and windows


def test_the_defaults_are_those_of_the_job_api():
    assert LIST_JOBS.query({}) == JobsQuery(
        search=Term("", ""), limit=50, offset=0, order_by="name", order_desc=False, job_type=None, job_category=None,
        enabled=None,
    )  # fmt: skip
    assert LIST_JOB_EXECUTIONS.query({}) == ExecutionsQuery(
        search=Term("", ""), limit=50, offset=0, order_by="started_at", order_desc=True, after_us=None, before_us=None,
        status=None, trace_id=None,
    )  # fmt: skip
    assert JOB_STATS.query({}) == StatsQuery(job_id=None, after_us=None, before_us=None)


@pytest.mark.parametrize("operation", [LIST_JOBS, LIST_JOB_EXECUTIONS, JOB_STATS])
def test_a_default_that_is_given_is_the_same_as_none_given(operation):
    defaults = {parameter.name: parameter.default for parameter in operation.parameters}
    assert operation.query(defaults) == operation.from_json(defaults) == operation.from_text([])
    assert operation.to_text(operation.query(defaults)) == {}


def test_a_term_carries_the_statuses_it_means():
    assert LIST_JOB_EXECUTIONS.query({"search": "Failed "}).meant == {Status.FAILURE}


def test_a_query_cannot_be_changed():
    with pytest.raises(AttributeError):
        LIST_JOBS.query({}).limit = 5  # type: ignore[misc]


@pytest.mark.parametrize("operation", [LIST_JOB_EXECUTIONS, JOB_STATS])
def test_bounds_that_cross_are_refused_and_both_named(operation):
    with pytest.raises(InvalidParameter) as refused:
        operation.query({"after": "2026-02-01", "before": datetime(2026, 1, 31, tzinfo=UTC)})
    assert str(refused.value) == (
        "after must not be later than before; received after=2026-02-01T00:00:00Z "
        "and before=2026-01-31T00:00:00Z; swap them"
    )
    with pytest.raises(InvalidParameter, match=r"^after must not be later than before"):
        operation.query({"after": "1970-01-01T00:00:01Z", "before": "1970-01-01"})


@pytest.mark.parametrize("operation", [LIST_JOB_EXECUTIONS, JOB_STATS])
def test_a_window_may_be_one_instant(operation):
    window = operation.query({"after": "2026-01-15T08:00:00Z", "before": "2026-01-15T16:00:00+08:00"})
    assert window.after_us == window.before_us == EIGHT


def test_the_hour_that_comes_twice_is_told_apart():
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    query = JOB_STATS.query({"after": first, "before": first.replace(fold=1)})
    assert query.before_us is not None
    assert query.after_us is not None
    assert query.before_us - query.after_us == 3_600_000_000


# Tables and schemas


def test_the_parameters_are_those_of_the_job_api_and_the_stats():
    page = ["search", "limit", "offset", "order_by", "order_desc"]
    of_executions = [*page, "before", "after", "status", "trace_id"]
    names = {name: [parameter.name for parameter in operation.parameters] for name, operation in OPERATIONS.items()}
    assert names["list_jobs"] == [*page, "job_type", "job_category", "enabled"]
    assert names["get_job"] == ["job_id"]
    assert names["list_job_executions"] == of_executions
    assert names["get_job_executions"] == ["job_id", *of_executions]
    assert names["job_stats"] == ["job_id", "before", "after"]


@pytest.mark.parametrize("operation", OPERATIONS.values())
def test_an_operation_is_found_by_its_query(operation):
    assert (
        operation_of(operation.query({each.name: each.example for each in operation.parameters if each.required}))
        is operation
    )


@pytest.mark.parametrize(("operation", "parameter"), EVERY_PARAMETER)
def test_every_parameter_is_described_with_an_example_that_is_accepted(operation, parameter):
    assert parameter.description.endswith(".")
    assert parameter.example is not None
    schema = parameter.json_schema()
    assert schema["description"] == parameter.description
    assert schema.get("default") == parameter.default
    for value in [parameter.example, *([parameter.default] if parameter.default is not None else [])]:
        jsonschema.validate(value, schema)
        operation.from_json(around(operation, parameter.name, value))


def test_a_parameter_without_an_example_has_a_schema_without_one():
    assert Parameter("enabled", Kind.FLAG, "On.").json_schema() == {"description": "On.", "type": "boolean"}


def test_every_kind_has_a_parameter_and_a_case():
    assert {parameter.kind for _, parameter in EVERY_PARAMETER} == set(Kind)
    assert {named(case.operation, case.name).kind for case in CASES} == set(Kind)


def test_every_public_name_is_there():
    assert all(hasattr(params, name) for name in params.__all__)


@pytest.mark.parametrize("operation", OPERATIONS.values())
def test_the_schema_of_an_operation_is_a_closed_object(operation):
    schema = operation.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == [parameter.name for parameter in operation.parameters if parameter.required]
    assert list(schema["properties"]) == [parameter.name for parameter in operation.parameters]


SCHEMA_CASES: list[tuple[str, list[object], list[object]]] = [
    ("limit", [1, 1000], [0, 1001, "5", True]),
    ("offset", [0, 2**53 - 1], [-1, 2**63]),
    ("order_desc", [True, False], [0, "true"]),
    ("order_by", ["started_at", "id"], ["error", ""]),
    ("status", ["FAILURE", ["FAILURE", "TIMEOUT"]], ["failure", [], ["x"], "FAILURE,TIMEOUT", [["FAILURE"]]]),
    ("search", ["", "x" * 200], ["x" * 201, "a\0", 5]),
    ("trace_id", ["x", "x" * 512], ["", "x" * 513, "\0"]),
    ("job_id", ["x", "x" * 200, 0, 2**53 - 1], ["", "x" * 201, "\0", True, 1.5]),
    (
        "after",
        ["2026-01-15", "2026-01-15 08:00", "2026-01-15T08:00:00.123456789+08:00", "2026-01-15T08:00:00Z"],
        [
            "now",
            "20260115",
            "2026-13-01",
            "2026-01-32",
            "2026-01-15T24:00Z",
            "2026-01-15T08:00:00 08:00x",
            5,
            "2026-01-15Z",
        ],
    ),
]


@pytest.mark.parametrize(("name", "good", "bad"), SCHEMA_CASES)
def test_the_schema_and_the_check_take_and_refuse_the_same(name, good, bad):
    schema = GET_JOB_EXECUTIONS.json_schema()
    for value in good:
        jsonschema.validate({"job_id": "x", name: value}, schema)
        GET_JOB_EXECUTIONS.from_json({"job_id": "x", name: value})
    for value in bad:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"job_id": "x", name: value}, schema)
        with pytest.raises(InvalidParameter):
            GET_JOB_EXECUTIONS.from_json({"job_id": "x", name: value})
