"""What people do to runs is in the log: in the commit of the change, once, and only if it happened."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from osprotocol import ApprovalConfig, Context, RunOptions, connect, step, workflow
from osprotocol._embedded.books import Books
from osprotocol._lifecycle.asking import approval_request
from osprotocol.client import Client
from osprotocol.engine import acting
from osprotocol.errors import (
    DuplicateRequestError,
    InvalidTransitionError,
    NotAnApproverError,
    OSProtocolError,
    RequestClosedError,
    RunNotFoundError,
    StoreError,
    VoteConflictError,
)
from osprotocol.execution import Execution
from osprotocol.protocol.http import AuditEntry
from osprotocol.testing import VirtualClock
from tests.books.opening import engine_of, hide_next_commit, refuse_next_commit, signed_in


@step(name="audit.one")
async def one() -> int:
    return 1


@step(name="audit.broken")
async def broken() -> None:
    raise ValueError("no")


@workflow(name="audit.asks")
async def asks(ctx: Context) -> bool:
    await ctx.step(one)
    return (await ctx.wait_for_approval("Go?", ApprovalConfig(approvers=["ann", "bob"], required_approvals=2))).approved


@workflow(name="audit.inputs")
async def inputs(ctx: Context) -> str:
    return await ctx.wait_for_input("Title?")


@workflow(name="audit.quick")
async def quick(ctx: Context, number: int) -> int:
    return number + await ctx.step(one)


@workflow(name="audit.fails")
async def fails(ctx: Context) -> None:
    await ctx.step(broken)


@asynccontextmanager
async def opened(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Client, Books]]:
    async with connect(tmp_path / "runs.db", durability="off", **settings) as client:
        yield client, await Books.open(engine_of(client))


async def waiting(client: Client, flow: Any = asks) -> Execution[Any]:
    """A run that waits for a person."""
    execution = await client.create_run(flow).start()
    async for event in execution.events():
        if event.type == "request.opened":
            break
    return execution


async def ended(client: Client) -> Execution[Any]:
    execution = await client.create_run(quick, 1).start()
    assert await execution.result == 2
    return execution


async def failed(client: Client) -> Execution[Any]:
    execution = await client.create_run(fails).start()
    await execution.wait()
    return execution


async def put_gate(client: Client, execution: Execution[Any]) -> None:
    gate = approval_request(0, None, None, "Really?", ApprovalConfig(), None, "cancel")
    await client._engine.execute(execution.id, gate)


Act = Callable[[Client, Execution[Any]], Awaitable[Any]]

ACTS: dict[str, tuple[Callable[[Client], Awaitable[Execution[Any]]], Act, dict[str, Any]]] = {
    "run.pause": (waiting, lambda _, run: run.pause("lunch"), {"reason": "lunch"}),
    "run.cancel": (waiting, lambda _, run: run.cancel("late", graceful=False), {"reason": "late", "graceful": False}),
    "request.open": (waiting, put_gate, {"kind": "approval"}),
    "request.vote": (waiting, lambda _, run: run.approve("fine", by="ann"), {"approved": True, "reason": "fine"}),
    "request.respond": (lambda client: waiting(client, inputs), lambda _, run: run.respond("Tokyo"), {"revision": 1}),
    "run.retry": (failed, lambda _, run: run.retry(), {}),
    "run.fork": (ended, lambda _, run: run.fork(after_step="1"), {"afterStep": "1"}),
    "run.delete": (ended, lambda client, run: client.delete(run.id), {"runs": 1}),
}


@pytest.mark.parametrize("action", ACTS)
async def test_what_a_signed_in_person_does_is_written_down(tmp_path: Path, action: str) -> None:
    """Who, known by what, did what to which run, with the facts and no payload."""
    prepare, act, facts = ACTS[action]
    async with opened(tmp_path) as (client, books):
        execution = await prepare(client)
        assert books.audit() == []
        with signed_in("ann", "token t1"):
            await act(client, execution)
        [entry] = books.audit()
        assert (entry.number, entry.by, entry.via, entry.action) == (1, "ann", "token t1", action)
        assert entry.run_id == execution.id
        assert entry.detail.items() >= facts.items()
        assert (entry.request_id is not None) == action.startswith("request.")


@pytest.mark.parametrize("action", ACTS)
async def test_what_cannot_be_committed_is_in_no_record(tmp_path: Path, action: str) -> None:
    """Nor is the change there: with the next try there is one record."""
    prepare, act, _ = ACTS[action]
    async with opened(tmp_path) as (client, books):
        execution = await prepare(client)
        events = await client._engine.read_events(None, 0, 1_000)
        await engine_of(client).writer.drain()
        refuse_next_commit(engine_of(client))
        with signed_in():
            with pytest.raises(StoreError):
                await act(client, execution)
            assert books.audit() == []
            assert await client._engine.read_events(None, 0, 1_000) == events
            await act(client, execution)
        assert [entry.action for entry in books.audit()] == [action]
        assert await books.verify_audit() is None


@pytest.mark.parametrize("action", ACTS)
async def test_a_commit_of_unknown_outcome_is_one_record(tmp_path: Path, action: str) -> None:
    """It is read back: the person is told that it happened, and it happened once."""
    prepare, act, _ = ACTS[action]
    async with opened(tmp_path) as (client, books):
        execution = await prepare(client)
        await engine_of(client).writer.drain()
        hide_next_commit(engine_of(client))
        with signed_in():
            await act(client, execution)
        assert [entry.action for entry in books.audit()] == [action]
        assert await books.verify_audit() is None


async def test_a_start_by_a_signed_in_person(tmp_path: Path) -> None:
    """With workflow and digest of the input; found again by an idempotency key it is no second start."""
    async with opened(tmp_path) as (client, books):
        with signed_in():
            options = RunOptions(idempotency_key="k")
            first = await client.create_run(quick, 1, options).start()
            assert (await client.create_run(quick, 1, options).start()).id == first.id
        [entry] = books.audit()
        assert (entry.action, entry.run_id, entry.detail["workflow"]) == ("run.start", first.id, "audit.quick")
        assert len(entry.detail["inputDigest"]) >= 32


async def test_a_start_that_nobody_signed_in_for_is_not_written_down(tmp_path: Path) -> None:
    """Nor is anything that a run does by itself: steps cost no record."""
    async with opened(tmp_path) as (client, books):
        await ended(client)
        await failed(client)
        assert books.audit() == []
        assert engine_of(client).store.rows("SELECT count(*) FROM replies") == [(0,)]


async def test_a_person_at_the_terminal_is_known_locally(tmp_path: Path) -> None:
    """Who votes without a server is written down by the name that was given."""
    async with opened(tmp_path) as (client, books):
        execution = await waiting(client)
        await execution.approve(by="bob")
        await execution.pause()
        told = [(entry.by, entry.via, entry.action) for entry in books.audit()]
        assert told == [(client.person, "local", "run.pause"), ("bob", "local", "request.vote")]


async def test_resume_reject_and_the_votes_digest(tmp_path: Path) -> None:
    """A vote is kept with what it was about and what came of it."""
    async with opened(tmp_path) as (client, books):
        execution = await waiting(client)
        asked = execution.requests[0]
        with signed_in("bob"):
            await execution.pause()
            await execution.resume()
            await execution.reject("no", by="bob", seen=f"{asked.revision}:{asked.digest}")
        vote, resumed, _ = books.audit()
        assert (resumed.action, vote.action, vote.request_id) == ("run.resume", "request.vote", asked.id)
        assert vote.detail == {
            "approved": False,
            "reason": "no",
            "seen": f"{asked.revision}:{asked.digest}",
            "digest": asked.digest,
            "revision": asked.revision,
            "outcome": "rejected",
        }


async def test_an_answer_is_kept_as_its_digest(tmp_path: Path) -> None:
    """The log is for everybody who may read it; the answer is in the run."""
    async with opened(tmp_path) as (client, books):
        execution = await waiting(client, inputs)
        with signed_in():
            await execution.respond("Tokyo")
        [entry] = books.audit()
        assert entry.detail["answerDigest"] == hashlib.sha256(b'"Tokyo"').hexdigest()
        assert "Tokyo" not in str(entry)


async def test_the_signed_in_person_counts_whatever_name_was_given(tmp_path: Path) -> None:
    """A record never has a name that somebody else wrote into the call."""
    async with opened(tmp_path) as (client, books):
        execution = await waiting(client)
        with signed_in("ann"):
            await execution.pause(by="mallory")
        assert books.audit()[0].by == "ann"


async def test_a_run_acts_for_nobody(tmp_path: Path) -> None:
    """What its code and its callbacks do is not what the person did who woke it, nor under that person's key."""
    seen: list[object] = []

    @step(name="audit.starts-another")
    async def starts_another() -> str:
        seen.append(acting.get())
        return (await quick.start(1)).id

    def tell(*_: object) -> None:
        seen.append(acting.get())

    @workflow(name="audit.parent")
    async def parent(ctx: Context) -> str:
        seen.append(acting.get())
        await ctx.wait_for_input("Go?")
        return await ctx.step(starts_another)

    async with opened(tmp_path, linger_ms=0) as (client, books):
        with signed_in(key="k"):
            execution = await client.create_run(parent, None, RunOptions(on_complete=tell)).start()
            async for event in execution.events():
                if event.type == "run.parked":
                    break
        with signed_in(key="k2"):
            await execution.respond("yes")
            other = await execution.result
        await client._engine.settled(execution.id)
        assert seen == [None] * 4
        assert [entry.run_id for entry in books.audit()] == [execution.id] * 2
        assert books.audit(run=other) == []


