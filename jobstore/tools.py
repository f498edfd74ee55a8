"""The queries as tools for language models: `definitions`, and `call`.

The job API names a tool for each query and shows the envelope of a call ("AI Tool 调用示例")::

    {"tool": "datahub_list_jobs", "parameters": {"search": "kline", "limit": 20}}

Definitions are built from the parameter tables, in the shapes that the common model APIs accept. Calls are checked
against the same tables, so a model reads exactly the rules that apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from jobstore.language import parameters as params
from jobstore.language.errors import InvalidParameter, shown
from jobstore.language.rules import suggestion

if TYPE_CHECKING:
    from jobstore.queries import Queries

__all__ = ["STYLES", "TOOLS", "Tool", "call", "definitions"]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: the job API's name for a query, and advice for the model that calls it."""

    name: str
    title: str
    operation: params.Operation[Any]
    advice: str

    @property
    def description(self) -> str:
        """The text for the model: the query's summary, then the advice."""
        return f"{self.operation.summary} {self.advice}"


# Advice on what models get wrong otherwise, each written once.
_PAGES = (
    'Returns {"data": [...], "pagination": {"page", "page_size", "total", "total_pages", "has_next", "has_prev"}}. '
    "Ask for small pages (limit=20, say). While pagination.has_next is true, the next page is the same call "
    "with offset = offset + limit; pagination.total is exact, so do not fetch pages only to count."
)
_TIMES = "All times are in UTC, as RFC 3339."
_NEWEST = (
    "The first record is the latest, so for the last run ask for limit=1. To select outcomes use status "
    '(FAILURE and TIMEOUT are what went wrong: status=["FAILURE", "TIMEOUT"]) rather than search; '
    "limit the window with after and before. The reason of a failure is in error, its log key in trace_id. "
    "duration_ms is in milliseconds and null while the run is not finished."
)
_JOBS = (
    "Sorted by name unless order_by says otherwise (order_by=next_run_at: what runs soonest). "
    "next_run_at is computed at the moment of the call, null when nothing is due (switched off, for example); "
    "last_run_at is the latest start, whatever came of it: outcomes are in the executions."
)

_TABLE: Final = (
    Tool("datahub_list_jobs", "List scheduled jobs", params.LIST_JOBS, f"{_JOBS} {_PAGES} {_TIMES}"),
    Tool(
        "datahub_get_job",
        "Get one scheduled job",
        params.GET_JOB,
        "Returns its schedule, parameters, last_run_at and next_run_at (computed at the moment of the call). "
        "If the name is not known exactly, find it with datahub_list_jobs and search. "
        f"A wrong name is the error NOT_FOUND. {_TIMES}",
    ),
    Tool(
        "datahub_list_job_executions",
        "List executions of all jobs",
        params.LIST_JOB_EXECUTIONS,
        f"{_NEWEST} {_PAGES} {_TIMES}",
    ),
    Tool(
        "datahub_get_job_executions",
        "List executions of one job",
        params.GET_JOB_EXECUTIONS,
        f"{_NEWEST} {_PAGES} {_TIMES}",
    ),
    Tool(
        "datahub_get_job_stats",
        "Count outcomes and durations",
        params.JOB_STATS,
        'Use it for "how often", "how long" and "how reliable". Returns runs, by_status, never_started (missed, '
        "refused or revoked runs), success_rate (0 to 1, over runs that started and finished), "
        "duration_ms (average, p50, p95, max), last_success_at and last_failure_at; "
        f"null where there are no runs to tell from. {_TIMES}",
    ),
    Tool(
        "datahub_get_execution",
        "Get one execution",
        params.GET_EXECUTION,
        "Returns all of it: status, times, the whole error, result, parameters_snapshot and trace_id. "
        f"A wrong id is the error NOT_FOUND. {_TIMES}",
    ),
    Tool(
        "datahub_list_job_states",
        "List which jobs are in trouble",
        params.LIST_JOB_STATES,
        'Use it first for "is anything wrong": "states" counts the jobs in each state, and '
        'state=["lost", "late", "failing"] lists those that need attention. since says since when a job is in its '
        "state (for late, when it should have run), failures_in_a_row how often it failed, last is its newest "
        "execution with the error. success_rate, p50_ms and p95_ms are over its newest 100 finished executions. "
        f"{_PAGES} {_TIMES}",
    ),
    Tool(
        "datahub_get_execution_histogram",
        "Count executions over time",
        params.EXECUTION_HISTOGRAM,
        'Use it for "when" and "since when": buckets by hour or day with runs and by_status. Give after and before; '
        "start_at is the beginning of a bucket in UTC, and days begin at midnight of timezone.",
    ),
)

