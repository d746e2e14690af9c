"""Votes, answers and expiry, sentence by sentence."""

from __future__ import annotations

import pytest

from osprotocol._json import decode, encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.people import identity
from osprotocol.errors import (
    AmbiguousRequestError,
    InvalidAnswerError,
    InvalidNameError,
    InvalidOptionError,
    LimitExceededError,
    NotAnApproverError,
    RequestClosedError,
    RequestNotFoundError,
    StaleRequestError,
    VoteConflictError,
)
from osprotocol.protocol.run import RunStatus
from tests.lifecycle.situations import MS, SITUATIONS, Story

TEAM = ("ann", "bob", "eve")


def asked(**more: object) -> Story:
    return Story().claim().ask(**more).park()  # type: ignore[arg-type]


def test_one_approval_closes_by_default() -> None:
    """Without a quorum the first yes approves."""
    story = asked()
    story.do(c.Vote("ann", True))
    assert story.request.status == "approved"


def test_a_quorum_needs_that_many_people() -> None:
    """Two required approvals: one leaves it open, the second person closes it."""
    story = asked(required=2)
    story.do(c.Vote("ann", True))
    assert story.request.status == "open"
    story.do(c.Vote("bob", True))
    assert story.request.status == "approved"


def test_the_same_vote_again_changes_nothing() -> None:
    """A repeated vote gives the request and no event."""
    story = asked(required=2)
    story.do(c.Vote("ann", True))
    events = len(story.events)
    assert story.do(c.Vote("ann", True)).reply.status == "open"
    assert len(story.events) == events


def test_a_different_vote_of_the_same_person_is_refused() -> None:
    """A vote is final."""
    story = asked(required=2)
    story.do(c.Vote("ann", True))
    with pytest.raises(VoteConflictError, match="already voted approved"):
        story.do(c.Vote("ann", False))


def test_one_person_under_two_spellings_is_one_vote() -> None:
    """Case, width and spaces around a name do not make another person."""
    story = asked(required=2)
    story.do(c.Vote("Ann", True))
    story.do(c.Vote("  \uff21NN ", True))
    assert story.request.status == "open"
    assert identity("  \uff21NN ") == identity("Ann")


def test_the_reject_threshold_closes() -> None:
    """With a threshold of two the second no rejects."""
    story = asked(threshold=2)
    story.do(c.Vote("ann", False))
    assert story.request.status == "open"
    story.do(c.Vote("bob", False))
    assert story.request.status == "rejected"


def test_it_is_rejected_as_soon_as_the_quorum_cannot_be_reached() -> None:
    """Three approvers, all needed: one no ends it although the threshold is three."""
    story = asked(approvers=TEAM, required=3, threshold=3)
    story.do(c.Vote("bob", False))
    assert story.request.status == "rejected"


def test_only_approvers_may_vote() -> None:
    """Somebody else is refused, and told who may."""
    story = asked(approvers=TEAM)
    with pytest.raises(NotAnApproverError, match="ann, bob, eve"):
        story.do(c.Vote("mallory", True))


def test_more_required_approvals_than_approvers_is_an_error_when_asked() -> None:
    """Such a request could never be approved."""
    with pytest.raises(InvalidOptionError, match="can never come"):
        asked(approvers=("ann", "bob"), required=3)


def test_one_approver_named_twice_counts_once() -> None:
    """Two spellings of a name cannot give two approvals, so asking for two is an error."""
    with pytest.raises(InvalidOptionError, match="can never come"):
        asked(approvers=("ann", "ANN"), required=2)


def test_a_vote_may_name_what_it_saw() -> None:
    """The revision and digest that the voter saw are accepted."""
    story = asked()
    story.do(c.Vote("ann", True, seen=f"1:{'d' * 64}"))
    assert story.request.status == "approved"


def test_a_stale_vote_is_refused() -> None:
    """What was seen is no longer what is asked."""
    story = asked()
    with pytest.raises(StaleRequestError):
        story.do(c.Vote("ann", True, seen=f"2:{'d' * 64}"))


