"""One parameter: how its text is read, what it may be, and how a refusal is worded.

`Parameter.read` turns text (a query string, a command-line option) into the value a Python caller
would give; `Parameter.check` says whether such a value keeps the rule, whatever door it came
through, and returns it as the query needs it. What cannot be read stays text, so that the check
refuses it: a rule, and its wording, exists once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from jobstore.language.errors import InvalidParameter, shown
from jobstore.language.instants import instant_us
from jobstore.language.models import STATUSES, Status
from jobstore.language.search import fold, normalise_term, statuses_meant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LARGEST: Final = 2**63 - 1
"""The largest integer that the file holds."""
NAME_CHARACTERS: Final = 200
TERM_CHARACTERS: Final = 200
"""Counted in the trimmed term, before it is folded (folding may lengthen it)."""


class Kind(StrEnum):
    """What sort of value a parameter takes."""

    JOB_REF = "job_ref"
    """a job's name or number"""
    TERM = "term"
    """a search term; blank means no search"""
    TEXT = "text"
    """compared whole, case and all"""
    INTEGER = "integer"
    FLAG = "flag"
    CHOICE = "choice"
    """one of a closed set of words"""
    STATUSES = "statuses"
    """one status or several"""
    INSTANT = "instant"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query, for every door.

    Attributes:
        name: the keyword, as the seed names it.
        kind: which reading and which rule apply.
        description: for people and for language models.
        default: what is filled in; None means no filter.
        required: whether it must be given.
        minimum: the smallest integer, or the fewest characters.
        maximum: the largest integer, or the most characters.
        choices: the words a CHOICE takes.
        example: a value that is accepted, as JSON has it.
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

    def read(self, text: str) -> object:
        """The value a Python caller would give; the text itself where it says none.

        >>> limit = Parameter("limit", Kind.INTEGER, "", minimum=1, maximum=1000)
        >>> limit.read("20"), limit.read("２０"), limit.read("+20")
        (20, '２０', '+20')
        """
        reader = _READERS.get(self.kind)
        return reader(text) if reader else text

    def check(self, value: object, came: object) -> Any:  # noqa: ANN401  # each kind has a type of its own
        """The value as the query needs it; `came` is what a refusal shows.

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
    """The known word that was probably meant, if one is near.

    >>> suggestion("limt", ("search", "limit")), suggestion("order-By", ("order_by",)), suggestion("x", ("limit",))
    ('limit', 'order_by', None)
    """
    if len(word) > _NEAR_CHARACTERS:
        return None
    from difflib import get_close_matches  # noqa: PLC0415  # only a refusal needs it

    by_folded = {fold(name): name for name in known}
    near = get_close_matches(fold(word), by_folded, n=1)
    return by_folded[near[0]] if near else None


_NEAR_CHARACTERS: Final = 60
"""Nothing longer is a slip of the pen, and a hostile word need not be compared."""


# Text to values.


def _read_integer(text: str) -> int | str:
    digits = text.lstrip("0") or text[:1]
    readable = digits.isascii() and digits.isdigit() and len(digits) <= len(str(LARGEST))
    return int(digits) if readable else text


_FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}


def _read_flag(text: str) -> bool | str:
    return _FLAGS.get(text, text)


def _read_statuses(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


_READERS: Final[Mapping[Kind, Callable[[str], object]]] = {
    Kind.INTEGER: _read_integer,
    Kind.FLAG: _read_flag,
    Kind.STATUSES: _read_statuses,
}


# Values to what a query needs.


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
    """Whether a caller of a typed door gave text that the other doors would read."""
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
    """Whether the file could hold it: no NUL, and no half of a surrogate pair."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_term(parameter: Parameter, value: object, came: object) -> str:
    if isinstance(value, str) and len(value.strip()) <= TERM_CHARACTERS and _is_storable(value):
        return normalise_term(str.__str__(value))
    raise _refusal(parameter, f"text of at most {TERM_CHARACTERS} characters, in UTF-8 and without NUL", came)


def _check_job_ref(parameter: Parameter, value: object, came: object) -> str:
    name = value
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _PRINTABLE_BITS:
        name = str(int(value))
    if isinstance(name, str) and 1 <= len(name) <= NAME_CHARACTERS and _is_storable(name):
        return str.__str__(name)
    rule = f"a job's name (1 to {NAME_CHARACTERS} characters, in UTF-8 and without NUL) or its number"
    raise _refusal(parameter, rule, came)


_PRINTABLE_BITS: Final = 1_000
"""Python refuses to print integers of thousands of digits; a name has two hundred characters."""


def _check_statuses(parameter: Parameter, value: object, came: object) -> frozenset[Status]:
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, list | tuple | set | frozenset) and names:
        return frozenset([_check_status(parameter, name, came) for name in names])
    raise _refusal(parameter, _STATUS_RULE, came)


def _check_status(parameter: Parameter, name: object, came: object) -> Status:
    status = _STATUS_BY_NAME.get(name) if isinstance(name, str) else None
    if status is None:
        raise _refusal(parameter, _STATUS_RULE, _culprit(name, came), _status_remedy(name))
    return status


def _culprit(name: object, came: object) -> object:
    """What a refusal shows: all that came where it is text, else the one that is wrong."""
    return came if isinstance(came, str) else name


