"""Section 2: ctx.gather, ctx.map and child runs."""

from osprotocol.context import Context
from osprotocol.errors import ChildFailedError, RunFailedError, StepFailedError
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.testing.conformance.harness import CLOCK, CRASH, Harness, Latch
from osprotocol.testing.conformance.scenario import scenario


@scenario(2)
async def gather_gives_results_in_the_order_of_its_operations(h: Harness) -> None:
    """ctx.gather gives results in the order of its operations, whichever ended first."""
    first, second = Latch(), Latch()

    @h.workflow
    async def flow(ctx: Context) -> list[str]:
        return list(await ctx.gather(ctx.step(first.step, "1"), ctx.step(second.step, "2")))

    execution = await h.start(flow)
    await first.reached.wait()
    second.opened.set()
    await h.settle()
    first.opened.set()
    assert await h.result(execution) == ["1", "2"]


@scenario(2)
async def at_the_first_failure_what_runs_is_drained(h: Harness) -> None:
    """At the first failure what runs is finished and recorded, nothing new starts, and the failure is raised."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        async def slow() -> None:
            await ctx.step(latch.step)
            await ctx.step(h.note, "never")

        try:
            await ctx.gather(slow(), ctx.step(h.fail, "broken"))
        except StepFailedError as error:
            return error.message
        return ""

    execution = await h.start(flow)
    await latch.reached.wait()
    assert not (await h.status(execution)).is_final
    latch.opened.set()
    assert await h.result(execution) == "broken"
    assert h.ledger == ["broken"]
    assert {record.name: record.status for record in await execution.steps()} == {"step": "completed", "fail": "failed"}


@scenario(2)
async def the_first_failure_in_journal_order_is_raised(h: Harness) -> None:
    """Of two failures the one that was recorded first is raised."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        async def slow() -> None:
            await latch.step()
            raise ValueError("second")

        try:
            await ctx.gather(ctx.step(slow), ctx.step(h.fail, "first"))
        except StepFailedError as error:
            return error.message
        return ""

    execution = await h.start(flow)
    latch.opened.set()
    assert await h.result(execution) == "first"


@scenario(2)
async def return_exceptions_gives_all_outcomes(h: Harness) -> None:
    """With return_exceptions all operations go on, and their outcomes come in input order."""

    @h.workflow
    async def flow(ctx: Context) -> list[str]:
        outcomes = await ctx.gather(
            ctx.step(h.fail, "a"), ctx.step(h.note, "b"), ctx.step(h.fail, "c"), return_exceptions=True
        )
        return [one if isinstance(one, str) else type(one).__name__ for one in outcomes]

    assert await h.result(await h.start(flow)) == ["StepFailedError", "b", "StepFailedError"]


