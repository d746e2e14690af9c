"""What the processes of these tests do: workflows whose effects go into an append-only file, and workers for them."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from osprotocol import ApprovalConfig, Context, Retry, RunOptions, connect, current_step, step, workflow
from osprotocol._embedded.store import Group, Operation, Store
from osprotocol._json import decode

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


_witness: list[str] = []


@step(retry=Retry(attempts=3, delay_ms=1))
async def witnessed(ledger: str, label: str, given: str = "-", ms: float = 0) -> str:
    """An effect that tells of whom and of which epoch it is, and gives what no other try of it gives."""
    step, token = current_step(), secrets.token_hex(6)
    epoch = step._attempt.epoch  # type: ignore[attr-defined] # only its owner may have effects that count
    note(ledger, "effect", step.idempotency_key, os.getpid(), token, step.attempt, epoch, given)
    if label == "flaky" and step.attempt < 3:
        raise ConnectionError(label)
    await asyncio.sleep(ms / 1_000)
    note(ledger, "returns", step.idempotency_key, os.getpid(), token)
    return token


@workflow(name="processes.mixed-child")
async def mixed_child(ctx: Context, ledger: str) -> str:
    """What a mixed run has below it."""
    token = await ctx.step(witnessed, ledger, "child")
    await ctx.sleep(ms=3)
    return await ctx.step(witnessed, ledger, "child's last", token, 2)


def set_witness(ledger: str) -> None:
    """Where the callbacks of this process are noted."""
    _witness[:] = [ledger]


def _tell_end(tokens: list[str]) -> None:
    note(_witness[0], "callback", ",".join(tokens))


@workflow(name="processes.mixed", options=RunOptions(on_complete=_tell_end))
async def mixed(ctx: Context, options: list[Any]) -> list[str]:
    """Steps alone and beside each other, retries, a timer, a child and a person. Takes the ledger, and a slowness."""
    ledger, slowness = options
    first = await ctx.step(witnessed, ledger, "first", "-", 2 * slowness)
    flaky = await ctx.step(witnessed, ledger, "flaky", first)
    await ctx.sleep(ms=2)
    beside = await ctx.gather(
        ctx.run(mixed_child, ledger),
        ctx.step(witnessed, ledger, "left", flaky, 4 * slowness),
        ctx.step(witnessed, ledger, "right", flaky),
    )
    approval = await ctx.wait_for_approval("Go on?")
    last = await ctx.step(witnessed, ledger, f"last, {approval.outcome}", beside[1], slowness)
    return [first, flaky, *beside, last]


@step
async def aborting(ledger: str) -> None:
    note(ledger, "effect", current_step().idempotency_key, os.getpid())
    os.abort()


@workflow(name="processes.aborts")
async def aborts(ctx: Context, ledger: str) -> None:
    """Takes its process with it as a failed assertion in C code does."""
    await ctx.step(aborting, ledger)


@step
def devouring(ledger: str) -> int:
    """Wants more memory than there is."""
    note(ledger, "effect", current_step().idempotency_key, os.getpid())
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), before[1]))
    try:
        return len([bytearray(1 << 20) for _ in range(1_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@workflow(name="processes.hungry")
async def hungry(ctx: Context, ledger: str) -> int:
    return await ctx.step(devouring, ledger)


def witnessed_work(path: str, ledger: str) -> None:
    """A worker that tells when it is open, and of every result of a step as soon as its commit is there."""
    commit = Store.commit
    set_witness(ledger)

    def told(store: Store, operations: list[Operation]) -> Group:
        group = commit(store, operations)
        for change in group.changes.values():
            for event in change.events:
                if event.type == "step.completed":
                    note(ledger, "committed", f"{change.state.id}:{event.position}", os.getpid(), decode(event.value))
        return group

    Store.commit = told  # type: ignore[method-assign, assignment]

    async def main() -> None:
        async with connect(path, durability="off"):
            note(ledger, "open", os.getpid())
            await asyncio.get_running_loop().create_future()

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asyncio.run(main())


def work(path: str, concurrency: str = "100") -> None:
    """A worker until it is killed or asked to end."""

    async def main() -> None:
        async with connect(path, durability="off", concurrency=int(concurrency)):
            await asyncio.get_running_loop().create_future()

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stderr.flush()
    asyncio.run(main())
