"""Live over HTTP: what one client does the other sees, and a cut stream misses nothing."""

import asyncio
import gc

import pytest

from osprotocol.connect import connect
from osprotocol.context import Context
from osprotocol.errors import NotSignedInError, RunNotFoundError
from osprotocol.execution import Execution
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import Latch
from tests.http.servers import asks, defined, echo, site, until


async def test_two_clients_follow_one_run() -> None:
    """A run started by one person is seen, answered and awaited by another one's client."""
    async with site() as s, defined(asks) as workflow, connect(s.served.url, token=await s.token("bo")) as other:
        mine = await s.client.create_run(workflow).start()
        theirs = await other.get(mine.id, workflow)
        await until(lambda: theirs.requests)
        assert (await theirs.approve()).responses[0].by == "bo"
        assert (await mine.result, await theirs.result) == ("approved", "approved")


async def test_a_restart_of_the_server_misses_nothing() -> None:
    """What happens while no server is there is known once there is one again: result, snapshot and every event."""
    async with site() as s, defined(asks) as workflow:
        execution = await s.client.create_run(workflow).start()
        await until(lambda: execution.requests)
        told: list[int] = []

        async def follow() -> None:
            async for event in execution.events():
                told.append(event.number)

        following, waiting = asyncio.create_task(follow()), asyncio.create_task(execution.wait())
        await until(lambda: told)
        await s.served.close()
        behind = await s.backend.get(execution.id)
        await behind.approve(by="bo")
        await behind.result
        await s.serve_again()
        assert await waiting is RunStatus.COMPLETED
        await following
        assert told == list(range(1, execution.snapshot.event + 1))
        assert await execution.result == "approved"


async def test_a_run_that_is_deleted_meanwhile_ends_the_waiting() -> None:
    """Who awaits a run that ended and was deleted while no server was there is told that it is gone."""
    async with site() as s, defined(asks) as workflow:
        execution = await s.client.create_run(workflow).start()
        await until(lambda: execution.requests)
        waiting = asyncio.ensure_future(execution.wait())
        await s.served.close()
        behind = await s.backend.get(execution.id)
        await behind.cancel(graceful=False)
        await s.backend.delete(execution.id)
        await s.serve_again()
        with pytest.raises(RunNotFoundError):
            await waiting


async def test_many_handles_share_one_stream() -> None:
    """However many runs are watched and event iterators read, the client has one live connection."""
    async with site() as s, defined(asks) as workflow:
        executions = [await s.client.create_run(workflow).start() for _ in range(5)]
        iterators = [execution.events() for execution in executions]
        for iterator in iterators:
            await anext(iterator)
        await until(lambda: all(execution.requests for execution in executions))
        assert s.served.app.state.serving.hub.streams == 1
        for execution in executions:
            await execution.approve()
        assert [await execution.result for execution in executions] == ["approved"] * 5
        for iterator in iterators:
            await iterator.aclose()  # type: ignore[attr-defined]


async def test_a_handle_that_nobody_holds_is_not_watched() -> None:
    """A handle is held weakly: when nobody has it any more, its run is not asked for."""
    async with site() as s, defined(asks) as workflow:
        engine = s.client._engine
        execution: Execution[str] = await s.client.create_run(workflow).start()
        assert engine.watches  # type: ignore[attr-defined]
        del execution

        def is_forgotten() -> bool:
            gc.collect()
            return not engine.watches  # type: ignore[attr-defined]

        await until(is_forgotten)


async def test_events_that_come_together_are_one_question() -> None:
    """A thousand events of a watched run are far fewer questions where it stands, and the last one is the truth."""

    async def many(ctx: Context) -> int:
        for number in range(1_000):
            ctx.report_progress(number + 1, 1_000)
            if number % 50 == 49:
                await ctx.step(str, number)
        return 7

    async with site() as s, defined(many) as workflow:
        execution = await s.client.create_run(workflow).start()
        calls = s.client._engine.calls  # type: ignore[attr-defined]
        before = calls.answered
        assert await execution.result == 7
        assert execution.progress.current == 1_000
        assert calls.answered - before < execution.snapshot.event / 2


