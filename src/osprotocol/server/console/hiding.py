"""Runs, requests and log lines as somebody gets to see them: without secrets where `redaction` says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from osprotocol.protocol._wire import Wire
from osprotocol.protocol.request import Request
from osprotocol.server.access import Principal
from osprotocol.server.redaction import redact_json, sees_redacted

W = TypeVar("W", bound=Wire)


def cleaned(shapes: Iterable[W], who: Principal) -> tuple[W, ...]:
    """Without token shapes; for those who may only look, without anything whose name says that it is secret."""
    fully = sees_redacted(who)
    return tuple(_clean(shape, fully) for shape in shapes)


def cleaned_requests(requests: Iterable[Request], who: Principal) -> tuple[Request, ...]:
    """Exactly as they are, except for those who may only look: what is voted on is shown as it is."""
    return tuple(_clean(request, True) for request in requests) if sees_redacted(who) else tuple(requests)


def _clean(shape: W, fully: bool) -> W:
    before = shape.model_dump_json(by_alias=True).encode()
    after = redact_json(before, fully=fully)
    return shape if after is before or after == before else type(shape).model_validate_json(after)
