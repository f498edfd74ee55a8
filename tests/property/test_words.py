"""Whatever comes through whichever interface, a parameter has the value that was meant or a refusal that says why."""

import re
import string
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobstore.language.errors import InvalidParameter
from jobstore.language.instants import MAX_US, MIN_US, instant_datetime, instant_text
from jobstore.language.models import Status
from jobstore.language.parameters import (
    JOB_STATS,
    LIST_JOB_EXECUTIONS,
    LIST_JOBS,
    OPERATIONS,
    Kind,
    Operation,
    Parameter,
)
from jobstore.language.query import JobRef
from jobstore.language.search import fold, normalise_term, statuses_meant
from tests.reliability.scale import scaled

LARGEST = 2**63 - 1
LONGEST_MESSAGE = 400
EVERY_PARAMETER = [(operation, parameter) for operation in OPERATIONS.values() for parameter in operation.parameters]
PARAMETER_IDS = [f"{operation.name}-{parameter.name}" for operation, parameter in EVERY_PARAMETER]

settings.register_profile(
    "words", deadline=None, max_examples=scaled(100), suppress_health_check=[HealthCheck.too_slow]
)
QUICK = settings.get_profile("words")


# The same rules once more, said in another way.


def meant_integer(parameter: Parameter, text: str) -> int | None:
    if not re.fullmatch(r"[0-9]{1,4000}", text):
        return None
    assert parameter.minimum is not None
    assert parameter.maximum is not None
    return int(text) if parameter.minimum <= int(text) <= parameter.maximum else None


def meant_instant(text: str) -> int | None:
    # Python reads +08:60, and from 3.14 on T24:00.
    shape = r"\d\d\d\d-\d\d-\d\d([T ](?!24)\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+ -]\d\d:[0-5]\d)?)?"
    if not re.fullmatch(shape, text, re.ASCII):
        return None
    try:
        moment = datetime.fromisoformat(text[:16] + text[16:].replace(" ", "+"))
    except ValueError:
        return None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return us if MIN_US <= us <= MAX_US else None


def fits(text: str, shortest: int, longest: int) -> bool:
    surrogate = any(0xD800 <= ord(character) <= 0xDFFF for character in text)
    return shortest <= len(text) <= longest and "\0" not in text and not surrogate


def meant_choices(parameter: Parameter, text: str) -> set[str] | None:
    names = set(text.split(","))
    return names if names <= set(parameter.choices) else None


def meant_term(_parameter: Parameter, text: str) -> str | None:
    return normalise_term(text) if fits(text.strip(), 0, 200) and "\0" not in text else None


ZONES = {name for name in available_timezones() if not name.startswith(("posix", "right/", "localtime", "Factory"))}

MEANINGS: dict[Kind, Callable[[Parameter, str], Any]] = {
    Kind.INTEGER: meant_integer,
    Kind.FLAG: lambda _, text: {"true": True, "1": True, "false": False, "0": False}.get(text.lower()),
    Kind.CHOICE: lambda parameter, text: text if text in parameter.choices else None,
    Kind.CHOICES: meant_choices,
    Kind.INSTANT: lambda _, text: meant_instant(text),
    Kind.TERM: meant_term,
    Kind.TEXT: lambda parameter, text: text if fits(text, 1, parameter.maximum or 0) else None,
    Kind.JOB_REF: lambda _, text: text if fits(text, 1, 200) else None,
    Kind.EXECUTION_REF: lambda _, text: text if fits(text, 1, 200) else None,
    Kind.TIMEZONE: lambda _, text: text if text in ZONES else None,
}
"""What the query must hold for a text, or None where it must be refused."""


def in_query(query: Any, parameter: Parameter) -> Any:
    """What the query holds for a parameter, in the words of `MEANINGS`."""
    held = getattr(query, parameter.field)
    if parameter.kind is Kind.JOB_REF:
        return held and held.name
    if parameter.kind is Kind.EXECUTION_REF:
        return held.text
    return held.needle if parameter.kind is Kind.TERM else held


def with_job(operation: Operation[Any], name: str, value: Any) -> dict[str, Any]:
    """The required job beside the value, unless it is the value."""
    required = {parameter.name: "x" for parameter in operation.parameters if parameter.required}
    return {**required, name: value}


