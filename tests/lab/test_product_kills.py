"""The small share of the whole-product kills, and that its verifier sees what it is there for."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from pathlib import Path

import pytest
import uvicorn

from osprotocol import ApprovalConfig, Context, connect, step, workflow
from osprotocol._embedded.books import Books
from osprotocol.server import serve
from osprotocol.server.settings import ServerSettings
from tests.lab.harness import Tally, check_small, work
from tests.lab.product import workflows
from tests.lab.product.history import Answer, Cancel, History, Start, Vote
from tests.lab.product.listening import Listener
from tests.lab.product.verifying import Verifier
from tests.lab.product_kills import HARNESS, REGRESSIONS


def test_small_share() -> None:
    """Some kills, everything verified."""
    check_small(HARNESS)


@pytest.mark.long
@pytest.mark.parametrize("number", REGRESSIONS)
def test_regressions(number: int) -> None:
    """Cases that once did not hold."""
    assert not work(HARNESS, number, 1).failures


@step
async def doubled(label: str) -> str:
    workflows.note("effect", label)
    return label


@workflow(name="lab.test-kills")
async def told(ctx: Context, label: str) -> str:
    await ctx.step(doubled, label)
    approval = await ctx.wait_for_approval("Go on?", ApprovalConfig(required_approvals=2))
    return approval.outcome


class Small:
    """One run that was approved by Ann and Ben, as a file and a ledger."""

    def __init__(self, folder: Path) -> None:
        self.database, self.ledger = folder / "runs.db", folder / "ledger"
        self.history = History()
        self.run = self.request = ""

    async def make(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger.touch()
        monkeypatch.setenv(workflows.LEDGER, str(self.ledger))
        async with connect(self.database, linger_ms=0) as client:
            execution = await client.create_run(told, "n1").start()
            async for event in execution.events():
                if event.type == "request.opened":
                    await execution.approve(by="ann")
                    self.request = (await execution.approve(by="ben")).id
            self.run = execution.id

    def found(self, *listeners: Listener) -> str:
        verifier = Verifier(self.database, self.ledger, self.history, set(), Tally())
        return "\n".join([*verifier.told_truly(), *verifier._streams(list(listeners))])


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    made = Small(tmp_path)
    asyncio.run(made.make(monkeypatch))
    made.history.starts.append(Start("sam", "lab.test-kills", "n1", [made.run]))
    made.history.votes += [Vote(made.request, name, True, 200) for name in ("ann", "ben")]
    return made


def test_the_truth_is_not_refused(small: Small) -> None:
    """What callers were rightly told is in the file."""
    assert small.found() == ""


def test_a_lost_start_is_seen(small: Small) -> None:
    """An acknowledged run that is not in the file; one key with two runs."""
    small.history.starts.append(Start("sam", "lab.test-kills", "n2", ["nowhere"]))
    small.history.starts.append(Start("sam", "lab.test-kills", "n1", [small.run, "another"]))
    found = small.found()
    assert "which does not exist" in found
    assert "several runs" in found


def test_a_lost_vote_is_seen(small: Small) -> None:
    """An acknowledged vote that does not count; one that counts although it was refused; the opposite one."""
    small.history.votes.append(Vote(small.request, "cat", True, 200))
    assert "the file has none" in small.found()
    small.history.votes[:] = [Vote(small.request, "ann", True, 409, "request-closed")]
    assert "answered with a refusal" in small.found()
    small.history.votes[:] = [Vote(small.request, "ann", False, 200)]
    assert "was told {False}" in small.found()


def test_a_lost_answer_or_cancel_is_seen(small: Small) -> None:
    """A cancel that was accepted and lost to completion; an answer to nothing."""
    small.history.cancels.append(Cancel(small.run, "sam", 200, {"status": "in-progress", "cancelling": True}))
    small.history.answers.append(Answer("nowhere-1", "dan", 5, 200))
    found = small.found()
    assert "was accepted; the run is completed" in found
    assert "nowhere-1 is gone" in found


def test_a_step_that_begins_again_is_seen(small: Small) -> None:
    """After its result was read from a stream; and a result without an effect."""
    listener = _listener(None)
    key = f"{small.run}:1"
    listener.committed[key] = 1
    verifier = Verifier(small.database, small.ledger, small.history, set(), Tally())
    assert "began again" in "\n".join(verifier._steps([listener]))
    small.ledger.write_text("")
    assert "which never began" in small.found()


def _listener(run_id: str | None) -> Listener:
    return Listener(["http://nowhere"], "", run_id, random.Random(1), Tally(), 1.0)


def test_a_gap_in_a_stream_is_seen(small: Small) -> None:
    """An event that was left out, one that came twice, one that never came."""
    listener = _listener(small.run)
    for number in (1, 2, 4, 4):
        event = {"runId": small.run, "cursor": number, "number": number, "type": "x", "key": None}
        listener._take("message", str(number), json.dumps(event))
    found = small.found(listener)
    assert "4 came after 2" in found
    assert "4 came after 4" in found
    assert "gave 4 events" in found


# asyncio leaves the socket of one that comes too late for it to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_that_comes_while_a_server_stops(
    turns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed: nobody waits for it until the grace time is over."""
    address: list[tuple[str, int]] = []
    late: list[socket.socket] = []
    shutdown = uvicorn.Server.shutdown

    async def shutdown_later(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        late.append(socket.create_connection(address[0]))
        for _ in range(turns):
            await asyncio.sleep(0)
        await shutdown(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "shutdown", shutdown_later)
    monkeypatch.setattr(serve, "_GRACE_S", 3_600)  # a test that waits for it does not end
    async with connect(tmp_path / "runs.db", worker=False) as client:
        books = await Books.open(client._engine)  # type: ignore[arg-type]
        async with serve.serving(client, books, ServerSettings(port=0)) as settings:
            address.append(("127.0.0.1", settings.port))
        await books.close()
    late[0].close()
