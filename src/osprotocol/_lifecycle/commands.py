"""Everything that can be asked of a run. A new verb is a new command here and a branch in `decide`, nothing else.

`epoch` names the ownership under which an attempt writes; a command of an older epoch is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    """One record that an attempt adds to the journal; replay reads those that have a position."""

    type: str
    position: str | None = None
    name: str | None = None
    digest: str | None = None
    started_at: int | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Accept a run. `key` is the row it will have."""

    key: int
    id: str
    workflow: str
    version: str | None
    input: str | None
    input_digest: str
    policy: str = "{}"
    labels: str = "{}"
    idempotency_key: str | None = None
    judged: bool = False
    parent: int | None = None
    parent_id: str | None = None
    position: str | None = None
    depth: int = 0
    origin: str | None = None
    seed: str = ""
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker takes the run to execute it."""

    owner: int


@dataclass(frozen=True, slots=True)
class Record:
    """An attempt adds to the journal. `progress` tells whether work was done, which clears the count of deaths."""

    epoch: int
    entries: tuple[Entry, ...]
    progress: bool = True


@dataclass(frozen=True, slots=True)
class SetProgress:
    """The code reports how far it is."""

    epoch: int
    current: int
    total: int
    message: str | None


@dataclass(frozen=True, slots=True)
class Yield:
    """Nothing of the attempt executes any more.

    `seen` is the last event that the attempt has taken up; a wake after it stays. `release` gives the run back;
    `runnable` with it says that there is code to go on with at once, for a worker that stops.
    """

    epoch: int
    seen: int
    wake_at: int | None = None
    release: bool = False
    runnable: bool = False


@dataclass(frozen=True, slots=True)
class Activate:
    """The attempt, still in memory, goes on."""

    epoch: int
    seen: int


@dataclass(frozen=True, slots=True)
class Complete:
    """The code returned."""

    epoch: int
    result: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt ended with an error. `retry` says whether the code allows another try."""

    epoch: int
    error: str
    retry: bool
    fraction: float = 0.0
    forget: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndCancelled:
    """The attempt ended by a rejection nobody caught, or its cleanup is done."""

    epoch: int
    reason: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class PassTimeout:
    """The timeout has passed and its policy is to go on."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Pause:
    by: str
    reason: str | None = None
    following: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    by: str
    following: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """`graceful` None means as the run's options say. `following` is a parent's; it never fails."""

    by: str
    reason: str | None = None
    graceful: bool | None = None
    following: bool = False


@dataclass(frozen=True, slots=True)
class JudgeCancel:
    """What before_cancel said."""

    epoch: int
    veto: bool


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Ask a person. `epoch` None is a gate from outside; `key` is the row that the request will have."""

    epoch: int | None
    key: int
    kind: str
    position: str | None
    prompt: str
    payload: str | None
    digest: str
    ask_digest: str = ""
    schema: str | None = None
    timeout_ms: int | None = None
    approvers: tuple[str, ...] = ()
    required: int = 1
    threshold: int = 1
    auto_approve: bool = False
    on_reject: str = "return"
    release: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The code no longer needs the answer that it asked for at a position."""

    epoch: int
    position: str


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's yes or no. `request_id` None means the only open approval."""

    by: str
    approved: bool
    request_id: str | None = None
    reason: str | None = None
    seen: str | None = None


@dataclass(frozen=True, slots=True)
class Respond:
    """One person's answer to an input or to attention, as JSON."""

    by: str
    answer: str
    request_id: str | None = None
    seen: str | None = None


@dataclass(frozen=True, slots=True)
class RefuseAnswer:
    """The worker, which has the type, refuses an answer that the schema let pass."""

    epoch: int
    request_id: str
    message: str


@dataclass(frozen=True, slots=True)
class TimerDue:
    """A timer of the run is due: an expiry, a sleep, a retry, a timeout, a deadline."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker that held the run is gone. `last_seen` is the last instant it is known to have worked."""

    owner: int
    last_seen: int
    request_key: int


@dataclass(frozen=True, slots=True)
class ChildChanged:
    """A child run moved between the categories ``moving``, ``waiting`` and ``ended``; "" before it existed."""

    child_id: str
    position: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell that changes nothing, allowed on a final run too: ``callback.error``, a late result."""

    type: str
    value: str | None = None
    position: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A new run takes over part of another's journal (retry, fork)."""

    entries: tuple[Entry, ...] = field(default=())


AttemptCommand = (
    Record
    | SetProgress
    | Yield
    | Activate
    | Complete
    | Fail
    | EndCancelled
    | PassTimeout
    | JudgeCancel
    | RefuseAnswer
    | Withdraw
)
Command = (
    AttemptCommand
    | Start
    | Claim
    | Pause
    | Resume
    | Cancel
    | OpenRequest
    | Vote
    | Respond
    | TimerDue
    | WorkerDied
    | ChildChanged
    | Note
    | TakeOver
)
