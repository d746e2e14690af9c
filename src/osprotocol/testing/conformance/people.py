"""Section 8: approvals, and who may give them."""

import hashlib

from osprotocol._json import canonical
from osprotocol.context import Context
from osprotocol.errors import (
    AmbiguousRequestError,
    ApprovalRejectedError,
    InvalidNameError,
    NotAnApproverError,
    RequestClosedError,
    RequestNotFoundError,
    RunCancelledError,
    RunFailedError,
    StaleRequestError,
    VoteConflictError,
)
from osprotocol.protocol.approval import Approval, ApprovalConfig
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import Harness, refused
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import Workflow


def _asks(h: Harness, config: ApprovalConfig | None = None, payload: object = None) -> Workflow[None, Approval]:
    async def flow(ctx: Context) -> Approval:
        return await ctx.wait_for_approval("go?", config, payload)

    return h.define(flow)


@scenario(8)
async def an_approval_tells_who_when_and_why(h: Harness) -> None:
    """wait_for_approval gives approved, reason, approved_by, timestamp, outcome and responses."""
    execution = await h.start(_asks(h))
    await execution.approve("fine", by="mia")
    approval = await h.result(execution)
    assert (approval.approved, approval.reason, approval.approved_by) == (True, "fine", "mia")
    assert (approval.outcome, approval.timestamp) == ("approved", h.now())
    assert [(response.by, response.approved) for response in approval.responses] == [("mia", True)]


@scenario(8)
async def a_rejection_returns_to_the_code(h: Harness) -> None:
    """A rejection returns to the code and does not end the run."""
    execution = await h.start(_asks(h))
    await execution.reject("no", by="mia")
    approval = await h.result(execution)
    assert (approval.approved, approval.outcome, approval.reason) == (False, "rejected", "no")
    assert execution.status is RunStatus.COMPLETED


@scenario(8)
async def require_ends_the_run_cancelled(h: Harness) -> None:
    """approval.require on a rejection ends the run cancelled if nobody catches it."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        (await ctx.wait_for_approval("go?")).require()

    execution = await h.start(flow)
    await execution.reject("no")
    assert (await h.error(execution, RunCancelledError)).reason == "no"


@scenario(8)
async def require_can_be_caught(h: Harness) -> None:
    """approval.require raises ApprovalRejectedError with outcome and reason, which the code may catch."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            (await ctx.wait_for_approval("go?")).require()
        except ApprovalRejectedError as error:
            return f"{error.outcome} {error.reason}"
        return ""

    execution = await h.start(flow)
    await execution.reject("no")
    assert await h.result(execution) == "rejected no"


@scenario(8)
async def require_gives_a_given_approval(h: Harness) -> None:
    """approval.require on an approval gives it back."""

    @h.workflow
    async def flow(ctx: Context) -> bool:
        return (await ctx.wait_for_approval("go?")).require().approved

    execution = await h.start(flow)
    await execution.approve()
    assert await h.result(execution) is True


@scenario(8)
async def more_approvals_than_approvers_is_an_error_when_asked(h: Harness) -> None:
    """More required approvals than there are approvers is an error when asked."""
    execution = await h.start(_asks(h, ApprovalConfig(approvers=["a"], required_approvals=2)))
    error = await h.error(execution, RunFailedError)
    assert error.error_type == "InvalidOptionError"


@scenario(8)
async def votes_are_by_the_operating_systems_user_by_default(h: Harness) -> None:
    """A vote without a name is the operating-system user's."""
    execution = await h.start(_asks(h))
    await execution.approve()
    assert (await h.result(execution)).approved_by == h.client.person


@scenario(8)
async def only_named_approvers_may_vote(h: Harness) -> None:
    """With named approvers anybody else is refused, and nothing changes."""
    execution = await h.start(_asks(h, ApprovalConfig(approvers=["mia"])))
    with refused(NotAnApproverError) as caught:
        await execution.approve(by="bo")
    assert caught.error.http_status == 403
    assert execution.requests[0].responses == ()
    await execution.approve(by="mia")
    assert (await h.result(execution)).approved


