"""Kills nodes and workers of a Restate cluster under load, and counts: ``make chaos-restate``.

Three nodes that keep everything twice, two workers and a client, each with a copy of its own. While people start,
answer, pause and cancel runs, nodes and workers are killed, stopped and restarted, and the client loses its
connection. An outside ledger then tells whether what was promised is true.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from osprotocol._restate.address import Address
from osprotocol._restate.ingress import Ingress
from osprotocol._restate.replica import Replica
from tests.restate.chaos_checks import Story, place_and_digest
from tests.restate.chaos_faults import Faults, WorkerProcess
from tests.restate.chaos_member import Member
from tests.restate.chaos_people import People, Plan, plans
from tests.restate.ledger_file import LEDGER_VARIABLE, note, read
from tests.restate.nodes import RestateCluster, RestateNode, server_binary

_SETTLE_S = 180.0
_QUIET_S = 60.0


class Chaos:
    """One chaos run.

    Args:
        servers: the nodes, already running.
        folder: where everything is written.
        seed: of all that is left to chance.
        count: how many runs.
        seconds: for how long harm is done.

    Attributes:
        violations: sentences about what must never happen.
    """

    def __init__(
        self, servers: RestateCluster | RestateNode, folder: Path, *, seed: int, count: int, seconds: float
    ) -> None:
        self.folder = folder
        self.violations: list[str] = []
        self._seed = seed
        self._seconds = seconds
        self._servers = servers
        self._url = servers.url("chaos")
        os.environ[LEDGER_VARIABLE] = str(folder / "ledger.jsonl")
        note("seed", seed=seed)
        chance = random.Random(seed)
        self.plans: list[Plan] = plans(chance, count)
        self.offsets = [chance.uniform(0, seconds * 0.9) for _ in self.plans]
        self.workers = [WorkerProcess(self._url, folder, name) for name in ("worker1", "worker2")]
        self.member = Member(self._url, folder)
        self.people = People(self.member, random.Random(seed + 1))
        nodes = servers.nodes if isinstance(servers, RestateCluster) else (servers,)
        self.faults = Faults(random.Random(seed + 2), nodes, servers.wait_until_ready, self.workers, self.member)
        self._figures: Counter[str] = Counter()
        self._took_s = 0.0
        self._copies = self._entries = 0

    async def run(self) -> None:
        """Do harm while people use it, let it settle, and check."""
        begun = time.monotonic()
        try:
            for worker in self.workers:
                worker.start()
            await self.member.open()
            beside = [asyncio.ensure_future(self.people.attend()), asyncio.ensure_future(self.member.watch_loop())]
            pairs = zip(self.plans, self.offsets, strict=True)
            doing = [asyncio.ensure_future(self.people.carry_out(plan, offset)) for plan, offset in pairs]
            await self.harm()
            note("faults are over")
            await self._settle(doing)
            for task in beside:
                task.cancel()
            if not self.violations:
                await self._compare()
        finally:
            for worker in self.workers:
                worker.close()
        if all(plan.run_id for plan in self.plans):
            story = Story(self.plans, read(Path(os.environ[LEDGER_VARIABLE])), self.member.copies[-1])
            self.violations += story.problems()
            self._figures = story.figures
        self.violations += self.people.unexpected
        self._took_s = time.monotonic() - begun

    async def harm(self) -> None:
        """What goes wrong while people use it; afterwards everything runs."""
        await self.faults.run(self._seconds)

    async def _settle(self, doing: Sequence[asyncio.Future[None]]) -> None:
        _, unfinished = await asyncio.wait(doing, timeout=_SETTLE_S)
        for plan, task in zip(self.plans, doing, strict=True):
            if task in unfinished:
                task.cancel()
                told = "was not accepted"
                if plan.run_id:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(5):
                            execution = await self.member.look(plan.run_id)
                            told = f"is {execution.status}: {execution.snapshot.to_wire()}"
                self.violations.append(f"{plan.key} ({plan.kind}) is not done after {_SETTLE_S:g} s; {told}")
            elif task.exception() is not None:
                self.violations.append(f"{plan.key} ({plan.kind}): {task.exception()!r}")
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self.faults.watched()

    async def _compare(self) -> None:
        """Copies that live, copies that were given up, and one that is made now: all the same."""
        living = [*(worker.copy for worker in self.workers), self.member.copies[-1]]
        until = time.monotonic() + _QUIET_S
        while True:
            # What a copy is given up for is written by nobody any more: it has to be brought up to date first.
            others = [*self.member.copies[:-1], self.folder / "fresh.db"]
            await asyncio.to_thread(self._bring_up, others)
            told = {copy: place_and_digest(copy) for copy in [*living, *others]}
            if len({version for version, _ in told.values()}) == 1 or time.monotonic() > until:
                break
            await asyncio.sleep(0.5)
        if len(set(told.values())) > 1:
            found = told.items()
            self.violations += [f"{copy.name} is at entry {place} with {digest}" for copy, (place, digest) in found]
        self._copies, self._entries = len(told), next(iter(told.values()))[0]

    def _bring_up(self, copies: list[Path]) -> None:
        address = Address.parse(self._url, {})
        for copy in copies:
            ingress = Ingress(address.ingress, address.namespace)
            try:
                replica = Replica(copy, ingress)
                replica.catch_up()
                replica.close()
            finally:
                ingress.close()

    def report(self) -> str:
        """The figures."""
        kinds = Counter(plan.kind for plan in self.plans)
        taken = sorted(self.faults.take_over_s)
        lines = [
            f"seed {self._seed}, {self._took_s:.0f} s, {self._seconds:.0f} s of them with faults",
            f"runs: {len(self.plans)} ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})",
            f"faults: {sum(self.faults.counts.values())}",
            *(f"  {kind}: {count}" for kind, count in sorted(self.faults.counts.items())),
            "longest time until it was acknowledged (for the event loop: that it stood still):",
            *(f"  {what}: {took_s:.1f} s" for what, took_s in sorted(self.member.slowest_s.items())),
        ]
        if taken:
            middle = taken[len(taken) // 2]
            each = ", ".join(f"{took_s:.1f}" for took_s in taken)
            lines.append(f"taking over from a killed worker: median {middle:.1f} s, longest {taken[-1]:.1f} s ({each})")
        lines += [f"{what}: {count}" for what, count in sorted(self._figures.items())]
        lines += [f"asked again, {what}: {count}" for what, count in sorted(self.member.repeated.items())]
        lines.append(f"copies that are the same: {self._copies}, with {self._entries} entries")
        for worker in self.workers:
            lines += worker.surprises
            lines += [f"in the log of {worker.name}, {error}: {count}" for error, count in worker.tracebacks().items()]
        lines += self.faults.slow_ends
        lines.append(f"violations: {len(self.violations)}")
        lines += [f"  {violation}" for violation in self.violations[:50]]
        return "\n".join(lines)


async def _interruptible(chaos: Chaos) -> None:
    task = asyncio.ensure_future(chaos.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


def main() -> int:
    """Run it as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(description="Kill nodes and workers of a Restate cluster under load, and count.")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=150.0, help="for how long harm is done")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; kept")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if asked.seed is None else asked.seed
    server_binary()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="osprotocol-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"chaos: seed {seed}, files in {folder}", flush=True)  # noqa: T201
    with RestateCluster(folder / "nodes") as cluster:
        chaos = Chaos(cluster, folder, seed=seed, count=asked.runs, seconds=asked.seconds)
        try:
            asyncio.run(_interruptible(chaos))
        except asyncio.CancelledError:
            print("chaos: interrupted", flush=True)  # noqa: T201
            return 130
    print(chaos.report(), flush=True)  # noqa: T201
    if chaos.violations:
        print(f"chaos: FAILED with seed {seed}; the files are in {folder}", flush=True)  # noqa: T201
        return 1
    if asked.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
