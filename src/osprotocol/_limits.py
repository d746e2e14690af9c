"""Every limit of the system, in one place, so that an error can name the one that it met.

Sizes are bytes of UTF-8 encoded JSON or text, durations are milliseconds, counts are plain numbers.
"""

from __future__ import annotations

from typing import Final

NAME_CHARACTERS: Final = 128
"""A workflow's, step's, label's or person's name."""
ID_CHARACTERS: Final = 128
"""A run id or request id, as given by a caller."""
IDEMPOTENCY_KEY_CHARACTERS: Final = 256
PAYLOAD_BYTES: Final = 1_048_576
"""An input, a step's or a run's result, the payload of a request, an answer."""
TEXT_CHARACTERS: Final = 16_384
"""A prompt, a reason, a progress message."""
JSON_DEPTH: Final = 64
"""Nesting of lists and objects in anything stored as JSON."""
LABELS_PER_RUN: Final = 64
LABEL_VALUE_CHARACTERS: Final = 256
LOG_LINES_PER_RUN: Final = 10_000
LOG_BYTES_PER_RUN: Final = 10 * 1_048_576
LOG_LINE_BYTES: Final = 16_384
LOG_LINES_IN_MEMORY: Final = 200
"""What ``execution.logs`` keeps of the newest lines."""
EVENTS_PER_RUN: Final = 50_000
"""A run whose journal reaches this is stopped with a reason and awaits attention."""
CHILD_DEPTH: Final = 16
BRANCHES_PER_GATHER: Final = 10_000
APPROVERS_PER_REQUEST: Final = 100
OPEN_REQUESTS_PER_RUN: Final = 1_000
PAGE_SIZE: Final = 200
PAGE_SIZE_DEFAULT: Final = 50
DEATHS_BEFORE_POISON: Final = 3
"""A run whose execution was on when its worker died this many times in a row, without progress, is parked."""
DURATION_MS: Final = 10 * 365 * 86_400_000
"""No timeout, delay or sleep is longer than ten years."""
BEFORE_CANCEL_MS: Final = 5_000
SHUTDOWN_GRACE_MS: Final = 5_000
LINGER_MS: Final = 1_000
"""How long a waiting run stays in memory before it is unwound."""
LINGERING_RUNS: Final = 200
"""How many waiting runs stay in memory at once; the longest waiting is unwound first."""
BLOCKED_LOOP_MS: Final = 1_000
"""A step that holds the event loop this long is named in a warning."""
