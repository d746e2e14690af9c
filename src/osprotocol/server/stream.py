"""`EventStream`: the answer to a request for server-sent events.

It begins with what the client missed, read from the store by pages, and joins the hub without a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from osprotocol._clock import monotonic_s
from osprotocol.engine import Engine
from osprotocol.errors import OSProtocolError
from osprotocol.protocol.events import Event
from osprotocol.protocol.run import RunStatus
from osprotocol.server.frames import MEDIA_TYPE, Entry, final_status, frames, log_frames
from osprotocol.server.hub import Hub
from osprotocol.server.subscription import Subscription

_PAGE = 200
_STUCK_S = 10.0
_OPENING = b"retry: 1000\n\n"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """Live events, until the client goes, the run ends or the server stops.

    Args:
        hub: where they come from.
        engine: where those that were missed come from.
        subscription: what is wanted.
        after: number (one run) or cursor (all runs) of the last event that the client has.
        logs_after: number of the last line of the run's log that it has; None for lines from now on.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, hub: Hub, engine: Engine, subscription: Subscription, after: int, logs_after: int | None = None
    ) -> None:
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self._hub = hub
        self._engine = engine
        self._subscription = subscription
        self._after = after
        self._logs_after = logs_after
        self._sent = 0
        self.init_headers(_HEADERS)

    def is_final(self, status: RunStatus) -> None:
        """The run has ended already: the stream ends when everything was sent."""
        self._subscription.final = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until one of both sides is done."""
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_until_gone(receive))
        over = asyncio.create_task(self._subscription.over.wait())
        try:
            await asyncio.wait((sending, leaving, over), return_when=asyncio.FIRST_COMPLETED)
            sent = -1
            # Whoever does not read any more cannot be told that it is over, and the place is needed.
            while not (sending.done() or leaving.done()) and sent != self._sent:
                sent = self._sent
                await asyncio.wait((sending, leaving), timeout=_STUCK_S, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._hub.leave(self._subscription)
            for task in (sending, leaving, over):
                task.cancel()
            await asyncio.gather(sending, leaving, over, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": _OPENING, "more_body": True})
        async for chunk in self._chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            self._sent += 1
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncIterator[bytes]:
        subscription = self._subscription
        try:
            async for chunk in self._missed():
                yield chunk
        except OSProtocolError:
            subscription.reset("unavailable")
        while True:
            waiting = await subscription.next()
            if waiting is None:
                return
            chunk = waiting if isinstance(waiting, bytes) else await self._seen(waiting)
            if chunk:
                yield chunk

    async def _missed(self) -> AsyncIterator[bytes]:
        """What happened after `after` and is over; then the stream is live."""
        hub, subscription, after = self._hub, self._subscription, self._after
        run_id = subscription.run_id
        if run_id is None and hub.join(subscription, after, after):
            return
        newest_line = await self._newest_line()
        subscription.log_after = newest_line if self._logs_after is None else self._logs_after
        while not subscription.is_over:
            head, began = hub.head, monotonic_s()
            events = await self._engine.read_events(run_id, after, _PAGE)
            if events:
                after = events[-1].number if run_id is not None else events[-1].cursor
                chunk = await self._page(events)
                took_s = monotonic_s() - began
                if chunk:
                    yield chunk
                if len(events) == _PAGE:
                    # Neither reading the file nor sending to a quick client waits for anything: without a pause a
                    # long history would hold up everybody else. With this one it takes half of the time.
                    await asyncio.sleep(took_s)
            if len(events) < _PAGE and hub.join(subscription, after, head, newest_line):
                break
        while run_id is not None and subscription.log_after < hub.line_before_live(subscription):
            last = hub.line_before_live(subscription)
            found = await self._engine.logs(run_id, subscription.log_after, _PAGE)
            lines = [line for line in found if line.number <= last]
            subscription.log_after = lines[-1].number if lines else last
            yield log_frames(run_id, lines, fully=subscription.fully) or b":\n\n"

    async def _newest_line(self) -> int:
        if self._subscription.run_id is None:
            return 0
        lines = await self._engine.logs(self._subscription.run_id, 0, -1)
        return lines[-1].number if lines else 0

    async def _page(self, events: list[Event]) -> bytes:
        entries = [Entry(event) for event in events if event.run_id]
        if self._subscription.run_id is None:
            return await self._seen(entries)
        self._subscription.final = self._subscription.final or final_status(entries)
        return frames(entries, of_run=True, fully=self._subscription.fully)

    async def _seen(self, entries: list[Entry]) -> bytes:
        """Those of all runs that the principal sees."""
        who, hub = self._subscription.who, self._hub
        if who.workflows is not None:
            known = {run_id: await hub.workflow_of(run_id) for run_id in {entry.run_id for entry in entries}}
            entries = [entry for entry in entries if (known[entry.run_id] or "") in who.workflows]
        return frames(entries, of_run=False, fully=self._subscription.fully)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
