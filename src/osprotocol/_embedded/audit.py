"""The audit log: what people did, chained by hashes. Records are written in the commit of what they tell of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from osprotocol._json import encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.state import RequestState
from osprotocol.engine import Acting

LOCAL = "local"
"""Known by having opened the database: the library, the terminal."""


class AuditRecord(NamedTuple):
    """One change that a person made; it gets its number and hash when it is written.

    `detail` is JSON and holds no payload: those are in the run, here is their digest.
    """

    at: int
    by: str
    via: str
    action: str
    run: str | None = None
    request: str | None = None
    detail: str = "{}"


_ACTIONS: dict[type[tuple[object, ...]], str] = {
    c.Start: "run.start",
    c.Pause: "run.pause",
    c.Resume: "run.resume",
    c.Cancel: "run.cancel",
    c.Vote: "request.vote",
    c.Respond: "request.respond",
}


def record_of(now: int, command: c.Command, run: str, reply: object, who: Acting | None) -> AuditRecord | None:
    """What a command that changed something leaves in the log; None for what no person did."""
    action = _ACTIONS.get(type(command))
    if action is None and isinstance(command, c.OpenRequest) and command.epoch is None and who is not None:
        action = "request.open"
    if action is None or getattr(command, "following", False):
        return None
    by = who.person if who is not None else getattr(command, "by", None)
    if by is None:
        return None  # started by code that nobody signed in for
    request = reply if isinstance(reply, RequestState) else None
    return AuditRecord(
        now,
        by,
        who.via if who is not None else LOCAL,
        action,
        run,
        request.id if request is not None else None,
        encode(_detail(command, request)),
    )


def _detail(command: c.Command, request: RequestState | None) -> dict[str, object]:
    detail: dict[str, object] = {}
    match command:
        case c.Start():
            detail = {"workflow": command.workflow, "inputDigest": command.input_digest}
        case c.Vote():
            detail = {"approved": command.approved, "reason": command.reason, "seen": command.seen}
        case c.Respond():
            detail = {"answerDigest": hashlib.sha256(command.answer.encode()).hexdigest(), "seen": command.seen}
        case c.Cancel():
            detail = {"reason": command.reason, "graceful": command.graceful}
        case c.Pause():
            detail = {"reason": command.reason}
        case c.OpenRequest():
            detail = {"kind": command.kind, "digest": command.digest}
        case _:
            pass
    if request is not None and isinstance(command, c.Vote | c.Respond):
        detail |= {"digest": request.digest, "revision": request.revision, "outcome": request.status}
    return {name: value for name, value in detail.items() if value is not None}


def chained(previous: str, number: int, record: AuditRecord) -> str:
    """The hash of a record, which covers the one before it."""
    return hashlib.sha256(encode([previous, number, *record]).encode()).hexdigest()


def first_break(rows: Iterable[tuple[object, ...]], previous: str = "", expected: int = 1) -> int | None:
    """The number of the first record that was changed, removed or moved; None when the chain holds.

    A chain alone does not show that its end was cut off or that all of it was made anew: compare the number and hash
    of the newest record with one that was noted elsewhere.
    """
    try:
        for number, *columns, stored in rows:
            record = AuditRecord._make(columns)
            if number != expected or chained(previous, expected, record) != stored:
                return expected
            previous, expected = str(stored), expected + 1
    except UnicodeDecodeError:
        return expected  # bytes that are no text were put there
    return None
