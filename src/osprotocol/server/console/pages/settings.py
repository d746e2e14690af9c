"""Settings: who am I, my tokens, the theme, the keys; for admins also people."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from osprotocol.errors import InvalidOptionError, NotPermittedError, OSProtocolError
from osprotocol.server.access import GRANTS, Permission, Principal, Role, allow
from osprotocol.server.console.rendering import THEME_COOKIE, Given, now, render
from osprotocol.server.console.routing import page_router, see
from osprotocol.server.identity import acting_as, gate_of
from osprotocol.server.routes.people import ChangeUserBody, NewTokenBody, check_new_token, own_tokens
from osprotocol.server.serving import Here, Serving
from osprotocol.server.sessions import LINK

router = page_router()

Anybody = Annotated[Principal, allow(Permission.OWN)]
Keeper = Annotated[Principal, allow(Permission.PEOPLE)]
LIFETIMES = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year", "": "no end"}
_YEAR_S = 365 * 86_400


@router.get("/settings")
async def settings_page(request: Request, here: Here, who: Anybody) -> HTMLResponse:
    """What a person can set."""
    return await _page(request, here, who)


async def _page(
    request: Request,
    here: Serving,
    who: Principal,
    *,
    problem: OSProtocolError | None = None,
    area: str = "",
    values: dict[str, Any] | None = None,
    secret: str | None = None,
    link: tuple[str, str] | None = None,
) -> HTMLResponse:
    is_keeper = who.may(Permission.PEOPLE)
    return await render(
        request,
        "settings.html",
        status=200 if problem is None else problem.http_status,
        headers={"Cache-Control": "no-store"},
        problem=problem,
        area=area,
        values=Given(values or {}),
        roles=[role.value for role in Role],
        own_roles=[role.value for role in Role if role in who.roles],
        grants={role.value: sorted(one.value for one in GRANTS[role] - GRANTS[Role.VIEWER]) for role in Role},
        tokens=list(reversed(here.books.tokens() if is_keeper else own_tokens(here, who))),
        is_keeper=is_keeper,
        users=here.books.users() if is_keeper else [],
        lifetimes=LIFETIMES,
        secret=secret,
        link=link,
        has_password=here.books.password_hash_of(who.name) is not None,
        address=str(here.settings.public_url or request.base_url).rstrip("/"),
    )


@router.post("/settings/theme")
async def choose_theme(request: Request, who: Anybody) -> Response:
    """Light, dark, or as the system says; kept in this browser."""
    chosen = str((await request.form(max_files=0)).get("theme", ""))
    response = see("/settings?done=saved#theme")
    secure = request.url.scheme == "https"
    if chosen in ("light", "dark"):
        response.set_cookie(THEME_COOKIE, chosen, max_age=_YEAR_S, samesite="strict", httponly=True, secure=secure)
    else:
        response.delete_cookie(THEME_COOKIE, samesite="strict", httponly=True, secure=secure)
    return response


@router.post("/settings/password")
async def choose_password(request: Request, here: Here, who: Anybody) -> Response:
    """Choose one's own password; whoever has one has to know it. It signs out everywhere else."""
    form = await request.form(max_files=0, max_fields=10)
    gate, address = gate_of(request), gate_of(request).address(request)
    try:
        if who.session is None:
            raise NotPermittedError(who.name, "choose a password with a token", "sign in with a browser")
        gate.throttle.begin_sign_in(address, who.name)
        known = here.books.password_hash_of(who.name)
        if known is not None and not await gate.passwords.verify(str(form.get("current", "")), known):
            raise InvalidOptionError("current password", "is not the one that you have")
        gate.throttle.signed_in(address, who.name)
        chosen = str(form.get("password", ""))
        if chosen != str(form.get("again", "")):
            raise InvalidOptionError("password", "is not the same in both fields")
        hashed = await gate.passwords.hash(chosen)
        with acting_as(who):
            await here.books.change_user(who.name, password_hash=hashed, by=who.name)
    except OSProtocolError as error:
        return await _page(request, here, who, problem=error, area="password")
    gate.changed()
    response = see("/settings?done=saved#password")
    await gate.sessions.open(request, response, who.name)  # the password ended all sessions, this one too
    return response


# --------------------------------------------------------------------------- tokens