@scenario(8)
async def a_person_is_one_identity_however_written(h: Harness) -> None:
    """Two spellings of one name, in case and in Unicode form, are one person with one vote."""
    execution = await h.start(_asks(h, ApprovalConfig(approvers=["Zoë", "bo"], required_approvals=2)))
    await execution.approve(by="Zoë")
    await execution.approve(by="ZOE\u0308")
    await execution.approve(by=" zoë ")
    await execution.refresh()
    assert len(execution.requests[0].responses) == 1
    await execution.approve(by="BO")
    assert (await h.result(execution)).approved


@scenario(8)
async def the_same_vote_again_changes_nothing(h: Harness) -> None:
    """The same vote of the same person again changes nothing, before and after the decision."""
    execution = await h.start(_asks(h, ApprovalConfig(required_approvals=2)))
    first = await execution.approve(by="mia")
    before = await h.types(execution)
    again = await execution.approve(by="mia")
    assert again == first
    assert await h.types(execution) == before
    await execution.approve(by="bo")
    await h.result(execution)
    after = await h.types(execution)
    repeated = await execution.approve(by="bo", request_id=first.id)
    assert repeated.status == "approved"
    assert await h.types(execution) == after


@scenario(8)
async def a_different_vote_is_refused(h: Harness) -> None:
    """A different vote of the same person is refused with 409, before and after the decision."""
    execution = await h.start(_asks(h, ApprovalConfig(required_approvals=2)))
    request = await execution.approve(by="mia")
    with refused(VoteConflictError) as caught:
        await execution.reject(by="mia")
    assert (caught.error.http_status, caught.error.vote) == (409, "approved")
    await execution.approve(by="bo")
    await h.result(execution)
    with refused(VoteConflictError):
        await execution.reject(by="mia", request_id=request.id)


@scenario(8)
async def it_closes_at_the_required_number(h: Harness) -> None:
    """It closes approved when as many people as required have approved, not before."""
    execution = await h.start(_asks(h, ApprovalConfig(required_approvals=3)))
    for name in ("a", "b"):
        await execution.approve(by=name)
        assert await h.status(execution) is RunStatus.AWAITING
    await execution.approve(by="c")
    approval = await h.result(execution)
    assert (approval.outcome, approval.approved_by) == ("approved", "c")
    assert [response.by for response in approval.responses] == ["a", "b", "c"]


@scenario(8)
async def one_rejection_closes_it_by_default(h: Harness) -> None:
    """Without a threshold one rejection closes it rejected."""
    execution = await h.start(_asks(h, ApprovalConfig(required_approvals=2)))
    await execution.approve(by="a")
    await execution.reject(by="b")
    assert (await h.result(execution)).outcome == "rejected"


@scenario(8)
async def a_threshold_takes_several_rejections(h: Harness) -> None:
    """It closes rejected at the threshold, not before."""
    execution = await h.start(_asks(h, ApprovalConfig(reject_threshold=2)))
    await execution.reject(by="a")
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.reject(by="b")
    assert (await h.result(execution)).outcome == "rejected"


@scenario(8)
async def it_closes_rejected_when_the_number_is_out_of_reach(h: Harness) -> None:
    """It closes rejected as soon as the required number cannot be reached any more, whatever the threshold."""
    config = ApprovalConfig(approvers=["a", "b", "c"], required_approvals=2, reject_threshold=3)
    execution = await h.start(_asks(h, config))
    await execution.reject(by="a")
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.reject(by="b")
    assert (await h.result(execution)).outcome == "rejected"


@scenario(8)
async def a_late_vote_is_told_the_outcome_that_won(h: Harness) -> None:
    """Who votes after the decision is told how it was decided, and by whom."""
    execution = await h.start(_asks(h))
    request = await execution.approve(by="mia")
    with refused(RequestClosedError) as caught:
        await execution.reject(by="bo", request_id=request.id)
    assert (caught.error.outcome, caught.error.closed_by) == ("approved", "mia")
    assert (await h.result(execution)).approved


