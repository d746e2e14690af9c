"""A small chaos run: one node, two workers with a copy each, and what goes wrong in a fixed order."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.restate.chaos import Chaos
from tests.restate.ledger_file import LEDGER_VARIABLE, note, read
from tests.restate.nodes import PATIENCE_S, RestateNode

pytestmark = pytest.mark.restate

_STOPPED_S = 2.0
_LOOK_S = 0.05


class SmallChaos(Chaos):
    """One worker is killed, the other one stopped, the node killed, each while steps execute."""

    async def harm(self) -> None:
        first, second = self.workers
        (node,) = self.faults.nodes
        await self._steps_begin(4)
        self.faults.count("worker", first.name, "kill", first.pid)
        await asyncio.to_thread(first.kill)
        await self._steps_begin(4)  # the other one works, and serves the ledger
        first.start()
        self.faults.count("worker", second.name, "stop", second.pid)
        second.signal(signal.SIGSTOP)
        await self._steps_begin(4)
        await asyncio.sleep(_STOPPED_S)
        second.signal(signal.SIGCONT)
        self.faults.count("node", node.name, "kill", node.pid)
        await asyncio.to_thread(node.restart)
        note("fault over", what="kill", target=node.name)
        await self.member.reopen(abruptly=True)

    async def _steps_begin(self, count: int) -> None:
        """Wait until so many more steps have begun."""
        ledger = Path(os.environ[LEDGER_VARIABLE])
        wanted = sum(line.kind == "begin" for line in read(ledger)) + count
        async with asyncio.timeout(PATIENCE_S):
            while sum(line.kind == "begin" for line in read(ledger)) < wanted:  # noqa: ASYNC110 - others write it
                await asyncio.sleep(_LOOK_S)


def test_nothing_promised_is_lost_while_workers_and_the_node_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed, another one stopped, the node killed: the outside ledger finds nothing wrong."""
    monkeypatch.setenv(LEDGER_VARIABLE, "")  # so that it is as before afterwards
    with RestateNode(tmp_path / "node") as node:
        chaos = SmallChaos(node, tmp_path, seed=4, count=16, seconds=10)
        asyncio.run(chaos.run())
    assert chaos.violations == [], chaos.report()
    assert sum(chaos.faults.counts.values()) == 3
