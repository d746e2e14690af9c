"""Approval: what a person is asked to agree to, who may, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from pydantic import Field

from osprotocol import _limits
from osprotocol.errors import ApprovalRejectedError, InvalidOptionError
from osprotocol.protocol._wire import Instant, Options, Wire, duration_ms

ApprovalOutcome = Literal["approved", "rejected", "expired"]


class ApprovalConfig(Options):
    """Who decides, how many of them, and until when.

    Attributes:
        timeout_ms: milliseconds, or a timedelta, from the asking until it expires; None waits for ever.
        auto_approve_on_timeout: True gives ``approved=True`` with ``outcome="expired"`` at the deadline.
        approvers: names of those who may vote; empty means anyone who may respond.
        required_approvals: approvals by different people that close it `approved`.
        reject_threshold: rejections by different people that close it `rejected`.
    """

    timeout_ms: int | None = None
    auto_approve_on_timeout: bool = False
    approvers: tuple[str, ...] = ()
    required_approvals: int = Field(default=1, ge=1, le=_limits.APPROVERS_PER_REQUEST)
    reject_threshold: int = Field(default=1, ge=1, le=_limits.APPROVERS_PER_REQUEST)

    def __init__(
        self,
        timeout_ms: int | timedelta | None = None,
        auto_approve_on_timeout: bool = False,
        approvers: Sequence[str] = (),
        required_approvals: int = 1,
        reject_threshold: int = 1,
    ) -> None:
        if isinstance(approvers, str):
            raise InvalidOptionError("ApprovalConfig.approvers", f"must be a list of names, not the text {approvers!r}")
        unique = tuple(dict.fromkeys(approvers))
        if len(unique) > _limits.APPROVERS_PER_REQUEST:
            raise InvalidOptionError(
                "ApprovalConfig.approvers",
                f"{len(unique)} names are over the limit APPROVERS_PER_REQUEST = {_limits.APPROVERS_PER_REQUEST}",
            )
        super().__init__(
            timeout_ms=duration_ms(timeout_ms, "ApprovalConfig.timeout_ms"),
            auto_approve_on_timeout=auto_approve_on_timeout,
            approvers=unique,
            required_approvals=required_approvals,
            reject_threshold=reject_threshold,
        )


class Response(Wire):
    """One person's answer to a request.

    Attributes:
        by: who answered.
        approved: the vote; None for an input.
        reason: what the person wrote with it.
        at: when the answer was committed.
    """

    by: str
    approved: bool | None = None
    reason: str | None = None
    at: Instant


class Approval(Wire):
    """What came of asking for an approval.

    Attributes:
        approved: True when it was approved, or auto-approved at its deadline.
        reason: the reason of the deciding answer.
        approved_by: the name of the person whose answer decided; None when it expired.
        timestamp: when it was decided.
        outcome: ``approved``, ``rejected`` or ``expired``.
        responses: every counted answer, in order.
        run_id: the run that asked.
    """

    approved: bool
    reason: str | None = None
    approved_by: str | None = None
    timestamp: Instant
    outcome: ApprovalOutcome
    responses: tuple[Response, ...] = ()
    run_id: str = ""

    def require(self) -> Approval:
        """This approval, if it was given.

        Raises:
            ApprovalRejectedError: it was not; uncaught, it ends the run `cancelled`.
        """
        if not self.approved:
            raise ApprovalRejectedError(self.run_id, self.outcome, self.reason)
        return self
