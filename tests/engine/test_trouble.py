"""Commits that fail and journals that are damaged, seen from the engine: what goes on, and what is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from osprotocol import Context, RunStatus, connect, step, workflow
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.transaction import Transaction
from osprotocol.client import Client
from osprotocol.errors import CorruptDatabaseError, StoreError


@step
async def one_more(number: int) -> int:
    return number + 1


@workflow(name="engine.counting")
async def counting(ctx: Context, number: int) -> int:
    return await ctx.step(one_more, number)


@workflow(name="engine.asked")
async def asked(ctx: Context) -> bool:
    await ctx.step(one_more, 1)
    return (await ctx.wait_for_approval("Yes?")).approved


async def _begin(client: Client) -> None:
    """What a connected process commits by itself is behind us."""
    await (await client.create_run(counting, 0).start()).result
    engine = client._engine
    assert isinstance(engine, EmbeddedEngine)
    worker = engine.worker
    while not engine.writer.is_idle or worker.attempts or worker._tasks or worker.backlog:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0.001)


def _next_commit_fails(client: Client) -> None:
    """SQLite rolls the next commit back and reports an error, once."""
    engine = client._engine
    assert isinstance(engine, EmbeddedEngine)
    connection = engine.store._writer
    assert connection is not None

    def refuse() -> bool:
        connection.set_commit_hook(None)
        return True

    connection.set_commit_hook(refuse)


def _engine(client: Client) -> EmbeddedEngine:
    engine = client._engine
    assert isinstance(engine, EmbeddedEngine)
    return engine


async def _commits_fail(client: Client, times: int) -> None:
    """As many of the next commits are rolled back, whichever connection makes them; once nothing is being committed."""
    store, left = _engine(client).store, [times]
    await _engine(client).writer.drain()

    def refuse() -> bool:
        left[0] -= 1
        return left[0] >= 0

    def opened() -> apsw.Connection:
        connection = type(store)._open(store)
        connection.set_commit_hook(refuse)
        return connection

    store._open = opened  # type: ignore[method-assign]
    assert store._writer is not None
    store._writer.set_commit_hook(refuse)


async def test_failed_commits_cost_no_place_of_the_concurrency(tmp_path: Path) -> None:
    """After commits that would have claimed runs have failed, as many runs as before execute at once."""
    async with connect(tmp_path / "runs.db", durability="off", concurrency=1) as client:
        await _begin(client)
        for _ in range(3):
            await _engine(client).writer.drain()  # what gives a failed claim back
            _next_commit_fails(client)
            with pytest.raises(StoreError):
                await client.create_run(counting, 1).start()
        assert await (await client.create_run(counting, 1).start()).result == 2


async def test_a_start_whose_commit_failed_leaves_no_run(tmp_path: Path) -> None:
    """A start that raised has stored nothing."""
    async with connect(tmp_path / "runs.db", durability="off") as client:
        await _begin(client)
        _next_commit_fails(client)
        with pytest.raises(StoreError):
            await client.create_run(counting, 1).start()
        assert len((await client.list()).items) == 1


async def test_a_run_whose_commit_failed_goes_on_by_itself(tmp_path: Path) -> None:
    """When the commit of a step's result fails, the run is executed again from its journal without anybody's help."""
    failing: list[Client] = []

    @step
    async def spoil(number: int) -> int:
        if failing:
            _next_commit_fails(failing.pop())
        return number

    @workflow(name="engine.spoiled")
    async def spoiled(ctx: Context) -> int:
        return await ctx.step(one_more, await ctx.step(spoil, 1))

    async with connect(tmp_path / "runs.db", durability="off") as client:
        failing.append(client)
        assert await (await client.create_run(spoiled).start()).result == 2
        assert failing == []


async def _parked_run(path: Path) -> str:
    async with connect(path, durability="off", linger_ms=0) as client:
        execution = await client.create_run(asked).start()
        async for event in execution.events():
            if event.type == "request.opened":
                break
    return execution.id


def _damage(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE journal SET value = '77' WHERE type = 'step.completed'")
    connection.close()


async def test_a_run_with_a_damaged_journal_awaits_attention(tmp_path: Path) -> None:
    """Nothing of a run is executed whose journal does not have its checksums; it says so."""
    run_id = await _parked_run(tmp_path / "runs.db")
    _damage(tmp_path / "runs.db")
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.get(run_id)
        await execution.approve()
        async for event in execution.events():
            if event.name == "attention":
                break
        (request,) = execution.requests
        assert request.kind == "attention"
        assert "damaged" in request.prompt
        assert execution.status is RunStatus.AWAITING


async def test_other_runs_go_on_beside_a_damaged_one(tmp_path: Path) -> None:
    """A damaged journal stops its own run only."""
    run_id = await _parked_run(tmp_path / "runs.db")
    _damage(tmp_path / "runs.db")
    async with connect(tmp_path / "runs.db", durability="off") as client:
        await (await client.get(run_id)).approve()
        assert await (await client.create_run(counting, 1).start()).result == 2


async def test_a_run_with_a_damaged_journal_can_be_cancelled(tmp_path: Path) -> None:
    """A cancel ends a damaged run without its cleanup, which nobody could execute."""
    run_id = await _parked_run(tmp_path / "runs.db")
    _damage(tmp_path / "runs.db")
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.get(run_id)
        await execution.cancel("broken")
        assert await execution.wait() is RunStatus.CANCELLED
        assert await (await client.create_run(counting, 1).start()).result == 2


async def test_a_claim_that_was_in_doubt_does_not_end_the_one_that_stands(tmp_path: Path) -> None:
    """After commits have failed, a run that was claimed again is executed once, and not given back."""
    executed: list[int] = []

    @step
    async def slow(number: int) -> int:
        executed.append(number)
        await asyncio.sleep(0.3)  # longer than until the next try to give the failed claim back
        return number

    @workflow(name="engine.doubted")
    async def doubted(ctx: Context) -> int:
        await ctx.wait_for_approval("Yes?")
        return await ctx.step(slow, 1)

    async with connect(tmp_path / "runs.db", durability="off", linger_ms=0) as client:
        execution = await client.create_run(doubted).start()
        async for event in execution.events():
            if event.type == "run.parked":
                break
        await _commits_fail(client, 2)  # that of the claim, and that which gives it back
        with pytest.raises(StoreError):
            await execution.approve()
        await asyncio.sleep(0.05)
        await execution.approve()
        assert await execution.result == 1
        assert executed == [1]
        assert not _engine(client).worker._giving_back


async def test_a_run_whose_childs_result_is_damaged_awaits_attention(tmp_path: Path) -> None:
    """The result is not handed out, and the run is not executed again and again: a person is asked, once."""

    @workflow(name="engine.damaged-child")
    async def child(ctx: Context) -> int:
        await ctx.wait_for_approval("Yes?")
        return 7

    @workflow(name="engine.parent")
    async def parent(ctx: Context) -> int:
        return await ctx.run(child)

    async with connect(tmp_path / "runs.db", durability="off", linger_ms=0) as client:
        execution = await client.create_run(parent).start()
        async for event in execution.events():
            if event.type == "child.waiting":
                break
        connection = apsw.Connection(str(tmp_path / "runs.db"))
        connection.execute(
            "CREATE TRIGGER damage AFTER INSERT ON journal WHEN NEW.type = 'run.completed' "
            "BEGIN UPDATE journal SET value = '8' WHERE id = NEW.id; END"
        )
        connection.close()
        (asking,) = (await client.requests()).items
        await (await client.get(asking.run_id)).approve()
        async for event in execution.events():
            if event.name == "attention":
                break
        await asyncio.sleep(0.1)
        claims = [event for event in await _engine(client).read_events(execution.id, 0, 100) if "claimed" in event.type]
        assert len(claims) == 2
        (request,) = execution.requests
        assert "damaged" in request.prompt
        assert execution.status is RunStatus.AWAITING


async def test_damage_where_due_runs_are_looked_up_is_no_runs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer is left alone for ever because a later look failed before it found what was due."""
    async with connect(tmp_path / "runs.db", durability="off") as client:
        await _begin(client)
        timers = _engine(client).timers
        timers._sweeping_keys = [1]  # what the last look has found

        def refuse(*_: object) -> list[int]:
            raise CorruptDatabaseError("runs", "an index is damaged")

        with monkeypatch.context() as patched:
            patched.setattr(Transaction, "keys", refuse)
            timers.sweep()
            while timers._sweeping:  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(0.001)
        assert timers._damaged == set()
