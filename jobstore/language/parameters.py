"""The operations of the job API: each defines its parameters, once, and builds a query value from them.

Every interface is built from these tables. It passes its input to the operation (`from_text`, `from_json`; Python
keywords go to `query`) and the resulting query value to the store. So the same input gives the same answer, or the same
error, everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from jobstore.language.buckets import BUCKETS
from jobstore.language.errors import InvalidParameter, shown
from jobstore.language.fields import LABEL_CHARACTERS, NAME_CHARACTERS
from jobstore.language.models import (
    EXECUTION_ORDERS,
    JOB_ORDERS,
    KNOWN_JOB_CATEGORIES,
    KNOWN_JOB_TYPES,
    STATE_ORDERS,
    STATUSES,
)
from jobstore.language.query import (
    ExecutionQuery,
    ExecutionsQuery,
    HistogramQuery,
    JobExecutionsQuery,
    JobQuery,
    JobsQuery,
    JobStatesQuery,
    Query,
    StatsQuery,
)
from jobstore.language.rules import LARGEST, Kind, Parameter, suggestion
from jobstore.language.states import STATES

__all__ = [
    "EXECUTION_HISTOGRAM",
    "GET_EXECUTION",
    "GET_JOB",
    "GET_JOB_EXECUTIONS",
    "JOB_STATS",
    "LIST_JOBS",
    "LIST_JOB_EXECUTIONS",
    "LIST_JOB_STATES",
    "OPERATIONS",
    "Kind",
    "Operation",
    "Parameter",
    "operation_of",
]

LARGEST_LIMIT: Final = 1000

Q = TypeVar("Q", bound=Query)


@dataclass(frozen=True)
class Operation(Generic[Q]):
    """One query of the API: its name, its purpose, its parameters in signature order, and its class of query values."""

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    query_class: type[Q]
    # Made at once: `cached_property` of Python 3.11 holds a lock, which a fork would leave locked in the child.
    _by_name: dict[str, Parameter] = field(init=False, repr=False, compare=False)
    _defaults: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {parameter.name: parameter for parameter in self.parameters})
        object.__setattr__(self, "_defaults", {parameter.field: parameter.filled for parameter in self.parameters})

    def query(self, values: Mapping[str, object]) -> Q:
        """Build the query from Python keywords; an omitted keyword has its default.

        >>> query = LIST_JOBS.query({"search": " KLINE "})
        >>> query.needle, query.limit
        ('kline', 50)

        Raises:
            InvalidParameter: a name is unknown or missing, a value breaks its rule, or `after` is later than `before`.
        """
        return self._built(values, values)

    def from_text(self, pairs: Iterable[tuple[str, str]]) -> Q:
        """Build the query from pairs of text, as in a query string or a command line.

        A list may be one text with commas, a JSON list, or a repeated name.

        >>> query = LIST_JOBS.from_text([("limit", "20"), ("enabled", "True"), ("search", "")])
        >>> query.limit, query.enabled, query.needle
        (20, True, '')

        Raises:
            InvalidParameter: as for `query`, or a name that takes one value is given twice.
        """
        texts: dict[str, str] = {}
        for name, text in pairs:
            texts[name] = self._joined(name, texts[name], text) if name in texts else text
        return self._built({name: self._parameter(name).read(text) for name, text in texts.items()}, texts)

    def from_json(self, values: object) -> Q:
        """Build the query from a JSON object; null is accepted where it is the default.

        >>> LIST_JOBS.from_json({"limit": 20, "enabled": None}) == LIST_JOBS.query({"limit": 20})
        True

        Raises:
            InvalidParameter: as for `query`, or the value is not an object.
        """
        if not isinstance(values, Mapping):
            raise InvalidParameter(f"parameters must be an object; received {shown(values)}")
        return self._built({name: self._parameter(name).read_json(value) for name, value in values.items()}, values)

    def to_text(self, query: Q) -> dict[str, str]:
        """The pairs of text that `from_text` turns into this query, without those that equal a default.

        >>> LIST_JOBS.to_text(LIST_JOBS.query({"limit": 20, "enabled": True}))
        {'limit': '20', 'enabled': 'true'}
        """
        values = {parameter: getattr(query, parameter.field) for parameter in self.parameters}
        return {
            parameter.name: parameter.write(value)
            for parameter, value in values.items()
            if parameter.required or value != parameter.filled
        }

    def json_schema(self) -> dict[str, object]:
        """JSON Schema 2020-12 of an object with these parameters and no others."""
        return {
            "type": "object",
            "properties": {parameter.name: parameter.json_schema() for parameter in self.parameters},
            "required": [parameter.name for parameter in self.parameters if parameter.required],
            "additionalProperties": False,
        }

    def _built(self, values: Mapping[str, object], came: Mapping[str, object]) -> Q:
        """Build a query, the one place that does. `came` holds the values as received, for error messages."""
        fields = dict(self._defaults)
        for name, value in values.items():
            parameter = self._parameter(name)
            # Most values are the default itself: skip them. Identity, not equality: True == 1 and 0 == False.
            if value is not parameter.default or parameter.required:
                fields[parameter.field] = parameter.check(value, came[name])
        for parameter in self.parameters:
            if parameter.required and parameter.name not in values:
                raise InvalidParameter(f"{parameter.name} is required; give {parameter.name}={parameter.example}")
        return self.query_class(**fields)

    def _joined(self, name: str, before: str, text: str) -> str:
        if self._parameter(name).kind is not Kind.CHOICES:
            raise InvalidParameter(f"Parameter {name} was given twice; give it once")
        return f"{before},{text}"

    def _parameter(self, name: object) -> Parameter:
        parameter = self._by_name.get(name) if isinstance(name, str) else None
        if parameter is None:
            names = tuple(self._by_name)
            near = suggestion(name, names) if isinstance(name, str) else None
            meant = f"; did you mean '{near}'?" if near else "."
            raise InvalidParameter(f"Unknown parameter {shown(name)}{meant} Allowed: {', '.join(names)}")
        return parameter


# The tables. The job API's parameters come first, in its order; ours follow.

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
    "The number of records per page, 1 to 1000. To count, ask for limit=1 and read pagination.total.",
    default=50,
    minimum=1,
    maximum=LARGEST_LIMIT,
    example=20,
)
_OFFSET = Parameter(
    "offset",
    Kind.INTEGER,
    "The number of records to skip. While pagination.has_next is true, the next page is at offset + limit.",
    default=0,
    minimum=0,
    maximum=LARGEST,
    example=50,
)


def _search(where: str, example: str) -> Parameter:
    return Parameter(
        "search",
        Kind.TERM,
        f"{where} At most 200 characters; case and width are ignored; there are no wildcards; blank means no search.",
        example=example,
    )


def _exact(name: str, description: str, maximum: int, example: str) -> Parameter:
    return Parameter(name, Kind.TEXT, description, minimum=1, maximum=maximum, example=example)


_JOB_KINDS = (
    _exact(
        "job_type",
        f"Only jobs of exactly this type (case-sensitive): {', '.join(KNOWN_JOB_TYPES)}, or one of your own.",
        NAME_CHARACTERS,
        "kline",
    ),
    _exact(
        "job_category",
        f"Only jobs of exactly this category (case-sensitive): {', '.join(KNOWN_JOB_CATEGORIES)}, or one of your own.",
        NAME_CHARACTERS,
        "sync",
    ),
)

LIST_JOBS: Final = Operation(
    "list_jobs",
    "List the scheduled jobs with their schedule, latest start and next run. Each page has the exact total.",
    (
        _search("Part of the job's name, type or category.", "kline"),
        _LIMIT,
        _OFFSET,
        Parameter(
            "order_by",
            Kind.CHOICE,
            "The field to sort by; ties are sorted by the job's number, and nulls come last.",
            default="name",
            choices=JOB_ORDERS,
            example="next_run_at",
        ),
        Parameter("order_desc", Kind.FLAG, "Sort in descending order (largest first).", default=False, example=True),
        *_JOB_KINDS,
        Parameter("enabled", Kind.FLAG, "Only jobs that are enabled (true) or disabled (false).", example=True),
    ),
    JobsQuery,
)

GET_JOB: Final = Operation("get_job", "Get one job by its name or number.", (_JOB_ID,), JobQuery)

_AFTER = Parameter(
    "after",
    Kind.INSTANT,
    "Only executions that started (if waiting: were created) at this time or later. "
    "RFC 3339, or a date, which means its 00:00 UTC.",
    example="2026-01-01T00:00:00Z",
)
_BEFORE = Parameter(
    "before",
    Kind.INSTANT,
    "Only executions that started (if waiting: were created) at this time or earlier. "
    "RFC 3339, or a date, which means its 00:00 UTC, so before=2026-01-15 excludes that day.",
    example="2026-01-15T00:00:00Z",
)
_STATUS = Parameter(
    "status",
    Kind.CHOICES,
    "Only executions with one of these statuses. For what went wrong, use FAILURE and TIMEOUT. "
    "Prefer it to search: it is exact.",
    choices=STATUSES,
    example="FAILURE",
)
_EXECUTION_TAIL = (
    _LIMIT,
    _OFFSET,
    Parameter(
        "order_by",
        Kind.CHOICE,
        "The field to sort by. started_at sorts a waiting execution by its creation; "
        "ties are sorted by id, and nulls come last.",
        default="started_at",
        choices=EXECUTION_ORDERS,
        example="duration_ms",
    ),
    Parameter(
        "order_desc", Kind.FLAG, "Sort in descending order (newest or largest first).",
        default=True, example=False,
    ),
    _BEFORE,
    _AFTER,
    _STATUS,
    _exact("trace_id", "Only executions with this trace id (case-sensitive).", LABEL_CHARACTERS, "abc123def456"),
)  # fmt: skip

LIST_JOB_EXECUTIONS: Final = Operation(
    "list_job_executions",
    "List the executions of all jobs, newest first, with their times, result and error. Each page has the exact total.",
    (
        _search("Part of the job's name at that time, or a word for a status (failed, timed out, 失败).", "failed"),
        *_EXECUTION_TAIL,
    ),
    ExecutionsQuery,
)
GET_JOB_EXECUTIONS: Final = Operation(
    "get_job_executions",
    "List the executions of one job, newest first. Each page has the exact total.",
    (
        _JOB_ID,
        _search("A word for a status (failed, timed out, 失败) or a part of its name.", "failed"),
        *_EXECUTION_TAIL,
    ),
    JobExecutionsQuery,
)
JOB_STATS: Final = Operation(
    "job_stats",
    "Count executions by status, with success rate and durations, of one job or of all, in a window or over all time. "
    "Exact and fast: use it instead of adding up pages.",
    (
        Parameter("job_id", Kind.JOB_REF, "The job's name or number; all jobs without it.", example="sync_klines_1h"),
        _BEFORE,
        _AFTER,
    ),
    StatsQuery,
)

GET_EXECUTION: Final = Operation(
    "get_execution",
    "Get one execution by its id.",
    (
        Parameter(
            "execution_id",
            Kind.EXECUTION_REF,
            "The execution's id, as in the field `id` of an execution.",
            required=True,
            example="12345",
        ),
    ),
    ExecutionQuery,
)

LIST_JOB_STATES: Final = Operation(
    "list_job_states",
    "List the jobs with their state (lost, late, failing, running, waiting, new, ok, disabled), most urgent first, "
    "with their newest runs, success rate and durations, and count the jobs in each state. "
    "Each page has the exact total.",
    (
        _search("Part of the job's name, type or category.", "kline"),
        _LIMIT,
        _OFFSET,
        Parameter(
            "order_by",
            Kind.CHOICE,
            "The field to sort by. attention puts the most urgent state first, and within a state the oldest; "
            "otherwise ties are sorted by the job's number, and nulls come last.",
            default="attention",
            choices=STATE_ORDERS,
            example="name",
        ),
        Parameter("order_desc", Kind.FLAG, "Reverse the order.", default=False, example=True),
        Parameter(
            "state",
            Kind.CHOICES,
            "Only jobs in one of these states. For jobs that need attention, use lost, late and failing.",
            choices=STATES,
            example="failing",
        ),
        *_JOB_KINDS,
        Parameter(
            "lang",
            Kind.CHOICE,
            "The language of schedule_text: English or Chinese.",
            default="en",
            choices=("en", "zh"),
            example="zh",
        ),
    ),
    JobStatesQuery,
)

EXECUTION_HISTOGRAM: Final = Operation(
    "execution_histogram",
    "Count executions by hour or by day and by status, of one job or of all, empty hours and days included. "
    "Exact and fast: use it instead of adding up pages.",
    (
        Parameter("job_id", Kind.JOB_REF, "The job's name or number; all jobs without it.", example="sync_klines_1h"),
        _search(
            "Part of the job's name at the time of the run, or a word for a status (failed, 失败); "
            "with a job, a word for a status.",
            "failed",
        ),
        _STATUS,
        _BEFORE,
        _AFTER,
        Parameter(
            "bucket",
            Kind.CHOICE,
            "Count by hour (1h) or by day (1d); auto counts by hour if 400 buckets are enough, else by day. "
            "More than 400 buckets are refused.",
            default="auto",
            choices=BUCKETS,
            example="1d",
        ),
        Parameter(
            "timezone",
            Kind.TIMEZONE,
            "The IANA time zone in which the days and hours begin.",
            default="UTC",
            example="Asia/Shanghai",
        ),
    ),
    HistogramQuery,
)

OPERATIONS: Final[Mapping[str, Operation[Any]]] = {
    operation.name: operation
    for operation in (
        LIST_JOBS,
        GET_JOB,
        LIST_JOB_EXECUTIONS,
        GET_JOB_EXECUTIONS,
        JOB_STATS,
        GET_EXECUTION,
        LIST_JOB_STATES,
        EXECUTION_HISTOGRAM,
    )
}
_OF_QUERY: Final = {operation.query_class: operation for operation in OPERATIONS.values()}


def operation_of(query: Query) -> Operation[Any]:
    """The operation that a query value belongs to."""
    return _OF_QUERY[type(query)]
