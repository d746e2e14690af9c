"""Following a run to its end: showing it, answering for it, and what Ctrl-C does."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from osprotocol.cli.answers import Answers
from osprotocol.cli.display import Silence
from osprotocol.cli.exits import CommandError, ExitCode
from osprotocol.cli.forms import NobodyAnswersError, ask_request, standing_text
from osprotocol.cli.interrupt import Interrupts
from osprotocol.cli.output import clean, say, short
from osprotocol.cli.session import Session
from osprotocol.cli.terminal import Terminal
from osprotocol.client import Client
from osprotocol.errors import InvalidAnswerError, OSProtocolError, RequestClosedError, StaleRequestError
from osprotocol.execution import Execution
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import FINAL_STATUSES, RunStatus

_LOOK_AGAIN_S = 0.2
_OPEN = tuple(status for status in RunStatus if status not in FINAL_STATUSES)


class LeftError(Exception):
    """The command stops, the run stays as it is.

    Attributes:
        exit_code: what the command ends with.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@dataclass(slots=True)
class Follower:
    """One run, followed by one command.

    Attributes:
        target: what the run was started from, for the advice how to go on.
        answers: answers from a file; None asks the person, or nobody.
        wait: whether to stay when the run waits for a person that is not here.
    """

    session: Session
    client: Client
    execution: Execution[Any]
    interrupts: Interrupts
    display: Silence
    target: str
    answers: Answers | None = None
    wait: bool = True

    async def to_end(self) -> RunStatus:
        """Follow the run until it is final.

        Raises:
            LeftError: it was left as it is.
        """
        watching = _Watching(self)
        finished = asyncio.create_task(self.execution.wait())
        nudging = asyncio.create_task(watching.nudge())
        try:
            while not finished.done():
                await watching.look()
                await watching.answer(finished)
                await _first(finished, watching.interrupt, watching.nudged)
                if watching.interrupted and not finished.done():
                    await watching.decide(finished)
            await watching.look()
            return await finished
        finally:
            self.display.hide()
            for task in (finished, nudging):
                task.cancel()
            await asyncio.gather(finished, nudging, return_exceptions=True)

    @property
    def advice(self) -> str:
        """How the run goes on without this command: a pause is ended first."""
        if self.session.is_remote:
            return f"is the server's; see it with: {self.command(f'show {self.execution.id}')}"
        return f"goes on with: {self._commands}"

    @property
    def _commands(self) -> str:
        paused = [wait.run_id or self.execution.id for wait in self.execution.waiting_on if wait.kind == "paused"]
        words = [f"resume {run_id}" for run_id in paused] + [f"worker {shlex.quote(self.target)}"]
        return "  and then: ".join(self.command(one) for one in words)

    def command(self, words: str) -> str:
        """A command line for the same database."""
        return f"osp {f'--db {shlex.quote(self.session.url)} ' if self.session.url else ''}{words}"


