"""Statistics: counts over all runs, for people who look at the whole."""

from __future__ import annotations

from pydantic import Field

from osprotocol.protocol._wire import Instant, Wire


class WorkflowStatistics(Wire):
    """How the runs of one workflow went.

    Attributes:
        runs: how many are in each status.
        median_wait_ms: milliseconds from asking to the decision, half of the newest decided requests; None without any.
    """

    workflow: str
    runs: dict[str, int] = Field(default_factory=dict)
    median_wait_ms: int | None = None


class Statistics(Wire):
    """Counts over everything, as of `at`; they may lag a few seconds behind.

    Attributes:
        runs: how many are in each of the six statuses.
        failed_last_day: runs that failed in the 24 hours before `at`.
        open_requests: requests that wait for a person.
        oldest_request_at: since when the oldest of them waits.
        expiring_within_hour: how many of them expire within the hour.
    """

    at: Instant
    runs: dict[str, int]
    failed_last_day: int = 0
    open_requests: int = 0
    oldest_request_at: Instant | None = None
    expiring_within_hour: int = 0
    workflows: tuple[WorkflowStatistics, ...] = ()
