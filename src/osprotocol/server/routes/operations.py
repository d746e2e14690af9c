"""Operations on many: bulk steering and voting, pruning, workers, statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, TypeVar

from starlette.responses import Response

from osprotocol import _limits
from osprotocol import errors as e
from osprotocol.engine import Filter, acting
from osprotocol.protocol._wire import Wire
from osprotocol.protocol.events import BulkResult, Page, WorkerInfo
from osprotocol.protocol.http import (
    BulkBody,
    BulkResults,
    BulkVote,
    BulkVoteBody,
    BulkVoteResult,
    BulkVoteResults,
    FilterBody,
    PruneBody,
    ReasonBody,
    VoteBody,
)
from osprotocol.protocol.statistics import Statistics
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.identity import acting_as
from osprotocol.server.openapi import POSTING, READING, answers
from osprotocol.server.replies import Answer, Call, json_of, once, reply, reply_items, takes
from osprotocol.server.routes import api_router
from osprotocol.server.routes.requests import vote
from osprotocol.server.routes.runs import check_not_vetoed
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import engine_of, find_execution, find_request, list_runs

router = api_router("operations")

T = TypeVar("T")
_AT_ONCE = 20


class Removed(Wire):
    """How many runs were removed, or taken away."""

    runs: int


async def _each(names: Iterable[str], who: Principal, act: Callable[[str], Awaitable[T]]) -> list[T]:
    """Do something to each, some at a time; what was done under an Idempotency-Key is not done again."""
    outer = acting.get()
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> T:
        key = None if outer is None or outer.reply_key is None else f"{outer.reply_key}\n{name}"
        async with places:
            with acting_as(who, key, "" if outer is None else outer.reply_digest):
                return await act(name)

    return list(await asyncio.gather(*(one(name) for name in dict.fromkeys(names))))


@router.post("/runs/bulk", responses=answers(BulkResults, *POSTING))
async def steer_many(
    here: Here, who: Annotated[Principal, allow(Permission.STEER)], call: Annotated[Call[BulkBody], takes(BulkBody)]
) -> Response:
    """Cancel, pause, resume or retry many runs; a result for each."""
    body = call.body
    if (body.run_ids is None) == (body.filter is None):
        raise e.InvalidOptionError("runIds", "give either runIds or filter, one of them")

    async def act(key: str | None) -> Answer:
        ids = body.run_ids if body.run_ids is not None else await _found(here, who, body.filter or FilterBody())
        results = await _each(ids, who, lambda run_id: _steer(here, who, body, run_id))
        return Answer(json_of(BulkResults(items=tuple(results))))

    return await once(here, who, call, act, _not_again(call))


def _not_again(call: Call[Any]) -> Callable[[str | None], Awaitable[Answer]]:
    """What is done to many is not done again: by now a filter may find others."""

    async def refuse(run_id: str | None) -> Answer:
        raise e.DuplicateRequestError(call.key or "", "was done before, and its answer is too large to be kept")

    return refuse


async def _found(here: Serving, who: Principal, wanted: FilterBody) -> list[str]:
    chosen = Filter(
        status=wanted.status,
        workflow=wanted.workflow,
        labels=wanted.labels,
        text=wanted.text,
        started_after=wanted.started_after,
        started_before=wanted.started_before,
        parent_id=wanted.parent,
    )
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await list_runs(here, who, chosen, _limits.PAGE_SIZE, cursor)
        ids.extend(run.id for run in page.items)
        cursor = page.next_cursor
        if cursor is None:
            return ids


def _check_same(here: Serving) -> None:
    """A member was done before the answer to an earlier request of this key was lost: make sure it was this request.

    Raises:
        DuplicateRequestError: it was another.
    """
    now = acting.get()
    assert now is not None
    assert now.reply_key is not None
    kept = here.books.find_reply(now.reply_key)
    if kept is None or kept.digest != now.reply_digest:
        key = now.reply_key.split("\n")[2]
        raise e.DuplicateRequestError(key, "was used before with another request")


async def _steer(here: Serving, who: Principal, body: BulkBody, run_id: str) -> BulkResult:
    message: str | None = None
    try:
        execution = await find_execution(here, who, run_id)
        try:
            match body.action:
                case "cancel":
                    await execution.cancel(body.reason, by=who.name, graceful=body.graceful)
                case "pause":
                    await execution.pause(body.reason, by=who.name)
                case "resume":
                    await execution.resume(by=who.name)
                case "retry":
                    message = f"run {(await execution.retry()).id} goes on from it"
        except e.DuplicateRequestError:
            _check_same(here)
            await execution.refresh()
            if body.action == "cancel":
                check_not_vetoed(execution)
    except e.OSProtocolError as error:
        return BulkResult(run_id=run_id, ok=False, code=error.code, message=str(error))
    return BulkResult(run_id=run_id, ok=True, status=execution.status, message=message)


@router.post("/requests/bulk", responses=answers(BulkVoteResults, *POSTING))
async def vote_many(
    here: Here,
    who: Annotated[Principal, allow(Permission.ANSWER)],
    call: Annotated[Call[BulkVoteBody], takes(BulkVoteBody)],
) -> Response:
    """Approve or reject many requests; a result for each."""
    body = call.body
    votes = {one.id: one for one in body.requests}
    if len(votes) != len(body.requests):
        raise e.InvalidOptionError("requests", "name each request once")

    async def act(key: str | None) -> Answer:
        results = await _each(votes, who, lambda request_id: _vote(here, who, body, votes[request_id]))
        return Answer(json_of(BulkVoteResults(items=tuple(results))))

    return await once(here, who, call, act, _not_again(call))


async def _vote(here: Serving, who: Principal, body: BulkVoteBody, one: BulkVote) -> BulkVoteResult:
    try:
        request = await find_request(here, who, one.id)
        try:
            given = VoteBody(reason=body.reason, seen=one.seen)
            request = await vote(here, who, request, body.action == "approve", given)
        except e.DuplicateRequestError:
            _check_same(here)
            request = await find_request(here, who, one.id)
    except e.OSProtocolError as error:
        return BulkVoteResult(id=one.id, ok=False, code=error.code, message=str(error))
    return BulkVoteResult(id=one.id, ok=True, status=request.status)


@router.post("/runs/prune", responses=answers(Removed, *POSTING))
async def prune_runs(
    here: Here,
    who: Annotated[Principal, allow(Permission.DELETE)],
    call: Annotated[Call[PruneBody], takes(PruneBody)],
) -> Response:
    """Remove the final runs that ended before an instant."""
    if who.workflows is not None:
        raise e.NotPermittedError(who.name, "prune runs", "this token is limited to some workflows")

    async def act(key: str | None) -> Answer:
        return Answer(json_of(Removed(runs=await here.client.prune(older_than=call.body.older_than))))

    return await once(here, who, call, act, act)


@router.get("/workers", responses=answers(Page[WorkerInfo], *READING))
async def list_workers(here: Here, who: Annotated[Principal, allow(Permission.READ)]) -> Response:
    """List processes that work on these runs, or did; newest first."""
    return reply_items(
        one.model_copy(update={"workflows": tuple(name for name in one.workflows if who.sees(name))})
        for one in await here.client.workers()
    )


@router.post(
    "/workers/{worker_id}/evict",
    responses=answers(Removed, *POSTING, e.WorkerNotFoundError, e.AmbiguousRunIdError),
)
async def evict_worker(
    worker_id: str,
    here: Here,
    who: Annotated[Principal, allow(Permission.WORKERS)],
    call: Annotated[Call[ReasonBody], takes(ReasonBody, optional=True)],
) -> Response:
    """Take all runs away from a worker that hangs."""

    async def act(key: str | None) -> Answer:
        return Answer(json_of(Removed(runs=await here.client.evict(worker_id))))

    async def again(run_id: str | None) -> Answer:
        return Answer(json_of(Removed(runs=0)))

    return await once(here, who, call, act, again)


@router.get("/statistics", responses=answers(Statistics, *READING))
async def get_statistics(here: Here, who: Annotated[Principal, allow(Permission.READ)]) -> Response:
    """Count runs and requests; the counts may lag a few seconds behind."""
    if who.workflows is not None:
        raise e.NotPermittedError(who.name, "see statistics", "this token is limited to some workflows")
    return reply(await engine_of(here).statistics())
