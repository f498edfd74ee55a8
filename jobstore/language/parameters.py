"""Words from outside to query values: the parameters of the five queries, each defined once.

Every door is made from these tables. A door turns what it got into keywords (`from_text`,
`from_json`); the store then checks the keywords (`jobs_query`, `executions_query`, `job_ref`,
`stats_query`), so the same value gives the same answer, or the same error code, everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jobstore.language.errors import InvalidParameter, shown
from jobstore.language.instants import instant_text
from jobstore.language.models import EXECUTION_ORDERS, JOB_ORDERS, KNOWN_JOB_CATEGORIES, KNOWN_JOB_TYPES, Status
from jobstore.language.rules import LARGEST, NAME_CHARACTERS, Kind, Parameter, suggestion
from jobstore.language.search import statuses_meant

__all__ = [
    "GET_JOB",
    "GET_JOB_EXECUTIONS",
    "JOB_STATS",
    "LIST_JOBS",
    "LIST_JOB_EXECUTIONS",
    "OPERATIONS",
    "ExecutionsQuery",
    "JobRef",
    "JobsQuery",
    "Kind",
    "Operation",
    "Parameter",
    "StatsQuery",
    "executions_query",
    "from_json",
    "from_text",
    "job_ref",
    "jobs_query",
    "stats_query",
]

LARGEST_LIMIT: Final = 1000
TRACE_ID_CHARACTERS: Final = 512


@dataclass(frozen=True, slots=True)
class Operation:
    """One query: its name, what it is for, and its parameters in the order of its signature."""

    name: str
    summary: str
    parameters: tuple[Parameter, ...]

    def json_schema(self) -> dict[str, object]:
        """JSON Schema 2020-12 of an object with the parameters, and nothing else in it."""
        return {
            "type": "object",
            "properties": {parameter.name: parameter.json_schema() for parameter in self.parameters},
            "required": [parameter.name for parameter in self.parameters if parameter.required],
            "additionalProperties": False,
        }


# The tables. The seed's parameters come first, in its order; ours follow.

_JOB_ID = Parameter(
    "job_id",
    Kind.JOB_REF,
    "The job's name, as in the field `name` of a job, or its number. A name is tried first.",
    required=True,
    example="sync_klines_1h",
)
_LIMIT = Parameter(
    "limit",
    Kind.INTEGER,
    "How many records a page holds, 1 to 1000. To count, ask for limit=1 and read pagination.total.",
    default=50,
    minimum=1,
    maximum=LARGEST_LIMIT,
    example=20,
)
_OFFSET = Parameter(
    "offset",
    Kind.INTEGER,
    "How many records to skip. While pagination.has_next is true, the next page is at offset + limit.",
    default=0,
    minimum=0,
    maximum=LARGEST,
    example=50,
)


def _search(where: str, example: str) -> Parameter:
    return Parameter(
        "search",
        Kind.TERM,
        f"{where} At most 200 characters; case and width do not matter; no wildcards; blank means no search.",
        example=example,
    )


def _exact(name: str, description: str, maximum: int, example: str) -> Parameter:
    return Parameter(name, Kind.TEXT, description, minimum=1, maximum=maximum, example=example)


LIST_JOBS: Final = Operation(
    "list_jobs",
    "List the scheduled jobs: what runs, when, how often, the latest start and the next run. "
    "Pages are bounded and carry the exact total.",
    (
        _search("Part of the job's name, type or category.", "kline"),
        _LIMIT,
        _OFFSET,
        Parameter(
            "order_by",
            Kind.CHOICE,
            "The field to sort by; ties go by the job's number, and nulls come last.",
            default="name",
            choices=JOB_ORDERS,
            example="next_run_at",
        ),
        Parameter("order_desc", Kind.FLAG, "Whether the largest come first.", default=False, example=True),
        _exact(
            "job_type",
            f"Exactly this job type, case and all: {', '.join(KNOWN_JOB_TYPES)}, or one of your own.",
            NAME_CHARACTERS,
            "kline",
        ),
        _exact(
            "job_category",
            f"Exactly this job category, case and all: {', '.join(KNOWN_JOB_CATEGORIES)}, or one of your own.",
            NAME_CHARACTERS,
            "sync",
        ),
        Parameter("enabled", Kind.FLAG, "Only jobs that are switched on (true) or off (false).", example=True),
    ),
)

GET_JOB: Final = Operation("get_job", "Get one job by its name or number.", (_JOB_ID,))

_AFTER = Parameter(
    "after",
    Kind.INSTANT,
    "Only executions that started at this time or later (one that waits counts by its creation). "
    "RFC 3339, or a date for its 00:00 UTC.",
    example="2026-01-01T00:00:00Z",
)
_BEFORE = Parameter(
    "before",
    Kind.INSTANT,
    "Only executions that started at this time or earlier (one that waits counts by its creation). "
    "RFC 3339, or a date for its 00:00 UTC, so before=2026-01-15 leaves that day out.",
    example="2026-01-15T00:00:00Z",
)
_EXECUTION_TAIL = (
    _LIMIT,
    _OFFSET,
    Parameter(
        "order_by",
        Kind.CHOICE,
        "The field to sort by. started_at puts an execution that waits where its creation puts it; "
        "ties go by id, and nulls come last.",
        default="started_at",
        choices=EXECUTION_ORDERS,
        example="duration_ms",
    ),
    Parameter(
        "order_desc", Kind.FLAG, "Whether the newest (the largest) come first, as they do unless told otherwise.",
        default=True, example=False,
    ),
    _BEFORE,
    _AFTER,
    Parameter(
        "status",
        Kind.STATUSES,
        "Only executions with this outcome, or with one of several. What went wrong is FAILURE and TIMEOUT. "
        "Exact, so better than search when the outcome is what matters.",
        example="FAILURE",
    ),
    _exact("trace_id", "Exactly this trace id, case and all.", TRACE_ID_CHARACTERS, "abc123def456"),
)  # fmt: skip

LIST_JOB_EXECUTIONS: Final = Operation(
    "list_job_executions",
    "List executions of all jobs, newest first: what ran, when, how long, with which result or error. "
    "Pages are bounded and carry the exact total.",
    (
        _search("Part of the job's name at that time, or a word for a status (failed, timed out, 失败).", "failed"),
        *_EXECUTION_TAIL,
    ),
)
GET_JOB_EXECUTIONS: Final = Operation(
    "get_job_executions",
    "List executions of one job, newest first. Pages are bounded and carry the exact total.",
    (
        _JOB_ID,
        _search("A word for a status (failed, timed out, 失败) or a part of its name.", "failed"),
        *_EXECUTION_TAIL,
    ),
)
JOB_STATS: Final = Operation(
    "job_stats",
    "Count executions by status, with success rate and durations, over one job or all, in a window or all time. "
    "Exact and cheap: better than adding up pages.",
    (
        Parameter("job_id", Kind.JOB_REF, "The job's name or number; all jobs without it.", example="sync_klines_1h"),
        _BEFORE,
        _AFTER,
    ),
)

OPERATIONS: Final[Mapping[str, Operation]] = {
    operation.name: operation for operation in (LIST_JOBS, GET_JOB, LIST_JOB_EXECUTIONS, GET_JOB_EXECUTIONS, JOB_STATS)
}


# What a query needs.


@dataclass(frozen=True, slots=True)
class JobRef:
    """How a caller named a job: the exact name to try first, then the number, if it can be one."""

    name: str
    number: int | None


@dataclass(frozen=True, slots=True)
class JobsQuery:
    """A checked `list_jobs`; the needle is trimmed and folded, "" for no search."""

    needle: str
    limit: int
    offset: int
    order_by: str
    order_desc: bool
    job_type: str | None
    job_category: str | None
    enabled: bool | None


@dataclass(frozen=True, slots=True)
class ExecutionsQuery:
    """A checked list of executions; both bounds are inclusive, `meant` is what the needle means as a status."""

    needle: str
    meant: frozenset[Status]
    limit: int
    offset: int
    order_by: str
    order_desc: bool
    after_us: int | None
    before_us: int | None
    statuses: frozenset[Status] | None
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class StatsQuery:
    """The checked window of `job_stats`; both bounds are inclusive."""

    after_us: int | None
    before_us: int | None


def jobs_query(values: Mapping[str, object]) -> JobsQuery:
    """The query that these keywords of `list_jobs` ask for; a keyword left out has its default.

    >>> jobs_query({"search": " KLINE "}).needle, jobs_query({}).limit
    ('kline', 50)

    Raises:
        InvalidParameter: a value breaks its rule.
    """
    checked = _checked(LIST_JOBS.parameters, values)
    return JobsQuery(needle=checked.pop("search") or "", **checked)


def executions_query(values: Mapping[str, object]) -> ExecutionsQuery:
    """The query that these keywords of `list_job_executions` (or `get_job_executions`) ask for.

    >>> query = executions_query({"search": "Failed", "after": "2026-01-01", "status": ["FAILURE", "TIMEOUT"]})
    >>> query.needle, query.after_us, query.meant <= query.statuses
    ('failed', 1767225600000000, True)

    Raises:
        InvalidParameter: a value breaks its rule, or `after` is later than `before`.
    """
    checked = _checked(LIST_JOB_EXECUTIONS.parameters, values)
    needle = checked["search"] or ""
    return ExecutionsQuery(
        needle,
        statuses_meant(needle),
        checked["limit"],
        checked["offset"],
        checked["order_by"],
        checked["order_desc"],
        *_window(checked),
        checked["status"],
        checked["trace_id"],
    )


def stats_query(values: Mapping[str, object]) -> StatsQuery:
    """The window that these keywords of `job_stats` ask for; `job_id` is not looked at.

    Raises:
        InvalidParameter: a bound is no time, or `after` is later than `before`.
    """
    return StatsQuery(*_window(_checked((_AFTER, _BEFORE), values)))


def job_ref(value: object) -> JobRef:
    """The job that a name or a number names; whether there is one, the store knows.

    >>> job_ref("sync_klines_1h"), job_ref(1) == job_ref("1")
    (JobRef(name='sync_klines_1h', number=None), True)

    Raises:
        InvalidParameter: it could be no job's name: empty, over 200 characters, NUL, not UTF-8.
    """
    name: str = _JOB_ID.check(value, value)
    number = int(name) if name.isascii() and name.isdigit() else None
    return JobRef(name, number if number is not None and number <= LARGEST else None)


def _checked(parameters: Iterable[Parameter], values: Mapping[str, object]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for parameter in parameters:
        default = parameter.default
        value = values.get(parameter.name, default)
        # Most values are the default itself. Identity, not equality: True == 1 and 0 == False.
        checked[parameter.name] = value if value is default else parameter.check(value, value)
    return checked


def _window(checked: Mapping[str, Any]) -> tuple[int | None, int | None]:
    after, before = checked["after"], checked["before"]
    if after is not None and before is not None and after > before:
        raise InvalidParameter(
            f"after must not be later than before; received after={instant_text(after)} "
            f"and before={instant_text(before)}; swap them"
        )
    return after, before


# What a door has.


def from_text(operation: Operation, pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """The keywords that pairs of text ask for: a query string's, a command line's.

    Only what was given is there; the store fills in the defaults.

    >>> from_text(LIST_JOBS, [("limit", "20"), ("enabled", "true"), ("search", "")])
    {'limit': 20, 'enabled': True, 'search': ''}

    Raises:
        InvalidParameter: a name is unknown, comes twice or is missing, or a text breaks its rule.
    """
    known = {parameter.name: parameter for parameter in operation.parameters}
    values: dict[str, object] = {}
    for name, text in pairs:
        if name in values:
            raise InvalidParameter(f"Parameter {name} was given twice; give it once")
        parameter = known.get(name) or _unknown(name, operation)
        values[name] = value = parameter.read(text)
        parameter.check(value, text)
    _require(operation, values)
    return values


def from_json(operation: Operation, values: Mapping[str, object]) -> dict[str, object]:
    """The keywords that a JSON object asks for; null stands for a default of none.

    >>> from_json(LIST_JOBS, {"limit": 20, "enabled": None})
    {'limit': 20, 'enabled': None}

    Raises:
        InvalidParameter: it is no object, a name is unknown or missing, or a value breaks its rule.
    """
    if not isinstance(values, Mapping):
        raise InvalidParameter(f"parameters must be an object; received {shown(values)}")
    known = {parameter.name: parameter for parameter in operation.parameters}
    for name, value in values.items():
        parameter = known.get(name) or _unknown(name, operation)
        if value is not None or parameter.required or parameter.default is not None:
            parameter.check(value, value)
    _require(operation, values)
    return dict(values)


def _unknown(name: object, operation: Operation) -> Parameter:
    """Never returns; typed so that a look-up may end in it."""
    names = tuple(parameter.name for parameter in operation.parameters)
    near = suggestion(name, names) if isinstance(name, str) else None
    meant = f"; did you mean '{near}'?" if near else "."
    raise InvalidParameter(f"Unknown parameter {shown(name)}{meant} Allowed: {', '.join(names)}")


def _require(operation: Operation, values: Mapping[str, object]) -> None:
    for parameter in operation.parameters:
        if parameter.required and parameter.name not in values:
            raise InvalidParameter(f"{parameter.name} is required; give {parameter.name}={parameter.example}")
