"""How a run ends: result, failure with or without a retry, cancel."""

from __future__ import annotations

from osprotocol._clock import to_iso
from osprotocol._json import decode
from osprotocol._lifecycle.change import Change
from osprotocol._lifecycle.commands import Cancel, Complete, EndCancelled, Fail, JudgeCancel
from osprotocol._lifecycle.policy import backoff_us
from osprotocol._lifecycle.state import Followup
from osprotocol.protocol.run import RunStatus

_US_PER_MS = 1_000


def complete(change: Change, command: Complete) -> None:
    change.fence(command.epoch)
    if change.state.cancel == "cancelling":
        end_cancelled(change, None, None)
    else:
        change.end(RunStatus.COMPLETED, "run.completed", None, text=command.result)


def fail(change: Change, command: Fail) -> None:
    change.fence(command.epoch)
    state, policy = change.state, change.policy
    if state.cancel == "cancelling":
        end_cancelled(change, None, None)
        return
    if not command.retry or state.attempt > policy.retry_attempts:
        change.end(RunStatus.FAILED, "run.failed", decode(command.error), error=command.error)
        return
    delay = backoff_us(
        state.attempt, policy.delay_ms, policy.backoff, policy.max_delay_ms, policy.jitter, command.fraction
    )
    for position in command.forget:
        change.close_open_requests(position)
    number = change.emit(
        "run.retrying",
        {
            "attempt": state.attempt,
            "error": decode(command.error),
            "retryAt": to_iso(change.now + delay),
            "forgotten": list(command.forget),
        },
    )
    change.set(owner=None, executing=False, attempt_at=None, active_us=0, active_since=None, wake=0, wake_at=None)
    if delay:
        change.set(retry_at=change.now + delay)
    else:
        change.wake(number)


def cancel(change: Change, command: Cancel) -> None:
    state = change.state
    if state.is_final:
        if not command.following:
            raise change.refuse("cancel")
        return
    graceful = change.policy.graceful if command.graceful is None else command.graceful
    reason = command.reason if command.reason is not None else change.policy.cancel_reason
    if state.attempt == 0 or state.attempt_at is None or not graceful:
        # Nothing of its code has run, or none runs between two attempts, or it may not: there is no cleanup.
        if state.cancel == "none" or command.reason is not None:
            change.set(cancel_by=command.by, cancel_reason=reason)
        end_cancelled(change, None, None)
        change.reply = "cancelled"
    elif state.cancel == "cancelling" or (state.cancel == "asked" and not command.following):
        change.reply = "cancelling" if state.cancel == "cancelling" else "asked"
    elif state.judged and not command.following:
        change.set(cancel="asked", cancel_at=change.now, cancel_by=command.by, cancel_reason=reason)
        change.emit("run.cancel-asked", {"by": command.by, "reason": reason})
        change.reply = "asked"
    else:
        begin_cancel(change, command.by, reason)
        change.reply = "cancelling"


def begin_cancel(change: Change, by: str, reason: str | None) -> None:
    """Close what is open, clear a pause, and bring the code back for its cleanup."""
    state = change.state
    change.clear_pause()
    change.close_open_requests()
    deadline = change.now + change.policy.graceful_timeout_ms * _US_PER_MS
    number = change.emit("run.cancelling", {"by": by, "reason": reason, "deadline": to_iso(deadline)})
    change.set(
        cancel="cancelling",
        cancel_at=change.now,
        cancel_by=by,
        cancel_reason=reason,
        cancel_deadline=deadline,
        wake_at=None,
    )
    change.wake(number)
    if state.children_moving or state.children_waiting:
        why = f"the parent run was cancelled: {reason}" if reason else "the parent run was cancelled"
        change.followups.append(Followup("children", Cancel(f"run:{state.id}", why, None, following=True)))


def judge_cancel(change: Change, command: JudgeCancel) -> None:
    change.fence(command.epoch)
    state = change.state
    if state.cancel != "asked":
        return
    if command.veto:
        change.set(cancel="none", cancel_at=None, cancel_by=None, cancel_reason=None)
        change.emit("run.cancel-vetoed", {"by": state.cancel_by, "reason": state.cancel_reason})
    else:
        begin_cancel(change, state.cancel_by or "", state.cancel_reason)


def end_cancelled(change: Change, reason: str | None, by: str | None) -> None:
    """The run is `cancelled`; the reason and actor of the cancel win over what the code gives."""
    state = change.state
    reason = state.cancel_reason if state.cancel_by is not None else reason
    by = state.cancel_by if state.cancel_by is not None else by
    change.set(cancel_by=by, cancel_reason=reason, cancel_at=state.cancel_at or change.now)
    change.end(RunStatus.CANCELLED, "run.cancelled", {"by": by, "reason": reason})


def end_cancelled_by_code(change: Change, command: EndCancelled) -> None:
    change.fence(command.epoch)
    end_cancelled(change, command.reason, command.by)
