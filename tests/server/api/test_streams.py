"""Live streams: every event once and in order, whatever happens to the connection (B37)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from osprotocol.server import subscription as subscriptions
from osprotocol.server.access import Principal, Role
from osprotocol.server.hub import Hub, Pace
from osprotocol.server.settings import ServerSettings
from osprotocol.server.subscription import Subscription
from osprotocol.workflow import find_workflow as _workflow
from tests.server.api.samples import QUICK, call, lines_of, on_a_port, started, stream, until
from tests.server.security.world import RawStream, World, world

MANY = ServerSettings(streams=300, streams_per_person=300)
VIEWER = Principal("viewer", frozenset((Role.OPERATOR,)), "token x")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats and looks for logs come quickly here."""
    begin = Hub.__init__

    def quick(self: Hub, client: Any, settings: Any, pace: Pace | None = None) -> None:
        begin(self, client, settings, pace or QUICK)

    monkeypatch.setattr(Hub, "__init__", quick)


async def everything(made: World) -> list[int]:
    return [event.cursor for event in await made.client._engine.read_events(None, 0, 100_000)]


async def test_a_run_from_its_start_to_its_end() -> None:
    """The stream of a run gives its events from 1 on, its log, and then says that it ended."""
    async with world() as made, on_a_port(made) as address:
        run = await started(made, "api-ask", "x")
        async with stream(address, made.secrets["operator"], f"/runs/{run}/events", logsAfter=0) as (answer, frames):
            assert answer.headers["content-type"].startswith("text/event-stream")
            await call(made, "approver", "POST", f"/runs/{run}/approve")
            seen = [frame async for frame in _all(frames)]
        events = [frame for frame in seen if "id" in frame]
        assert [int(frame["id"]) for frame in events] == list(range(1, len(events) + 1))
        assert json.loads(events[-1]["data"])["status"] == "completed"
        logs = [json.loads(frame["data"]) for frame in seen if frame.get("event") == "log"]
        assert [(line["runId"], line["message"]) for line in logs] == [(run, "asking about x")]
        assert seen[-1] == {"event": "end", "data": '{"status":"completed"}'}


async def _all(frames: Any) -> Any:
    while frame := await frames.next():
        if "comment" not in frame:
            yield frame


async def test_a_run_that_ended_before() -> None:
    """The stream of a final run gives what is missing and ends; also when nothing is missing."""
    async with world() as made, on_a_port(made) as address:
        run = await started(made, "api-count", 1)
        last = (await made.client.get(run)).snapshot.event
        for after in (0, 2, last):
            async with stream(address, made.secrets["viewer"], f"/runs/{run}/events", str(after)) as (_, frames):
                seen = [frame async for frame in _all(frames)]
            assert [int(frame["id"]) for frame in seen[:-1]] == list(range(after + 1, last + 1))
            assert seen[-1]["event"] == "end"


async def test_new_log_lines_are_told() -> None:
    """Lines that are written while the stream is open come without being asked for, once."""
    async with world() as made, on_a_port(made) as address:
        run = await started(made, "api-echo-later")
        async with stream(address, made.secrets["operator"], f"/runs/{run}/events") as (_, frames):
            await frames.events(1)
            await call(made, "approver", "POST", f"/runs/{run}/approve")
            seen = [frame async for frame in _all(frames)]
        told = [json.loads(frame["data"])["message"] for frame in seen if frame.get("event") == "log"]
        assert told == [f"line {number}" for number in range(5)]


async def test_many_reconnects_miss_nothing() -> None:
    """A stream cut after every few events and resumed gives each event of all runs once, in order."""
    async with world() as made, on_a_port(made, MANY) as address:
        seen: list[int] = []
        enough = asyncio.Event()

        async def work() -> None:
            number = 0
            while not enough.is_set():
                number += 1
                await made.client.create_run(_workflow("api-count"), number % 4).start()
                await asyncio.sleep(0)

        async def read(cut: int, at_most: int) -> None:
            last = str(seen[-1]) if seen else "0"
            async with stream(address, made.secrets["operator"], "/events", last) as (_, frames):
                seen.extend([int(frame["id"]) for frame in await frames.events(min(1 + cut % 17, at_most))])

        working = asyncio.create_task(work())
        for cut in range(60):
            await read(cut, 100)
        enough.set()
        await working
        await made.client.clock.settle()
        cursors = await everything(made)
        for cut in range(60, 10_000):
            if len(seen) >= len(cursors):
                break
            await read(9 * cut, len(cursors) - len(seen))
        assert seen == cursors


