"""The `Context` that the embedded engine gives to workflow code."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from osprotocol import _limits
from osprotocol._clock import to_datetime
from osprotocol._embedded.attempt import Attempt
from osprotocol._embedded.attention import check_recorded
from osprotocol._embedded.branches import Branch
from osprotocol._embedded.driver import Abandoned, Wait
from osprotocol._embedded.questions import ask_approval, ask_input
from osprotocol._embedded.replay import Recorded
from osprotocol._embedded.signals import BranchStopped, Unwind
from osprotocol._embedded.steps import execute_step
from osprotocol._embedded.store import Operation
from osprotocol._embedded.transaction import Transaction
from osprotocol._ids import derived_fraction, derived_uuid
from osprotocol._json import arguments_digest, decode, encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.state import Event
from osprotocol.context import Context
from osprotocol.errors import ChildFailedError, InvalidOptionError, LimitExceededError, WrongTaskError
from osprotocol.protocol._wire import duration_ms
from osprotocol.protocol.approval import Approval, ApprovalConfig
from osprotocol.protocol.run import RunOptions
from osprotocol.workflow import Workflow, step_definition

_US_PER_MS = 1_000


@cache
def _anyone() -> ApprovalConfig:
    return ApprovalConfig()


class Group:
    """The branches of one gather or map."""

    def __init__(self, size: int, stops: bool) -> None:
        self.outcomes: list[Any] = [None] * size
        self.left = size
        self.stops = stops
        self.is_stopped = False
        self.is_closed = False
        self.failure: BaseException | None = None
        self.branches: list[Branch] = []
        self.wait: Wait | None = None


class EmbeddedContext(Context):
    """A run seen from its own code, on an `Attempt`."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def id(self) -> str:
        return self._attempt.id

    @property
    def attempt(self) -> int:
        return self._attempt.state.attempt

    # ----------------------------------------------------------------- steps

    async def step(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        attempt = self._attempt
        branch = attempt.enter("ctx.step") or await Abandoned()
        return await execute_step(attempt, branch, step_definition(fn), args, kwargs)

    # ----------------------------------------------------------------- sleep

    async def sleep(self, duration: timedelta | None = None, *, ms: int | None = None) -> None:
        attempt = self._attempt
        branch = attempt.enter("ctx.sleep") or await Abandoned()
        if (duration is None) == (ms is None):
            raise InvalidOptionError("ctx.sleep", "give a timedelta or ms=, one of them")
        length = duration_ms(duration if duration is not None else ms, "ctx.sleep") or 0
        position = branch.next_position()
        recorded = check_recorded(attempt, position, "sleep", "sleep", str(length))
        if recorded is not None and recorded.completed is not None:
            if not attempt.replayed(branch, position):
                await attempt.outcome(branch, position)
            return
        await attempt.pass_boundary(branch, durable=False)
        if recorded is not None and recorded.begun is not None:
            begun = decode(recorded.begun.value)
            until, paused = begun["until"], begun["paused"]
        else:
            until, paused = attempt.worker.clock.now() + length * _US_PER_MS, attempt.state.paused_us
            value = encode({"until": until, "paused": paused})
            attempt.out.record(c.Entry("sleep.started", position, "sleep", str(length), None, value))
        wait = Wait(loop=attempt.loop)

        def woken() -> None:
            attempt.activate()
            attempt.out.record_delivery(c.Entry("sleep.completed", position, "sleep", str(length)))
            attempt.deliver(wait, None)

        attempt.timers.call_at(wait, until + attempt.state.paused_us - paused, woken)
        await attempt.outcome(branch, position, wait)

    # ---------------------------------------------------------------- gather

    async def gather(self, *operations: Coroutine[Any, Any, Any], return_exceptions: bool = False) -> Any:
        try:
            branch = self._attempt.enter("ctx.gather") or await Abandoned()
            for operation in operations:
                if not asyncio.iscoroutine(operation):
                    raise WrongTaskError(f"ctx.gather with a {type(operation).__name__} that is no coroutine")
            makes = [_given(operation) for operation in operations]
            return tuple(await self._branches(branch, makes, None, return_exceptions))
        finally:
            # A run that leaves memory does not begin the rest; Python would complain of each to its user.
            for operation in operations:
                if inspect.iscoroutine(operation) and inspect.getcoroutinestate(operation) == inspect.CORO_CREATED:
                    operation.close()

    async def map(
        self,
        fn: Callable[[Any], Any] | Workflow[Any, Any],
        items: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Any:
        attempt = self._attempt
        branch = attempt.enter("ctx.map") or await Abandoned()
        if max_concurrency is not None and max_concurrency < 1:
            raise InvalidOptionError("ctx.map max_concurrency", f"must be at least 1, not {max_concurrency}")

        def make(item: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
            if isinstance(fn, Workflow):
                return lambda: self.run(fn, item)
            return lambda: self.step(fn, item)

        makes = [make(item) for item in items]
        return await self._branches(branch, makes, max_concurrency, return_exceptions)

    async def _branches(
        self,
        branch: Branch,
        makes: list[Callable[[], Coroutine[Any, Any, Any]]],
        at_once: int | None,
        return_exceptions: bool,
    ) -> list[Any]:
        attempt = self._attempt
        if len(makes) > _limits.BRANCHES_PER_GATHER:
            limit = _limits.BRANCHES_PER_GATHER
            raise LimitExceededError("branches of ctx.gather or ctx.map", len(makes), "BRANCHES_PER_GATHER", limit)
        position = branch.next_position()
        group = Group(len(makes), stops=not return_exceptions)
        waiting = list(enumerate(makes))[::-1]

        def begin() -> None:
            number, make = waiting.pop()
            coroutine = self._in_group(group, number, make, begin_next)
            group.branches.append(attempt.spawn(coroutine, f"{position}.{number + 1}.", branch, group))

        def begin_next() -> None:
            if group.is_stopped or group.is_closed or attempt.unwinding:
                group.left -= len(waiting)
                waiting.clear()
            elif waiting:
                begin()

        for _ in range(min(len(makes), at_once or len(makes))):
            begin()
        if group.left:
            await self._joined(branch, group)
        if group.failure is not None:
            raise group.failure
        return group.outcomes

    async def _in_group(
        self, group: Group, number: int, make: Callable[[], Coroutine[Any, Any, Any]], begin_next: Callable[[], None]
    ) -> None:
        attempt = self._attempt
        try:
            if attempt.unwinding:
                raise Unwind
            group.outcomes[number] = await make()
        except (BranchStopped, Unwind):
            pass
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the user's code may raise anything
            group.outcomes[number] = error
            if group.stops and group.failure is None and not isinstance(error, asyncio.CancelledError):
                group.failure = error
                group.is_stopped = True
                self._stop_waiting(group)
        finally:
            group.left -= 1
            begin_next()
            if group.left == 0 and group.wait is not None:
                attempt.resolve(group.wait)

    def _stop_waiting(self, group: Group) -> None:
        """A branch failed: what only waits in the others ends now, what executes is finished first."""
        attempt = self._attempt
        for branch in attempt.branches.values():
            if branch.is_stopped and branch.wait is not None and branch.step is None and not branch.is_joining:
                position = next((at for at, wait in attempt.waits.items() if wait is branch.wait), None)
                if position is not None and (position in attempt.draining or attempt.has_outcome(position)):
                    continue
                attempt.throw(branch.wait, BranchStopped())

    async def _joined(self, branch: Branch, group: Group) -> None:
        attempt = self._attempt
        cancelled: BaseException | None = None
        while group.left:
            group.wait = Wait(loop=attempt.loop)
            branch.is_joining = True
            try:
                await attempt.wait_on(branch, group.wait)
            except asyncio.CancelledError as error:
                cancelled = error
                group.is_closed = True
                for other in group.branches:
                    attempt.cancel_branch(other)
            finally:
                branch.is_joining = False
        if cancelled is not None:
            raise cancelled

    # -------------------------------------------------------------- children

    async def run(self, workflow: Workflow[Any, Any], input: Any = None, options: RunOptions | None = None) -> Any:
        attempt = self._attempt
        branch = attempt.enter("ctx.run") or await Abandoned()
        if attempt.state.depth + 1 > _limits.CHILD_DEPTH:
            raise LimitExceededError("nested child runs", attempt.state.depth + 1, "CHILD_DEPTH", _limits.CHILD_DEPTH)
        data = workflow.dump_input(input)
        position = branch.next_position()
        digest = arguments_digest((data.decode(),), {})
        recorded = check_recorded(attempt, position, "child", workflow.name, digest)
        if recorded is not None and recorded.completed is not None:
            event = recorded.completed
            if not attempt.replayed(branch, position):
                event = await attempt.outcome(branch, position)
            return _child_outcome(workflow, position, event.value)
        await attempt.pass_boundary(branch, durable=False)
        wait = Wait(loop=attempt.loop)
        child_id = self._start_child(workflow, data, options, position, digest, recorded)

        def ended() -> None:
            value = attempt.read(attempt.worker.final_outcome, child_id)
            if value is None or wait.done():
                return
            attempt.answers.pop(position, None)
            attempt.activate()
            attempt.out.record_delivery(c.Entry("child.completed", position, workflow.name, digest, None, value))
            attempt.deliver(wait, value)

        attempt.answers[position] = ended
        attempt.draining.add(position)
        if recorded is not None:
            ended()
        try:
            outcome = await attempt.outcome(branch, position, wait)
        finally:
            attempt.draining.discard(position)
        return _child_outcome(workflow, position, outcome)

    def _start_child(
        self,
        workflow: Workflow[Any, Any],
        data: bytes,
        options: RunOptions | None,
        position: str,
        digest: str,
        recorded: Recorded | None,
    ) -> str:
        attempt = self._attempt
        if recorded is not None and recorded.begun is not None:
            child_id: str = decode(recorded.begun.value)["runId"]
            return child_id
        start = attempt.worker.start_command(workflow, data, options)
        child_id = start.id
        parent = attempt.state
        entry = c.Entry("child.started", position, workflow.name, digest, None, encode({"runId": child_id}))

        def begin(transaction: Transaction) -> Any:
            transaction.apply(attempt.key, c.Record(attempt.epoch, (entry,)))
            command = attempt.worker.with_parent(start, transaction.next_run_key(), parent, position)
            decision = transaction.apply(None, command)
            now = transaction.state(attempt.key)
            if now.pause_at is not None:
                # The pause came first, and told only the children that there were.
                transaction.apply(command.key, c.Pause(f"run:{now.id}", now.pause_reason, following=True))
            return decision

        def begun(operation: Operation) -> None:
            if operation.error is not None:
                attempt.refused(operation.error)

        attempt.out.begin(position, begin, begun)
        attempt.worker.remember_options(child_id, options)
        return child_id

    # ---------------------------------------------------------------- people

    async def wait_for_approval(
        self, message: str, config: ApprovalConfig | None = None, payload: Any = None
    ) -> Approval:
        attempt = self._attempt
        branch = attempt.enter("ctx.wait_for_approval") or await Abandoned()
        return await ask_approval(attempt, branch, message, config or _anyone(), payload)

    async def wait_for_input(self, prompt: str, type: Any = str, timeout_ms: int | timedelta | None = None) -> Any:
        attempt = self._attempt
        branch = attempt.enter("ctx.wait_for_input") or await Abandoned()
        adapter: TypeAdapter[Any] = type if isinstance(type, TypeAdapter) else TypeAdapter(type)
        return await ask_input(attempt, branch, prompt, adapter, duration_ms(timeout_ms, "timeout_ms", least=1))

    # ---------------------------------------------------------------- telling

    def report_progress(self, current: int, total: int = 0, message: str | None = None) -> None:
        attempt = self._attempt
        if attempt.is_new(attempt.enter_at_once("ctx.report_progress")):
            attempt.worker.report_progress(attempt, current, total, message)

    def log(self, message: str, **fields: Any) -> None:
        attempt = self._attempt
        if attempt.is_new(attempt.enter_at_once("ctx.log")):
            attempt.worker.log(attempt, "info", str(message), None, fields)

    # ------------------------------------------------------- time and chance

    def now(self) -> datetime:
        attempt = self._attempt
        position = attempt.enter_at_once("ctx.now").next_position()
        recorded = check_recorded(attempt, position, "value", "now", None)
        if recorded is not None and recorded.completed is not None:
            return to_datetime(int(recorded.completed.value or 0))
        instant = attempt.worker.clock.now()
        attempt.out.record(c.Entry("value.recorded", position, "now", None, None, str(instant)))
        return to_datetime(instant)

    def uuid(self) -> UUID:
        return derived_uuid(self._attempt.state.seed, self._attempt.enter_at_once("ctx.uuid").next_position())

    def random(self) -> float:
        return derived_fraction(self._attempt.state.seed, self._attempt.enter_at_once("ctx.random").next_position())


def _given(operation: Coroutine[Any, Any, Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    return lambda: operation


def _child_outcome(workflow: Workflow[Any, Any], position: str, value: Any) -> Any:
    text = value.value if isinstance(value, Event) else value
    outcome = decode(text)
    if outcome["status"] == "completed":
        return workflow.output.load(encode(outcome["result"]))
    error = outcome.get("error") or {}
    failure = ChildFailedError(
        outcome["runId"], workflow.name, outcome["status"], error.get("type", ""), error.get("message", ""), position
    )
    failure.__osp_position__ = position  # type: ignore[attr-defined]
    raise failure
