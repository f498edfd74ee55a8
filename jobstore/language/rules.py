"""One parameter: how its text is parsed, which values are valid, and how a refusal is worded.

`Parameter.read` parses text (a query string, a command-line option) into the value a Python caller would give.
`Parameter.check` validates such a value, whichever interface it came through, and returns it as the query holds it.
Text that does not parse stays text, so `check` refuses it: each rule and its wording exist once.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from jobstore.language.errors import InvalidParameter, InvalidRecord, shown
from jobstore.language.fields import NAME_CHARACTERS, is_storable
from jobstore.language.instants import BadInstant, instant_text, read_instant
from jobstore.language.query import NO_TERM, ExecutionRef, JobRef, Term
from jobstore.language.search import fold, normalise_term, statuses_meant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LARGEST: Final = 2**63 - 1
"""The largest integer that the file can hold."""
TERM_CHARACTERS: Final = 200
"""Counted in the trimmed term, before it is folded (folding may lengthen it)."""


class Kind(StrEnum):
    """The kind of value that a parameter takes."""

    JOB_REF = "job_ref"
    """a job's name or number"""
    EXECUTION_REF = "execution_ref"
    """an execution's number"""
    TERM = "term"
    """a search term; blank means no search"""
    TEXT = "text"
    """compared exactly, case-sensitive"""
    INTEGER = "integer"
    FLAG = "flag"
    CHOICE = "choice"
    """one of a closed set of words"""
    CHOICES = "choices"
    """one or several of a closed set of words"""
    INSTANT = "instant"
    TIMEZONE = "timezone"
    """the IANA name of a time zone"""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query, for every interface.

    Attributes:
        name: the keyword, as the job API names it.
        kind: decides how text is parsed and which rule applies.
        description: for people and for language models.
        default: the value if none is given; None means no filter.
        required: whether it must be given.
        minimum: the smallest integer, or the fewest characters.
        maximum: the largest integer, or the most characters.
        choices: the words that a CHOICE or CHOICES takes.
        example: a valid value, in its JSON form.
    """

    name: str
    kind: Kind
    description: str
    default: object = None
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    example: object = None

    @property
    def field(self) -> str:
        """The name of its field in the query value; an instant's has the unit appended."""
        return f"{self.name}_us" if self.kind is Kind.INSTANT else self.name

    @property
    def filled(self) -> object:
        """The default as the query value holds it."""
        return NO_TERM if self.kind is Kind.TERM else self.default

    def read(self, text: str) -> object:
        """Parse text into the value a Python caller would give; text that does not parse comes back unchanged.

        >>> limit = Parameter("limit", Kind.INTEGER, "", minimum=1, maximum=1000)
        >>> limit.read("20"), limit.read("２０"), limit.read("+20")
        (20, '２０', '+20')
        """
        reader = _READERS.get(self.kind)
        return reader(text) if reader else text

    def read_json(self, value: object) -> object:
        """The value a Python caller would give for a JSON value; some tool hosts send a list as its JSON text."""
        return _read_list(value) if self.kind is Kind.CHOICES and _is_list_text(value) else value

    def write(self, value: Any) -> str:
        """The text of a checked value, the inverse of `read` and `check`."""
        return _WRITERS.get(self.kind, str)(value)

    def check(self, value: object, came: object) -> Any:
        """Validate a value and return it as the query holds it; `came` is the value as received, for the error message.

        >>> Parameter("limit", Kind.INTEGER, "", minimum=1, maximum=1000).check(1001, "1001")
        Traceback (most recent call last):
            ...
        jobstore.language.errors.InvalidParameter: limit must be an integer from 1 to 1000; received '1001'

        Raises:
            InvalidParameter: the value breaks the rule.
        """
        return _CHECKS[self.kind](self, value, came)

    def json_schema(self) -> dict[str, object]:
        """The rule as JSON Schema 2020-12, for a JSON value; null (no filter) is not part of it."""
        schema = {"description": self.description, **_SCHEMAS[self.kind](self)}
        if self.default is not None:
            schema["default"] = self.default
        if self.example is not None:
            schema["examples"] = [self.example]
        return schema


