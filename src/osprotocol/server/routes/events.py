"""Events: pages of them, or a live stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Query, Request
from starlette.responses import Response

from osprotocol import _limits
from osprotocol import errors as e
from osprotocol.protocol.events import Event, Page
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.frames import MEDIA_TYPE
from osprotocol.server.identity import gate_of
from osprotocol.server.openapi import FINDING, READING, answers
from osprotocol.server.replies import reply_items
from osprotocol.server.routes import api_router
from osprotocol.server.serving import Here, Serving
from osprotocol.server.stream import EventStream
from osprotocol.server.visibility import engine_of, find_run

router = api_router("events")

Reader = Annotated[Principal, allow(Permission.READ)]
After = Annotated[
    int, Query(ge=0, le=2**53, description="Only events after this number (one run) or cursor (all runs).")
]
Limit = Annotated[int, Query(ge=1, le=_limits.PAGE_SIZE, description="Of a page; a stream has no limit.")]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Where a stream goes on; wins over ``after``.")
]
Newest = Annotated[
    bool, Query(description="The newest events instead of those after one; ``nextCursor`` is where a stream goes on.")
]
LogsAfter = Annotated[
    int | None,
    Query(
        alias="logsAfter",
        ge=0,
        le=2**53,
        description="A stream sends log lines with a higher number; left out: those from now on.",
    ),
]
_PAGES_AT_ONCE = 20


def _wants_stream(request: Request) -> bool:
    kinds = [one.partition(";")[0].strip().lower() for one in request.headers.get("accept", "").split(",")]
    return MEDIA_TYPE in kinds


def _position(last_event_id: str | None, after: int) -> int:
    """Where a stream goes on.

    Raises:
        InvalidValueError: the header is no number of ours.
    """
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 16):
        raise e.InvalidValueError("Last-Event-ID", (("$", "is not a number that this server sent"),))
    return int(last_event_id)


async def _stream(
    here: Serving, who: Principal, request: Request, run_id: str | None, after: int, newest: int, logs: int | None
) -> EventStream:
    gate = gate_of(request)
    subscription = await here.hub.subscribe(who, run_id, lambda: gate.still(request))
    if after > newest:
        subscription.reset("history-gone")
    return EventStream(here.hub, engine_of(here), subscription, min(after, newest), logs)


@router.get("/runs/{run_id}/events", responses=answers(Page[Event], *FINDING, kind=MEDIA_TYPE))
async def list_run_events(
    run_id: str,
    request: Request,
    here: Here,
    who: Reader,
    after: After = 0,
    limit: Limit = _limits.PAGE_SIZE,
    newest: Newest = False,
    logs_after: LogsAfter = None,
    last_event_id: LastEventId = None,
) -> Response:
    """List events of a run, oldest first. With ``Accept: text/event-stream`` they go on live, until the run ends."""
    update = await find_run(here, who, run_id)
    if _wants_stream(request):
        position = _position(last_event_id, after)
        stream = await _stream(here, who, request, update.run_id, position, update.event, logs_after)
        if update.status.is_final:
            stream.is_final(update.status)
        return stream
    events = await engine_of(here).read_events(update.run_id, after, -limit if newest else limit)
    more = newest or len(events) == limit
    return reply_items(events, str(events[-1].number if events else after) if more else None)


@router.get("/events", responses=answers(Page[Event], *READING, kind=MEDIA_TYPE))
async def list_events(
    request: Request,
    here: Here,
    who: Reader,
    after: After = 0,
    limit: Limit = _limits.PAGE_SIZE,
    newest: Newest = False,
    last_event_id: LastEventId = None,
) -> Response:
    """List events of all runs, oldest first. With ``Accept: text/event-stream`` they go on live, without end."""
    if _wants_stream(request):
        position = _position(last_event_id, after)
        return await _stream(here, who, request, None, position, await here.hub.newest(), None)
    engine = engine_of(here)
    if newest:
        found = await engine.read_events(None, 0, -limit)
        return reply_items(await _seen(here, who, found), str(found[-1].cursor if found else 0))
    for _ in range(_PAGES_AT_ONCE):
        found = await engine.read_events(None, after, limit)
        events = await _seen(here, who, found)
        after = found[-1].cursor if found else after
        if len(found) < limit:
            return reply_items(events)
        if events:
            return reply_items(events, str(after))
    return reply_items((), str(after))


async def _seen(here: Serving, who: Principal, found: list[Event]) -> list[Event]:
    events = [event for event in found if event.run_id]
    if who.workflows is None:
        return events
    known = {run_id: await here.hub.workflow_of(run_id) for run_id in {event.run_id for event in events}}
    return [event for event in events if (known[event.run_id] or "") in who.workflows]
