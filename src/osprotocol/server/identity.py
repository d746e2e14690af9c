"""Who is asking: a bearer token or a browser's session becomes a `Principal`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi import Request

from osprotocol import _limits
from osprotocol._clock import Clock
from osprotocol._ids import Ids
from osprotocol._lifecycle.people import identity
from osprotocol.engine import Acting, acting
from osprotocol.errors import NotPermittedError, NotSignedInError, RunNotFoundError
from osprotocol.protocol.request import Request as Question
from osprotocol.server import csrf
from osprotocol.server.access import Principal, Role
from osprotocol.server.passwords import Passwords
from osprotocol.server.sessions import Revocations, Sessions
from osprotocol.server.throttle import Throttle, address_of

if TYPE_CHECKING:
    from osprotocol._embedded.books import Token
    from osprotocol.server.serving import Serving

_KEY = "server_key"
_TOKEN_CHARACTERS = 200
_STARTS = frozenset(("run.start", "run.retry", "run.fork"))
_FAMILY = 1_000


class Gate:
    """Knows everybody who asks. One for a server; a route reaches it with `gate_of`.

    Attributes:
        clock: the time by which sessions end.
        revocations: changes whenever somebody's rights did, see `still`.
        sessions: the signed-in browsers.
        throttle: who asked how often.
        passwords: checks them.
    """

    def __init__(self, serving: Serving, throttle: Throttle | None = None) -> None:
        self._serving = serving
        self._key: bytes | None = None
        self.clock: Clock = serving.books._engine.clock
        self.throttle = throttle or Throttle()
        self.passwords = Passwords()
        self.revocations = Revocations()
        self.sessions = Sessions(serving.books, serving.settings, self.clock, self.revocations)

    async def identify(self, request: Request) -> Principal | None:
        """Who asks; None when neither a token nor a session was sent.

        Raises:
            NotSignedInError: the token is not good.
            NotPermittedError: a change came with a cookie but without the token of our own page.
            TooManyRequestsError: asked too often.
        """
        try:
            # What changes something is not done for a session that another process has just closed.
            principal = await self._find(request, fresh=request.method not in csrf.SAFE_METHODS)
        except NotSignedInError:
            self._count_stranger(request)
            raise
        if principal is None:
            if self.sessions.cookie_name(request) in request.cookies:
                self._count_stranger(request)
            return None
        counted = principal.via if principal.session is None else principal.name
        self.throttle.check_request(counted, request.method, request.url.path)
        if principal.session is not None:
            request.state.csrf = csrf.make_token(await self._server_key(), principal.session)
            if request.method not in csrf.SAFE_METHODS:
                await csrf.check_token(request, request.state.csrf)
        return principal

    async def still(self, request: Request) -> Principal | None:
        """Who asks, asked again while a stream is open, without the memory of the last second; None when no longer.

        Call it every 30 s, and whenever ``revocations.wait(generation)`` returns.
        """
        try:
            return await self._find(request, fresh=True)
        except NotSignedInError:
            return None

    def changed(self) -> None:
        """Somebody's rights changed: streams ask again at once. Call it after a change of people or tokens."""
        self.revocations.announce()

    def address(self, request: Request) -> str:
        """Where a request came from, as limits count it."""
        return address_of(request.scope, self._serving.settings.public_url is not None)

    async def _find(self, request: Request, *, fresh: bool) -> Principal | None:
        authorizations = request.headers.getlist("authorization")
        if authorizations:
            return self._by_token(authorizations)
        session = await self.sessions.find(request, fresh=fresh)
        if session is None:
            return None
        return Principal(session.name, _roles(session.roles), "session", None, session.hash)

    def _count_stranger(self, request: Request) -> None:
        """What was sent opens nothing. What does open is never refused for the address that others use too.

        Raises:
            TooManyRequestsError: that address sent a lot of it.
        """
        address = self.address(request)
        self.throttle.check_stranger(address)
        self.throttle.stranger_failed(address)

    def _by_token(self, authorizations: list[str]) -> Principal:
        scheme, _, secret = authorizations[0].partition(" ")
        secret = secret.strip()
        token: Token | None = None
        if len(authorizations) == 1 and scheme.lower() == "bearer" and len(secret) <= _TOKEN_CHARACTERS:
            token = self._serving.books.find_token(secret)
        if token is None:
            raise NotSignedInError("the token is unknown, expired or revoked")
        workflows = None if token.workflows is None else frozenset(token.workflows)
        return Principal(token.user, _roles(token.roles), f"token {token.id}", workflows)

    async def _server_key(self) -> bytes:
        if self._key is None:
            text = await self._serving.books.set_setting(_KEY, Ids().secret(), only_new=True)
            self._key = text.encode()
        return self._key


def gate_of(request: Request) -> Gate:
    """The server's gate."""
    gate: Gate = request.app.state.identify.__self__
    return gate


def csrf_token(request: Request) -> str:
    """What a form's hidden field ``csrf`` and the header ``X-CSRF-Token`` have to carry; empty without a session."""
    token: str = getattr(request.state, "csrf", "")
    return token


@contextmanager
def acting_as(principal: Principal, reply_key: str | None = None, reply_digest: str = "") -> Iterator[None]:
    """Everything changed inside the block is done for a person, and recorded so in the same commit.

    Args:
        principal: the person.
        reply_key: scope and key of an ``Idempotency-Key``.
        reply_digest: of the request that the key came with.
    """
    mark = acting.set(Acting(principal.name, principal.via, reply_key, reply_digest))
    try:
        yield
    finally:
        acting.reset(mark)


def _roles(names: tuple[str, ...]) -> frozenset[Role]:
    return frozenset(Role(name) for name in names)


async def check_self_approval(serving: Serving, principal: Principal, asked: Question) -> None:
    """Refuse a vote on an approval of a run that the same person started.

    A run counts as started by whoever started, retried or forked it, or did so with its origin or one of its parents.
    Allowed all the same: with ``allow_self_approval``, when the approval names the person, and when nobody else could.

    Args:
        serving: the server.
        principal: who votes.
        asked: the approval.

    Raises:
        NotPermittedError: the person started the run.
    """
    person = identity(principal.name)
    named = {identity(name) for name in asked.approvers}
    if serving.settings.allow_self_approval or asked.kind != "approval" or person in named:
        return
    others = [user for user in serving.books.users() if identity(user.name) != person and not user.disabled]
    if not any(Role.APPROVER in user.roles for user in others):
        return
    async for run_id in _family(serving, asked.run_id):
        if _started(serving, run_id, person):
            raise NotPermittedError(
                principal.name,
                f"vote on request {asked.id}",
                f"run {run_id} was started by the same person; another approver decides, "
                f"or the server is started with --allow-self-approval",
            )


async def _family(serving: Serving, run_id: str) -> AsyncIterator[str]:
    """The run, and all runs from which it comes."""
    waiting, seen = [run_id], set[str]()
    while waiting and len(seen) < _FAMILY:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        try:
            snapshot = (await serving.client._engine.get(one)).read()
        except RunNotFoundError:
            continue  # it was deleted; the log still tells who started it
        origin = None if snapshot.origin is None else snapshot.origin.run_id
        waiting += [other for other in (snapshot.parent_id, origin) if other is not None]


def _started(serving: Serving, run_id: str, person: str) -> bool:
    before: int | None = None
    while True:
        entries = serving.books.audit(run=run_id, before=before, limit=_limits.PAGE_SIZE)
        if any(entry.action in _STARTS and identity(entry.by) == person for entry in entries):
            return True
        if len(entries) < _limits.PAGE_SIZE:
            return False
        before = entries[-1].number
