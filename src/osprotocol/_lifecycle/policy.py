"""A run's stored options, in the form that deciding needs, and the delay before a retry."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from osprotocol._json import decode, encode, reads_stored
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.timeout import Timeout


class Policy(NamedTuple):
    """What of the options is stored. Durations are milliseconds."""

    timeout_ms: int | None = None
    on_timeout: str = "fail"
    timeout_clock: str = "active"
    retry_attempts: int = 0
    delay_ms: int = 0
    backoff: str = "none"
    max_delay_ms: int | None = None
    jitter: float = 0.0
    cancel_reason: str | None = None
    graceful: bool = True
    graceful_timeout_ms: int = 10_000


_DEFAULT = Policy()
_DEFAULT_TEXT = "{}"


def policy_text(timeout: Timeout | None, retry: Retry | None, cancel: Cancel | None) -> str:
    """The stored form: JSON of what differs from the defaults."""
    if timeout is None and retry is None and cancel is None:
        return _DEFAULT_TEXT
    policy = _DEFAULT
    if timeout is not None:
        policy = policy._replace(timeout_ms=timeout.ms, on_timeout=timeout.on_timeout, timeout_clock=timeout.clock)
    if retry is not None:
        policy = policy._replace(
            retry_attempts=retry.attempts,
            delay_ms=retry.delay_ms,
            backoff=retry.backoff,
            max_delay_ms=retry.max_delay_ms,
            jitter=retry.jitter,
        )
    if cancel is not None:
        policy = policy._replace(
            cancel_reason=cancel.reason, graceful=cancel.graceful, graceful_timeout_ms=cancel.graceful_timeout_ms
        )
    return encode({name: value for name, value in policy._asdict().items() if value != getattr(_DEFAULT, name)})


@lru_cache(maxsize=1_024)
@reads_stored
def parse_policy(text: str) -> Policy:
    """The policy that `policy_text` wrote."""
    return _DEFAULT if text == _DEFAULT_TEXT else Policy(**decode(text))


def backoff_us(n: int, delay_ms: int, backoff: str, max_delay_ms: int | None, jitter: float, fraction: float) -> int:
    """Microseconds before retry `n` (from 1); `fraction`, from 0 to 1, is the randomness that jitter uses."""
    if backoff == "linear":
        delay = n * delay_ms
    elif backoff == "exponential":
        # 2**62 ms is far over every cap; a larger shift would only build huge numbers.
        delay = delay_ms * 2 ** min(n - 1, 62)
    else:
        delay = delay_ms
    if max_delay_ms is not None:
        delay = min(delay, max_delay_ms)
    delay = min(delay, 10 * 365 * 86_400_000)
    return int((delay + delay * jitter * fraction) * 1_000)


def step_backoff_us(retry: Retry, n: int, fraction: float) -> int:
    """Microseconds before retry `n` of a step."""
    return backoff_us(n, retry.delay_ms, retry.backoff, retry.max_delay_ms, retry.jitter, fraction)
