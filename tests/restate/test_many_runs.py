"""Thousands of runs: a new member shows the same pages, and starts from a snapshot once old entries are forgotten."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from osprotocol import Client, Context, Page, RunOptions, connect, step, workflow
from osprotocol._restate import following, ingress, snapshots
from osprotocol._restate.address import Address
from osprotocol._restate.frames import Header
from osprotocol._restate.joining import Host
from osprotocol._restate.ledger import GENESIS
from osprotocol.protocol.events import Event
from tests.restate.nodes import RestateNode

pytestmark = pytest.mark.restate

_RUNS = 3_000
_EVENTS = 2_000
_KEPT = 5
_PATIENCE_S = 30


@step
async def double(number: int) -> int:
    return number * 2


@workflow(name="restate.many")
async def many(ctx: Context, number: int) -> int:
    """A tenth waits for a person, one in a hundred fails."""
    if number % 10 == 0:
        await ctx.wait_for_approval(f"Go on with {number}?")
    if number % 100 == 1:
        raise ValueError(f"{number} is none")
    return await ctx.step(double, number)


@workflow(name="restate.few")
async def few(ctx: Context, number: int) -> int:
    """Another name to filter by."""
    return number


class Place(NamedTuple):
    """A ledger of its own, and a folder for copies of it."""

    node: RestateNode
    namespace: str
    folder: Path

    def member(self, copy: str, *, worker: bool = False) -> Client:
        """A client with the copy of that name."""
        return connect(f"{self.node.url(self.namespace)}&replica={self.folder / copy}.db", worker=worker, linger_ms=0)


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members hear of each other through Restate only."""
    monkeypatch.setattr(following, "listen", lambda namespace, told: lambda: None)
    monkeypatch.setattr(ingress, "here", lambda: "elsewhere")


@pytest.fixture
def place(restate_node: RestateNode, tmp_path: Path) -> Iterator[Place]:
    """A ledger that this process serves, also while no client works."""
    host = Host(Address.parse(restate_node.url(), {}))
    yield Place(restate_node, secrets.token_hex(8), tmp_path)
    host.leave()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of the entries that a snapshot holds stay."""
    monkeypatch.setattr(snapshots, "KEPT", _KEPT)


async def _pages(page: Callable[[str | None], Awaitable[Page[Any]]]) -> list[Any]:
    """All items, page by page."""
    items: list[Any] = []
    cursor: str | None = None
    while True:
        found = await page(cursor)
        items += found.items
        cursor = found.next_cursor
        if cursor is None:
            return items


async def _list(client: Client, **filter: Any) -> list[Any]:
    return await _pages(lambda cursor: client.list(limit=200, cursor=cursor, **filter))


async def _inbox(client: Client) -> list[Any]:
    return await _pages(lambda cursor: client.requests(limit=200, cursor=cursor))


async def _events(client: Client, after: int) -> list[Event]:
    """The next events after a cursor."""
    found: list[Event] = []
    async for event in client.events(after):
        found.append(event)
        if len(found) == _EVENTS:
            break
    return found


async def _finish(client: Client, count: int) -> None:
    """Start so many runs that end by themselves, a few at a time, and wait for them: several entries in the ledger."""
    for begin in range(0, count, 10):
        runs = [client.create_run(few, number) for number in range(begin, min(count, begin + 10))]
        executions = await asyncio.gather(*(run.start() for run in runs))
        await asyncio.gather(*(execution.result for execution in executions))


def _head(client: Client) -> Header:
    """What the ledger says about itself now."""
    engine: Any = client._engine
    head: Header = engine._ingress.read(0, GENESIS)[0]["head"]
    return head


async def _compact(client: Client) -> Header:
    """Make a snapshot now; gives the ledger's head afterwards."""
    engine: Any = client._engine
    await asyncio.to_thread(snapshots.make, engine._ingress, engine._replica.path, engine._replica.head, "test")
    return await asyncio.to_thread(_head, client)


async def _alike(*clients: Client) -> None:
    """Wait until all copies stand at the same entry, and compare them row by row."""
    engines: list[Any] = [client._engine for client in clients]
    async with asyncio.timeout(_PATIENCE_S):
        while len({engine._replica.place() for engine in engines}) > 1:
            for engine in engines:
                await engine.catch_up()
    first, *others = [_content(engine._replica.path) for engine in engines]
    assert set(first) >= {"runs", "journal", "requests", "workers"}
    for other in others:
        assert other == first


