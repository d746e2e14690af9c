"""Pause, cancel, timeout, retry, death and children, sentence by sentence."""

from __future__ import annotations

import pytest

from osprotocol._clock import to_iso
from osprotocol._json import decode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.change import timeout_at
from osprotocol._lifecycle.decide import decide
from osprotocol.errors import FencedError, InvalidTransitionError
from osprotocol.protocol.run import RunStatus
from tests.lifecycle.situations import ERROR, MS, RETRYING, SECOND, SITUATIONS, T0, WORKER, Story, start_command

TIMED = {"timeout_ms": 10_000}


def test_a_pause_of_a_run_that_nobody_executes_is_settled_at_once() -> None:
    """One event tells the pause and that it is settled."""
    story = SITUATIONS["sleeping"]()
    story.do(c.Pause("ann"))
    assert story.state.pause_settled_at == story.now
    assert "run.pause-settled" not in story.types


def test_a_pause_of_an_executing_run_settles_when_its_branches_stand_still() -> None:
    """Until then it is in-progress and not settled."""
    story = SITUATIONS["executing, pause asked"]()
    assert "run.pause-settled" not in story.types
    story.do(c.Yield(story.state.epoch, story.state.event), after_us=SECOND)
    assert story.state.pause_settled_at == story.now
    assert story.types[-1] == "run.pause-settled"


def test_a_pause_prolongs_a_sleep_by_the_time_it_stood_still() -> None:
    """Timers stand still from when the pause is settled to the resume."""
    story = SITUATIONS["sleeping"]()
    wake_at = story.state.wake_at or 0
    story.do(c.Pause("ann"), after_us=5 * SECOND)
    assert story.state.due_at is None
    story.do(c.Resume("ann"), after_us=100 * SECOND)
    assert story.state.due_at == wake_at + 100 * SECOND


def test_a_pause_prolongs_a_retry_delay() -> None:
    """The delay before the next attempt stands still too."""
    story = SITUATIONS["waiting to retry"]()
    retry_at = story.state.retry_at or 0
    story.do(c.Pause("ann"))
    story.do(c.TimerDue(), after_us=3_600 * SECOND)
    assert story.state.ready_at is None
    story.do(c.Resume("ann"))
    assert story.state.retry_at == retry_at + 3_600 * SECOND


def test_a_clock_set_back_in_a_pause_shortens_nothing() -> None:
    """The time that stood still is never negative."""
    story = SITUATIONS["sleeping"]()
    wake_at = story.state.wake_at
    story.do(c.Pause("ann"))
    story.do(c.Resume("ann"), after_us=-50 * SECOND)
    assert story.state.wake_at == wake_at


def test_pause_and_resume_reach_the_children() -> None:
    """A child follows its parent."""
    story = SITUATIONS["child moving"]()
    story.do(c.Pause("ann"))
    assert isinstance(story.followups[-1].command, c.Pause)
    story.do(c.Resume("ann"))
    assert isinstance(story.followups[-1].command, c.Resume)


def test_a_child_that_was_paused_by_itself_stays_paused_when_its_parent_resumes() -> None:
    """A parent's resume ends only the pause that came from it."""
    child = SITUATIONS["sleeping, paused"]()
    child.do(c.Resume("run:parent", following=True))
    assert child.state.pause_at is not None


def test_a_pause_clears_no_vote_and_a_cancel_clears_the_pause() -> None:
    """Cancel works on a paused run and ends its pause."""
    story = SITUATIONS["asks, paused"]()
    story.do(c.Cancel("bob", "enough"))
    assert story.state.pause_at is None
    assert story.request.status == "cancelled"


def test_a_cancel_sets_an_absolute_deadline() -> None:
    """The cleanup has graceful_timeout_ms from the cancel; then the run is cancelled and fenced."""
    story = Story(policy={"graceful_timeout_ms": 500}).claim()
    epoch = story.state.epoch
    story.do(c.Cancel("ann", "why"))
    assert story.state.due_at == story.now + 500 * MS
    story.do(c.TimerDue(), after_us=500 * MS)
    assert story.state.status is RunStatus.CANCELLED
    with pytest.raises(FencedError):
        story.do(c.Complete(epoch, "1"))


def test_the_reason_of_the_call_wins_over_the_options() -> None:
    """Cancel.reason is only used when the call gives none."""
    for given, kept in (("call", "call"), (None, "options")):
        story = Story(policy={"cancel_reason": "options"})
        story.do(c.Cancel("ann", given))
        assert (story.state.cancel_reason, story.state.cancel_by) == (kept, "ann")


def test_code_that_swallows_the_cancel_and_returns_ends_cancelled() -> None:
    """Nothing turns a cancelled run into a completed one."""
    story = SITUATIONS["cancelling"]()
    story.do(c.Complete(story.state.epoch, '"fine"'))
    assert story.state.status is RunStatus.CANCELLED


