"""Events, log lines and step records: what happened, in order."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from osprotocol.protocol._wire import Instant, Wire
from osprotocol.protocol.run import ErrorInfo, RunStatus

T = TypeVar("T")


class Event(Wire):
    """One thing that happened to a run.

    Attributes:
        number: from 1, without gaps, in the run.
        cursor: position among the events of all runs of this database, rising.
        status: the status that the run entered with this event; None when it did not change.
        key: position in the code, for events of steps, sleeps, requests and child runs.
    """

    run_id: str
    number: int
    cursor: int
    type: str
    at: Instant
    status: RunStatus | None = None
    key: str | None = None
    name: str | None = None
    data: Any = None


class LogLine(Wire):
    """One line of a run's log.

    Attributes:
        number: rising in the database; what `read_logs(after=...)` counts by.
        step: the step that wrote it; None for workflow code.
    """

    number: int
    at: Instant
    level: str
    message: str
    attempt: int = 1
    step: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


class StepRecord(Wire):
    """What the journal holds of one step, sleep, request or child run.

    Attributes:
        key: position in the code.
        kind: ``step``, ``sleep``, ``request`` or ``child``.
        status: ``running``, ``completed`` or ``failed``.
        attempts: tries so far.
    """

    key: str
    kind: str
    name: str
    status: Literal["running", "completed", "failed"]
    attempts: int = 1
    started_at: Instant | None = None
    ended_at: Instant | None = None
    result: Any = None
    error: ErrorInfo | None = None


class WorkflowInfo(Wire):
    """A workflow that is defined here, with the JSON Schemas of its input and output."""

    name: str
    version: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] = Field(default_factory=dict)


class WorkerInfo(Wire):
    """A process that works, or worked, on the runs of this database."""

    id: str
    name: str
    status: Literal["alive", "dead", "evicted", "stopped"]
    started_at: Instant
    seen_at: Instant
    runs: int = 0
    workflows: tuple[str, ...] = ()


class BulkResult(Wire):
    """What a bulk operation did to one run."""

    run_id: str
    ok: bool
    status: RunStatus | None = None
    code: str | None = None
    message: str | None = None


class Page(Wire, Generic[T]):
    """Some of the items, newest first; `next_cursor` gives the next page, None at the end."""

    items: tuple[T, ...]
    next_cursor: str | None = None
