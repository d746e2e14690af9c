"""Requests: asking, voting, answering, expiring. One vote a person; the first commit decides."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from osprotocol import _limits
from osprotocol._clock import to_iso
from osprotocol._json import decode, encode
from osprotocol._lifecycle.change import Change
from osprotocol._lifecycle.commands import Cancel, OpenRequest, RefuseAnswer, Respond, Vote
from osprotocol._lifecycle.schema import problems_in
from osprotocol._lifecycle.state import RequestState
from osprotocol.errors import (
    AmbiguousRequestError,
    InvalidAnswerError,
    InvalidNameError,
    InvalidOptionError,
    LimitExceededError,
    NotAnApproverError,
    RequestClosedError,
    RequestNotFoundError,
    StaleRequestError,
    VoteConflictError,
)

_US_PER_MS = 1_000
ATTENTION_CHOICES = ("retry", "skip")
_DECIDED_BY_PEOPLE = ("approved", "rejected", "answered")


def identity(name: str) -> str:
    """The form in which people are compared: two spellings of one name are one person."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def check_person(by: str) -> str:
    """The identity of who acts.

    Raises:
        InvalidNameError: the name is empty, too long or not printable.
    """
    person = identity(by)
    if not person or len(by) > _limits.NAME_CHARACTERS or any(ord(character) < 32 for character in by):
        raise InvalidNameError("name of the person who acts", by[:40], "it is empty, too long or not printable")
    return person


def closer_of(status: str, answered: Sequence[str]) -> str | None:
    """Who decided a request, of those who answered; nobody if its time was over or it was cancelled."""
    return answered[-1] if answered and status in _DECIDED_BY_PEOPLE else None


def open_request(change: Change, command: OpenRequest) -> None:
    state = change.state
    if command.epoch is not None:
        change.fence(command.epoch)
    if state.is_final or state.cancel == "cancelling":
        raise change.refuse(f"ask for {command.kind}", "nobody is asked by a run that ends")
    people = {identity(name) for name in command.approvers}
    if people and command.required > len(people):
        raise InvalidOptionError(
            "ApprovalConfig.required_approvals",
            f"{command.required} approvals can never come from {len(people)} approvers",
        )
    if state.open_requests >= _limits.OPEN_REQUESTS_PER_RUN and command.kind != "attention":
        raise LimitExceededError(
            f"open requests of run {state.id}",
            state.open_requests + 1,
            "OPEN_REQUESTS_PER_RUN",
            _limits.OPEN_REQUESTS_PER_RUN,
        )
    number = state.event + len(change.events) + 1
    expires_at = None if command.timeout_ms is None else change.now + command.timeout_ms * _US_PER_MS
    request = RequestState(
        key=command.key,
        id=f"{state.id}-{number}",
        run=state.key,
        kind=command.kind,
        position=command.position,
        status="open",
        prompt=command.prompt,
        payload=command.payload,
        digest=command.digest,
        revision=1,
        schema=command.schema,
        approvers=encode(list(command.approvers)),
        required=command.required,
        threshold=command.threshold,
        auto_approve=command.auto_approve,
        on_reject=command.on_reject,
        opened_at=change.now,
        expires_at=expires_at,
        closed_at=None,
        responses="[]",
        answer=None,
        message=None,
    )
    change.put(request)
    told = {
        "requestId": request.id,
        "kind": request.kind,
        "prompt": request.prompt,
        "digest": request.digest,
        "expiresAt": None if expires_at is None else to_iso(expires_at),
        "gate": request.position is None,
    }
    change.emit("request.opened", told, position=command.position, name=command.kind)
    change.events[-1] = change.events[-1]._replace(digest=command.ask_digest or None)
    if command.release:
        change.set(owner=None, executing=False, wake=0)
    change.reply = request


def _find(change: Change, request_id: str | None, kinds: tuple[str, ...]) -> RequestState:
    state, kind = change.state, kinds[0]
    if request_id is None:
        candidates = [request for request in state.requests if request.is_open and request.kind in kinds]
        if len(candidates) > 1:
            raise AmbiguousRequestError(state.id, "", kind, tuple(request.id for request in candidates))
        if not candidates:
            if state.is_final:
                raise change.refuse(f"answer its {kind}")
            raise RequestNotFoundError(state.id, "", kind)
        return candidates[0]
    for request in state.requests:
        if request.id == request_id:
            if request.kind not in kinds:
                raise RequestNotFoundError(state.id, request_id, kind)
            return request
    raise RequestNotFoundError(state.id, request_id, kind)


