"""Everything that can be asked of a run. A new verb is a new command here and a branch in `decide`, nothing else.

`epoch` names the ownership under which an attempt writes; a command of an older epoch is refused.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One record that an attempt adds to the journal; replay reads those that have a position."""

    type: str
    position: str | None = None
    name: str | None = None
    digest: str | None = None
    started_at: int | None = None
    value: str | None = None


class Start(NamedTuple):
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


class Claim(NamedTuple):
    """A worker takes the run to execute it."""

    owner: int


class Record(NamedTuple):
    """An attempt adds to the journal: work was done, which clears the count of deaths."""

    epoch: int
    entries: tuple[Entry, ...]


class SetProgress(NamedTuple):
    """The code reports how far it is."""

    epoch: int
    current: int
    total: int
    message: str | None


class Yield(NamedTuple):
    """Nothing of the attempt executes any more.

    `seen` is the last event that the attempt has taken up; a wake after it stays. `release` gives the run back;
    `runnable` says that there is code to go on with as soon as nothing holds the run.
    """

    epoch: int
    seen: int
    wake_at: int | None = None
    release: bool = False
    runnable: bool = False


class Activate(NamedTuple):
    """The attempt, still in memory, goes on."""

    epoch: int
    seen: int


class Complete(NamedTuple):
    """The code returned."""

    epoch: int
    result: str


class Fail(NamedTuple):
    """The attempt ended with an error. `retry` says whether the code allows another try."""

    epoch: int
    error: str
    retry: bool
    fraction: float = 0.0
    forget: tuple[str, ...] = ()


class EndCancelled(NamedTuple):
    """The attempt ended by a rejection nobody caught, or its cleanup is done."""

    epoch: int
    reason: str | None = None
    by: str | None = None


class PassTimeout(NamedTuple):
    """The timeout has passed and its policy is to go on."""

    epoch: int


class Pause(NamedTuple):
    by: str
    reason: str | None = None
    following: bool = False


class Resume(NamedTuple):
    by: str
    following: bool = False


class Cancel(NamedTuple):
    """`graceful` None means as the run's options say. `following` is a parent's; it never fails."""

    by: str
    reason: str | None = None
    graceful: bool | None = None
    following: bool = False


class JudgeCancel(NamedTuple):
    """What before_cancel said."""

    epoch: int
    veto: bool


class OpenRequest(NamedTuple):
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


class Withdraw(NamedTuple):
    """The code no longer needs the answer that it asked for at a position."""

    epoch: int
    position: str


class Vote(NamedTuple):
    """One person's yes or no. `request_id` None means the only open approval."""

    by: str
    approved: bool
    request_id: str | None = None
    reason: str | None = None
    seen: str | None = None


class Respond(NamedTuple):
    """One person's answer to an input or to attention, as JSON."""

    by: str
    answer: str
    request_id: str | None = None
    seen: str | None = None


class RefuseAnswer(NamedTuple):
    """The worker, which has the type, refuses an answer that the schema let pass."""

    epoch: int
    request_id: str
    message: str


class TimerDue(NamedTuple):
    """A timer of the run is due: an expiry, a sleep, a retry, a timeout, a deadline."""


class WorkerDied(NamedTuple):
    """The worker that held the run is gone. `last_seen` is the last instant it is known to have worked."""

    owner: int
    last_seen: int
    request_key: int


class ChildChanged(NamedTuple):
    """A child run moved between the categories ``moving``, ``waiting`` and ``ended``; "" before it existed."""

    child_id: str
    position: str
    before: str
    after: str


class Note(NamedTuple):
    """Something to tell that changes nothing, allowed on a final run too: ``callback.error``, a late result."""

    type: str
    value: str | None = None
    position: str | None = None
    name: str | None = None


class TakeOver(NamedTuple):
    """A new run takes over part of another's journal (retry, fork)."""

    entries: tuple[Entry, ...] = ()


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