async def test_cancelling_who_awaits_leaves_the_run_alone() -> None:
    """Cancelling tasks that await a result, an event or an answer touches neither the run nor the client."""
    async with site() as s, defined(asks) as workflow:
        execution = await s.client.create_run(workflow).start()
        await until(lambda: execution.requests)

        async def last() -> None:
            async for _ in execution.events():
                pass

        async def result() -> None:
            await execution.result

        waits = [asyncio.create_task(one) for one in (last(), result(), execution.refresh(), s.client.list())]
        await asyncio.sleep(0)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert execution.status is RunStatus.AWAITING
        await execution.approve()
        assert await execution.result == "approved"


async def test_cancelling_a_command_under_way_leaves_the_client_usable() -> None:
    """A command whose caller is cancelled while it is under way was done or not, and the next one works."""
    async with site() as s, defined(asks) as workflow:
        execution = await s.client.create_run(workflow).start()
        await until(lambda: execution.requests)
        pausing = asyncio.create_task(execution.pause())
        await asyncio.sleep(0.001)
        pausing.cancel()
        await asyncio.gather(pausing, return_exceptions=True)
        await execution.approve()
        await execution.refresh()
        if execution.status is not RunStatus.COMPLETED and execution.waiting_on:
            await execution.resume()
        assert await execution.result == "approved"


async def test_logs_move_forward_for_who_looks_at_them() -> None:
    """execution.logs gets the newest lines of the log while somebody looks at it, and has them after a get."""
    latch = Latch()

    async def tells(ctx: Context) -> None:
        for number in range(3):
            ctx.log(f"line {number}")
        await ctx.step(latch.step)

    async with site() as s, defined(tells) as workflow:
        execution = await s.client.create_run(workflow).start()
        await latch.reached.wait()
        await until(lambda: len(execution.logs) == 3)
        assert execution.logs == ["line 0", "line 1", "line 2"]
        assert (await s.client.get(execution.id)).logs == execution.logs
        latch.opened.set()
        await execution.result


async def test_a_final_run_is_known_at_once() -> None:
    """A run that has ended already when it is asked for has its result, events that end, and its steps."""
    async with site() as s, defined(echo) as workflow:
        first = await s.client.create_run(workflow, "a").start()
        await first.result
        execution = await s.client.get(first.id[:12])
        assert (await execution.result, execution.status) == ("a", RunStatus.COMPLETED)
        assert [event.number async for event in execution.events()][-1] == execution.snapshot.event
        assert await execution.steps() == []


async def test_without_a_stream_runs_are_asked_for() -> None:
    """A client that gets no live stream, because the person has too many, asks now and then and misses nothing."""
    async with site(streams_per_person=1) as s, defined(asks) as workflow:
        first = await s.client.create_run(workflow).start()
        await until(lambda: first.requests)
        async with connect(s.served.url, token=await s.token()) as other:
            execution = await other.create_run(workflow).start()
            await until(lambda: execution.requests)
            waiting = asyncio.create_task(execution.wait())
            await (await s.backend.get(execution.id)).approve(by="bo")
            assert await waiting is RunStatus.COMPLETED


async def test_a_reader_of_events_outlasts_a_server_that_is_long_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads events goes on with the next event when a server comes back, however long there was none."""
    monkeypatch.setattr("osprotocol._http.calls._PAUSES_S", ())
    async with site() as s, defined(asks) as workflow:
        execution = await s.client.create_run(workflow).start()
        await until(lambda: execution.requests)
        events = s.client.events()
        seen = [(await anext(events)).cursor for _ in range(execution.snapshot.event)]
        further = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await s.served.close()
        await until(lambda: s.client._engine.calls.under_way == 0)  # type: ignore[attr-defined]
        await (await s.backend.get(execution.id)).approve(by="bo")
        await s.serve_again()
        assert (await further).cursor == seen[-1] + 1
        await events.aclose()  # type: ignore[attr-defined]


async def test_a_reader_of_events_is_told_that_the_token_was_revoked() -> None:
    """Who reads events with a token that is revoked gets NotSignedInError instead of silence."""
    async with site() as s, defined(asks) as workflow:
        execution = await s.client.create_run(workflow).start()
        await until(lambda: execution.requests)
        reading = asyncio.ensure_future(anext(s.client.events(after=1_000_000)))
        await until(lambda: s.client._engine.stream.is_open)  # type: ignore[attr-defined]
        [token] = s.served.books.tokens("ann")
        await s.served.books.revoke_token(token.id, by="tests")
        s.served.app.state.identify.__self__.changed()
        with pytest.raises(NotSignedInError):
            await reading
