"""Errors as the job API's envelope, ``{"error": {"code", "message"}}``, the only form an error takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import falcon
import orjson

from jobstore.http.gate import challenge
from jobstore.http.hosts import WrongHost
from jobstore.http.journal import log, write_defect
from jobstore.http.routes import ROUTES
from jobstore.language.errors import (
    Forbidden,
    InternalError,
    JobStoreError,
    MethodNotAllowed,
    NotFound,
    StoreBusy,
    StoreError,
    Unauthorized,
    shown,
)

if TYPE_CHECKING:
    from jobstore.http.request import ApiRequest

RETRY_AFTER_SECONDS: Final = 1
_VERB = re.compile(r"[A-Za-z-]{1,20}", re.ASCII)
_UNKNOWN_PATH: Final = f"There is nothing at this path; the API has {', '.join(each.template for each in ROUTES)}"


def handle(app: falcon.App[ApiRequest, falcon.Response]) -> None:
    """Make every error of the app answer with the envelope."""
    app.add_error_handler(Exception, _defect)
    app.add_error_handler(JobStoreError, _error)
    app.add_error_handler(InternalError, _defect)
    app.add_error_handler(falcon.HTTPError, _defect)
    app.add_error_handler(WrongHost, _wrong_host)
    app.add_error_handler(falcon.HTTPNotFound, _unknown_path)
    app.add_error_handler(falcon.HTTPMethodNotAllowed, _method)


def _error(request: ApiRequest, response: falcon.Response, error: JobStoreError, _params: object) -> None:
    message = error.message
    if isinstance(error, StoreError):
        log.warning("%s %s %s", request.request_id, error.code, message)
        message = _store_message(response, error)
    elif isinstance(error, Unauthorized | Forbidden):
        response.set_header("WWW-Authenticate", challenge(error, request.env))
    _envelope(response, error, message)


def _store_message(response: falcon.Response, error: StoreError) -> str:
    """Return a message safe to send: the error's own message names the file."""
    if not isinstance(error, StoreBusy):
        return "The job store is unavailable"
    response.set_header("Retry-After", str(RETRY_AFTER_SECONDS))
    return "The job store is busy; try again in a moment"


def _unknown_path(_request: ApiRequest, response: falcon.Response, _error: object, _params: object) -> None:
    _envelope(response, NotFound(), _UNKNOWN_PATH)


def _wrong_host(_request: ApiRequest, response: falcon.Response, error: WrongHost, _params: object) -> None:
    message = (
        f"This server does not answer to the host name {shown(str(error))}; "
        "start it with --host-name NAME, or name it in create_app(host_names=...)"
    )
    _envelope(response, Forbidden(), message)


def _method(
    request: ApiRequest, response: falcon.Response, error: falcon.HTTPMethodNotAllowed, _params: object
) -> None:
    verb = request.verb if _VERB.fullmatch(request.verb) else "This method"
    allowed = dict(error.headers or ())["Allow"]  # of the page's forms, which take POST, another one
    why = f"use {allowed}" if "POST" in allowed else "this API is read-only"
    response.set_header("Allow", allowed)
    _envelope(response, MethodNotAllowed(), f"{verb} is not allowed here; {why}")


def _defect(request: ApiRequest, response: falcon.Response, error: Exception, _params: Any) -> None:
    write_defect(request, error)
    _envelope(response, InternalError(), f"Internal error; the log has it under request id {request.request_id}")


def _envelope(response: falcon.Response, error: JobStoreError, message: str) -> None:
    response.status = falcon.code_to_http_status(error.http_status)
    response.context.error = (error, message)  # for `Frontier`, which shows a browser a page instead
    response.data = envelope(error.code, message)


def envelope(code: str, message: str) -> bytes:
    """The body of an error."""
    return orjson.dumps({"error": {"code": code, "message": message}})