def _status_remedy(name: object) -> str:
    if not isinstance(name, str):
        return ""
    if "," in name:
        return "; give several as a list"
    meant = statuses_meant(normalise_term(name)) if len(name) <= TERM_CHARACTERS else ()
    near = next(iter(meant)) if len(meant) == 1 else suggestion(name, tuple(_STATUS_BY_NAME))
    return f"; did you mean '{near}'?" if near else ""


_STATUS_BY_NAME: Final = {status.value: status for status in STATUSES}
_STATUS_RULE: Final = f"one or several of {', '.join(_STATUS_BY_NAME)}"


_INSTANT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(?:Z|([+\- ])([0-9]{2}):([0-9]{2}))?)?"
)
"""What people and programs write. The blank for a sign is the plus of a query string, decoded."""
_INSTANT_RULE: Final = "a time: YYYY-MM-DD, or with THH:MM[:SS[.f]] and Z or ±HH:MM (UTC without)"


def _check_instant(parameter: Parameter, value: object, came: object) -> int:
    if isinstance(value, datetime):
        return _datetime_us(parameter, value)
    match = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        remedy = "" if isinstance(value, str) else "; give text or a datetime with a time zone"
        raise _refusal(parameter, _INSTANT_RULE, came, remedy)
    try:
        return instant_us(_moment(match))
    except ValueError:
        raise _refusal(parameter, "a moment that exists, in the years 1 to 9999", came) from None


def _datetime_us(parameter: Parameter, moment: datetime) -> int:
    rule = "a datetime with a time zone"
    try:
        us = instant_us(moment) if moment.utcoffset() is not None else None
    except (ArithmeticError, NotImplementedError, TypeError, ValueError):  # what a tzinfo may raise
        raise _refusal(parameter, f"{rule}, in the years 1 to 9999 of UTC", moment) from None
    if us is None:
        raise _refusal(parameter, rule, str(moment), "; add tzinfo=UTC, say")
    return us


def _moment(match: re.Match[str]) -> datetime:
    """The aware datetime; what a microsecond cannot hold is cut off, as a recorder cuts it off."""
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3) + _time_of_day(match))
    microsecond = int((match[7] or "")[:6].ljust(6, "0"))
    return datetime(year, month, day, hour, minute, second, microsecond, _zone(match))


def _time_of_day(match: re.Match[str]) -> tuple[str, ...]:
    return match[4] or "0", match[5] or "0", match[6] or "0"


def _zone(match: re.Match[str]) -> timezone:
    sign, hours, minutes = match.group(8, 9, 10)
    if sign is None:
        return UTC
    if int(minutes) >= 60:  # noqa: PLR2004  # minutes of an hour
        raise ValueError("an offset has at most 59 minutes")
    east = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-east if sign == "-" else east)


_CHECKS: Final[Mapping[Kind, Callable[[Parameter, object, object], object]]] = {
    Kind.JOB_REF: _check_job_ref,
    Kind.TERM: _check_term,
    Kind.TEXT: _check_text,
    Kind.INTEGER: _check_integer,
    Kind.FLAG: _check_flag,
    Kind.CHOICE: _check_choice,
    Kind.STATUSES: _check_statuses,
    Kind.INSTANT: _check_instant,
}


# Rules as JSON Schema.

_NO_NUL: Final = "^[^\\u0000]*$"


def _job_ref_schema(_parameter: Parameter) -> dict[str, object]:
    name: dict[str, object] = {"type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS, "pattern": _NO_NUL}
    return {"anyOf": [name, {"type": "integer", "minimum": 0, "maximum": LARGEST}]}


def _term_schema(_parameter: Parameter) -> dict[str, object]:
    return {"type": "string", "maxLength": TERM_CHARACTERS, "pattern": _NO_NUL}


def _text_schema(parameter: Parameter) -> dict[str, object]:
    return {"type": "string", "minLength": parameter.minimum, "maxLength": parameter.maximum, "pattern": _NO_NUL}


def _integer_schema(parameter: Parameter) -> dict[str, object]:
    return {"type": "integer", "minimum": parameter.minimum, "maximum": parameter.maximum}


def _flag_schema(_parameter: Parameter) -> dict[str, object]:
    return {"type": "boolean"}


def _choice_schema(parameter: Parameter) -> dict[str, object]:
    return {"type": "string", "enum": list(parameter.choices)}


def _statuses_schema(_parameter: Parameter) -> dict[str, object]:
    one: dict[str, object] = {"type": "string", "enum": list(_STATUS_BY_NAME)}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


_INSTANT_PATTERN: Final = (
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?"
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?$"
)
"""All but the length of a month. The plus is spelled out: JSON does not decode it."""
_INSTANT_CHARACTERS: Final = len("2026-01-15T08:00:00.123456789+08:00")


def _instant_schema(_parameter: Parameter) -> dict[str, object]:
    return {"type": "string", "pattern": _INSTANT_PATTERN, "maxLength": _INSTANT_CHARACTERS}


_SCHEMAS: Final[Mapping[Kind, Callable[[Parameter], dict[str, object]]]] = {
    Kind.JOB_REF: _job_ref_schema,
    Kind.TERM: _term_schema,
    Kind.TEXT: _text_schema,
    Kind.INTEGER: _integer_schema,
    Kind.FLAG: _flag_schema,
    Kind.CHOICE: _choice_schema,
    Kind.STATUSES: _statuses_schema,
    Kind.INSTANT: _instant_schema,
}