def _ready_to_answer(
    change: Change, request_id: str | None, kinds: tuple[str, ...], by: str, seen: str | None
) -> tuple[RequestState, str] | None:
    """The request and the person's identity; None when the answer comes too late and `change.error` says so."""
    person = check_person(by)
    request = _find(change, request_id, kinds)
    state = change.state
    if not request.is_open:
        responses = decode(request.responses)
        closer = closer_of(request.status, [response["by"] for response in responses])
        if any(identity(response["by"]) == person for response in responses) and request.kind == "approval":
            return request, person
        raise RequestClosedError(state.id, request.id, request.status, closer)
    if request.expires_at is not None and change.now >= request.expires_at:
        expire(change, request)
        change.error = RequestClosedError(state.id, request.id, "expired")
        return None
    if seen is not None and seen not in (f"{request.revision}:{request.digest}", request.digest):
        raise StaleRequestError(state.id, request.id, seen[:90], f"{request.revision}:{request.digest}")
    approvers = decode(request.approvers)
    if approvers and person not in {identity(name) for name in approvers}:
        raise NotAnApproverError(state.id, request.id, by, tuple(approvers))
    return request, person


def vote(change: Change, command: Vote) -> None:
    ready = _ready_to_answer(change, command.request_id, ("approval",), command.by, command.seen)
    if ready is None:
        return
    request, person = ready
    word = "approved" if command.approved else "rejected"
    responses: list[dict[str, Any]] = decode(request.responses)
    for response in responses:
        if identity(response["by"]) == person:
            if response["approved"] is not command.approved:
                earlier = "approved" if response["approved"] else "rejected"
                raise VoteConflictError(change.state.id, request.id, command.by, earlier)
            change.reply = request
            return
    responses.append(
        {"by": command.by, "approved": command.approved, "reason": command.reason, "at": to_iso(change.now)}
    )
    approvals = sum(response["approved"] for response in responses)
    rejections = len(responses) - approvals
    approvers = {identity(name) for name in decode(request.approvers)}
    unreachable = bool(approvers) and len(approvers) - rejections < request.required
    request = request._replace(responses=encode(responses))
    told = {"requestId": request.id, "by": command.by, "vote": word, "reason": command.reason}
    if approvals >= request.required:
        close(change, request, "approved", told)
    elif rejections >= request.threshold or unreachable:
        close(change, request, "rejected", told)
    else:
        change.put(request)
        change.emit("request.voted", told, request.position, request.kind)
        change.reply = request


def respond(change: Change, command: Respond) -> None:
    ready = _ready_to_answer(change, command.request_id, ("input", "attention"), command.by, command.seen)
    if ready is None:
        return
    request, _ = ready
    if request.kind == "attention":
        _check_attention(change, request, decode(command.answer))
    elif request.schema is not None:
        problems = problems_in(decode(command.answer), decode(request.schema))
        if problems:
            raise InvalidAnswerError(change.state.id, request.id, problems)
    response = {"by": command.by, "approved": None, "reason": None, "at": to_iso(change.now)}
    request = request._replace(answer=command.answer, responses=encode([*decode(request.responses), response]))
    close(change, request, "answered", {"requestId": request.id, "by": command.by})


def _check_attention(change: Change, request: RequestState, answer: Any) -> None:
    action = answer.get("action") if isinstance(answer, dict) else answer
    allowed = ATTENTION_CHOICES if request.position is not None else ATTENTION_CHOICES[:1]
    if action not in allowed or (action == "skip" and (not isinstance(answer, dict) or "value" not in answer)):
        choices = '"retry"' + (' or {"action": "skip", "value": ...}' if "skip" in allowed else "")
        raise InvalidAnswerError(change.state.id, request.id, (("$", f"must be {choices}"),))


def close(change: Change, request: RequestState, status: str, told: dict[str, Any]) -> None:
    """Decide a request; its run has something to do then."""
    request = request._replace(status=status, closed_at=change.now)
    change.put(request)
    number = change.emit("request.closed", {**told, "outcome": status}, request.position, request.kind)
    change.reply = request
    if request.position is not None:
        change.wake(number)
    elif request.kind == "attention":
        change.set(deaths=0)
        change.wake(number)
    elif request.on_reject == "cancel" and (status == "rejected" or (status == "expired" and not request.auto_approve)):
        from osprotocol._lifecycle import ending

        reason = told.get("reason") or f"a gate was {status}"
        ending.cancel(change, Cancel(told.get("by") or "expiry", reason, following=True))
        change.reply = request


def expire(change: Change, request: RequestState) -> None:
    """Nobody decided it in time."""
    close(change, request, "expired", {"requestId": request.id})


def refuse_answer(change: Change, command: RefuseAnswer) -> None:
    change.fence(command.epoch)
    state = change.state
    request = next((known for known in state.requests if known.id == command.request_id), None)
    if request is None:
        raise RequestNotFoundError(state.id, command.request_id, "input")
    if request.status != "answered" or state.cancel == "cancelling":
        return  # it was decided otherwise meanwhile, and a run that ends asks nobody
    request = request._replace(
        status="open",
        closed_at=None,
        answer=None,
        responses="[]",
        revision=request.revision + 1,
        message=command.message[: _limits.TEXT_CHARACTERS],
    )
    change.put(request)
    change.emit(
        "request.reopened",
        {"requestId": request.id, "revision": request.revision, "message": request.message},
        request.position,
        request.kind,
    )
