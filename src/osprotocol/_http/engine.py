"""The engine over HTTP: the port of `osprotocol.engine` on a server's API."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from osprotocol import _limits
from osprotocol._clock import Clock, SystemClock, to_datetime
from osprotocol._http import bodies
from osprotocol._http.address import Address, Token
from osprotocol._http.calls import Calls
from osprotocol._http.logs import RecentLogs
from osprotocol._http.stream import Stream
from osprotocol._http.updates import load, reads_answers, update_of
from osprotocol._http.watches import Watches
from osprotocol._ids import Ids
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.people import check_person, identity
from osprotocol.engine import Filter, Listener, RequestFilter, Update
from osprotocol.errors import (
    EngineClosedError,
    EngineError,
    ForkedProcessError,
    NotPermittedError,
    NotSupportedError,
    OSProtocolError,
    RunNotFoundError,
    UnreachableError,
    WorkerNotFoundError,
    WrongLoopError,
)
from osprotocol.protocol.events import Event, LogLine, Page, StepRecord, WorkerInfo, WorkflowInfo
from osprotocol.protocol.http import Me, PruneBody
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunOptions, RunSnapshot
from osprotocol.protocol.statistics import Statistics
from osprotocol.workflow import Workflow


class HttpEngine:
    """The runs of a server. Make it on the event loop that will use it, then `begin`.

    The server's workers execute the runs; this process only asks. Who acts is the person of the token.

    Args:
        address: where the server is.
        token: who we are.
        clock: tells how long ago something was.
        ids: makes the keys under which a request that is sent again counts once.
    """

    name = "http"
    capabilities: Mapping[str, bool] = {
        "callbacks": False,
        "backup": False,
        "workers": True,
        "evict": True,
        "live_logs": True,
    }

    def __init__(
        self, address: Address, token: Token | None, *, clock: Clock | None = None, ids: Ids | None = None
    ) -> None:
        self.person = ""
        self.calls = Calls(address, token, ids or Ids())
        self.stream = Stream(self.calls, self._is_interested, self._on_message, self._on_open, self._ring)
        self.watches = Watches(self.calls, self.stream.ensure)
        self._clock = clock or SystemClock()
        self._workflows: list[WorkflowInfo] = []
        self._logs = RecentLogs()
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._bells: dict[asyncio.Event, str | None] = {}
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._closed = False

    async def begin(self) -> None:
        """Ask who we are and what can be started.

        Raises:
            NotSignedInError: the server does not know the token. UnreachableError: nobody answers.
        """
        try:
            self.person = load(Me, await self.calls.get("/me", patient=False)).name
            self._workflows = [load(WorkflowInfo, one) for one in (await self.calls.get("/workflows"))["items"]]
        except (ValueError, TypeError, LookupError, AttributeError):
            raise EngineError(self.calls.address.url, "answers, but not as osp serve does") from None

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError()
        if os.getpid() != self._process:
            raise ForkedProcessError()
        if asyncio.get_running_loop() is not self._loop:
            raise WrongLoopError()

    # --------------------------------------------------------------------- live

    def _is_interested(self) -> bool:
        return bool(self.watches) or bool(self._bells)

    def _on_open(self) -> None:
        self.watches.ask_all()
        self._ring()

    def _ring(self) -> None:
        """Whoever reads events reads again."""
        for bell in self._bells:
            bell.set()

    def _on_message(self, kind: str, told: Any) -> None:
        if kind == "log":
            run_id = told.pop("runId")
            if run_id in self.watches:
                self._logs.add(run_id, [load(LogLine, told)])
        elif isinstance(told, dict) and "number" in told and "runId" in told:
            self.watches.on_event(told)
            for bell, run_id in self._bells.items():
                if run_id is None or run_id == told["runId"]:
                    bell.set()

    def watch(self, run_id: str, listener: Listener) -> Callable[[], None]:
        self._check_open()
        end = self.watches.add(run_id, 0, listener, self.watches.mark())
        self.watches.ask(run_id)
        return end

    def _updated(self, detail: dict[str, Any], listener: Listener | None, mark: int, reply: Any = None) -> Update:
        update = update_of(detail, reply=reply)
        self.watches.tell(detail)
        if listener is not None and not update.status.is_final:
            self.watches.add(update.run_id, update.event, listener, mark)
        return update

    # --------------------------------------------------------------- the verbs

    @reads_answers
    async def start(
        self,
        workflow: Workflow[Any, Any] | str,
        data: bytes,
        options: RunOptions | None,
        listener: Listener | None = None,
    ) -> Update:
        self._check_open()
        name = workflow if isinstance(workflow, str) else workflow.name
        body, mark = bodies.start_body(name, data, options), self.watches.mark()
        detail = await self.calls.post("/runs", body)
        return self._updated(detail, listener, mark, reply=detail["id"])

    @reads_answers
    async def take_over(
        self, run_id: str, kind: str, after_step: str | None, listener: Listener | None = None
    ) -> Update:
        self._check_open()
        mark = self.watches.mark()
        path = bodies.run_path(run_id, f"/{kind}")
        detail = await self.calls.post(path, bodies.take_over_body(kind, after_step))
        return self._updated(detail, listener, mark, reply=detail["id"])

    @reads_answers
    async def execute(self, run_id: str, command: c.Command) -> Update:
        self._check_open()
        path, body = bodies.request_of_command(run_id, command)
        answer = await self.calls.post(path, body, token=await self._token_for(getattr(command, "by", self.person)))
        if "status" in answer and "runId" not in answer:  # the run itself
            return self._updated(answer, None, 0, reply=True)
        detail = await self.calls.get(bodies.run_path(run_id))
        return self._updated(detail, None, 0, reply=load(Request, answer))

    async def _token_for(self, by: str) -> Token | None:
        """The token of who acts: over HTTP that is the signed-in person and nobody else.

        Raises:
            NotPermittedError: it is somebody else.
        """
        if check_person(by) != identity(self.person):
            raise NotPermittedError(
                self.person, f"act as {by!r}", f"over HTTP the signed-in person acts; connect with a token of {by}"
            )
        return None

    @reads_answers
    async def get(self, run_id: str, listener: Listener | None = None) -> Update:
        self._check_open()
        path, mark = bodies.run_path(run_id), self.watches.mark()
        detail, lines = await asyncio.gather(
            self.calls.get(path), self.calls.get(path + "/logs", _newest(_limits.LOG_LINES_IN_MEMORY))
        )
        self._logs.add(detail["id"], [load(LogLine, line) for line in lines["items"]])
        return self._updated(detail, listener, mark)

    @reads_answers
    async def list_runs(self, filter: Filter, limit: int, cursor: str | None) -> Page[RunSnapshot]:
        self._check_open()
        page = await self.calls.get("/runs", bodies.runs_query(filter, limit, cursor))
        return Page(items=tuple(load(RunSnapshot, one) for one in page["items"]), next_cursor=page["nextCursor"])

    @reads_answers
    async def requests(self, filter: RequestFilter, limit: int, cursor: str | None) -> Page[Request]:
        self._check_open()
        page = await self.calls.get("/requests", bodies.requests_query(filter, limit, cursor))
        items = tuple(load(Request, one) for one in page["items"])
        if filter.person is not None:
            person = identity(filter.person)
            items = tuple(one for one in items if not one.approvers or person in map(identity, one.approvers))
        return Page(items=items, next_cursor=page["nextCursor"])

    @reads_answers
    async def find_request(self, request_id: str) -> Request:
        self._check_open()
        return load(Request, await self.calls.get(bodies.request_path(request_id)))

    def recent_logs(self, run_id: str) -> list[str]:
        """What is known at once; that it was wanted brings what came since, for the next time."""
        if not self._closed and run_id not in self._reading:
            self._reading[run_id] = self._loop.create_task(self._read_logs(run_id))
        return self._logs.newest(run_id)

    async def _read_logs(self, run_id: str) -> None:
        last = self._logs.last(run_id)
        try:
            await self.logs(run_id, last, _limits.PAGE_SIZE if last else -_limits.LOG_LINES_IN_MEMORY)
        except OSProtocolError:
            pass  # the next one who wants them asks again
        finally:
            del self._reading[run_id]

    @reads_answers
    async def logs(self, run_id: str, after: int, limit: int) -> list[LogLine]:
        self._check_open()
        lines = [load(LogLine, line) for line in await self._numbered(bodies.run_path(run_id, "/logs"), after, limit)]
        self._logs.add(run_id, lines)
        return lines

    async def _numbered(self, path: str, after: int, limit: int) -> list[dict[str, Any]]:
        """What there is at a path above a number, at most `limit`; a negative `limit` gives the newest ones."""
        if limit < 0:
            if -limit > _limits.PAGE_SIZE:
                return (await self._numbered(path, 0, _limits.EVENTS_PER_RUN))[limit:]
            return list((await self.calls.get(path, _newest(-limit)))["items"])
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            size = min(limit - len(found), _limits.PAGE_SIZE)
            page = await self.calls.get(path, {"after": after, "limit": size})
            found += page["items"]
            if page["nextCursor"] is None:
                break
            after = page["nextCursor"]
        return found

    @reads_answers
    async def steps(self, run_id: str) -> list[StepRecord]:
        self._check_open()
        page = await self.calls.get(bodies.run_path(run_id, "/steps"))
        return [load(StepRecord, one) for one in page["items"]]

    async def events(self, run_id: str | None, after: int) -> AsyncIterator[Event]:
        self._check_open()
        if run_id is not None:
            run_id = update_of(await self.calls.get(bodies.run_path(run_id))).run_id
        bell = asyncio.Event()
        self._bells[bell] = run_id
        self.stream.ensure()
        try:
            while not self._closed:
                bell.clear()
                found: list[Event] = []
                try:
                    found = await self.read_events(run_id, after, _limits.PAGE_SIZE)
                    if not found and run_id is not None and await self._has_ended(run_id, after):
                        return
                except UnreachableError:
                    pass  # the stream rings when there is a server again
                for event in found:
                    after = event.cursor if run_id is None else event.number
                    yield event
                if not found:
                    await bell.wait()
        except RunNotFoundError:
            return  # deleted meanwhile
        finally:
            del self._bells[bell]

    @reads_answers
    async def _has_ended(self, run_id: str, after: int) -> bool:
        update = update_of(await self.calls.get(bodies.run_path(run_id)))
        return update.status.is_final and after >= update.event

    @reads_answers
    async def read_events(self, run_id: str | None, after: int, limit: int) -> list[Event]:
        self._check_open()
        path = "/events" if run_id is None else bodies.run_path(run_id, "/events")
        return [load(Event, one) for one in await self._numbered(path, after, limit)]

    async def settled(self, run_id: str) -> None:
        """Nothing to wait for: callbacks live in the server's processes."""

    # ------------------------------------------------------------------- upkeep

    async def delete(self, run_id: str) -> None:
        self._check_open()
        await self.calls.delete(bodies.run_path(run_id))

    @reads_answers
    async def prune(self, older_than: datetime | timedelta) -> int:
        self._check_open()
        if isinstance(older_than, timedelta):
            older_than = to_datetime(self._clock.now()) - older_than
        answer = await self.calls.post("/runs/prune", bodies.body_of(PruneBody(older_than=older_than)))
        return int(answer["runs"])

    async def backup(self, target: Path) -> None:
        raise NotSupportedError("backup", "http", "run 'osp backup' on the server's machine")

    def workflows(self) -> list[WorkflowInfo]:
        return list(self._workflows)

    @reads_answers
    async def statistics(self) -> Statistics:
        self._check_open()
        return load(Statistics, await self.calls.get("/statistics"))

    async def problems(self) -> list[str]:
        self._check_open()
        try:
            await self.calls.get("/workers")
        except UnreachableError as error:
            return [str(error)]
        return []

    @reads_answers
    async def workers(self) -> list[WorkerInfo]:
        self._check_open()
        return [load(WorkerInfo, one) for one in (await self.calls.get("/workers"))["items"]]

    @reads_answers
    async def evict(self, worker_id: str) -> int:
        self._check_open()
        if not bodies.is_id(worker_id):
            raise WorkerNotFoundError(worker_id)
        return int((await self.calls.post(f"/workers/{worker_id}/evict"))["runs"])

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._ring()
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        await self.stream.close()
        await self.watches.close()
        await self.calls.close()


def _newest(limit: int) -> dict[str, Any]:
    return {"newest": "true", "limit": limit}