def test_a_vote_without_a_request_id_needs_exactly_one_open_approval() -> None:
    """With several open it is an error that names them."""
    story = Story().claim().ask(position="1.1.1").ask(position="1.2.1")
    with pytest.raises(AmbiguousRequestError) as caught:
        story.do(c.Vote("ann", True))
    assert len(caught.value.open_ids) == 2


def test_an_input_cannot_be_voted_on() -> None:
    """A request of another kind is not found."""
    story = Story().claim().ask("input")
    with pytest.raises(RequestNotFoundError):
        story.do(c.Vote("ann", True, request_id=story.request.id))


def test_an_answer_to_a_closed_request_names_its_outcome() -> None:
    """Every later caller is told the outcome that won."""
    story = asked()
    story.do(c.Vote("ann", False))
    with pytest.raises(RequestClosedError, match="already rejected by ann"):
        story.do(c.Vote("bob", True, request_id=story.request.id))


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 129, "a\x00"])
def test_names_of_people_are_checked(name: str) -> None:
    """Empty, too long or unprintable names are refused."""
    with pytest.raises(InvalidNameError):
        asked().do(c.Vote(name, True))


def test_at_the_deadline_instant_it_is_expired() -> None:
    """A vote exactly at the deadline comes too late and expires the request."""
    story = asked(timeout_ms=1_000)
    decision = story.do(c.Vote("ann", True), after_us=1_000 * MS)
    assert isinstance(decision.error, RequestClosedError)
    assert story.request.status == "expired"


def test_one_microsecond_before_the_deadline_a_vote_counts() -> None:
    """Only the deadline itself is too late."""
    story = asked(timeout_ms=1_000)
    story.do(c.Vote("ann", True), after_us=1_000 * MS - 1)
    assert story.request.status == "approved"


def test_a_clock_set_back_does_not_unexpire() -> None:
    """An expired request stays expired when the clock is set back before its deadline."""
    story = asked(timeout_ms=1_000)
    story.do(c.TimerDue(), after_us=1_000 * MS)
    with pytest.raises(RequestClosedError):
        story.do(c.Vote("ann", True, request_id=story.request.id), after_us=-900 * MS)


def test_expiry_lets_the_code_go_on() -> None:
    """The timer expires the request, and the run may be claimed."""
    story = asked(timeout_ms=1_000)
    story.do(c.TimerDue(), after_us=1_000 * MS)
    assert (story.state.status, story.state.ready_at) == (RunStatus.IN_PROGRESS, story.now)


def test_expiry_does_not_stand_still_in_a_pause() -> None:
    """It is a promise to people."""
    story = SITUATIONS["pending"]().claim().ask(timeout_ms=1_000).park()
    story.do(c.Pause("ann"))
    assert story.state.due_at == story.request.expires_at
    story.do(c.TimerDue(), after_us=1_000 * MS)
    assert story.request.status == "expired"
    assert story.state.ready_at is None


def test_a_paused_run_can_be_answered_and_goes_on_after_resume() -> None:
    """The answer is kept; only resume lets the code go on."""
    story = SITUATIONS["asks, paused"]()
    story.do(c.Vote("ann", True))
    assert story.state.ready_at is None
    story.do(c.Resume("ann"))
    assert story.state.ready_at == story.now


def test_resume_answers_no_request() -> None:
    """The question is open after it."""
    story = SITUATIONS["asks, paused"]()
    story.do(c.Resume("ann"))
    assert story.request.status == "open"
    assert story.state.status is RunStatus.AWAITING


def test_two_gates_that_expire_together_have_one_outcome_each() -> None:
    """The first cancels the run, which closes the second: nothing closes twice."""
    story = Story().claim().park(sleep_ms=60_000)
    for _ in range(2):
        story.ask(position=None, on_reject="cancel", timeout_ms=1_000)
    story.do(c.TimerDue(), after_us=1_000 * MS)
    closed = [decode(event.value) for event in story.events if event.type == "request.closed"]
    assert sorted(one["outcome"] for one in closed) == ["cancelled", "expired"]
    assert len({one["requestId"] for one in closed}) == 2


