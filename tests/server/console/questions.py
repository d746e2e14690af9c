"""Workflows that ask people, for the tests of the pages on which they answer."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import BaseModel, Field

from osprotocol import ApprovalConfig, Context, workflow

HOUR_MS = 3_600_000


class Line(BaseModel):
    item: str
    count: int = Field(ge=1)


class Order(BaseModel):
    customer: str
    size: Literal["s", "m", "l"]
    gift: bool
    due: dt.date
    number: int
    lines: list[Line] = Field(min_length=1)
    note: str = ""


@workflow(name="page-approve")
async def approve(ctx: Context, topic: str = "it") -> str:
    """Asks for an approval."""
    config = ApprovalConfig(timeout_ms=HOUR_MS)
    approval = await ctx.wait_for_approval(f"Publish {topic}?", config, payload={"topic": topic, "big": 2**53 + 1})
    return approval.outcome


@workflow(name="page-auto")
async def auto(ctx: Context) -> str:
    config = ApprovalConfig(timeout_ms=HOUR_MS, auto_approve_on_timeout=True)
    return (await ctx.wait_for_approval("Go on by itself?", config)).outcome


@workflow(name="page-two")
async def two(ctx: Context, approvers: list[str]) -> str:
    config = ApprovalConfig(required_approvals=2, approvers=tuple(approvers))
    return (await ctx.wait_for_approval("Both of you?", config)).outcome


@workflow(name="page-order")
async def order(ctx: Context, first: Order | None = None) -> Order:
    """Asks for an order."""
    return await ctx.wait_for_input("What is ordered?", Order) if first is None else first


@workflow(name="page-number")
async def number(ctx: Context) -> int:
    return await ctx.wait_for_input("How many?", int)


@workflow(name="page-picky")
async def picky(ctx: Context) -> str:
    """Asks for a value that only the type can judge: a length of time, whose schema is a plain text."""
    return str(await ctx.wait_for_input("How long?", dt.timedelta))


@workflow(name="page-long")
async def long(ctx: Context) -> str:
    """Asks about more than a page shows at once."""
    approval = await ctx.wait_for_approval("Send it?", payload={"text": "word " * 400})
    return approval.outcome
