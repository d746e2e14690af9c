"""`Run`: configured, not yet started. `Execution`: the handle to a started run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar, cast, overload

from pydantic import TypeAdapter, ValidationError

from osprotocol import _limits
from osprotocol._json import decode, encode, find_problem, parse, problems_of
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.asking import approval_of, approval_request, check_prompt, input_request, payload_text
from osprotocol.engine import Engine, Update
from osprotocol.errors import (
    CancelVetoedError,
    InputExpiredError,
    InvalidAnswerError,
    InvalidTransitionError,
    InvalidValueError,
    LimitExceededError,
    OSProtocolError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    RunTimedOutError,
)
from osprotocol.protocol._wire import duration_ms
from osprotocol.protocol.approval import Approval, ApprovalConfig
from osprotocol.protocol.events import Event, LogLine, StepRecord
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import ExecutionProgress, RunSnapshot, RunStatus, Waiting
from osprotocol.workflow import Workflow

T = TypeVar("T")
O = TypeVar("O")  # noqa: E741 - the output

_JUDGED_S = _limits.BEFORE_CANCEL_MS / 1_000 + 1
_FINAL_EVENTS = ("run.cancelling", "run.cancelled", "run.cancel-vetoed", "run.completed", "run.failed")


class _Result(Generic[O]):
    """What `execution.result` gives: awaitable any number of times, by any number of tasks."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution[O]) -> None:
        self._execution = execution

    def __await__(self) -> Generator[Any, None, O]:
        return self._execution._result().__await__()


