"""The whole product, killed: servers under load are killed, asked to end and stopped at any instant, and started again.

Callers keep what they were told; afterwards it is compared with the file, with the effects that really happened and
with what was read from the live streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import apsw
import httpx2

from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.product.callers import Callers
from tests.lab.product.engine_caller import through_the_engine
from tests.lab.product.listening import Listener
from tests.lab.product.lives import Life
from tests.lab.product.nursery import Nursery
from tests.lab.product.verifying import Verifier
from tests.lab.product.world import World, new_world

_KINDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
_STRIKES = 3
"""In one case."""
_ACKS = ("starts", "votes", "answers", "cancels", "pauses", "resumes")
_MODES = ("starting", "any instant", "any instant", "told", "told")
_COLD = 0.04
"""The share of lives that a shell's cold start begins; they take ten times as long."""
_GRACE_S = 15.0
"""`osp serve` gives requests 5 s and then steps 5 s; the rest is for a busy machine."""
_QUIET_S = 60.0
_PACE_S = 0.05
_LOOK_S = 0.01
_UNFINISHED = "SELECT count(*) FROM runs WHERE ended_at IS NULL"
_LEFT = """
SELECT r.id, r.workflow, r.status, 'owner', r.owner, w.status, w.name, 'executing', r.executing, 'deaths', r.deaths,
'ready', r.ready_at, 'due', r.due_at, 'requests', r.open_requests, 'pause', r.pause_at, r.pause_settled_at,
'cancel', r.cancel, (SELECT group_concat(type, ' ') FROM journal j WHERE j.run = r.key)
FROM runs r LEFT JOIN workers w ON w.key = r.owner WHERE r.ended_at IS NULL
"""
_HELD = "SELECT count(*) FROM runs WHERE owner IS NOT NULL"

REGRESSIONS: tuple[int, ...] = ()
_nursery: list[Nursery] = []


class Place:
    """Where a process is, one life after the other.

    Attributes:
        life: the present one.
        zombies: processes whose runs were given to others while they were stopped.
    """

    def __init__(self, world: World, kind: str, number: int, chance: random.Random, tally: Tally) -> None:
        self.kind = kind
        self.number = number
        self.zombies: set[int] = set()
        self._world = world
        self._chance = chance
        self._tally = tally
        self.life = self._begin()

    def _begin(self) -> Life:
        is_cold = self._chance.random() < _COLD
        self._tally.count("lives begun cold" if is_cold else "lives forked")
        words = self._world.words(self.kind, self.number)
        return Life(None if is_cold else _nursery[0], words, self._world.database, self._world.ledger)

    def again(self) -> None:
        """The next life, at once and at the same place."""
        self.life = self._begin()

    async def ready(self) -> None:
        """Until it answers; a worker is ready when it exists."""
        url = f"{self._world.url(self.number)}/healthz"
        until = time.monotonic() + _QUIET_S
        async with httpx2.AsyncClient(timeout=_QUIET_S, trust_env=False) as http:
            while self.kind == "serve":
                with contextlib.suppress(httpx2.TransportError):
                    if (await http.get(url)).status_code == 200:
                        return
                if self.life.has_ended() or time.monotonic() > until:
                    raise Violation(
                        f"osp {self.kind} does not start ({self.life.ended}):\n{self._world.output()[-2_000:]}"
                    )
                await asyncio.sleep(_LOOK_S / 2)

    async def over(self, seconds: float) -> bool:
        """Until this life has ended; False when it goes on for longer."""
        until = time.monotonic() + seconds
        while not self.life.has_ended():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(_LOOK_S / 4)
        return True


