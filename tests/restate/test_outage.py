"""Restate is gone for a while: what waits, what ends, and what goes on afterwards without anybody's help."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osprotocol import Client, Context, _limits, connect, step, workflow
from osprotocol._embedded import database, duties
from osprotocol._restate import engine
from osprotocol.errors import StoreError
from tests.restate.nodes import RestateNode

pytestmark = pytest.mark.restate

_PATIENCE_S = 60
_OUTAGE_S = 3.0
_BUSY_MS = 1_000


@step
async def never(number: int) -> int:
    await asyncio.Event().wait()
    return number


@workflow(name="restate.outage.endless")
async def endless(ctx: Context, number: int) -> int:
    """Executes until it is stopped."""
    return await ctx.step(never, number)


@workflow(name="restate.outage.short")
async def short(ctx: Context, number: int) -> int:
    """Ends at once."""
    return number


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RestateNode]:
    """A server of the test's own, which it kills."""
    with RestateNode(tmp_path / "node") as node:
        yield node


def member(node: RestateNode, copy: Path, *, worker: bool = False) -> Client:
    return connect(f"{node.url()}&replica={copy}", worker=worker)


async def test_closing_ends_while_restate_is_down(
    node: RestateNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the worker gives a sign of life more often than a commit takes to fail."""
    monkeypatch.setattr(_limits, "SHUTDOWN_GRACE_MS", 100)
    monkeypatch.setattr(engine, "_GOODBYE_S", 0.3)
    monkeypatch.setattr(duties, "_LIFE_SIGN_US", 0)
    for name in ("_TAKEOVER_S", "_ALONE_S"):
        monkeypatch.setattr(duties, name, 0.05)
    worker = member(node, tmp_path / "copy.db", worker=True)
    async with worker:
        execution = await worker.create_run(endless, 1).start()
        async with asyncio.timeout(_PATIENCE_S):
            async for event in execution.events():
                if event.type == "run.claimed":
                    break
        engine_of: Any = worker._engine
        engine_of._ingress.patience_s = 0.3
        node.kill()
        async with asyncio.timeout(_PATIENCE_S):
            await worker.close()


async def test_members_that_share_a_copy_wait_for_one_another(
    node: RestateNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as the one that writes may have to wait for Restate, not only as long as a commit takes on a disk."""
    monkeypatch.setattr(database, "BUSY_MS", _BUSY_MS)
    copy = tmp_path / "copy.db"
    async with member(node, copy, worker=True) as one, member(node, copy) as other:
        node.kill()

        async def later() -> None:
            await asyncio.sleep(_OUTAGE_S)
            await asyncio.to_thread(node.restart)

        runs = [client.create_run(short, number).start() for number, client in enumerate((one, other))]
        back = asyncio.create_task(later())
        executions = await asyncio.gather(*runs)
        await back
        assert [await execution.result for execution in executions] == [0, 1]


async def test_a_worker_whose_copy_was_removed_gives_no_sign_of_life(node: RestateNode, tmp_path: Path) -> None:
    """What it executes can never be committed: its runs have to go on elsewhere."""
    copy = tmp_path / "copy.db"
    async with member(node, copy, worker=True) as client:
        engine: Any = client._engine
        assert engine._worker_id() is not None
        copy.unlink()
        with pytest.raises(StoreError):
            engine.store.check_file()
        assert engine._worker_id() is None
