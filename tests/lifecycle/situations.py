"""Every situation that a run can be in, each reached by commands from the start, and every command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from osprotocol._json import encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.decide import decide
from osprotocol._lifecycle.state import Decision, RequestState, RunState

T0 = 1_700_000_000_000_000
MS = 1_000
SECOND = 1_000_000
WORKER = 7


class Story:
    """A run that lives through commands, with what the store would keep: its events and all of its requests."""

    def __init__(self, now: int = T0, **start: Any) -> None:
        self.now = now
        self.events: list[Any] = []
        self.requests: dict[str, RequestState] = {}
        self.followups: list[Any] = []
        self.run: RunState | None = None
        self.do(start_command(**start))

    @property
    def state(self) -> RunState:
        assert self.run is not None
        return self.run

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def request(self) -> RequestState:
        """The request that was asked last."""
        return max(self.requests.values(), key=lambda request: request.key)

    def with_named(self, request_id: str | None) -> RunState | None:
        """The state as the store loads it: with its open requests and the one that a command names."""
        if self.run is None or request_id is None or any(one.id == request_id for one in self.run.requests):
            return self.run
        named = self.requests.get(request_id)
        return self.run if named is None else self.run._replace(requests=(*self.run.requests, named))

    def do(self, command: c.Command, *, after_us: int = 0) -> Decision:
        """Decide a command and keep what it changed; raises its refusal."""
        self.now += after_us
        decision = decide(self.with_named(getattr(command, "request_id", None)), command, self.now)
        kept = tuple(request for request in decision.state.requests if request.is_open)
        self.run = decision.state._replace(requests=kept)
        self.events += decision.events
        self.requests.update({request.id: request for request in decision.requests})
        self.followups += decision.followups
        return decision

    def claim(self) -> Story:
        self.do(c.Claim(WORKER))
        return self

    def park(self, *, sleep_ms: int | None = None) -> Story:
        """Nothing of the run executes any more and the worker gives it back."""
        wake_at = None if sleep_ms is None else self.now + sleep_ms * MS
        self.do(c.Yield(self.state.epoch, self.state.event, wake_at, release=True))
        return self

    def ask(self, kind: str = "approval", position: str | None = "1", **more: Any) -> Story:
        self.do(self.asking(kind, position, **more))
        return self

    def asking(self, kind: str = "approval", position: str | None = "1", **more: Any) -> c.OpenRequest:
        epoch = None if position is None else self.state.epoch
        known = [request.key for request in self.requests.values()]
        return c.OpenRequest(epoch, max(known, default=0) + 1, kind, position, "Go on?", None, "d" * 64, **more)

    def die(self, *, after_us: int = 0) -> Decision:
        self.now += after_us
        key = 1 + max((request.key for request in self.requests.values()), default=0)
        return self.do(c.WorkerDied(WORKER, self.now, key))


def start_command(**more: Any) -> c.Start:
    policy = more.pop("policy", {})
    defaults: dict[str, Any] = {
        "key": 1, "id": "run1", "workflow": "publish", "version": None, "input": '"x"', "input_digest": "i",
        "policy": encode(policy) if policy else "{}",
    }  # fmt: skip
    return c.Start(**{**defaults, **more})


RETRYING = {"retry_attempts": 1, "delay_ms": 1_000}
ERROR = encode({"type": "ValueError", "message": "bad"})


def _failed() -> Story:
    story = Story().claim()
    story.do(c.Fail(story.state.epoch, ERROR, retry=False))
    return story


def _completed() -> Story:
    story = Story().claim()
    story.do(c.Complete(story.state.epoch, '"done"'))
    return story


def _cancelled() -> Story:
    story = Story()
    story.do(c.Cancel("ann"))
    return story


def _retrying() -> Story:
    story = Story(policy=RETRYING).claim()
    story.do(c.Fail(story.state.epoch, ERROR, retry=True))
    return story


def _standing() -> Story:
    story = Story().claim().ask()
    story.do(c.Yield(story.state.epoch, story.state.event))
    return story


def _paused(story: Story) -> Story:
    story.do(c.Pause("ann", "lunch"))
    return story


def _poisoned() -> Story:
    story = Story()
    for _ in range(3):
        story.claim().die()
    return story


def _asked_to_cancel() -> Story:
    story = Story(judged=True).claim()
    story.do(c.Cancel("ann"))
    return story


def _cancelling() -> Story:
    story = Story().claim()
    story.do(c.Cancel("ann"))
    return story


def _answered() -> Story:
    story = Story().claim().ask("input").park()
    story.do(c.Respond("ann", '"x"'))
    return story


def _with_child(category: str) -> Story:
    story = Story().claim()
    story.do(c.ChildChanged("child1", "1", "", "moving"))
    if category == "waiting":
        story.do(c.ChildChanged("child1", "1", "moving", "waiting"))
    return story.park()


SITUATIONS: dict[str, Callable[[], Story]] = {
    "pending": Story,
    "pending, paused": lambda: _paused(Story()),
    "executing": lambda: Story().claim(),
    "executing, pause asked": lambda: _paused(Story().claim()),
    "executing, a branch asks": lambda: Story().claim().ask(),
    "stands still, asks": _standing,
    "asks an approval": lambda: Story().claim().ask().park(),
    "asks an input": lambda: Story().claim().ask("input").park(),
    "asks, paused": lambda: _paused(Story().claim().ask().park()),
    "answered, not yet taken up": _answered,
    "sleeping": lambda: Story().claim().park(sleep_ms=60_000),
    "sleeping, paused": lambda: _paused(Story().claim().park(sleep_ms=60_000)),
    "waiting to retry": _retrying,
    "gate in front": lambda: Story().claim().park(sleep_ms=60_000).ask(position=None, on_reject="cancel"),
    "child moving": lambda: _with_child("moving"),
    "child waiting": lambda: _with_child("waiting"),
    "poison": _poisoned,
    "cancel asked": _asked_to_cancel,
    "cancelling": _cancelling,
    "completed": _completed,
    "failed": _failed,
    "cancelled": _cancelled,
}

FINAL = ("completed", "failed", "cancelled")

PEOPLE: dict[str, Callable[[Story], c.Command]] = {
    "pause": lambda story: c.Pause("ann"),
    "resume": lambda story: c.Resume("ann"),
    "cancel": lambda story: c.Cancel("ann"),
    "cancel at once": lambda story: c.Cancel("ann", graceful=False),
    "approve": lambda story: c.Vote("ann", True),
    "reject": lambda story: c.Vote("ann", False),
    "respond": lambda story: c.Respond("ann", '"retry"'),
    "gate": lambda story: story.asking(position=None),
}

ENGINE: dict[str, Callable[[Story], c.Command]] = {
    "claim": lambda story: c.Claim(WORKER),
    "record": lambda story: c.Record(story.state.epoch, (c.Entry("step.completed", "1", "load", value="1"),)),
    "progress": lambda story: c.SetProgress(story.state.epoch, 1, 2, None),
    "park": lambda story: c.Yield(story.state.epoch, story.state.event, release=True, runnable=True),
    "stand still": lambda story: c.Yield(story.state.epoch, story.state.event),
    "go on": lambda story: c.Activate(story.state.epoch, story.state.event),
    "ask": lambda story: story.asking(position="9"),
    "withdraw": lambda story: c.Withdraw(story.state.epoch, "1"),
    "refuse answer": lambda story: c.RefuseAnswer(story.state.epoch, story.request.id if story.requests else "-", "no"),
    "complete": lambda story: c.Complete(story.state.epoch, "1"),
    "fail": lambda story: c.Fail(story.state.epoch, ERROR, retry=False),
    "fail, may retry": lambda story: c.Fail(story.state.epoch, ERROR, retry=True),
    "end cancelled": lambda story: c.EndCancelled(story.state.epoch),
    "pass timeout": lambda story: c.PassTimeout(story.state.epoch),
    "veto": lambda story: c.JudgeCancel(story.state.epoch, veto=True),
    "no veto": lambda story: c.JudgeCancel(story.state.epoch, veto=False),
    "timer": lambda story: c.TimerDue(),
    "worker died": lambda story: c.WorkerDied(WORKER, story.now, 1_000),
    "child ended": lambda story: c.ChildChanged("child1", "1", "moving", "ended"),
    "child waits": lambda story: c.ChildChanged("child1", "1", "moving", "waiting"),
    "note": lambda story: c.Note("callback.error"),
    "take over": lambda story: c.TakeOver((c.Entry("step.completed", "1", "load", value="1"),)),
}

COMMANDS = {**PEOPLE, **ENGINE}


def outcome(situation: str, command: str) -> str:
    """What the command does there: the status after it, with what else is then true, or the code of its refusal."""
    story = SITUATIONS[situation]()
    before = story.state.event
    try:
        decision = story.do(COMMANDS[command](story))
    except Exception as error:  # noqa: BLE001 - the outcome is the refusal itself
        return f"! {getattr(error, 'code', repr(error))}"
    state = story.state
    words = [state.status.value]
    if state.pause_at is not None:
        words.append("paused" if state.pause_settled_at is not None else "pausing")
    if state.cancel != "none":
        words.append("cancel asked" if state.cancel == "asked" else "cancelling")
    if state.ready_at is not None:
        words.append("ready")
    if state.event == before:
        words.append("no event")
    if decision.error is not None:
        words.append(f"told {getattr(decision.error, 'code', '')}")
    return ", ".join(words)
