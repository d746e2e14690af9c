"""`Hub`: one reader of what happens to all runs, for any number of live streams.

Each event is made JSON once; the bytes go to every stream that wants it. When it is quiet an event is sent at once,
under load at most every `Pace.batch_s`. Memory is bounded: the newest events are kept in a ring, and a stream that
falls behind is told to start anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from osprotocol._clock import monotonic_s
from osprotocol.client import Client
from osprotocol.engine import Engine
from osprotocol.errors import OSProtocolError, RunNotFoundError, TooManyRequestsError
from osprotocol.protocol.events import Event, LogLine
from osprotocol.protocol.run import RunStatus
from osprotocol.server.access import Permission, Principal
from osprotocol.server.frames import HEARTBEAT, Entry, final_status, frames, log_frames
from osprotocol.server.settings import ServerSettings
from osprotocol.server.subscription import Subscription

if TYPE_CHECKING:
    from osprotocol.server.sessions import Revocations

_RING_EVENTS = 4_096
_RING_BYTES = 4_194_304
_WORKFLOWS_KNOWN = 10_000
_LOG_PAGE = 200
_AGAIN_S = 1.0
_RETRY_AFTER_S = 5

_log = logging.getLogger("osprotocol.server")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a hub does things, in seconds.

    Attributes:
        batch_s: under load, events are sent this often.
        log_s: new log lines of the runs that somebody watches are looked for this often.
        heartbeat_s: a stream without events gets a comment this often.
        recheck_s: whether the person of a stream may still read is asked this often.
        end_s: log lines are stored a few times a second, so a run's last ones are waited for this long.
    """

    batch_s: float = 0.05
    log_s: float = 0.2
    heartbeat_s: float = 15.0
    recheck_s: float = 30.0
    end_s: float = 0.1


class _Topic:
    """The streams of one run."""

    __slots__ = ("active", "busy", "log_after", "subscriptions")

    def __init__(self, log_after: int) -> None:
        self.subscriptions: list[Subscription] = []
        self.log_after = log_after
        self.active = True
        self.busy = asyncio.Lock()


