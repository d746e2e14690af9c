"""People: who is asking, users, tokens and the audit log."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import Response

from osprotocol import _limits
from osprotocol import errors as e
from osprotocol._json import digest
from osprotocol._lifecycle.people import identity
from osprotocol.protocol._wire import GivenInstant, Wire
from osprotocol.protocol.events import Page
from osprotocol.protocol.http import AuditEntry, Me, TokenInfo, UserInfo
from osprotocol.server.access import Permission, Principal, Role, allow
from osprotocol.server.identity import acting_as, gate_of
from osprotocol.server.openapi import POSTING, READING, answers
from osprotocol.server.redaction import redact
from osprotocol.server.replies import Answer, Call, json_of, once, reply, reply_items, takes
from osprotocol.server.routes import api_router
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import find_run

if TYPE_CHECKING:
    from osprotocol._embedded.books import Token

router = api_router("people")

Anybody = Annotated[Principal, allow(Permission.OWN)]
Keeper = Annotated[Principal, allow(Permission.PEOPLE)]
Auditor = Annotated[Principal, allow(Permission.AUDIT)]
RoleName = Literal["viewer", "operator", "approver", "admin"]


class NewUserBody(Wire):
    """Let a person sign in.

    Attributes:
        password: for signing in; without one the person needs a sign-in link or a token.
    """

    name: str = Field(min_length=1, max_length=_limits.NAME_CHARACTERS)
    roles: tuple[RoleName, ...] = Field(min_length=1)
    password: str | None = Field(default=None, repr=False)


class ChangeUserBody(Wire):
    """Change what is given."""

    roles: tuple[RoleName, ...] | None = Field(default=None, min_length=1)
    password: str | None = Field(default=None, repr=False)
    disabled: bool | None = None


class NewTokenBody(Wire):
    """Make a token.

    Attributes:
        label: what it is for.
        user: for whom it acts; left out, for whoever asks.
        roles: at most those of the person; left out, all of whoever asks.
        workflows: the only ones whose runs are there for it; left out, as for whoever asks.
        expires_at: from when on it is refused; left out, never.
    """

    label: str = ""
    user: str | None = None
    roles: tuple[RoleName, ...] | None = Field(default=None, min_length=1)
    workflows: tuple[str, ...] | None = None
    expires_at: GivenInstant | None = None


class NewToken(TokenInfo):
    """A token that was just made.

    Attributes:
        secret: what a program sends as ``Authorization: Bearer``. Shown once: a repeated request gets null.
    """

    secret: str | None = None


class AuditCheck(Wire):
    """What became of checking the audit log.

    Attributes:
        ok: every record is as it was written.
        broken: number of the first record that is not.
        number, hash: of the newest record; noted elsewhere, they show later whether the end was cut off.
    """

    ok: bool
    broken: int | None = None
    number: int
    hash: str


B = TypeVar("B", NewUserBody, ChangeUserBody)


@router.get("/me", responses=answers(Me, *READING))
async def show_me(who: Anybody) -> Response:
    """Who is asking."""
    roles = tuple(role.value for role in Role if role in who.roles)
    workflows = None if who.workflows is None else tuple(sorted(who.workflows))
    return reply(Me(name=who.name, roles=roles, via=who.via, workflows=workflows))


# -------------------------------------------------------------------------- users


@router.get("/users", responses=answers(Page[UserInfo], *READING))
async def list_users(here: Here, who: Keeper) -> Response:
    """Everybody who may sign in, by name."""
    return reply_items(user.info for user in here.books.users())


@router.post(
    "/users", status_code=201, responses=answers(UserInfo, *POSTING, e.InvalidNameError, e.UserExistsError, status=201)
)
async def add_user(
    request: Request, here: Here, who: Keeper, call: Annotated[Call[NewUserBody], takes(NewUserBody)]
) -> Response:
    """Let a person sign in."""
    body = call.body
    if "/" in body.name:
        raise e.InvalidNameError("name of a user", body.name[:40], "it has a slash, which is no part of a path")

    async def act(key: str | None) -> Answer:
        hashed = None if body.password is None else await gate_of(request).passwords.hash(body.password)
        user = await here.books.add_user(body.name, body.roles, password_hash=hashed, by=who.name)
        return Answer(json_of(user.info), 201)

    return await once(here, who, _without_password(call), act, _again(lambda: _user(here, body.name, 201)))


@router.patch("/users/{name}", responses=answers(UserInfo, *POSTING, e.UserNotFoundError))
async def change_user(
    name: str,
    request: Request,
    here: Here,
    who: Keeper,
    call: Annotated[Call[ChangeUserBody], takes(ChangeUserBody)],
) -> Response:
    """Change a person's roles or password, or refuse or admit the person again. It holds at once, for streams too."""
    body = call.body

    async def act(key: str | None) -> Answer:
        hashed = None if body.password is None else await gate_of(request).passwords.hash(body.password)
        user = await here.books.change_user(
            name, roles=body.roles, password_hash=hashed, disabled=body.disabled, by=who.name, keep_an_admin=True
        )
        gate_of(request).changed()
        return Answer(json_of(user.info))

    return await once(here, who, _without_password(call), act, _again(lambda: _user(here, name, 200)))


