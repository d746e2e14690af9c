"""Requests with a body and their answers: strict JSON in and out, and each change done once for an Idempotency-Key."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from osprotocol import _limits
from osprotocol._json import decode, parse, problems_of
from osprotocol.engine import Update
from osprotocol.errors import DuplicateRequestError, InvalidOptionError, InvalidValueError, StoreError
from osprotocol.server.access import Principal
from osprotocol.server.guard import BODY_BYTES
from osprotocol.server.identity import acting_as
from osprotocol.server.serving import Serving

B = TypeVar("B", bound=BaseModel)

JSON = "application/json"
API = "/api/v1"
KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEPT_BYTES = 65_536
"""Of an answer; a larger one is not kept, so that many of them do not fill the database."""
_LEGIBLE = range(0x20, 0x7F)

_log = logging.getLogger("osprotocol.server")


# ----------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers: a status and JSON.

    Attributes:
        location: path of what was made.
    """

    body: bytes
    status: int = 200
    location: str | None = None

    def response(self, *, replayed: bool = False) -> Response:
        """It as an HTTP answer."""
        headers = {"Cache-Control": "no-store"}
        if self.location is not None:
            headers["Location"] = self.location
        if replayed:
            headers[REPLAYED_HEADER] = "true"
        return Response(self.body, self.status, headers, JSON)


def json_of(model: BaseModel) -> bytes:
    """The wire form of a shape."""
    return model.__pydantic_serializer__.to_json(model, by_alias=True)


def reply(model: BaseModel, status: int = 200) -> Response:
    """A shape as an HTTP answer."""
    return Answer(json_of(model), status).response()


def reply_items(items: Iterable[BaseModel], next_cursor: str | None = None) -> Response:
    """Some shapes as a page, with the cursor where the next one begins."""
    listed = b",".join(json_of(item) for item in items)
    return Answer(b'{"items":[%b],"nextCursor":%b}' % (listed, to_json(next_cursor))).response()


def detail_of(update: Update) -> bytes:
    """`RunDetail` of a run. The result goes out as it is stored, so that no number changes on the way."""
    requests = b",".join(json_of(request) for request in update.requests())
    result = b"null" if update.result is None else update.result.encode()
    return b'%b,"requests":[%b],"result":%b}' % (json_of(update.read())[:-1], requests, result)


# ------------------------------------------------------------------------ bodies


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """A request that changes something.

    Attributes:
        body: what was sent, checked.
        digest: of what was sent.
        target: method and path.
        key: its Idempotency-Key.
    """

    body: B
    digest: str
    target: str
    key: str | None


def takes(model: type[B], *, optional: bool = False) -> Any:
    """The dependency that gives a route its `Call`; an optional body may be left out."""

    async def read(request: Request) -> Call[B]:
        raw = await request.body()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if raw and kind != JSON:
            raise InvalidOptionError("Content-Type", f"must be {JSON}, not {kind or 'left out'}")
        if not (optional and not raw):
            parse(raw, "body", limit=BODY_BYTES)
        try:
            # Strictly, as JSON: "yes" is no boolean and "1" no number.
            body = model.model_validate_json(raw or b"{}", strict=True)
        except ValidationError as error:
            raise InvalidValueError("body", problems_of(error)) from None
        return Call(body, hashlib.sha256(raw).hexdigest(), f"{request.method} {request.url.path}", _key_of(request))

    read.body_model = model  # type: ignore[attr-defined]
    read.body_is_optional = optional  # type: ignore[attr-defined]
    return Depends(read)


def _key_of(request: Request) -> str | None:
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    if not 0 < len(key) <= _limits.IDEMPOTENCY_KEY_CHARACTERS or any(ord(one) not in _LEGIBLE for one in key):
        raise InvalidOptionError(
            KEY_HEADER, f"must be 1 to {_limits.IDEMPOTENCY_KEY_CHARACTERS} printable ASCII characters"
        )
    return key


# -------------------------------------------------------------------- idempotency

_under_way: dict[tuple[int, str], tuple[asyncio.Lock, int]] = {}


@asynccontextmanager
async def _alone(serving: Serving, scope: str) -> AsyncIterator[None]:
    """One request of a key at a time: the second waits for the answer of the first."""
    name = (id(serving.books), scope)
    lock, users = _under_way.get(name, (asyncio.Lock(), 0))
    _under_way[name] = (lock, users + 1)
    try:
        async with lock:
            yield
    finally:
        lock, users = _under_way.pop(name)
        if users > 1:
            _under_way[name] = (lock, users - 1)


async def once(
    here: Serving,
    who: Principal,
    call: Call[Any],
    act: Callable[[str | None], Awaitable[Answer]],
    again: Callable[[str | None], Awaitable[Answer]],
) -> Response:
    """Do something for somebody, and not a second time for the same Idempotency-Key.

    Args:
        here: the server.
        who: for whom.
        call: the request.
        act: does it; given the reply key, it answers.
        again: answers with the state as it is now when the change was made but its answer was lost, or too large to
            be kept; given the run.

    Survives a crash: that the change was made is known by its key from the same commit on.

    Raises:
        DuplicateRequestError: the key was used with another request.
    """
    if call.key is None:
        with acting_as(who):
            return (await act(None)).response()
    scope = "\n".join((who.name, call.target, call.key))
    limit = "" if who.workflows is None else ",".join(sorted(who.workflows))
    digest = hashlib.sha256(f"{call.digest}\n{limit}".encode()).hexdigest()
    async with _alone(here, scope):
        kept = here.books.find_reply(scope)
        if kept is None:
            try:
                with acting_as(who, scope, digest):
                    answer = await act(scope)
            except DuplicateRequestError:  # through another server of the same runs
                kept = here.books.find_reply(scope)
                if kept is None:
                    raise DuplicateRequestError(call.key) from None
            else:
                await _keep(here, scope, digest, answer)
                return answer.response()
        if kept.digest != digest:
            raise DuplicateRequestError(call.key, "was used before with another request")
        if kept.status is None or kept.body is None:
            answer = await again(kept.run)
            await _keep(here, scope, digest, answer)
        else:
            answer = _restored(kept.status, kept.body, call.target)
        return answer.response(replayed=True)


async def _keep(here: Serving, scope: str, digest: str, answer: Answer) -> None:
    try:
        body = answer.body.decode() if len(answer.body) <= KEPT_BYTES else None
        await here.books.keep_reply(scope, digest, answer.status, body)
    except StoreError as error:
        _log.warning("an answer could not be kept for its Idempotency-Key: %s", error)  # the change itself is


def _restored(status: int, text: str, target: str) -> Answer:
    location = None
    if status == 201:
        made = decode(text)
        if isinstance(made, dict) and isinstance(made.get("id"), str):
            place = "requests" if target.endswith("/requests") else "runs"
            location = f"{API}/{place}/{made['id']}"
    return Answer(text.encode(), status, location)
