"""Executing a step: replay, retries, timeout, thread, and the record of its outcome."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import traceback
from typing import Any

from osprotocol import _limits
from osprotocol._embedded.attempt import Attempt
from osprotocol._embedded.attention import check_recorded
from osprotocol._embedded.branches import Branch, error_info, text_of
from osprotocol._embedded.driver import Wait
from osprotocol._embedded.questions import ask_attention
from osprotocol._embedded.replay import Recorded
from osprotocol._embedded.signals import Unwind
from osprotocol._json import arguments_digest, decode, encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.policy import step_backoff_us
from osprotocol.context import CurrentStep, running_step
from osprotocol.errors import InvalidValueError, StepFailedError, StepTimedOutError, TerminalError
from osprotocol.protocol.retry import Retry
from osprotocol.workflow import StepDefinition

_US_PER_MS = 1_000
_NOT_BEGUN = object()


class _Current(CurrentStep):
    """What `current_step()` gives."""

    __slots__ = ("_attempt", "_cancelled", "_name", "_position", "attempt")

    def __init__(self, attempt: Attempt, name: str, position: str, number: int) -> None:
        self._attempt = attempt
        self._name = name
        self.attempt = number
        self._position = position
        self._cancelled: threading.Event | None = None

    @property
    def idempotency_key(self) -> str:
        return f"{self._attempt.id}:{self._position}"

    @property
    def cancelled(self) -> threading.Event:
        if self._cancelled is None:
            self._cancelled = threading.Event()
        return self._cancelled

    def report_progress(self, current: int, total: int = 0, message: str | None = None) -> None:
        attempt = self._attempt
        attempt.worker.on_loop(attempt.worker.report_progress, attempt, current, total, message)

    def log(self, message: str, **fields: Any) -> None:
        attempt = self._attempt
        attempt.worker.on_loop(attempt.worker.log, attempt, "info", str(message), self._name, fields)


class _Call:
    """One call of `ctx.step`."""

    __slots__ = ("args", "attempt", "branch", "definition", "digest", "kwargs", "name", "position")

    def __init__(
        self,
        attempt: Attempt,
        branch: Branch,
        definition: StepDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.attempt = attempt
        self.branch = branch
        self.definition = definition
        self.name = definition.options.name
        self.args = args
        self.kwargs = kwargs
        self.position = branch.next_position()
        self.digest = arguments_digest(args, kwargs)

    def entry(self, type: str, value: str | None = None, started_at: int | None = None) -> c.Entry:
        return c.Entry(type, self.position, self.name, self.digest, started_at, value)


async def execute_step(
    attempt: Attempt, branch: Branch, definition: StepDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The result of a step: from the journal, or by executing it until it succeeds or is given up."""
    call = _Call(attempt, branch, definition, args, kwargs)
    recorded = None
    if attempt.replay.recorded:
        recorded = check_recorded(attempt, call.position, "step", call.name, call.digest)
        if recorded is not None and recorded.completed is not None:
            event = recorded.completed
            if not attempt.replayed(branch, call.position):
                event = await attempt.outcome(branch, call.position)
            if event.type == "step.completed":
                return definition.result.load(event.value or "null")
            raise _failure(call, decode(event.value))
    if recorded is not None:
        answer = await _take_up(call, recorded)
        if answer is not None:
            attempt.out.record(call.entry("step.completed", answer))
            await attempt.take_turn(branch, call.position)
            return definition.result.load(answer)
    return await _execute(call, recorded.retries if recorded is not None else 0)


async def _take_up(call: _Call, recorded: Recorded) -> str | None:
    """Go on with a step that had begun: its retry delay, or the question what became of it. JSON of a skip's value."""
    attempt, begun = call.attempt, recorded.begun
    if begun is None:
        return None
    await attempt.pass_boundary(call.branch, durable=False)
    if begun.type == "step.retrying":
        told = decode(begun.value)
        await _delay(call, told["until"] + attempt.state.paused_us - told["paused"])
        return None
    prompt = (
        f"Step {call.name!r} was interrupted after it had begun and may or may not have had its effect. "
        f"Answer 'retry' to run it again, or 'skip' with the value that it should have given."
    )
    payload = {"reason": "interrupted", "step": call.name, "key": call.position}
    return await ask_attention(
        attempt, call.branch, call.position, prompt, payload, call.definition.result, begun.type == "request.opened"
    )


async def _execute(call: _Call, failures: int) -> Any:
    attempt, branch, definition = call.attempt, call.branch, call.definition
    while True:
        await attempt.pass_boundary(branch, durable=True)
        if definition.options.at_most_once:
            attempt.out.record(call.entry("step.started"))
            await attempt.pass_boundary(branch, durable=True)
        started_at = attempt.worker.clock.now()
        try:
            data, result = await _try(call, failures + 1, started_at)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            failures += 1
            if await _tries_again(call, error, failures):
                continue
            info = _info(call, error, failures)
            attempt.out.record(call.entry("step.failed", encode(info), started_at))
            await attempt.take_turn(branch, call.position)
            raise _failure(call, info) from None
        attempt.out.record(call.entry("step.completed", data.decode(), started_at))
        await attempt.take_turn(branch, call.position)
        return result


