"""Health: whether it runs, whether it can work, what it counts, and the description of this API."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from fastapi import Request
from pydantic_core import to_json
from starlette.responses import Response

from osprotocol import errors as e
from osprotocol._clock import monotonic_s
from osprotocol.protocol._wire import Wire
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.metrics import CONTENT_TYPE
from osprotocol.server.openapi import READING, answers
from osprotocol.server.replies import API, JSON, reply
from osprotocol.server.routes import api_router
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import engine_of

router = api_router("health", prefix="")

_log = logging.getLogger("osprotocol.server")

_KEPT_S = 1.0
PATIENCE_S = 2.0
"""Whoever asks gives up soon: an answer that comes later helps nobody."""


class Health(Wire):
    """How the server is.

    Attributes:
        status: ``ok`` or ``unavailable``.
    """

    status: str


class Readiness:
    """Whether the engine can accept anything, asked at most once a second."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._asked_at: float | None = None

    async def problems(self, serving: Serving) -> list[str]:
        """Why nothing can be accepted at the moment."""
        now = monotonic_s()
        if self._asked_at is None or now - self._asked_at >= _KEPT_S:
            self._asked_at = now
            found = await _problems(serving)
            if found != self._problems:
                _log.warning("%s", "; ".join(f"not ready: {one}" for one in found) or "ready again")
            self._problems = found
        return self._problems


async def _problems(serving: Serving) -> list[str]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await engine_of(serving).problems()
    except TimeoutError:
        return [f"a change was not stored within {PATIENCE_S:g} s"]
    except e.OSProtocolError as error:
        return [str(error)]


@router.get("/healthz", dependencies=[allow(Permission.PUBLIC)], responses=answers(Health))
async def is_alive() -> Response:
    """Tell that the server runs."""
    return reply(Health(status="ok"))


@router.get("/readyz", dependencies=[allow(Permission.PUBLIC)], responses={**answers(Health), 503: {"model": Health}})
async def is_ready(request: Request, here: Here) -> Response:
    """Tell whether runs can be accepted: 200, or 503. Why not is in the server's log."""
    readiness: Readiness = request.app.state.readiness
    if await readiness.problems(here):
        return reply(Health(status="unavailable"), 503)
    return reply(Health(status="ok"))


@router.get(
    "/metrics",
    responses={**answers(None, *READING), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(request: Request, here: Here, who: Annotated[Principal, allow(Permission.READ)]) -> Response:
    """Get counts and times in Prometheus's text format."""
    if who.workflows is not None:
        raise e.NotPermittedError(who.name, "see metrics", "this token is limited to some workflows")
    readiness: Readiness = request.app.state.readiness
    problems = await readiness.problems(here)
    text = request.app.state.metrics.text(await engine_of(here).statistics(), len(problems))
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


@router.get(f"{API}/openapi.json", responses=answers(dict[str, Any], *READING))
async def get_openapi(request: Request, who: Annotated[Principal, allow(Permission.READ)]) -> Response:
    """Get the OpenAPI 3.1 description of this API."""
    return Response(to_json(request.app.state.description()), media_type=JSON)
