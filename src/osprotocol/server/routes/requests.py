"""Requests: the inbox, votes and answers, and gates put on a run from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import Query
from starlette.responses import Response

from osprotocol import _limits
from osprotocol import errors as e
from osprotocol._json import encode, find_problem
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.asking import approval_request, check_config, check_prompt, payload_text, shown_digest
from osprotocol._lifecycle.people import closer_of
from osprotocol._lifecycle.schema import problems_of
from osprotocol.engine import RequestFilter
from osprotocol.protocol.approval import ApprovalConfig
from osprotocol.protocol.events import Page
from osprotocol.protocol.http import GateBody, RespondBody, VoteBody
from osprotocol.protocol.request import Request
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.identity import check_self_approval
from osprotocol.server.openapi import FINDING, FINDING_REQUEST, POSTING, READING, answers
from osprotocol.server.replies import API, Answer, Call, json_of, once, reply, reply_items, takes
from osprotocol.server.routes import api_router
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import engine_of, find_execution, find_request, find_run, list_requests

router = api_router("requests")

Reader = Annotated[Principal, allow(Permission.READ)]
Answerer = Annotated[Principal, allow(Permission.ANSWER)]
Vote = Annotated[Call[VoteBody], takes(VoteBody, optional=True)]
Answered = Annotated[Call[RespondBody], takes(RespondBody)]
Kind = Literal["approval", "input", "attention"]

_NOT_COUNTED = (
    e.RequestNotFoundError, e.RequestClosedError, e.StaleRequestError, e.NotAnApproverError, e.VoteConflictError,
    e.InvalidAnswerError, e.InvalidTransitionError,
)  # fmt: skip
_VOTING = (*POSTING, *FINDING_REQUEST, *_NOT_COUNTED)
_VOTING_ON_RUN = (*POSTING, *FINDING, *_NOT_COUNTED, e.AmbiguousRequestError)
_OPEN: dict[str, bool | None] = {"true": True, "false": False, "all": None}


@router.get("/requests", responses=answers(Page[Request], *READING, e.InvalidOptionError))
async def list_inbox(
    here: Here,
    who: Reader,
    open: Annotated[
        Literal["true", "false", "all"], Query(description="Those that wait, those that are decided, or both.")
    ] = "true",
    kind: Kind | None = None,
    run: Annotated[str | None, Query(description="Only those of that run.")] = None,
    mine: Annotated[bool, Query(description="Only those that you may act on.")] = False,
    limit: Annotated[int, Query(ge=1, le=_limits.PAGE_SIZE)] = _limits.PAGE_SIZE_DEFAULT,
    cursor: Annotated[str | None, Query(description="``nextCursor`` of an earlier page.")] = None,
) -> Response:
    """List requests, oldest first: the inbox."""
    chosen = RequestFilter(_OPEN[open], who.name if mine else None, kind, run)
    page = await list_requests(here, who, chosen, limit, cursor)
    return reply_items(page.items, page.next_cursor)


@router.get("/requests/{request_id}", responses=answers(Request, *FINDING_REQUEST))
async def get_request(request_id: str, here: Here, who: Reader) -> Response:
    """Get a request. Its id may be shortened while it is unambiguous."""
    return reply(await find_request(here, who, request_id))


# --------------------------------------------------------------------- answering


async def vote(here: Serving, who: Principal, request: Request, approved: bool, body: VoteBody) -> Request:
    """One person's yes or no, with everything that is checked before it counts.

    Raises:
        NotPermittedError: the person started the run. RequestError: the vote does not count, and why.
    """
    await check_self_approval(here, who, request)
    execution = await here.client.get(request.run_id)
    act = execution.approve if approved else execution.reject
    return await act(body.reason, request_id=request.id, by=who.name, seen=body.seen)


Act = Callable[[Request], Awaitable[Request]]


async def _answered(here: Serving, who: Principal, call: Call[Any], request: Request, act: Act) -> Response:
    async def answer(key: str | None) -> Answer:
        return Answer(json_of(await act(request)))

    async def again(run_id: str | None) -> Answer:
        return Answer(json_of(await engine_of(here).find_request(request.id)))

    return await once(here, who, call, answer, again)


async def _answered_on_run(
    here: Serving, who: Principal, call: Call[Any], run_id: str, kinds: tuple[str, ...], act: Act
) -> Response:
    """As `_answered`, for the only open request of these kinds of a run."""
    run_id = (await find_run(here, who, run_id)).run_id

    async def answer(key: str | None) -> Answer:
        return Answer(json_of(await act(await _only_open(here, run_id, kinds))))

    async def again(known: str | None) -> Answer:
        own = [one for one in await _asked(here, run_id, kinds) if any(told.by == who.name for told in one.responses)]
        if not own:
            raise e.RequestNotFoundError(run_id, "", kinds[0])
        return Answer(json_of(own[-1]))

    return await once(here, who, call, answer, again)


async def _asked(here: Serving, run_id: str, kinds: tuple[str, ...]) -> list[Request]:
    """Every request of these kinds of a run, oldest first."""
    found: list[Request] = []
    cursor: str | None = None
    while True:
        page = await engine_of(here).requests(RequestFilter(None, run_id=run_id), _limits.PAGE_SIZE, cursor)
        found.extend(request for request in page.items if request.kind in kinds)
        cursor = page.next_cursor
        if cursor is None:
            return found


async def _only_open(here: Serving, run_id: str, kinds: tuple[str, ...]) -> Request:
    """The only open request of these kinds of a run.

    Raises:
        InvalidTransitionError: the run has ended.
        RequestClosedError: somebody answered the last one before.
        AmbiguousRequestError, RequestNotFoundError: there are several, or there never was one.
    """
    asked = await _asked(here, run_id, kinds)
    found = [request for request in asked if request.status == "open"]
    if len(found) > 1:
        raise e.AmbiguousRequestError(run_id, "", kinds[0], tuple(request.id for request in found))
    if found:
        return found[0]
    status = (await engine_of(here).get(run_id)).status
    if status.is_final:
        raise e.InvalidTransitionError(run_id, f"answer its {kinds[0]}", status.value)
    if asked:
        last = asked[-1]
        by = closer_of(last.status, [response.by for response in last.responses])
        raise e.RequestClosedError(run_id, last.id, last.status, by)
    raise e.RequestNotFoundError(run_id, "", kinds[0])


@router.post("/requests/{request_id}/approve", responses=answers(Request, *_VOTING))
async def approve_request(request_id: str, here: Here, who: Answerer, call: Vote) -> Response:
    """Approve a request. The voter is the signed-in person."""
    request = await find_request(here, who, request_id)
    return await _answered(here, who, call, request, lambda found: vote(here, who, found, True, call.body))


@router.post("/requests/{request_id}/reject", responses=answers(Request, *_VOTING))
async def reject_request(request_id: str, here: Here, who: Answerer, call: Vote) -> Response:
    """Reject a request."""
    request = await find_request(here, who, request_id)
    return await _answered(here, who, call, request, lambda found: vote(here, who, found, False, call.body))


async def _respond(here: Serving, who: Principal, request: Request, body: RespondBody) -> Request:
    execution = await here.client.get(request.run_id)
    return await execution.respond(body.value, request_id=request.id, by=who.name, seen=body.seen)


@router.post("/requests/{request_id}/respond", responses=answers(Request, *_VOTING))
async def respond_to_request(request_id: str, here: Here, who: Answerer, call: Answered) -> Response:
    """Answer an input or attention request."""
    request = await find_request(here, who, request_id)
    return await _answered(here, who, call, request, lambda found: _respond(here, who, found, call.body))


@router.post("/runs/{run_id}/approve", responses=answers(Request, *_VOTING_ON_RUN))
async def approve_run(run_id: str, here: Here, who: Answerer, call: Vote) -> Response:
    """Approve the only open approval of a run."""
    return await _answered_on_run(
        here, who, call, run_id, ("approval",), lambda request: vote(here, who, request, True, call.body)
    )


@router.post("/runs/{run_id}/reject", responses=answers(Request, *_VOTING_ON_RUN))
async def reject_run(run_id: str, here: Here, who: Answerer, call: Vote) -> Response:
    """Reject the only open approval of a run."""
    return await _answered_on_run(
        here, who, call, run_id, ("approval",), lambda request: vote(here, who, request, False, call.body)
    )


@router.post("/runs/{run_id}/respond", responses=answers(Request, *_VOTING_ON_RUN))
async def respond_to_run(run_id: str, here: Here, who: Answerer, call: Answered) -> Response:
    """Answer the only open input (or attention) of a run."""
    return await _answered_on_run(
        here, who, call, run_id, ("input", "attention"), lambda request: _respond(here, who, request, call.body)
    )


# ------------------------------------------------------------------------- gates


@router.post(
    "/runs/{run_id}/requests",
    status_code=201,
    responses=answers(Request, *POSTING, *FINDING, e.InvalidTransitionError, status=201),
)
async def put_gate(
    run_id: str,
    here: Here,
    who: Annotated[Principal, allow(Permission.STEER)],
    call: Annotated[Call[GateBody], takes(GateBody)],
) -> Response:
    """Put a gate on a run: it stops at its next boundary until decided."""
    execution, command = await find_execution(here, who, run_id), _gate_command(call.body)

    async def act(key: str | None) -> Answer:
        update = await engine_of(here).execute(execution.id, command)
        return _made(update.reply)

    async def again(known: str | None) -> Answer:
        page = await engine_of(here).requests(RequestFilter(None, run_id=execution.id), _limits.PAGE_SIZE, None)
        mine = [one for one in page.items if one.gate and one.digest == command.digest]
        return _made((mine or page.items)[-1])

    return await once(here, who, call, act, again)


def _made(request: Request) -> Answer:
    return Answer(json_of(request), 201, f"{API}/requests/{request.id}")


def _gate_command(body: GateBody) -> c.OpenRequest:
    check_prompt(body.prompt, "prompt")
    if body.kind == "approval":
        if body.schema_ is not None or body.timeout_ms is not None:
            raise e.InvalidOptionError("kind", "an approval has a config, not a schema or timeoutMs")
        config = body.config or ApprovalConfig()
        check_config(config)
        shown = payload_text(body.payload, "payload")
        return approval_request(0, None, None, body.prompt, config, shown, body.on_reject)
    if body.config is not None or body.payload is not None:
        raise e.InvalidOptionError("kind", "an input has a schema and timeoutMs, not a config or payload")
    problem = find_problem(body.schema_)
    problems = (problem,) if problem is not None else problems_of(body.schema_ or {})
    if problems:
        raise e.InvalidValueError("schema", problems)
    schema = encode(body.schema_ if body.schema_ is not None else {"type": "string"})
    return c.OpenRequest(
        epoch=None,
        key=0,
        kind="input",
        position=None,
        prompt=body.prompt,
        payload=None,
        digest=shown_digest(body.prompt, schema),
        schema=schema,
        timeout_ms=body.timeout_ms,
    )