TOOLS: Final[Mapping[str, Tool]] = MappingProxyType({tool.name: tool for tool in _TABLE})
"""The tools by name, in the order of their listing."""


def call(store: Queries, envelope: Mapping[str, object]) -> dict[str, Any]:
    """Answer a tool call with a document, the same as the store's method returns.

    The envelope has `tool` and, if there are any, `parameters`: an object of JSON values. Types are strict: text, a
    boolean or a float is not accepted as an integer. Null is accepted for a parameter whose default is no filter.

    Raises:
        InvalidParameter: the envelope is malformed, the tool unknown, or a parameter breaks its rule.
        NotFound: there is no such job.
        StoreError: the store cannot be read.
    """
    tool, values = _opened(envelope)
    document: dict[str, Any] = store.answer(tool.operation.from_json(values))
    return document


_ENVELOPE = ("tool", "parameters")


def _opened(envelope: object) -> tuple[Tool, object]:
    if not isinstance(envelope, Mapping):
        raise InvalidParameter(f"A tool call must be an object with tool and parameters; received {shown(envelope)}")
    for key in envelope:
        if key not in _ENVELOPE:
            raise InvalidParameter(f"Unknown key {shown(key)} in a tool call{_meant(key, _ENVELOPE)}")
    return _named(envelope.get("tool")), envelope.get("parameters", {})


def _named(name: object) -> Tool:
    tool = TOOLS.get(name) if isinstance(name, str) else None
    if tool is None:
        raise InvalidParameter(f"Unknown tool {shown(name)}{_meant(name, tuple(TOOLS))}")
    return tool


def _meant(word: object, known: tuple[str, ...]) -> str:
    near = suggestion(word, known) if isinstance(word, str) else None
    meant = f"; did you mean '{near}'?" if near else "."
    return f"{meant} Allowed: {', '.join(known)}"


# Definitions. Validators get the full JSON Schema; a model's API gets the part that a model can use.


def definitions(style: str = "jsonschema") -> list[dict[str, Any]]:
    """The definitions of the tools, each a new object that the caller may change.

    Styles: `jsonschema` (name, description, parameters with every rule), `anthropic` (Messages API), `openai` (Chat
    Completions, and the many servers that accept its shape), `openai-responses` and `mcp`.

    Examples:
        >>> [tool["name"] for tool in definitions()][:2]
        ['datahub_list_jobs', 'datahub_get_job']
        >>> definitions("anthropic")[1]["input_schema"]["required"]
        ['job_id']

    Raises:
        InvalidParameter: the style is not one of these.
    """
    shape = _SHAPES.get(style) if isinstance(style, str) else None
    if shape is None:
        raise InvalidParameter(f"Unknown style {shown(style)}{_meant(style, STYLES)}")
    return [shape(tool) for tool in _TABLE]


Schema = dict[str, Any]


def _json_schema(tool: Tool) -> Schema:
    return {"name": tool.name, "description": tool.description, "parameters": tool.operation.json_schema()}


def _anthropic(tool: Tool) -> Schema:
    return {"name": tool.name, "description": tool.description, "input_schema": _brief(tool)}


def _mcp(tool: Tool) -> Schema:
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": _brief(tool),
        "annotations": {
            "title": tool.title,
            "readOnlyHint": True,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        },
    }


def _openai(tool: Tool) -> Schema:
    return {"type": "function", "function": _function(tool)}


def _responses(tool: Tool) -> Schema:
    # Without `strict`, that API would rewrite the schema to require every parameter.
    return {"type": "function", **_function(tool), "strict": False}


def _function(tool: Tool) -> Schema:
    return {"name": tool.name, "description": tool.description, "parameters": _brief(tool)}


def _brief(tool: Tool) -> Schema:
    """The schema without regular expressions, which cost a model tokens and do not help it."""
    schema: Schema = _without_patterns(tool.operation.json_schema())
    if not schema["required"]:
        del schema["required"]
    return schema


def _without_patterns(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_patterns(value) for key, value in node.items() if key != "pattern"}
    return [_without_patterns(value) for value in node] if isinstance(node, list) else node


_SHAPES: Final[Mapping[str, Callable[[Tool], Schema]]] = {
    "jsonschema": _json_schema,
    "anthropic": _anthropic,
    "openai": _openai,
    "openai-responses": _responses,
    "mcp": _mcp,
}
STYLES: Final = tuple(_SHAPES)
"""The styles that `definitions` accepts."""