async def _user(here: Serving, name: str, status: int) -> Answer:
    user = here.books.find_user(name)
    if user is None:
        raise e.UserNotFoundError(name[:40])
    return Answer(json_of(user.info), status)


def _again(answer: Callable[[], Awaitable[Answer]]) -> Callable[[str | None], Awaitable[Answer]]:
    async def again(run_id: str | None) -> Answer:
        return await answer()

    return again


def _without_password(call: Call[B]) -> Call[B]:
    """The digest of a request is kept; one that covers a password would help to guess it."""
    return dataclasses.replace(call, digest=digest(call.body.model_dump_json(exclude={"password"}).encode()))


# ------------------------------------------------------------------------- tokens


@router.get("/tokens", responses=answers(Page[TokenInfo], *READING))
async def list_tokens(
    here: Here,
    who: Anybody,
    user: Annotated[str | None, Query(max_length=_limits.NAME_CHARACTERS)] = None,
    everybody: bool = False,
) -> Response:
    """One's own tokens; with the role admin also those of another person, or everybody's. Oldest first."""
    if everybody or (user is not None and identity(user) != identity(who.name)):
        who.check(Permission.PEOPLE)
        found = here.books.tokens(None if everybody else user)
    else:
        found = own_tokens(here, who)
    return reply_items(token.info for token in found)


def own_tokens(here: Serving, who: Principal) -> list[Token]:
    """The tokens of a principal's person; of one that is limited to some workflows, that token alone."""
    found = here.books.tokens(who.name)
    return found if who.workflows is None else [token for token in found if who.via == f"token {token.id}"]


@router.post(
    "/tokens",
    status_code=201,
    responses=answers(NewToken, *POSTING, e.InvalidNameError, e.UserNotFoundError, status=201),
)
async def add_token(here: Here, who: Anybody, call: Annotated[Call[NewTokenBody], takes(NewTokenBody)]) -> Response:
    """Make a token for oneself, with at most the rights that one has here; with the role admin also for others.

    Its secret is in this answer and nowhere else, not even for a repeated request with the same Idempotency-Key.
    """
    body = call.body
    check_new_token(who, body)
    secrets: list[str] = []

    async def act(key: str | None) -> Answer:
        token, secret = await here.books.add_token(
            body.user or who.name,
            body.label,
            body.roles or tuple(who.roles),
            workflows=who.workflows if body.workflows is None else body.workflows,
            expires_at=body.expires_at,
            by=who.name,
        )
        secrets.append(secret)
        return Answer(json_of(NewToken(**dict(token.info))), 201)

    async def again(run_id: str | None) -> Answer:
        raise e.DuplicateRequestError(call.key or "", "made a token whose answer was lost; revoke that one")

    answered = await once(here, who, call, act, again)
    if secrets:
        made = NewToken.model_validate_json(bytes(answered.body))
        return reply(made.model_copy(update={"secret": secrets[0]}), 201)
    return answered


def check_new_token(who: Principal, body: NewTokenBody) -> None:
    """Refuse a token with more rights than those of whoever makes it.

    Raises:
        NotPermittedError: it would have more.
    """
    is_own = body.user is None or identity(body.user) == identity(who.name)
    if not is_own or who.session is None:
        # A token that leaked must not make others that live longer.
        who.check(Permission.PEOPLE)
    roles = {Role(name) for name in body.roles or ()}
    if is_own and not roles <= who.roles:
        raise e.NotPermittedError(who.name, "make a token with roles that are not their own here")
    if not is_own and (body.roles is None or Role.APPROVER in roles):
        raise e.NotPermittedError(
            who.name,
            "make a token that votes for somebody else",
            "say which other roles it has, or let that person make it",
        )
    if who.workflows is not None and not set(body.workflows or who.workflows) <= who.workflows:
        raise e.NotPermittedError(who.name, "make a token for workflows that it does not see itself")