def test_a_cancel_of_a_judged_run_is_asked_first() -> None:
    """The worker that holds it judges; a veto lets the run go on as it was."""
    story = SITUATIONS["cancel asked"]()
    story.do(c.JudgeCancel(story.state.epoch, veto=True))
    assert (story.state.cancel, story.state.cancel_by) == ("none", None)
    assert story.types[-1] == "run.cancel-vetoed"


def test_a_parked_run_with_a_judge_is_brought_back_to_judge() -> None:
    """Even while paused: the cancel may be asked at any time."""
    story = Story(judged=True).claim().park(sleep_ms=60_000)
    story.do(c.Pause("ann"))
    story.do(c.Cancel("ann"))
    assert story.state.ready_at is not None


def test_cancelling_at_once_needs_no_judge() -> None:
    """Forced is forced."""
    story = SITUATIONS["cancel asked"]()
    story.do(c.Cancel("bob", "now", graceful=False))
    assert (story.state.status, story.state.cancel_reason) == (RunStatus.CANCELLED, "now")


def test_a_cancel_in_the_retry_delay_ends_the_run_at_once() -> None:
    """None of its code runs between two attempts, so there is no cleanup."""
    story = SITUATIONS["waiting to retry"]()
    assert story.do(c.Cancel("ann")).reply == "cancelled"


def test_the_end_of_a_run_closes_its_requests_and_cancels_its_children() -> None:
    """Whatever ends it."""
    story = Story().claim().ask()
    story.do(c.ChildChanged("child1", "2", "", "moving"))
    story.do(c.Complete(story.state.epoch, "1"))
    assert story.request.status == "cancelled"
    told = story.followups[-1]
    assert (told.target, told.command.following) == ("children", True)
    assert isinstance(told.command, c.Cancel)


def test_a_late_cancel_is_refused_with_the_final_status() -> None:
    """The answer names how the run ended."""
    with pytest.raises(InvalidTransitionError, match="it is completed"):
        SITUATIONS["completed"]().do(c.Cancel("ann"))


# ------------------------------------------------------------------------------------------------- timeout


def test_the_active_clock_counts_in_progress_time_only() -> None:
    """Sleeping counts, waiting for a person and pausing do not."""
    story = Story(policy=TIMED).claim()
    story.now += 2 * SECOND
    story.ask().park()
    story.do(c.Vote("ann", True), after_us=500 * SECOND)
    story.now += 50 * SECOND
    story.claim()
    assert timeout_at(story.state) == story.now + 8 * SECOND
    story.park(sleep_ms=60_000)
    assert story.state.due_at == story.now + 8 * SECOND


def test_the_wall_clock_counts_everything() -> None:
    """With clock="wall" a wait for people does not stop it."""
    story = Story(policy={**TIMED, "timeout_clock": "wall"}).claim()
    began = story.now
    story.ask().park()
    assert story.state.due_at == began + 10 * SECOND


def test_a_due_timeout_brings_a_parked_run_back() -> None:
    """The worker that claims it then judges the timeout."""
    story = Story(policy=TIMED).claim().park(sleep_ms=60_000)
    story.do(c.TimerDue(), after_us=10 * SECOND)
    assert story.state.ready_at is not None
    assert decode(story.events[-1].value) == {"by": "timeout"}


def test_a_passed_timeout_is_told_once_an_attempt() -> None:
    """After `continue` the same attempt has no timeout any more."""
    story = Story(policy=TIMED).claim()
    story.do(c.PassTimeout(story.state.epoch), after_us=10 * SECOND)
    assert timeout_at(story.state) is None


def test_the_timeout_clock_restarts_with_each_attempt() -> None:
    """Retry delays do not count and the next attempt has its full time."""
    story = Story(policy={**TIMED, **RETRYING}).claim()
    story.do(c.Fail(story.state.epoch, ERROR, retry=True), after_us=9 * SECOND)
    story.do(c.TimerDue(), after_us=SECOND)
    story.claim()
    assert timeout_at(story.state) == story.now + 10 * SECOND


def test_time_after_a_workers_death_does_not_count() -> None:
    """The clock stops where the worker was last seen and goes on with the next claim."""
    story = Story(policy=TIMED).claim()
    last_seen = story.now + 3 * SECOND
    story.do(c.WorkerDied(WORKER, last_seen, 1), after_us=900 * SECOND)
    story.now += SECOND
    story.claim()
    assert timeout_at(story.state) == story.now + 7 * SECOND


# --------------------------------------------------------------------------------------------------- retry


