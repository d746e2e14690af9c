"""The workflows that the tests of the terminal run."""

import asyncio

from pydantic import BaseModel

from osprotocol import ApprovalConfig, Context, TerminalError, step, workflow


class Order(BaseModel):
    item: str
    count: int
    express: bool = False


@step
async def write_draft(topic: str) -> str:
    return f"draft about {topic}"


@step
async def post(title: str, text: str) -> str:
    return f"{title}: {text}"


@step
async def fail_on(word: str) -> str:
    if word == "boom":
        raise ValueError("evil \x1b[31m text \u202e here")
    return word


@step
async def take_a_moment(number: int) -> int:
    await asyncio.sleep(0.05)
    return number


@workflow
async def publish(ctx: Context, topic: str) -> str:
    """Publish a text about a topic."""
    text = await ctx.step(write_draft, topic)
    ctx.report_progress(1, 3, "draft written")
    ctx.log("drafted", topic=topic)
    approval = await ctx.wait_for_approval(f"Publish {text!r}?", payload={"draft": text})
    if not approval.approved:
        raise TerminalError(f"rejected: {approval.reason}")
    title = await ctx.wait_for_input("Title?", str)
    return await ctx.step(post, title, text)


@workflow
async def order(ctx: Context, order: Order) -> Order:
    return order


@workflow
async def count(ctx: Context) -> int:
    return await ctx.wait_for_input("How many?", int)


@workflow
async def agree(ctx: Context) -> str:
    approval = await ctx.wait_for_approval("Agree?", ApprovalConfig(approvers=("ann", "bob"), required_approvals=2))
    return approval.outcome


@workflow
async def consent(ctx: Context) -> str:
    approval = await ctx.wait_for_approval("Order?", ApprovalConfig(required_approvals=2, timeout_ms=3_600_000))
    return approval.outcome


@workflow
async def hurry(ctx: Context) -> str:
    approval = await ctx.wait_for_approval("Quick?", ApprovalConfig(timeout_ms=700))
    return approval.outcome


@workflow
async def echo(ctx: Context, word: str = "hello") -> str:
    return await ctx.step(fail_on, word)


@workflow
async def parent(ctx: Context) -> int:
    return await ctx.run(count)


@workflow
async def long(ctx: Context) -> int:
    for number in range(400):
        await ctx.step(take_a_moment, number)
        ctx.report_progress(number + 1, 400, f"item {number}")
    return 400
