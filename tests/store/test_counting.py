"""Counts over everything, pages of events, and whether anything can be accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from osprotocol import ApprovalConfig, Context, RunStatus, connect, step, workflow
from osprotocol._clock import from_datetime
from osprotocol._embedded import counting
from osprotocol._embedded.counting import Counting
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol.client import Client
from osprotocol.errors import EngineClosedError, RunNotFoundError, StoreError
from osprotocol.protocol.statistics import Statistics
from osprotocol.testing import VirtualClock

HOUR = timedelta(hours=1)


@step(name="counting.one")
async def one() -> int:
    return 1


@workflow(name="counting.quick")
async def quick(ctx: Context) -> int:
    return await ctx.step(one)


@workflow(name="counting.broken")
async def broken(ctx: Context) -> None:
    raise ValueError("no")


@workflow(name="counting.asks")
async def asks(ctx: Context, hours: int) -> str:
    timeout = hours * 3_600_000 or None
    return (await ctx.wait_for_approval("Go?", ApprovalConfig(timeout_ms=timeout))).outcome


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[tuple[Client, EmbeddedEngine, VirtualClock]]:
    clock = VirtualClock()
    async with connect(tmp_path / "runs.db", durability="off", clock=clock) as client:
        engine = client._engine
        assert isinstance(engine, EmbeddedEngine)
        yield client, engine, clock


async def counted(engine: EmbeddedEngine) -> Statistics:
    """Counted now, whatever was kept."""
    await engine.writer.drain()
    return await Counting(engine.store.path, engine.clock).statistics()


async def asked(client: Client, hours: int) -> Any:
    execution = await client.create_run(asks, hours).start()
    async for event in execution.events():
        if event.type == "request.opened":
            break
    return execution


# ------------------------------------------------------------------------ statistics


async def test_an_empty_database_counts_nothing(tmp_path: Path) -> None:
    """All six statuses are there, with zero."""
    async with opened(tmp_path) as (client, _, clock):
        found = await client.statistics()
        assert found.runs == {status.value: 0 for status in RunStatus}
        assert (found.failed_last_day, found.open_requests, found.oldest_request_at) == (0, 0, None)
        assert (found.expiring_within_hour, found.workflows) == (0, ())
        assert from_datetime(found.at) == clock.now()


async def test_runs_are_counted_by_status_and_workflow(tmp_path: Path) -> None:
    """Also for a workflow that this process does not know."""
    async with opened(tmp_path) as (client, engine, _):
        for _ in range(3):
            await (await client.create_run(quick).start()).wait()
        await (await client.create_run(broken).start()).wait()
        await asked(client, 0)
        found = await counted(engine)
        assert {name: number for name, number in found.runs.items() if number} == {
            "completed": 3,
            "failed": 1,
            "awaiting": 1,
        }
        assert {one.workflow: one.runs for one in found.workflows} == {
            "counting.asks": {"awaiting": 1},
            "counting.broken": {"failed": 1},
            "counting.quick": {"completed": 3},
        }


async def test_failures_count_for_a_day(tmp_path: Path) -> None:
    """From when they happened."""
    async with opened(tmp_path) as (client, engine, clock):
        await (await client.create_run(broken).start()).wait()
        await clock.advance(23 * HOUR)
        await (await client.create_run(broken).start()).wait()
        assert (await counted(engine)).failed_last_day == 2
        await clock.advance(2 * HOUR)
        assert (await counted(engine)).failed_last_day == 1


async def test_open_requests_with_their_age_and_end(tmp_path: Path) -> None:
    """One that has no end never expires."""
    async with opened(tmp_path) as (client, engine, clock):
        began = clock.now()
        first = await asked(client, 0)
        await clock.advance(HOUR)
        await asked(client, 1)
        await asked(client, 2)
        found = await counted(engine)
        assert (found.open_requests, found.expiring_within_hour) == (3, 1)
        assert found.oldest_request_at is not None
        assert from_datetime(found.oldest_request_at) == began
        await first.approve(by="ann")
        found = await counted(engine)
        assert found.open_requests == 2
        assert found.oldest_request_at is not None
        assert from_datetime(found.oldest_request_at) == began + 3_600_000_000


async def test_the_median_wait_is_of_what_people_decided(tmp_path: Path) -> None:
    """What expired or was cancelled is no wait, and a workflow without questions has none."""
    async with opened(tmp_path) as (client, engine, clock):
        await (await client.create_run(quick).start()).wait()
        runs = [await asked(client, 0) for _ in range(3)]
        expiring, cancelled = await asked(client, 4), await asked(client, 0)
        for hours, execution in zip((1, 1, 8), runs, strict=True):
            await clock.advance(hours * HOUR)
            await execution.reject(by="ann")
        await cancelled.cancel()
        await expiring.wait()
        waits = {one.workflow: one.median_wait_ms for one in (await counted(engine)).workflows}
        assert waits == {"counting.quick": None, "counting.asks": 2 * 3_600_000}


async def test_counts_are_kept_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many who ask at once share one count; later it is made anew."""
    async with opened(tmp_path) as (client, engine, _):
        monkeypatch.setattr(counting, "_KEPT_S", 1_000.0)
        first, *others = await asyncio.gather(*(client.statistics() for _ in range(20)))
        assert all(other is first for other in others)
        await (await client.create_run(quick).start()).wait()
        assert await client.statistics() is first
        engine._counting._good_until = 0.0
        assert (await client.statistics()).runs["completed"] == 1


