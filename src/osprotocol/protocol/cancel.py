"""Cancel: what happens around the cancellation of a run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import Field

from osprotocol.protocol._wire import Options, duration_ms


class Cancel(Options):
    """How a run is cancelled.

    Attributes:
        reason: the reason that is kept when `cancel()` gives none.
        graceful: True lets cleanup code run, with steps, until the deadline; False ends the run at once.
        graceful_timeout_ms: milliseconds, or a timedelta, that the cleanup may take, counted from the cancel.
        before_cancel: called with no argument by the worker that holds the run; returning False vetoes. Not stored.
        after_cancel: called with the reason after the run is `cancelled`. Not stored.
    """

    reason: str | None = None
    graceful: bool = True
    graceful_timeout_ms: int = 10_000
    before_cancel: Callable[[], Any] | None = Field(default=None, exclude=True)
    after_cancel: Callable[[str | None], Any] | None = Field(default=None, exclude=True)

    def __init__(
        self,
        reason: str | None = None,
        graceful: bool = True,
        graceful_timeout_ms: int | timedelta = 10_000,
        before_cancel: Callable[[], Any] | None = None,
        after_cancel: Callable[[str | None], Any] | None = None,
    ) -> None:
        super().__init__(
            reason=reason,
            graceful=graceful,
            graceful_timeout_ms=duration_ms(graceful_timeout_ms, "Cancel.graceful_timeout_ms"),
            before_cancel=before_cancel,
            after_cancel=after_cancel,
        )
