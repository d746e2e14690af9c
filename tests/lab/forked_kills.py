"""Workers are killed at any instant, one or two at a time, frozen and evicted, or taken down by poison.

The people are in this process, which is never killed; they remember what they were told. What workers do outside goes
into a ledger, in order. In the end a worker that lives has to bring every run to its end, and the three have to agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from osprotocol import Client, Execution, RunOptions
from osprotocol.errors import RunCancelledError, RunError
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.kill_ledger import Books, Told, contradictions
from tests.lab.named_points import scratch
from tests.processes import programs
from tests.processes.nursery import Child, Nursery
from tests.processes.programs import Ledger, aborts, hungry, mixed, note, pair
from tests.processes.waiting import terminal, worker_of

_RUNS_AT_ONCE = 5
_KILLS = 10
_FREEZES = 4
_CANCELS = 0.06
_SLOWNESS = 8
_TAKEN_S = 0.3
_PATIENCE_S = 30.0
_LOOK_S = 0.002
_KINDS = ("one", "two", "frozen", "poison", *("one", "two", "one", "frozen", "one", "one") * 6)
_GOOD_RUNS = 200
_FEW_GOOD_RUNS = 40
_DEATHS = 3

_nurseries: list[Nursery] = []


def _nursery() -> Nursery:
    """One process for all cases has imported everything; it is gone with this one."""
    if not _nurseries:
        _nurseries.append(Nursery())
    return _nurseries[0]


def _end(tally: Tally) -> None:
    while _nurseries:
        _nurseries.pop().__exit__()


class People:
    """They start runs, approve, and now and then cancel; from other processes' point of view another process."""

    def __init__(self, client: Client, ledger: Ledger, chance: random.Random, slowness: int = 1) -> None:
        self.client = client
        self.told = Told()
        self.runs: list[Execution[list[str]]] = []
        self._input = [str(ledger.path), slowness]
        programs.set_witness(str(ledger.path))  # callbacks may be called here too
        self._chance = chance

    async def act(self) -> None:
        """Keep some runs going, and answer whatever is asked."""
        unfinished = sum(not run.status.is_final for run in self.runs)
        if unfinished < _RUNS_AT_ONCE:
            options = RunOptions(idempotency_key=str(len(self.runs)))
            run = await self.client.create_run(mixed, self._input, options).start()
            self.told.started.append(run.id)
            self.runs.append(run)
            if self._chance.random() < _CANCELS:
                with contextlib.suppress(RunError):
                    await run.cancel("not wanted", by="bob")
                    self.told.cancelled.add(run.id)
        await self.answer()

    async def answer(self) -> None:
        """Say yes to every approval, and let every run that is held for its workers' deaths go on."""
        for request in (await self.client.requests()).items:
            run = await self.client.get(request.run_id)
            with contextlib.suppress(RunError):  # it was cancelled meanwhile
                if request.kind == "approval":
                    await run.approve(request_id=request.id, by="ann")
                    self.told.approved[run.id] = "ann"
                else:
                    await run.respond("retry", request_id=request.id, by="cleo")

    async def go_on(self, still: asyncio.Event) -> None:
        while not still.is_set():
            await self.act()
            await asyncio.sleep(_LOOK_S)

    async def see_all_end(self) -> None:
        """Every run comes to its end while a worker lives, or says what it waits for."""
        until = time.monotonic() + _PATIENCE_S
        while not all(run.status.is_final for run in self.runs):
            await self.answer()
            await asyncio.sleep(_LOOK_S)
            if time.monotonic() > until:
                stuck = [str(run.snapshot) for run in self.runs if not run.status.is_final]
                raise Violation(f"with a worker that lives, {len(stuck)} runs come to no end: {stuck[:3]}")
        for run in self.runs:
            with contextlib.suppress(RunCancelledError):
                self.told.results[run.id] = await run.result