async def test_counting_is_over_when_who_asked_has_gone(tmp_path: Path) -> None:
    """The next one gets an answer all the same."""
    async with opened(tmp_path) as (client, _, _clock):
        waiting = asyncio.create_task(client.statistics())
        await asyncio.sleep(0)
        waiting.cancel()
        assert (await client.statistics()).open_requests == 0


async def test_counting_keeps_no_commit_from_leaving_the_log(tmp_path: Path) -> None:
    """What was counted is let go: nothing is read any more as of that commit, and the log can be emptied."""
    async with opened(tmp_path) as (client, engine, _):
        await client.statistics()
        await (await client.create_run(quick).start()).wait()
        await engine.writer.drain()
        engine.store.reader.set_busy_timeout(0)
        busy, _, _ = engine.store.reader.execute("PRAGMA query_only = 0; PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
        assert busy == 0


async def test_a_closed_client_counts_nothing(tmp_path: Path) -> None:
    """It says so."""
    async with opened(tmp_path) as (_, engine, _clock):
        pass
    with pytest.raises(EngineClosedError):
        await engine.statistics()


# ---------------------------------------------------------------------- read_events


async def test_events_are_read_in_pages(tmp_path: Path) -> None:
    """Of one run by number, of all by cursor; nothing twice, nothing left out."""
    async with opened(tmp_path) as (client, engine, _):
        runs = [await client.create_run(quick).start() for _ in range(4)]
        for execution in runs:
            await execution.wait()
        everything = await engine.read_events(None, 0, 1_000)
        assert [event.cursor for event in everything] == sorted({event.cursor for event in everything})
        paged: list[Any] = []
        while page := await engine.read_events(None, paged[-1].cursor if paged else 0, 3):
            assert len(page) <= 3
            paged += page
        assert paged == everything
        for execution in runs:
            own = await engine.read_events(execution.id, 0, 1_000)
            assert [event.number for event in own] == list(range(1, len(own) + 1))
            assert own == [event for event in everything if event.run_id == execution.id]
            assert await engine.read_events(execution.id, 2, 1) == own[2:3]


async def test_the_newest_events_come_in_their_order(tmp_path: Path) -> None:
    """A negative limit counts from the end."""
    async with opened(tmp_path) as (client, engine, _):
        execution = await client.create_run(quick).start()
        await execution.wait()
        await (await client.create_run(quick).start()).wait()
        everything, own = await engine.read_events(None, 0, 1_000), await engine.read_events(execution.id, 0, 1_000)
        assert await engine.read_events(None, 0, -3) == everything[-3:]
        assert await engine.read_events(execution.id, 0, -2) == own[-2:]
        assert await engine.read_events(execution.id, 0, -100) == own
        assert await engine.read_events(None, 0, 0) == []
        assert await engine.read_events(None, everything[-1].cursor, 10) == []


async def test_events_of_an_unknown_run(tmp_path: Path) -> None:
    """Are refused."""
    async with opened(tmp_path) as (_, engine, _clock):
        with pytest.raises(RunNotFoundError):
            await engine.read_events("nothing", 0, 10)


# ------------------------------------------------------------------------- problems


async def test_a_database_that_works_has_no_problems(tmp_path: Path) -> None:
    """However often one asks, it does not grow."""
    async with opened(tmp_path) as (client, engine, _):
        assert await engine.problems() == []
        pages = engine.store.rows("PRAGMA page_count")
        for _ in range(20):
            assert await engine.problems() == []
        assert engine.store.rows("PRAGMA page_count") == pages
        assert await (await client.create_run(quick).start()).result == 1


async def test_a_full_disk_is_a_problem_until_there_is_space(tmp_path: Path) -> None:
    """It is named as such."""
    async with opened(tmp_path) as (_, engine, _clock):
        [(pages,)] = engine.store.rows("PRAGMA page_count")
        engine.store._connected().execute(f"PRAGMA max_page_count = {pages}")
        [problem] = await engine.problems()
        assert "no space is left" in problem
        # The connection that met the limit is given up; the next one has none.
        assert await engine.problems() == []


async def test_a_database_that_is_locked_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be accepted while somebody else holds it."""
    import apsw

    async with opened(tmp_path) as (client, engine, _):
        other = apsw.Connection(str(engine.store.path))
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("osprotocol._embedded.store.BUSY_MS", 1)  # how long it waits before it gives up
        assert len(await engine.problems()) == 1
        with pytest.raises(StoreError):
            await client.create_run(quick).start()
        other.execute("ROLLBACK")
        other.close()
        assert await engine.problems() == []
