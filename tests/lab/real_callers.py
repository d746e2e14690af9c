"""A process from which people act, for one history after the other. It reads and writes a JSON line a command."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from osprotocol import Client, connect
from osprotocol.errors import EngineError
from tests.lab.callers import SPELLINGS, hear, history_run, make_act, perform, reply_of
from tests.lab.linearizable import Call

_CALLERS = 4
_LOOK_S = 0.002
_FINAL = ("completed", "failed", "cancelled")


def now_us() -> float:
    """One clock for all processes of the machine."""
    return time.monotonic_ns() / 1_000


class Office:
    """One history, as seen from this process."""

    def __init__(self, number: int, seat: int, kind: str, client: Client) -> None:
        self.seat = seat
        self.kind = kind
        self.client = client
        self.chance = random.Random(f"real_histories {number} {seat}")
        self.calls: list[Call] = []

    async def start(self, told: list[Any]) -> dict[str, Any]:
        """Start the run, and wait until it asks."""
        execution = await self.client.create_run(history_run, told).start()
        if self.kind:
            async for event in execution.events():
                if event.type == "request.opened":
                    break
        await execution.refresh()
        asked = execution.requests[0] if execution.requests else None
        return {"run": execution.id, "request": None if asked is None else asked.id}

    async def act(self, run_id: str, request_id: str | None, meeting_us: float, deadline_us: float | None) -> None:
        """Everybody does what is on the list."""
        async with asyncio.TaskGroup() as group:
            for number in range(_CALLERS):
                group.create_task(self._call(f"caller {number}", run_id, request_id, meeting_us, deadline_us))

    async def _call(
        self, name: str, run_id: str, request_id: str | None, meeting_us: float, deadline_us: float | None
    ) -> None:
        chance, person = self.chance, self.chance.choice(tuple(SPELLINGS))
        todo = [(make_act(self.kind, person, chance), chance.random()) for _ in range(chance.choice((1, 2, 2)))]
        for act, when in todo:
            at_us = deadline_us if deadline_us is not None and when < 0.4 else meeting_us
            wait_us = at_us - now_us() + chance.choice((-300, 0, 0, 0, 50, 1_000))
            await asyncio.sleep(max(0.0, wait_us / 1_000_000))
            spelling = chance.choice(SPELLINGS[act[1]]) if act[0] in ("vote", "answer") else "eve"
            call = Call(name, self.seat, act, now_us())
            self.calls.append(call)
            try:
                reply = await reply_of(perform(self.client, run_id, request_id, act, spelling))
            except EngineError:
                continue
            self.calls += hear(call, reply, now_us())

    async def settle(self, run_id: str) -> None:
        """Wait until nothing of the run moves without people."""
        execution = await self.client.get(run_id)
        while execution.status.value not in _FINAL and (execution.cancelling or not execution.waiting_on):
            await asyncio.sleep(_LOOK_S)
            await execution.refresh()


async def _serve(seat: int) -> None:
    loop, office, leave = asyncio.get_running_loop(), None, asyncio.Event()
    living: asyncio.Task[None] | None = None

    async def live(path: Path, number: int, kind: str, opened: asyncio.Future[Office], gone: asyncio.Event) -> None:
        async with connect(path, worker=seat == 0 or number % 3 == 0, durability="off") as client:
            opened.set_result(Office(number, seat, kind, client))
            await gone.wait()

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        verb, *told = json.loads(line)
        said: Any = None
        if verb == "open":
            opened: asyncio.Future[Office] = loop.create_future()
            leave = asyncio.Event()
            living = loop.create_task(live(Path(told[0]), told[1], told[2], opened, leave))
            office = await opened
        elif verb == "close":
            leave.set()
            assert living is not None
            await living
        else:
            assert office is not None
            if verb == "start":
                said = await office.start(told[0])
            elif verb == "act":
                await office.act(*told)
                said = [
                    [call.client, call.process, call.act, call.called, call.returned, call.reply]
                    for call in office.calls
                ]
            else:
                await asyncio.wait_for(office.settle(told[0]), 30)
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