def _content(path: Path) -> dict[str, list[Any]]:
    """All rows by table; of the mark, only how far it is."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    rows: dict[str, list[Any]] = {
        str(name): sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"')))
        for (name,) in tables.fetchall()
        if name != "replica"
    }
    rows["replica"] = connection.execute("SELECT version, chain FROM replica").fetchall()
    connection.close()
    return rows


async def _fill(client: Client) -> list[str]:
    """Some thousand runs of all kinds; gives their ids once each has ended or waits."""
    options = [RunOptions(labels={"team": f"t{number % 7}"}) for number in range(7)]
    runs = [client.create_run(many if number % 3 else few, number, options[number % 7]) for number in range(_RUNS)]
    executions = await asyncio.gather(*(run.start() for run in runs))
    waiting = {execution.id for number, execution in enumerate(executions) if number % 3 and number % 10 == 0}
    await asyncio.gather(*(one.result for one in executions if one.id not in waiting), return_exceptions=True)
    async for event in client.events():
        if event.type == "request.opened":
            waiting.remove(event.run_id)
            if not waiting:
                break
    return [execution.id for execution in executions]


async def test_a_member_with_a_fresh_copy_shows_the_same_pages(place: Place) -> None:
    """List, filters, inbox and events are the first member's, item by item."""
    async with place.member("first", worker=True) as first:
        ids = await _fill(first)
        async with place.member("second") as second:
            everything = await _list(second)
            assert sorted(run.id for run in everything) == sorted(ids)
            assert everything == await _list(first)
            for filter in (
                {"status": "failed"},
                {"status": ["awaiting", "failed"]},
                {"workflow": "restate.few"},
                {"label": "team=t3"},
                {"text": "1 is none"},
                {"workflow": many, "label": "team=t5", "status": "completed"},
            ):
                found = await _list(second, **filter)
                assert 0 < len(found) < _RUNS
                assert found == await _list(first, **filter)
            inbox = await _inbox(second)
            assert len(inbox) == len([number for number in range(0, _RUNS, 10) if number % 3])
            assert inbox == await _inbox(first)
            for after in (0, _RUNS):
                assert await _events(second, after) == await _events(first, after)
            await _alike(first, second)


async def test_finished_runs_stay_visible_when_their_entries_are_forgotten(place: Place, forgetful: None) -> None:
    """There is no retention: a member that joins after the compaction shows them with their results."""
    async with place.member("first", worker=True) as first:
        await _finish(first, 100)
        assert (await _compact(first))["first"] > 1
        async with place.member("second") as second:
            runs = await _list(second, status="completed")
            assert len(runs) == 100
            execution = await second.get(runs[-1].id)
            assert await execution.result == 0
            assert runs == await _list(first)


async def test_a_new_member_starts_from_a_snapshot(place: Place, forgetful: None) -> None:
    """Its copy is the same as that of a member which has applied every entry."""
    async with place.member("first", worker=True) as first:
        await _finish(first, 60)
        head = await _compact(first)
        assert head["snapshot"] > _KEPT
        await _finish(first, 20)
        async with place.member("second") as second:
            await _alike(first, second)


async def test_the_ledger_forgets_the_entries_that_a_snapshot_holds(place: Place, forgetful: None) -> None:
    """All but the newest few of them, and nothing that came later."""
    async with place.member("first", worker=True) as first:
        await _finish(first, 60)
        head = await _compact(first)
        assert head["first"] == head["snapshot"] - _KEPT + 1
        engine: Any = first._engine
        version, chain = engine._replica.place()
        assert version >= head["snapshot"]
        reply, _ = await asyncio.to_thread(engine._ingress.read, 1, "any")
        assert reply["status"] == "compacted"
        assert (await asyncio.to_thread(engine._ingress.read, version, chain))[0]["status"] in ("current", "behind")


async def test_a_newer_snapshot_replaces_the_older_one(place: Place, forgetful: None) -> None:
    """Of the older one nothing is left in Restate, and new members start from the newer."""
    async with place.member("first", worker=True) as first:
        await _finish(first, 40)
        older = await _compact(first)
        await _finish(first, 40)
        newer = await _compact(first)
        assert newer["snapshot"] > older["snapshot"]
        engine: Any = first._engine
        assert await asyncio.to_thread(engine._ingress.get_part, older["name"], 0) == b""
        assert await asyncio.to_thread(engine._ingress.get_part, newer["name"], 0) != b""
        async with place.member("second") as second:
            await _alike(first, second)


async def test_a_member_that_was_away_too_long_comes_back_by_the_snapshot(place: Place, forgetful: None) -> None:
    """What it has got is older than every entry that is kept; its copy is the same as the others' afterwards."""
    async with place.member("first", worker=True) as first:
        await _finish(first, 10)
        async with place.member("second") as second:
            await _alike(first, second)
            before = await _list(second)
        await _finish(first, 60)
        head = await _compact(first)
        async with place.member("second") as second:
            engine: Any = second._engine
            assert engine._replica.place()[0] >= head["snapshot"]
            assert len(await _list(second)) == len(before) + 60
            await _alike(first, second)


async def test_a_connected_member_that_hung_comes_back_by_the_snapshot(place: Place, forgetful: None) -> None:
    """While it is connected its copy is replaced under it, and it goes on: it shows the new runs and starts its own."""
    async with place.member("first", worker=True) as first, place.member("second") as second:
        await _finish(first, 10)
        engine: Any = second._engine
        hanging: threading.Lock = engine.store.lock
        assert await asyncio.to_thread(hanging.acquire)
        try:
            await _finish(first, 60)
            await _compact(first)
        finally:
            hanging.release()
        await _finish(second, 10)
        assert len(await _list(second)) == 80
        await _alike(first, second)


async def test_a_worker_makes_a_snapshot_by_itself(
    place: Place, forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the entries are as large as it, without being told."""
    monkeypatch.setattr(snapshots, "LEAST_BYTES", 1)
    monkeypatch.setattr(following, "_BEAT_S", 0.05)
    async with place.member("first", worker=True) as first:
        await _finish(first, 60)
        async with asyncio.timeout(_PATIENCE_S):
            while (await asyncio.to_thread(_head, first))["first"] <= 1:  # noqa: ASYNC110 - Restate tells nobody
                await asyncio.sleep(0.02)
        async with place.member("second") as second:
            await _alike(first, second)