class _Watching:
    """What a follower knows about the run that it follows."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.execution = follower.execution
        self.nudged = asyncio.Event()
        self._decided = False
        self._cancelling = False
        self._terminal = Terminal()
        self._log_number = 0
        self._dealt_with: set[tuple[str, int]] = set()

    @property
    def interrupted(self) -> bool:
        """Whether a signal came that nothing was decided about yet."""
        return self.follower.interrupts.received is not None and not self._decided

    @property
    def interrupt(self) -> asyncio.Event | None:
        """What wakes at the signal; None once it was decided about."""
        return None if self._decided else self.follower.interrupts.came

    async def nudge(self) -> None:
        """Note each event of the run."""
        with suppress(OSProtocolError):
            async for _ in self.execution.events(after=self.execution.snapshot.event):
                self.nudged.set()

    async def look(self) -> None:
        """Show new log lines and where the run stands."""
        self.nudged.clear()
        while lines := await self.execution.read_logs(after=self._log_number):
            for line in lines:
                self.follower.display.log(line)
            self._log_number = lines[-1].number
        self.follower.display.show(self.execution.snapshot)
        self.follower.interrupts.last_words = f"; run {self.execution.id} {self.follower.advice}"

    # ------------------------------------------------------------------ answers

    async def answer(self, finished: asyncio.Task[RunStatus]) -> None:
        """Deal with the requests of the run and its children that are open now."""
        for execution, request in await self._open_requests():
            if finished.done() or (request.id, request.revision) in self._dealt_with:
                continue
            if self.interrupted or self._cancelling:
                return
            await self._deal_with(execution, request)
        if not self.follower.wait and self.execution.status is RunStatus.AWAITING and not self.interrupted:
            left = [(request.id, request.revision) for _, request in await self._open_requests()]
            if left and self._dealt_with.issuperset(left):
                raise LeftError(ExitCode.UNFINISHED)

    async def _open_requests(self) -> list[tuple[Execution[Any], Request]]:
        found = [(self.execution, request) for request in self.execution.requests]
        parents = [self.execution.id]
        while parents:
            children = await self.follower.client.list(parent=parents.pop(), status=_OPEN)
            for child in children.items:
                parents.append(child.id)
                if child.waiting_on:
                    execution = await self.follower.client.get(child.id)
                    found += [(execution, request) for request in execution.requests]
        return found

    async def _deal_with(self, execution: Execution[Any], request: Request) -> None:
        follower = self.follower
        if follower.answers is not None:
            try:
                if await follower.answers.give(execution, request):
                    return
            except CommandError as error:
                raise CommandError(f"{error}; run {self.execution.id} still waits, answer with: "
                                   f"{self._how_to_answer(request)}", error.code) from None  # fmt: skip
        if follower.session.interactive:
            follower.display.hide()
            if await self._ask(execution, request):
                return
        self._dealt_with.add((request.id, request.revision))
        follower.display.hide()
        say(
            f"run {request.run_id} waits for {request.kind} {short(request.prompt)!r}; "
            f"answer with: {self._how_to_answer(request)}"
        )

    def _how_to_answer(self, request: Request) -> str:
        if request.kind == "approval":
            by = " --by NAME" if request.approvers or request.required_approvals > 1 else ""
            return self.follower.command(f"approve {request.id}{by}") + f"  (or: reject {request.id}{by})"
        return self.follower.command(f"respond {request.id} {'retry' if request.kind == 'attention' else 'VALUE'}")

    async def _ask(self, execution: Execution[Any], request: Request) -> bool:
        """Ask the person; False when that person cannot or will not answer."""
        asking = asyncio.create_task(ask_request(self._terminal, execution, request))
        try:
            while not asking.done():
                await _first(asking, self.interrupt)
                if self.interrupted:
                    return True
                if not asking.done() and request.id not in {one.id for one in execution.requests}:
                    say(f"\n  {await self._why_withdrawn(execution, request)}")
                    return True
            answered = await asking
            if answered.status == "open":
                say(f"  {standing_text(answered)}; others answer with: {self._how_to_answer(answered)}")
        except NobodyAnswersError:
            say("")
            return False
        except InvalidAnswerError as error:
            say(f"  {clean(error)}")
            return True
        except (RequestClosedError, StaleRequestError) as error:
            say(f"  {clean(error)}")
        except OSProtocolError as error:
            say(f"  {clean(error)}")
            return False
        finally:
            await _stop(asking)
        self._dealt_with.add((request.id, request.revision))
        return True

    async def _why_withdrawn(self, execution: Execution[Any], request: Request) -> str:
        """What became of a request that is no longer open while the person still thinks about it."""
        _, closed = await self.follower.client.find_request(request.id)
        if closed.status == "expired":
            fate = ", which approves it" if request.auto_approve_on_timeout else ""
            return f"Nobody answered in time: the {request.kind} expired{fate}."
        if closed.status != "cancelled":
            return "Answered elsewhere."
        if execution.cancelling or execution.status is RunStatus.CANCELLED:
            return "The run was cancelled; no answer is needed any more."
        return "It was withdrawn; no answer is needed any more."

    # ------------------------------------------------------------------- Ctrl-C

    async def decide(self, finished: asyncio.Task[RunStatus]) -> None:
        """Cancel the run or leave it, as the person says; without one, leave it."""
        self._decided = True
        follower = self.follower
        follower.display.hide()
        if follower.interrupts.received is signal.SIGINT and follower.session.interactive:
            question = (
                f"\nCancel run {self.execution.id}, or leave it to be continued later? (c/l, again Ctrl-C stops) "
            )
            asking = asyncio.create_task(self._terminal.ask(question, fresh=True))
            await asyncio.wait((asking, finished), return_when=asyncio.FIRST_COMPLETED)
            line = asking.result() if asking.done() else None
            await _stop(asking)
            if finished.done():
                return
            if (line or "").strip().lower() in ("c", "cancel"):
                await self._cancel(finished)
                return
        say(f"run {self.execution.id} is left {self.execution.status.value}; it {follower.advice}")
        raise LeftError(follower.interrupts.exit_code)

    async def _cancel(self, finished: asyncio.Task[RunStatus]) -> None:
        self._cancelling = True
        cancelling = asyncio.create_task(self.execution.cancel("cancelled with Ctrl-C"))
        await asyncio.wait((cancelling, finished), return_when=asyncio.FIRST_COMPLETED)
        try:
            await cancelling
        except OSProtocolError as error:
            # A veto, or it ended first: it goes on being followed, and a second Ctrl-C still stops.
            say(clean(error))
            self._cancelling = False


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _first(task: asyncio.Task[Any], *events: asyncio.Event | None) -> None:
    """Wait for the task, or one of the events, or until it is time to look again."""
    coroutines: list[Coroutine[Any, Any, Any]] = [event.wait() for event in events if event is not None]
    waits = [asyncio.create_task(one) for one in coroutines]
    try:
        await asyncio.wait((task, *waits), timeout=_LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
