"""Workflows that do what their input says: programs made by chance, and what their results have to be."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from osprotocol import (
    ApprovalConfig,
    Cancel,
    Context,
    Retry,
    RunOptions,
    Timeout,
    current_step,
    step,
    workflow,
)
from osprotocol.errors import InputExpiredError
from tests.lab.sim.account import Account

Op = list[Any]
PEOPLE = ("ann", "bob", "cleo", "dora")

_account: list[Account] = []


def set_account(account: Account) -> None:
    """Whose world the steps have their effects in."""
    _account[:] = [account]


async def _act(label: str, ms: int, failures: int, *, once: bool = False) -> str:
    account, current = _account[0], current_step()
    node, epoch = account.world.turning, getattr(current, "_attempt").epoch  # noqa: B009 - it is none of a user's
    account.begins(current.idempotency_key, label, current.attempt, epoch=epoch, once=once)
    if ms:
        await asyncio.sleep(ms / 1_000)
    if current.attempt <= failures:
        account.ends(current.idempotency_key, node)
        raise ConnectionError(label)
    account.ends(current.idempotency_key, node, epoch=epoch)
    return f"did {label}"


@step(name="sim.act", retry=Retry(attempts=9, delay_ms=20, backoff="exponential"))
async def act(label: str, ms: int, failures: int) -> str:
    """Does something that takes a while, and may fail a few times first."""
    return await _act(label, ms, failures)


@step(name="sim.once", at_most_once=True)
async def act_once(label: str, ms: int) -> str:
    """Does something that must not be done twice."""
    return await _act(label, ms, 0, once=True)


@step(name="sim.thread")
def act_in_thread(label: str) -> str:
    """Does something in a thread."""
    account, current = _account[0], current_step()
    account.begins(current.idempotency_key, label, current.attempt)
    account.ends(current.idempotency_key, account.world.turning)
    return f"did {label}"


@workflow(name="sim.program")
async def program(ctx: Context, ops: list[Op]) -> list[Any]:
    """Does one thing after the other."""
    return await _run(ctx, ops)


@workflow(name="sim.timed", options=RunOptions(timeout=Timeout(ms=900), retry=Retry(attempts=2)))
async def timed(ctx: Context, ops: list[Op]) -> list[Any]:
    """The same, against the clock."""
    return await _run(ctx, ops)


@workflow(name="sim.careful", options=RunOptions(cancel=Cancel(before_cancel=lambda: None, graceful_timeout_ms=500)))
async def careful(ctx: Context, ops: list[Op]) -> list[Any]:
    """The same, asked before it is cancelled."""
    return await _run(ctx, ops)


async def _run(ctx: Context, ops: list[Op]) -> list[Any]:
    return [await _one(ctx, op) for op in ops]


async def _one(ctx: Context, op: Op) -> Any:
    kind, *told = op
    if kind == "act":
        return await ctx.step(act, *told)
    if kind == "once":
        return await ctx.step(act_once, *told)
    if kind == "thread":
        return await ctx.step(act_in_thread, *told)
    if kind == "sleep":
        await ctx.sleep(ms=told[0])
        return "slept"
    if kind == "ask":
        quorum, approvers, timeout_ms = told
        config = ApprovalConfig(approvers=tuple(approvers), required_approvals=quorum, timeout_ms=timeout_ms)
        approval = await ctx.wait_for_approval("May it?", config, payload={"op": op})
        return approval.outcome
    if kind == "input":
        try:
            return await ctx.wait_for_input("How many?", int, timeout_ms=told[0])
        except InputExpiredError:
            return "expired"
    if kind == "both":
        return list(await ctx.gather(*(_run(ctx, branch) for branch in told)))
    if kind == "child":
        return await ctx.run(program, told[0])
    if kind == "tell":
        ctx.report_progress(told[0], 9, "on the way")
        ctx.log(f"at {told[0]}")
        return str(ctx.uuid())
    assert kind == "guard"
    try:
        return await _run(ctx, told[0])
    finally:
        await ctx.step(act, "cleanup", told[1], 0)


def fits(ops: list[Op], result: Any) -> bool:
    """Whether a program may have given that result."""
    return isinstance(result, list) and len(result) == len(ops) and all(map(_fits_one, ops, result))


def _fits_one(op: Op, value: Any) -> bool:
    kind = op[0]
    if kind in ("act", "once", "thread"):
        return bool(value == f"did {op[1]}") or (kind == "once" and value == "skipped")
    if kind == "sleep":
        return bool(value == "slept")
    if kind == "ask":
        return value in ("approved", "rejected") or (value == "expired" and op[3] is not None)
    if kind == "input":
        return type(value) is int or (value == "expired" and op[1] is not None)
    if kind == "both":
        return len(value) == len(op) - 1 and all(map(fits, op[1:], value))
    if kind in ("child", "guard"):
        return fits(op[1], value)
    return isinstance(value, str)


_KINDS = ("act", "act", "act", "thread", "sleep", "ask", "ask", "input", "once", "tell", "both", "child", "guard")


def make(chance: random.Random, depth: int = 0) -> list[Op]:
    """A program."""
    most = (3, 2, 1)[depth]
    return [_make_one(chance, depth) for _ in range(1 + int(chance.random() * most))]


def _make_one(chance: random.Random, depth: int) -> Op:
    kind = chance.choice(_KINDS if depth < 2 else _KINDS[:10])
    label = f"{chance.getrandbits(24):06x}"
    ms = chance.choice((0, 0, 5, 50, 250))
    if kind == "act":
        return ["act", label, ms, chance.choice((0, 0, 0, 0, 1, 2))]
    if kind == "once":
        return ["once", label, ms]
    if kind == "thread":
        return ["thread", label]
    if kind == "sleep":
        return ["sleep", chance.choice((1, 20, 200, 1_500))]
    if kind == "ask":
        named = chance.random() < 0.5
        quorum = chance.choice((1, 1, 2, 3))
        approvers = list(PEOPLE[: quorum + chance.randrange(2)]) if named else []
        return ["ask", quorum, approvers, chance.choice((None, None, 50, 300, 1_200))]
    if kind == "input":
        return ["input", chance.choice((None, None, 100, 700))]
    if kind == "both":
        return ["both", *(make(chance, depth + 1) for _ in range(chance.choice((2, 2, 3))))]
    if kind == "child":
        return ["child", make(chance, depth + 1)]
    if kind == "tell":
        return ["tell", chance.randrange(9)]
    return ["guard", make(chance, depth + 1), ms]