def suggestion(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that was probably meant; None if none is close.

    >>> suggestion("limt", ("search", "limit")), suggestion("order-By", ("order_by",)), suggestion("x", ("limit",))
    ('limit', 'order_by', None)
    """
    if len(word) > _NEAR_CHARACTERS:
        return None
    from difflib import get_close_matches  # only a refusal needs it

    by_folded = {fold(name): name for name in known}
    near = get_close_matches(fold(word), by_folded, n=1)
    return by_folded[near[0]] if near else None


_NEAR_CHARACTERS: Final = 60
"""A longer word is not a typing error, and comparing a hostile one would take time."""


# Parsing: from text to values.


def _read_integer(text: str) -> int | str:
    digits = text.lstrip("0") or text[:1]
    readable = digits.isascii() and digits.isdigit() and len(digits) <= len(str(LARGEST))
    return int(digits) if readable else text


_FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}


def _read_flag(text: str) -> bool | str:
    return _FLAGS.get(text.lower(), text)


def _read_choices(text: str) -> object:
    return _read_list(text) if _is_list_text(text) else tuple(text.split(","))


def _is_list_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.startswith("[") and len(value) <= _LONGEST_LIST


_LONGEST_LIST: Final = 1000


def _read_list(text: str) -> object:
    """Parse a JSON list; text that does not parse comes back unchanged."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


_READERS: Final[Mapping[Kind, Callable[[str], object]]] = {
    Kind.INTEGER: _read_integer,
    Kind.FLAG: _read_flag,
    Kind.CHOICES: _read_choices,
}
_WRITERS: Final[Mapping[Kind, Callable[[Any], str]]] = {
    Kind.JOB_REF: lambda ref: ref.name,
    Kind.EXECUTION_REF: lambda ref: ref.text,
    Kind.TERM: lambda term: term.text,
    Kind.FLAG: lambda flag: "true" if flag else "false",
    Kind.CHOICES: lambda words: ",".join(sorted(words)),
    Kind.INSTANT: lambda us: instant_text(us) or "",
}


# Checking: from values to what a query holds.


def _refusal(parameter: Parameter, rule: str, came: object, remedy: str = "") -> InvalidParameter:
    return InvalidParameter(f"{parameter.name} must be {rule}; received {shown(came)}{remedy}")


def _check_integer(parameter: Parameter, value: object, came: object) -> int:
    low, high = parameter.minimum, parameter.maximum
    if isinstance(value, int) and not isinstance(value, bool) and (low or 0) <= value <= (high or LARGEST):
        return int(value)
    remedy = "; give the number without quotes" if _reads_as(parameter, value) else ""
    raise _refusal(parameter, f"an integer from {low or 0} to {high or LARGEST}", came, remedy)


def _check_flag(parameter: Parameter, value: object, came: object) -> bool:
    if isinstance(value, bool):
        return value
    remedy = "; give it without quotes" if _reads_as(parameter, value) else ""
    raise _refusal(parameter, "true or false", came, remedy)


def _reads_as(parameter: Parameter, value: object) -> bool:
    """Whether a caller of a typed interface gave text that the other interfaces would parse."""
    return isinstance(value, str) and parameter.read(value) is not value


def _check_choice(parameter: Parameter, value: object, came: object) -> str:
    if isinstance(value, str) and value in parameter.choices:
        return str.__str__(value)
    raise _refusal(parameter, f"one of {', '.join(parameter.choices)}", came, _did_you_mean(value, parameter.choices))


def _did_you_mean(value: object, known: tuple[str, ...]) -> str:
    near = suggestion(value, known) if isinstance(value, str) else None
    return f"; did you mean '{near}'?" if near else ""


def _check_text(parameter: Parameter, value: object, came: object) -> str:
    low, high = parameter.minimum or 0, parameter.maximum or LARGEST
    if isinstance(value, str) and low <= len(value) <= high and _is_storable(value):
        return str.__str__(value)
    raise _refusal(parameter, f"text of {low} to {high} characters, in UTF-8 and without NUL", came)


def _is_storable(text: str) -> bool:
    """Whether the file can hold it: no NUL and no lone surrogate."""
    return "\0" not in text and is_storable(text)


def _check_term(parameter: Parameter, value: object, came: object) -> Term:
    if isinstance(value, str) and len(value.strip()) <= TERM_CHARACTERS and _is_storable(value):
        return Term.of(str.__str__(value))
    raise _refusal(parameter, f"text of at most {TERM_CHARACTERS} characters, in UTF-8 and without NUL", came)


def _check_job_ref(parameter: Parameter, value: object, came: object) -> JobRef:
    name = _reference(value)
    if name is not None:
        return JobRef.of(name)
    rule = f"a job's name (1 to {NAME_CHARACTERS} characters, in UTF-8 and without NUL) or its number"
    raise _refusal(parameter, rule, came)


def _check_execution_ref(parameter: Parameter, value: object, came: object) -> ExecutionRef:
    text = _reference(value)
    if text is not None:
        return ExecutionRef.of(text)
    raise _refusal(parameter, "the id of an execution, as in its field `id`", came)


def _reference(value: object) -> str | None:
    """The text of a name or a number; None if it can be neither."""
    name = value
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _PRINTABLE_BITS:
        name = str(int(value))
    if isinstance(name, str) and 1 <= len(name) <= NAME_CHARACTERS and _is_storable(name):
        return str.__str__(name)
    return None


_PRINTABLE_BITS: Final = 1_000
"""Python refuses to print integers with thousands of digits; a name has at most 200 characters."""


def _check_choices(parameter: Parameter, value: object, came: object) -> frozenset[str]:
    words = (value,) if isinstance(value, str) else value
    if isinstance(words, list | tuple | set | frozenset) and words:
        return frozenset([_check_one(parameter, word, came) for word in words])
    raise _refusal(parameter, _several(parameter), came)


def _check_one(parameter: Parameter, word: object, came: object) -> str:
    """The choice that equals the word: for an enumeration its member, even if plain text was given."""
    if isinstance(word, str) and word in parameter.choices:
        return parameter.choices[parameter.choices.index(word)]
    # If text was received, show all of it; otherwise only the wrong word.
    shown_word = came if isinstance(came, str) else word
    raise _refusal(parameter, _several(parameter), shown_word, _near_choice(word, parameter.choices))


def _several(parameter: Parameter) -> str:
    return f"one or several of {', '.join(parameter.choices)}"


def _near_choice(word: object, choices: tuple[str, ...]) -> str:
    if not isinstance(word, str):
        return ""
    if "," in word:
        return "; give several as a list"
    meant = statuses_meant(normalise_term(word)) if len(word) <= TERM_CHARACTERS else frozenset()
    known = [status for status in meant if status in choices]
    near = known[0] if len(known) == 1 else suggestion(word, choices)
    return f"; did you mean '{near}'?" if near else ""


def _check_instant(parameter: Parameter, value: object, came: object) -> int:
    try:
        return read_instant(value)
    except BadInstant as error:
        raise _refusal(parameter, error.rule, came, error.remedy) from None


def _check_timezone(parameter: Parameter, value: object, came: object) -> str:
    from jobstore.language.zones import check_timezone  # zoneinfo is slow to import

    if not isinstance(value, str):
        raise _refusal(parameter, "an IANA name such as 'Europe/Berlin' or 'UTC'", came)
    try:
        return check_timezone(value)
    except InvalidRecord as error:
        raise InvalidParameter(error.message) from None


_CHECKS: Final[Mapping[Kind, Callable[[Parameter, object, object], object]]] = {
    Kind.JOB_REF: _check_job_ref,
    Kind.EXECUTION_REF: _check_execution_ref,
    Kind.TERM: _check_term,
    Kind.TEXT: _check_text,
    Kind.INTEGER: _check_integer,
    Kind.FLAG: _check_flag,
    Kind.CHOICE: _check_choice,
    Kind.CHOICES: _check_choices,
    Kind.INSTANT: _check_instant,
    Kind.TIMEZONE: _check_timezone,
}


# Rules as JSON Schema.

_NO_NUL: Final = "^[^\\x00]*$"
"""Works in every regex engine: JavaScript, Python, RE2 and Rust have no look-ahead in common."""
_LARGEST_IN_JSON: Final = 2**53 - 1
"""JavaScript hosts round a larger number, and model APIs refuse the rounded schema."""


_NAME_SCHEMA: Final[dict[str, object]] = {
    "type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS, "pattern": _NO_NUL,
}  # fmt: skip
_REF_SCHEMA: Final[dict[str, object]] = {
    "anyOf": [_NAME_SCHEMA, {"type": "integer", "minimum": 0, "maximum": _LARGEST_IN_JSON}]
}


def _text_schema(parameter: Parameter) -> dict[str, object]:
    return {"type": "string", "minLength": parameter.minimum, "maxLength": parameter.maximum, "pattern": _NO_NUL}


def _integer_schema(parameter: Parameter) -> dict[str, object]:
    highest = min(parameter.maximum or LARGEST, _LARGEST_IN_JSON)
    return {"type": "integer", "minimum": parameter.minimum, "maximum": highest}


def _choice_schema(parameter: Parameter) -> dict[str, object]:
    return {"type": "string", "enum": list(map(str, parameter.choices))}


def _choices_schema(parameter: Parameter) -> dict[str, object]:
    one = _choice_schema(parameter)
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


_INSTANT_PATTERN: Final = (
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?"
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?$"
)
"""Checks everything but the length of a month. No blank for the plus sign: JSON is not URL-decoded."""
_INSTANT_CHARACTERS: Final = len("2026-01-15T08:00:00.123456789+08:00")


_SCHEMAS: Final[Mapping[Kind, Callable[[Parameter], dict[str, object]]]] = {
    Kind.JOB_REF: lambda _: deepcopy(_REF_SCHEMA),
    Kind.EXECUTION_REF: lambda _: deepcopy(_REF_SCHEMA),
    Kind.TERM: lambda _: {"type": "string", "maxLength": TERM_CHARACTERS, "pattern": _NO_NUL},
    Kind.TEXT: _text_schema,
    Kind.INTEGER: _integer_schema,
    Kind.FLAG: lambda _: {"type": "boolean"},
    Kind.CHOICE: _choice_schema,
    Kind.CHOICES: _choices_schema,
    Kind.INSTANT: lambda _: {"type": "string", "pattern": _INSTANT_PATTERN, "maxLength": _INSTANT_CHARACTERS},
    Kind.TIMEZONE: lambda _: {"type": "string", "minLength": 1, "maxLength": 64},
}
