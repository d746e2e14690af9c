"""Who is told of which runs: an event of a watched run makes one question where it stands now."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from typing import Any

from osprotocol._http.bodies import run_path
from osprotocol._http.calls import Calls
from osprotocol._http.updates import load, update_of
from osprotocol.engine import Listener
from osprotocol.errors import (
    EngineClosedError,
    NotPermittedError,
    NotSignedInError,
    OSProtocolError,
    RunNotFoundError,
)
from osprotocol.protocol.events import Event

# How many questions are under way at once when many runs change.
_AT_ONCE = 8
# When the server cannot tell at the moment.
_ASK_AGAIN_S = 1.0
# Runs whose last told event is remembered, for handles that are being made while it comes.
_REMEMBERED = 1_000
_log = logging.getLogger("osprotocol")


class _Watch:
    """One run that somebody watches.

    Attributes:
        told: number of the last event that the listeners know.
        events: what came since.
        asking: a question where it stands is under way, or about to be.
        is_stale: something came after that question was sent.
    """

    __slots__ = ("asking", "events", "is_stale", "listeners", "told")

    def __init__(self, told: int) -> None:
        self.listeners: list[weakref.WeakMethod[Any]] = []
        self.told = told
        self.events: list[Event] = []
        self.asking: asyncio.Task[None] | None = None
        self.is_stale = False


class Watches:
    """The runs that somebody watches.

    Args:
        calls: to the server.
        on_first: called when there is something to watch.
    """

    def __init__(self, calls: Calls, on_first: Callable[[], None]) -> None:
        self._calls = calls
        self._on_first = on_first
        self._watch_by_run: dict[str, _Watch] = {}
        self._newest: dict[str, int] = {}
        self._forgotten = 0
        self._questions = asyncio.Semaphore(_AT_ONCE)

    def __bool__(self) -> bool:
        return bool(self._watch_by_run)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._watch_by_run

    @property
    def is_asking(self) -> bool:
        """A question is under way."""
        return any(watch.asking is not None for watch in self._watch_by_run.values())

    def mark(self) -> int:
        """Take it before asking where a run stands that is to be watched, and give it to `add`."""
        return self._forgotten

    def add(self, run_id: str, told: int, listener: Listener, mark: int) -> Callable[[], None]:
        """Tell a listener what happens to a run after an event; gives what ends it. The listener is held weakly.

        Args:
            run_id: the run.
            told: number of the last event that the listener knows.
            listener: a method; it is called while its object lives.
            mark: from before `told` was read.
        """
        watch = self._watch_by_run.setdefault(run_id, _Watch(told))
        watch.told = min(watch.told, told)

        def end(reference: weakref.WeakMethod[Any]) -> None:
            if reference in watch.listeners:
                watch.listeners.remove(reference)
                if not watch.listeners and self._watch_by_run.get(run_id) is watch:
                    self._drop(run_id)

        reference = weakref.WeakMethod(listener, end)
        watch.listeners.append(reference)
        self._on_first()
        if self._newest.get(run_id, 0) > told or mark != self._forgotten:
            self.ask(run_id)  # it went on while it was being read
        return lambda: end(reference)

    def _drop(self, run_id: str) -> None:
        watch = self._watch_by_run.pop(run_id, None)
        if watch is not None and watch.asking is not None:
            watch.asking.cancel()

    def on_event(self, event: dict[str, Any]) -> None:
        """Something happened on the server."""
        run_id, number = event["runId"], event["number"]
        self._newest.pop(run_id, None)
        self._newest[run_id] = number
        if len(self._newest) > _REMEMBERED:
            del self._newest[next(iter(self._newest))]
            self._forgotten += 1
        watch = self._watch_by_run.get(run_id)
        if watch is not None and number > watch.told:
            watch.events.append(load(Event, event))
            self.ask(run_id)

    def ask_all(self) -> None:
        """Ask where every watched run stands: nobody told for a while."""
        for run_id in self._watch_by_run:
            self.ask(run_id)

    def ask(self, run_id: str) -> None:
        """Ask where a run stands and tell its listeners; one question for everything that came before it is sent."""
        watch = self._watch_by_run[run_id]
        watch.is_stale = True
        if watch.asking is None:
            watch.asking = asyncio.get_running_loop().create_task(self._ask(run_id, watch))

    async def _ask(self, run_id: str, watch: _Watch) -> None:
        try:
            while watch.is_stale:
                async with self._questions:
                    watch.is_stale = False
                    is_answered = await self._ask_once(run_id, watch)
                if not is_answered:
                    watch.is_stale = True
                    await asyncio.sleep(_ASK_AGAIN_S)
        finally:
            watch.asking = None

    async def _ask_once(self, run_id: str, watch: _Watch) -> bool:
        try:
            detail = await self._calls.get(run_path(run_id))
            update_of(detail)  # what is no answer of a server of ours is asked for again
        except RunNotFoundError:
            self._end(run_id, watch, None)
        except EngineClosedError:
            pass
        except (NotSignedInError, NotPermittedError) as error:
            _log.warning("run %s is not watched any more: %s", run_id, error)
        except OSProtocolError as error:
            _log.warning("run %s cannot be read now, trying again: %s", run_id, error)
            return False
        else:
            self.tell(detail)
        return True

    def tell(self, detail: dict[str, Any]) -> None:
        """Tell the listeners of a run where it stands, as a server answered."""
        run_id, number = detail["id"], detail["event"]
        watch = self._watch_by_run.get(run_id)
        if watch is None or number < watch.told:
            return
        happened = [event for event in watch.events if event.number <= number]
        watch.events = watch.events[len(happened) :]
        watch.told = number
        update = update_of(detail, happened)
        if update.status.is_final:
            self._end(run_id, watch, update)
        else:
            self._call(watch, update)

    def _end(self, run_id: str, watch: _Watch, last: Any) -> None:
        """Nothing happens to the run any more."""
        self._watch_by_run.pop(run_id, None)
        self._call(watch, last)

    def _call(self, watch: _Watch, update: Any) -> None:
        for reference in list(watch.listeners):
            listener = reference()
            if listener is not None:
                listener(update)

    async def close(self) -> None:
        """Ask nothing any more."""
        tasks = [watch.asking for watch in self._watch_by_run.values() if watch.asking is not None]
        self._watch_by_run.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
