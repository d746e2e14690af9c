"""`Client`: what a connected process does with runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from osprotocol import _limits
from osprotocol._run import Run
from osprotocol.engine import Engine, Filter, RequestFilter
from osprotocol.errors import InvalidOptionError, NoClientError, OSProtocolError
from osprotocol.execution import Execution
from osprotocol.protocol.events import BulkResult, Event, Page, WorkerInfo, WorkflowInfo
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunOptions, RunSnapshot, RunStatus
from osprotocol.protocol.statistics import Statistics
from osprotocol.workflow import Workflow, find_workflow, known_workflows, served_workflow

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

Labels = Mapping[str, str] | str | Sequence[str]
Statuses = RunStatus | str | Sequence[RunStatus | str]

List = list  # `Client.list` would hide the type inside the class
_clients: list[Client] = []


def current_client() -> Client:
    """The client that was connected last and is still open.

    Raises:
        NoClientError: there is none.
    """
    if not _clients:
        raise NoClientError()
    return _clients[-1]


class Client:
    """A connection to an engine. Made by `connect`; use it as an async context manager."""

    def __init__(
        self, open_engine: Callable[[], Awaitable[Engine]], closed: Callable[[Engine], None] = lambda engine: None
    ) -> None:
        self._open_engine = open_engine
        self._closed = closed
        self._opened: Engine | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> Self:
        """Connect; `async with` does it."""
        if self._opened is None:
            self._opened = await self._open_engine()
            _clients.append(self)
        return self

    async def close(self) -> None:
        """Stop taking work, let running steps finish for the grace time, park the rest. Nothing is cancelled."""
        if self in _clients:
            _clients.remove(self)
        if self._opened is not None:
            await self._opened.close()
            self._closed(self._opened)

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            raise NoClientError("this client is not connected yet")
        return self._opened

    @property
    def capabilities(self) -> Mapping[str, bool]:
        """What the engine can do."""
        return self._engine.capabilities

    @property
    def person(self) -> str:
        """Who acts when nothing else is said: the operating-system user, or over HTTP the signed-in person."""
        return self._engine.person

    # ------------------------------------------------------------------- runs

    @overload
    def create_run(
        self, workflow: Workflow[None, O], input: None = None, options: RunOptions | None = None
    ) -> Run[O]: ...
    @overload
    def create_run(self, workflow: Workflow[I, O], input: I, options: RunOptions | None = None) -> Run[O]: ...
    def create_run(self, workflow: Workflow[Any, O], input: Any = None, options: RunOptions | None = None) -> Run[O]:
        """A run that will start on this client."""
        return Run(workflow, workflow.dump_input(input), options, self._engine)

    @overload
    async def get(self, run_id: str) -> Execution[Any]: ...
    @overload
    async def get(self, run_id: str, workflow: Workflow[Any, O]) -> Execution[O]: ...
    async def get(self, run_id: str, workflow: Workflow[Any, Any] | None = None) -> Execution[Any]:
        """The handle to a run; its id may be shortened while it is unambiguous.

        Raises:
            RunNotFoundError, AmbiguousRunIdError: no run, or several, have that id.
        """
        execution: Execution[Any] = Execution(self._engine, workflow)
        update = await self._engine.get(run_id, execution._on_update)
        if workflow is None:
            execution._workflow = known_workflows().get(update.read().workflow)
        execution._begin(update)
        return execution

    async def list(
        self,
        *,
        status: Statuses | None = None,
        workflow: str | Workflow[Any, Any] | None = None,
        label: Labels | None = None,
        text: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        parent: str | None = None,
        limit: int = _limits.PAGE_SIZE_DEFAULT,
        cursor: str | None = None,
    ) -> Page[RunSnapshot]:
        """Runs, newest first; `next_cursor` of the page gives the next one.

        Args:
            status: one status or several.
            workflow: a workflow or its name.
            label: ``{"name": "value"}``, ``"name=value"`` or several of those; all have to match.
            text: part of the id, workflow, progress message, error or labels.
            started_after: only runs accepted at or after it; needs a time zone.
            started_before: only runs accepted before it.
            parent: only children of that run.
            limit: from 1 to PAGE_SIZE.
            cursor: from an earlier page.
        """
        chosen = _filter(status, workflow, label, text, started_after, started_before, parent)
        return await self._engine.list_runs(chosen, limit, cursor)

    async def requests(
        self,
        *,
        open: bool | None = True,
        person: str | None = None,
        kind: str | None = None,
        run_id: str | None = None,
        limit: int = _limits.PAGE_SIZE_DEFAULT,
        cursor: str | None = None,
    ) -> Page[Request]:
        """The inbox: requests, oldest first.

        Args:
            open: True for those that wait, False for those that are decided, None for both.
            person: only those that this person may act on.
            kind: ``approval``, ``input`` or ``attention``.
            run_id: only those of that run.
            limit: from 1 to PAGE_SIZE.
            cursor: from an earlier page.
        """
        return await self._engine.requests(RequestFilter(open, person, kind, run_id), limit, cursor)

    async def find_request(self, request_id: str) -> tuple[Execution[Any], Request]:
        """A request and its run; the id may be shortened while it is unambiguous."""
        request = await self._engine.find_request(request_id)
        return await self.get(request.run_id), request

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Events of all runs with a cursor above `after`, then live ones, without end."""
        return self._engine.events(None, after)

    # ------------------------------------------------------------------- bulk

    async def cancel_many(
        self, *, reason: str | None = None, by: str | None = None, graceful: bool | None = None, **filter: Any
    ) -> List[BulkResult]:
        """Cancel every run that the filter of `list` finds; a result for each."""

        async def cancel(execution: Execution[Any]) -> None:
            await execution.cancel(reason, by=by, graceful=graceful)

        return await self._each(cancel, filter)

    async def pause_many(self, *, reason: str | None = None, by: str | None = None, **filter: Any) -> List[BulkResult]:
        """Pause every run that the filter of `list` finds; a result for each."""

        async def pause(execution: Execution[Any]) -> None:
            await execution.pause(reason, by=by)

        return await self._each(pause, filter)

    async def resume_many(self, *, by: str | None = None, **filter: Any) -> List[BulkResult]:
        """Resume every run that the filter of `list` finds; a result for each."""

        async def resume(execution: Execution[Any]) -> None:
            await execution.resume(by=by)

        return await self._each(resume, filter)

    async def _each(self, act: Callable[[Execution[Any]], Awaitable[None]], filter: dict[str, Any]) -> List[BulkResult]:
        results: List[BulkResult] = []
        cursor: str | None = None
        while True:
            page = await self.list(**filter, limit=_limits.PAGE_SIZE, cursor=cursor)
            for snapshot in page.items:
                results.append(await self._one(act, snapshot.id))
            cursor = page.next_cursor
            if cursor is None:
                return results

    async def _one(self, act: Callable[[Execution[Any]], Awaitable[None]], run_id: str) -> BulkResult:
        try:
            execution = await self.get(run_id)
            await act(execution)
        except OSProtocolError as error:
            return BulkResult(run_id=run_id, ok=False, code=error.code, message=str(error))
        return BulkResult(run_id=run_id, ok=True, status=execution.status)

    # ----------------------------------------------------------------- upkeep

    async def delete(self, run_id: str) -> None:
        """Remove a final run and its children for good.

        Raises:
            InvalidTransitionError: it is not final.
        """
        await self._engine.delete(run_id)

    async def prune(self, *, older_than: timedelta | datetime) -> int:
        """Remove final runs that ended longer ago, or before; gives how many."""
        if isinstance(older_than, datetime) and older_than.tzinfo is None:
            raise InvalidOptionError("older_than", "a datetime needs a time zone; add tzinfo, for example datetime.UTC")
        return await self._engine.prune(older_than)

    async def backup(self, target: str | Path) -> None:
        """Copy the whole database to a new file while work goes on."""
        await self._engine.backup(Path(target))

    def workflows(self) -> List[WorkflowInfo]:
        """The workflows that can be started here: those of this process, or of the server."""
        return self._engine.workflows()

    def workflow(self, name: str) -> Workflow[Any, Any]:
        """The workflow of that name; over HTTP also one that only the server has, taking and giving plain JSON.

        Raises:
            UnknownWorkflowError: there is none.
        """
        if name not in known_workflows():
            for info in self._engine.workflows():
                if info.name == name:
                    return served_workflow(info)
        return find_workflow(name)

    async def statistics(self) -> Statistics:
        """Counts over all runs and requests; they may lag a few seconds behind."""
        return await self._engine.statistics()

    async def workers(self) -> List[WorkerInfo]:
        """Processes that work, or worked, on these runs; newest first."""
        return await self._engine.workers()

    async def evict(self, worker_id: str) -> int:
        """Take all runs away from a worker that hangs or is stopped; gives how many. What it still does is refused."""
        return await self._engine.evict(worker_id)


def _filter(
    status: Statuses | None,
    workflow: str | Workflow[Any, Any] | None,
    label: Labels | None,
    text: str | None,
    started_after: datetime | None,
    started_before: datetime | None,
    parent: str | None,
) -> Filter:
    chosen: Sequence[RunStatus | str] = () if status is None else ((status,) if isinstance(status, str) else status)
    try:
        statuses = tuple(RunStatus(one) for one in chosen)
    except ValueError as error:
        names = ", ".join(one.value for one in RunStatus)
        raise InvalidOptionError("status", f"{error}; it is one of {names}") from None
    name = workflow.name if isinstance(workflow, Workflow) else workflow
    return Filter(statuses, name, _labels(label), text, started_after, started_before, parent)


def _labels(label: Labels | None) -> Mapping[str, str]:
    if label is None or isinstance(label, Mapping):
        return label or {}
    pairs = [one.partition("=") for one in ((label,) if isinstance(label, str) else label)]
    for name, sign, _ in pairs:
        if not sign or not name:
            raise InvalidOptionError("label", f"{name!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}