async def test_many_streams_see_the_same() -> None:
    """Streams that begin at different times each get everything after where they began, in order."""
    async with world() as made, on_a_port(made, MANY) as address:
        found: list[list[int]] = []
        begun: list[int] = []

        async def follow(after: int, got: list[int]) -> None:
            async with stream(address, made.secrets["operator"], "/events", str(after)) as (_, frames):
                while True:
                    got.append(int((await frames.events(1))[0]["id"]))

        followers = []
        for _ in range(20):
            await made.client.create_run(_workflow("api-count"), 2).start()
            known = await everything(made)
            begun.append(known[len(known) // 2])
            found.append([])
            followers.append(asyncio.create_task(follow(begun[-1], found[-1])))
            await asyncio.sleep(0)
        await made.client.clock.settle()
        cursors = await everything(made)
        wanted = [[one for one in cursors if one > after] for after in begun]
        await until(lambda: all(len(got) >= len(want) for got, want in zip(found, wanted, strict=True)))
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        assert found == wanted


async def test_a_stream_that_is_far_behind_reads_pages() -> None:
    """More events than a page are read from the store, then the stream is live."""
    async with world() as made, on_a_port(made) as address:
        run = await started(made, "api-many")
        last = (await made.client.get(run)).snapshot.event
        assert last > 200
        async with stream(address, made.secrets["viewer"], f"/runs/{run}/events") as (_, frames):
            events = await frames.events(last)
            assert [int(frame["id"]) for frame in events] == list(range(1, last + 1))
            await call(made, "approver", "POST", f"/runs/{run}/approve")
            assert int((await frames.events(1))[0]["id"]) == last + 1


async def test_heartbeat() -> None:
    """A stream without events gets comments, so that proxies and clients know that it lives."""
    async with world() as made:
        live = RawStream(made.app, "/api/v1/events", {"authorization": f"Bearer {made.secrets['viewer']}"})
        await live.until(b": still here\n\n: still here\n\n")
        await live.close()


async def test_revoked_token_closes_its_streams() -> None:
    """When a token is revoked its streams end at once."""
    async with world() as made:
        token = await made.add_token("extra", "viewer", "viewer")
        live = RawStream(made.app, "/api/v1/events", {"authorization": f"Bearer {made.secrets['extra']}"})
        await live.until(b"retry:")
        await until(lambda: made.app.state.serving.hub.streams == 1)
        assert (await call(made, "admin", "DELETE", f"/tokens/{token}")).status_code == 204
        await live.ended.wait()
        assert made.app.state.serving.hub.streams == 0
        await live.close()


async def test_lost_role_closes_streams_at_the_next_look() -> None:
    """Rights that were lost without being told are found out by asking again."""
    async with world() as made:
        hub: Hub = made.app.state.serving.hub
        hub.pace = Pace(0.005, 0.01, 10.0, 0.01)
        live = RawStream(made.app, "/api/v1/events", {"authorization": f"Bearer {made.secrets['viewer']}"})
        await live.until(b"retry:")
        await made.books.change_user("viewer", disabled=True, by="setup")
        await live.ended.wait()
        await live.close()


async def test_limits() -> None:
    """So many streams for a person, so many in all; one more is 429 and takes nobody's place."""
    async with world(ServerSettings(streams=3, streams_per_person=2)) as made:

        def open_one(person: str) -> RawStream:
            return RawStream(made.app, "/api/v1/events", {"authorization": f"Bearer {made.secrets[person]}"})

        opened = [open_one("viewer"), open_one("viewer")]
        for live in opened:
            await live.until(b"retry:")
        refused = open_one("viewer")
        await refused.ended.wait()
        assert refused.status == 429
        third = open_one("operator")
        await third.until(b"retry:")
        for person in ("operator", "admin"):
            full = open_one(person)
            await full.ended.wait()
            assert full.status == 429
        await opened[0].close()
        again = open_one("viewer")
        await again.until(b"retry:")
        for live in (*opened, third, again):
            await live.close()
        assert made.app.state.serving.hub.streams == 0


async def test_limited_token_sees_its_workflows_only() -> None:
    """The stream of a limited token leaves out the events of other workflows, missed and live."""
    async with world() as made, on_a_port(made) as address:
        await made.add_token("narrow", "viewer", "viewer", workflows=["api-count"])
        await started(made, "api-ask")
        mine = await started(made, "api-count", 1)
        async with stream(address, made.secrets["narrow"], "/events", "0") as (_, frames):
            events = await frames.events((await made.client.get(mine)).snapshot.event)
            await started(made, "api-ask")
            second = await started(made, "api-count", 1)
            events += await frames.events((await made.client.get(second)).snapshot.event)
        assert {json.loads(frame["data"])["runId"] for frame in events} == {mine, second}


@pytest.mark.parametrize("last", ["x", "-1", "1e3", "9" * 30, "\u0661"])
async def test_wrong_last_event_id(last: str) -> None:
    """A Last-Event-ID that is none of ours is 422."""
    async with world() as made, made.http("viewer") as http:
        headers = [(b"accept", b"text/event-stream"), (b"last-event-id", last.encode())]
        assert (await http.get("/api/v1/events", headers=headers)).status_code == 422


async def test_history_that_is_gone() -> None:
    """A client that has seen more than there is, as after a restored backup, is told to start anew."""
    async with world() as made, on_a_port(made) as address:
        run = await started(made, "api-ask")
        for path in ("/events", f"/runs/{run}/events"):
            async with stream(address, made.secrets["viewer"], path, "999999") as (_, frames):
                assert await frames.next() == {"event": "reset", "data": '{"reason":"history-gone"}'}
                assert await frames.next() == {}


async def test_pages_of_events() -> None:
    """Without asking for a stream the same paths give pages."""
    async with world() as made:
        run = await started(made, "api-count", 2)
        last = (await made.client.get(run)).snapshot.event
        first = (await call(made, "viewer", "GET", f"/runs/{run}/events?limit=3")).json()
        rest = (await call(made, "viewer", "GET", f"/runs/{run}/events?after={first['nextCursor']}")).json()
        assert [event["number"] for event in first["items"] + rest["items"]] == list(range(1, last + 1))
        assert rest["nextCursor"] is None
        newest = (await call(made, "viewer", "GET", "/events?newest=true&limit=1")).json()
        assert [event["cursor"] for event in newest["items"]] == [(await everything(made))[-1]]


# ----------------------------------------------------------------- the parts by themselves


async def _nobody() -> Principal | None:
    return None


def test_a_slow_client_is_reset() -> None:
    """When a client is more than the bounds behind, what waits is dropped and it is told to start anew."""
    for size, events in ((1, 1), (subscriptions.BYTES_BEHIND // 3, 1)):
        slow = Subscription(VIEWER, None, _nobody)
        pushed = 0
        while slow.push(b"x" * size, events):
            pushed += 1
            assert pushed <= subscriptions.EVENTS_BEHIND
        assert slow.is_over
        assert list(slow._chunks) == [(b'event: reset\ndata: {"reason":"too-slow"}\n\n', 0, 0)]


def test_one_large_chunk_is_no_reason() -> None:
    """A client that is up to date gets a chunk of any size."""
    client = Subscription(VIEWER, None, _nobody)
    assert client.push(b"x" * (2 * subscriptions.BYTES_BEHIND), 5_000)
    assert not client.is_over


async def test_a_client_that_does_not_read_is_reset_and_others_go_on() -> None:
    """A connection that nobody reads is reset and closed; memory stays bounded; another stream misses nothing."""
    async with world(MANY) as made:
        hub: Hub = made.app.state.serving.hub
        read = await hub.subscribe(VIEWER, None, _nobody)
        stuck = await hub.subscribe(VIEWER, None, _nobody)
        assert hub.join(read, 0, 0)
        assert hub.join(stuck, 0, 0)
        got = b""
        while not stuck.is_over:
            await made.client.create_run(_workflow("api-many"), None).start()
            await made.client.clock.settle()
            while read._chunks:
                chunk = await read.next()
                assert isinstance(chunk, bytes)
                got += chunk
        assert hub.resets == 1
        assert not read.is_over
        cursors = [int(line[4:]) for line in got.split(b"\n") if line.startswith(b"id: ")]
        assert cursors == (await everything(made))[: len(cursors)]
        assert len(cursors) > subscriptions.EVENTS_BEHIND
        for one in (read, stuck):
            hub.leave(one)


async def test_nothing_is_read_for_nobody() -> None:
    """Without streams the hub has no task and keeps nothing."""
    async with world() as made:
        hub: Hub = made.app.state.serving.hub
        one = await hub.subscribe(VIEWER, None, _nobody)
        assert hub._tasks
        hub.leave(one)
        await until(lambda: not hub._tasks)
        await started(made, "api-count", 1)
        assert not hub._ring


async def test_the_ring_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that joins after more events than the ring holds still gets every one."""
    monkeypatch.setattr("osprotocol.server.hub._RING_EVENTS", 20)
    async with world() as made, on_a_port(made) as address:
        keeper = RawStream(made.app, "/api/v1/events", {"authorization": f"Bearer {made.secrets['viewer']}"})
        async with stream(address, made.secrets["viewer"], "/events", "0") as (_, early):
            for _ in range(10):
                await started(made, "api-count", 3)
            cursors = await everything(made)
            async with stream(address, made.secrets["viewer"], "/events", "0") as (_, late):
                assert [int(one["id"]) for one in await late.events(len(cursors))] == cursors
            assert [int(one["id"]) for one in await early.events(len(cursors))] == cursors
        await keeper.close()


async def test_stopping_ends_every_stream() -> None:
    """When the server stops, streams end and their connections close."""
    async with world() as made:
        async with on_a_port(made) as address:
            opened = stream(address, made.secrets["viewer"], "/events")
            _, frames = await opened.__aenter__()
            await frames.next()
        assert [frame async for frame in _all(frames)] == []
        await opened.__aexit__(None, None, None)


async def test_viewers_do_not_get_secrets() -> None:
    """Shapes of tokens are blacked out for everybody, telling names for those who may only look."""
    async with world() as made, on_a_port(made) as address:
        secret = "ghp_" + "a1" * 18
        run = await started(made, "api-echo", {"password": "hunter2", "text": secret})
        await lines_of(made, run)
        seen: dict[str, str] = {}
        for person in ("viewer", "operator"):
            async with stream(address, made.secrets[person], f"/runs/{run}/events", logsAfter=0) as (_, frames):
                seen[person] = json.dumps([frame async for frame in _all(frames)])
        assert secret not in seen["viewer"] + seen["operator"]
        assert "hunter2" not in seen["viewer"]
        assert "hunter2" in seen["operator"]
