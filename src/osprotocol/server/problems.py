"""Errors as answers: ``application/problem+json`` with the error's stable code (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from osprotocol._json import path_of
from osprotocol.errors import InvalidValueError, NotSignedInError, OSProtocolError, TooManyRequestsError, UsageError
from osprotocol.protocol.http import Problem
from osprotocol.server.redaction import redact_json

MEDIA_TYPE = "application/problem+json"
SIGN_IN = "/sign-in"
_MACHINE_PATHS = ("/api/", "/healthz", "/readyz", "/metrics", "/static/")
_UNEXPECTED = "unexpected"

_log = logging.getLogger("osprotocol.server")


def problem_of(error: OSProtocolError) -> Problem:
    """The wire form of an error; a client makes the same error of it again."""
    return Problem(
        type=f"urn:osprotocol:error:{error.code}",
        title=(type(error).__doc__ or error.code).splitlines()[0],
        status=error.http_status,
        detail=str(error),
        code=error.code,
        facts=tuple(error.args),
        errors=tuple(getattr(error, "problems", ())),
    )


def answer_of(error: OSProtocolError) -> Response:
    """An error as an HTTP answer."""
    headers: dict[str, str] = {}
    if isinstance(error, TooManyRequestsError):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, NotSignedInError):
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(problem_of(error), headers)


def http_problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer for what HTTP itself refuses: no such path, no such method."""
    title = HTTPStatus(status).phrase
    code = title.lower().replace(" ", "-").replace("'", "")
    problem = Problem(type=f"urn:osprotocol:error:{code}", title=title, status=status, detail=detail, code=code)
    return _answer(problem, dict(headers or {}))


def _answer(problem: Problem, headers: Mapping[str, str]) -> Response:
    # An error's text may quote what a run was given.
    body = redact_json(to_json(problem.model_dump(mode="python", by_alias=True), serialize_unknown=True), fully=False)
    return Response(body, problem.status, {**headers, "Cache-Control": "no-store"}, MEDIA_TYPE)


def is_page(request: Request) -> bool:
    """Whether a person's browser asks for a page, and not a program or a page's script."""
    return not request.url.path.startswith(_MACHINE_PATHS)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSProtocolError)
    if isinstance(error, NotSignedInError) and is_page(request):
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        there = f"{SIGN_IN}?next={quote(path, safe='/')}" if request.method == "GET" else SIGN_IN
        return RedirectResponse(there, HTTPStatus.SEE_OTHER)
    if is_page(request):
        from osprotocol.server.console import error_page  # which needs what is here

        return await error_page(request, error)
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s %s: %s", request.method, request.url.path, error)
    return answer_of(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """A path or query parameter is wrong."""
    assert isinstance(error, RequestValidationError)
    problems = tuple((path_of(tuple(one["loc"][1:])), str(one["msg"])) for one in error.errors())
    where = sorted({str(one["loc"][0]) for one in error.errors()})
    what = f"{' and '.join(where)} of the request" if where else "request"
    return await _on_error(request, InvalidValueError(what, problems))


class _RefusedError(UsageError):
    """HTTP itself refuses: there is no such page, or it does not take that method."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.http_status = status  # type: ignore[misc]
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    advice = {404: "no such path; docs/http-api.md lists them", 405: f"{request.method} is not possible here"}
    if is_page(request):
        status = error.status_code
        if status == HTTPStatus.METHOD_NOT_ALLOWED and request.method == "GET":
            status = HTTPStatus.NOT_FOUND  # only a form is sent there
        advice[404] = "there is no such page"
        return await _on_error(request, _RefusedError(status, advice.get(status, error.detail)))
    return http_problem(error.status_code, advice.get(error.status_code, error.detail), error.headers)


async def _on_surprise(request: Request, error: Exception) -> Response:
    detail = f"an unexpected {type(error).__name__}; the server's log tells more"
    problem = Problem(
        type=f"urn:osprotocol:error:{_UNEXPECTED}", title="Unexpected", status=500, detail=detail, code=_UNEXPECTED
    )
    return _answer(problem, {})


def install(app: FastAPI) -> None:
    """Answer every error of this application in this form."""
    handlers: dict[Any, Any] = {
        OSProtocolError: _on_error,
        RequestValidationError: _on_invalid,
        HTTPException: _on_refusal,
        Exception: _on_surprise,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