def assert_refusal_is_fit(error: InvalidParameter, parameter: Parameter) -> None:
    assert str(error).startswith(f"{parameter.name} must be ")
    assert len(str(error)) <= LONGEST_MESSAGE
    str(error).encode()
    assert "\n" not in str(error)
    assert "\0" not in str(error)


def assert_text_is_meant(operation: Operation[Any], parameter: Parameter, text: str) -> None:
    meant = MEANINGS[parameter.kind](parameter, text)
    try:
        query = operation.from_text(with_job(operation, parameter.name, text).items())
    except InvalidParameter as error:
        assert meant is None
        assert_refusal_is_fit(error, parameter)
    else:
        assert meant is not None
        assert in_query(query, parameter) == meant
        assert operation.from_text(operation.to_text(query).items()) == query


# Nasty values

NASTY_TEXTS = [
    *("", " ", "\t", "\n", "\0", "a\0b", "\ud800", "\udcff", "a\udfff", "\ufffd", "\ufeff", "\u200b", "\u202e"),
    *("0", "1", "-1", "+1", "007", "1000", "1001", "1_000", "1e3", "0x1", "1.0", "1,5", "１２", "٣", "²", "Ⅷ"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "1" * 5000),
    *("NaN", "inf", "-inf", "null", "None", "undefined", "nil", "[]", "{}", "[1]", '{"a":1}', '"x"', "''"),
    *("true", "false", "True", "FALSE", "yes", "on", "t"),
    *("now", "today", "20260101", "2026-W01-1", "2026-001", "1768464000", "1768464000000000", "2026-01-15"),
    *("2026-01-15T08:00:00Z", "2026-01-15T08:00:00+08:00", "2026-01-15T08:00:00 08:00", "2026-01-15 08:00"),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "0000-00-00", "2026-02-30", "2026-06-30T23:59:60Z"),
    *("２０２６-01-15", "2026-01-15T08:00:00.0000000001Z", "2026-01-15T08:00:00.999999999Z", "2026-01-15T25:00"),
    *("failed", "FAILURE", "FAILURE,TIMEOUT", "FAILURE,", ",", "failure", "Failed", "失败", "FAILURE TIMEOUT"),
    *("name", "NAME", "started_at", "-started_at", "started_at desc", "rowid", "parameters", "error", "id;"),
    *("%", "_", "'", '"', "*", "\\", "' OR 1=1 --", "); DROP TABLE jobs", "../../etc/passwd", "a/b", "%00", "%ff"),
    *(
        "x" * 200,
        "x" * 201,
        "x" * 512,
        "x" * 513,
        "x" * 100_000,
        "任" * 201,
        "ﷺ" * 200,
        "İ" * 200,
        "ß",
        "e\u0301" * 100,
    ),
    *(
        "{0.__class__}",
        "%s%n",
        "${jndi:x}",
        "<script>",
        "\x1b[31m",
        "\r\nSet-Cookie: a=b",
        "🦄",
        "👩‍👩‍👧‍👦",
        "ｆａｉｌｅｄ",
    ),
]


def nested(depth: int) -> object:
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


NASTY_VALUES: list[object] = [
    *(None, True, False, 0, 1, -1, 1000, 1001, LARGEST, 2**63, -(2**63) - 1, 10**400, 10**5000, 0.0, 1.0, 1e308),
    *(float("nan"), float("inf"), 1j, b"", b"x", b"\xff", [], {}, (), set(), frozenset(), [None], [[]], {"a": 1}),
    *(["FAILURE"], ("FAILURE", "x"), {"FAILURE"}, {"FAILURE": 1}, ["FAILURE"] * 10_000, ["x" * 10_000], [1, "FAILURE"]),
    *(nested(5000), object(), object, len, range(3), iter("x"), memoryview(b"x"), NotImplemented, ...),
    *(Status.FAILURE, [Status.FAILURE, "TIMEOUT"], Kind.FLAG, date(2026, 1, 1), datetime(2026, 1, 1), timedelta(1)),
    *(datetime(2026, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=timezone(-timedelta(hours=23)))),
    *(datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), UTC, re.compile("x"), ValueError("x")),
]