class Nemesis:
    """What befalls the processes of one case."""

    def __init__(
        self, world: World, places: list[Place], callers: Callers, chance: random.Random, tally: Tally
    ) -> None:
        self._world = world
        self._places = places
        self._callers = callers
        self._chance = chance
        self._tally = tally

    async def strike(self, kind: signal.Signals) -> None:
        """One process is killed, asked to end or stopped, at some instant; then it lives again."""
        place = self._chance.choice(self._places)
        if kind is signal.SIGSTOP:
            await self._stop(place)
            return
        mode = self._chance.choice(_MODES)
        is_up = mode != "starting"
        if is_up:
            await place.ready()
        if mode == "told":
            await self._when_told(place, kind, self._chance.choice(_ACKS))
        else:
            await asyncio.sleep(self._chance.random() * (0.4 if is_up else 0.06))
            place.life.signal(kind)
        await self._ends(place, kind, is_up=is_up)
        self._tally.mark(f"{kind.name}: {mode}")
        place.again()

    async def _when_told(self, place: Place, kind: signal.Signals, wanted: str) -> None:
        """At the very instant at which a caller has been told of a success."""
        happened = asyncio.Event()

        def strike(what: str) -> None:
            if what == wanted and not happened.is_set():
                place.life.signal(kind)
                happened.set()
                self._tally.mark(f"struck when {what} were told")

        self._callers.history.on_ack = strike
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.6):
                    await happened.wait()
        finally:
            self._callers.history.on_ack = lambda what: None
        place.life.signal(kind)

    async def _ends(self, place: Place, kind: signal.Signals, *, is_up: bool) -> None:
        began = time.monotonic()
        if not await place.over(_GRACE_S):
            raise Violation(f"osp {place.kind} did not end within {_GRACE_S} s of {kind.name}")
        code = place.life.ended
        allowed = {-signal.SIGKILL} if kind is signal.SIGKILL else {0}
        if kind is signal.SIGTERM and (not is_up or place.kind == "worker"):
            allowed |= {-signal.SIGTERM, 143, 0}  # it may not have come so far as to handle it
        if code not in allowed:
            raise Violation(f"osp {place.kind} ended with {code} at {kind.name}:\n{self._world.output()[-2_000:]}")
        if kind is not signal.SIGTERM or code != 0:
            return
        self._tally.gauge("longest stop after SIGTERM (s)", time.monotonic() - began)
        if len(self._places) == 1:
            held = ask(self._world, _HELD)
            if held:
                raise Violation(f"{held} runs are still held after an orderly stop")
            self._tally.mark("orderly stops")

    async def _stop(self, place: Place) -> None:
        """A process stands still for a while; if there is another, its runs may go there meanwhile."""
        await place.ready()
        await asyncio.sleep(self._chance.random() * 0.2)
        life = place.life
        others = [one for one in self._places if one is not place and one.kind == "serve"]
        if not others or self._chance.random() < 0.3:
            life.stop()
            await asyncio.sleep(self._chance.random() * 0.3)
            life.go_on()
            self._tally.mark("stopped and continued")
            return
        await others[0].ready()
        await asyncio.to_thread(life.freeze)
        try:
            if await self._evict(life.pid, others[0]):
                place.zombies.add(life.pid)
            await asyncio.sleep(self._chance.random() * 0.3)
        finally:
            life.go_on()
        self._tally.mark("stopped, its runs taken away, and continued")
        await asyncio.sleep(self._chance.random() * 0.2)

    async def _evict(self, pid: int, by: Place) -> bool:
        url = f"{self._world.url(by.number)}/api/v1/workers"
        headers = {"Authorization": f"Bearer {self._world.tokens['root']}", "Content-Type": "application/json"}
        async with httpx2.AsyncClient(timeout=_QUIET_S, trust_env=False, headers=headers) as http:
            found = (await http.get(url)).json()["items"]
            mine = [one["id"] for one in found if one["name"].endswith(f":{pid}") and one["status"] == "alive"]
            for worker in mine:
                (await http.post(f"{url}/{worker}/evict", json={})).raise_for_status()
        return bool(mine)


