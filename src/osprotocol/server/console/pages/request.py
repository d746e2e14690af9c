"""One request: what is asked, what each answer means, and answering it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse, Response

from osprotocol.errors import (
    InvalidAnswerError,
    NotPermittedError,
    OSProtocolError,
    RequestClosedError,
    RequestError,
    RequestNotFoundError,
    StaleRequestError,
    UsageError,
    VoteConflictError,
)
from osprotocol.protocol.request import Request
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.console import answering
from osprotocol.server.console.answering import Answer, question_of, receipt
from osprotocol.server.console.entries import Entries
from osprotocol.server.console.pages import inbox
from osprotocol.server.console.rendering import render
from osprotocol.server.console.routing import page_router, see
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import find_request

router = page_router()


@router.get("/requests/{request_id}")
async def request_page(
    request_id: str, http: HttpRequest, here: Here, who: Annotated[Principal, allow(Permission.READ)]
) -> HTMLResponse:
    """A request by its address, for links in messages."""
    return await _show(http, here, who, await find_request(here, who, request_id), "request")


@router.post("/requests/{request_id}/answer")
async def answer_request(
    request_id: str, http: HttpRequest, here: Here, who: Annotated[Principal, allow(Permission.ANSWER)]
) -> Response:
    """Take an answer for the revision that the form was made for; anything else comes back with what was typed."""
    asked = await find_request(here, who, request_id)
    form = await http.form()
    entries: dict[str, list[str]] = {}
    for name, text in form.multi_items():
        if isinstance(text, str):
            entries.setdefault(name, []).append(text)
    viewed = bool(_one(entries, "viewed"))
    given = Answer(_one(entries, "decision"), _one(entries, "seen"), _one(entries, "reason"), entries, viewed)
    came_from = _one(entries, "from")
    changed = given.edit(asked)
    if changed is not None:
        if given.seen != asked.seen:
            error: OSProtocolError = StaleRequestError(asked.run_id, asked.id, given.seen[:90], asked.seen)
            return await _refused(http, here, who, asked, given, came_from, error)
        return await _show(http, here, who, asked, came_from, given=given, entries=changed[0], status=200)
    if given.decision == "approve" and not given.viewed and asked.status == "open" and given.seen == asked.seen:
        folded = answering.folded_of(asked)
        if folded:
            trouble = f"Folded, and not opened: {folded}. Open it, or say that you have seen all of it; then approve."
            field = f"viewed-{asked.id}"
            return await _show(http, here, who, asked, came_from, given=given, status=422, trouble=trouble, field=field)
    try:
        after = await answering.answer(here, who, asked, given)
    except (RequestError, NotPermittedError, UsageError) as error:
        return await _refused(http, here, who, asked, given, came_from, error)
    return await _thanks(here, who, after, came_from)


def _one(entries: dict[str, list[str]], name: str) -> str:
    return entries.get(name, [""])[0]


async def _thanks(here: Serving, who: Principal, after: Request, came_from: str) -> Response:
    """Where the answer leads: back to the run, on to the next request, or to the receipt."""
    if came_from == "run":
        return see(f"/runs/{quote(after.run_id, safe='')}?done=answered")
    if came_from in ("mine", "all"):
        following = await inbox.next_of(here, who, came_from, after)
        place = {"view": came_from, **({"at": following} if following else {}), "was": after.id}
        return see(f"/inbox?{urlencode(place)}")
    return see(f"/requests/{quote(after.id, safe='')}?done=answered")


async def _refused(
    http: HttpRequest,
    here: Serving,
    who: Principal,
    asked: Request,
    given: Answer,
    came_from: str,
    error: OSProtocolError,
) -> HTMLResponse:
    """The request as it is now, why the answer did not count, and what was typed."""
    now = await find_request(here, who, asked.id)
    if isinstance(error, RequestNotFoundError):
        raise error
    problems = error.problems if isinstance(error, InvalidAnswerError) else ()
    return await _show(
        http, here, who, now, came_from,
        given=given, entries=given.entries, problems=problems, status=error.http_status,
        trouble=None if problems else _in_words(error, now, who),
    )  # fmt: skip


def _in_words(error: OSProtocolError, now: Request, who: Principal) -> str:
    match error:
        case RequestClosedError() | VoteConflictError() if answering.has_answered(who, now):
            return f"You answered this already, in another tab perhaps. {receipt(now)}; this answer changed nothing."
        case StaleRequestError():
            return (
                "This request changed after your page was loaded, so your answer was not recorded. "
                "Below is what is asked now: read it, then answer again."
            )
        case RequestClosedError():
            return f"{receipt(now)}. Your answer came later and changed nothing."
        case _:
            text = str(error).removeprefix(f"request {now.id}: ")
            return f"Your answer was not recorded: {text}."


async def _show(
    http: HttpRequest,
    here: Serving,
    who: Principal,
    request: Request,
    came_from: str,
    *,
    given: Answer | None = None,
    entries: Entries | None = None,
    problems: tuple[tuple[str, str], ...] = (),
    status: int = 200,
    trouble: str | None = None,
    field: str = "",
) -> HTMLResponse:
    # An attention request is answered by a button alone; its box stays empty unless a value was typed.
    question = await question_of(
        here, who, request, entries=entries, problems=problems, reason="" if given is None else given.reason
    )
    if came_from in ("mine", "all"):
        return await inbox.show(http, here, who, came_from, question, status=status, trouble=trouble, field=field)
    return await render(
        http, "request.html", status=status, question=question, trouble=trouble, field=field,
        came_from=came_from or "request",
    )  # fmt: skip
