"""Commands as requests: the path and body of each. Values that a run gave go out as the JSON that they came in."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from osprotocol._json import decode, encode
from osprotocol._lifecycle import commands as c
from osprotocol.engine import Filter, RequestFilter, page_size
from osprotocol.errors import InvalidOptionError, NotSupportedError, RequestNotFoundError, RunNotFoundError
from osprotocol.protocol._wire import Wire
from osprotocol.protocol.approval import ApprovalConfig
from osprotocol.protocol.http import CancelBody, ForkBody, GateBody, ReasonBody, VoteBody
from osprotocol.protocol.run import RunOptions

# What an id may be made of; anything else names nothing, and must not become part of a path.
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}", re.ASCII)


def is_id(text: str) -> bool:
    """Whether something can have that id."""
    return _ID.fullmatch(text) is not None


def run_path(run_id: str, verb: str = "") -> str:
    """Where a run is, or one of its verbs.

    Raises:
        RunNotFoundError: no run can have that id.
    """
    if not is_id(run_id):
        raise RunNotFoundError(run_id)
    return f"/runs/{run_id}{verb}"


def request_path(request_id: str, verb: str = "", kind: str = "request") -> str:
    """Where a request is, or one of its verbs.

    Raises:
        RequestNotFoundError: no request can have that id.
    """
    if not is_id(request_id):
        raise RequestNotFoundError(request_id.rpartition("-")[0], request_id, kind)
    return f"/requests/{request_id}{verb}"


def start_body(workflow: str, data: bytes, options: RunOptions | None) -> bytes:
    """Body of a start.

    Raises:
        NotSupportedError: the options have functions, which do not travel.
    """
    if options is not None and options.has_functions:
        raise NotSupportedError(
            "a function in RunOptions", "http", "put it into @workflow(options=...), where the server's workers have it"
        )
    given = b"" if options is None else b',"options":' + body_of(options)
    return b'{"workflow":' + encode(workflow).encode() + b',"input":' + data + given + b"}"


def body_of(shape: Wire) -> bytes:
    """JSON of a shape, without what was left out."""
    return encode(shape.model_dump(mode="json", by_alias=True, exclude_none=True)).encode()


def take_over_body(kind: str, after_step: str | None) -> bytes:
    """Body of a retry or fork."""
    return body_of(ForkBody(after_step=after_step)) if kind == "fork" else b"{}"


def request_of_command(run_id: str, command: c.Command) -> tuple[str, bytes]:
    """Path and body of a command.

    Raises:
        NotSupportedError: only the worker that executes a run gives that command.
    """
    match command:
        case c.Pause(following=False):
            return run_path(run_id, "/pause"), body_of(ReasonBody(reason=command.reason))
        case c.Resume(following=False):
            return run_path(run_id, "/resume"), b"{}"
        case c.Cancel(following=False):
            return run_path(run_id, "/cancel"), body_of(CancelBody(reason=command.reason, graceful=command.graceful))
        case c.OpenRequest(epoch=None):
            return run_path(run_id, "/requests"), _gate(command)
        case c.Vote():
            verb = "/approve" if command.approved else "/reject"
            body = body_of(VoteBody(reason=command.reason, seen=command.seen))
            return _answer_path(run_id, command.request_id, verb, "approval"), body
        case c.Respond():
            seen = b"" if command.seen is None else b',"seen":' + encode(command.seen).encode()
            body = b'{"value":' + command.answer.encode() + seen + b"}"
            return _answer_path(run_id, command.request_id, "/respond", "input"), body
        case _:
            raise NotSupportedError(
                f"command {type(command).__name__}", "http", "only the worker that executes the run gives it"
            )


def _answer_path(run_id: str, request_id: str | None, verb: str, kind: str) -> str:
    if request_id is None:
        return run_path(run_id, verb)
    if request_id.rpartition("-")[0] != run_id:
        raise RequestNotFoundError(run_id, request_id, kind)  # another run's, which this answer is not for
    return request_path(request_id, verb, kind)


def _gate(command: c.OpenRequest) -> bytes:
    if command.kind == "input":
        gate = GateBody(
            kind="input", prompt=command.prompt, schema=decode(command.schema), timeout_ms=command.timeout_ms
        )
        return body_of(gate)
    config = ApprovalConfig(
        timeout_ms=command.timeout_ms,
        auto_approve_on_timeout=command.auto_approve,
        approvers=command.approvers,
        required_approvals=command.required,
        reject_threshold=command.threshold,
    )
    on_reject: Any = command.on_reject
    gate = GateBody(kind="approval", prompt=command.prompt, config=config, on_reject=on_reject)
    shown = b"" if command.payload is None else b',"payload":' + command.payload.encode()
    return body_of(gate)[:-1] + shown + b"}"


def runs_query(filter: Filter, limit: int, cursor: str | None) -> dict[str, Any]:
    """Parameters of the list of runs."""
    return {
        "status": [status.value for status in filter.status] or None,
        "workflow": filter.workflow,
        "label": [f"{name}={value}" for name, value in filter.labels.items()] or None,
        "text": filter.text or None,
        "startedAfter": _instant(filter.started_after),
        "startedBefore": _instant(filter.started_before),
        "parent": filter.parent_id,
        "limit": page_size(limit),
        "cursor": cursor,
    }


def _instant(moment: datetime | None) -> str | None:
    if moment is not None and moment.tzinfo is None:
        raise InvalidOptionError(
            "started_after or started_before", "needs a time zone; add tzinfo, such as datetime.UTC"
        )
    return None if moment is None else moment.isoformat()


def requests_query(filter: RequestFilter, limit: int, cursor: str | None) -> dict[str, Any]:
    """Parameters of the inbox."""
    return {
        "open": "all" if filter.open is None else str(filter.open).lower(),
        "kind": filter.kind,
        "run": filter.run_id,
        "limit": page_size(limit),
        "cursor": cursor,
    }
