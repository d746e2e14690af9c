"""The one door of every change: ``decide(state, command, now)``.

Pure: the same state, command and instant always give the same decision. It raises the error that the caller sees when
the command is refused; then nothing changes. Only a late answer both changes something (the request expires) and
is refused; such an error is in the decision.
"""

from __future__ import annotations

from typing import assert_never

from osprotocol import _limits
from osprotocol._clock import to_iso
from osprotocol._json import digest, encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle import ending, people
from osprotocol._lifecycle.change import Change, timeout_at
from osprotocol._lifecycle.state import Decision, Event, Followup, RunState
from osprotocol.errors import FencedError, RunNotFoundError
from osprotocol.protocol.run import RunStatus


def decide(state: RunState | None, command: c.Command, now: int) -> Decision:
    """What the command does to the run at that instant.

    Raises:
        RunError: the run's state does not allow the command.
        UsageError: the command makes no sense for any state.
    """
    if isinstance(command, c.Start):
        return _start(command, now)
    if state is None:
        raise RunNotFoundError("")
    if isinstance(command, c.Record):
        return _record(state, command, now)
    change = Change(state, now, state)
    _apply(change, command)
    return change.decision()


def _apply(change: Change, command: c.Command) -> None:
    match command:
        case c.Claim():
            _claim(change, command)
        case c.Yield():
            _yield(change, command)
        case c.Activate():
            change.fence(command.epoch)
            change.set(executing=True, wake=0 if command.seen >= change.state.wake else change.state.wake)
        case c.SetProgress():
            change.fence(command.epoch)
            told = {"current": command.current, "total": command.total, "message": command.message}
            change.set(progress_current=command.current, progress_total=command.total, progress_message=command.message)
            change.emit("run.progress", told)
        case c.Complete():
            ending.complete(change, command)
        case c.Fail():
            ending.fail(change, command)
        case c.EndCancelled():
            ending.end_cancelled_by_code(change, command)
        case c.PassTimeout():
            change.fence(command.epoch)
            change.set(timed_out=True)
            change.emit("run.timed-out", {"timeoutMs": change.policy.timeout_ms, "attempt": change.state.attempt})
        case c.Pause():
            _pause(change, command)
        case c.Resume():
            _resume(change, command)
        case c.Cancel():
            people.check_person(command.by)
            ending.cancel(change, command)
        case c.JudgeCancel():
            ending.judge_cancel(change, command)
        case c.OpenRequest():
            people.open_request(change, command)
        case c.Vote():
            people.vote(change, command)
        case c.Respond():
            people.respond(change, command)
        case c.RefuseAnswer():
            people.refuse_answer(change, command)
        case c.Withdraw():
            change.fence(command.epoch)
            change.close_open_requests(command.position)
        case c.TimerDue():
            _timer_due(change)
        case c.WorkerDied():
            _worker_died(change, command)
        case c.ChildChanged():
            _child_changed(change, command)
        case c.Note():
            change.emit(command.type, None, command.position, command.name)
            change.events[-1] = change.events[-1]._replace(value=command.value)
        case c.TakeOver():
            if change.state.attempt or change.state.is_final:
                raise change.refuse("take over a journal", "only a run that has not begun can")
            for entry in command.entries:
                number = change.state.event + len(change.events) + 1
                change.events.append(_event(number, change.now, entry))
        case c.Start() | c.Record():
            raise AssertionError("handled by decide")
        case _:
            assert_never(command)


def _event(number: int, now: int, entry: c.Entry) -> Event:
    return Event(number, now, entry.type, None, entry.position, entry.name, entry.digest, entry.started_at, entry.value)


def _start(command: c.Start, now: int) -> Decision:
    state = RunState(
        key=command.key,
        id=command.id,
        workflow=command.workflow,
        version=command.version,
        status=RunStatus.PENDING,
        attempt=0,
        epoch=0,
        owner=None,
        event=0,
        executing=False,
        wake=0,
        ready_at=None,
        due_at=None,
        wake_at=None,
        retry_at=None,
        active_us=0,
        active_since=None,
        attempt_at=None,
        timed_out=False,
        pause_at=None,
        pause_settled_at=None,
        pause_by=None,
        pause_reason=None,
        paused_us=0,
        cancel="none",
        cancel_at=None,
        cancel_deadline=None,
        cancel_by=None,
        cancel_reason=None,
        judged=command.judged,
        deaths=0,
        parent=command.parent,
        parent_id=command.parent_id,
        position=command.position,
        depth=command.depth,
        children_moving=0,
        children_waiting=0,
        open_requests=0,
        policy=command.policy,
        labels=command.labels,
        idempotency_key=command.idempotency_key,
        input_digest=command.input_digest,
        origin=command.origin,
        seed=command.seed or command.id,
        progress_current=0,
        progress_total=0,
        progress_message=None,
        error=None,
        created_at=now,
        started_at=None,
        updated_at=now,
        ended_at=None,
    )
    change = Change(state, now, None)
    change.emit("run.started", name=command.workflow)
    change.events[-1] = change.events[-1]._replace(status=RunStatus.PENDING, value=command.input)
    return change.decision()


def _claim(change: Change, command: c.Claim) -> None:
    state = change.state
    if state.ready_at is None:
        raise FencedError(state.id)
    begins = state.attempt_at is None
    attempt = state.attempt + 1 if begins else state.attempt
    epoch = state.epoch + 1
    change.set(
        owner=command.owner,
        epoch=epoch,
        executing=True,
        wake=0,
        wake_at=None,
        attempt=attempt,
        started_at=state.started_at or change.now,
    )
    if begins:
        change.set(attempt_at=change.now, active_us=0, timed_out=False)
    change.emit("run.claimed", {"attempt": attempt, "epoch": epoch, "worker": command.owner})


