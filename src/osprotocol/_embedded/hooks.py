"""Users' callbacks of a run's life: called after the commit, at most once, in order, one run's never side by side."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.transaction import Change, Transaction
from osprotocol._json import decode
from osprotocol._lifecycle.state import Event, RunState
from osprotocol.engine import for_nobody
from osprotocol.errors import InvalidOptionError, OSProtocolError, RunFailedError, RunTimedOutError
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.workflow import Workflow, known_workflows

if TYPE_CHECKING:
    from osprotocol._embedded.worker import Worker


def failed_error(state: RunState) -> RunFailedError:
    """What a failed run's `result` raises."""
    info = decode(state.error) or {"type": "Error", "message": ""}
    details = info.get("details") or {}
    if info.get("code") == RunTimedOutError.code:
        return RunTimedOutError(state.id, details.get("timeoutMs", 0), state.attempt)
    return RunFailedError(state.id, info["type"], info["message"], state.attempt)


class Hooks:
    """Calls the functions of `RunOptions`: the starter's in its process, a workflow's in whichever has the code."""

    def __init__(self, worker: Worker, options_by_run: dict[str, RunOptions]) -> None:
        self._worker = worker
        self._options_by_run = options_by_run
        self._queues: dict[str, deque[Callable[[], Awaitable[Any]]]] = {}
        self._runners: dict[str, asyncio.Task[None]] = {}

    def on_changes(self, changes: dict[int, Change]) -> None:
        """Queue what the committed changes call for."""
        for change in changes.values():
            given = self._options_by_run.get(change.state.id)
            defined = _functions_of(known_workflows().get(change.state.workflow))
            if given is None and defined is None:
                continue
            for event in change.events:
                if event.status is None:
                    continue
                if given is not None:
                    self._put(change.state.id, partial(self._tell, given, False, change.state, event))
                if defined is not None:
                    self._put(change.state.id, partial(self._tell, defined, True, change.state, event))
            if change.state.is_final and given is not None:
                # The functions' last call is queued; nothing of this run comes after it.
                self._options_by_run.pop(change.state.id, None)

    def call_in_turn(self, run_id: str, key: int, name: str, function: Callable[[], Any]) -> None:
        """Queue one more call of a run's functions, behind those that are waiting."""
        self._put(run_id, partial(self._worker.call_back, key, name, function))

    def _put(self, run_id: str, call: Callable[[], Awaitable[Any]]) -> None:
        self._queues.setdefault(run_id, deque()).append(call)
        if run_id not in self._runners:
            loop = asyncio.get_running_loop()
            self._runners[run_id] = loop.create_task(self._run(run_id), context=for_nobody())

    async def settled(self, run_id: str) -> None:
        """Wait until everything queued for a run has been called."""
        runner = self._runners.get(run_id)
        if runner is not None and runner is not asyncio.current_task():
            await asyncio.shield(runner)

    async def close(self) -> None:
        """Call what is queued, within reason."""
        if self._runners:
            await asyncio.wait(list(self._runners.values()), timeout=5.0)
        for runner in self._runners.values():
            runner.cancel()

    async def _run(self, run_id: str) -> None:
        queue = self._queues[run_id]
        try:
            while queue:
                call = queue.popleft()
                try:
                    await call()
                except Exception:
                    logging.getLogger("osprotocol").exception("a callback of run %s could not be called", run_id)
        finally:
            del self._queues[run_id], self._runners[run_id]

    async def _tell(self, options: RunOptions, shared: bool, state: RunState, event: Event) -> None:
        if shared and not await self._claim(state.key, event.number):
            return
        for name, function, args in _calls(options, state, event):
            await self._worker.call_back(state.key, name, function, *args)

    async def _claim(self, key: int, number: int) -> bool:
        """Whether this process is the one that calls the workflow's functions for an event: the first that asks."""

        def claim(transaction: Transaction) -> bool:
            transaction.connection.execute(QUERIES["claim_hook"], (key, number))
            return transaction.connection.changes() == 1

        try:
            return await self._worker.writer.execute(claim)
        except OSProtocolError:
            return False


def _functions_of(workflow: Workflow[Any, Any] | None) -> RunOptions | None:
    return workflow.options if workflow is not None and workflow.options.has_functions else None


def _calls(
    options: RunOptions, state: RunState, event: Event
) -> Iterable[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    if options.on_status_change is not None:
        yield "on_status_change", options.on_status_change, (event.status,)
    if event.status is RunStatus.COMPLETED and options.on_complete is not None:
        workflow = known_workflows().get(state.workflow)
        value = workflow.output.load(event.value or "null") if workflow is not None else decode(event.value)
        yield "on_complete", options.on_complete, (value,)
    if event.status is RunStatus.FAILED and options.on_failed is not None:
        yield "on_failed", options.on_failed, (failed_error(state),)
    if event.status is RunStatus.CANCELLED and options.cancel is not None and options.cancel.after_cancel is not None:
        yield "after_cancel", options.cancel.after_cancel, (state.cancel_reason,)


def refuse_functions(options: RunOptions | None) -> None:
    """Refuse functions that a process which does not work on runs could not call."""
    if options is None:
        return
    for name, function in (
        ("Cancel.before_cancel", options.cancel and options.cancel.before_cancel),
        ("Retry.should_retry", options.retry and options.retry.should_retry),
        ("Retry.on_retry", options.retry and options.retry.on_retry),
        ("Timeout.on_timeout_callback", options.timeout and options.timeout.on_timeout_callback),
    ):
        if function is not None:
            raise InvalidOptionError(
                name, "could not be called: this client does not work on runs (worker=False); "
                "put it into @workflow(options=...)"
            )  # fmt: skip
