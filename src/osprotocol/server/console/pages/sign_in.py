"""Signing in by password or by a link that works once, and signing out."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from osprotocol.errors import NotPermittedError, OSProtocolError, TooManyRequestsError
from osprotocol.server import csrf
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.console.rendering import render
from osprotocol.server.console.routing import page_router, see
from osprotocol.server.identity import Gate, gate_of
from osprotocol.server.serving import Here, Serving

router = page_router()

_LOCAL_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*\Z")
_WRONG = "The name or the password is wrong."
_USED = "This link was used before, or it has expired. Ask for a new one, or use your password."


def local_path(text: object) -> str:
    """Where to go after signing in: a path of ours, never another site."""
    if isinstance(text, str) and len(text) <= 2_000 and _LOCAL_PATH.match(text) and not text.startswith("/sign-"):
        return text
    return "/"


@router.get("/sign-in", dependencies=[allow(Permission.PUBLIC)])
async def show_sign_in(request: Request) -> Response:
    """The form; with ``?code=`` a button that uses the link. Showing it changes nothing: scanners open links too."""
    there = local_path(request.query_params.get("next"))
    code = request.query_params.get("code", "")[:200]
    if not code:
        if await gate_of(request).still(request) is not None:
            return see(there)
        if request.headers.get("sec-fetch-site") == "cross-site" and "again" not in request.query_params:
            # Whoever follows a link from another site comes without the strict cookie; asking once more from a page
            # of ours brings it along.
            again = f"/sign-in?{urlencode({'next': there, 'again': 1})}"
            return await _page(request, there, headers={"Refresh": f"0; url={again}"})
    return await _page(request, there, code=code)


@router.post("/sign-in", dependencies=[allow(Permission.PUBLIC)])
async def sign_in(request: Request, here: Here) -> Response:
    """Sign in; the browser gets a new session."""
    csrf.check_from_our_page(request)
    form = await request.form(max_files=0, max_fields=10)
    there, code = local_path(form.get("next")), str(form.get("code", ""))[:200]
    name, password = str(form.get("name", ""))[:200].strip(), str(form.get("password", ""))
    try:
        who = await (_by_link(request, here, code) if code else _by_password(request, here, name, password))
    except TooManyRequestsError as error:
        return await _page(
            request, there, code=code, name=name, error=error, status=429,
            headers={"Retry-After": str(error.retry_after_s)},
        )  # fmt: skip
    if who is None:
        return await _page(request, there, name=name, problem=_USED if code else _WRONG, status=401)
    response = see(there)
    await gate_of(request).sessions.open(request, response, who)
    await here.books.note("session.open", who, "link" if code else "password")
    return response


@router.post("/sign-out")
async def sign_out(request: Request, here: Here, who: Annotated[Principal, allow(Permission.OWN)]) -> RedirectResponse:
    """End the session; its live streams close."""
    if who.session is None:
        raise NotPermittedError(who.name, "sign out", "a token is revoked by 'osp token revoke' or in the settings")
    response = see("/sign-in")
    await gate_of(request).sessions.close(request, response)
    await here.books.note("session.close", who.name, who.via)
    return response


async def _by_link(request: Request, here: Serving, code: str) -> str | None:
    gate = gate_of(request)
    gate.throttle.begin_link(gate.address(request))
    user = await here.books.use_link(code)
    return None if user is None else user.name


async def _by_password(request: Request, here: Serving, name: str, password: str) -> str | None:
    gate: Gate = gate_of(request)
    address = gate.address(request)
    gate.throttle.begin_sign_in(address, name)
    user = here.books.find_user(name)
    usable = user is not None and not user.disabled
    is_right = await gate.passwords.verify(password, here.books.password_hash_of(name) if usable else None)
    if is_right and user is not None:
        gate.throttle.signed_in(address, name)
        return user.name
    if user is not None and gate.throttle.notes_failure():
        # Of a name that nobody has nothing is written: people type passwords into the wrong field.
        await here.books.note("session.fail", user.name, "password", {"address": address})
    return None


async def _page(
    request: Request,
    there: str,
    *,
    code: str = "",
    name: str = "",
    problem: str = "",
    error: OSProtocolError | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    said = problem or ("" if error is None else str(error).capitalize() + ".")
    return await render(
        request, "sign_in.html", status=status, headers=headers, next=there, code=code, name=name, problem=said
    )
