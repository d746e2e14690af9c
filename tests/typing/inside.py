"""Checked, never run: what the context's operations take and give."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, assert_type
from uuid import UUID

from pydantic import Field, TypeAdapter

from osprotocol import Approval, Context, Retry, Step, Timeout, current_step, workflow
from tests.typing.definitions import Order, Receipt, load, plain, plain_sync, price, publish, sell, tick


async def steps(ctx: Context) -> None:
    assert_type(await ctx.step(load, 3, fresh=True), Order)
    assert_type(await ctx.step(price, Order(1, 2.0)), float)
    assert_type(await ctx.step(plain, "x"), list[str])
    assert_type(await ctx.step(plain, "x", times=2), list[str])
    assert_type(await ctx.step(plain_sync, "x"), int)
    assert_type(await ctx.step(load.with_options(name="other", retry=Retry(attempts=1)), 3), Order)


async def a_step_stays_a_function() -> None:
    assert_type(await load(3), Order)
    assert_type(price(Order(1, 2.0)), float)
    assert_type(await load.with_options(timeout=Timeout(ms=1))(3, fresh=True), Order)
    as_step: Step[[Order], float] = price
    assert_type(as_step.__name__, str)


async def together(ctx: Context) -> None:
    assert_type(await ctx.gather(ctx.step(load, 1), ctx.step(plain_sync, "x")), tuple[Order, int])
    assert_type(
        await ctx.gather(ctx.step(load, 1), ctx.step(plain_sync, "x"), ctx.run(publish, "x")), tuple[Order, int, str]
    )
    assert_type(await ctx.gather(*[ctx.step(load, n) for n in range(3)]), tuple[Order, ...])
    assert_type(
        await ctx.gather(*[ctx.step(load, n) for n in range(3)], return_exceptions=True),
        tuple[Order | BaseException, ...],
    )


async def over_many(ctx: Context) -> None:
    assert_type(await ctx.map(price, [Order(1, 2.0)], max_concurrency=2), list[float])
    assert_type(await ctx.map(plain_sync, ["x"]), list[int])
    assert_type(await ctx.map(sell, [Order(1, 2.0)]), list[Receipt])


async def children(ctx: Context) -> None:
    assert_type(await ctx.run(publish, "x"), str)
    assert_type(await ctx.run(sell, Order(1, 2.0)), Receipt)
    assert_type(await ctx.run(tick), int)


async def people(ctx: Context) -> None:
    assert_type(await ctx.wait_for_approval("Sure?", payload={"a": 1}), Approval)
    assert_type((await ctx.wait_for_approval("Sure?")).require(), Approval)
    assert_type(await ctx.wait_for_input("Title?"), str)
    assert_type(await ctx.wait_for_input("How many?", int, timeout_ms=1_000), int)
    assert_type(await ctx.wait_for_input("Which?", Order), Order)
    adapter: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(gt=0)])
    assert_type(await ctx.wait_for_input("How many?", adapter, timedelta(hours=1)), int)


async def values(ctx: Context) -> None:
    assert_type(ctx.now(), datetime)
    assert_type(ctx.uuid(), UUID)
    assert_type(ctx.random(), float)
    assert_type(ctx.attempt, int)
    assert_type(current_step().idempotency_key, str)
    await ctx.sleep(timedelta(days=1))
    await ctx.sleep(ms=5)
    ctx.report_progress(1, 3, "one")
    ctx.log("hello", rows=3)


async def refused(ctx: Context) -> None:
    await ctx.step(load, "three")  # type: ignore[call-overload]
    await ctx.step(load)  # type: ignore[call-overload]
    await ctx.step(load, 3, stale=True)  # type: ignore[call-arg]
    await ctx.step(load(3))  # type: ignore[call-overload]
    await load("three")  # type: ignore[arg-type]
    await load.with_options(name="x")("three")  # type: ignore[arg-type]
    load.with_options(colour="red")  # type: ignore[call-arg]
    await ctx.map(price, ["x"])  # type: ignore[arg-type]
    await ctx.run(publish, 5)  # type: ignore[misc]
    await ctx.wait_for_input("How many?", 5)  # type: ignore[call-overload]
    await ctx.sleep("soon")  # type: ignore[arg-type]
    Retry(backoff="fibonacci")  # type: ignore[arg-type]
    Timeout(ms="5")  # type: ignore[arg-type]
    Timeout()  # type: ignore[call-arg]


@workflow  # type: ignore[arg-type]
async def two_inputs(ctx: Context, first: str, second: str) -> str:
    return first + second


@workflow  # type: ignore[arg-type]
def not_async(ctx: Context, topic: str) -> str:
    return topic
