"""What a run, a question to people and a start key promise, one call after the other.

Written from the contract and the documentation, without a look at what the product does; nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

FINAL = ("completed", "cancelled")
_ALIVE = ("begun", "asking", "going on")

Act = tuple[Any, ...]


class Rules(NamedTuple):
    """What a run asks.

    Attributes:
        kind: ``approval``, ``input``, or "" for a run that asks nobody.
        approvers: who may vote; empty for anyone.
        required: so many approvals approve it.
        threshold: so many rejections reject it.
        auto: whether it counts as approved when its time is over.
    """

    kind: str = ""
    approvers: tuple[str, ...] = ()
    required: int = 1
    threshold: int = 1
    auto: bool = False

    def outcome(self, votes: tuple[tuple[str, bool], ...]) -> str:
        """What the votes decide."""
        yes = sum(approved for _, approved in votes)
        no = len(votes) - yes
        if yes >= self.required:
            return "approved"
        # Whoever has not said no could still say yes.
        unreachable = bool(self.approvers) and len(self.approvers) - no < self.required
        return "rejected" if no >= self.threshold or unreachable else "open"


class RunFacts(NamedTuple):
    """Where a run with its question stands.

    Attributes:
        phase: ``pending``, ``begun``, ``asking``, ``going on``, ``cancelling``, ``completed`` or ``cancelled``.
        outcome: of the question; "" before it was asked.
        votes: who voted what, in the order in which the votes count.
        answer: what was answered, and by whom.
        paused: somebody paused it.
        settled: somebody has seen that the pause has settled: nothing of the code goes on.
        past: the processes whose clock has passed the deadline.
    """

    phase: str = "pending"
    outcome: str = ""
    votes: tuple[tuple[str, bool], ...] = ()
    answer: tuple[Any, str] | None = None
    paused: bool = False
    settled: bool = False
    past: frozenset[int] = frozenset()


Outcomes = Iterator[tuple[Any, RunFacts]]


class RunSpecification:
    """A run that asks at most one question, and is done when that is decided.

    The acts, and what may be told of them:

    - ``clock, over``: the clock of that process passes the deadline, or is set back before it.
    - ``vote, person, yes, named``: ``ok, outcome`` · ``conflict`` · ``not an approver`` · ``closed, outcome, by`` ·
      ``not found`` · ``ended, status``. `named` says whether the request was named.
    - ``answer, person, value, named``: the same; ``invalid`` for a value that is no number.
    - ``cancel, graceful``: ``cancelling`` · ``cancelled`` · ``ended, status``; ``counts`` when the caller was told
      after the end.
    - ``pause``, ``resume``: ``ok`` · ``refused`` · ``ended, status``.
    - ``look``: ``status, cancelling, paused, settled``.
    - ``result``: ``completed, value`` · ``cancelled``.
    - ``file, facts``: True if that is what the tables may hold.
    """

    def __init__(self, rules: Rules, initial: RunFacts | None = None) -> None:
        self.rules = rules
        self.initial = initial or RunFacts()

    # ------------------------------------------------------------------ by itself

    def drifts(self, state: RunFacts) -> Iterator[RunFacts]:
        """Its code goes on, and its question expires."""
        phase = state.phase
        if phase == "pending" and not state.paused:
            yield state._replace(phase="begun")
        elif phase == "cancelling":
            yield state._replace(phase="cancelled")
        elif phase == "asking" and state.past:
            yield _decided(state, "expired")
        elif not state.settled:
            if phase == "begun" and self.rules.kind:
                yield state._replace(phase="asking", outcome="open")
            elif phase in ("begun", "going on"):
                yield state._replace(phase="completed", paused=False)

    # -------------------------------------------------------------------- by a call

    def outcomes(self, state: RunFacts, process: int, act: Act) -> Outcomes:
        """What may come of a call."""
        match act:
            case ("clock", bool() as over):
                yield True, state._replace(past=state.past | {process} if over else state.past - {process})
            case ("vote", str() as person, bool() as yes, bool() as named):
                yield from self._vote(state, process, person, yes, named)
            case ("answer", str() as person, value, bool() as named):
                yield from self._answer(state, process, person, value, named)
            case ("cancel", graceful):
                yield from _cancel(state, graceful is not False)
            case ("pause" | "resume" as verb,):
                yield from _pause(state, verb)
            case ("look",):
                yield from _look(state)
            case ("result",):
                if state.phase in FINAL:
                    told = ("completed", self._value(state)) if state.phase == "completed" else ("cancelled",)
                    yield told, state
            case ("file", facts):
                if facts in self._rows(state):
                    yield True, state
            case _:
                raise AssertionError(f"the specification knows no {act}")

    def _open(self, state: RunFacts, process: int, named: bool) -> tuple[list[tuple[Any, RunFacts]], bool]:
        """What is told of any answer to a question that is not open, and whether it is."""
        if state.phase == "asking":
            if process not in state.past:
                return [], True
            return [(("closed", "expired", None), _decided(state, "expired"))], False
        told: list[Any] = []
        if not named and state.phase in FINAL:
            told.append(("ended", state.phase))
        if not named and not state.outcome:
            told.append(("not found",))
        if state.outcome:
            told.append(("closed", state.outcome, self._winner(state)))
        return [(one, state) for one in told], False

    def _winner(self, state: RunFacts) -> str | None:
        """Who decided it."""
        if state.outcome == "answered" and state.answer is not None:
            return state.answer[1]
        return state.votes[-1][0] if state.outcome in ("approved", "rejected") else None

    def _vote(self, state: RunFacts, process: int, person: str, yes: bool, named: bool) -> Outcomes:
        refusals, is_open = self._open(state, process, named)
        yield from refusals
        if state.phase == "asking" and not is_open:
            return
        before = dict(state.votes).get(person)
        if before is not None:
            # The same vote again changes nothing, and a different one is refused, also when all is decided.
            yield (("ok", state.outcome) if before is yes else ("conflict",)), state
        elif is_open and self.rules.approvers and person not in self.rules.approvers:
            yield ("not an approver",), state
        elif is_open:
            votes = (*state.votes, (person, yes))
            outcome = self.rules.outcome(votes)
            after = state._replace(votes=votes)
            yield ("ok", outcome), after if outcome == "open" else _decided(after, outcome)

    def _answer(self, state: RunFacts, process: int, person: str, value: Any, named: bool) -> Outcomes:
        refusals, is_open = self._open(state, process, named)
        yield from refusals
        if is_open and type(value) is not int:
            yield ("invalid",), state
        elif is_open:
            yield ("ok", "answered"), _decided(state._replace(answer=(value, person)), "answered")

    # ---------------------------------------------------------------- what is so then

    def _value(self, state: RunFacts) -> Any:
        """What the code returns."""
        if self.rules.kind == "approval":
            approved = state.outcome == "approved" or (state.outcome == "expired" and self.rules.auto)
            return (state.outcome, approved)
        if self.rules.kind == "input":
            return state.answer[0] if state.answer is not None else "expired"
        return "done"

    def _rows(self, state: RunFacts) -> Iterator[tuple[Any, ...]]:
        for status, cancelling, paused, _ in (told for told, _ in _look(state)):
            value = self._value(state) if status == "completed" else None
            yield status, cancelling, paused, state.outcome, state.votes, state.answer, value


def _decided(state: RunFacts, outcome: str) -> RunFacts:
    return state._replace(phase="going on", outcome=outcome)


def _cancel(state: RunFacts, graceful: bool) -> Outcomes:
    if state.phase in FINAL:
        yield ("ended", state.phase), state
        return
    closed = "cancelled" if state.phase == "asking" else state.outcome
    ended = state._replace(phase="cancelled", outcome=closed, paused=False, settled=False)
    after = ended if state.phase == "pending" or not graceful else ended._replace(phase="cancelling")
    yield after.phase, after
    if graceful:
        yield "counts", after


def _pause(state: RunFacts, verb: str) -> Outcomes:
    if state.phase in FINAL:
        yield ("ended", state.phase), state
    elif state.phase == "cancelling" or state.paused is (verb == "pause"):
        yield ("refused",), state
    else:
        yield ("ok",), state._replace(paused=verb == "pause", settled=False)


def _look(state: RunFacts) -> Outcomes:
    """What a reader may see. Whether code executes at the moment is not modelled."""
    if state.phase == "pending":
        statuses: tuple[str, ...] = ("pending",)
    elif state.phase in FINAL:
        statuses = (state.phase,)
    elif state.phase == "cancelling":
        statuses = ("in-progress",)
    elif state.settled:
        statuses = ("awaiting",)
    else:
        statuses = ("in-progress", "awaiting") if state.paused or state.phase == "asking" else ("in-progress",)
    for status in statuses:
        if not state.settled:
            yield (status, state.phase == "cancelling", state.paused, False), state
        if state.paused and status != "in-progress":
            yield (status, False, True, True), state._replace(settled=True)


class StartSpecification:
    """Start keys: the first start decides what a key stands for.

    ``start, key, input`` is told ``started, id`` or ``conflict, id``; ``file, rows`` is True if that is what there is.
    A state holds for each key its input and the run's id, None while nobody was told it.
    """

    initial: tuple[tuple[str, Any, str | None], ...] = ()

    def __init__(self, ids: tuple[str, ...]) -> None:
        self.ids = ids

    def drifts(self, state: tuple[tuple[str, Any, str | None], ...]) -> tuple[()]:
        """Nothing starts by itself."""
        return ()

    def outcomes(
        self, state: tuple[tuple[str, Any, str | None], ...], process: int, act: Act
    ) -> Iterator[tuple[Any, tuple[tuple[str, Any, str | None], ...]]]:
        """What may come of a call."""
        if act[0] == "file":
            if len(act[1]) == len(state) and all(_same(*rows) for rows in zip(sorted(act[1]), state, strict=True)):
                yield True, state
            return
        _, key, value = act
        known = {one[0]: one for one in state}
        _, input, name = known.get(key, (key, value, None))
        taken = {one[2] for one in state if one[0] != key}
        word = "started" if input == value else "conflict"
        for id in (name,) if name is not None else self.ids:
            if id not in taken:
                known[key] = (key, input, id)
                yield (word, id), tuple(known[one] for one in sorted(known))


def _same(row: tuple[str, Any, str], known: tuple[str, Any, str | None]) -> bool:
    return row[:2] == known[:2] and known[2] in (None, row[2])