async def _try(call: _Call, number: int, started_at: int) -> tuple[bytes, Any]:
    """Call the function once."""
    attempt, branch, definition = call.attempt, call.branch, call.definition
    current = _Current(attempt, call.name, call.position, number)
    timeout, task = definition.options.timeout, branch.task
    timer, timed_out = None, False

    def on_timeout() -> None:
        nonlocal timed_out
        timed_out = True
        current.cancelled.set()
        assert task is not None
        task.cancel()

    if timeout is not None:
        timer = attempt.worker.clock.call_at(started_at + timeout.ms * _US_PER_MS, on_timeout)
    attempt.begin_step(branch, call.name)
    token = running_step.set(current)
    try:
        if definition.is_async:
            value = await definition.function(*call.args, **call.kwargs)
        else:
            value = await _in_thread(call, started_at)
        return definition.result.dump(value)
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"the step raised {type(error).__name__}: {error}") from error
    except asyncio.CancelledError as error:
        current.cancelled.set()
        if attempt.unwinding:
            raise Unwind from None
        if task is not None and task.cancelling():
            task.uncancel()
        if timed_out:
            assert timeout is not None
            raise StepTimedOutError(attempt.id, call.name, timeout.ms) from None
        if attempt.cancel_delivered:
            raise
        raise RuntimeError(f"the step was cancelled from inside: {error}") from error
    finally:
        running_step.reset(token)
        if timer is not None:
            timer.cancel()
        attempt.end_step(branch)


async def _in_thread(call: _Call, started_at: int) -> Any:
    """Run a synchronous function in a thread; when nobody waits for it any more its result is told, not used."""
    attempt = call.attempt
    context = contextvars.copy_context()
    is_given_up = False

    def run() -> Any:
        if is_given_up:
            return _NOT_BEGUN  # all threads were busy until now; by now the step may have been executed elsewhere
        try:
            return context.run(call.definition.function, *call.args, **call.kwargs)
        except StopIteration as stop:
            # A future cannot carry it: it would end the coroutine that awaits, without a word.
            raise RuntimeError(f"the step raised StopIteration({stop.value!r})") from stop

    future = attempt.loop.run_in_executor(attempt.worker.executor, run)
    try:
        value = await asyncio.shield(future)
    except asyncio.CancelledError:
        is_given_up = True
        future.add_done_callback(lambda done: _tell_late(call, done, started_at))
        raise
    return await value if asyncio.iscoroutine(value) else value


def _tell_late(call: _Call, done: asyncio.Future[Any], started_at: int) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if error is None and done.result() is _NOT_BEGUN:
        return
    value = encode({"error": type(error).__name__}) if error is not None else "null"
    call.attempt.out.late(call.entry("step.failed" if error is not None else "step.completed", value, started_at))


async def _tries_again(call: _Call, error: Exception, failures: int) -> bool:
    """Whether the step is tried again; if so, after its delay, which is journaled."""
    attempt, retry = call.attempt, call.definition.options.retry
    attempt.worker.log(
        attempt,
        "warning",
        f"step {call.name} failed (try {failures}): {type(error).__name__}: {text_of(error)}",
        call.name,
        {"traceback": _traceback_of(error)[-_limits.LOG_LINE_BYTES // 2 :]},
    )
    if retry is None or failures > retry.attempts or isinstance(error, TerminalError | InvalidValueError):
        return False
    if not await attempt.worker.should_retry(attempt, retry, error):
        return False
    until = attempt.worker.clock.now() + step_backoff_us(retry, failures, attempt.worker.ids.fraction())
    told = {"attempt": failures, "error": decode(error_info(error)), "until": until, "paused": attempt.state.paused_us}
    attempt.out.record(call.entry("step.retrying", encode(told)))
    await _on_retry(call, retry, error, failures)
    await _delay(call, until)
    return True


def _traceback_of(error: Exception) -> str:
    """From the step's own code on: the frames above it are of this package."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))


async def _on_retry(call: _Call, retry: Retry, error: Exception, failures: int) -> None:
    if retry.on_retry is not None:
        await call.attempt.worker.call_back(call.attempt.key, "on_retry", retry.on_retry, error, failures)


async def _delay(call: _Call, until: int) -> None:
    attempt = call.attempt
    if until <= attempt.worker.clock.now():
        return
    wait = Wait(loop=attempt.loop)

    def over() -> None:
        attempt.activate()
        attempt.resolve(wait)

    attempt.timers.call_at(wait, until, over)
    await attempt.outcome(call.branch, call.position, wait)


def _info(call: _Call, error: Exception, attempts: int) -> dict[str, Any]:
    info: dict[str, Any] = decode(error_info(error))
    info["attempts"] = attempts
    if isinstance(error, TerminalError):
        info["terminal"] = True
    for declared in call.definition.options.raises:
        if isinstance(error, declared):
            info["raises"] = declared.__name__
            info["args"] = [arg for arg in error.args if isinstance(arg, str | int | float | bool | None)]
            break
    return info


def _failure(call: _Call, info: dict[str, Any]) -> Exception:
    """The exception that a failed step raises, the same on the first pass and on replay."""
    failure: Exception | None = None
    options = call.definition.options
    for declared in options.raises:
        if declared.__name__ == info.get("raises"):
            try:
                failure = declared(*info["args"])
            except TypeError:
                failure = None  # its constructor wants more than the stored arguments
            break
    if failure is None and info.get("code") == StepTimedOutError.code and options.timeout is not None:
        failure = StepTimedOutError(call.attempt.id, call.name, options.timeout.ms)
    if failure is None:
        failure = StepFailedError(
            call.attempt.id, call.name, info["type"], info["message"], info["attempts"], call.position
        )
    failure.__osp_position__ = call.position  # type: ignore[attr-defined]
    failure.__osp_terminal__ = bool(info.get("terminal"))  # type: ignore[attr-defined]
    return failure
