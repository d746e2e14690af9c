"""A state machine: any commands in any order, against a small model, with invariants after each."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from osprotocol._json import decode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.change import timeout_at
from osprotocol._lifecycle.people import identity
from osprotocol._lifecycle.policy import parse_policy
from osprotocol._lifecycle.state import RunState
from osprotocol.errors import OSProtocolError
from osprotocol.protocol.run import FINAL_STATUSES, RunStatus
from tests.lifecycle.situations import ERROR, MS, WORKER, Story

PEOPLE = st.sampled_from(["ann", "Ann", "bob", "eve", " bob "])
TEAMS = st.sampled_from([(), ("ann",), ("ann", "bob"), ("Ann", "bob", "eve")])
TIMEOUTS = st.none() | st.integers(1, 20_000)
POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "timeout_ms": st.integers(1, 30_000),
        "timeout_clock": st.sampled_from(["active", "wall"]),
        "retry_attempts": st.integers(0, 3),
        "delay_ms": st.integers(0, 10_000),
        "graceful": st.booleans(),
        "graceful_timeout_ms": st.integers(0, 10_000),
    },
)
IN_ORDER = [RunStatus.PENDING, RunStatus.IN_PROGRESS, RunStatus.AWAITING]


class Lives(RuleBasedStateMachine):
    """One run. A worker in memory sends only what a worker may send; everyone else may send anything."""

    def __init__(self) -> None:
        super().__init__()
        self.before: RunState | None = None
        self.outcomes: dict[str, str] = {}
        self.votes: dict[str, dict[str, bool]] = {}
        self.children: dict[str, str] = {}
        self.position = 0
        self.steps = 0
        self.owed = 0  # the newest event that gave the code something to do and that no attempt has taken up

    @initialize(policy=POLICIES, judged=st.booleans())
    def start(self, policy: dict[str, Any], judged: bool) -> None:
        self.story = Story(policy=policy, judged=judged)

    # ----------------------------------------------------------------------------------------------- doing

    @property
    def state(self) -> RunState:
        return self.story.state

    def do(self, command: c.Command) -> Any:
        """Do it; a refusal has to leave everything as it was."""
        self.before = self.state
        self.steps += 1
        events, requests = len(self.story.events), dict(self.story.requests)
        try:
            decision = self.story.do(command)
        except OSProtocolError:
            assert (self.state, len(self.story.events), self.story.requests) == (self.before, events, requests)
            return None
        self.check_events(events)
        return decision

    def check_events(self, known: int) -> None:
        """Numbers follow on, the last status told is the status, and a request has one outcome until it reopens."""
        new = self.story.events[known:]
        owed = [event.number for event in new if event.type in ("request.closed", "child.ended", "run.recovered")]
        self.owed = 0 if any(event.type == "run.claimed" for event in new) else max([self.owed, *owed])
        assert [event.number for event in new] == list(range(known + 1, known + 1 + len(new)))
        told = [event.status for event in self.story.events if event.status is not None]
        assert told[-1] is self.state.status
        for event in new:
            if event.type in ("request.closed", "request.reopened"):
                data = decode(event.value)
                if event.type == "request.closed":
                    assert data["requestId"] not in self.outcomes, "a second outcome"
                    self.outcomes[data["requestId"]] = data["outcome"]
                else:
                    del self.outcomes[data["requestId"]]

    @property
    def is_old(self) -> bool:
        """Runs that end at once would show little."""
        return self.steps > 25

    @property
    def may_retry(self) -> bool:
        policy = parse_policy(self.state.policy)
        return self.state.attempt <= policy.retry_attempts and self.state.cancel == "none"

    @property
    def executing(self) -> bool:
        return self.state.executing

    @rule(ms=st.integers(-2_000, 15_000))
    def time_passes(self, ms: int) -> None:
        self.story.now += ms * MS

    @precondition(lambda self: self.state.due_at is not None)
    @rule()
    def the_next_timer_is_due(self) -> None:
        assert self.state.due_at is not None
        self.story.now = max(self.story.now, self.state.due_at)
        self.do(c.TimerDue())

    @rule()
    def a_timer_fires(self) -> None:
        self.do(c.TimerDue())
        assert all(one.expires_at is None or one.expires_at > self.story.now for one in self.state.requests)

    # ------------------------------------------------------------------------------------------ the worker

    @rule()
    def claim(self) -> None:
        ready = self.state.ready_at is not None
        assert (self.do(c.Claim(WORKER)) is not None) == ready

    @precondition(lambda self: self.executing)
    @rule()
    def a_step_completes(self) -> None:
        self.position += 1
        entry = c.Entry("step.completed", str(self.position), "load", value="1")
        self.do(c.Record(self.state.epoch, (entry,)))

    @precondition(lambda self: self.executing and self.state.cancel == "none")
    @rule(
        kind=st.sampled_from(["approval", "input"]), team=TEAMS, required=st.integers(1, 3),
        threshold=st.integers(1, 2),
        timeout_ms=TIMEOUTS, auto=st.booleans(),
    )  # fmt: skip
    def the_code_asks(self, kind: str, team: tuple[str, ...], **more: Any) -> None:
        self.position += 1
        auto = more.pop("auto")
        self.do(self.story.asking(kind, str(self.position), approvers=team, auto_approve=auto, **more))

    @precondition(lambda self: self.state.owner is not None and self.has_something_to_wait_for())
    @rule(release=st.booleans(), unseen=st.integers(0, 2))
    def the_attempt_stands_still(self, release: bool, unseen: int) -> None:
        seen = self.state.event - unseen
        # Code that stands only at a gate has something to go on with once the gate is decided.
        asks = any(request.position is not None for request in self.state.requests)
        runnable = release and not asks and not self.children_alive()
        self.do(c.Yield(self.state.epoch, seen, release=release, runnable=runnable))
        if release and self.owed > seen and not self.state.is_held:
            assert self.state.ready_at is not None, "what the attempt had not seen is lost"
        self.owed = self.owed if self.owed > seen else 0

    @precondition(lambda self: self.executing)
    @rule(ms=st.integers(1, 10_000), release=st.booleans())
    def the_code_sleeps(self, ms: int, release: bool) -> None:
        self.do(c.Yield(self.state.epoch, self.state.event, self.story.now + ms * MS, release=release))

    @precondition(lambda self: self.executing)
    @rule()
    def the_worker_stops(self) -> None:
        self.do(c.Yield(self.state.epoch, self.state.event, release=True, runnable=True))

    def has_something_to_wait_for(self) -> bool:
        return bool(self.state.requests or self.children_alive()) and self.state.cancel == "none"

    @precondition(lambda self: self.state.owner is not None)
    @rule()
    def the_attempt_goes_on(self) -> None:
        self.do(c.Activate(self.state.epoch, self.state.event))
        self.owed = 0

    @precondition(lambda self: self.executing and self.is_old)
    @rule()
    def the_code_returns(self) -> None:
        cancelling = self.state.cancel == "cancelling"
        self.do(c.Complete(self.state.epoch, "1"))
        assert self.state.status is (RunStatus.CANCELLED if cancelling else RunStatus.COMPLETED)

    @precondition(lambda self: self.executing and (self.is_old or self.may_retry))
    @rule(retry=st.booleans(), forget=st.booleans())
    def the_attempt_fails(self, retry: bool, forget: bool) -> None:
        retry = retry or not self.is_old
        position = self.state.requests[0].position if self.state.requests and forget else None
        self.do(c.Fail(self.state.epoch, ERROR, retry, forget=(position,) if position else ()))
        for request in self.story.requests.values():
            if request.status == "cancelled":
                self.outcomes.setdefault(request.id, "cancelled")  # what a retry forgets is told by its own event

    @precondition(lambda self: self.state.cancel == "asked" and self.state.owner is not None)
    @rule(veto=st.booleans())
    def the_cancel_is_judged(self, veto: bool) -> None:
        self.do(c.JudgeCancel(self.state.epoch, veto))

    @precondition(lambda self: self.executing)
    @rule(data=st.data())
    def the_worker_refuses_an_answer(self, data: st.DataObject) -> None:
        answered = [one.id for one in self.story.requests.values() if one.status == "answered" and one.kind == "input"]
        if answered:
            self.do(c.RefuseAnswer(self.state.epoch, data.draw(st.sampled_from(answered)), "no"))

    @rule()
    def the_worker_dies(self) -> None:
        self.before = self.state
        known = len(self.story.events)
        self.story.die()
        self.check_events(known)

    @rule(back=st.integers(0, 3))
    def an_attempt_writes_that_lost_the_run(self, back: int) -> None:
        if back or self.state.owner is None:
            assert self.do(c.Complete(self.state.epoch - back, "1")) is None

    # --------------------------------------------------------------------------------------------- children

    def children_alive(self) -> list[str]:
        return [child for child, category in self.children.items() if category != "ended"]

    @precondition(lambda self: self.executing and len(self.children) < 4)
    @rule()
    def a_child_starts(self) -> None:
        child = f"child{len(self.children)}"
        self.do(c.ChildChanged(child, "1", "", "moving"))
        self.children[child] = "moving"

    @precondition(lambda self: self.children_alive())
    @rule(data=st.data(), after=st.sampled_from(["moving", "waiting", "ended"]))
    def a_child_changes(self, data: st.DataObject, after: str) -> None:
        child = data.draw(st.sampled_from(self.children_alive()))
        if self.children[child] != after:
            self.do(c.ChildChanged(child, "1", self.children[child], after))
            self.children[child] = after

    # ----------------------------------------------------------------------------------------------- people

    @rule(by=PEOPLE)
    def pause(self, by: str) -> None:
        allowed = not self.state.is_final and self.state.pause_at is None and self.state.cancel == "none"
        assert (self.do(c.Pause(by)) is not None) == allowed

    @rule(by=PEOPLE)
    def resume(self, by: str) -> None:
        allowed = not self.state.is_final and self.state.pause_at is not None
        assert (self.do(c.Resume(by)) is not None) == allowed

    @precondition(lambda self: self.is_old)
    @rule(by=PEOPLE, graceful=st.sampled_from([None, True, False]))
    def cancel(self, by: str, graceful: bool | None) -> None:
        allowed = not self.state.is_final
        assert (self.do(c.Cancel(by, "r", graceful)) is not None) == allowed
        if allowed and graceful is False:
            assert self.state.status is RunStatus.CANCELLED

    @precondition(lambda self: len(self.story.requests) < 12)
    @rule(team=TEAMS, timeout_ms=TIMEOUTS, on_reject=st.sampled_from(["cancel", "continue"]))
    def a_gate_is_put(self, team: tuple[str, ...], timeout_ms: int | None, on_reject: str) -> None:
        on_reject = on_reject if self.is_old else "continue"
        self.do(self.story.asking(position=None, approvers=team, timeout_ms=timeout_ms, on_reject=on_reject))

    @precondition(lambda self: self.story.requests)
    @rule(data=st.data(), by=PEOPLE, approved=st.booleans())
    def vote(self, data: st.DataObject, by: str, approved: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.story.requests)))
        votes = self.votes.setdefault(request_id, {})
        request = self.story.requests[request_id]
        was_open, until = request.is_open, request.expires_at
        decision = self.do(c.Vote(by, approved, request_id))
        if decision is not None and was_open and until is not None and self.story.now >= until:
            assert self.story.requests[request_id].status == "expired", "a vote counted after the deadline"
        if decision is not None and decision.error is None:
            assert votes.setdefault(identity(by), approved) is approved, "a person voted both ways"
            assert was_open or identity(by) in votes

    @precondition(lambda self: self.story.requests)
    @rule(data=st.data(), by=PEOPLE)
    def respond(self, data: st.DataObject, by: str) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.story.requests)))
        self.do(c.Respond(by, '"retry"', request_id))

    @rule()
    def note(self) -> None:
        self.do(c.Note("callback.error"))

    # ------------------------------------------------------------------------------------------- invariants

    @invariant()
    def the_status_moves_as_it_may(self) -> None:
        """Nothing leaves a final status, nothing goes back to pending, nothing skips the start."""
        if self.before is None:
            return
        before, now = self.before.status, self.state.status
        if before in FINAL_STATUSES:
            assert now is before
            assert self.state._replace(event=0, updated_at=0) == self.before._replace(event=0, updated_at=0)
        elif now in IN_ORDER:
            assert (now is RunStatus.PENDING) == (self.state.attempt == 0)
        assert self.state.epoch >= self.before.epoch
        assert self.state.attempt >= self.before.attempt

    @invariant()
    def the_row_is_consistent(self) -> None:
        """What the schema checks, and that derived columns are right."""
        state = self.state
        assert state.event == len(self.story.events)
        assert (state.ended_at is not None) == (state.status in FINAL_STATUSES)
        assert state.open_requests == len(state.requests) == sum(r.is_open for r in self.story.requests.values())
        assert not state.executing or state.owner is not None
        assert state.ready_at is None or (state.owner is None and not state.is_final)
        assert state.pause_settled_at is None or state.pause_at is not None
        if state.retry_at is not None:
            assert state.ready_at is None, "a retry delay is cut short"
            assert state.owner is None
        if state.is_final:
            assert state.owner is None
            assert not state.executing
            assert not state.open_requests
            assert state.due_at is None
            assert state.cancel == "none"
        else:
            alive = [self.children[child] for child in self.children_alive()]
            assert (state.children_moving, state.children_waiting) == (alive.count("moving"), alive.count("waiting"))

    @invariant()
    def there_is_no_limbo(self) -> None:
        """Every run that is not final is claimable, held by a worker, waiting for something named, or paused."""
        state = self.state
        if state.is_final:
            return
        waits = bool(state.open_requests or state.children_moving or state.children_waiting)
        timed = state.due_at is not None
        paused = state.pause_at is not None
        assert state.ready_at is not None or state.owner is not None or waits or timed or paused
        if state.owner is None and state.wake and not state.is_held and state.retry_at is None:
            assert state.ready_at is not None, "something to do and nobody may"

    @invariant()
    def awaiting_means_people(self) -> None:
        """Awaiting: somebody has to act and nothing executes. Anything else that lives is pending or in-progress."""
        state = self.state
        people = state.open_requests or state.pause_settled_at is not None or state.children_waiting
        moving = state.executing or state.children_moving or state.cancel == "cancelling"
        if state.status is RunStatus.AWAITING:
            assert people
            assert not moving
        if state.status is RunStatus.IN_PROGRESS and people and not moving:
            assert state.wake > 0
            assert not state.is_held

    @invariant()
    def due_at_is_the_earliest_of_its_parts(self) -> None:
        """Expiries, the cancel deadline, retry, sleep and timeout; in a pause only the first two."""
        state = self.state
        if state.is_final:
            return
        parts = [request.expires_at for request in state.requests]
        parts.append(state.cancel_deadline)
        paused = state.pause_settled_at is not None
        parked = state.owner is None
        if not paused:
            parts.append(state.retry_at)
            if parked and not state.wake:
                parts.append(state.wake_at)
        if not parked or not (state.wake or state.is_held):
            parts.append(timeout_at(state))
        assert state.due_at == min((part for part in parts if part is not None), default=None)

    @invariant()
    def the_active_clock_stands_still_when_it_must(self) -> None:
        """It runs only in-progress, within an attempt, outside of pauses, and not while the run waits for a worker."""
        state = self.state
        assert state.active_us >= 0
        if state.active_since is not None and not state.is_final:
            assert state.status is RunStatus.IN_PROGRESS
            assert state.attempt_at is not None
            assert state.pause_settled_at is None
            assert not (state.owner is None and state.wake), "the wait for a worker counts"

    @invariant()
    def a_vote_counts_once_a_person(self) -> None:
        """Counted votes are distinct people who may vote, and they are what decided."""
        for request in self.story.requests.values():
            votes = decode(request.responses)
            people = [identity(vote["by"]) for vote in votes]
            assert len(set(people)) == len(people)
            if request.kind != "approval":
                continue
            team = {identity(name) for name in decode(request.approvers)}
            assert not team or set(people) <= team
            yes = sum(vote["approved"] for vote in votes)
            assert (request.status == "approved") == (yes >= request.required)
            unreachable = bool(team) and len(team) - (len(votes) - yes) < request.required
            assert (request.status == "rejected") == (len(votes) - yes >= request.threshold or unreachable)

    @invariant()
    def a_closed_request_keeps_its_outcome(self) -> None:
        """What was told is what is stored."""
        for request in self.story.requests.values():
            assert self.outcomes.get(request.id, "open") == request.status


TestLives = Lives.TestCase
