"""A request is sent again only where that is safe, and then it counts once."""

import asyncio

import pytest

from osprotocol.connect import connect
from osprotocol.errors import TooManyRequestsError, UnreachableError
from tests.http.servers import LossyProxy, asks, defined, echo, site, until


async def test_a_start_whose_answer_was_lost_is_one_run() -> None:
    """When the answer of a start is lost it is sent again, and there is one run."""
    async with LossyProxy() as proxy, site(allow_hosts=(f"127.0.0.1:{proxy.port}",)) as s, defined(echo) as workflow:
        proxy.to = s.served.port
        async with connect(f"http://127.0.0.1:{proxy.port}", token=await s.token()) as client:
            proxy.lose = 2
            execution = await client.create_run(workflow, "a").start()
            assert await execution.result == "a"
            assert [run.id for run in (await client.list()).items] == [execution.id]
        assert proxy.requests.count("POST /api/v1/runs HTTP/1.1") == 3


async def test_an_answer_whose_confirmation_was_lost_counts_once() -> None:
    """When the confirmation of a vote without a request id is lost it is sent again, and is one vote."""
    async with LossyProxy() as proxy, site(allow_hosts=(f"127.0.0.1:{proxy.port}",)) as s, defined(asks) as workflow:
        proxy.to = s.served.port
        async with connect(f"http://127.0.0.1:{proxy.port}", token=await s.token()) as client:
            execution = await client.create_run(workflow).start()
            await until(lambda: execution.requests)
            proxy.lose = 1
            request = await execution.approve("fine")
            assert [(response.by, response.reason) for response in request.responses] == [("ann", "fine")]
            assert await execution.result == "approved"


async def test_it_gives_up_after_some_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no answer comes through, it gives up after a few tries and says so."""
    monkeypatch.setattr("osprotocol._http.calls._PAUSES_S", (0.0, 0.0, 0.0))
    async with LossyProxy() as proxy, site(allow_hosts=(f"127.0.0.1:{proxy.port}",)) as s, defined(echo) as workflow:
        proxy.to = s.served.port
        async with connect(f"http://127.0.0.1:{proxy.port}", token=await s.token()) as client:
            proxy.lose = 1_000
            with pytest.raises(UnreachableError):
                await client.create_run(workflow, "a").start()
            assert 1 < proxy.requests.count("POST /api/v1/runs HTTP/1.1") < 10
            proxy.lose = 0
            assert len((await client.list()).items) == 1


async def test_a_question_waits_for_a_server_that_restarts() -> None:
    """A question asked while the server restarts is answered by the next one."""
    async with site() as s:
        await s.served.close()
        asking = asyncio.create_task(s.client.list())
        await asyncio.sleep(0)
        await s.serve_again()
        assert (await asking).items == ()


async def test_a_delete_is_sent_once() -> None:
    """A delete that meets no server is not sent again: it is an UnreachableError at once."""
    async with site() as s, defined(echo) as workflow:
        execution = await s.client.create_run(workflow, "a").start()
        await execution.result
        await s.served.close()
        with pytest.raises(UnreachableError):
            await s.client.delete(execution.id)
        await s.serve_again()
        await s.client.delete(execution.id)
        assert (await s.client.list()).items == ()


async def test_too_many_requests_are_asked_again_later() -> None:
    """A refusal that says when to come back is obeyed, and the question asked again then."""
    async with site() as s:
        throttle = s.served.app.state.identify.__self__.throttle
        [token] = s.served.books.tokens("ann")

        def ask_for_ever() -> None:
            while True:
                throttle.check_request(f"token {token.id}", "GET", "/")

        with pytest.raises(TooManyRequestsError):
            ask_for_ever()
        assert (await s.client.list()).items == ()