def test_attempts_is_the_number_of_retries() -> None:
    """With one retry the second failure is final."""
    story = SITUATIONS["waiting to retry"]()
    story.do(c.TimerDue(), after_us=SECOND)
    story.claim()
    assert story.state.attempt == 2
    story.do(c.Fail(story.state.epoch, ERROR, retry=True))
    assert story.state.status is RunStatus.FAILED
    assert story.state.error == ERROR


def test_an_error_that_may_not_be_retried_ends_the_run() -> None:
    """Whatever retries are left."""
    story = Story(policy=RETRYING).claim()
    story.do(c.Fail(story.state.epoch, ERROR, retry=False))
    assert story.state.status is RunStatus.FAILED


def test_a_retry_delay_is_in_progress_and_ends_by_its_timer() -> None:
    """Nobody holds the run meanwhile, nobody may claim it before."""
    story = SITUATIONS["waiting to retry"]()
    assert (story.state.status, story.state.owner, story.state.ready_at) == (RunStatus.IN_PROGRESS, None, None)
    assert story.state.due_at == story.now + SECOND
    assert decode(story.events[-1].value)["retryAt"] == to_iso(story.now + SECOND)
    story.do(c.TimerDue(), after_us=SECOND)
    assert story.state.ready_at == story.now


def test_an_answer_does_not_shorten_a_retry_delay() -> None:
    """A branch beside the failed one may be answered meanwhile; the delay stays."""
    story = Story(policy=RETRYING).claim().ask(position="1.1.1")
    story.do(c.Fail(story.state.epoch, ERROR, retry=True, forget=("1.2.1",)))
    story.do(c.Vote("ann", True))
    assert story.state.ready_at is None
    story.do(c.TimerDue(), after_us=SECOND)
    assert story.state.ready_at is not None


def test_a_childs_end_does_not_shorten_a_retry_delay() -> None:
    """The next attempt takes it up."""
    story = SITUATIONS["waiting to retry"]()
    story.do(c.ChildChanged("child1", "1.1.1", "moving", "ended"))
    assert story.state.ready_at is None


def test_a_forgotten_request_closes() -> None:
    """Only what the failure forgets closes; a sibling's question stays open."""
    story = Story(policy=RETRYING).claim().ask(position="1.1.1").ask(position="1.2.1")
    story.do(c.Fail(story.state.epoch, ERROR, retry=True, forget=("1.2.1",)))
    assert {one.position: one.status for one in story.requests.values()} == {"1.1.1": "open", "1.2.1": "cancelled"}


def test_a_retry_without_delay_is_ready_at_once() -> None:
    """No timer is needed."""
    story = Story(policy={"retry_attempts": 1, "delay_ms": 0}).claim()
    story.do(c.Fail(story.state.epoch, ERROR, retry=True))
    assert (story.state.ready_at, story.state.due_at) == (story.now, None)


# --------------------------------------------------------------------------------------------------- death


def test_a_dead_workers_run_can_be_claimed_at_once() -> None:
    """It goes on from its journal in the same attempt."""
    story = Story().claim()
    story.die()
    assert story.state.ready_at is not None
    story.claim()
    assert (story.state.attempt, story.state.epoch) == (1, 2)


def test_three_deaths_in_a_row_ask_for_attention() -> None:
    """A poison run is parked with a reason and nobody claims it."""
    story = SITUATIONS["poison"]()
    assert (story.state.status, story.state.ready_at, story.request.kind) == (RunStatus.AWAITING, None, "attention")


def test_progress_clears_the_deaths() -> None:
    """Only deaths without any work in between count."""
    story = Story()
    for _ in range(5):
        story.claim()
        story.do(c.Record(story.state.epoch, (c.Entry("step.completed", "1", "load", value="1"),)))
        story.die()
    assert story.state.deaths == 1


def test_answering_retry_clears_the_deaths() -> None:
    """The run gets its three chances again."""
    story = SITUATIONS["poison"]()
    story.do(c.Respond("ann", '"retry"'))
    assert (story.state.deaths, story.state.ready_at) == (0, story.now)


def test_a_poison_run_that_is_being_cancelled_ends() -> None:
    """Its cleanup is what kills the workers."""
    story = Story().claim()
    story.do(c.Cancel("ann"))
    for _ in range(2):
        story.die()
        story.claim()
    story.die()
    assert story.state.status is RunStatus.CANCELLED


def test_a_death_that_was_not_executing_does_not_count() -> None:
    """A run that only waited in memory killed nobody."""
    story = SITUATIONS["stands still, asks"]()
    story.die()
    assert story.state.deaths == 0


def test_another_workers_death_changes_nothing() -> None:
    """The run has another owner by now."""
    story = Story().claim()
    before = story.state
    story.do(c.WorkerDied(WORKER + 1, T0, 1))
    assert story.state._replace(updated_at=before.updated_at) == before


