"""Fill a ledger with finished runs, and measure pages, the join of a new member, and sizes.

python benchmarks/restate/many.py [--runs 100000] [--dir DIRECTORY]

Every hundredth run waits for an approval, so that there is an inbox; every fiftieth of the others fails.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from suite import machine  # noqa: E402

from osprotocol import Client, Context, RunOptions, connect, step, workflow  # noqa: E402
from osprotocol._restate.ingress import Ingress  # noqa: E402
from tests.restate.nodes import RestateNode  # noqa: E402

DATA = HERE.parents[1] / ".bench"
AT_ONCE = 1_000
TEAMS = 100
REPEATS = 20
PAGE = 100


@step
async def noop() -> str:
    """Nothing."""
    return "x" * 100


@workflow(name="bench.many")
async def many(ctx: Context, number: int) -> str:
    """One step; some wait for an approval instead, some fail."""
    if number % 100 == 0:
        await ctx.wait_for_approval(f"Go on with {number}?")
    if number % 50 == 1:
        raise ValueError(f"run {number} was to fail")
    return await ctx.step(noop)


@workflow(name="bench.rare")
async def rare(ctx: Context, number: int) -> str:
    """The same under another name, for one run in a thousand."""
    return await ctx.step(noop)


async def fill(client: Client, count: int) -> None:
    """Start so many runs, many at a time, and wait for those that end."""
    for begin in range(0, count, AT_ONCE):
        runs = [
            client.create_run(
                rare if number % 1_000 == 999 else many, number, RunOptions(labels={"team": f"t{number % TEAMS}"})
            )
            for number in range(begin, min(count, begin + AT_ONCE))
        ]
        executions = await asyncio.gather(*(run.start() for run in runs))
        ending = [one.result for number, one in enumerate(executions, begin) if number % 100]
        await asyncio.gather(*ending, return_exceptions=True)


async def pages(client: Client, count: int) -> dict[str, float]:
    """Milliseconds of one page each, the median of some."""

    async def events(after: int) -> int:
        found = 0
        async for _ in client.events(after):
            found += 1
            if found == PAGE:
                break
        return found

    newest = (await client.list(limit=1)).items[0]
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "list, first page": lambda: client.list(limit=PAGE),
        "list, last page": lambda: client.list(limit=PAGE, cursor=str(PAGE + 1)),
        "list, one status (failed)": lambda: client.list(limit=PAGE, status="failed"),
        "list, one workflow (1 of 1,000 runs)": lambda: client.list(limit=PAGE, workflow=rare),
        "list, one label (1 of 100 runs)": lambda: client.list(limit=PAGE, label="team=t7"),
        "list, text of many (bench)": lambda: client.list(limit=PAGE, text="bench"),
        "list, text of one (its id)": lambda: client.list(limit=PAGE, text=newest.id),
        "list, text of none": lambda: client.list(limit=PAGE, text="nowhere"),
        "inbox, first page": lambda: client.requests(limit=PAGE),
        "events, first page": lambda: events(0),
        "events, last page": lambda: events(count * 3 - PAGE * 2),
        "get one run": lambda: client.get(newest.id),
        "statistics": lambda: client.statistics(),
    }
    took: dict[str, float] = {}
    for name, ask in asked.items():
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            async with asyncio.timeout(60):
                await ask()
            times.append((time.perf_counter() - began) * 1_000)
        took[name] = statistics.median(times)
    return took


class Counted:
    """Bytes that members of this process have received from the ingress."""

    def __init__(self) -> None:
        self.bytes = 0
        receive = Ingress._receive

        def counting(ingress: Ingress, *sent: Any) -> bytes:
            data = receive(ingress, *sent)
            self.bytes += len(data)
            return data

        Ingress._receive = counting  # type: ignore[method-assign]


def size_of(path: Path) -> float:
    """Megabytes on the disk, of a file or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_blocks * 512 for file in files) / 1e6


async def measure(node: RestateNode, folder: Path, count: int) -> list[tuple[str, str]]:
    """Everything, as rows."""
    received = Counted()

    def member(copy: str, *, worker: bool = False) -> Client:
        return connect(f"{node.url()}&replica={folder / copy}.db", worker=worker, concurrency=AT_ONCE, linger_ms=0)

    rows: list[tuple[str, str]] = []
    async with member("worker", worker=True) as worker:
        began = time.perf_counter()
        await fill(worker, count)
        took_s = time.perf_counter() - began
        engine: Any = worker._engine
        head = engine._replica.head
        rows += [
            ("filled", f"{count:,} runs in {took_s:.0f} s, {count / took_s:,.0f} a second"),
            ("entries in the ledger", f"{head['version']:,}, {head['version'] - head['first'] + 1:,} of them kept"),
            ("newest snapshot", f"at entry {head['snapshot']:,}, {head['size'] / 1e6:.1f} MB in {head['count']} parts"),
            ("log of Restate and its state, on the disk", f"{size_of(node.folder):.0f} MB"),
        ]
        before = received.bytes
        began = time.perf_counter()
        async with member("new") as new:
            joined_s = time.perf_counter() - began
            rows += [
                ("join of a new member", f"{joined_s:.2f} s, {(received.bytes - before) / 1e6:.1f} MB fetched"),
                ("its copy", f"{size_of(folder / 'new.db'):.0f} MB"),
            ]
            rows += [(f"{name}, ms", f"{value:.2f}") for name, value in (await pages(new, count)).items()]
        began = time.perf_counter()
        async with member("new"):
            rows.append(("the same member again", f"{time.perf_counter() - began:.2f} s"))
    return rows


def main() -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description="Measure the engine on Restate with many runs.")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--dir", type=Path, default=DATA, help="where Restate and the copies write, on a disk")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    facts = {"began": datetime.now(UTC).isoformat(timespec="seconds"), **machine.describe(options.dir)}
    with (
        tempfile.TemporaryDirectory(prefix="many-", dir=options.dir.resolve()) as folder,
        RestateNode(Path(folder) / "node") as node,
    ):
        rows = asyncio.run(measure(node, Path(folder), options.runs))
    print("\n".join(f"- {name}: {fact}" for name, fact in facts.items()), f"- load: {os.getloadavg()[0]:.1f}", sep="\n")
    print("\n| what | measured |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
