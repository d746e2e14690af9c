"""Section 8: deadlines of requests, and gates from outside."""

import asyncio
from datetime import timedelta

from osprotocol.context import Context
from osprotocol.errors import (
    InputExpiredError,
    InvalidTransitionError,
    RequestClosedError,
    RunCancelledError,
)
from osprotocol.protocol.approval import Approval, ApprovalConfig
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import CLOCK, CRASH, Harness, Latch, refused
from osprotocol.testing.conformance.scenario import scenario


@scenario(8, CLOCK)
async def expiry_returns_to_the_code(h: Harness) -> None:
    """An approval that nobody gives expires at its deadline, returns to the code, and is not approved."""

    @h.workflow
    async def flow(ctx: Context) -> Approval:
        return await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000))

    execution = await h.start(flow)
    await h.advance(ms=4_999)
    assert await h.status(execution) is RunStatus.AWAITING
    await h.advance(ms=1)
    approval = await h.result(execution)
    assert (approval.approved, approval.outcome, approval.approved_by) == (False, "expired", None)


@scenario(8, CLOCK)
async def auto_approve_approves_at_the_deadline(h: Harness) -> None:
    """With auto_approve_on_timeout expiry gives approved with the outcome expired."""

    @h.workflow
    async def flow(ctx: Context) -> Approval:
        return await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000, auto_approve_on_timeout=True))

    execution = await h.start(flow)
    await h.advance(ms=5_000)
    approval = await h.result(execution)
    assert (approval.approved, approval.outcome) == (True, "expired")


@scenario(8, CLOCK)
async def at_the_deadline_instant_it_is_expired(h: Harness) -> None:
    """A vote at the very instant of the deadline is refused as expired."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000))).outcome

    execution = await h.start(flow)
    request = execution.requests[0]
    h.set_clock(h.now() + timedelta(seconds=5))
    with refused(RequestClosedError) as caught:
        await execution.approve(request_id=request.id)
    assert caught.error.outcome == "expired"
    assert await h.result(execution) == "expired"


@scenario(8, CLOCK)
async def just_before_the_deadline_a_vote_counts(h: Harness) -> None:
    """A vote one millisecond before the deadline counts."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000))).outcome

    execution = await h.start(flow)
    await h.advance(ms=4_999)
    await execution.approve()
    await h.advance(ms=10_000)
    assert await h.result(execution) == "approved"


@scenario(8, CLOCK)
async def a_clock_set_back_never_un_expires(h: Harness) -> None:
    """What has expired stays expired when the clock is set back."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        outcome = (await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000))).outcome
        await ctx.wait_for_approval("end?")
        return outcome

    execution = await h.start(flow)
    request = execution.requests[0]
    await h.advance(ms=5_000)
    h.set_clock(h.now() - timedelta(seconds=60))
    with refused(RequestClosedError):
        await execution.approve(request_id=request.id)
    await execution.approve()
    assert await h.result(execution) == "expired"


@scenario(8, CLOCK, CRASH)
async def a_deadline_that_passed_while_nobody_lived_is_kept(h: Harness) -> None:
    """A request whose deadline passed while no worker lived is expired for the first who comes."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000))).outcome

    execution = await h.start(flow)
    await h.crash(h.client)
    await h.advance(ms=60_000)
    h.client = await h.connect()
    assert await h.result(await h.again(execution)) == "expired"


