"""Request: a question to a person, as it is stored and shown."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from osprotocol.protocol._wire import Instant, Wire
from osprotocol.protocol.approval import Response

RequestKind = Literal["approval", "input", "attention"]
RequestStatus = Literal["open", "approved", "rejected", "expired", "answered", "cancelled"]


class Request(Wire):
    """A durable question: approval, input or attention.

    Attributes:
        payload: what the decision is about, exactly as the code gave it.
        digest: SHA-256 of the canonical payload and prompt; a vote may name it as what it saw.
        revision: from 1; grows when an answer was refused by the worker and the question opened again.
        schema_: JSON Schema of the answer, for inputs (``schema`` on the wire).
        approvers: names of those who may vote; empty means anyone who may respond.
        required_approvals, reject_threshold: how many people decide.
        auto_approve_on_timeout: what nobody's answer means at the deadline.
        responses: answers counted so far.
        message: why the last answer was refused.
        gate: True when it was put on the run from outside.
    """

    id: str
    run_id: str
    workflow: str
    kind: RequestKind
    status: RequestStatus
    prompt: str
    payload: Any = None
    digest: str
    revision: int = 1
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    approvers: tuple[str, ...] = ()
    required_approvals: int = 1
    reject_threshold: int = 1
    auto_approve_on_timeout: bool = False
    opened_at: Instant
    expires_at: Instant | None = None
    closed_at: Instant | None = None
    responses: tuple[Response, ...] = ()
    answer: Any = None
    message: str | None = None
    gate: bool = False

    @property
    def seen(self) -> str:
        """What a vote names to prove what it was about: revision and digest."""
        return f"{self.revision}:{self.digest}"
