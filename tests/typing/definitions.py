"""Checked by mypy and pyright, never run: workflows and steps as a user defines them."""

from __future__ import annotations

from dataclasses import dataclass

from osprotocol import Context, Retry, RunOptions, Timeout, step, workflow


@dataclass
class Order:
    id: int
    price: float


@dataclass
class Receipt:
    text: str


@step
async def load(order_id: int, *, fresh: bool = False) -> Order:
    return Order(order_id, 1.0 if fresh else 2.0)


@step(retry=Retry(attempts=3), timeout=Timeout(ms=5_000), raises=(ValueError,))
def price(order: Order) -> float:
    return order.price


async def plain(text: str, times: int = 1) -> list[str]:
    return [text] * times


def plain_sync(text: str) -> int:
    return len(text)


@workflow
async def publish(ctx: Context, topic: str) -> str:
    return topic


@workflow
async def sell(ctx: Context, order: Order) -> Receipt:
    return Receipt(str(order.id))


@workflow
async def tick(ctx: Context) -> int:
    return 1


@workflow(name="publish-v2", version="2", options=RunOptions(timeout=Timeout(ms=1)), strict=True)
async def publish_again(ctx: Context, topic: str) -> str:
    return topic


@workflow(name="tick-v2")
async def tick_again(ctx: Context) -> int:
    return 1
