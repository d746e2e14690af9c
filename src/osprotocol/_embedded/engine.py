"""The embedded engine: the port of `osprotocol.engine` on one SQLite file."""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from osprotocol import _limits
from osprotocol._clock import Clock, SystemClock, from_datetime, to_datetime
from osprotocol._embedded import listing, upkeep
from osprotocol._embedded.counting import Counting
from osprotocol._embedded.duties import DueTimers, Membership, Poll, bury
from osprotocol._embedded.hooks import Hooks, refuse_functions
from osprotocol._embedded.logs import RunLogs
from osprotocol._embedded.machine import Machine
from osprotocol._embedded.store import Group
from osprotocol._embedded.transaction import Change, LogRow, Transaction, event_of_row
from osprotocol._embedded.upstream import Upstream
from osprotocol._embedded.views import snapshot_in, update_of
from osprotocol._embedded.worker import Worker
from osprotocol._embedded.writer import Writer
from osprotocol._ids import Ids, derived_id
from osprotocol._json import decode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.snapshot import request_of
from osprotocol._lifecycle.state import RequestState, RunState
from osprotocol.engine import Filter, Listener, RequestFilter, Update, acting, operating_system_user, page_size
from osprotocol.errors import (
    AmbiguousRunIdError,
    EngineClosedError,
    IdempotencyConflictError,
    InvalidOptionError,
    RequestNotFoundError,
    RunNotFoundError,
    StoreError,
    WorkerNotFoundError,
)
from osprotocol.protocol.events import Event, LogLine, Page, StepRecord, WorkerInfo, WorkflowInfo
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunOptions, RunSnapshot, RunStatus
from osprotocol.protocol.statistics import Statistics
from osprotocol.workflow import Workflow, find_workflow, known_workflows

_EVENTS_AT_ONCE = 500
_KEYS = 1_000
_HUMAN = (c.Vote, c.Respond, c.Cancel, c.OpenRequest, c.Pause, c.Resume)


