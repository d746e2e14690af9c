"""The inbox: what waits for this person, one after the other; and decisions on many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse, Response

from osprotocol import _limits
from osprotocol.engine import RequestFilter
from osprotocol.errors import InvalidOptionError, OSProtocolError, RequestNotFoundError
from osprotocol.protocol.request import Request
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.console import answering
from osprotocol.server.console.answering import Answer, Question, question_of, receipt, urgency
from osprotocol.server.console.rendering import render
from osprotocol.server.console.routing import check_filters, page_router
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import find_request, list_requests

router = page_router()

Reader = Annotated[Principal, allow(Permission.READ)]
Answerer = Annotated[Principal, allow(Permission.ANSWER)]
VIEWS = (("mine", "Mine"), ("all", "All I can see"), ("done", "Done"))
_MOST = 1_000
"""How many open requests are looked at, so that the most urgent of them come first."""
_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one of many decisions."""

    request: Request | None
    id: str
    ok: bool
    message: str


@router.get("/inbox")
async def inbox(
    http: HttpRequest,
    here: Here,
    who: Reader,
    view: str = "mine",
    at: str | None = None,
    was: str | None = None,
    start: str = "",
) -> HTMLResponse:
    """What waits, by deadline and then by age; the one that is looked at beside it."""
    question, first, wrong = None, int(start) if start.isdecimal() and start.isascii() and len(start) < 7 else 0, ""
    try:
        check_filters(http, ("view", "at", "start", "was"))
        if view not in dict(VIEWS):
            raise InvalidOptionError("view", f"is one of {', '.join(dict(VIEWS))}")
    except InvalidOptionError as error:
        wrong = str(error)
    if at is not None:
        question = await question_of(here, who, await find_request(here, who, at))
    done = await _known(here, who, was)
    status = InvalidOptionError.http_status if wrong else 200
    return await show(http, here, who, view, question, start=first, was=done, status=status, wrong=wrong)


async def show(
    http: HttpRequest,
    here: Serving,
    who: Principal,
    view: str,
    question: Question | None,
    *,
    start: int = 0,
    was: Request | None = None,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """The page; without a question, wide screens show the first one."""
    view = view if view in dict(VIEWS) else "mine"
    mine, everything = await _waiting(here, who)
    items = {"mine": mine, "all": everything, "done": []}[view]
    if view == "done":
        items = await _done(here, who)
    start = max(0, start)
    shown = items[start : start + _SHOWN]
    if view == "mine":
        shown = [one for one in shown if not await answering.blocked(here, who, one)]
    is_chosen = question is not None
    if question is None and shown:
        question = await question_of(here, who, shown[0])
    return await render(
        http,
        "inbox.html",
        status=status,
        view=view,
        views=VIEWS,
        counts={"mine": len(mine), "all": len(everything)},
        items=shown,
        start=start,
        earlier=max(0, start - _SHOWN) if start else None,
        later=start + _SHOWN if len(items) > start + _SHOWN else None,
        is_full=len(everything) >= _MOST,
        question=question,
        is_chosen=is_chosen,
        answered=was,
        receipt=receipt,
        can_answer=who.may(Permission.ANSWER),
        **{"trouble": None, "field": "", "wrong": "", **values},
    )


async def next_of(here: Serving, who: Principal, view: str, after: Request) -> str | None:
    """The id of the request that comes after one in a list; the first one when it was the last."""
    mine, everything = await _waiting(here, who)
    items = [one for one in (everything if view == "all" else mine) if one.id != after.id]
    following = [one for one in items if urgency(one) >= urgency(after)]
    for one in (*following, *items):
        if not await answering.blocked(here, who, one):
            return one.id
    return None


async def _waiting(here: Serving, who: Principal) -> tuple[list[Request], list[Request]]:
    """The open requests that this person could answer, and all that this person sees; the most urgent first."""
    found: list[Request] = []
    cursor: str | None = None
    while len(found) < _MOST:
        page = await list_requests(here, who, RequestFilter(True), _limits.PAGE_SIZE, cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    found.sort(key=urgency)
    return [one for one in found if answering.could_answer(who, one)], found


async def _done(here: Serving, who: Principal) -> list[Request]:
    """What people decided last, newest first."""
    found: dict[str, Request] = {}
    before: int | None = None
    for _ in range(5):
        entries = here.books.audit(before=before, limit=_limits.PAGE_SIZE)
        for entry in entries:
            if entry.request_id is not None and entry.action in ("request.vote", "request.respond"):
                request = found.get(entry.request_id) or await _known(here, who, entry.request_id)
                if request is not None:
                    found[entry.request_id] = request
        if len(entries) < _limits.PAGE_SIZE or len(found) >= _SHOWN:
            break
        before = entries[-1].number
    return list(found.values())[:_SHOWN]


async def _known(here: Serving, who: Principal, request_id: str | None) -> Request | None:
    if request_id is None:
        return None
    try:
        return await find_request(here, who, request_id)
    except (RequestNotFoundError, OSProtocolError):
        return None


# ------------------------------------------------------------------------------------------------- many at once


@router.post("/inbox/bulk")
async def decide_many(http: HttpRequest, here: Here, who: Answerer) -> Response:
    """Decide many approvals: first all of them are shown once more, then each gets its own result."""
    form = await http.form()
    picks = [str(value).partition(" ")[::2] for value in form.getlist("pick")][: _limits.PAGE_SIZE]
    decision, reason = str(form.get("decision", "")), str(form.get("reason", ""))
    view = "all" if form.get("view") == "all" else "mine"
    if decision not in ("approve", "reject") or not picks:
        problem = "Choose at least one request." if not picks else "Say whether to approve or to reject."
        return await show(http, here, who, view, None, status=422, trouble=problem)
    if not form.get("confirmed"):
        known = [(await _known(here, who, request_id), seen) for request_id, seen in picks]
        chosen = [(await question_of(here, who, one), seen) for one, seen in known if one is not None]
        return await render(
            http, "decide_many.html", chosen=chosen, decision=decision, reason=reason, view=view, results=None
        )
    given = [(one, Answer(decision, seen, reason, {})) for one, seen in picks]
    results = [await _decide(here, who, request_id, answer) for request_id, answer in given]
    return await render(
        http, "decide_many.html", chosen=[], decision=decision, reason=reason, view=view, results=results
    )


async def _decide(here: Serving, who: Principal, request_id: str, given: Answer) -> Result:
    request: Request | None = None
    try:
        request = await find_request(here, who, request_id)
        request = await answering.answer(here, who, request, given)
    except OSProtocolError as error:
        return Result(request, request_id, False, str(error))
    is_open = request.status == "open"
    return Result(
        request, request_id, True, "Your vote counts; others have to vote too" if is_open else receipt(request)
    )
