"""The people of a simulated world: they start, answer, pause and cancel runs, try again, and go away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from osprotocol import Execution, RunOptions
from osprotocol.errors import (
    CancelVetoedError,
    EngineClosedError,
    EngineError,
    OSProtocolError,
    RequestClosedError,
    RunCancelledError,
    RunError,
    RunFailedError,
)
from osprotocol.protocol.request import Request
from tests.lab.sim.account import Account
from tests.lab.sim.node import Node
from tests.lab.sim.program import PEOPLE, Op
from tests.lab.sim.world import World

_PATIENCE = 6
_MOVING = ("pending", "in-progress", "awaiting")


class Desk:
    """One process from which people act.

    Args:
        known: ids of the runs that somebody was told of, shared by all desks.
    """

    def __init__(self, world: World, account: Account, node: Node, known: dict[str, str]) -> None:
        self.world = world
        self.account = account
        self.node = node
        self.known = known

    async def nap(self, least_ms: float, most_ms: float) -> None:
        await asyncio.sleep(self.world.chance.uniform(least_ms, most_ms) / 1_000)

    async def persist(self, doing: Callable[[], Awaitable[Any]]) -> Any:
        """Do it again while the disk is in trouble. A refusal is an answer; None when it never worked.

        Raises:
            RunError: it was refused.
        """
        for _ in range(_PATIENCE):
            try:
                return await doing()
            except (EngineClosedError, RunError):
                raise
            except EngineError:
                self.world.mark("a caller was told of trouble")
                await self.nap(1, 60)
        return None

    # ------------------------------------------------------------------ starting

    async def start(self, workflow: Any, ops: list[Op], key: str, wait_ms: float) -> None:
        """Start a run under a key, and watch it to its end."""
        await self.nap(0, wait_ms)
        run = self.node.client.create_run(workflow, ops, RunOptions(idempotency_key=key))
        execution: Execution[Any] | None = await self.persist(run.start)
        if execution is None:
            return
        self.account.tell("started", execution.id, key)
        if key in self.known:
            self.world.mark("a run was started twice with one key")
        self.known[key] = execution.id
        if self.world.chance.random() < 0.4:
            self.node.run(self.follow(execution))
        try:
            value: Any = ("completed", await execution.result)
        except RunFailedError as error:
            value = ("failed", type(error).__name__)
        except RunCancelledError as error:
            value = ("cancelled", error.reason)
        self.account.tell("ended", execution.id, *value)

    async def follow(self, execution: Execution[Any]) -> None:
        """Read every event of a run, and see that none is missing."""
        number = 0
        with contextlib.suppress(OSProtocolError):
            async for event in execution.events():
                if event.number != number + 1:
                    self.world.wrong(f"events of {execution.id}: {event.number} came after {number}")
                number = event.number
                self.account.tell("event", execution.id, event.number, event.type)

    # ----------------------------------------------------------------- answering

    async def answer(self, person: str, until: Callable[[], bool]) -> None:
        """Look for questions now and then, and answer some."""
        chance = self.world.chance
        while not until():
            await self.nap(10, 300)
            try:
                requests = (await self.node.client.requests()).items
            except EngineError:
                continue
            for request in requests:
                if chance.random() < 0.6:
                    await self._answer_one(person, request)

    async def _answer_one(self, person: str, request: Request) -> None:
        chance, aimed = self.world.chance, False
        if request.expires_at is not None and chance.random() < 0.4:
            # At the very instant of the deadline, by the clock of this process, or a little beside it.
            left_us = int(request.expires_at.timestamp() * 1_000_000) - self.node.wall_us
            if 0 < left_us < 3_000_000:
                await asyncio.sleep(max(0, left_us + chance.choice((-200, 0, 0, 0, 1, 200))) / 1_000_000)
                self.world.mark("a vote at its deadline")
                aimed = True
        task = asyncio.current_task()
        if chance.random() < 0.05 and task is not None:
            # It gives up in the middle: whoever asked may hear nothing, what was sent may count.
            asyncio.get_running_loop().call_later(chance.choice((0, 0.0001, 0.002)), task.cancel)
            self.world.mark("a caller gave up in the middle")
        try:
            counted = await self.vote(person, request)
            if aimed and counted is not None:
                self.world.mark("a vote came before its deadline" if counted else "a deadline came before its vote")
        except asyncio.CancelledError:
            if task is not None:
                task.uncancel()
        await self._forget_giving_up()

    async def _forget_giving_up(self) -> None:
        """A cancel that came after the answer is none of the next one's."""
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.003)
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()

    async def vote(self, person: str, request: Request, *, yes: bool | None = None) -> bool | None:
        """Answer one question once, and keep what came of it: whether it counts; None if that is another matter."""
        chance, client = self.world.chance, self.node.client
        approved = chance.random() < 0.8 if yes is None else yes
        number = chance.randrange(100)

        async def send() -> Request:
            execution = await client.get(request.run_id)
            if request.kind == "approval":
                voting = execution.approve if approved else execution.reject
                return await voting(request_id=request.id, by=person)
            if request.kind == "input":
                return await execution.respond(number, request_id=request.id, by=person)
            choice: Any = chance.choice(("retry", {"choice": "skip", "value": "skipped"}))
            return await execution.respond(choice, request_id=request.id, by=person)

        try:
            answered = await self.persist(send)
        except RequestClosedError:
            self.world.mark("an answer came too late")
            return False
        except (RunError, EngineClosedError):
            return None
        if answered is None:
            return None
        kind = {"approval": "voted", "input": "answered"}.get(request.kind)
        if kind is not None:
            self.account.tell(kind, request.id, person, approved if kind == "voted" else number, answered.status)
        return True

    # ------------------------------------------------------------------ steering

    async def steer(self, until: Callable[[], bool]) -> None:
        """Pause, resume and cancel runs now and then."""
        chance = self.world.chance
        while not until():
            await self.nap(20, 500)
            if not self.known:
                continue
            run_id = chance.choice(list(self.known.values()))
            with contextlib.suppress(EngineError, RunError):
                execution = await self.node.client.get(run_id)
                if chance.random() < 0.35:
                    await self._cancel(execution)
                else:
                    await self._pause(execution)

    async def _cancel(self, execution: Execution[Any]) -> None:
        graceful = self.world.chance.choice((None, None, True, False))
        try:
            said = await execution.cancel("enough", by="eve", graceful=graceful)
        except CancelVetoedError:
            return
        self.account.tell("cancel", execution.id, said)
        self.world.mark(f"cancel: {said}")

    async def _pause(self, execution: Execution[Any]) -> None:
        await execution.pause("wait", by="eve")
        self.account.held[execution.id] = self.world.now_us
        self.world.mark("paused")
        await self.nap(10, 400)
        self.account.held.pop(execution.id, None)
        await execution.resume(by="eve")

    # -------------------------------------------------------------------- mending

    async def bring_to_an_end(self) -> None:
        """Help every run on until all are final."""
        client, account = self.node.client, self.account
        account.held.clear()
        pause_s = 0.01
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(1.25 * pause_s, 0.5)
            moving = (await client.list(status=_MOVING, limit=200)).items
            if not moving:
                return
            for snapshot in moving:
                with contextlib.suppress(RunError):
                    execution = await client.get(snapshot.id)
                    if any(wait.kind == "paused" for wait in snapshot.waiting_on):
                        account.held.pop(snapshot.id, None)
                        await execution.resume(by="fay")
            for request in (await client.requests()).items:
                await self._help(request)

    async def _help(self, request: Request) -> None:
        people = request.approvers or PEOPLE
        voted = {response.by.casefold() for response in request.responses}
        for person in people:
            if person.casefold() not in voted:
                await self.vote(person, request, yes=True)
                return
