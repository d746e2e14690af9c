"""Workflows whose runs the browser tests look at."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter

from osprotocol import ApprovalConfig, Context, Retry, TerminalError, current_step, step, workflow

BIG = 9007199254740993
"""Two to the 53rd, plus one: the first whole number that a browser's own numbers cannot hold."""


class Ask(BaseModel):
    """What `ask` asks for."""

    question: str = "Deploy version 1.4.2?"
    payload: Any = None
    approvers: list[str] = []
    approvals: int = 1
    timeout_ms: int | None = None


@workflow
async def ask(ctx: Context, ask: Ask) -> str:
    """Ask people and say how they decided."""
    config = ApprovalConfig(approvers=ask.approvers, required_approvals=ask.approvals, timeout_ms=ask.timeout_ms)
    approval = await ctx.wait_for_approval(ask.question, config, payload=ask.payload)
    return f"{approval.outcome} by {approval.approved_by}: {approval.reason}"


class Order(BaseModel):
    """An order, with one field of each kind."""

    article: str = Field(min_length=2, max_length=60)
    quantity: int = Field(ge=1, le=10**18)
    price: float = Field(default=9.5, ge=0)
    express: bool
    colour: Literal["red", "green", "blue"]
    country: Literal["AT", "BE", "CH", "DE", "DK", "ES", "FR", "IT"] = "CH"
    extras: list[Literal["gift", "insurance", "note"]] = []
    until: date
    note: str | None = Field(default=None, max_length=2_000)


@workflow
async def order(ctx: Context, order: Order) -> dict[str, Any]:
    """Take an order and keep it."""
    return order.model_dump(mode="json")


@workflow
async def ask_for_order(ctx: Context) -> dict[str, Any]:
    """Ask somebody for an order."""
    answer = await ctx.wait_for_input("What shall we order?", Order)
    return answer.model_dump(mode="json")


def check_even(number: int) -> int:
    if number % 2:
        raise ValueError("is odd")
    return number


EVEN: TypeAdapter[int] = TypeAdapter(Annotated[int, AfterValidator(check_even)])
"""The schema says only that it is a whole number: who does not have this code takes an odd one, the worker does not."""


@workflow
async def ask_for_even(ctx: Context) -> int:
    """Ask for a number until somebody gives an even one."""
    return await ctx.wait_for_input("An even number, please", EVEN)


@workflow
async def wait_a_day(ctx: Context) -> str:
    """Sleep for a day."""
    ctx.report_progress(1, 2, "waiting for tomorrow")
    await ctx.sleep(timedelta(days=1))
    return "a day later"


class Signals(BaseModel):
    """Files by which another process is told how far it may go."""

    folder: str
    steps: int = 3


@step
async def wait_for_file(folder: str, number: int) -> int:
    while not (Path(folder) / str(number)).exists():  # noqa: ASYNC110 - a file of another process has no event
        await asyncio.sleep(0.01)
    return number


@workflow
async def follow(ctx: Context, signals: Signals) -> int:
    """Do one step for each file that appears."""
    for number in range(1, signals.steps + 1):
        await ctx.step(wait_for_file, signals.folder, number)
        ctx.report_progress(number, signals.steps, f"file {number} came")
    return signals.steps


@step(retry=Retry(attempts=2, delay_ms=1))
async def fail(message: str) -> None:
    if current_step().attempt < 3:
        raise OSError(f"try {current_step().attempt}: {message}")
    raise TerminalError(message)


@step
async def echo(value: Any) -> Any:
    current_step().log(f"echo: {value}")
    return value


class Says(BaseModel):
    """Texts that a run shows everywhere."""

    text: str
    end: Literal["ask", "fail", "result", "input"] = "ask"


@workflow
async def say(ctx: Context, says: Says) -> Any:
    """Put a text into every place that a run can write to."""
    ctx.report_progress(1, 2, says.text)
    ctx.log(says.text, field=says.text)
    await ctx.step(echo, {"key " + says.text: [says.text, says.text]})
    if says.end == "fail":
        await ctx.step(fail, says.text)
    if says.end == "input":
        return await ctx.wait_for_input(says.text)
    if says.end == "ask":
        approval = await ctx.wait_for_approval(says.text, payload={"key " + says.text: says.text, "list": [says.text]})
        return {"reason": approval.reason, "text": says.text}
    return says.text


@step
async def count(number: int) -> int:
    return number


@workflow
async def many_steps(ctx: Context, steps: int) -> int:
    """Do many steps one after the other."""
    for number in range(1, steps + 1):
        await ctx.step(count, number)
    ctx.report_progress(steps, steps, "all counted")
    return steps


@workflow
async def mixed(ctx: Context, name: str) -> str:
    """Steps beside each other, a retry, a child run, an approval: everything that a timeline shows."""
    ctx.report_progress(1, 4, f"{name}: collecting")
    await ctx.gather(ctx.step(count, 1), ctx.step(echo, {"big": BIG}), ctx.run(many_steps, 3))
    try:
        await ctx.step(fail, "the printer is out of paper")
    except Exception as error:  # noqa: BLE001 - shown in the log
        ctx.log(f"going on without: {error}")
    ctx.report_progress(2, 4, "waiting for a yes")
    approval = await ctx.wait_for_approval("Print without colour?", payload={"pages": 12, "big": BIG})
    ctx.report_progress(4, 4, "done")
    return f"{name}: {approval.outcome}"


class Bouncing(BaseModel):
    """How often each run asks for a step."""

    rounds: int
    rest_ms: int = 50


@workflow
async def bounce(ctx: Context, bouncing: Bouncing) -> int:
    """Report progress again and again."""
    for number in range(1, bouncing.rounds + 1):
        ctx.report_progress(number, bouncing.rounds, f"round {number}")
        await ctx.step(count, number)
        await ctx.sleep(ms=bouncing.rest_ms)
    return bouncing.rounds


@workflow
async def log_all(ctx: Context, texts: list[str]) -> None:
    """Log each text."""
    for text in texts:
        ctx.log(text)


@workflow
async def echo_all(ctx: Context, texts: list[str]) -> list[str]:
    """Give each text as the result of a step, and all of them as the run's own."""
    for text in texts:
        await ctx.step(echo, text)
    return texts


@workflow
async def talk(ctx: Context, signals: Signals) -> None:
    """Log one line for each file that appears."""
    for number in range(1, signals.steps + 1):
        await ctx.step(wait_for_file, signals.folder, number)
        ctx.log(f"line {number}.")