async def test_a_run_that_two_delete_at_once_is_deleted_once(tmp_path: Path) -> None:
    """The second one hears that it is not there, in the same commit or a later one."""
    async with opened(tmp_path) as (client, books):
        execution = await ended(client)
        outcomes = await asyncio.gather(*(client.delete(execution.id) for _ in range(2)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), RunNotFoundError]
        assert [entry.action for entry in books.audit()] == ["run.delete"]


async def test_pruning_is_one_record_a_commit(tmp_path: Path) -> None:
    """With how many runs are gone; where nothing was removed there is none."""
    clock = VirtualClock()
    async with opened(tmp_path, clock=clock) as (client, books):
        for _ in range(3):
            await ended(client)
        await clock.advance(timedelta(days=2))
        with signed_in(key="k"):
            assert await client.prune(older_than=timedelta(days=1)) == 3
            assert await client.prune(older_than=timedelta(days=1)) == 0
        assert [(entry.action, entry.by, entry.detail) for entry in books.audit()] == [
            ("runs.prune", "ann", {"runs": 3})
        ]


async def test_an_eviction_names_the_worker(tmp_path: Path) -> None:
    """And how many runs it lost."""
    async with opened(tmp_path) as (client, books):
        await ended(client)
        [worker] = await client.workers()
        with signed_in():
            await client.evict(worker.id)
        [entry] = books.audit()
        assert (entry.action, entry.run_id, entry.detail) == ("worker.evict", None, {"worker": worker.id, "runs": 0})


