"""Retry: how often and after what delay a failed attempt is tried again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from osprotocol.protocol._wire import Options, duration_ms


class Retry(Options):
    """How a failed step or run is tried again.

    Attributes:
        attempts: number of retries after the first try, from 0; 3 means up to 4 tries.
        delay_ms: milliseconds, or a timedelta, before a retry; the base of the backoff.
        backoff: ``none`` waits ``delay_ms`` each time, ``linear`` ``n * delay_ms`` before retry n, ``exponential``
            ``delay_ms * 2 ** (n - 1)``.
        max_delay_ms: no delay is longer than this, before jitter.
        jitter: from 0 to 1; up to this part of the delay is added at random.
        should_retry: called with the error; False ends it. Plain or async. Not stored.
        on_retry: called with the error and the number of the retry, before the delay. Plain or async. Not stored.
    """

    attempts: int = Field(default=3, ge=0, le=1_000_000)
    delay_ms: int = 1_000
    backoff: Literal["none", "linear", "exponential"] = "none"
    max_delay_ms: int | None = None
    jitter: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    should_retry: Callable[[Exception], Any] | None = Field(default=None, exclude=True)
    on_retry: Callable[[Exception, int], Any] | None = Field(default=None, exclude=True)

    def __init__(
        self,
        attempts: int = 3,
        delay_ms: int | timedelta = 1_000,
        backoff: Literal["none", "linear", "exponential"] = "none",
        max_delay_ms: int | timedelta | None = None,
        jitter: float = 0.0,
        should_retry: Callable[[Exception], Any] | None = None,
        on_retry: Callable[[Exception, int], Any] | None = None,
    ) -> None:
        super().__init__(
            attempts=attempts,
            delay_ms=duration_ms(delay_ms, "Retry.delay_ms"),
            backoff=backoff,
            max_delay_ms=duration_ms(max_delay_ms, "Retry.max_delay_ms"),
            jitter=jitter,
            should_retry=should_retry,
            on_retry=on_retry,
        )
