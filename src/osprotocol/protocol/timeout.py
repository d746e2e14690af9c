"""Timeout: how long an attempt may take, and what happens then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from osprotocol.protocol._wire import Options, duration_ms


class Timeout(Options):
    """How long one attempt of a run, or of a step, may take.

    Attributes:
        ms: milliseconds, or a timedelta. Counted from the attempt's start.
        on_timeout: ``fail`` ends the run `failed` (retries apply), ``cancel`` goes through the whole cancel flow,
            ``continue`` only tells: log entry, event, callback, once an attempt. A step's timeout always fails it.
        clock: ``active`` counts the time in which the run is `in-progress` and stands still while people are waited
            for or the run is paused; ``wall`` counts all time.
        on_timeout_callback: called with no argument after the timeout is committed; not stored.
    """

    ms: int
    on_timeout: Literal["fail", "cancel", "continue"] = "fail"
    clock: Literal["active", "wall"] = "active"
    on_timeout_callback: Callable[[], Any] | None = Field(default=None, exclude=True)

    def __init__(
        self,
        ms: int | timedelta,
        on_timeout: Literal["fail", "cancel", "continue"] = "fail",
        clock: Literal["active", "wall"] = "active",
        on_timeout_callback: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(
            ms=duration_ms(ms, "Timeout.ms", least=1),
            on_timeout=on_timeout,
            clock=clock,
            on_timeout_callback=on_timeout_callback,
        )