@scenario(8)
async def without_a_request_id_the_only_open_one_is_meant(h: Harness) -> None:
    """Without request_id the only open approval is meant; with several open it is an error that names them."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.gather(ctx.wait_for_approval("a?"), ctx.wait_for_approval("b?"), ctx.wait_for_input("c?"))

    execution = await h.start(flow)
    with refused(AmbiguousRequestError) as caught:
        await execution.approve()
    assert len(caught.error.open_ids) == 2
    await execution.respond("c")
    await execution.approve(request_id=caught.error.open_ids[0])
    await execution.approve()
    await h.result(execution)


@scenario(8)
async def an_answer_to_nothing_is_refused(h: Harness) -> None:
    """An answer when nothing of that kind is open, to an unknown and to a foreign request is refused."""
    first, second = await h.start(_asks(h)), await h.start(_asks(h))
    with refused(RequestNotFoundError):
        await first.respond("x")
    with refused(RequestNotFoundError):
        await first.approve(request_id="nothing")
    with refused(RequestNotFoundError):
        await first.approve(request_id=second.requests[0].id)
    assert len(second.requests) == 1


@scenario(8)
async def each_request_has_a_revision_and_a_digest(h: Harness) -> None:
    """A request carries revision 1 and a SHA-256 digest that the same payload gives again."""
    first = (await h.start(_asks(h, payload={"b": 1, "a": [2]}))).requests[0]
    same = (await h.start(_asks(h, payload={"a": [2], "b": 1}))).requests[0]
    other = (await h.start(_asks(h, payload={"a": [2], "b": 2}))).requests[0]
    assert first.revision == 1
    assert len(bytes.fromhex(first.digest)) == hashlib.sha256().digest_size
    assert first.digest == same.digest
    assert first.digest != other.digest
    assert first.payload == {"b": 1, "a": [2]}
    assert canonical(first.payload) == canonical(same.payload)


@scenario(8)
async def a_vote_may_name_what_it_saw(h: Harness) -> None:
    """A vote that names what it saw counts if that is current, and a stale one is refused."""
    execution = await h.start(_asks(h, payload="draft"))
    request = execution.requests[0]
    with refused(StaleRequestError):
        await execution.approve(seen=f"2:{request.digest}")
    with refused(StaleRequestError):
        await execution.approve(seen="1:" + "0" * 64)
    assert (await h.status(execution)) is RunStatus.AWAITING
    await execution.approve(seen=request.seen)
    assert (await h.result(execution)).approved


@scenario(8)
async def nobody_is_no_person(h: Harness) -> None:
    """An empty or unprintable name cannot vote."""
    execution = await h.start(_asks(h))
    for name in ("", "  ", "a\nb", "x" * 500):
        with refused(InvalidNameError):
            await execution.approve(by=name)
    assert len(execution.requests) == 1


@scenario(8)
async def the_inbox_shows_a_person_what_is_theirs(h: Harness) -> None:
    """client.requests gives the open requests, oldest first, of a person, a kind and a run, page by page."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.gather(
            ctx.wait_for_approval("mia's", ApprovalConfig(approvers=["Mia"])),
            ctx.wait_for_approval("bo's", ApprovalConfig(approvers=["bo"])),
            ctx.wait_for_input("anyone's"),
        )

    execution = await h.start(flow)
    await h.start(_asks(h))
    page = await h.client.requests(person="mia", run_id=execution.id)
    assert [request.prompt for request in page.items] == ["mia's", "anyone's"]
    first = await h.client.requests(kind="approval", limit=2)
    second = await h.client.requests(kind="approval", limit=2, cursor=first.next_cursor)
    assert [request.prompt for request in (*first.items, *second.items)] == ["mia's", "bo's", "go?"]
    assert second.next_cursor is None
