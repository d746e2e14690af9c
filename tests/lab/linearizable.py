"""Whether a history of concurrent calls can be explained by calls that happened one after the other.

The exhaustive search of Wing and Gong: pick a call that may have been the next one, ask the specification what it may
have answered, go on from there, and go back when that leads nowhere. What was tried once is not tried again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

UNHEARD: Final = "unheard"
"""The reply of a call whose caller heard nothing that can be relied on."""

S = TypeVar("S", bound=Hashable)


@dataclass(slots=True)
class Call:
    """One call, as its caller saw it.

    Attributes:
        client: who called.
        process: where; its clock and its death count.
        act: what was asked.
        called: the place of the call in the order of all events.
        returned: the place of its return. Of an unheard call: where its process died; None if it may still happen.
        reply: what the caller was told.
    """

    client: str
    process: int
    act: tuple[Any, ...]
    called: float
    returned: float | None = None
    reply: Any = UNHEARD
    called_us: int = 0
    returned_us: int | None = None

    @property
    def is_heard(self) -> bool:
        """Whether the caller was told what came of it, so that it has happened for certain."""
        return bool(self.reply != UNHEARD)

    def __str__(self) -> str:
        end = "…" if self.returned is None else f"{self.returned:g}"
        words = " ".join(map(str, self.act))
        return f"[{self.called:g}, {end}] {self.client} at {self.process}: {words} -> {self.reply}"


class Specification(Protocol[S]):
    """What an object does when nothing happens at the same time."""

    @property
    def initial(self) -> S:
        """The state before the first call."""

    def outcomes(self, state: S, process: int, act: tuple[Any, ...]) -> Iterable[tuple[Any, S]]:
        """Each reply that the call may have in that state, with the state after it."""

    def drifts(self, state: S) -> Iterable[S]:
        """Each state that the object may reach next without a call."""


@dataclass(frozen=True)
class Explanation(Generic[S]):
    """An order in which the calls may have happened.

    Attributes:
        happened: the calls that did, in that order; an unheard one may be missing.
        state: the state after them.
    """

    happened: tuple[Call, ...]
    state: S


class NotLinearizable(Exception):
    """No order of the calls explains what their callers were told."""


def explain(calls: Sequence[Call], specification: Specification[S]) -> Explanation[S]:
    """Find an order.

    Raises:
        NotLinearizable: there is none; the text tells how far one comes.
    """
    ordered = sorted(calls, key=lambda call: call.called)
    heard = [call.is_heard for call in ordered]
    required = sum(1 << number for number, is_heard in enumerate(heard) if is_heard)
    seen: set[tuple[int, S]] = set()
    best: tuple[int, int, S] = (-1, 0, specification.initial)
    path: list[tuple[int, S]] = []
    # A frame: what is done, the state, which call led here (-1: none), and how long the path is.
    stack: list[tuple[int, S, int, int]] = [(0, specification.initial, -1, 0)]
    while stack:
        done, state, number, length = stack.pop()
        del path[length:]
        if number >= 0:
            path.append((number, state))
        if (done, state) in seen:
            continue
        seen.add((done, state))
        if done & required == required:
            return Explanation(tuple(ordered[one] for one, _ in path), state)
        reached = (done & required).bit_count()
        if reached > best[0]:
            best = (reached, done, state)
        length = len(path)
        # What is put on the stack last is tried first: an unheard call happens only where nothing else explains it.
        following = _next(ordered, heard, done)
        stack += _frames(specification, ordered, heard, following, done, state, length, are_heard=False)
        stack += [(done, later, -1, length) for later in specification.drifts(state)]
        stack += _frames(specification, ordered, heard, following, done, state, length, are_heard=True)
    raise NotLinearizable(_story(ordered, best[1], best[2], _next(ordered, heard, best[1])))


def _frames(
    specification: Specification[S],
    ordered: Sequence[Call],
    heard: Sequence[bool],
    following: Sequence[int],
    done: int,
    state: S,
    length: int,
    *,
    are_heard: bool,
) -> list[tuple[int, S, int, int]]:
    """What each of those calls that were heard, or were not, may lead to; the earliest is the last."""
    return [
        (done | 1 << number, later, number, length)
        for number in reversed(following)
        if heard[number] is are_heard
        for reply, later in specification.outcomes(state, ordered[number].process, ordered[number].act)
        if not are_heard or reply == ordered[number].reply
    ]


def _next(ordered: Sequence[Call], heard: Sequence[bool], done: int) -> list[int]:
    """The calls that may be next: none that is not done was over before they began, and none done began after them."""
    first_return = min(
        (call.returned for number, call in enumerate(ordered) if heard[number] and not done >> number & 1),
        key=lambda returned: float("inf") if returned is None else returned,
        default=None,
    )
    newest = ordered[done.bit_length() - 1].called if done else float("-inf")
    found = []
    for number, call in enumerate(ordered):
        if first_return is not None and call.called > first_return:
            break
        if done >> number & 1:
            continue
        if call.returned is not None and call.returned < newest:
            continue  # whoever did it was dead before something that is done began
        found.append(number)
    return found


def _story(ordered: Sequence[Call], done: int, state: Any, following: Sequence[int]) -> str:
    lines = ["no order of these calls explains the answers; the longest that does leads to " + str(state)]
    for number, call in enumerate(ordered):
        mark = "happened" if done >> number & 1 else "cannot follow" if number in following else ""
        lines.append(f"  {call} {mark}".rstrip())
    return "\n".join(lines)