class EmbeddedEngine:
    """Runs in one SQLite file. Make it with `open_engine`, on the event loop that will use it."""

    name = "embedded"
    capabilities: Mapping[str, bool] = {
        "callbacks": True,
        "backup": True,
        "workers": True,
        "evict": True,
        "live_logs": True,
    }

    def __init__(
        self,
        path: Path,
        *,
        durability: str = "full",
        concurrency: int = 100,
        clock: Clock | None = None,
        ids: Ids | None = None,
        linger_ms: int = _limits.LINGER_MS,
        vfs: str | None = None,
        upstream: Upstream | None = None,
        machine: Machine | None = None,
    ) -> None:
        if concurrency < 1:
            raise InvalidOptionError("concurrency", f"must be at least 1, not {concurrency}")
        self.clock: Clock = clock or SystemClock()
        self.ids = ids or Ids()
        self.person = operating_system_user()
        self._closed = False
        self._options_by_run: dict[str, RunOptions] = {}
        self._listeners: dict[int, list[weakref.WeakMethod[Any]]] = {}
        self._everything: dict[asyncio.Event, None] = {}
        self._keys: dict[str, int] = {}
        self._deletions = 0
        self._machine = machine or Machine()
        self.store = self._machine.open_store(path, self.clock, durability, vfs, upstream)
        self.writer = Writer(self.store, self._on_group, lambda: self.worker.executing, self._machine.new_lane())
        self.run_logs = RunLogs(self.store, self.writer, self.clock, self._on_logs)
        self.worker = Worker(
            self.store,
            self.writer,
            self.clock,
            self.ids,
            self.run_logs,
            concurrency=concurrency,
            linger_s=linger_ms / 1_000,
            options_by_run=self._options_by_run,
        )
        self._counting = Counting(path, self.clock)
        self.hooks = Hooks(self.worker, self._options_by_run)
        self.worker.call_in_turn = self.hooks.call_in_turn
        self.timers = DueTimers(self.worker, self.writer, self.clock)
        self._membership: Membership | None = None
        self._unattend: Callable[[], None] = lambda: None
        watch = self._machine.watch_file(Path(f"{path}-wal"))
        self._poll = Poll(self.store, self._is_interested, lambda: self.writer.is_settled, self._distribute, watch)

    async def begin(self, *, worker: bool, log_level: int) -> None:
        """Start working (or only listening)."""
        if worker:
            self.store.after = self.worker.claim_touched
            self._unattend = self._machine.attend(self.worker, log_level)
            self._membership = self._new_membership()
            # Also when it joins again: what came due, or was parked, meanwhile has told nobody.
            self.worker.on_joined = self.timers.sweep
            await self._membership.join()
        self._poll.ensure()

    def _new_membership(self) -> Membership:
        return Membership(self.store, self.writer, self.worker, self.clock, self.ids)

    # -------------------------------------------------------------- distribution

    def _is_interested(self) -> bool:
        if self._membership is not None:
            return True
        return bool(self._listeners) or bool(self._everything) or bool(self._options_by_run)

    def _on_group(self, group: Group) -> None:
        for state in group.doubtful:
            self.worker.give_back(state)
        self._distribute(group.foreign)
        self._distribute(group.changes)
        if group.claimed:
            self.worker.begin(group.claimed)

    def _distribute(self, changes: dict[int, Change]) -> None:
        """Tell everybody here what was committed, by this process or by another."""
        if self.store.deletions != self._deletions:
            self._deletions = self.store.deletions
            self._tell_deleted()
        if not changes:
            return
        self.worker.on_changes(changes)
        for key, change in changes.items():
            if change.state.due_at is not None and self.worker.accepts:
                self.timers.note(change.state.due_at)
            listeners = self._listeners.get(key)
            if listeners:
                self._tell(listeners, change)
        for waiting in self._everything:
            waiting.set()
        self.hooks.on_changes(changes)

    def _tell_deleted(self) -> None:
        """Runs were deleted: those who watch one of them wait for nothing."""
        self._keys.clear()
        for key in [key for key in self._listeners if self.store.load(key) is None]:
            for reference in self._listeners.pop(key):
                listener = reference()
                if listener is not None:
                    listener(None)

    def _tell(self, listeners: list[weakref.WeakMethod[Any]], change: Change) -> None:
        update = update_of(self.store, change)
        for reference in list(listeners):
            listener = reference()
            if listener is not None:
                listener(update)

    def _on_logs(self, rows: list[LogRow]) -> None:
        for waiting in self._everything:
            waiting.set()

    def watch(self, run_id: str, listener: Listener) -> Callable[[], None]:
        state = self._find(run_id)
        return self._watch(state.key, listener)

    def _watch(self, key: int, listener: Listener) -> Callable[[], None]:
        def gone(reference: weakref.WeakMethod[Any]) -> None:
            listeners = self._listeners.get(key)
            if listeners is not None and reference in listeners:
                listeners.remove(reference)
                if not listeners:
                    del self._listeners[key]

        reference = weakref.WeakMethod(listener, gone)
        self._listeners.setdefault(key, []).append(reference)
        self._poll.ensure()
        return lambda: gone(reference)

    def _find(self, run_id: str) -> RunState:
        self._check_open()
        state = self.store.find(run_id)
        if state is None:
            state = self._find_short(run_id)
        self._keys[state.id] = state.key
        if len(self._keys) > _KEYS:
            del self._keys[next(iter(self._keys))]
        return state

    def _key_of(self, run_id: str) -> int:
        """The row of a run; found once for the runs that this process deals with at the moment."""
        self._check_open()
        return self._keys.get(run_id) or self._find(run_id).key

    def _find_short(self, run_id: str) -> RunState:
        matches = tuple(row[0] for row in self.store.rows("find_ids", (run_id,))) if run_id else ()
        if len(matches) > 1:
            raise AmbiguousRunIdError(run_id, matches)
        found = self.store.find(matches[0]) if matches else None
        if found is None:
            raise RunNotFoundError(run_id)
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError()
        self.store.check_usable()  # before the loop: a forked child has another one as well
        self.writer.check_loop()

    # --------------------------------------------------------------- the verbs

    async def start(
        self,
        workflow: Workflow[Any, Any] | str,
        data: bytes,
        options: RunOptions | None,
        listener: Listener | None = None,
    ) -> Update:
        self._check_open()
        defined = find_workflow(workflow) if isinstance(workflow, str) else workflow
        if self._membership is None:
            refuse_functions(options)
        start, who = self.worker.start_command(defined, data, options), acting.get()
        if start.idempotency_key is not None:
            start = start._replace(id=derived_id(defined.name, start.idempotency_key))

        def accept(transaction: Transaction) -> Change:
            if start.idempotency_key is not None:
                try:
                    known = transaction.find(start.id)
                except RunNotFoundError:
                    pass
                else:
                    if known.input_digest != start.input_digest:
                        raise IdempotencyConflictError(start.id, start.workflow, start.idempotency_key)
                    return Change(known, [])
            decision = transaction.apply(None, start._replace(key=transaction.next_run_key()), None, who)
            # Before the commit, which the first callback follows, and only for a run that is really new.
            self.worker.remember_options(start.id, options)
            return Change(decision.state, decision.events)

        return await self._commit(accept, listener, human=True)

    async def _commit(self, run: Callable[[Transaction], Change], listener: Listener | None, *, human: bool) -> Update:
        def committed(change: Change) -> None:
            if listener is not None:
                self._watch(change.state.key, listener)
            self._poll.ensure()

        # Watched before anything else can happen to the run, so that not even the first change is missed.
        change = await self.writer.execute(run, human=human, at_once=committed)
        state = self.store.owned.get(change.state.key) or change.state
        return update_of(self.store, Change(state, []), reply=change.state.id)

    async def take_over(
        self, run_id: str, kind: str, after_step: str | None, listener: Listener | None = None
    ) -> Update:
        key = self._find(run_id).key
        new_id, who = self.ids.run_id(self.clock.now()), acting.get()

        def accept(transaction: Transaction) -> Change:
            return upkeep.take_over(transaction, key, kind, after_step, new_id, who)

        return await self._commit(accept, listener, human=True)

    async def execute(self, run_id: str, command: c.Command) -> Update:
        key = self._key_of(run_id)
        request_id, who = getattr(command, "request_id", None), acting.get()
        refused: list[Exception] = []

        def do(transaction: Transaction) -> tuple[RunState, Any]:
            asked = command
            refused.clear()
            if isinstance(command, c.OpenRequest):
                asked = command._replace(key=transaction.next_request_key())
            if not transaction.state(key).id.startswith(run_id):
                raise RunNotFoundError(run_id)  # deleted by somebody, and its row used again
            try:
                decision = transaction.apply(key, asked, request_id, who)
            except RequestNotFoundError:
                if isinstance(command, c.Vote | c.Respond) and request_id is None:
                    upkeep.tell_winner(transaction, key, command)
                raise
            if decision.error is not None:
                refused.append(decision.error)
            return decision.state, decision.reply

        state, reply = await self.writer.execute(do, human=isinstance(command, _HUMAN))
        if refused:
            raise refused[0]
        if isinstance(reply, RequestState):
            reply = request_of(reply, state.id, state.workflow)
        return update_of(self.store, Change(state, []), reply=reply if reply is not None else True)

    async def get(self, run_id: str, listener: Listener | None = None) -> Update:
        state = self._find(run_id)
        if listener is not None and not state.is_final:
            self._watch(state.key, listener)
        update = update_of(self.store, Change(state, []))
        if state.status is RunStatus.COMPLETED:
            return dataclasses.replace(update, result=self.store.result_of(state))
        return update

    async def list_runs(self, filter: Filter, limit: int, cursor: str | None) -> Page[RunSnapshot]:
        self._check_open()
        limit = page_size(limit)
        sql, values = listing.select_runs(filter, limit, listing.read_cursor(cursor))
        states = [self.store.with_requests(row) for row in self.store.rows(sql, values)]
        following = str(states[limit - 1].key) if len(states) > limit else None
        return Page(items=tuple(snapshot_in(self.store, state) for state in states[:limit]), next_cursor=following)

    async def requests(self, filter: RequestFilter, limit: int, cursor: str | None) -> Page[Request]:
        self._check_open()
        limit = page_size(limit)
        found = listing.requests_page(self.store, filter, limit, listing.read_cursor(cursor))
        following = str(listing.request_key(self.store, found[limit - 1].id)) if len(found) > limit else None
        return Page(items=tuple(found[:limit]), next_cursor=following)

    async def find_request(self, request_id: str) -> Request:
        self._check_open()
        matches = self.store.rows("find_request", (request_id,)) if request_id else []
        exact = [row for row in matches if row[1] == request_id] or matches
        if len(exact) > 1:
            raise AmbiguousRunIdError(request_id, tuple(row[1] for row in exact))
        if not exact:
            raise RequestNotFoundError(request_id.rpartition("-")[0], request_id)
        run = self._find(exact[0][0])
        rows = map(RequestState._make, self.store.rows("requests_of_run", (run.key,)))
        return next(request_of(row, run.id, run.workflow) for row in rows if row.id == exact[0][1])

    def recent_logs(self, run_id: str) -> list[str]:
        rows = self.store.rows("newest_logs", (self._find(run_id).key, _limits.LOG_LINES_IN_MEMORY))
        return [row[3] for row in rows[::-1]]

    async def logs(self, run_id: str, after: int, limit: int) -> list[LogLine]:
        state = self._find(run_id)
        if limit < 0:
            rows = self.store.rows("newest_logs", (state.key, -limit))[::-1]
        else:
            rows = self.store.rows("logs_of_run", (state.key, after, limit))
        return [listing.log_line(row) for row in rows]

    async def steps(self, run_id: str) -> list[StepRecord]:
        rows = self.store.rows("events_of_run", (self._find(run_id).key, 0, -1))
        return listing.step_records([event_of_row(tuple(row[2:-1])) for row in rows])

    async def events(self, run_id: str | None, after: int) -> AsyncIterator[Event]:
        key = None if run_id is None else self._find(run_id).key
        ids: dict[int, str] = {}
        waiting = asyncio.Event()
        self._everything[waiting] = None
        self._poll.ensure()
        try:
            while True:
                waiting.clear()
                found = self._events_after(key, after, ids)
                for event in found:
                    after = event.cursor if key is None else event.number
                    yield event
                if len(found) == _EVENTS_AT_ONCE:
                    await asyncio.sleep(0)  # else a long history would hold up everybody until it is read
                if key is not None and not found:
                    state = self.store.load(key)
                    if state is None or (state.is_final and after >= state.event):
                        return
                if not found:
                    await waiting.wait()
                    if self._closed:
                        return
        finally:
            self._everything.pop(waiting, None)

    async def read_events(self, run_id: str | None, after: int, limit: int) -> list[Event]:
        key = None if run_id is None else self._find(run_id).key
        self._check_open()
        if limit >= 0:
            return self._events_after(key, after, {}, limit)
        if key is None:
            rows = self.store.rows("newest_events", (-limit,))
        else:
            rows = self.store.rows("newest_events_of_run", (key, -limit))
        return self._wire_events(rows[::-1], {})

    def _events_after(
        self, key: int | None, after: int, ids: dict[int, str], limit: int = _EVENTS_AT_ONCE
    ) -> list[Event]:
        if key is None:
            rows = self.store.rows("events_since", (after, limit))
        else:
            rows = [row[:-1] for row in self.store.rows("events_of_run", (key, after, limit))]
        return self._wire_events(rows, ids)

    def _wire_events(self, rows: list[tuple[Any, ...]], ids: dict[int, str]) -> list[Event]:
        found = []
        for cursor, run, *columns in rows:
            if run not in ids:
                state = self.store.load(run)
                ids[run] = state.id if state is not None else ""
                if len(ids) > _KEYS:  # whoever listens for ever meets any number of runs
                    del ids[next(iter(ids))]
            found.append(listing.wire_event(ids[run], cursor, event_of_row(tuple(columns))))
        return found

    async def settled(self, run_id: str) -> None:
        await self.hooks.settled(run_id)

    # ------------------------------------------------------------------- upkeep

    async def delete(self, run_id: str) -> None:
        run, who = self._find(run_id), acting.get()
        self.run_logs.flush()
        await self.writer.execute(lambda transaction: upkeep.delete(transaction, run.key, run.id, who), human=True)
        self._tell_deleted()

    async def prune(self, older_than: datetime | timedelta) -> int:
        self._check_open()
        if isinstance(older_than, timedelta):
            older_than = to_datetime(self.clock.now()) - older_than
        before, removed, who = from_datetime(older_than), 0, acting.get()
        if who is not None:
            who = dataclasses.replace(who, reply_key=None)  # several commits, each for itself
        self.run_logs.flush()
        while True:
            count = await self.writer.execute(lambda transaction: upkeep.prune(transaction, before, who), human=True)
            removed += count
            if not count:
                self._tell_deleted()
                return removed

    async def backup(self, target: Path) -> None:
        self._check_open()
        await asyncio.to_thread(upkeep.backup, self.store.path, target)

    def workflows(self) -> list[WorkflowInfo]:
        return [known_workflows()[name].info for name in sorted(known_workflows())]

    async def statistics(self) -> Statistics:
        self._check_open()
        return await self._counting.statistics()

    async def problems(self) -> list[str]:
        self._check_open()
        try:
            await self.writer.execute(upkeep.touch, human=True)  # as a start is: synced
        except StoreError as error:
            return [str(error)]
        return []

    async def workers(self) -> list[WorkerInfo]:
        self._check_open()
        return [
            WorkerInfo(
                id=row[0],
                name=row[1],
                status=row[2],
                started_at=to_datetime(row[3]),
                seen_at=to_datetime(row[4]),
                workflows=tuple(decode(row[5])),
                runs=row[6],
            )
            for row in self.store.rows("all_workers", (_limits.PAGE_SIZE,))
        ]

    async def evict(self, worker_id: str) -> int:
        self._check_open()
        rows = self.store.rows("worker_by_id", (worker_id,)) if worker_id else []
        if len(rows) > 1:
            raise AmbiguousRunIdError(worker_id, tuple(row[1] for row in rows))
        if not rows:
            raise WorkerNotFoundError(worker_id)
        key, _, seen_at = rows[0]
        who = acting.get()

        def take_away(transaction: Transaction) -> int:
            transaction.check_reply(who)
            count = bury(transaction, key, seen_at, "evicted")
            self.store.others_wrote = True  # it may be this process's own worker, which has to notice
            transaction.note("worker.evict", who, None, {"worker": rows[0][1], "runs": count}, by=self.person)
            return count

        return await self.writer.execute(take_away, human=True)

    async def close(self) -> None:
        if self._closed:
            return
        self._poll.stop()
        self.timers.stop()
        if self._membership is not None:
            self._membership.rest()
        await self.worker.stop(_limits.SHUTDOWN_GRACE_MS / 1_000)
        await self.hooks.close()
        self.run_logs.flush()
        if self._membership is not None:
            await self._membership.leave()
        self._unattend()
        try:
            await self.writer.close()
        finally:
            self._closed = True
            self.store.close()
            for waiting in self._everything:
                waiting.set()