class Field:
    """A database, its ledger, and the workers on it."""

    def __init__(self, folder: Path, nursery: Nursery, chance: random.Random, tally: Tally) -> None:
        self.path = folder / "runs.db"
        self.ledger = Ledger(folder / "ledger")
        self.workers: list[Child] = []
        self._nursery = nursery
        self._chance = chance
        self._tally = tally

    def fork(self) -> Child:
        child = self._nursery.fork("witnessed_work", self.path, self.ledger.path)
        self.workers.append(child)
        return child

    async def is_open(self, child: Child) -> None:
        """Wait until it has joined, or has died of what it took up."""
        while not (self.ledger.count("open", child.pid) or child.has_ended()):  # noqa: ASYNC110 - another process notes it
            await asyncio.sleep(_LOOK_S)

    async def let_work(self, child: Child) -> None:
        """A random while: often too short to open the database, sometimes long."""
        kind = self._chance.random()
        if kind > 0.3:
            await self.is_open(child)
        await asyncio.sleep(self._chance.uniform(0.05, 0.15) if kind > 0.9 else self._chance.uniform(0, 0.03))

    def kill(self, child: Child) -> None:
        """At whatever instruction it is; the ledger knows of it before, and once it is gone."""
        note(str(self.ledger.path), "killing", child.pid)
        child.kill()
        note(str(self.ledger.path), "killed", child.pid)
        self.workers.remove(child)
        self._tally.count("kills")
        if not self.ledger.count("open", child.pid):
            self._tally.mark("killed before it was open")

    async def kill_one_after_the_other(self, at_once: int) -> None:
        for _ in range(_KILLS):
            while len(self.workers) < at_once:
                self.fork()
            victim = self._chance.choice(self.workers)
            await self.let_work(victim)
            self.kill(victim)

    async def freeze_and_evict(self, client: Client) -> None:
        """A worker is frozen, its runs are taken away and executed elsewhere, and it goes on as if nothing was."""
        for _ in range(_FREEZES):
            while len(self.workers) < 2:
                await self.is_open(self.fork())
            frozen = self._chance.choice(self.workers)
            await self.let_work(frozen)
            await self._until(partial(self._begun, frozen))
            known = await worker_of(client, frozen.pid)
            if known is None:
                continue
            frozen.stop()
            begun = self._begun(frozen)
            note(str(self.ledger.path), "evicting", frozen.pid)
            taken = await client.evict(known.id)
            self._tally.count("evictions")
            self._tally.mark("runs taken from a frozen worker", taken)
            if begun and taken:
                await self._until(partial(self._is_begun_elsewhere, begun, frozen))
            await asyncio.sleep(self._chance.uniform(0, 0.04))
            frozen.go_on()
            if self._chance.random() < 0.5:
                await asyncio.sleep(self._chance.uniform(0, 0.02))
                self.kill(self._chance.choice(self.workers))

    async def _until(self, condition: Callable[[], object]) -> None:
        """Wait for something that need not come."""
        until = time.monotonic() + _TAKEN_S
        while not condition() and time.monotonic() < until:  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(_LOOK_S)

    def _begun(self, child: Child) -> set[str]:
        """The effects that have begun in a process and not returned."""
        lines = [line for line in self.ledger.lines() if line[0] in ("effect", "returns") and line[2] == str(child.pid)]
        begun = {line[1] for line in lines if line[0] == "effect"}
        return begun - {line[1] for line in lines if line[0] == "returns"}

    def _is_begun_elsewhere(self, begun: set[str], child: Child) -> bool:
        lines = [line for line in self.ledger.lines() if line[0] == "effect" and line[2] != str(child.pid)]
        return any(line[1] in begun for line in lines)

    def end(self) -> None:
        """Some are asked to end, some are killed."""
        for child in self.workers:
            if self._chance.random() < 0.5:
                code = child.terminate()
                if code != -signal.SIGTERM:
                    raise Violation(f"a worker that was asked to end ended with {code}")
                self._tally.mark("ended by SIGTERM")
            else:
                child.kill()


async def _kills(field: Field, kind: str, chance: random.Random, tally: Tally) -> None:
    async with terminal(field.path) as client:
        people = People(client, field.ledger, chance, _SLOWNESS if kind == "frozen" else 1)
        still = asyncio.Event()
        acting = asyncio.ensure_future(people.go_on(still))
        try:
            if kind == "frozen":
                await field.freeze_and_evict(client)
            else:
                await field.kill_one_after_the_other(2 if kind == "two" else 1)
        finally:
            still.set()
            await acting
        if not field.workers:
            field.fork()
        await people.see_all_end()
    field.end()
    books = Books()
    books.read(field.ledger.lines())
    _count(books, people, field, tally)
    wrong = contradictions(field.path, books, people.told)
    if wrong:
        raise Violation(f"{len(wrong)} contradictions: " + "; ".join(wrong[:5]))