@router.delete(
    "/tokens/{token_id}", status_code=204, responses=answers(None, *READING, e.TokenNotFoundError, status=204)
)
async def revoke_token(token_id: str, request: Request, here: Here, who: Anybody) -> Response:
    """Refuse a token from now on: one's own or, with the role admin, anybody's. Its open streams close."""
    is_own = any(token.id == token_id for token in own_tokens(here, who))
    if not is_own and not who.may(Permission.PEOPLE):
        raise e.TokenNotFoundError(token_id[:40])
    with acting_as(who):
        await here.books.revoke_token(token_id, by=who.name)
    gate_of(request).changed()
    return Response(status_code=204)


# -------------------------------------------------------------------------- audit


@router.get("/audit", responses=answers(Page[AuditEntry], *READING))
async def list_audit(
    here: Here,
    who: Auditor,
    by: Annotated[str | None, Query(max_length=_limits.NAME_CHARACTERS)] = None,
    run: Annotated[str | None, Query(max_length=_limits.ID_CHARACTERS)] = None,
    request: Annotated[str | None, Query(max_length=_limits.ID_CHARACTERS)] = None,
    before: Annotated[int | None, Query(ge=1, le=2**53, description="Only records with a lower number.")] = None,
    limit: Annotated[int, Query(ge=1, le=_limits.PAGE_SIZE)] = _limits.PAGE_SIZE_DEFAULT,
) -> Response:
    """What people did, newest first. ``nextCursor`` is the ``before`` of the next page."""
    entries, following = await read_audit(here, who, by=by, run=run, request=request, before=before, limit=limit)
    return reply_items(entries, None if following is None else str(following))


async def read_audit(
    here: Serving,
    who: Principal,
    *,
    by: str | None = None,
    run: str | None = None,
    request: str | None = None,
    before: int | None = None,
    limit: int = _limits.PAGE_SIZE_DEFAULT,
) -> tuple[list[AuditEntry], int | None]:
    """The records that a principal sees, and the ``before`` of the next page; a page may have fewer than `limit`.

    A principal that sees some workflows only sees what was done to runs of those.
    """
    of_run = run or (request.rpartition("-")[0] if request is not None else None)
    if who.workflows is not None and of_run is not None and not await _is_there(here, who, of_run):
        return [], None  # as of a run that there never was: no cursor that tells of records
    entries = here.books.audit(by=by, run=run, request=request, before=before, limit=limit)
    following = entries[-1].number if len(entries) == limit else None
    if who.workflows is not None:
        runs = {entry.run_id for entry in entries}
        there = {run_id for run_id in runs if run_id is not None and await _is_there(here, who, run_id)}
        entries = [entry for entry in entries if entry.run_id in there]
    return [_clean(entry) for entry in entries], following


async def _is_there(here: Serving, who: Principal, run_id: str) -> bool:
    try:
        await find_run(here, who, run_id)
    except e.RunNotFoundError:
        return False
    return True


def _clean(entry: AuditEntry) -> AuditEntry:
    detail = redact(entry.detail, fully=False)
    return entry if detail is entry.detail else entry.model_copy(update={"detail": detail})


@router.get("/audit/verify", responses=answers(AuditCheck, *READING, e.InvalidOptionError))
async def verify_audit(
    here: Here,
    who: Auditor,
    head: Annotated[str | None, Query(max_length=100, description="``NUMBER:HASH`` as it was noted before.")] = None,
) -> Response:
    """Check that every record of the audit log is as it was written."""
    noted: tuple[int, str] | None = None
    if head is not None:
        number, _, hashed = head.partition(":")
        if not (number.isdecimal() and number.isascii() and len(number) < 16 and hashed):
            raise e.InvalidOptionError("head", "must be NUMBER:HASH, as in the answer of an earlier check")
        noted = int(number), hashed
    newest = here.books.audit_head()
    broken = await here.books.verify_audit(noted)
    return reply(AuditCheck(ok=broken is None, broken=broken, number=newest[0], hash=newest[1]))