@router.post("/settings/tokens")
async def add_token(request: Request, here: Here, who: Anybody) -> HTMLResponse:
    """Make a token for oneself. Its secret is on the page that answers, once."""
    form = await request.form(max_files=0)
    label, days = str(form.get("label", "")).strip(), str(form.get("days", "30"))
    workflows = tuple(name.strip() for name in str(form.get("workflows", "")).split(",") if name.strip())
    roles = tuple(str(role) for role in form.getlist("role"))
    values = {"label": label, "days": days, "workflows": ", ".join(workflows), "role": roles}
    try:
        if not label:
            raise InvalidOptionError("label", "say what the token is for")
        if not roles or not set(roles) <= {role.value for role in Role}:
            raise InvalidOptionError("roles", "choose at least one of your roles")
        if days not in LIFETIMES:
            raise InvalidOptionError("expires", "choose one of the offered times")
        expires_at = now(request) + timedelta(days=int(days)) if days else None
        body = NewTokenBody.model_validate(
            {"label": label, "roles": roles, "workflows": workflows or None, "expires_at": expires_at}
        )
        check_new_token(who, body)
        only = who.workflows if body.workflows is None else body.workflows
        with acting_as(who):
            _, secret = await here.books.add_token(
                who.name, label, roles, workflows=only, expires_at=expires_at, by=who.name
            )
    except OSProtocolError as error:
        return await _page(request, here, who, problem=error, area="token", values=values)
    return await _page(request, here, who, secret=secret)


@router.post("/settings/tokens/{token_id}/revoke")
async def revoke_token(token_id: str, request: Request, here: Here, who: Anybody) -> Response:
    """Refuse a token from now on: one's own or, for admins, anybody's."""
    is_own = any(token.id == token_id for token in own_tokens(here, who))
    if not is_own and not who.may(Permission.PEOPLE):
        raise InvalidOptionError("token", f"you have none with the id {token_id[:40]!r}")
    with acting_as(who):
        await here.books.revoke_token(token_id, by=who.name)
    gate_of(request).changed()
    return see("/settings?done=revoked#tokens")


# --------------------------------------------------------------------------- people


@router.post("/settings/users")
async def add_user(request: Request, here: Here, who: Keeper) -> Response:
    """Let a person sign in; the page that answers has a link that signs the person in once."""
    form = await request.form(max_files=0)
    name, roles = str(form.get("name", "")).strip(), [str(role) for role in form.getlist("role")]
    try:
        if not roles:
            raise InvalidOptionError("roles", "choose at least one")
        if "/" in name:
            raise InvalidOptionError("name", "has a slash, which is no part of a path")
        with acting_as(who):
            user = await here.books.add_user(name, roles, by=who.name)
    except OSProtocolError as error:
        return await _page(request, here, who, problem=error, area="user", values={"name": name, "role": roles})
    return await _with_link(request, here, who, user.name)


@router.post("/settings/users/{name}")
async def change_user(name: str, request: Request, here: Here, who: Keeper) -> Response:
    """Change a person's roles, refuse or admit the person, or make a sign-in link."""
    form = await request.form(max_files=0)
    action, roles = str(form.get("action", "")), [str(role) for role in form.getlist("role")]
    try:
        if here.books.find_user(name) is None:
            raise InvalidOptionError("user", f"there is none named {name[:40]!r}")
        if action == "link":
            return await _with_link(request, here, who, name)
        disabled = {"disable": True, "enable": False}.get(action)
        if disabled is None and (not roles or not set(roles) <= {role.value for role in Role}):
            raise InvalidOptionError("roles", "choose at least one of the roles")
        change = ChangeUserBody.model_validate({"roles": roles if disabled is None else None, "disabled": disabled})
        with acting_as(who):
            await here.books.change_user(name, roles=change.roles, disabled=disabled, by=who.name, keep_an_admin=True)
    except OSProtocolError as error:
        return await _page(request, here, who, problem=error, area="people")
    gate_of(request).changed()
    return see("/settings?done=saved#people")


async def _with_link(request: Request, here: Serving, who: Principal, name: str) -> HTMLResponse:
    with acting_as(who):
        code = await here.books.open_link(name, now(request) + LINK, by=who.name)
    address = str(here.settings.public_url or request.base_url).rstrip("/")
    return await _page(request, here, who, link=(name, f"{address}/sign-in?code={quote(code)}"))