class Hub:
    """Live events of a server. It reads only while somebody listens.

    Args:
        client: the runs.
        settings: how many streams there may be.
        pace: how often things happen.

    Attributes:
        sent: events sent to streams so far.
        resets: streams that were told to start anew so far.
    """

    def __init__(self, client: Client, settings: ServerSettings, pace: Pace | None = None) -> None:
        self._client = client
        self._settings = settings
        self.pace = pace or Pace()
        self.sent = 0
        self.resets = 0
        self._revocations: Revocations | None = None
        self._subscriptions: set[Subscription] = set()
        self._all: list[Subscription] = []
        self._limited: list[Subscription] = []
        self._topics: dict[str, _Topic] = {}
        self._workflows: dict[str, str | None] = {}
        self._ring: deque[Entry] = deque()
        self._ring_bytes = 0
        self._floor = self._head = 0
        self._pending: list[Entry] = []
        self._flushing: asyncio.Handle | None = None
        self._flushed_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: asyncio.Event | None = None
        self._closed = False

    @property
    def _engine(self) -> Engine:
        return self._client._engine

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._subscriptions)

    def watch_rights(self, revocations: Revocations) -> None:
        """Ask again whether a stream's person may read whenever somebody's rights change."""
        self._revocations = revocations

    # -------------------------------------------------------------- joining, leaving

    async def subscribe(
        self, who: Principal, run_id: str | None, still: Callable[[], Awaitable[Principal | None]]
    ) -> Subscription:
        """Take part; follow it with `catch_up`, end it with `leave`.

        Args:
            who: for whom; runs that this principal does not see are left out.
            run_id: one run only, which the principal sees.
            still: says who it is now, None when no longer signed in.

        Raises:
            TooManyRequestsError: that many streams are open already, of this person or of all.
        """
        own = sum(1 for one in self._subscriptions if one.who.name == who.name)
        if len(self._subscriptions) >= self._settings.streams:
            raise TooManyRequestsError(f"live streams (at most {self._settings.streams})", _RETRY_AFTER_S)
        if own >= self._settings.streams_per_person:
            limit = self._settings.streams_per_person
            raise TooManyRequestsError(f"live streams of {who.name} (at most {limit})", _RETRY_AFTER_S)
        subscription = Subscription(who, run_id, still)
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.finish()
            return subscription
        try:
            await self._begin()
        except BaseException:
            self.leave(subscription)
            raise
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """The stream is over."""
        self._subscriptions.discard(subscription)
        subscription.finish()
        for listed in (self._all, self._limited):
            if subscription in listed:
                listed.remove(subscription)
        topic = self._topics.get(subscription.run_id or "")
        if topic is not None and subscription in topic.subscriptions:
            topic.subscriptions.remove(subscription)
            if not topic.subscriptions:
                del self._topics[subscription.run_id or ""]
        if not self._subscriptions:
            self._stop()

    async def newest(self) -> int:
        """The cursor of the newest event of all."""
        found = await self._engine.read_events(None, 0, -1)
        return found[-1].cursor if found else 0

    async def _begin(self) -> None:
        """Read, from now on, if nobody listened before."""
        while (begun := self._ready) is not None:
            await begun.wait()
            if self._ready is begun:
                return  # else it could not be begun: try it here
        ready = self._ready = asyncio.Event()
        try:
            self._floor = self._head = await self.newest()
        except BaseException:
            self._ready = None
            raise
        finally:
            ready.set()
        if self._closed:
            return
        for work in (self._read(), self._watch_logs(), self._keep()):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._ready = None
        self._ring.clear()
        self._pending.clear()
        self._workflows.clear()
        self._ring_bytes = 0
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    async def close(self) -> None:
        """End every stream; browsers and clients connect again to the next server."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.finish()
        tasks = list(self._tasks)
        self._stop()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------- the reader

    async def _read(self) -> None:
        while True:
            try:
                events = cast(AsyncGenerator[Event, None], self._engine.events(None, self._head))
                async with aclosing(events):
                    async for event in events:
                        self._take(event)
                break  # the engine was closed
            except OSProtocolError as error:
                _log.warning("events cannot be read at the moment: %s", error)
                await asyncio.sleep(_AGAIN_S)
            except Exception:  # noqa: BLE001 - a stream that stands still is worse than an event that is left out
                _log.exception("event %d could not be told", self._head)
                await asyncio.sleep(_AGAIN_S)
        for subscription in list(self._subscriptions):
            subscription.finish()

    def _take(self, event: Event) -> None:
        self._head = event.cursor
        if not event.run_id:
            self._spawn(self._end_deleted())
            return
        entry = Entry(event)
        self._ring.append(entry)
        self._ring_bytes += entry.size
        while len(self._ring) > _RING_EVENTS or self._ring_bytes > _RING_BYTES:
            gone = self._ring.popleft()
            self._ring_bytes -= gone.size
            self._floor = gone.cursor
        self._pending.append(entry)
        if self._flushing is None:
            loop = asyncio.get_running_loop()
            wait_s = self._flushed_at + self.pace.batch_s - monotonic_s()
            # Events that are committed together are read in one round of the loop, so they go out together too.
            self._flushing = loop.call_soon(self._flush) if wait_s <= 0 else loop.call_later(wait_s, self._flush)

    def _flush(self) -> None:
        entries, self._pending, self._flushing = self._pending, [], None
        self._flushed_at = monotonic_s()
        self._send(self._all, entries, of_run=False)
        for subscription in self._limited:
            self._offer(subscription, entries)
        if not self._topics:
            return
        by_run: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.run_id in self._topics:
                by_run.setdefault(entry.run_id, []).append(entry)
        for run_id, own in by_run.items():
            topic = self._topics[run_id]
            topic.active = True
            self._send(topic.subscriptions, own, of_run=True)
            ended = final_status(own)
            if ended is not None:
                for subscription in topic.subscriptions:
                    subscription.final = ended
                self._spawn(self._end_topic(run_id, topic))

    def _send(self, subscriptions: Iterable[Subscription], entries: list[Entry], *, of_run: bool) -> None:
        """Push the same bytes to everybody who may see the same."""
        if not entries:
            return
        first = entries[0].number if of_run else entries[0].cursor
        chunks: dict[bool, bytes] = {}
        for subscription in subscriptions:
            fully = subscription.fully
            if first <= subscription.joined_after:  # it read the store further than we did when it joined
                own = [entry for entry in entries if subscription.misses(entry)]
                self._push(subscription, frames(own, of_run=of_run, fully=fully), len(own))
                continue
            if fully not in chunks:
                chunks[fully] = frames(entries, of_run=of_run, fully=fully)
            self._push(subscription, chunks[fully], len(entries))

    def _push(self, subscription: Subscription, chunk: bytes, events: int) -> None:
        if not chunk:
            return
        if subscription.push(chunk, events):
            self.sent += events
        else:
            self.resets += 1

    def _offer(self, subscription: Subscription, entries: list[Entry]) -> None:
        if not subscription.offer([entry for entry in entries if subscription.misses(entry)]):
            self.resets += 1

    def _spawn(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            with suppress(OSProtocolError):
                await work

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------------ catching up

    def join(self, subscription: Subscription, after: int, seen_head: int, newest_line: int = 0) -> bool:
        """From here on live; no event is left out or comes twice. False if the store has to be read once more.

        Args:
            subscription: who joins.
            after: number or cursor of the last event that it has.
            seen_head: `head` as it was before the store was read to its end for this stream.
            newest_line: number of the newest line of the run's log.
        """
        if seen_head < self._floor:
            return False
        if self._flushing is not None:
            self._flushing.cancel()
            self._flush()  # so that what is in the ring has been sent to the others
        run_id, subscription.joined_after = subscription.run_id, after
        if run_id is None:
            missing = [entry for entry in self._ring if subscription.misses(entry)]
            if subscription.who.workflows is not None:
                self._limited.append(subscription)
                self._offer(subscription, missing)
            else:
                self._all.append(subscription)
                self._send((subscription,), missing, of_run=False)
            return True
        topic = self._topics.setdefault(run_id, _Topic(newest_line))
        topic.subscriptions.append(subscription)
        missing = [entry for entry in self._ring if entry.run_id == run_id and subscription.misses(entry)]
        self._send((subscription,), missing, of_run=True)
        subscription.final = subscription.final or final_status(missing)
        if subscription.final is not None:
            self._spawn(self._end_topic(run_id, topic))
        return True

    @property
    def head(self) -> int:
        """Cursor of the newest event that was read for the streams."""
        return self._head

    async def workflow_of(self, run_id: str) -> str | None:
        """The workflow of a run; None when it was deleted."""
        if run_id not in self._workflows:
            try:
                self._workflows[run_id] = (await self._engine.get(run_id)).read().workflow
            except RunNotFoundError:
                return None
            if len(self._workflows) > _WORKFLOWS_KNOWN:
                del self._workflows[next(iter(self._workflows))]
        return self._workflows[run_id]

    # ------------------------------------------------------------------------- logs

    async def _watch_logs(self) -> None:
        """Lines are not events, so they are looked for; a run that stands still is asked more seldom."""
        rounds = 0
        while True:
            await asyncio.sleep(self.pace.log_s)
            rounds += 1
            for run_id, topic in list(self._topics.items()):
                if topic.active or rounds % 10 == 0:
                    topic.active = False
                    with suppress(OSProtocolError):
                        topic.active = await self._read_logs(run_id, topic)

    async def _read_logs(self, run_id: str, topic: _Topic) -> bool:
        """Send new lines of a run; tells whether there will be more soon."""
        async with topic.busy:
            found: list[LogLine] = []
            while lines := await self._engine.logs(run_id, topic.log_after, _LOG_PAGE):
                before, topic.log_after = topic.log_after, lines[-1].number
                for subscription in topic.subscriptions:
                    if subscription.log_after >= before:  # those behind are still reading for themselves
                        own = [line for line in lines if line.number > subscription.log_after]
                        subscription.log_after = max(subscription.log_after, topic.log_after)
                        self._push(subscription, log_frames(run_id, own, fully=subscription.fully), len(own))
                found = lines
                if len(lines) < _LOG_PAGE:
                    break
        if found:
            return True
        return (await self._engine.get(run_id)).status is RunStatus.IN_PROGRESS

    async def _end_topic(self, run_id: str, topic: _Topic) -> None:
        """The run is final: its last lines, then the end."""
        await asyncio.sleep(self.pace.end_s)
        with suppress(OSProtocolError):
            await self._read_logs(run_id, topic)
        for subscription in list(topic.subscriptions):
            if subscription.final is not None:
                subscription.end()

    async def _end_deleted(self) -> None:
        """Runs were deleted, maybe before their last events were read here: nobody waits for those."""
        for run_id, topic in list(self._topics.items()):
            try:
                await self._engine.get(run_id)
            except RunNotFoundError:
                for subscription in list(topic.subscriptions):
                    if subscription.final is None:
                        subscription.reset("history-gone")

    def line_before_live(self, subscription: Subscription) -> int:
        """Up to this line a stream has to read its run's log by itself."""
        topic = self._topics.get(subscription.run_id or "")
        return topic.log_after if topic is not None else 0

    # ------------------------------------------------------------------ looking after

    async def _keep(self) -> None:
        """Comments for streams without events, and whether their people may still read."""
        beats = asyncio.get_running_loop().create_task(self._beat())
        try:
            generation = self._revocations.generation if self._revocations is not None else 0
            while True:
                if self._revocations is None:
                    await asyncio.sleep(self.pace.recheck_s)
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self.pace.recheck_s):
                            generation = await self._revocations.wait(generation)
                for subscription in list(self._subscriptions):
                    await self._recheck(subscription)
        finally:
            beats.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.pace.heartbeat_s)
            for subscription in list(self._subscriptions):
                subscription.beat(HEARTBEAT)

    async def _recheck(self, subscription: Subscription) -> None:
        who = subscription.who
        try:
            now = await subscription.still()
        except OSProtocolError:
            return  # asked again later; what cannot be read is not a reason to end a stream
        except Exception:  # noqa: BLE001 - whoever cannot be asked about sees nothing more
            _log.exception("whether %s may still read could not be asked", who.name)
            now = None
        # With other roles a person may see more or less of the same events, so the stream begins anew.
        if now is None or not now.may(Permission.READ) or _rights(now) != _rights(who):
            subscription.finish()


def _rights(who: Principal) -> tuple[object, ...]:
    return who.name, who.roles, who.workflows
