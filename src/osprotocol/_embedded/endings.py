"""How an attempt ends: its result, its failure and the verdict on a retry, its timeout, its cancel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from osprotocol import _limits
from osprotocol._embedded.attempt import Attempt
from osprotocol._embedded.attention import mismatch
from osprotocol._embedded.branches import error_info, failure_position, text_of
from osprotocol._embedded.signals import Unwind
from osprotocol._embedded.store import Operation
from osprotocol._embedded.transaction import Transaction
from osprotocol._json import decode, encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.change import timeout_at
from osprotocol._lifecycle.policy import parse_policy
from osprotocol._lifecycle.positions import forgotten
from osprotocol.errors import (
    ApprovalRejectedError,
    OSProtocolError,
    RunTimedOutError,
    StoreError,
    TerminalError,
)

if TYPE_CHECKING:
    from osprotocol._embedded.worker import Worker


def end_with_result(worker: Worker, attempt: Attempt, result: Any) -> None:
    """The code returned."""
    if attempt.cancel_delivered:
        finish(worker, attempt, c.EndCancelled(attempt.epoch))
        return
    if _ended_too_early(attempt, "it returned"):
        return
    try:
        text = attempt.workflow.output.dump(result)[0].decode()
    except OSProtocolError as unfit:
        worker.spawn(end_with_error(worker, attempt, unfit))
    else:
        finish(worker, attempt, c.Complete(attempt.epoch, text))


async def end_with_error(worker: Worker, attempt: Attempt, error: BaseException) -> None:
    """The code raised."""
    command: c.Command
    if isinstance(error, Unwind):
        return  # the store failed, or the run is no longer ours
    if attempt.cancel_delivered:
        command = c.EndCancelled(attempt.epoch)
    elif _ended_too_early(attempt, f"it raised {type(error).__name__}: {text_of(error)}"):
        return
    elif isinstance(error, ApprovalRejectedError):
        command = c.EndCancelled(attempt.epoch, error.reason or f"approval {error.outcome}", None)
    elif isinstance(error, Exception):
        command = await failure(worker, attempt, error)
    else:
        raised = RuntimeError(f"the workflow raised {type(error).__name__}: {text_of(error)}")
        command = await failure(worker, attempt, raised)
    finish(worker, attempt, command)


def _ended_too_early(attempt: Attempt, how: str) -> bool:
    """Whether the journal holds outcomes that the code never came to ask for; a person is asked then."""
    replay = attempt.replay
    if replay.is_over or replay.order[replay.cursor] not in replay.recorded:
        return False
    position = replay.order[replay.cursor]
    mismatch(attempt, position, replay.recorded[position], f"nothing: {how}")
    return True


def finish(worker: Worker, attempt: Attempt, command: c.Command) -> None:
    """Send the last command of an attempt; when the store fails, the run is given back and tried again."""

    def done(operation: Operation) -> None:
        if isinstance(operation.error, StoreError):
            worker.lost(attempt)

    attempt.out.send(command, done)


async def failure(worker: Worker, attempt: Attempt, error: Exception) -> c.Fail:
    """The command that an error ends the attempt with: is it tried again, and what is forgotten then."""
    policy = parse_policy(attempt.state.policy)
    retry = worker.options_of(attempt).retry
    again = policy.retry_attempts >= attempt.state.attempt and not _is_terminal(error)
    worker.log(
        attempt, "error", f"attempt {attempt.state.attempt} failed: {type(error).__name__}: {text_of(error)}", None, {}
    )
    if again and retry is not None:
        again = await worker.should_retry(attempt, retry, error)
        if again and retry.on_retry is not None:
            await worker.call_back(attempt.key, "on_retry", retry.on_retry, error, attempt.state.attempt)
    position = failure_position(error)
    info = decode(error_info(error))
    if position is not None:
        info["details"] = {"position": position}
    if isinstance(error, RunTimedOutError):
        info["details"] = {"timeoutMs": error.timeout_ms}
    forget = forgotten(attempt.out.positions, position) if again and position is not None else ()
    return c.Fail(attempt.epoch, encode(info), again, worker.ids.fraction(), tuple(forget))


def _is_terminal(error: BaseException) -> bool:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, TerminalError) or getattr(current, "__osp_terminal__", False):
            return True
        current = current.__cause__ or current.__context__
    return False


async def judge_cancel(worker: Worker, attempt: Attempt) -> None:
    """Ask before_cancel; only False vetoes, an exception or silence for five seconds does not."""
    cancel = worker.options_of(attempt).cancel
    veto = False
    if cancel is not None and cancel.before_cancel is not None:
        asking = worker.call_back(attempt.key, "before_cancel", cancel.before_cancel)
        try:
            veto = await asyncio.wait_for(asking, _limits.BEFORE_CANCEL_MS / 1_000) is False
        except TimeoutError:
            told = encode({"callback": "before_cancel", "error": "TimeoutError", "message": "took over 5 s"})
            worker.put_quietly(lambda transaction: transaction.apply(attempt.key, c.Note("callback.error", told)))
    attempt.out.send(c.JudgeCancel(attempt.epoch, veto), lambda operation: attempt.judged(operation))


async def judge_timeout(worker: Worker, attempt: Attempt) -> None:
    """The attempt's time is up: fail, cancel, or only tell."""
    state = attempt.state
    due, now = timeout_at(state), worker.clock.now()
    if due is None or now < due or attempt.unwinding or attempt.timing_out:
        return
    attempt.timing_out = True
    policy = parse_policy(state.policy)
    timeout = worker.options_of(attempt).timeout
    callback = timeout.on_timeout_callback if timeout is not None else None

    def passed(operation: Operation) -> None:
        attempt.timing_out = False
        if operation.error is not None:
            attempt.refused(operation.error)
        elif callback is not None:
            worker.call_in_turn(attempt.id, attempt.key, "on_timeout_callback", callback)

    if policy.on_timeout == "fail":
        error = RunTimedOutError(attempt.id, policy.timeout_ms or 0, state.attempt)
        command = await failure(worker, attempt, error)
        if not attempt.unwinding:
            attempt.leave(command, passed)
        return
    worker.log(attempt, "warning", f"the timeout of {policy.timeout_ms} ms has passed", None, {})

    def pass_on(transaction: Transaction) -> Any:
        decision = transaction.apply(attempt.key, c.PassTimeout(attempt.epoch))
        if policy.on_timeout == "cancel":
            reason = f"timed out after {policy.timeout_ms} ms"
            transaction.apply(attempt.key, c.Cancel("timeout", reason, None))
        return decision

    attempt.out.transact(pass_on, passed)