RIGHT_TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.JOB_REF: (str, int),
    Kind.EXECUTION_REF: (str, int),
    Kind.TIMEZONE: (str,),
    Kind.TERM: (str,),
    Kind.TEXT: (str,),
    Kind.INTEGER: (int,),
    Kind.FLAG: (bool,),
    Kind.CHOICE: (str,),
    Kind.CHOICES: (str, list, tuple, set, frozenset),
    Kind.INSTANT: (str, datetime),
}


def is_right_type(parameter: Parameter, value: object) -> bool:
    if value is None:
        return parameter.default is None and not parameter.required
    if isinstance(value, bool):
        return parameter.kind is Kind.FLAG
    return isinstance(value, RIGHT_TYPES[parameter.kind])


@pytest.mark.parametrize(("operation", "parameter"), EVERY_PARAMETER, ids=PARAMETER_IDS)
def test_nasty_text_is_what_it_means_or_refused(operation, parameter):
    for text in NASTY_TEXTS:
        assert_text_is_meant(operation, parameter, text)


@pytest.mark.parametrize(("operation", "parameter"), EVERY_PARAMETER, ids=PARAMETER_IDS)
def test_a_nasty_value_has_the_right_type_or_is_refused(operation, parameter):
    for value in [*NASTY_VALUES, *NASTY_TEXTS]:
        values = with_job(operation, parameter.name, value)
        try:
            assert operation.from_json(values) == operation.query(values)
        except InvalidParameter as error:
            assert_refusal_is_fit(error, parameter)
        else:
            assert is_right_type(parameter, value), value


SPELLED = {Kind.INTEGER, Kind.FLAG}
"""Text spells a number or a flag, and JSON has both."""


@pytest.mark.parametrize(
    ("operation", "parameter"), [target for target in EVERY_PARAMETER if target[1].kind not in SPELLED]
)
def test_text_means_the_same_through_every_door_where_it_spells_nothing_else(operation, parameter):
    for text in NASTY_TEXTS:
        if parameter.kind is Kind.CHOICES and "," in text:
            continue  # text spells a list here, and JSON has lists
        values = with_job(operation, parameter.name, text)
        outcomes = [outcome(read, values) for read in (from_pairs(operation), operation.from_json, operation.query)]
        assert outcomes[0] == outcomes[1] == outcomes[2], text


def from_pairs(operation: Operation[Any]) -> Callable[[dict[str, Any]], object]:
    return lambda values: operation.from_text(values.items())


def outcome(read: Callable[[dict[str, Any]], object], values: dict[str, Any]) -> object:
    try:
        return read(values)
    except InvalidParameter as error:
        return str(error)


# Any text at all

LETTERS = st.text(st.characters(codec=None), max_size=250)
DIGITS = st.text("0123456789+-_. ٣２", max_size=25)
TIMES = st.text("0123456789-:TZ+. ", max_size=36)
NEARLY_TIMES = st.builds(
    lambda pieces, spoil, at: "".join(pieces)[: at or None] + spoil,
    st.tuples(
        st.sampled_from(["2026-01-15", "2024-02-29", "2026-02-29", "9999-12-31", "0001-01-01", "0000-01-01"]),
        st.sampled_from(
            ["", "T08:00", " 08:00", "T08:00:00", "T23:59:59", "T24:00:00", "T08:00:00.5", "T08:00:00.123456789"]
        ),
        st.sampled_from(["", "Z", "+08:00", " 08:00", "-23:59", "+24:00", "+08:60", "z"]),
    ),
    st.sampled_from(["", "", "", " ", "\n", "0", "Z", "\0"]),
    st.integers(0, 12),
)
WORDS = st.lists(st.sampled_from([*Status, "failure", "", " FAILURE", "X"]), max_size=5).map(",".join)
ANY_TEXT = st.one_of(LETTERS, DIGITS, TIMES, NEARLY_TIMES, WORDS, st.sampled_from(NASTY_TEXTS))


@given(st.sampled_from(EVERY_PARAMETER), ANY_TEXT)
@settings(QUICK, max_examples=scaled(400))
def test_any_text_is_what_it_means_or_refused(target, text):
    operation, parameter = target
    assert_text_is_meant(operation, parameter, text)


@given(NEARLY_TIMES)
@settings(QUICK, max_examples=scaled(200))
def test_any_time_is_what_the_calendar_says(text):
    assert_text_is_meant(
        LIST_JOB_EXECUTIONS, next(p for p in LIST_JOB_EXECUTIONS.parameters if p.name == "after"), text
    )