def test_a_gate_holds_the_run() -> None:
    """Nothing of the run starts while one is open."""
    story = Story().ask(position=None)
    assert story.state.ready_at is None
    story.do(c.Vote("ann", True))
    assert story.state.ready_at == story.now


def test_a_rejected_gate_cancels_a_run_that_never_started_at_once() -> None:
    """There is nothing to clean up."""
    story = Story().ask(position=None, on_reject="cancel")
    story.do(c.Vote("ann", False, reason="no"))
    assert (story.state.status, story.state.cancel_reason) == (RunStatus.CANCELLED, "no")


def test_a_rejected_gate_may_let_the_run_go_on() -> None:
    """With on_reject="continue" the run goes on."""
    story = Story().ask(position=None, on_reject="continue")
    story.do(c.Vote("ann", False))
    assert story.state.status is RunStatus.PENDING
    assert story.state.ready_at is not None


def test_a_gate_that_approves_itself_does_not_cancel() -> None:
    """Expired with auto-approve means go on."""
    story = Story().ask(position=None, on_reject="cancel", auto_approve=True, timeout_ms=1)
    story.do(c.TimerDue(), after_us=MS)
    assert story.request.status == "expired"
    assert story.state.status is RunStatus.PENDING


def test_a_vote_answers_with_the_request_even_when_it_cancels_the_run() -> None:
    """The caller gets the decided request back."""
    story = SITUATIONS["gate in front"]()
    assert story.do(c.Vote("ann", False)).reply.status == "rejected"


def test_an_answer_that_does_not_fit_the_schema_is_refused() -> None:
    """Path and message are told, nothing is stored, the request stays open."""
    schema = encode({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    story = Story().claim().ask("input", schema=schema).park()
    with pytest.raises(InvalidAnswerError) as caught:
        story.do(c.Respond("ann", '{"n": "x"}'))
    assert caught.value.problems == (("$.n", "must be an integer"),)
    assert story.request.status == "open"


def test_the_first_valid_answer_wins() -> None:
    """A second answer is refused, even by the same person."""
    story = Story().claim().ask("input").park()
    story.do(c.Respond("ann", "1"))
    for person in ("ann", "bob"):
        with pytest.raises(RequestClosedError):
            story.do(c.Respond(person, "2", request_id=story.request.id))
    assert story.request.answer == "1"


def test_a_refused_answer_reopens_with_the_next_revision() -> None:
    """The worker has the last word; the message tells why, nobody's answer is kept."""
    story = SITUATIONS["answered, not yet taken up"]().claim()
    story.do(c.RefuseAnswer(story.state.epoch, story.request.id, "not a version"))
    request = story.request
    assert (request.status, request.revision, request.message) == ("open", 2, "not a version")
    assert (request.answer, request.responses) == (None, "[]")


def test_an_answer_is_not_refused_any_more_when_the_run_is_being_cancelled() -> None:
    """A run that ends asks nobody."""
    story = SITUATIONS["answered, not yet taken up"]().claim()
    story.do(c.Cancel("bob"))
    story.do(c.RefuseAnswer(story.state.epoch, story.request.id, "no"))
    assert story.state.open_requests == 0


@pytest.mark.parametrize("answer", ['"skip"', '{"action": "skip"}', '"stop"', "1", "null"])
def test_attention_of_the_whole_run_takes_only_retry(answer: str) -> None:
    """Skipping makes no sense where no value is missing."""
    with pytest.raises(InvalidAnswerError, match="retry"):
        SITUATIONS["poison"]().do(c.Respond("ann", answer))


def test_attention_of_a_step_may_be_skipped_with_a_value() -> None:
    """An interrupted step can be replaced by what it would have given."""
    story = Story().claim().ask("attention").park()
    story.do(c.Respond("ann", '{"action": "skip", "value": 3}'))
    assert story.request.status == "answered"


def test_the_number_of_open_requests_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the limit."""
    monkeypatch.setattr("osprotocol._limits.OPEN_REQUESTS_PER_RUN", 2)
    story = Story().claim().ask(position="1.1.1").ask(position="1.2.1")
    with pytest.raises(LimitExceededError, match="OPEN_REQUESTS_PER_RUN is 2"):
        story.ask(position="1.3.1")
