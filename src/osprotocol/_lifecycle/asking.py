"""Questions to people: what is checked before one is asked, how it is asked, and what its answer means."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from osprotocol import _limits
from osprotocol._json import canonical, decode, encode, find_problem
from osprotocol._json import digest as digest_of
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.people import identity
from osprotocol.errors import InvalidOptionError, InvalidValueError, LimitExceededError
from osprotocol.protocol.approval import Approval, ApprovalConfig
from osprotocol.protocol.request import Request


def check_config(config: ApprovalConfig) -> None:
    """Refuse an approval that could never be given.

    Raises:
        InvalidOptionError: it needs more approvals than there are approvers.
    """
    people = {identity(name) for name in config.approvers}
    if people and config.required_approvals > len(people):
        raise InvalidOptionError(
            "ApprovalConfig.required_approvals",
            f"{config.required_approvals} approvals can never come from {len(people)} approvers",
        )


def payload_text(payload: Any, what: str) -> str | None:
    """JSON of what is shown to people.

    Raises:
        InvalidValueError: it has no JSON form. LimitExceededError: it is too large.
    """
    if payload is None:
        return None
    problem = find_problem(payload)
    data = b""
    try:
        data = to_json(payload)
    except (PydanticSerializationError, ValueError) as error:
        problem = problem or ("$", f"has no JSON form: {str(error).splitlines()[0]}")
    if problem is not None:
        raise InvalidValueError(what, (problem,))
    if len(data) > _limits.PAYLOAD_BYTES:
        raise LimitExceededError(what, len(data), "PAYLOAD_BYTES", _limits.PAYLOAD_BYTES)
    return data.decode()


def check_prompt(prompt: str, what: str) -> str:
    """A question that can be shown.

    Raises:
        InvalidOptionError: it is not text or empty. LimitExceededError: it is too long.
    """
    if not str(prompt).strip() or find_problem(prompt) is not None:
        raise InvalidOptionError(what, "must be a text that people can read, not empty")
    if len(prompt) > _limits.TEXT_CHARACTERS:
        raise LimitExceededError(what, len(prompt), "TEXT_CHARACTERS", _limits.TEXT_CHARACTERS)
    return prompt


def shown_digest(prompt: str, payload: str | None) -> str:
    """SHA-256 of exactly what a person is shown."""
    return digest_of(canonical({"prompt": prompt, "payload": decode(payload)}))


def approval_request(
    key: int,
    epoch: int | None,
    position: str | None,
    message: str,
    config: ApprovalConfig,
    payload: str | None,
    on_reject: str = "return",
) -> c.OpenRequest:
    """The command that asks for an approval."""
    return c.OpenRequest(
        epoch=epoch,
        key=key,
        kind="approval",
        position=position,
        prompt=message,
        payload=payload,
        digest=shown_digest(message, payload),
        timeout_ms=config.timeout_ms,
        approvers=config.approvers,
        required=config.required_approvals,
        threshold=config.reject_threshold,
        auto_approve=config.auto_approve_on_timeout,
        on_reject=on_reject,
    )


def input_request(
    key: int, epoch: int | None, position: str | None, prompt: str, adapter: TypeAdapter[Any], timeout_ms: int | None
) -> c.OpenRequest:
    """The command that asks for an input."""
    schema = encode(adapter.json_schema())
    return c.OpenRequest(
        epoch=epoch,
        key=key,
        kind="input",
        position=position,
        prompt=prompt,
        payload=None,
        digest=shown_digest(prompt, schema),
        schema=schema,
        timeout_ms=timeout_ms,
    )


def approval_of(request: Request) -> Approval:
    """What came of an approval request that is closed."""
    expired = request.status == "expired"
    last = request.responses[-1] if request.responses and not expired else None
    return Approval(
        approved=request.status == "approved" or (expired and request.auto_approve_on_timeout),
        reason=last.reason if last else None,
        approved_by=last.by if last else None,
        timestamp=request.closed_at or request.opened_at,
        outcome="expired" if expired else ("approved" if request.status == "approved" else "rejected"),
        responses=request.responses,
        run_id=request.run_id,
    )