# --------------------------------------------------------------------------- refused


REFUSED: dict[str, tuple[Callable[[Client], Awaitable[Execution[Any]]], Act, type[OSProtocolError]]] = {
    "resume": (waiting, lambda _, run: run.resume(), InvalidTransitionError),
    "pause at the end": (ended, lambda _, run: run.pause(), InvalidTransitionError),
    "cancel at the end": (ended, lambda _, run: run.cancel(), InvalidTransitionError),
    "stranger": (waiting, lambda _, run: run.approve(by="mallory"), NotAnApproverError),
    "retry of a completed run": (ended, lambda _, run: run.retry(), InvalidTransitionError),
    "fork after nothing": (ended, lambda _, run: run.fork(after_step="9"), OSProtocolError),
    "delete of a living run": (waiting, lambda client, run: client.delete(run.id), InvalidTransitionError),
    "eviction of nobody": (ended, lambda client, _: client.evict("nobody"), OSProtocolError),
    "gate at the end": (ended, put_gate, InvalidTransitionError),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_refused_is_not_written_down(tmp_path: Path, what: str) -> None:
    """The log tells what happened; and the Idempotency-Key is still free."""
    prepare, act, error = REFUSED[what]
    async with opened(tmp_path) as (client, books):
        execution = await prepare(client)
        with signed_in(key="k"), pytest.raises(error):
            await act(client, execution)
        assert books.audit() == []
        assert books.find_reply("k") is None


async def test_a_vote_is_written_down_once(tmp_path: Path) -> None:
    """The same one again changes nothing, another one is refused."""
    async with opened(tmp_path) as (client, books):
        execution = await waiting(client)
        with signed_in():
            for _ in range(3):
                await execution.approve(by="ann")
            with pytest.raises(VoteConflictError):
                await execution.reject(by="ann")
        assert [entry.action for entry in books.audit()] == ["request.vote"]


async def test_a_vote_that_comes_too_late_is_not_written_down(tmp_path: Path) -> None:
    """The request expires with it, which no person did."""

    @workflow(name="audit.expires")
    async def expires(ctx: Context) -> str:
        return (await ctx.wait_for_approval("Go?", ApprovalConfig(timeout_ms=1_000))).outcome

    clock = VirtualClock()
    async with opened(tmp_path, clock=clock, worker=False) as (client, books):
        async with connect(tmp_path / "runs.db", durability="off", clock=clock) as worker:
            run_id = (await waiting(worker, expires)).id
        await clock.advance(timedelta(seconds=2))
        execution = await client.get(run_id)
        with signed_in(key="k"), pytest.raises(RequestClosedError, match="expired"):
            await execution.approve(by="ann")
        assert [request.status for request in (await client.requests(open=None)).items] == ["expired"]
        assert books.audit() == []
        assert books.find_reply("k") is None


# ------------------------------------------------------------------ Idempotency-Key


@pytest.mark.parametrize("action", [name for name in ACTS if name != "run.delete"])
async def test_a_second_change_under_one_key_is_refused(tmp_path: Path, action: str) -> None:
    """The first one, and its key with its digest and run, are one commit."""
    prepare, act, _ = ACTS[action]
    async with opened(tmp_path) as (client, books):
        execution, other = await prepare(client), await prepare(client)
        with signed_in(key="POST /x k"):
            await act(client, execution)
            kept = books.find_reply("POST /x k")
            assert kept is not None
            about = books.audit()[0].detail.get("as", execution.id)  # where a run was made, that one
            assert (kept.digest, kept.run, kept.status, kept.body) == ("digest", about, None, None)
            with pytest.raises(DuplicateRequestError, match="POST /x k"):
                await act(client, other)
        assert [entry.run_id for entry in books.audit()] == [execution.id]
        await books.keep_reply("POST /x k", "digest", 200, "{}")
        kept = books.find_reply("POST /x k")
        assert kept is not None
        assert (kept.run, kept.status, kept.body) == (about, 200, "{}")


async def test_a_second_change_in_the_same_commit_is_refused(tmp_path: Path) -> None:
    """The group commits the first one."""
    async with opened(tmp_path) as (client, books):
        with signed_in(key="k"):
            starts = [client.create_run(quick, number).start() for number in range(3)]
            outcomes = await asyncio.gather(*starts, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Execution, DuplicateRequestError, DuplicateRequestError]
        assert len((await client.list()).items) == 1
        assert len(books.audit()) == 1


async def test_a_second_deletion_under_one_key_is_refused(tmp_path: Path) -> None:
    """Before a row is touched."""
    async with opened(tmp_path) as (client, books):
        first, second = await ended(client), await ended(client)
        with signed_in(key="k"):
            await client.delete(first.id)
            with pytest.raises(DuplicateRequestError):
                await client.delete(second.id)
        assert [run.id for run in (await client.list()).items] == [second.id]
        assert [event.type for event in await client._engine.read_events(second.id, 0, 1)] == ["run.started"]
        assert len(books.audit()) == 1


async def test_a_key_is_free_again_after_a_day(tmp_path: Path) -> None:
    """Although nothing has removed its row."""
    clock = VirtualClock()
    async with opened(tmp_path, clock=clock) as (client, books):
        with signed_in(key="k"):
            first = await client.create_run(quick, 1).start()
            await first.result
            await clock.advance(timedelta(hours=25))
            second = await client.create_run(quick, 1).start()
        kept = books.find_reply("k")
        assert kept is not None
        assert kept.run == second.id != first.id


# --------------------------------------------------------------------------- reading


async def test_the_log_is_read_by_person_run_and_request(tmp_path: Path) -> None:
    """Newest first, in pages."""
    async with opened(tmp_path) as (client, books):
        first, second = await waiting(client), await waiting(client)
        for person, execution in (("ann", first), ("bob", first), ("ann", second)):
            await execution.approve(by=person)
        await second.pause(by="bob")
        numbers: Callable[[list[AuditEntry]], list[int]] = lambda found: [entry.number for entry in found]  # noqa: E731
        assert numbers(books.audit()) == [4, 3, 2, 1]
        assert numbers(books.audit(limit=2)) == [4, 3]
        assert numbers(books.audit(limit=2, before=3)) == [2, 1]
        assert numbers(books.audit(by="ann")) == [3, 1]
        assert numbers(books.audit(run=first.id)) == [2, 1]
        assert numbers(books.audit(run=second.id, by="bob")) == [4]
        assert numbers(books.audit(run=second.id, before=4)) == [3]
        asked = second.requests[0].id
        assert numbers(books.audit(request=asked)) == [3]
        assert numbers(books.audit(request=asked, run=first.id)) == []
        assert books.audit(by="\udc80") == []


async def test_what_is_no_command_can_be_noted(tmp_path: Path) -> None:
    """Whatever name somebody tried to sign in with."""
    async with opened(tmp_path) as (_, books):
        await books.note("sign-in.failed", "e\udc80vil" * 100, "session", {"address": "127.0.0.1"})
        await books.note("sign-in", "", "session")
        second, first = books.audit()
        assert (first.by[:6], len(first.by), first.detail) == ("e?vile", 128, {"address": "127.0.0.1"})
        assert (second.by, second.action) == ("unknown", "sign-in")