def ask(world: World, query: str) -> int:
    """One number from the file, read beside the processes."""
    connection = apsw.Connection(str(world.database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(5_000)
        return int(connection.execute(query).get)
    finally:
        connection.close()


def left_over(world: World) -> list[str]:
    """Where the runs that are not final stand."""
    connection = apsw.Connection(str(world.database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows: list[tuple[object, ...]] = connection.execute(_LEFT).fetchall()
        return [" ".join(map(str, row)) for row in rows]
    finally:
        connection.close()


class _Readers:
    """Everybody who listens in one case."""

    def __init__(self, world: World, servers: int, chance: random.Random, tally: Tally) -> None:
        self._urls = [world.url(place) for place in range(servers)]
        self._tokens, self._chance, self._tally = world.tokens, chance, tally
        self.of_all = [self._new("ray", None, 0.08), self._new("rob", None, 60.0)]
        self.of_runs: list[Listener] = []
        self.tasks = [asyncio.create_task(one.listen()) for one in self.of_all]

    def _new(self, by: str, run_id: str | None, stay_s: float) -> Listener:
        chance = random.Random(self._chance.random())
        return Listener(self._urls, self._tokens[by], run_id, chance, self._tally, stay_s)

    async def follow_some(self, callers: Callers) -> None:
        """A few runs at a time have a reader of their own."""
        seen = 0
        while not callers.is_over:
            await asyncio.sleep(_PACE_S)
            starts = callers.history.starts
            told = [start.told[0] for start in starts[seen:] if start.told]
            going = sum(not one.has_ended for one in self.of_runs)
            if told and going < 4:
                seen = len(starts)
                listener = self._new("rob" if going < 2 else "ray", told[-1], 0.06)
                self.of_runs.append(listener)
                self.tasks.append(asyncio.create_task(listener.listen()))

    def missing(self, newest: int) -> list[str]:
        """Which readers have not read all that there is."""
        late = [one for one in self.of_all if one.last < newest and not one.wrong]
        late += [one for one in self.of_runs if not one.has_ended]
        return [f"{one.run_id or 'all'} at {one.url} has read {one.last} of {newest}" for one in late]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _beside(*works: Awaitable[None]) -> AsyncIterator[Sequence[asyncio.Future[None]]]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    until = time.monotonic() + _QUIET_S
    while not condition():
        if time.monotonic() > until:
            raise Violation(f"{what()} after {_QUIET_S:.0f} s with living processes")
        await asyncio.sleep(_LOOK_S)


async def _live(world: World, number: int, tally: Tally) -> None:
    chance = random.Random(f"product_kills {number}")
    second = ("", "worker", "serve")[number % 3]
    places = [Place(world, "serve", 0, chance, tally)]
    if second:
        places.append(Place(world, second, 1, chance, tally))
    servers = sum(place.kind == "serve" for place in places)
    callers = Callers(world, servers, random.Random(chance.random()), tally)
    try:
        await asyncio.gather(*(place.ready() for place in places))
        readers = _Readers(world, servers, random.Random(chance.random()), tally)
        callers.begin(_PACE_S)
        nemesis = Nemesis(world, places, callers, chance, tally)
        engine = through_the_engine(world, callers, tally)
        async with _beside(readers.follow_some(callers), engine) as (_, results):
            for kind in chance.sample(_KINDS, _STRIKES):
                await nemesis.strike(kind)
                tally.mark(f"{kind.name}s")
            await asyncio.gather(*(place.ready() for place in places))
            callers.is_over = True
            quiet = time.monotonic()
            # Who is still asking may start a run yet: nobody asks any more, and then all is final.
            await _until(
                lambda: not callers.tasks and results.done() and not ask(world, _UNFINISHED),
                lambda: (
                    f"callers wait: {len(callers.tasks)}, {results}; left: {left_over(world)}, {callers.history.wrong}"
                ),
            )
            tally.gauge("longest time until all was final (s)", time.monotonic() - quiet)
            results.result()
        newest = ask(world, "SELECT max(id) FROM journal")
        quiet = time.monotonic()
        for listener in (*readers.of_all, *readers.of_runs):
            listener.stays = True
        await _until(
            lambda: not readers.missing(newest), lambda: f"streams do not tell everything: {readers.missing(newest)}"
        )
        tally.gauge("longest time until streams had told everything (s)", time.monotonic() - quiet)
        await callers.close()
        await readers.close()
        for place in places:
            place.life.signal(signal.SIGTERM)
            await nemesis._ends(place, signal.SIGTERM, is_up=True)
    finally:
        await callers.close()
        for place in places:
            place.life.go_on()
            place.life.kill()
    zombies = set().union(*(place.zombies for place in places))
    verifier = Verifier(world.database, world.ledger, callers.history, zombies, tally)
    found = verifier.wrong([*readers.of_all, *readers.of_runs])
    if "Traceback" in world.output():
        found.append(f"a process wrote a traceback:\n{world.output()[-3_000:]}")
    if found:
        raise Violation("\n".join(found[:20]))
    tally.count("successes told", callers.history.acked())


def _case(number: int, tally: Tally) -> None:
    with new_world() as world:
        asyncio.run(_live(world, number, tally))


def _prepare(tally: Tally) -> None:
    _nursery.append(Nursery())


def _finish(tally: Tally) -> None:
    while _nursery:
        _nursery.pop().close()


HARNESS = Harness(
    name="product_kills",
    title="servers and workers killed under load, by HTTP and from outside",
    case=_case,
    full=385,
    small=1,
    share=35,
    beside=True,
    quotas={
        "SIGKILLs": 600,
        "SIGSTOPs": 200,
        "SIGKILL: any instant": 200,
        "SIGKILL: told": 200,
        "SIGKILL: starting": 60,
        "SIGTERM: any instant": 40,
        "orderly stops": 40,
        "stopped and continued": 60,
        "stopped, its runs taken away, and continued": 40,
        "answers given again for the same key": 1_000,
        "starts of unknown outcome, sent again": 1_000,
        "votes of unknown outcome, sent again": 100,
    },
    small_marks=("SIGKILLs",),
    prepare=_prepare,
    finish=_finish,
)

if __name__ == "__main__":
    main(HARNESS)