def _count(books: Books, people: People, field: Field, tally: Tally) -> None:
    tally.count("runs", len(people.runs))
    tally.count("effects", sum(map(len, books.effects.values())))
    tally.count("results known to be committed", len(books.accepted))
    tally.count("effects repeated before their commit", books.repeats)
    tally.mark("effect repeated after a death", books.repeats)
    tally.mark("run cancelled", len(people.told.cancelled))
    refused = sum(books.accepted.get(key) not in (None, token) for key, token in books.refused)
    tally.mark("result of an evicted worker refused", refused)


# ---------------------------------------------------------------------------------------------------------- poison


def _damage(path: Path, run_id: str) -> None:
    connection = apsw.Connection(str(path))
    try:
        connection.execute(
            "UPDATE journal SET value = '\"elsewhere\"' WHERE run = (SELECT key FROM runs WHERE id = ?)", (run_id,)
        )
    finally:
        connection.close()


async def _poison(field: Field, good_runs: int, tally: Tally) -> None:
    """One run aborts its process, one wants all memory, one is damaged; the good ones hardly notice."""
    ledger = str(field.ledger.path)
    async with terminal(field.path) as client:
        good = [await client.create_run(pair, ledger).start() for _ in range(good_runs // 2)]
        bad = await client.create_run(aborts, ledger).start()
        greedy = await client.create_run(hungry, ledger).start()
        damaged = await client.create_run(pair, ledger).start()
        good += [await client.create_run(pair, ledger).start() for _ in range(good_runs - good_runs // 2)]
        _damage(field.path, damaged.id)
        deaths, worker, until = 0, field.fork(), time.monotonic() + _PATIENCE_S
        watched: list[Execution[Any]] = [*good, greedy]
        while not (bad.requests and damaged.requests and all(run.status.is_final for run in watched)):
            await asyncio.sleep(_LOOK_S)
            if worker.has_ended():
                deaths += 1
                worker = field.fork()
            if time.monotonic() > until:
                raise Violation(f"after {deaths} deaths poison still keeps {len(good)} good runs from their end")
        worker.kill()
        reasons = [request.payload["reason"] for run in (bad, damaged) for request in run.requests]
    effects = field.ledger.effects()
    wrong = []
    if deaths != _DEATHS or effects[f"{bad.id}:1"] != _DEATHS or reasons != ["poison", "damaged"]:
        wrong.append(f"parked for {reasons} after {deaths} deaths and {effects[f'{bad.id}:1']} attempts")
    if greedy.status != "failed":
        wrong.append(f"the run that wants too much memory is {greedy.status}")
    if effects[f"{damaged.id}:1"]:
        wrong.append("the damaged run had an effect")
    wrong += [f"good run {run.id} is {run.status}" for run in good if run.status != "completed"]
    wrong += [f"good effect {key} began {times} times" for key, times in effects.items() if times > _most(key, bad.id)]
    if wrong:
        raise Violation("; ".join(wrong[:5]))
    tally.count("deaths by poison", deaths)
    tally.mark("poison parked")


def _most(key: str, bad: str) -> int:
    return _DEATHS if key.startswith(bad) else 2


def case(number: int, tally: Tally) -> None:
    """One database and its workers' deaths."""
    chance, kind = random.Random(f"forked_kills {number}"), _KINDS[number % len(_KINDS)]
    nursery = _nursery()
    with scratch() as folder:
        field = Field(Path(folder), nursery, chance, tally)
        try:
            if kind == "poison":
                asyncio.run(_poison(field, _GOOD_RUNS if number >= len(_KINDS) else _FEW_GOOD_RUNS, tally))
            else:
                asyncio.run(_kills(field, kind, chance, tally))
        finally:
            for child in list(field.workers):
                child.signal(signal.SIGCONT)
                child.kill()
    tally.mark(f"kind: {kind}")


HARNESS = Harness(
    name="forked_kills",
    title="Workers killed at any instant",
    case=case,
    full=640,
    small=5,
    share=64,
    beside=True,
    quotas={
        "effect repeated after a death": 1_000,
        "killed before it was open": 100,
        "ended by SIGTERM": 100,
        "poison parked": 10,
        "result of an evicted worker refused": 100,
        "run cancelled": 100,
        "runs taken from a frozen worker": 300,
    },
    small_marks=("kind: one", "kind: two", "kind: frozen", "kind: poison", "poison parked"),
    finish=_end,
)

if __name__ == "__main__":
    main(HARNESS)