@scenario(2)
async def a_failure_withdraws_the_questions_of_other_branches(h: Harness) -> None:
    """A branch that only waits for a person ends at the failure of another, and its question is closed."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        async def broken() -> None:
            await ctx.step(latch.step)
            await ctx.step(h.fail, "broken")

        try:
            await ctx.gather(ctx.wait_for_approval("go?"), broken())
        except StepFailedError as error:
            return error.message
        return ""

    execution = await h.start(flow)
    await latch.reached.wait()
    latch.opened.set()
    assert await h.result(execution) == "broken"
    page = await h.client.requests(open=None, run_id=execution.id)
    assert [request.status for request in page.items] == ["cancelled"]


@scenario(2)
async def map_bounds_how_many_run_at_once(h: Harness) -> None:
    """ctx.map runs at most max_concurrency at a time, and gives results in the order of the items."""
    running: list[int] = []
    most: list[int] = []

    async def work(n: int) -> int:
        running.append(n)
        most.append(len(running))
        await h.note(str(n))
        running.remove(n)
        return n * n

    @h.workflow
    async def flow(ctx: Context) -> list[int]:
        return await ctx.map(work, range(10), max_concurrency=3)

    assert await h.result(await h.start(flow)) == [n * n for n in range(10)]
    assert max(most) <= 3


@scenario(2)
async def map_starts_nothing_new_after_a_failure(h: Harness) -> None:
    """After a failure in ctx.map no further item is started."""

    async def work(n: int) -> int:
        h.ledger.append(str(n))
        if n == 1:
            raise ValueError("one")
        return n

    @h.workflow
    async def flow(ctx: Context) -> list[int]:
        return await ctx.map(work, range(5), max_concurrency=1)

    await h.error(await h.start(flow), RunFailedError)
    assert h.ledger == ["0", "1"]


@scenario(2, CRASH)
async def a_half_done_map_goes_on_where_it_was(h: Harness) -> None:
    """After a crash in the middle of a ctx.map the items that were done are not done again."""
    latch = Latch()

    async def work(n: int) -> int:
        h.ledger.append(str(n))
        if n == 2:
            await latch.step()
        return n

    @h.workflow
    async def flow(ctx: Context) -> int:
        return sum(await ctx.map(work, range(4), max_concurrency=1))

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.restart()
    latch.opened.set()
    assert await h.result(await h.again(execution)) == 6
    assert h.ledger == ["0", "1", "2", "2", "3"]


@scenario(2)
async def an_empty_gather_and_map_are_empty(h: Harness) -> None:
    """ctx.gather and ctx.map over nothing give nothing, at once."""

    @h.workflow
    async def flow(ctx: Context) -> int:
        return len(await ctx.gather()) + len(await ctx.map(h.note, []))

    assert await h.result(await h.start(flow)) == 0


@scenario(2, CRASH, CLOCK)
async def nested_branches_replay(h: Harness) -> None:
    """Gathers within gathers have places of their own: after a crash nothing of them runs twice."""

    @h.workflow
    async def flow(ctx: Context) -> list[str]:
        async def pair(name: str) -> str:
            left, right = await ctx.gather(ctx.step(h.note, f"{name}1"), ctx.step(h.note, f"{name}2"))
            await ctx.sleep(ms=1_000)
            return left + right

        return list(await ctx.gather(pair("a"), pair("b")))

    execution = await h.start(flow)
    await h.restart()
    await h.advance(ms=1_000)
    assert await h.result(await h.again(execution)) == ["a1a2", "b1b2"]
    assert sorted(h.ledger) == ["a1", "a2", "b1", "b2"]


# ---------------------------------------------------------------------- children


@scenario(2)
async def a_child_is_a_run_of_its_own(h: Harness) -> None:
    """A child run is a run with parent_id, and its output comes to the parent with its type."""

    @h.workflow
    async def child(ctx: Context, n: int) -> tuple[int, str]:
        return (n, await ctx.step(h.note, "child"))

    @h.workflow
    async def flow(ctx: Context) -> bool:
        return bool(await ctx.run(child, 7) == (7, "child"))

    execution = await h.start(flow)
    assert await h.result(execution) is True
    (below,) = (await h.client.list(parent=execution.id)).items
    assert (below.parent_id, below.workflow, below.status) == (execution.id, child.name, RunStatus.COMPLETED)


@scenario(2, CRASH)
async def a_child_is_not_started_twice(h: Harness) -> None:
    """After a crash of the parent its child goes on, and is not started again."""
    latch = Latch()

    @h.workflow
    async def child(ctx: Context) -> str:
        await ctx.step(h.note, "once")
        return await ctx.step(latch.step)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.run(child)

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.restart()
    latch.opened.set()
    assert await h.result(await h.again(execution)) == "done"
    assert h.ledger == ["once"]
    assert len((await h.client.list(parent=execution.id)).items) == 1


@scenario(2)
async def a_failed_child_raises_in_its_parent(h: Harness) -> None:
    """A child that fails raises ChildFailedError with its id, status and error."""

    @h.workflow
    async def child(ctx: Context) -> None:
        raise ValueError("child's")

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            await ctx.run(child)
        except ChildFailedError as error:
            return f"{error.status} {error.error_type} {error.message}"
        return ""

    assert await h.result(await h.start(flow)) == "failed ValueError child's"


@scenario(2)
async def a_cancelled_child_raises_in_its_parent(h: Harness) -> None:
    """A child that somebody cancels raises ChildFailedError in its parent, which is not cancelled."""

    @h.workflow
    async def child(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            await ctx.run(child)
        except ChildFailedError as error:
            return error.status
        return ""

    execution = await h.start(flow)
    below = await h.client.get((await h.client.list(parent=execution.id)).items[0].id)
    await below.cancel()
    assert await h.result(execution) == "cancelled"


@scenario(2)
async def a_child_ends_cancelled_when_its_parent_ends_before_it(h: Harness) -> None:
    """A child that still lives when its parent becomes final ends cancelled."""

    @h.workflow
    async def child(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.run(child)

    execution = await h.start(flow)
    assert await execution.cancel(graceful=False) == "cancelled"
    await h.settle()
    (below,) = (await h.client.list(parent=execution.id)).items
    assert below.status is RunStatus.CANCELLED


@scenario(2)
async def map_over_a_workflow_makes_child_runs(h: Harness) -> None:
    """ctx.map over a workflow makes a child run of each item, and gives their outputs in order."""

    @h.workflow
    async def child(ctx: Context, n: int) -> int:
        return n + 1

    @h.workflow
    async def flow(ctx: Context) -> list[int]:
        return await ctx.map(child, [1, 2, 3], max_concurrency=2)

    execution = await h.start(flow, options=RunOptions(labels={"kind": "parent"}))
    assert await h.result(execution) == [2, 3, 4]
    assert len((await h.client.list(parent=execution.id)).items) == 3
