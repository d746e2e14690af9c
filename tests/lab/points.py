"""The points at which the death of a process could matter: one table of names, and telling when one is reached.

The points are before and after calls of the real classes' own methods, which are wrapped while somebody watches.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from osprotocol._embedded import duties, endings, locks, steps, store, upkeep
from osprotocol._embedded.attempt import Attempt
from osprotocol._embedded.body import EmbeddedContext
from osprotocol._embedded.duties import DueTimers, Membership
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.hooks import Hooks
from osprotocol._embedded.logs import RunLogs
from osprotocol._embedded.outbox import Outbox
from osprotocol._embedded.store import Store
from osprotocol._embedded.transaction import Transaction
from osprotocol._embedded.worker import Worker
from osprotocol._embedded.writer import Writer


@dataclass(frozen=True)
class Call:
    """A call of ours that a process may die before or after.

    Attributes:
        name: of the two points, after "before" and "after".
        place: the class or module whose attribute is called.
        counts: whether a call with these arguments is one of the points.
    """

    name: str
    place: Any
    attribute: str
    counts: Callable[..., bool] = lambda *args, **named: True


CALLS = (
    # Opening
    Call("the schema is made or found", store, "migrate"),
    Call("a worker's lock is taken", locks.WorkerLock, "__init__"),
    Call("a worker joins", Membership, "join"),
    # Recovery
    Call("the dead are looked for", Membership, "_bury_dead"),
    Call("a worker is buried", duties, "bury"),
    Call("a dead worker's lock file is removed", locks, "remove"),
    # Claiming
    Call("a run is claimed", Worker, "claim"),
    Call("a claim is acted on", Worker, "begin"),
    Call("a run is taken over", Worker, "begin", lambda worker, claimed: any(state.epoch > 1 for state, _ in claimed)),
    Call("an attempt begins", Attempt, "start"),
    Call("an attempt has ended", Worker, "attempt_ended"),
    # Effects and records
    Call("a step executes", steps, "_try"),
    Call("a record is queued", Outbox, "record"),
    Call("a command is queued", Outbox, "send"),
    Call("a retry of a step is judged", steps, "_tries_again"),
    Call("a child is started", EmbeddedContext, "_start_child"),
    Call("a child's outcome is read", Worker, "final_outcome"),
    Call("the logs are flushed", RunLogs, "flush"),
    # Commits
    Call("a group is committed", Store, "commit"),
    Call("a transaction's rows are written", Transaction, "write"),
    Call("a commit is told", Writer, "_finish"),
    # Waiting
    Call("what is due is done", DueTimers, "_do_due"),
    Call("a timeout is judged", endings, "judge_timeout"),
    Call("a cancel is judged", endings, "judge_cancel"),
    Call("a run leaves memory", Attempt, "leave"),
    Call("an answer is handed out", Attempt, "_answer"),
    # Callers and callbacks
    Call("a start is acknowledged", EmbeddedEngine, "start"),
    Call("a command is acknowledged", EmbeddedEngine, "execute"),
    Call("a callback's turn is taken", Hooks, "_claim"),
    Call("a callback is called", Worker, "call_back"),
    # Upkeep
    Call("a journal is taken over", upkeep, "take_over"),
    Call("a run is deleted", upkeep, "delete"),
    Call("runs are pruned", upkeep, "prune"),
    Call("a backup is made", upkeep, "backup"),
    Call("a backup's file is made", upkeep, "translated"),
    Call("a backup gets its name", Path, "rename", lambda path, target: path.suffix == ".part"),
    # Closing
    Call("the engine closes", EmbeddedEngine, "close"),
    Call("the worker stops", Worker, "stop"),
    Call("the callbacks end", Hooks, "close"),
    Call("a worker leaves", Membership, "leave"),
    Call("a worker's lock is given up", locks.WorkerLock, "release"),
    Call("the writer ends", Writer, "close"),
    Call("the store closes", Store, "close"),
)
"""Every call at which a process may die. One that is not here is not tried: add it when you add a seam."""

ACKNOWLEDGED = next(call for call in CALLS if call.name == "a command is acknowledged")
"""After it a caller knows that what was asked is done."""

POINTS = tuple(f"{when} {call.name}" for call in CALLS for when in ("before", "after"))
"""The names of all points."""

Watcher = Callable[[str, tuple[Any, ...]], None]
"""Is told the point that was reached, on the thread that reached it, and the arguments of the call."""

_committing: set[int] = set()


def is_committing() -> bool:
    """Whether this thread is inside a commit, so that it holds the store's lock."""
    return threading.get_ident() in _committing


@contextlib.contextmanager
def watched(watcher: Watcher, calls: Sequence[Call] = CALLS) -> Iterator[None]:
    """Tell the watcher of every point that this process reaches."""
    with contextlib.ExitStack() as stack:
        for call in calls:
            original = inspect.getattr_static(call.place, call.attribute)
            stack.enter_context(mock.patch.object(call.place, call.attribute, _wrapped(call, original, watcher)))
        yield


def _wrapped(call: Call, original: Callable[..., Any], watcher: Watcher) -> Callable[..., Any]:
    before, after = f"before {call.name}", f"after {call.name}"

    async def waiting(*args: Any, **named: Any) -> Any:
        if not call.counts(*args, **named):
            return await original(*args, **named)
        watcher(before, args)
        result = await original(*args, **named)
        watcher(after, args)
        return result

    def calling(*args: Any, **named: Any) -> Any:
        if not call.counts(*args, **named):
            return original(*args, **named)
        watcher(before, args)
        result = original(*args, **named)
        watcher(after, args)
        return result

    def committing(*args: Any, **named: Any) -> Any:
        me = threading.get_ident()
        is_outer = me not in _committing
        _committing.add(me)
        try:
            return calling(*args, **named)
        finally:
            if is_outer:
                _committing.discard(me)

    if inspect.iscoroutinefunction(original):
        return waiting
    return committing if (call.place, call.attribute) == (Store, "commit") else calling
