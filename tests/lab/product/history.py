"""What callers asked for and what they were told: kept outside of the product, to be compared with its file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Start:
    """A start, sent as often as it took.

    Attributes:
        label: the input, which no other start has.
        told: ids of runs that were answered to it.
    """

    by: str
    workflow: str
    label: str
    told: list[str] = field(default_factory=list)


@dataclass
class Vote:
    """One person's vote; `status` is what was answered last, None when nothing was."""

    request: str
    by: str
    approved: bool
    status: int | None = None
    code: str = ""


@dataclass
class Answer:
    """One person's answer to an input."""

    request: str
    by: str
    value: object
    status: int | None = None
    code: str = ""


@dataclass
class Cancel:
    """A cancel; `run` is what the answer said of the run."""

    run_id: str
    by: str
    status: int | None = None
    run: dict[str, Any] = field(default_factory=dict)
    told_at: int = 0


@dataclass
class Pause:
    """A pause and the resume after it.

    Attributes:
        settled_at: when it was told that the run stands still; 0 when it never was.
        resumed_at: when the resume was sent.
        resumed: what was answered to it.
    """

    run_id: str
    by: str
    status: int | None = None
    settled_at: int = 0
    resumed_at: int = 0
    resumed: int | None = None


@dataclass
class History:
    """Everything that callers know.

    Attributes:
        results: what `execution.result` gave, by label.
        wrong: sentences about answers that no server may give.
        on_ack: called at the instant at which a caller has been told of a success, with what it asked for.
    """

    starts: list[Start] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    on_ack: Callable[[str], None] = lambda what: None

    def acked(self) -> int:
        """How many successes were told."""
        statuses: list[int | None] = [one.status for one in self.votes]
        statuses += [one.status for one in self.answers]
        statuses += [one.status for one in self.cancels]
        statuses += [one.status for one in self.pauses]
        return sum(len(one.told) for one in self.starts) + statuses.count(200)


def now() -> int:
    """Nanoseconds of the clock that the ledger has too."""
    return time.monotonic_ns()
