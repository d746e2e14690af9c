"""What a principal gets to see: runs, requests and events of other workflows do not exist for a limited token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from osprotocol._ids import check_id
from osprotocol.engine import Engine, Filter, RequestFilter, Update
from osprotocol.errors import AmbiguousRunIdError, RequestNotFoundError, RunNotFoundError
from osprotocol.execution import Execution
from osprotocol.protocol.events import Page
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunSnapshot
from osprotocol.server.access import Principal
from osprotocol.server.serving import Serving

T = TypeVar("T", RunSnapshot, Request)

_PAGES_AT_ONCE = 20


def engine_of(here: Serving) -> Engine:
    """The engine, for what the client has no verb."""
    return here.client._engine


async def find_run(here: Serving, who: Principal, run_id: str) -> Update:
    """A run that this principal sees.

    Raises:
        RunNotFoundError: there is none, or none for this principal.
    """
    check_id(run_id)
    try:
        update = await engine_of(here).get(run_id)
    except AmbiguousRunIdError:
        if who.workflows is not None:
            raise RunNotFoundError(run_id) from None  # the error would name runs that are not there for them
        raise
    if who.workflows is not None and not who.sees(update.read().workflow):
        raise RunNotFoundError(run_id)
    return update


async def find_execution(here: Serving, who: Principal, run_id: str) -> Execution[Any]:
    """The handle to a run that this principal sees."""
    return await here.client.get((await find_run(here, who, run_id)).run_id)


async def find_request(here: Serving, who: Principal, request_id: str) -> Request:
    """A request that this principal sees.

    Raises:
        RequestNotFoundError: there is none, or none for this principal.
    """
    check_id(request_id, "request id")
    try:
        request = await engine_of(here).find_request(request_id)
    except AmbiguousRunIdError:
        if who.workflows is None:
            raise
    else:
        if who.sees(request.workflow):
            return request
    raise RequestNotFoundError(request_id.rpartition("-")[0], request_id)


async def list_runs(here: Serving, who: Principal, chosen: Filter, limit: int, cursor: str | None) -> Page[RunSnapshot]:
    """A page of the runs that this principal sees; it may have fewer items than `limit` before the end."""
    if who.workflows is not None:
        if chosen.workflow is not None and not who.sees(chosen.workflow):
            return Page(items=())
        if len(who.workflows) == 1:
            chosen = replace(chosen, workflow=next(iter(who.workflows)))
    engine = engine_of(here)
    return await _seen(who, cursor, lambda at: engine.list_runs(chosen, limit, at))


async def list_requests(
    here: Serving, who: Principal, chosen: RequestFilter, limit: int, cursor: str | None
) -> Page[Request]:
    """A page of the requests that this principal sees; otherwise as `list_runs`."""
    engine = engine_of(here)
    return await _seen(who, cursor, lambda at: engine.requests(chosen, limit, at))


async def _seen(who: Principal, cursor: str | None, read: Callable[[str | None], Awaitable[Page[T]]]) -> Page[T]:
    for _ in range(_PAGES_AT_ONCE):
        page = await read(cursor)
        if who.workflows is None:
            return page
        items = tuple(item for item in page.items if who.sees(item.workflow))
        cursor = page.next_cursor
        if items or cursor is None:
            return Page(items=items, next_cursor=cursor)
    return Page(items=(), next_cursor=cursor)
