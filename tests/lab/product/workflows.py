"""What the servers of these harnesses work on. Every effect is a line in a file outside of the engine.

`osp serve` loads this file by its path. A line is: word, key of the step, process, instant of the monotonic clock in
nanoseconds (one clock for all processes of a machine), and what the step adds.
"""

from __future__ import annotations

import asyncio
import os
import time

from osprotocol import ApprovalConfig, Context, current_step, step, workflow

LEDGER = "OSP_LAB_LEDGER"
"""The environment variable that names the file."""
VOTERS = ("ann", "ben", "cat")
_descriptors: dict[str, int] = {}


def note(word: str, what: str = "-") -> None:
    """Append a line. It is there when this returns, whatever becomes of the process."""
    path = os.environ[LEDGER]
    if path not in _descriptors:
        _descriptors[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    key = current_step().idempotency_key
    os.write(_descriptors[path], f"{word} {key} {os.getpid()} {time.monotonic_ns()} {what}\n".encode())


@step
async def effect(label: str, ms: int = 0) -> str:
    """An effect that takes a while."""
    note("effect", label)
    if ms:
        await asyncio.sleep(ms / 1_000)
    note("returns", label)
    return label


@step
def in_thread(label: str, ms: int) -> str:
    """An effect that holds a thread."""
    note("effect", label)
    time.sleep(ms / 1_000)
    note("returns", label)
    return label


@step
async def consume(label: str, value: int) -> int:
    """What was answered is used."""
    note("effect", f"{label}={value}")
    note("returns", label)
    return value


@workflow(name="lab.chain")
async def chain(ctx: Context, label: str) -> list[str]:
    """Effects one after the other, a sleep, two at once."""
    done = [await ctx.step(effect, f"{label}.a"), await ctx.step(in_thread, f"{label}.b", 3)]
    await ctx.sleep(ms=5)
    done += await ctx.gather(ctx.step(effect, f"{label}.c", 10), ctx.step(effect, f"{label}.d"))
    return [*done, await ctx.step(effect, f"{label}.e", 2)]


@workflow(name="lab.decide")
async def decide(ctx: Context, label: str) -> str:
    """Two of three people, between two effects."""
    await ctx.step(effect, f"{label}.before")
    config = ApprovalConfig(approvers=VOTERS, required_approvals=2, reject_threshold=2)
    approval = await ctx.wait_for_approval("Go on?", config, payload={"label": label})
    await ctx.step(effect, f"{label}.{approval.outcome}")
    return approval.outcome


@workflow(name="lab.ask")
async def ask(ctx: Context, label: str) -> list[int]:
    """Two numbers from people; each is used once."""
    first = await ctx.wait_for_input("How many?", int)
    used = await ctx.step(consume, f"{label}.1", first)
    second = await ctx.wait_for_input("And now?", int)
    return [used, await ctx.step(consume, f"{label}.2", second)]


@workflow(name="lab.family")
async def family(ctx: Context, label: str) -> list[list[str]]:
    """Two child runs at once."""
    return list(await ctx.gather(ctx.run(chain, f"{label}.x"), ctx.run(chain, f"{label}.y")))


@workflow(name="lab.slow")
async def slow(ctx: Context, label: str) -> int:
    """Some hundred milliseconds of small steps: somebody pauses or cancels it meanwhile."""
    for number in range(12):
        await ctx.step(effect, f"{label}.{number}", 15)
    return 12


@step
async def flooding(lines: int) -> int:
    """Log lines as fast as they come."""
    told = current_step()
    note("effect", "flood")
    for number in range(lines):
        told.log(f"line {number} of a flood that nobody reads, long enough to weigh something", number=number)
        if number % 50 == 49:
            await asyncio.sleep(0)
    return lines


@workflow(name="lab.flood")
async def flood(ctx: Context, lines: int) -> int:
    """A step that floods its run's log."""
    return await ctx.step(flooding, lines)