def test_a_worker_whose_run_was_taken_away_is_refused() -> None:
    """Also before anybody else has claimed it."""
    story = Story().claim()
    epoch = story.state.epoch
    story.die()
    with pytest.raises(FencedError):
        story.do(c.Complete(epoch, "1"))


@pytest.mark.parametrize(
    "command",
    [
        c.Complete(1, "1"),
        c.Fail(1, ERROR, True, 0.0, ()),
        c.Yield(1, 0, release=True),
        c.EndCancelled(1),
        c.SetProgress(1, 1, 2, None),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_former_owner_decides_nothing(command: c.Command) -> None:
    """Another worker owns the run by now; whose command it is, its epoch tells."""
    story = Story().claim()
    story.die()
    story.claim()
    before = story.state
    with pytest.raises(FencedError):
        story.do(command)
    assert story.state == before


def test_a_record_of_a_former_owner_is_not_used() -> None:
    """Also while another worker owns the run; what a step gave is told, other records are refused."""
    story = Story().claim()
    story.die()
    story.claim()
    decision = story.do(c.Record(1, (c.Entry("step.completed", "1", "load", value="1"),)))
    assert isinstance(decision.error, FencedError)
    assert (story.events[-1].type, story.events[-1].position) == ("attempt.late-result", None)
    with pytest.raises(FencedError):
        story.do(c.Record(1, (c.Entry("sleep.completed", "1", "sleep"),)))


def test_a_late_step_result_is_told_and_not_used() -> None:
    """It becomes an event `attempt.late-result` without a position, so replay does not see it."""
    story = SITUATIONS["completed"]()
    entry = c.Entry("step.completed", "1", "load", value="1")
    decision = story.do(c.Record(1, (entry,)))
    assert isinstance(decision.error, FencedError)
    assert (story.events[-1].type, story.events[-1].position) == ("attempt.late-result", None)


# ------------------------------------------------------------------------------------------------ children


def test_a_child_tells_its_parent_when_its_category_changes() -> None:
    """Its acceptance, its waiting, its moving and its end."""
    child = Story(parent=9, parent_id="p", position="1")
    child.claim().ask().park()
    child.do(c.Vote("ann", True))
    child.claim()
    child.do(c.Complete(child.state.epoch, "1"))
    told = [(one.command.before, one.command.after) for one in child.followups if one.target == "parent"]
    assert told == [("", "moving"), ("moving", "waiting"), ("waiting", "moving"), ("moving", "ended")]


def test_a_parent_awaits_only_when_its_children_wait_for_people() -> None:
    """A moving child keeps its parent in-progress."""
    story = SITUATIONS["child moving"]()
    statuses = [story.state.status]
    story.do(c.ChildChanged("child1", "1", "moving", "waiting"))
    statuses.append(story.state.status)
    assert statuses == [RunStatus.IN_PROGRESS, RunStatus.AWAITING]


def test_every_change_of_a_parents_counts_is_an_event() -> None:
    """Another process that holds the parent notices its changed row by that."""
    story = Story().claim()
    story.do(c.ChildChanged("child1", "1", "", "moving"))
    story.do(c.ChildChanged("child1", "1", "moving", "waiting"))
    story.do(c.ChildChanged("child1", "1", "waiting", "moving"))
    assert story.types[-2:] == ["child.waiting", "child.moving"]


def test_a_childs_end_wakes_its_parent() -> None:
    """Its result can be taken up."""
    story = SITUATIONS["child waiting"]()
    story.do(c.ChildChanged("child1", "1", "waiting", "ended"))
    assert (story.state.children_waiting, story.state.ready_at) == (0, story.now)


# ------------------------------------------------------------------------------------------------ claiming


def test_a_wake_that_the_attempt_has_not_seen_survives_its_parking() -> None:
    """An answer that came while the attempt was leaving makes the run ready again."""
    story = Story().claim().ask()
    seen = story.state.event
    story.do(c.Vote("ann", True))
    story.do(c.Yield(story.state.epoch, seen, release=True))
    assert story.state.ready_at == story.now


def test_a_wake_that_the_attempt_has_seen_is_taken_up() -> None:
    """It does not run twice for one answer."""
    story = Story().claim().ask()
    story.do(c.Vote("ann", True))
    story.do(c.Yield(story.state.epoch, story.state.event, story.now + SECOND, release=True))
    assert story.state.ready_at is None


def test_ready_since_stays_while_it_is_ready() -> None:
    """Runs are claimed in the order in which they became ready, whatever else happens to them."""
    story = Story()
    story.do(c.Note("callback.error"), after_us=SECOND)
    assert story.state.ready_at == T0


def test_the_first_event_carries_input_and_status() -> None:
    """Number 1 is run.started in pending."""
    event = decide(None, start_command(), T0).events[0]
    assert (event.number, event.type, event.status, event.value) == (1, "run.started", RunStatus.PENDING, '"x"')
