"""Named clock changes, each while something waits: nothing fires before its time, and everything fires once.

What waits is due a minute after the start. A clock change is a list of instants that the clock is set to, one after the
other, in seconds after the start. From the first instant at or after the due time on the thing must have happened;
before that it must not have, and no later instant undoes it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw

from osprotocol import ApprovalConfig, Context, Execution, Retry, RunOptions, Timeout, step, workflow
from osprotocol._ids import Ids
from osprotocol.errors import RunError
from tests.crash.checks import problems
from tests.crash.clock import ManualClock
from tests.crash.life import Life
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.memory_disk import folder_in_memory

_S = 1_000_000
_DUE_S = 60.0
_HOUR, _YEAR = 3_600.0, 365.25 * 86_400.0
_TO_1970 = float("-inf")
_LOOKS = 100
_MOST_COMMITS = 10
"""What one setting of the clock may cost: more would be a storm."""

_fired: list[str] = []
_tries: list[str] = []


@step(name="clock.fires")
async def fires(what: str) -> str:
    _fired.append(what)
    return what


@step(name="clock.second_time", retry=Retry(attempts=1, delay_ms=60_000))
async def second_time() -> str:
    _tries.append("try")
    if len(_tries) == 1:
        raise ConnectionError("once")
    _fired.append("retried")
    return "retried"


@workflow(name="clock.sleeps")
async def sleeps(ctx: Context) -> str:
    await ctx.sleep(ms=60_000)
    return await ctx.step(fires, "slept")


@workflow(name="clock.expires")
async def expires(ctx: Context) -> str:
    approval = await ctx.wait_for_approval("In time?", ApprovalConfig(timeout_ms=60_000))
    return await ctx.step(fires, approval.outcome)


@workflow(name="clock.times_out", options=RunOptions(timeout=Timeout(ms=60_000, clock="wall", on_timeout="cancel")))
async def times_out(ctx: Context) -> str:
    try:
        await ctx.wait_for_input("For ever?")
    finally:
        await ctx.step(fires, "timed out")
    return "never"


@workflow(name="clock.retries")
async def retries(ctx: Context) -> str:
    return await ctx.step(second_time)


@workflow(name="clock.again", options=RunOptions(retry=Retry(attempts=1, delay_ms=60_000)))
async def again(ctx: Context) -> str:
    if ctx.attempt == 1:
        raise ConnectionError("once")
    return await ctx.step(fires, "again")


@dataclass(frozen=True)
class Change:
    """A named change of the clock.

    Attributes:
        instants: seconds after the start that the clock is set to; minus infinity is 1970.
        zone: the local time zone meanwhile; the clock then starts half a minute before its time changes.
        changes_at: when that is, as ISO text.
    """

    name: str
    instants: tuple[float, ...]
    zone: str | None = None
    changes_at: str | None = None


_EACH = (0.0, 29.0, 30.0, 31.0, 59.0, 59.999999, 60.0, 61.0)
CHANGES = (
    Change("an hour ahead", (_HOUR,)),
    Change("an hour back", (30.0, 30.0 - _HOUR, 59.999999, 60.0)),
    Change("an hour back for good", (30.0, -_HOUR)),
    Change("ten years ahead", (10 * _YEAR,)),
    Change("ten years ahead and back", (10 * _YEAR, 1.0, 59.0, 61.0)),
    Change("back to 1970", (30.0, _TO_1970, 30.0, 59.0, 60.0)),
    Change("to and fro by a second", (58.0, 59.0, 58.0, 59.0, 58.0, 59.0, 60.0, 59.0, 60.0, 59.0, 60.0)),
    Change("frozen", (0.0, 0.0, 0.0, 59.999999, 59.999999, 59.999999, 60.0)),
    Change("spring in Berlin", _EACH, "Europe/Berlin", "2026-03-29T01:00:00+00:00"),
    Change("autumn in New York", _EACH, "America/New_York", "2026-11-01T06:00:00+00:00"),
    Change("half an hour in Lord Howe", _EACH, "Australia/Lord_Howe", "2026-04-04T15:00:00+00:00"),
    Change("a day that Apia never had", _EACH, "Pacific/Apia", "2011-12-30T10:00:00+00:00"),
)


@dataclass(frozen=True)
class Situation:
    """What waits while the clock changes.

    Attributes:
        linger_ms: 0 takes what waits out of memory.
        lives: how many workers there are; 0 is none until the clock has changed.
        pauses: the run is paused meanwhile, and goes on with what was left of its time.
    """

    name: str
    workflow: Any
    fired: str
    status: str = "completed"
    linger_ms: int = 0
    lives: int = 1
    pauses: bool = False


SITUATIONS = (
    Situation("asleep", sleeps, "slept"),
    Situation("asleep in memory", sleeps, "slept", linger_ms=10_000_000),
    Situation("waiting with expiry", expires, "expired"),
    Situation("waiting with expiry in memory", expires, "expired", linger_ms=10_000_000),
    Situation("in a run with a timeout", times_out, "timed out", status="cancelled"),
    Situation("before a step's retry", retries, "retried"),
    Situation("before the run's retry", again, "again"),
    Situation("asleep and paused", sleeps, "slept", pauses=True),
    Situation("asleep beside three workers", sleeps, "slept", lives=3),
    Situation("asleep while nobody lives", sleeps, "slept", lives=0),
    Situation("waiting with expiry while nobody lives", expires, "expired", lives=0),
)
CASES = [(change, situation) for change in CHANGES for situation in SITUATIONS]
_STRIDE = 13


@contextmanager
def local_zone(zone: str | None) -> Iterator[None]:
    """The process is in that time zone inside the block."""
    before = os.environ.get("TZ")
    try:
        if zone is not None:
            os.environ["TZ"] = zone
            time.tzset()
        yield
    finally:
        if zone is not None:
            os.environ.pop("TZ")
            if before is not None:
                os.environ["TZ"] = before
            time.tzset()


class Story:
    """One situation under one change."""

    def __init__(self, change: Change, situation: Situation, path: Path) -> None:
        self.told = f"{situation.name}, {change.name}"
        self.change = change
        self.situation = situation
        self.path = path
        self.clock = ManualClock()
        if change.changes_at is not None:
            self.clock = ManualClock(int(datetime.fromisoformat(change.changes_at).timestamp() - 30) * _S)
        self.start = self.clock.now()
        self.ids = Ids(5)
        self.lives: list[Life] = []
        self.run_id = ""
        self.latest = 0.0

    async def _begin(self) -> Life:
        life = Life(self.path, self.clock, linger_ms=self.situation.linger_ms, ids=self.ids)
        self.lives.append(life)
        await life.client.open()
        return life

    async def tell(self) -> None:
        for _ in range(max(1, self.situation.lives)):
            await self._begin()
        self.run_id = (await self.lives[0].client.create_run(self.situation.workflow).start()).id
        await self._settle()
        if self.situation.pauses:
            await (await self._execution()).pause()
        if self.situation.lives == 0:
            await self._change_while_nobody_lives()
        else:
            for instant in self.change.instants:
                await self._set(instant)
        if self.situation.pauses:
            await self._resume()
        await self._set(max(self.latest, _DUE_S) + 120.0)
        await self._judge_end()
        for life in self.lives:
            await life.close()

    async def _change_while_nobody_lives(self) -> None:
        await self.lives.pop().die()
        for instant in self.change.instants:
            self._move(instant)
        await self._begin()
        await self._check(self.clock.now() >= self.start + int(_DUE_S * _S))

    def _move(self, instant: float) -> None:
        now = 0 if instant == _TO_1970 else self.start + round(instant * _S)
        self.latest = max(self.latest, instant)
        self.clock.set(now)

    async def _set(self, instant: float) -> None:
        commits = self._commits()
        self._move(instant)
        await self._check(self.latest >= _DUE_S and not self._is_paused)
        if self._commits() - commits > _MOST_COMMITS * len(self.lives):
            raise Violation(f"{self.told}: setting the clock once cost {self._commits() - commits} commits")

    def _commits(self) -> int:
        return sum(life.commits for life in self.lives)

    @property
    def _is_paused(self) -> bool:
        return self.situation.pauses and not self._resumed

    _resumed = False

    async def _resume(self) -> None:
        """After a pause what was left of the time is slept; a clock that was set back shortens nothing."""
        now = self.clock.now()
        stood = max(0, now - self.start)
        self._resumed = True
        await (await self._execution()).resume()
        await self._settle()
        if _fired:
            raise Violation(f"{self.told}: it woke with the end of the pause")
        self.start, self.latest = self.start + stood, (now - self.start - stood) / _S
        await self._set(_DUE_S - 0.000001)
        await self._set(_DUE_S)

    async def _check(self, has_fired: bool) -> None:
        """Wait for what must have happened; look for what must not have."""
        await self._settle()
        for _ in range(_LOOKS):
            if len(_fired) >= has_fired:
                break
            await asyncio.sleep(0.01)
            await self._settle()
        at = (self.clock.now() - self.start) / _S
        if _fired and not has_fired:
            raise Violation(f"{self.told}: {_fired} before its time, at {at:g} s")
        if _fired != [self.situation.fired] * has_fired:
            raise Violation(f"{self.told}: {_fired} at {at:g} s, once {self.situation.fired!r} was to be")
        if wrong := problems(self.path):
            raise Violation(f"{self.told}: {wrong[0]}")

    async def _settle(self) -> None:
        for life in self.lives:
            await life.settle()

    async def _execution(self) -> Execution[Any]:
        return await (await self.lives[0].client.get(self.run_id)).refresh()

    async def _judge_end(self) -> None:
        execution = await self._execution()
        await self._until(lambda: self._has(execution))
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        negative = connection.execute("SELECT count(*) FROM runs WHERE active_us < 0 OR paused_us < 0").get
        connection.close()
        if negative:
            raise Violation(f"{self.told}: a duration is negative")
        if self.situation.workflow is expires:
            await self._vote_late(execution)

    async def _has(self, execution: Execution[Any]) -> bool:
        return (await execution.refresh()).status == self.situation.status

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(_LOOKS):
            if await condition():
                return
            await asyncio.sleep(0.01)
        raise Violation(f"{self.told}: the run did not end {self.situation.status}")

    async def _vote_late(self, execution: Execution[Any]) -> None:
        self._move(1.0)
        try:
            await execution.approve(by="ann")
        except RunError:
            return
        raise Violation(f"{self.told}: a clock that was set back let a vote in after the expiry")


def case(number: int, tally: Tally) -> None:
    """One named change in one situation."""
    change, situation = CASES[number * _STRIDE % len(CASES)]
    _fired.clear()
    _tries.clear()
    with folder_in_memory() as folder, local_zone(change.zone):
        asyncio.run(Story(change, situation, folder / "runs.db").tell())
    tally.count("clock changes", len(change.instants))
    tally.mark(change.name)
    tally.mark(situation.name)


HARNESS = Harness(
    name="clock_cases",
    title="named clock changes while something waits",
    case=case,
    full=len(CASES),
    small=44,
    quotas={**{change.name: len(SITUATIONS) for change in CHANGES}, **{one.name: len(CHANGES) for one in SITUATIONS}},
    small_marks=(*(change.name for change in CHANGES), *(situation.name for situation in SITUATIONS)),
)

if __name__ == "__main__":
    main(HARNESS)
