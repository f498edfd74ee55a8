"""The OpenAPI 3.1 document of the HTTP API, generated from the routes, the parameter tables and the models.

Parameters arrive as text, so their schemas describe exactly the text that `jobstore.language.parameters` accepts;
a generated client or a fuzzer should find no difference.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

import jobstore
from jobstore.http.routes import DOCUMENT, HEALTH, METRICS, ROUTES, Route
from jobstore.http.tokens import READ_JOBS
from jobstore.language.errors import (
    Forbidden,
    InternalError,
    InvalidParameter,
    JobStoreError,
    MethodNotAllowed,
    NotFound,
    ResponseTooLarge,
    StoreError,
    Unauthorized,
)
from jobstore.language.parameters import Kind, Parameter
from jobstore.language.schemas import (
    Error,
    Execution,
    ExecutionPage,
    Histogram,
    Job,
    JobPage,
    JobStatePage,
    Stats,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


Json = dict[str, Any]

_MODELS: Final = (Job, JobPage, Execution, ExecutionPage, Stats, JobStatePage, Histogram, Error)
_PERMISSION_LINE: Final = f"A token needs the permission `{READ_JOBS}`.\n"
_DESCRIPTION: Final = f"""\
Read-only access to scheduled jobs and their execution history.

Every path also answers HEAD and OPTIONS; any other method is 405. Every answer carries `X-Request-Id`.
A 200 carries a strong `ETag`; asked again with `If-None-Match`, an unchanged answer is a 304 without a body.
Pages link to each other in `Link`. Bodies are compressed where `Accept-Encoding` allows gzip.
Parameters are checked strictly: one that is unknown, given twice or out of range is a 400, never ignored or clamped.
{_PERMISSION_LINE}"""


def document(server_url: str = "/", *, is_open: bool = False) -> Json:
    """Return the OpenAPI document as a new JSON-ready dict.

    Args:
        server_url: where the API is mounted, relative to the document or absolute.
        is_open: leave out everything about tokens.

    >>> sorted(document()["paths"])[:2]
    ['/api/v1/executions/{execution_id}', '/api/v1/histogram']
    """
    made = deepcopy(_document(server_url))
    return _without_tokens(made) if is_open else made


def _without_tokens(made: Json) -> Json:
    """Remove what only a server with tokens has: the security scheme, 401 and 403."""
    del made["security"], made["components"]["securitySchemes"], made["components"]["headers"]["WWW-Authenticate"]
    made["info"]["description"] = made["info"]["description"].replace(_PERMISSION_LINE, "")
    for each in ("Unauthorized", "Forbidden"):
        del made["components"]["responses"][each]
    for path in made["paths"].values():
        path["get"].pop("security", None)
        path["get"]["responses"] = {
            status: response for status, response in path["get"]["responses"].items() if status not in {"401", "403"}
        }
        if "description" in path["get"]:
            path["get"]["description"] = path["get"]["description"].partition("Permission: ")[0].strip()
    return made


def _document(server_url: str) -> Json:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobstore",
            "version": jobstore.__version__,
            "summary": "Scheduled jobs and their execution history",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server_url}],
        "security": [{"bearer": []}],
        "tags": [
            {"name": "jobs", "description": "What runs, when, and what ran."},
            {"name": "service", "description": "About the service itself."},
        ],
        "paths": {route.template: {"get": _operation(route)} for route in ROUTES} | _service_paths(),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"A token with the permission {READ_JOBS}; `jobstore token create` makes one.",
                }
            },
            "headers": _HEADERS,
            "responses": dict(_faults()),
            "schemas": _schemas(),
        },
    }


# Operations ----------------------------------------------------------------------------------------


def _operation(route: Route) -> Json:
    summary, _, more = route.operation.summary.partition(". ")
    return {
        "operationId": route.operation.name,
        "tags": ["jobs"],
        "summary": summary.removesuffix("."),
        "description": f"{route.operation.summary} Permission: `{READ_JOBS}`."
        if more
        else f"Permission: `{READ_JOBS}`.",
        "parameters": [_parameter(each, route) for each in route.operation.parameters],
        "responses": {"200": _answer(route), "304": _NOT_MODIFIED} | _fault_references(route),
    }


def _answer(route: Route) -> Json:
    headers = {"ETag": _header("ETag"), "X-Request-Id": _header("X-Request-Id")}
    if route.answer.endswith("Page"):
        headers["Link"] = _header("Link")
    return {
        "description": "The requested answer.",
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{route.answer}"}}},
    }


def _fault_references(route: Route) -> Json:
    names = {"400": "InvalidParameter", "401": "Unauthorized", "403": "Forbidden"}
    if any(each.kind in {Kind.JOB_REF, Kind.EXECUTION_REF} for each in route.operation.parameters):
        names["404"] = "NotFound"
    names |= {"413": "ResponseTooLarge", "500": "InternalError", "503": "StoreError"}
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in names.items()}


def _service_paths() -> Json:
    health: Json = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
    return {
        HEALTH: {"get": _service("health", "Whether the store can be read now", health, "503")},
        DOCUMENT: {"get": _service("openapi", "This document", {"type": "object"})},
        METRICS: {"get": _metrics()},
    }


def _metrics() -> Json:
    """Like the other service paths, but plain text, and a token is needed."""
    made = _service("metrics", "The numbers in Prometheus' text format", {"type": "string"}, "503")
    del made["security"]
    made["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    for status, fault in (("401", "Unauthorized"), ("403", "Forbidden")):
        made["responses"][status] = {"$ref": f"#/components/responses/{fault}"}
    return {**made, "description": f"Permission: `{READ_JOBS}`."}


def _service(name: str, summary: str, schema: Json, *more: str) -> Json:
    faults = {"500": "InternalError"} | ({"503": "StoreError"} if "503" in more else {})
    return {
        "operationId": name,
        "tags": ["service"],
        "summary": summary,
        "security": [],
        "responses": {
            "200": {
                "description": "The requested answer.",
                "headers": {"ETag": _header("ETag"), "X-Request-Id": _header("X-Request-Id")},
                "content": {"application/json": {"schema": schema}},
            },
            "304": _NOT_MODIFIED,
        }
        | {status: {"$ref": f"#/components/responses/{fault}"} for status, fault in faults.items()},
    }


# Parameters, as text -------------------------------------------------------------------------------


def _parameter(parameter: Parameter, route: Route) -> Json:
    in_path = parameter.name in route.path_parameters
    made: Json = {
        "name": parameter.name,
        "in": "path" if in_path else "query",
        "required": parameter.required,
        "description": parameter.description,
        "schema": _schema(parameter, in_path=in_path),
        "example": [parameter.example] if parameter.kind is Kind.CHOICES else parameter.example,
    }
    if parameter.kind is Kind.CHOICES:
        made |= {"style": "form", "explode": False}
    return made


def _schema(parameter: Parameter, *, in_path: bool) -> Json:
    if in_path:
        return _IN_PATH[parameter.kind]
    schema = _TEXT_SCHEMAS.get(parameter.kind) or parameter.json_schema()
    if parameter.kind is Kind.CHOICES:
        # Python also accepts a single word; as text, that is a list of one.
        words = {"$ref": f"#/components/schemas/{parameter.name.title()}"}
        schema = {"type": "array", "minItems": 1, "items": words}
    told = {name: rule for name, rule in schema.items() if name not in {"description", "examples"}}
    return told if parameter.default is None else {**told, "default": parameter.default}


_JOB_IN_QUERY: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[^\\x00]+$"}
_JOB_IN_PATH: Final[Json] = {**_JOB_IN_QUERY, "pattern": "^[^\\x00/]+$"}
"""A path segment cannot hold a slash, and no job name has one."""

_LEAP_YEAR = "[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00"
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DAY = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:{_LEAP_YEAR})-02-29)"
)
_HOUR, _MINUTE = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_CLOCK = f"[T ]{_HOUR}:{_MINUTE}(?::{_MINUTE}(?:\\.[0-9]{{1,9}})?)?(?:Z|[+ -]{_HOUR}:{_MINUTE})?"
INSTANT_PATTERN: Final = f"^{_DAY}(?:{_CLOCK})?$"
"""The text of a time. One rule no pattern can express: in UTC, it must be in the years 1 to 9999."""

_IN_PATH: Final = {
    Kind.JOB_REF: _JOB_IN_PATH,
    # One digit more than the largest id, so that a fuzzer also tries numbers that are too large.
    Kind.EXECUTION_REF: {"type": "string", "pattern": "^[0-9]{1,20}$"},
}
_TEXT_SCHEMAS: Final[Mapping[Kind, Json]] = {
    Kind.JOB_REF: _JOB_IN_QUERY,
    Kind.INSTANT: {"type": "string", "pattern": INSTANT_PATTERN},
}


# Headers, faults and schemas -----------------------------------------------------------------------

_HEADERS: Final[Json] = {
    "ETag": {"description": "Strong; differs between the plain and the gzip form.", "schema": {"type": "string"}},
    "Link": {
        "description": "The pages `next`, `prev`, `first` and `last` (RFC 8288); not on a single page.",
        "schema": {"type": "string"},
    },
    "X-Request-Id": {"description": "Also in the server's log.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "The challenge of RFC 6750.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds to wait while another process keeps the store busy.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "Allow": {"description": "The allowed methods.", "schema": {"type": "string"}},
}
_NOT_MODIFIED: Final[Json] = {
    "description": "Unchanged since the answer with the ETag in `If-None-Match`.",
    "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
}


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def _faults() -> Iterable[tuple[str, Json]]:
    told = (
        (
            InvalidParameter,
            "A parameter breaks its rule.",
            "limit must be an integer from 1 to 1000; received '1001'",
            (),
        ),
        (Unauthorized, "No bearer token, or a bad one.", "A bearer token is required", ("WWW-Authenticate",)),
        (
            Forbidden,
            "The token lacks the permission.",
            f"The token lacks the permission {READ_JOBS}",
            ("WWW-Authenticate",),
        ),
        (NotFound, "There is no such job or execution.", "Job not found: invalid_job_name", ()),
        (MethodNotAllowed, "The method would write.", "POST is not allowed here; this API is read-only", ("Allow",)),
        (
            ResponseTooLarge,
            "The answer is larger than the server's bound.",
            "The page would be 66 MB; the bound is 32 MB. Use limit=100 or less",
            (),
        ),
        (InternalError, "A bug in the server.", "Internal error; the log has it under request id 5f1c", ()),
        (StoreError, "The store cannot be read now.", "The job store is unavailable", ("Retry-After",)),
    )
    for error, description, message, headers in told:
        yield error.__name__, _fault(error, description, message, headers)


def _fault(error: type[JobStoreError], description: str, message: str, headers: Iterable[str]) -> Json:
    return {
        "description": description,
        "headers": {name: _header(name) for name in ("X-Request-Id", *headers)},
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Error"},
                "example": {"error": {"code": error.code, "message": message}},
            }
        },
    }


class _Plain(GenerateJsonSchema):
    """A generator that keeps the models' order and omits field titles, which only repeat the names."""

    def sort(self, value: Any, parent_key: str | None = None) -> Any:  # noqa: ARG002 - pydantic's own signature
        return value

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's own signature
        return False


def _schemas() -> Json:
    _, made = models_json_schema(
        [(model, "serialization") for model in _MODELS],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Plain,
    )
    return {name: _told_once(schema) for name, schema in made["$defs"].items()}


def _told_once(schema: Json) -> Json:
    """Keep the first paragraph of the model's docstring; the rest is for readers of Python."""
    return {**schema, "description": schema["description"].partition("\n\n")[0]} if "description" in schema else schema
