"""What the journal holds for a new pass through a run's code: by position, and in the order of completions."""

from __future__ import annotations

from dataclasses import dataclass, field

from osprotocol._json import decode
from osprotocol._lifecycle.state import Event
from osprotocol.errors import CorruptDatabaseError

BEGINNINGS = frozenset(("step.started", "step.retrying", "sleep.started", "request.opened", "child.started"))
COMPLETIONS = frozenset(
    ("step.completed", "step.failed", "sleep.completed", "request.completed", "child.completed", "value.recorded")
)
CANCEL = "cancel.delivered"


@dataclass(slots=True)
class Recorded:
    """What is known of one operation.

    Attributes:
        begun: the newest record of its beginning: intent, retry, sleep, request or child.
        retries: failed tries of a step so far.
        completed: the record of its outcome.
    """

    kind: str
    name: str | None
    digest: str | None
    begun: Event | None = None
    retries: int = 0
    completed: Event | None = None

    def describe(self) -> str:
        """The operation in the words of an error."""
        return describe(self.kind, self.name, self.digest)


def describe(kind: str, name: str | None, digest: str | None) -> str:
    """An operation in the words of an error: kind, name and a digest of its arguments."""
    return f"{kind} {name or ''} (arguments {digest or '-'})".replace("  ", " ")


@dataclass(slots=True)
class Replay:
    """A run's journal as its code will meet it.

    Attributes:
        input: JSON of the run's input.
        recorded: operations by position.
        order: positions of the completions, oldest first; `CANCEL` where a cancel was delivered.
        granted: answers to requests that were forgotten by a retry: given again to the same question.
    """

    input: str | None = None
    recorded: dict[str, Recorded] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    granted: dict[tuple[str, str | None], Event] = field(default_factory=dict)
    cursor: int = 0

    @property
    def is_over(self) -> bool:
        """Every completion was handed out: what the code asks for now is new."""
        return self.cursor >= len(self.order)


def read_journal(events: list[Event]) -> Replay:
    """The replay that a run's events give.

    Raises:
        CorruptDatabaseError: a retry does not say what it forgets.
    """
    replay = Replay()
    for event in events:
        kind = event.type
        if kind == "run.started":
            replay.input = event.value
        elif kind == "run.retrying":
            _forget(replay, forgotten_by(event))
        elif kind == CANCEL:
            replay.order.append(CANCEL)
        elif event.position is not None and kind in BEGINNINGS:
            _begin(replay, event)
        elif event.position is not None and kind in COMPLETIONS:
            _complete(replay, event)
    return replay


def forgotten_by(event: Event) -> list[str]:
    """Positions that a retry forgets.

    Raises:
        CorruptDatabaseError: it does not say.
    """
    told = decode(event.value)
    positions = told.get("forgotten") if isinstance(told, dict) else None
    if not isinstance(positions, list) or not all(isinstance(one, str) for one in positions):
        raise CorruptDatabaseError("journal", f"record {event.number} does not say what it forgets")
    return positions


def _operation(replay: Replay, event: Event) -> Recorded:
    assert event.position is not None
    known = replay.recorded.get(event.position)
    if known is None:
        known = Recorded(event.type.partition(".")[0], event.name, event.digest)
        replay.recorded[event.position] = known
    return known


def _begin(replay: Replay, event: Event) -> None:
    known = _operation(replay, event)
    known.begun = event
    if event.type == "step.retrying":
        known.retries += 1


def _complete(replay: Replay, event: Event) -> None:
    known = _operation(replay, event)
    known.completed = event
    assert event.position is not None
    if event.type != "value.recorded":
        replay.order.append(event.position)


def _forget(replay: Replay, positions: list[str]) -> None:
    gone = set(positions)
    for position in gone:
        known = replay.recorded.pop(position, None)
        if known is not None and known.kind == "request" and known.completed is not None:
            replay.granted[position, known.digest] = known.completed
    replay.order = [position for position in replay.order if position not in gone]


def entries_until(events: list[Event], last: int) -> list[Event]:
    """The records that a fork takes over: those of operations that were complete at event `last`."""
    replay = read_journal([event for event in events if event.number <= last])
    kept = []
    for event in events:
        if event.number > last or event.position is None or event.position not in replay.recorded:
            continue
        known = replay.recorded[event.position]
        if known.completed is None or event.type not in BEGINNINGS | COMPLETIONS:
            continue
        if event.number <= known.completed.number and (event is known.completed or event.type in BEGINNINGS):
            kept.append(event)
    return kept