class Execution(Generic[O]):
    """The handle to a started run: watch it, steer it, answer it, await its result.

    `status`, `progress` and `waiting_on` are live in the process that runs the run; elsewhere they follow within 50 ms.
    """

    def __init__(self, engine: Engine, workflow: Workflow[Any, O] | None = None) -> None:
        self._engine = engine
        self._workflow = workflow
        self._latest: Update | None = None
        self._value: str | None = None
        self._done: asyncio.Future[None] | None = None
        self._is_gone = False
        self._interested: list[asyncio.Queue[Update]] = []

    def _begin(self, update: Update) -> None:
        if self._latest is None:
            self._on_update(update)

    def _on_update(self, update: Update | None) -> None:
        if update is None:
            self._is_gone = True
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
            return
        if self._latest is not None and update.event < self._latest.event:
            return  # it was on its way while a newer one came
        self._latest = update
        if update.result is not None:
            self._value = update.result
        if update.status.is_final and self._done is not None and not self._done.done():
            self._done.set_result(None)
        for queue in self._interested:
            queue.put_nowait(update)

    @property
    def _update(self) -> Update:
        assert self._latest is not None, "an Execution is made by start() or get()"
        return self._latest

    # ------------------------------------------------------------------- reading

    @property
    def id(self) -> str:
        """The run's id."""
        return self._update.run_id

    @property
    def status(self) -> RunStatus:
        """Where the run stands."""
        return self._update.status

    @property
    def snapshot(self) -> RunSnapshot:
        """Everything about the run, in its wire form, as last seen here."""
        return self._update.read()

    @property
    def progress(self) -> ExecutionProgress:
        """How far the run says it is."""
        return self.snapshot.progress

    @property
    def attempt(self) -> int:
        """Number of the current try, from 1; 0 before the first."""
        return self.snapshot.attempt

    @property
    def cancelling(self) -> bool:
        """A cancel is under way."""
        return self.snapshot.cancelling

    @property
    def waiting_on(self) -> tuple[Waiting, ...]:
        """Why the run does not move by itself: open requests, a pause."""
        return self.snapshot.waiting_on

    @property
    def logs(self) -> list[str]:
        """The newest lines of the log, at most LOG_LINES_IN_MEMORY; `read_logs` has them all."""
        return self._engine.recent_logs(self.id)

    @property
    def requests(self) -> list[Request]:
        """The open requests, oldest first."""
        return self._update.requests()

    @property
    def result(self) -> _Result[O]:
        """Await it for the run's output.

        Cancelling a task that awaits it does not touch the run.

        Raises:
            RunFailedError, RunTimedOutError: the run failed.
            RunCancelledError: it was cancelled.
        """
        return _Result(self)

    async def refresh(self) -> Execution[O]:
        """Read the run's state anew from the store."""
        self._on_update(await self._engine.get(self.id))
        return self

    async def wait(self, timeout: float | timedelta | None = None) -> RunStatus:
        """Wait until the run is final, at most `timeout` seconds; gives the status then."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        try:
            async with asyncio.timeout(seconds):
                await self._finished()
        except TimeoutError:
            pass
        return self.status

    async def _finished(self) -> None:
        if not self.status.is_final and not self._is_gone:
            if self._done is None:
                self._done = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._done)
        if self._is_gone and not self.status.is_final:
            raise RunNotFoundError(self.id)
        await self._engine.settled(self.id)

    async def _result(self) -> O:
        await self._finished()
        if self.status is RunStatus.COMPLETED:
            if self._value is None:
                await self.refresh()
            value = self._value or "null"
            output: O = self._workflow.output.load(value) if self._workflow is not None else decode(value)
            return output
        raise self._error()

    def _error(self) -> Exception:
        snapshot = self.snapshot
        if snapshot.status is RunStatus.CANCELLED:
            return RunCancelledError(self.id, snapshot.cancel_reason, snapshot.cancelled_by)
        error = snapshot.error
        if error is None:
            return RunFailedError(self.id, "Error", "", snapshot.attempt)
        if error.code == RunTimedOutError.code:
            return RunTimedOutError(self.id, error.details.get("timeoutMs", 0), snapshot.attempt)
        return RunFailedError(self.id, error.type, error.message, snapshot.attempt)

    async def steps(self) -> list[StepRecord]:
        """What the journal holds: steps, sleeps, requests and child runs, in the order in which they began."""
        return await self._engine.steps(self.id)

    async def read_logs(self, after: int = 0, limit: int = _limits.PAGE_SIZE) -> list[LogLine]:
        """Lines of the log with a number above `after`, oldest first."""
        return await self._engine.logs(self.id, after, limit)

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Every event with a number above `after`, then live ones; ends when the run is final.

        With each event this handle shows the run as it is after that event, or later.
        """
        found = cast("AsyncGenerator[Event]", self._engine.events(self.id, after))
        async with contextlib.aclosing(found):
            async for event in found:
                if event.number > self._update.event:  # read before we were told of it
                    with contextlib.suppress(OSProtocolError):
                        await self.refresh()
                yield event

    # ------------------------------------------------------------------ steering

    async def _execute(self, command: c.Command) -> Any:
        for name, value in command._asdict().items():
            problem = find_problem(value) if isinstance(value, str) else None
            if problem is not None:
                raise InvalidValueError(name, (problem,))
        update = await self._engine.execute(self.id, command)
        if self._latest is None or update.event >= self._latest.event:
            self._on_update(update)
        return update.reply

    async def pause(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Stop the run at its next boundaries; returns when recorded. Running steps finish, then the clocks stand.

        Survives a crash: the pause.

        Raises:
            InvalidTransitionError: it is paused already, is being cancelled, or is final.
        """
        await self._execute(c.Pause(by or self._engine.person, check_text(reason, "reason")))

    async def resume(self, *, by: str | None = None) -> None:
        """Let a paused run go on; answers no request.

        Raises:
            InvalidTransitionError: it is not paused.
        """
        await self._execute(c.Resume(by or self._engine.person))

    async def cancel(
        self, reason: str | None = None, *, by: str | None = None, graceful: bool | None = None
    ) -> Literal["cancelled", "cancelling"]:
        """End the run `cancelled`; says whether it is so now or its cleanup is under way.

        Args:
            reason: kept with the run; wins over `Cancel.reason`.
            by: who cancels; the operating-system user by default.
            graceful: False ends it at once, without cleanup; None as `Cancel.graceful` says.

        Survives a crash: the cancel, its reason and its deadline.

        Raises:
            InvalidTransitionError: it has ended already; the error names how.
            CancelVetoedError: its `before_cancel` returned False.
        """
        queue: asyncio.Queue[Update] = asyncio.Queue()
        self._interested.append(queue)
        try:
            command = c.Cancel(by or self._engine.person, check_text(reason, "reason"), graceful)
            reply = await self._execute(command)
            while reply == "asked":
                try:
                    update = await asyncio.wait_for(queue.get(), _JUDGED_S)
                except TimeoutError:
                    return "cancelling"  # no worker has come to judge it; it stays so until one does
                types = [event.type for event in update.events() if event.type in _FINAL_EVENTS]
                if "run.cancel-vetoed" in types:
                    raise CancelVetoedError(self.id)
                if update.status in (RunStatus.COMPLETED, RunStatus.FAILED):
                    raise InvalidTransitionError(self.id, "cancel", update.status.value)
                if types:
                    reply = "cancelling"
        finally:
            self._interested.remove(queue)
        return "cancelled" if self.status is RunStatus.CANCELLED else "cancelling"

    async def retry(self) -> Execution[O]:
        """A new run that goes on from this failed or cancelled one; what came after the failure is forgotten.

        Raises:
            InvalidTransitionError: it is neither failed nor cancelled, or its cleanup steps have run.
        """
        return await self._take_over("retry", None)

    async def fork(self, after_step: str | None = None) -> Execution[O]:
        """A new run that takes over the journal up to a completed step, named by its key or its unique name."""
        return await self._take_over("fork", after_step)

    async def _take_over(self, kind: str, after_step: str | None) -> Execution[O]:
        execution: Execution[O] = Execution(self._engine, self._workflow)
        execution._begin(await self._engine.take_over(self.id, kind, after_step, execution._on_update))
        return execution

    # ----------------------------------------------------------------- answering

    async def approve(
        self,
        reason: str | None = None,
        *,
        request_id: str | None = None,
        by: str | None = None,
        seen: str | None = None,
    ) -> Request:
        """Vote yes. Gives the request as it is after the vote.

        Args:
            reason: kept with the vote.
            request_id: which request; without it the only open approval is meant.
            by: who votes; the operating-system user by default. One vote a person.
            seen: what the voter saw (`request.seen`); a vote on something that changed since is refused.

        Survives a crash: the vote, at every durability.

        Raises:
            RequestNotFoundError, AmbiguousRequestError, RequestClosedError, StaleRequestError, NotAnApproverError,
            VoteConflictError: the vote does not count, and why.
        """
        return await self._vote(True, reason, request_id, by, seen)

    async def reject(
        self,
        reason: str | None = None,
        *,
        request_id: str | None = None,
        by: str | None = None,
        seen: str | None = None,
    ) -> Request:
        """Vote no; otherwise as `approve`."""
        return await self._vote(False, reason, request_id, by, seen)

    async def _vote(
        self, approved: bool, reason: str | None, request_id: str | None, by: str | None, seen: str | None
    ) -> Request:
        person = self._engine.person if by is None else by
        vote = c.Vote(person, approved, request_id, check_text(reason, "reason"), seen)
        answered: Request = await self._execute(vote)
        return answered

    async def respond(
        self, value: Any, *, request_id: str | None = None, by: str | None = None, seen: str | None = None
    ) -> Request:
        """Answer an input, or attention, with a JSON value (or a value that pydantic can make JSON of).

        Survives a crash: the answer, at every durability.

        Raises:
            InvalidAnswerError: it does not fit; nothing was stored and the request stays open.
        """
        try:
            text = encode(value)
        except (ValueError, TypeError) as error:
            raise InvalidAnswerError(self.id, request_id or "", (("$", f"has no JSON form: {error}"),)) from None
        parse(text, "answer")
        person = self._engine.person if by is None else by
        answered: Request = await self._execute(c.Respond(person, text, request_id, seen))
        return answered

    # --------------------------------------------------------------------- gates

    async def wait_for_approval(
        self,
        message: str = "Go on?",
        config: ApprovalConfig | None = None,
        payload: Any = None,
        *,
        on_reject: Literal["cancel", "continue"] = "cancel",
    ) -> Approval:
        """Put an approval in front of the run: it stops at its next boundary until decided. Gives the decision.

        Args:
            message: the question.
            config: who decides and until when.
            payload: what the decision is about.
            on_reject: whether a rejected (or expired) gate cancels the run or lets it go on.

        Survives a crash: the gate, its votes and what they decide.

        Raises:
            InvalidTransitionError: the run has ended.
        """
        check_prompt(message, "message of wait_for_approval")
        shown = payload_text(payload, "payload of wait_for_approval")
        command = approval_request(0, None, None, message, config or ApprovalConfig(), shown, on_reject)
        return approval_of(await self._decided(command))

    @overload
    async def wait_for_input(self, prompt: str, *, timeout_ms: int | timedelta | None = None) -> str: ...
    @overload
    async def wait_for_input(
        self, prompt: str, type: type[T] | TypeAdapter[T], timeout_ms: int | timedelta | None = None
    ) -> T: ...
    async def wait_for_input(self, prompt: str, type: Any = str, timeout_ms: int | timedelta | None = None) -> Any:
        """Put a question in front of the run: it stops at its next boundary until answered. Gives the answer.

        Raises:
            InputExpiredError: nobody answered in time.
            InvalidTransitionError: the run has ended.
        """
        check_prompt(prompt, "prompt of wait_for_input")
        adapter: TypeAdapter[Any] = type if isinstance(type, TypeAdapter) else TypeAdapter(type)
        milliseconds = duration_ms(timeout_ms, "timeout_ms", least=1)
        command = input_request(0, None, None, prompt, adapter, milliseconds)
        while True:
            closed = await self._decided(command)
            if closed.status == "expired":
                raise InputExpiredError(self.id, prompt, milliseconds)
            try:
                return adapter.validate_json(encode(closed.answer))
            except ValidationError as error:
                # Someone answered who had only the schema: ask again, and say why.
                problems = "; ".join(f"{path}: {message}" for path, message in problems_of(error))
                command = input_request(0, None, None, f"{prompt} ({problems})", adapter, milliseconds)

    async def _decided(self, command: c.OpenRequest) -> Request:
        queue: asyncio.Queue[Update] = asyncio.Queue()
        self._interested.append(queue)
        try:
            asked: Request = await self._execute(command)
            while True:
                has_ended = self.status.is_final  # before the request is read, which may be decided on the way
                found = await self._engine.find_request(asked.id)
                if found.status not in ("open", "cancelled"):
                    return found
                if found.status == "cancelled" or has_ended:
                    raise InvalidTransitionError(self.id, "wait at its gate", self.status.value)
                await queue.get()
        finally:
            self._interested.remove(queue)

    def __repr__(self) -> str:
        return f"<execution {self.id} {self.status.value}>"


def check_text(text: str | None, what: str) -> str | None:
    """A reason, bounded.

    Raises:
        LimitExceededError: it is longer than TEXT_CHARACTERS.
    """
    if text is not None and len(text) > _limits.TEXT_CHARACTERS:
        raise LimitExceededError(what, len(text), "TEXT_CHARACTERS", _limits.TEXT_CHARACTERS)
    return text