def _record(state: RunState, command: c.Record, now: int) -> Decision:
    if command.epoch != state.epoch or state.owner is None:
        late = [entry for entry in command.entries if entry.type.startswith("step.") and entry.value is not None]
        if not late:
            raise FencedError(state.id)
        events = [
            Event(
                state.event + n, now, "attempt.late-result", None, None, entry.name, None, entry.started_at,
                encode({"key": entry.position, "type": entry.type, "epoch": command.epoch}),
            )
            for n, entry in enumerate(late, 1)
        ]  # fmt: skip
        kept = state._replace(event=state.event + len(events), updated_at=now)
        return Decision(kept, events, error=FencedError(state.id))
    number = state.event
    events = []
    for entry in command.entries:
        number += 1
        events.append(_event(number, now, entry))
    return Decision(state._replace(event=number, deaths=0, updated_at=now), events)


def _yield(change: Change, command: c.Yield) -> None:
    change.fence(command.epoch)
    state = change.state
    change.set(executing=False, wake=0 if command.seen >= state.wake else state.wake, wake_at=command.wake_at)
    number = state.event
    if command.release:
        change.set(owner=None)
        number = change.emit("run.parked", {"wakeAt": None if command.wake_at is None else to_iso(command.wake_at)})
    if command.runnable and not change.state.wake:
        change.wake(number)


def _pause(change: Change, command: c.Pause) -> None:
    state = change.state
    people.check_person(command.by)
    if state.is_final or state.pause_at is not None or state.cancel != "none":
        if command.following:
            return
        if state.pause_at is not None:
            raise change.refuse("pause", "it is paused already")
        raise change.refuse("pause")
    change.set(pause_at=change.now, pause_by=command.by, pause_reason=command.reason)
    change.emit("run.paused", {"by": command.by, "reason": command.reason})
    _tell_children(change, c.Pause(f"run:{state.id}", command.reason, following=True))


def _resume(change: Change, command: c.Resume) -> None:
    state = change.state
    people.check_person(command.by)
    if command.following and state.pause_by != command.by:
        return
    if state.is_final or state.pause_at is None:
        raise change.refuse("resume", "" if state.is_final else "it is not paused")
    change.clear_pause()
    change.emit("run.resumed", {"by": command.by})
    _tell_children(change, c.Resume(f"run:{state.id}", following=True))


def _tell_children(change: Change, command: c.Command) -> None:
    if change.state.children_moving or change.state.children_waiting:
        change.followups.append(Followup("children", command))


def _timer_due(change: Change) -> None:
    now = change.now
    while True:
        # One after the other from the state as it then is: what closes a gate may close the others too.
        due = [one for one in change.state.requests if one.is_open and one.expires_at is not None]
        expired = [one for one in due if now >= (one.expires_at or 0)]
        if not expired:
            break
        people.expire(change, expired[0])
    state = change.state
    if state.is_final:
        return
    if state.cancel_deadline is not None and now >= state.cancel_deadline:
        ending.end_cancelled(change, None, None)
        return
    if state.pause_settled_at is not None:
        return
    if state.retry_at is not None and now >= state.retry_at:
        change.set(retry_at=None)
        change.wake(change.emit("run.woken", {"by": "retry"}))
    if state.owner is None and state.wake_at is not None and now >= state.wake_at:
        change.set(wake_at=None)
        change.wake(change.emit("run.woken", {"by": "sleep"}))
    timeout = timeout_at(change.state)
    if change.state.owner is None and not change.state.wake and timeout is not None and now >= timeout:
        change.wake(change.emit("run.woken", {"by": "timeout"}))


def _worker_died(change: Change, command: c.WorkerDied) -> None:
    state = change.state
    if state.owner != command.owner or state.is_final:
        return
    if state.active_since is not None:
        # Time after the death does not count: the clock stops where the worker was last seen.
        worked = max(0, min(command.last_seen, change.now) - state.active_since)
        change.set(active_us=state.active_us + worked, active_since=None)
    deaths = state.deaths + 1 if state.executing else state.deaths
    change.set(owner=None, executing=False, deaths=deaths)
    number = change.emit("run.recovered", {"deaths": deaths, "lastSeen": to_iso(command.last_seen)})
    if state.executing:
        change.wake(number)
    if deaths >= _limits.DEATHS_BEFORE_POISON:
        prompt = (
            f"{deaths} workers in a row died while this run executed; it may be what kills them. "
            f"Answer 'retry' to let it try again, or cancel it."
        )
        asked = c.OpenRequest(
            None, command.request_key, "attention", None, prompt, encode({"reason": "poison"}), digest(prompt.encode())
        )
        if change.state.cancel == "none":
            people.open_request(change, asked)
            change.wake(change.state.event + len(change.events))
        else:
            ending.end_cancelled(change, None, None)


def _child_changed(change: Change, command: c.ChildChanged) -> None:
    state = change.state
    if state.is_final:
        return
    moving = state.children_moving + (command.after == "moving") - (command.before == "moving")
    waiting = state.children_waiting + (command.after == "waiting") - (command.before == "waiting")
    change.set(children_moving=max(0, moving), children_waiting=max(0, waiting))
    told = {"runId": command.child_id}
    if command.after == "ended":
        change.wake(change.emit("child.ended", told, name=command.position))
    elif command.before:
        # The worker that holds this run may be another process, which notices a changed row by its event.
        change.emit(f"child.{command.after}", told, name=command.position)
