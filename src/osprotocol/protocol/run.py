"""Run: the six statuses, the options, and what a run looks like from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, Literal

from pydantic import Field, field_validator

from osprotocol import _limits
from osprotocol._json import find_problem
from osprotocol.protocol._wire import Instant, Options, Wire
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.timeout import Timeout


class RunStatus(StrEnum):
    """Where a run stands. Each comment says who moves a run in, who moves it out, and what a crash there means."""

    # in: start(). out: a worker that claims it, cancel. A crash changes nothing, the row waits.
    PENDING = "pending"
    # in: a claim, an answer, a resume. out: everything. A crash: the next worker replays it from its journal.
    IN_PROGRESS = "in-progress"
    # in: the attempt, when only people can move it; a settled pause. out: answer, expiry, resume, cancel, a timer.
    # A crash changes nothing, nobody need hold it.
    AWAITING = "awaiting"
    # in: the attempt's return. out: never.
    COMPLETED = "completed"
    # in: an error with no retry left, a timeout. out: never; retry() starts a new run.
    FAILED = "failed"
    # in: the end of the cleanup, its deadline, a forced cancel. out: never.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True for completed, failed and cancelled."""
        return self in FINAL_STATUSES


FINAL_STATUSES = frozenset((RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED))


class RunOptions(Options):
    """How one run behaves. Everything but the functions is stored with the run.

    Functions given here live as long as the process that started the run; given to ``@workflow(options=...)`` they
    are code and work after a restart too.

    Attributes:
        timeout: limit of each attempt.
        retry: what happens after a failed attempt.
        cancel: what happens around a cancel.
        on_complete: called with the result after the run is `completed`.
        on_failed: called with the error after the run is `failed`.
        on_status_change: called with each status, in order, after its commit.
        labels: names and values to find the run by.
        idempotency_key: the same key and input give the same run; another input is a conflict.
    """

    timeout: Timeout | None = None
    retry: Retry | None = None
    cancel: Cancel | None = None
    on_complete: Callable[[Any], Any] | None = Field(default=None, exclude=True)
    on_failed: Callable[[Any], Any] | None = Field(default=None, exclude=True)
    on_status_change: Callable[[RunStatus], Any] | None = Field(default=None, exclude=True)
    labels: Mapping[str, str] = Field(default_factory=dict)
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=_limits.IDEMPOTENCY_KEY_CHARACTERS, pattern=r"^[^\x00]*$"
    )

    def __init__(
        self,
        timeout: Timeout | None = None,
        retry: Retry | None = None,
        cancel: Cancel | None = None,
        on_complete: Callable[[Any], Any] | None = None,
        on_failed: Callable[[Any], Any] | None = None,
        on_status_change: Callable[[RunStatus], Any] | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(
            timeout=timeout,
            retry=retry,
            cancel=cancel,
            on_complete=on_complete,
            on_failed=on_failed,
            on_status_change=on_status_change,
            labels=dict(labels or {}),
            idempotency_key=idempotency_key,
        )

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: Mapping[str, str]) -> Mapping[str, str]:
        if len(labels) > _limits.LABELS_PER_RUN:
            raise ValueError(f"{len(labels)} labels are over the limit LABELS_PER_RUN = {_limits.LABELS_PER_RUN}")
        for name, value in labels.items():
            if not name or len(name) > _limits.NAME_CHARACTERS or "\x00" in name or "=" in name:
                raise ValueError(f"label name {name[:40]!r} is empty, too long or holds NUL or '='")
            if find_problem(name) is not None or find_problem(value) is not None:
                raise ValueError("a label holds a lone surrogate, which is no text")
            if len(value) > _limits.LABEL_VALUE_CHARACTERS or "\x00" in value:
                raise ValueError(f"label {name!r}: its value is longer than LABEL_VALUE_CHARACTERS or holds NUL")
        return labels

    @cached_property
    def has_functions(self) -> bool:
        """True when something in here could not be stored."""
        return any(
            function is not None
            for function in (
                self.on_complete,
                self.on_failed,
                self.on_status_change,
                self.timeout and self.timeout.on_timeout_callback,
                self.retry and self.retry.should_retry,
                self.retry and self.retry.on_retry,
                self.cancel and self.cancel.before_cancel,
                self.cancel and self.cancel.after_cancel,
            )
        )


@cache
def no_options() -> RunOptions:
    """The options of a run that was given none."""
    return RunOptions()


class ExecutionProgress(Wire):
    """How far a run is.

    Attributes:
        current: number of the current step, as the code counts.
        total: number of steps; 0 when unknown.
        message: what the current step is.
    """

    current: int = 0
    total: int = 0
    message: str | None = None


class Waiting(Wire):
    """One reason why a run does not move by itself.

    Attributes:
        kind: what it waits for.
        since: since when.
        who: names of those who may act; empty means anyone who may.
        until: the deadline, if there is one.
        request_id: the open request, except for a pause.
        settled: for a pause: False while steps that were running when it was asked for still finish.
        prompt: the question, or the pause's reason.
        run_id: the child run that waits, when it is not this one.
    """

    kind: Literal["approval", "input", "paused", "attention"]
    since: Instant
    who: tuple[str, ...] = ()
    until: Instant | None = None
    request_id: str | None = None
    settled: bool = True
    prompt: str | None = None
    run_id: str | None = None


class ErrorInfo(Wire):
    """What ended a failed run or step, as stored.

    Attributes:
        type: the exception's class name.
        message: its text.
        code: the stable code, for errors of ours.
        details: typed facts, for errors of ours.
    """

    type: str
    message: str
    code: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class Origin(Wire):
    """Where a run made by `retry()` or `fork()` came from."""

    kind: Literal["retry", "fork"]
    run_id: str
    after_step: str | None = None


class RunSnapshot(Wire):
    """A run as it is at one number of its events.

    Attributes:
        event: number of the last event that this includes; events after it are what is missing.
        attempt: number of the current try, from 1; 0 before the first.
        cancelling: True while a cancel is under way.
        worker: name of the worker that holds it now.
        timeout_at: when the attempt's timeout passes; None without one, and while its clock stands still.
        timeout_left_ms: milliseconds left of the attempt's timeout while its clock stands still.
        stuck: why nothing moves it although nobody is asked, for example that no worker knows its workflow.
    """

    id: str
    workflow: str
    version: str | None = None
    status: RunStatus
    progress: ExecutionProgress = Field(default_factory=ExecutionProgress)
    attempt: int = 0
    event: int = 0
    waiting_on: tuple[Waiting, ...] = ()
    cancelling: bool = False
    cancel_reason: str | None = None
    cancelled_by: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    idempotency_key: str | None = None
    parent_id: str | None = None
    origin: Origin | None = None
    worker: str | None = None
    timeout_at: Instant | None = None
    timeout_left_ms: int | None = None
    stuck: str | None = None
    created_at: Instant
    started_at: Instant | None = None
    updated_at: Instant
    ended_at: Instant | None = None
    error: ErrorInfo | None = None