@scenario(8, CLOCK)
async def an_input_that_nobody_gives_raises(h: Harness) -> None:
    """wait_for_input raises InputExpiredError at its deadline."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            return await ctx.wait_for_input("name?", timeout_ms=5_000)
        except InputExpiredError as error:
            return f"{error.prompt} {error.timeout_ms}"

    execution = await h.start(flow)
    await h.advance(ms=5_000)
    assert await h.result(execution) == "name? 5000"


@scenario(8, CLOCK)
async def votes_before_expiry_do_not_decide(h: Harness) -> None:
    """A vote that was not enough is in the responses of the expired approval, and decided nothing."""

    @h.workflow
    async def flow(ctx: Context) -> Approval:
        return await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000, required_approvals=2))

    execution = await h.start(flow)
    await execution.approve(by="mia")
    await h.advance(ms=5_000)
    approval = await h.result(execution)
    assert (approval.approved, approval.outcome, approval.approved_by) == (False, "expired", None)
    assert [response.by for response in approval.responses] == ["mia"]


# ------------------------------------------------------------------------- gates


@scenario(8)
async def a_gate_stops_the_run_at_its_next_boundary(h: Harness) -> None:
    """An approval put on an execution stops it at its next boundary until decided; the caller gets the decision."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(h.note, await ctx.step(latch.step))

    execution = await h.start(flow)
    await latch.reached.wait()
    gate = asyncio.create_task(execution.wait_for_approval("really?"))
    await h.settle()
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [request.gate for request in execution.requests] == [True]
    assert h.ledger == []
    await execution.approve("yes", by="mia")
    approval = await gate
    assert (approval.approved, approval.approved_by) == (True, "mia")
    assert await h.result(execution) == "done"


@scenario(8)
async def a_rejected_gate_cancels_the_run(h: Harness) -> None:
    """A rejected gate cancels the run, with its reason."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("inside?")

    execution = await h.start(flow)
    gate = asyncio.create_task(execution.wait_for_approval("outside?"))
    await h.settle()
    request = next(request for request in execution.requests if request.gate)
    await execution.reject("no", request_id=request.id)
    assert (await gate).outcome == "rejected"
    assert (await h.error(execution, RunCancelledError)).reason == "no"


@scenario(8)
async def on_reject_continue_lets_the_run_go_on(h: Harness) -> None:
    """A rejected gate with on_reject continue lets the run go on, and the caller gets the rejection."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(h.note, await ctx.step(latch.step))

    execution = await h.start(flow)
    await latch.reached.wait()
    gate = asyncio.create_task(execution.wait_for_approval("really?", on_reject="continue"))
    await h.settle()
    latch.opened.set()
    await h.settle()
    await execution.reject()
    assert not (await gate).approved
    assert await h.result(execution) == "done"


@scenario(8)
async def an_input_gate_gives_its_answer_to_the_caller(h: Harness) -> None:
    """An input put on an execution stops the run, and its answer goes to the caller with its type."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(h.note, await ctx.step(latch.step))

    execution = await h.start(flow)
    await latch.reached.wait()
    gate = asyncio.create_task(execution.wait_for_input("how many?", int))
    await h.settle()
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.respond(3)
    assert await gate == 3
    assert await h.result(execution) == "done"


@scenario(8, CRASH)
async def gates_are_no_part_of_the_journal(h: Harness) -> None:
    """A run that had a gate replays after a crash as one that had none."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")
        return await ctx.step(h.note, "b")

    execution = await h.start(flow)
    gate = asyncio.create_task(execution.wait_for_approval("outside?"))
    await h.settle()
    await execution.approve(request_id=next(request.id for request in execution.requests if request.gate))
    await gate
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.result(execution) == "b"
    assert h.ledger == ["a", "b"]


@scenario(8)
async def a_gate_on_a_final_run_is_an_error(h: Harness) -> None:
    """A gate on a final run is refused with its status."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return "done"

    execution = await h.start(flow)
    await h.result(execution)
    with refused(InvalidTransitionError) as caught:
        await execution.wait_for_approval("too late?")
    assert caught.error.status == "completed"
    with refused(InvalidTransitionError):
        await execution.wait_for_input("too late?")


@scenario(8, CLOCK)
async def an_answer_behind_a_gate_waits_for_it(h: Harness) -> None:
    """A request of the code that is answered while a gate is open lets the code go on only after the gate."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        outcome = (await ctx.wait_for_approval("inside?")).outcome
        return await ctx.step(h.note, outcome)

    execution = await h.start(flow)
    gate = asyncio.create_task(execution.wait_for_approval("outside?"))
    await h.settle()
    by_gate = {request.gate: request.id for request in execution.requests}
    await execution.approve(request_id=by_gate[False])
    assert await h.status(execution) is RunStatus.AWAITING
    assert h.ledger == []
    await execution.approve(request_id=by_gate[True])
    await gate
    assert await h.result(execution) == "approved"
