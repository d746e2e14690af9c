"""The port: what a client needs of an engine. It takes commands, so a new verb is no new method."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from osprotocol import _limits
from osprotocol._lifecycle.commands import Command
from osprotocol.errors import InvalidOptionError
from osprotocol.protocol.events import Event, LogLine, Page, StepRecord, WorkerInfo, WorkflowInfo
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunOptions, RunSnapshot, RunStatus
from osprotocol.protocol.statistics import Statistics
from osprotocol.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Acting:
    """For whom a server acts: kept, in the same commit, with what it changes.

    Attributes:
        person: name of the signed-in person.
        via: by what the person was known: ``session``, ``token ID``.
        reply_key: scope and key of an ``Idempotency-Key``; a second change under it is refused.
        reply_digest: of the request that the key came with.
    """

    person: str
    via: str
    reply_key: str | None = None
    reply_digest: str = ""


def operating_system_user() -> str:
    """The name under which people act in a process of one's own when nothing else is said."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


acting: ContextVar[Acting | None] = ContextVar("osprotocol_acting", default=None)
"""Set by a server around what it does for somebody; None in a process of one's own."""


def for_nobody() -> Variables:
    """A copy of the context here in which nobody acts: runs go on by themselves, whoever's request woke them."""
    variables = copy_context()
    variables.run(acting.set, None)
    return variables


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are meant. None and empty mean any.

    Attributes:
        status: one or several statuses.
        workflow: the workflow's name.
        labels: every one of these has to match.
        text: is part of the id, workflow, progress message, error or a label.
        started_after, started_before: bounds on when the run was accepted.
        parent_id: children of that run.
    """

    status: tuple[RunStatus, ...] = ()
    workflow: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None
    parent_id: str | None = None


def page_size(limit: int) -> int:
    """The limit of a page, checked.

    Raises:
        InvalidOptionError: not from 1 to PAGE_SIZE.
    """
    if not 1 <= limit <= _limits.PAGE_SIZE:
        raise InvalidOptionError("limit", f"must be from 1 to PAGE_SIZE = {_limits.PAGE_SIZE}, not {limit}")
    return limit


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests are meant.

    Attributes:
        open: True for those that wait, False for those that are decided, None for both.
        person: those that this person may act on.
        kind: approval, input or attention.
        run_id: of that run.
    """

    open: bool | None = True
    person: str | None = None
    kind: str | None = None
    run_id: str | None = None


def _no_events() -> Sequence[Event]:
    return ()


@dataclass(frozen=True, slots=True)
class Update:
    """Where a run stands now, and what happened since the update before.

    Attributes:
        read: makes the whole snapshot; called only by those who want it.
        result: JSON of the result, when the run is completed and this update is about that.
        event: number of the last event that this includes.
        requests: makes the open requests.
        events: makes what happened since the update before.
        reply: what a command answered: the request, for those about one.
    """

    run_id: str
    status: RunStatus
    event: int
    read: Callable[[], RunSnapshot]
    requests: Callable[[], list[Request]]
    events: Callable[[], Sequence[Event]] = _no_events
    result: str | None = None
    reply: Any = None


Listener = Callable[[Update | None], None]
"""Told what happened to a run; None says that the run was deleted."""


class Engine(Protocol):
    """A system that keeps and executes runs: embedded on SQLite, or over HTTP on a server."""

    name: str
    capabilities: Mapping[str, bool]
    person: str
    """Who acts when nothing else is said: the operating-system user, or over HTTP the signed-in person."""

    def workflows(self) -> list[WorkflowInfo]:
        """The workflows that can be started here, by name."""

    async def start(
        self,
        workflow: Workflow[Any, Any] | str,
        data: bytes,
        options: RunOptions | None,
        listener: Listener | None = None,
    ) -> Update:
        """Accept a run; it is durable when this returns."""

    async def take_over(
        self, run_id: str, kind: str, after_step: str | None, listener: Listener | None = None
    ) -> Update:
        """A new run from another's journal: ``retry`` or ``fork``."""

    async def execute(self, run_id: str, command: Command) -> Update:
        """Do a command; durable when this returns."""

    async def get(self, run_id: str, listener: Listener | None = None) -> Update:
        """Where a run stands; with a listener, watched from exactly there on."""

    async def list_runs(self, filter: Filter, limit: int, cursor: str | None) -> Page[RunSnapshot]:
        """Runs, newest first."""

    async def requests(self, filter: RequestFilter, limit: int, cursor: str | None) -> Page[Request]:
        """Requests, oldest first."""

    async def find_request(self, request_id: str) -> Request:
        """A request by its id, which may be shortened while it is unambiguous."""

    def recent_logs(self, run_id: str) -> list[str]:
        """The newest lines of a run's log, as known in this process."""

    async def logs(self, run_id: str, after: int, limit: int) -> list[LogLine]:
        """Lines of a run's log with a number above `after`; a negative `limit` gives the newest ones."""

    async def steps(self, run_id: str) -> list[StepRecord]:
        """What the journal holds of a run's operations."""

    def events(self, run_id: str | None, after: int) -> AsyncIterator[Event]:
        """Events above a number of one run, or above a cursor of all; goes on live."""

    async def read_events(self, run_id: str | None, after: int, limit: int) -> list[Event]:
        """What there is now of `events`, at most `limit`; a negative `limit` gives the newest ones."""

    def watch(self, run_id: str, listener: Listener) -> Callable[[], None]:
        """Call for each update of a run while the listener's object lives; gives what ends it."""

    async def settled(self, run_id: str) -> None:
        """Wait until the callbacks of a final run that live in this process have been called."""

    async def delete(self, run_id: str) -> None:
        """Remove a final run, its children and everything of them."""

    async def prune(self, older_than: datetime | timedelta) -> int:
        """Remove the final runs that ended before an instant, or longer ago; gives how many."""

    async def backup(self, target: Path) -> None:
        """Copy everything while work goes on."""

    async def statistics(self) -> Statistics:
        """Counts over all runs and requests."""

    async def problems(self) -> list[str]:
        """Why nothing can be accepted at the moment; empty when all is well."""

    async def workers(self) -> list[WorkerInfo]:
        """Processes that work or worked here, newest first."""

    async def evict(self, worker_id: str) -> int:
        """Take all runs away from a worker that hangs; gives how many."""

    async def close(self) -> None:
        """Stop working, park what runs, let go of everything."""
