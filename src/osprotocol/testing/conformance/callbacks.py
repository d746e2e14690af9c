"""Section 9: callbacks."""

import asyncio

from osprotocol.context import Context
from osprotocol.errors import InvalidOptionError, RunFailedError
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.testing.conformance.harness import CALLBACKS, CRASH, SEVERAL_CLIENTS, Harness, refused
from osprotocol.testing.conformance.scenario import scenario


@scenario(9)
async def on_status_change_comes_for_each_change_in_order(h: Harness) -> None:
    """on_status_change is called for each change, in order, and result resolves after the last call."""
    seen: list[str] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow, options=RunOptions(on_status_change=lambda status: seen.append(status.value)))
    await execution.approve()
    await h.result(execution)
    assert seen == ["pending", "in-progress", "awaiting", "in-progress", "completed"]


@scenario(9)
async def on_complete_gets_the_typed_result(h: Harness) -> None:
    """on_complete is called once with the result, on_failed not at all."""
    seen: list[object] = []

    @h.workflow
    async def flow(ctx: Context) -> tuple[int, str]:
        return (1, "a")

    options = RunOptions(on_complete=seen.append, on_failed=seen.append)
    await h.result(await h.start(flow, options=options))
    assert seen == [(1, "a")]


@scenario(9)
async def on_failed_gets_the_error(h: Harness) -> None:
    """on_failed is called once with the error that result raises."""
    seen: list[Exception] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        raise ValueError("no")

    execution = await h.start(flow, options=RunOptions(on_failed=seen.append))
    error = await h.error(execution, RunFailedError)
    assert [str(one) for one in seen] == [str(error)]


@scenario(9, CALLBACKS)
async def async_callbacks_are_awaited_before_the_result(h: Harness) -> None:
    """An async callback is awaited, and result resolves after it."""
    seen: list[str] = []

    async def tell(result: str) -> None:
        await asyncio.sleep(0.01)
        seen.append(result)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return "a"

    execution = await h.client.create_run(flow, None, RunOptions(on_complete=tell)).start()
    await h.result(execution)
    assert seen == ["a"]


@scenario(9)
async def callbacks_come_after_the_commit(h: Harness) -> None:
    """When a callback is called, what it tells is stored."""
    seen: list[RunStatus] = []

    async def look(status: RunStatus) -> None:
        if status is RunStatus.COMPLETED:
            page = await h.client.list(status=status)
            seen.extend(one.status for one in page.items)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return "a"

    await h.result(await h.start(flow, options=RunOptions(on_status_change=look)))
    assert seen == [RunStatus.COMPLETED]


@scenario(9)
async def an_exception_in_a_callback_changes_nothing(h: Harness) -> None:
    """An exception in a callback is logged as callback.error and changes nothing."""

    def broken(status: RunStatus) -> None:
        raise ValueError("confused")

    @h.workflow
    async def flow(ctx: Context) -> str:
        return "a"

    execution = await h.start(flow, options=RunOptions(on_status_change=broken))
    assert await h.result(execution) == "a"
    await h.settle()
    assert "callback.error" in [event.type async for event in execution.events()]


@scenario(9)
async def on_retry_gets_error_and_number(h: Harness) -> None:
    """on_retry of a run is called with the error and the number of each retry."""
    seen: list[tuple[str, int]] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        raise ValueError(str(ctx.attempt))

    retry = Retry(attempts=2, delay_ms=0, on_retry=lambda error, n: seen.append((str(error), n)))
    await h.error(await h.start(flow, options=RunOptions(retry=retry)), RunFailedError)
    assert seen == [("1", 1), ("2", 2)]


@scenario(9)
async def after_cancel_gets_the_reason(h: Harness) -> None:
    """after_cancel is called once with the reason, after a forced cancel too."""
    seen: list[str | None] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow, options=RunOptions(cancel=Cancel(after_cancel=seen.append)))
    await execution.cancel("enough", graceful=False)
    await h.settle()
    assert seen == ["enough"]


@scenario(9, CALLBACKS, CRASH)
async def callbacks_of_the_workflow_work_after_a_restart(h: Harness) -> None:
    """Callbacks given to the workflow are code: they work again after a restart; those of the run's options do not."""
    seen: list[str] = []

    async def flow(ctx: Context) -> str:
        await ctx.wait_for_approval("go?")
        return "a"

    defined = h.define(flow, options=RunOptions(on_complete=lambda result: seen.append(f"workflow {result}")))
    options = RunOptions(on_complete=lambda result: seen.append(f"run {result}"))
    execution = await h.start(defined, options=options)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    await h.settle()
    assert seen == ["workflow a"]


@scenario(9, CRASH)
async def no_callback_is_called_twice(h: Harness) -> None:
    """Statuses of the time before a restart are not told again after it."""
    seen: list[str] = []

    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    defined = h.define(flow, options=RunOptions(on_status_change=lambda status: seen.append(status.value)))
    execution = await h.start(defined)
    await h.settle()
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    await h.settle()
    assert (seen.count("pending"), seen.count("completed")) == (1, 1)
    assert seen == await h.statuses(execution)


@scenario(9, CALLBACKS, SEVERAL_CLIENTS)
async def functions_that_could_not_be_called_are_refused(h: Harness) -> None:
    """A client that works on no runs refuses options whose functions only a worker could call."""

    @h.workflow
    async def flow(ctx: Context) -> None: ...

    teller = await h.connect(worker=False)
    for options in (
        RunOptions(cancel=Cancel(before_cancel=lambda: None)),
        RunOptions(retry=Retry(should_retry=lambda error: True)),
    ):
        with refused(InvalidOptionError):
            await teller.create_run(flow, None, options).start()