@given(
    st.sampled_from(list(OPERATIONS.values())),
    st.lists(st.tuples(st.text(max_size=90) | st.just("limit"), ANY_TEXT), max_size=4),
)
@settings(QUICK)
def test_any_pairs_raise_nothing_but_a_bounded_refusal(operation, pairs):
    message = ""
    try:
        operation.from_text(pairs)
    except InvalidParameter as error:
        message = str(error)
    assert len(message) <= LONGEST_MESSAGE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(EVERY_PARAMETER), JSON)
@settings(QUICK, max_examples=scaled(200))
def test_any_json_value_has_the_right_type_or_is_refused(target, value):
    operation, parameter = target
    try:
        operation.from_json(with_job(operation, parameter.name, value))
    except InvalidParameter as error:
        assert_refusal_is_fit(error, parameter)
    else:
        assert is_right_type(parameter, value)


# Round trips

INSTANTS = st.integers(MIN_US, MAX_US)


@given(INSTANTS, st.integers(-1439, 1439))
@settings(QUICK)
def test_an_instant_survives_its_text_and_its_datetime(us, minutes):
    assert JOB_STATS.query({"after": instant_text(us)}).after_us == us
    assert JOB_STATS.query({"after": instant_datetime(us)}).after_us == us
    zone = timezone(timedelta(minutes=minutes))
    try:
        local = instant_datetime(us).astimezone(zone)
    except OverflowError:
        return
    assert JOB_STATS.query({"after": local}).after_us == us
    assert JOB_STATS.query({"after": local.isoformat()}).after_us == us
    assert JOB_STATS.query({"after": local.isoformat().replace("+", " ")}).after_us == us


@given(INSTANTS, INSTANTS)
@settings(QUICK)
def test_a_window_is_kept_or_refused_by_its_order(after, before):
    values: dict[str, object] = {"after": instant_text(after), "before": instant_text(before)}
    if after <= before:
        query = JOB_STATS.query(values)
        assert (query.after_us, query.before_us) == (after, before)
    else:
        with pytest.raises(InvalidParameter, match=r"after.* before"):
            JOB_STATS.query(values)


@given(st.integers(1, 1000), st.integers(0, LARGEST), st.booleans())
@settings(QUICK)
def test_numbers_and_flags_survive_their_text(limit, offset, flag):
    given_values = {"limit": limit, "offset": offset, "order_desc": flag}
    query = LIST_JOBS.from_text([(name, str(value).lower()) for name, value in given_values.items()])
    assert query == LIST_JOBS.query(given_values)
    assert (query.limit, query.offset, query.order_desc) == (limit, offset, flag)


@given(st.lists(st.sampled_from(Status), min_size=1))
@settings(QUICK)
def test_statuses_survive_their_text(statuses):
    for pairs in ([("status", ",".join(statuses))], [("status", status) for status in statuses]):
        assert LIST_JOB_EXECUTIONS.from_text(pairs) == LIST_JOB_EXECUTIONS.query({"status": statuses})


@given(st.integers(0, LARGEST))
@settings(QUICK)
def test_a_job_number_means_the_same_as_a_number_and_as_text(number):
    assert JOB_STATS.query({"job_id": number}) == JOB_STATS.query({"job_id": str(number)})
    assert JobRef.of(str(number)).number == number


# Search

TERMS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


@given(TERMS, TERMS, TERMS)
@settings(QUICK)
def test_a_part_of_a_text_in_blanks_and_any_case_is_found_where_letters_stand_alone(before, part, after):
    plain = "".join(character for character in part if character in string.ascii_letters + string.digits)
    assert normalise_term(f" \t{plain.upper()}\u3000") in fold(f"{before}|{plain}|{after}")


@given(TERMS)
@settings(QUICK)
def test_a_query_holds_the_needle_and_what_it_means(term):
    query = LIST_JOB_EXECUTIONS.query({"search": term})
    assert query.needle == LIST_JOBS.query({"search": term}).needle == normalise_term(term)
    assert query.meant == statuses_meant(normalise_term(term))


@pytest.mark.parametrize("status", Status)
def test_every_part_of_a_status_means_it(status):
    for start in range(len(status)):
        for end in range(start + 1, len(status) + 1):
            assert status in statuses_meant(normalise_term(status[start:end]))
