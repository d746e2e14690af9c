"""What the processes of these tests do: workflows whose effects go into an append-only file, and workers for them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from osprotocol import ApprovalConfig, Context, Retry, connect, current_step, step, workflow

_descriptors: dict[str, int] = {}


def note(ledger: str, *words: object) -> None:
    """Append a line to the ledger, through a descriptor of its own. It is there when this returns."""
    descriptor = _descriptors.get(ledger)
    if descriptor is None:
        descriptor = _descriptors[ledger] = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())


class Ledger:
    """The file that effects go into, as the test reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self) -> list[list[str]]:
        """Every line, in words."""
        return [line.split() for line in self.path.read_text(encoding="utf-8").splitlines()]

    def count(self, *words: object) -> int:
        """How many lines begin with these words."""
        wanted = [str(word) for word in words]
        return sum(line[: len(wanted)] == wanted for line in self.lines())

    def effects(self) -> Counter[str]:
        """How often each step's effect began."""
        return Counter(line[1] for line in self.lines() if line[0] == "effect")

    def pids(self) -> set[int]:
        """The processes that had effects."""
        return {int(line[2]) for line in self.lines() if line[0] == "effect"}

    def broken_promises(self) -> list[str]:
        """Effects that began after their result was known to be committed."""
        committed: set[str] = set()
        broken = []
        for word, key, *_ in self.lines():
            if word == "committed":
                committed.add(key)
            elif word == "effect" and key in committed:
                broken.append(key)
        return broken


@step(retry=Retry(attempts=2, delay_ms=1))
async def effect(ledger: str, before: str) -> str:
    """An effect. That it begins proves that the step before it is committed, which is noted first."""
    key = current_step().idempotency_key
    if before:
        note(ledger, "committed", before)
    note(ledger, "effect", key, os.getpid())
    if current_step().attempt == 1 and key.endswith(":3"):
        raise ConnectionError("once")
    return key


@workflow(name="processes.chain")
async def chain(ctx: Context, ledger: str) -> str:
    """Five effects in a row, with a sleep and a person in between."""
    key = await ctx.step(effect, ledger, "")
    key = await ctx.step(effect, ledger, key)
    key = await ctx.step(effect, ledger, key)
    await ctx.sleep(ms=2)
    approval = await ctx.wait_for_approval("Go on?")
    key = await ctx.step(effect, ledger, key if approval.approved else "")
    return await ctx.step(effect, ledger, key)


@step
async def slow(ledger: str, ms: int) -> int:
    note(ledger, "effect", current_step().idempotency_key, os.getpid())
    await asyncio.sleep(ms / 1_000)
    return os.getpid()


@workflow(name="processes.pair")
async def pair(ctx: Context, ledger: str) -> list[int]:
    """Two steps of some milliseconds."""
    return [await ctx.step(slow, ledger, 5), await ctx.step(slow, ledger, 5)]


@step
async def blocked(ledger: str, gate: str) -> int:
    """Begins, and ends when a file appears."""
    note(ledger, "effect", current_step().idempotency_key, os.getpid())
    while not Path(gate).exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.005)
    note(ledger, "returns", current_step().idempotency_key, os.getpid())
    return os.getpid()


@workflow(name="processes.gated")
async def gated(ctx: Context, files: list[str]) -> list[int]:
    """A step that waits for a file, and one after it."""
    ledger, gate = files
    return [await ctx.step(blocked, ledger, gate), await ctx.step(slow, ledger, 1)]


@workflow(name="processes.last")
async def last(ctx: Context, files: list[str]) -> int:
    """One step that waits for a file, and nothing after it."""
    ledger, gate = files
    return await ctx.step(blocked, ledger, gate)


@step
def deadly(ledger: str, cure: str) -> str:
    """Takes its process with it, as a crash in a C library does, unless the cure is there."""
    note(ledger, "effect", current_step().idempotency_key, os.getpid())
    if not Path(cure).exists():
        os._exit(70)
    return "cured"


@workflow(name="processes.poison")
async def poison(ctx: Context, files: list[str]) -> str:
    return await ctx.step(deadly, *files)


@workflow(name="processes.asking")
async def asking(ctx: Context, ledger: str) -> Any:
    """An approval, then a step, then a sleep of a day."""
    approval = await ctx.wait_for_approval("Begin?")
    await ctx.step(slow, ledger, 1)
    await ctx.sleep(timedelta(days=1))
    return approval.reason


@workflow(name="processes.expiring")
async def expiring(ctx: Context, ledger: str) -> str:
    """A step, and an approval that nobody gives in time."""
    await ctx.step(slow, ledger, 1)
    return (await ctx.wait_for_approval("Now?", ApprovalConfig(timeout_ms=400))).outcome


def work(path: str, concurrency: str = "100") -> None:
    """A worker until it is killed or asked to end."""

    async def main() -> None:
        async with connect(path, durability="off", concurrency=int(concurrency)):
            await asyncio.get_running_loop().create_future()

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stderr.flush()
    asyncio.run(main())
