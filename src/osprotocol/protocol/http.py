"""What goes over HTTP besides runs, requests and events: the bodies of version 1 of the API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from osprotocol import _limits
from osprotocol.protocol._wire import GivenInstant, Instant, Wire
from osprotocol.protocol.approval import ApprovalConfig
from osprotocol.protocol.events import BulkResult
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunOptions, RunSnapshot, RunStatus


class StartBody(Wire):
    """Start a run.

    Attributes:
        workflow: its name.
        input: its input; leave it out for the default.
        options: as `RunOptions`, without functions.
    """

    workflow: str
    input: Any = None
    options: RunOptions | None = None


class ReasonBody(Wire):
    """Why."""

    reason: str | None = Field(default=None, max_length=_limits.TEXT_CHARACTERS)


class CancelBody(ReasonBody):
    """Cancel a run.

    Attributes:
        graceful: False ends it at once, without cleanup; left out, as the run's options say.
    """

    graceful: bool | None = None


class ForkBody(Wire):
    """Fork a run.

    Attributes:
        after_step: key or unique name of the completed step up to which the journal is taken over.
    """

    after_step: str | None = None


class VoteBody(ReasonBody):
    """Approve or reject.

    Attributes:
        seen: ``REVISION:DIGEST`` of what the person saw; a vote on something that changed since is refused.
    """

    seen: str | None = None


class RespondBody(Wire):
    """Answer an input or attention.

    Attributes:
        value: the answer.
        seen: as for a vote.
    """

    value: Any
    seen: str | None = None


class GateBody(Wire):
    """Put a gate on a run: it stops at its next boundary until decided.

    Attributes:
        kind: what is asked for.
        prompt: the question.
        payload: what an approval is about.
        config: who decides an approval, and until when.
        schema_: JSON Schema of an input's answer (``schema`` on the wire).
        timeout_ms: until when an input may be answered.
        on_reject: whether a rejected approval cancels the run.
    """

    kind: Literal["approval", "input"]
    prompt: str
    payload: Any = None
    config: ApprovalConfig | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    timeout_ms: int | None = Field(default=None, ge=1, le=_limits.DURATION_MS)
    on_reject: Literal["cancel", "continue"] = "cancel"


class FilterBody(Wire):
    """Which runs are meant, as in the query of the list."""

    status: tuple[RunStatus, ...] = ()
    workflow: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    text: str | None = None
    started_after: GivenInstant | None = None
    started_before: GivenInstant | None = None
    parent: str | None = None


class BulkBody(ReasonBody):
    """Do something to many runs; give either their ids or a filter.

    Attributes:
        action: what to do.
        run_ids: which runs, at most PAGE_SIZE.
        filter: every run that it finds.
        graceful: as for a cancel.
    """

    action: Literal["cancel", "pause", "resume", "retry"]
    run_ids: tuple[str, ...] | None = Field(default=None, max_length=_limits.PAGE_SIZE)
    filter: FilterBody | None = None
    graceful: bool | None = None


class BulkVote(Wire):
    """One of many votes."""

    id: str
    seen: str | None = None


class BulkVoteBody(ReasonBody):
    """Approve or reject many requests, at most PAGE_SIZE."""

    action: Literal["approve", "reject"]
    requests: tuple[BulkVote, ...] = Field(max_length=_limits.PAGE_SIZE)


class BulkVoteResult(Wire):
    """What became of one of many votes."""

    id: str
    ok: bool
    status: str | None = None
    code: str | None = None
    message: str | None = None


class BulkResults(Wire):
    """A result for each run."""

    items: tuple[BulkResult, ...]


class BulkVoteResults(Wire):
    """A result for each request."""

    items: tuple[BulkVoteResult, ...]


class PruneBody(Wire):
    """Remove the final runs that ended before an instant."""

    older_than: GivenInstant


class RunDetail(RunSnapshot):
    """A run with what is asked for one at a time.

    Attributes:
        requests: the open ones, oldest first.
        result: of a completed run.
    """

    requests: tuple[Request, ...] = ()
    result: Any = None


ROLES = ("viewer", "operator", "approver", "admin")
"""What a person can be to a server."""


class UserInfo(Wire):
    """A person who may sign in.

    Attributes:
        roles: viewer, operator, approver, admin.
        disabled: whether everything is refused to this person at the moment.
        has_password: whether signing in by password is possible.
    """

    name: str
    roles: tuple[str, ...]
    created_at: Instant
    disabled: bool = False
    has_password: bool = False


class TokenInfo(Wire):
    """A token by which a program acts for a person; its secret is shown once, when it is made.

    Attributes:
        id: the part of the token that is no secret.
        user: for whom it acts.
        roles: at most those of the person.
        workflows: the only ones whose runs are there for it; None means all.
        used_at: within a minute.
    """

    id: str
    user: str
    label: str
    roles: tuple[str, ...]
    workflows: tuple[str, ...] | None = None
    created_at: Instant
    expires_at: Instant | None = None
    used_at: Instant | None = None
    revoked_at: Instant | None = None


class AuditEntry(Wire):
    """What somebody did.

    Attributes:
        number: 1, 2, 3 and so on, without a gap.
        by: the person.
        via: by what the person was known: ``local``, ``session``, ``token ID``.
        detail: facts about it; payloads are in the run, here are their digests.
        hash: SHA-256 over this record and the hash of the one before.
    """

    number: int
    at: Instant
    by: str
    via: str
    action: str
    run_id: str | None = None
    request_id: str | None = None
    detail: dict[str, Any] = Field(default_factory=dict)
    hash: str


class Me(Wire):
    """Who is asking.

    Attributes:
        roles: viewer, operator, approver, admin.
        via: ``session`` or ``token ID``.
        workflows: the only ones whose runs are there for this token; None means all.
    """

    name: str
    roles: tuple[str, ...]
    via: str
    workflows: tuple[str, ...] | None = None


class Problem(Wire):
    """An error, as RFC 9457 says (``application/problem+json``).

    Attributes:
        type: ``urn:osprotocol:error:CODE``.
        code: stable; docs/errors.md lists them all.
        facts: the arguments of the Python class, from which a client makes the same error again.
        errors: path and message of each field that is wrong.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    facts: tuple[Any, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
