"""Scripted people: who is asked, what they answer, and after how long."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Self

from osprotocol._clock import US_PER_MS
from osprotocol._lifecycle.people import identity
from osprotocol.client import Client
from osprotocol.errors import OSProtocolError
from osprotocol.protocol._wire import duration_ms
from osprotocol.protocol.request import Request
from osprotocol.testing.clock import VirtualClock

_KINDS = {"approve": ("approval",), "reject": ("approval",), "respond": ("input", "attention")}
_ASKING = ("request.opened", "request.reopened")
Action = Literal["approve", "reject", "respond"]


@dataclass(slots=True)
class _Line:
    """One line of a person's script."""

    action: Action
    prompt: str | re.Pattern[str] | None
    value: Any
    after_ms: int
    left: int | None

    def fits(self, request: Request) -> bool:
        if self.left == 0 or request.kind not in _KINDS[self.action]:
            return False
        if isinstance(self.prompt, re.Pattern):
            return self.prompt.search(request.prompt) is not None
        return self.prompt is None or self.prompt in request.prompt


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that a scripted person gave.

    Attributes:
        request: what the person had been shown.
        action: ``approve``, ``reject`` or ``respond``.
        error: why the answer did not count; None when it did.
    """

    request: Request
    action: Action
    error: OSProtocolError | None = None


class Person:
    """Someone who answers by a script: the first line that is left and fits the question is used.

    Each line names a prompt, as a part of it or as a compiled pattern, or none for any; `after` is how long the person
    takes, on the virtual clock; `times` is how often the line is used, None for always.

    Attributes:
        name: under which the person votes.
        shown: every open question that the person might have answered, in order.
        given: every answer that the person gave, in order.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown: list[Request] = []
        self.given: list[Given] = []
        self._lines: list[_Line] = []

    def approve(
        self,
        prompt: str | re.Pattern[str] | None = None,
        *,
        reason: str | None = None,
        after: int | timedelta = 0,
        times: int | None = 1,
    ) -> Self:
        """Vote yes on an approval; `after` in milliseconds or as a timedelta."""
        return self._add("approve", prompt, reason, after, times)

    def reject(
        self,
        prompt: str | re.Pattern[str] | None = None,
        *,
        reason: str | None = None,
        after: int | timedelta = 0,
        times: int | None = 1,
    ) -> Self:
        """Vote no on an approval; `after` in milliseconds or as a timedelta."""
        return self._add("reject", prompt, reason, after, times)

    def respond(
        self,
        value: Any,
        prompt: str | re.Pattern[str] | None = None,
        *,
        after: int | timedelta = 0,
        times: int | None = 1,
    ) -> Self:
        """Answer an input, or attention, with a value; `after` in milliseconds or as a timedelta."""
        return self._add("respond", prompt, value, after, times)

    def _add(
        self,
        action: Action,
        prompt: str | re.Pattern[str] | None,
        value: Any,
        after: int | timedelta,
        times: int | None,
    ) -> Self:
        self._lines.append(_Line(action, prompt, value, duration_ms(after, f"{action}.after") or 0, times))
        return self

    def _line_for(self, request: Request) -> _Line | None:
        found = next((line for line in self._lines if line.fits(request)), None)
        if found is not None and found.left is not None:
            found.left -= 1
        return found

    def _is_asked(self, request: Request) -> bool:
        return not request.approvers or identity(self.name) in {identity(name) for name in request.approvers}


class People:
    """The people around a client: give them to `testing.connect(people=...)`.

    Args:
        *persons: who is there; several may answer the same question.
    """

    def __init__(self, *persons: Person) -> None:
        self._person_by_name = {person.name: person for person in persons}
        self._acting: set[asyncio.Task[None]] = set()
        self.moves = 0

    def __getitem__(self, name: str) -> Person:
        return self._person_by_name[name]

    @property
    def is_idle(self) -> bool:
        """Nobody is about to say something now; who still thinks waits for the clock."""
        return not self._acting

    async def serve(self, client: Client, clock: VirtualClock) -> None:
        """Show every question of a client's runs to those who may answer it, for as long as this is awaited."""
        async for event in client.events():
            if event.type not in _ASKING:
                continue
            _, request = await client.find_request(event.data["requestId"])
            if request.status == "open":
                self._show(client, clock, request)

    def _show(self, client: Client, clock: VirtualClock, request: Request) -> None:
        for person in self._person_by_name.values():
            if not person._is_asked(request):
                continue
            person.shown.append(request)
            line = person._line_for(request)
            if line is not None:
                self._answer_later(client, clock, person, line, request)

    def _answer_later(self, client: Client, clock: VirtualClock, person: Person, line: _Line, request: Request) -> None:
        def begin() -> None:
            task = asyncio.get_running_loop().create_task(self._answer(client, person, line, request))
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)

        if line.after_ms:
            clock.call_at(clock.now() + line.after_ms * US_PER_MS, begin)
        else:
            begin()

    async def _answer(self, client: Client, person: Person, line: _Line, request: Request) -> None:
        error: OSProtocolError | None = None
        chosen = {"request_id": request.id, "by": person.name, "seen": request.seen}
        try:
            execution = await client.get(request.run_id)
            if line.action == "approve":
                await execution.approve(line.value, **chosen)
            elif line.action == "reject":
                await execution.reject(line.value, **chosen)
            else:
                await execution.respond(line.value, **chosen)
        except OSProtocolError as refused:
            error = refused
        person.given.append(Given(request, line.action, error))
        self.moves += 1
