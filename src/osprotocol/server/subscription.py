"""`Subscription`: what waits to be sent on one live stream, bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from osprotocol.protocol.run import RunStatus
from osprotocol.server.access import Principal
from osprotocol.server.frames import Entry, note_frame
from osprotocol.server.redaction import sees_redacted

EVENTS_BEHIND = 1_000
BYTES_BEHIND = 1_048_576

Chunk = bytes | list[Entry]


class Subscription:
    """One stream's part in the hub.

    Attributes:
        who: for whom.
        fully: whether it is somebody who may only look, from whom secrets are kept.
        run_id: the run, for the stream of one.
        still: says who it is now.
        joined_after: number (one run) or cursor (all runs) of the last event that it had when it went live.
        log_after: number of the last log line that it was given.
        final: the status with which its run ended.
        over: set when nothing more is taken; what waits is still sent.
    """

    def __init__(self, who: Principal, run_id: str | None, still: Callable[[], Awaitable[Principal | None]]) -> None:
        self.who = who
        self.fully = sees_redacted(who)
        self.run_id = run_id
        self.still = still
        self.joined_after = 0
        self.log_after = 0
        self.final: RunStatus | None = None
        self._chunks: deque[tuple[Chunk, int, int]] = deque()
        self._events = 0
        self._bytes = 0
        self._wake = asyncio.Event()
        self.over = asyncio.Event()
        self._sent_since_beat = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is taken."""
        return self.over.is_set()

    def misses(self, entry: Entry) -> bool:
        """Whether it did not have that event when it went live."""
        return (entry.cursor if self.run_id is None else entry.number) > self.joined_after

    def push(self, chunk: bytes, events: int) -> bool:
        """Queue bytes that hold so many events; False if the client was too far behind and is told to start anew."""
        return self._put(chunk, events, len(chunk))

    def offer(self, entries: list[Entry]) -> bool:
        """Queue events of which only those are sent that the principal sees."""
        return not entries or self._put(entries, len(entries), sum(entry.size for entry in entries))

    def _put(self, chunk: Chunk, events: int, size: int) -> bool:
        if self.is_over:
            return True
        # A single chunk of any size is no sign of a slow client.
        if self._chunks and (self._events + events > EVENTS_BEHIND or self._bytes + size > BYTES_BEHIND):
            self.reset("too-slow")
            return False
        self._chunks.append((chunk, events, size))
        self._events += events
        self._bytes += size
        self._wake.set()
        return True

    def beat(self, comment: bytes) -> None:
        """Show that the stream lives, unless it just did."""
        if not self._sent_since_beat and not self._chunks and not self.is_over:
            self._chunks.append((comment, 0, 0))
            self._wake.set()
        self._sent_since_beat = False

    def reset(self, reason: str) -> None:
        """Drop what waits and tell the client to start anew; the stream ends."""
        if not self.is_over:
            self._chunks.clear()
            self._events = self._bytes = 0
            self._chunks.append((note_frame("reset", reason=reason), 0, 0))
            self.finish()

    def end(self) -> None:
        """Tell the client that nothing more will come; the stream ends."""
        if not self.is_over:
            status = None if self.final is None else self.final.value
            self._chunks.append((note_frame("end", status=status), 0, 0))
            self.finish()

    def finish(self) -> None:
        """The stream ends when what waits is sent."""
        self.over.set()
        self._wake.set()

    async def next(self) -> Chunk | None:
        """What is to be sent next; None at the end."""
        while not self._chunks:
            if self.is_over:
                return None
            self._wake.clear()
            await self._wake.wait()
        chunk, events, size = self._chunks.popleft()
        self._events -= events
        self._bytes -= size
        self._sent_since_beat = True
        return chunk
