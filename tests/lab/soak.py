"""A server under steady load for a while: nothing that it holds may grow, whoever dies or hangs around it.

One case is a whole soak, of `OSP_LAB_SOAK_S` seconds. A second worker is killed again and again; stream clients read
slowly or not at all; runs flood their logs. Measured from outside: memory, descriptors, threads, the log of the
database, how long a read and a start take, and how many rows a run leaves.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import apsw
import httpx2

from osprotocol import Client, connect
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.product.callers import Callers
from tests.lab.product.history import Start
from tests.lab.product.lives import Life
from tests.lab.product.measuring import Sample, percentile, sample, slope_of
from tests.lab.product.nursery import Nursery
from tests.lab.product.verifying import Verifier
from tests.lab.product.workflows import slow
from tests.lab.product.world import World, new_world

SECONDS = "OSP_LAB_SOAK_S"
_DEFAULT_S = 900.0
_JUDGED_FROM_S = 300.0
"""A shorter soak has not left its beginning: it is measured, not judged."""
_SAMPLES = 240
_PACE_S = 0.25
_PROBE_S = 0.1
_FLOOD_S = 15.0
_FLOOD_LINES = 12_000
_DEAD_S = 12.0
_KILL_S = (20.0, 40.0)
_AT_WORK_S = 10.0
"""So long a worker may take to get a run before it is killed."""
_LOOKS = 40
_LOOK_S = 0.005
_QUIET_S = 90.0

# Growth in a day that is still called flat, above three standard errors. Memory: measured over the second half of 300 s
# it was -300 MB with a noise of 60 MB. Python takes memory in pieces of 1 MiB: one in the middle of 450 s looks like
# 300 MB. All caches are full by then: the ring of the streams and the strings of the JSON parser after some 1,000 runs,
# SQLite's pages after 4,000. Descriptors and threads: whatever loses one with each killed worker, the rarest thing that
# happens here, loses 2,880. Threads of steps come as they are needed, up to their number.
_RSS_MB_A_DAY = 400.0
_RSS_BYTES_A_RUN = 400.0
_DESCRIPTORS_A_DAY = 500.0
_THREADS_A_DAY = 1_000.0
_THREADS = 130
_EVENTS_MORE = 1.25
_WAL_MB = 64.0
_EVENTS_A_RUN = 60.0


@dataclass
class Soak:
    """What one soak measured.

    Attributes:
        samples: of the server.
        finished: runs that were final at each sample.
        events: events that there were at each sample.
        reads, starts: (when, how long) of the probes, in seconds.
    """

    samples: list[Sample] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    reads: list[tuple[float, float]] = field(default_factory=list)
    starts: list[tuple[float, float]] = field(default_factory=list)

    def second_part(self) -> list[Sample]:
        """The samples after the beginning."""
        return self.samples[len(self.samples) // 2 :]

    def judge(self, tally: Tally, seconds: float) -> list[str]:
        """Measure what grew; sentences about what grows too fast, if the soak was long enough to tell."""
        later = self.second_part()
        if len(later) < 3:
            return ["fewer than three samples were taken"]
        times = [one.at for one in later]
        rss = slope_of(times, [one.rss_mb for one in later])
        descriptors = slope_of(times, [float(one.descriptors) for one in later])
        threads = slope_of(times, [float(one.threads) for one in later])
        wal = max(one.wal_mb for one in later)
        middle = len(self.samples) // 2
        runs = max(1, self.finished[-1] - self.finished[middle])
        events_first = (self.events[middle] - self.events[0]) / max(1, self.finished[middle] - self.finished[0])
        events_second = (self.events[-1] - self.events[middle]) / runs
        a_run = rss.growth * 1e6 / runs
        for name, value in {
            "memory at the beginning (MB)": self.samples[0].rss_mb,
            "memory half-way (MB)": later[0].rss_mb,
            "memory at the end (MB)": later[-1].rss_mb,
            "memory: growth a day (MB)": rss.per_day,
            "memory: noise of that (MB)": rss.error_per_day,
            "memory: growth a run (bytes)": a_run,
            "descriptors: growth a day": descriptors.per_day,
            "descriptors: noise of that": descriptors.error_per_day,
            "descriptors at the most": max(one.descriptors for one in self.samples),
            "threads: growth a day": threads.per_day,
            "threads: noise of that": threads.error_per_day,
            "events a run, first part": events_first,
            "events a run, second part": events_second,
            "threads at the most": max(one.threads for one in self.samples),
            "write-ahead log at the most (MB)": max(one.wal_mb for one in self.samples),
            "read p99 first part (ms)": _p99(self.reads, 0, times[0]),
            "read p99 second part (ms)": _p99(self.reads, times[0], times[-1]),
            "start p99 first part (ms)": _p99(self.starts, 0, times[0]),
            "start p99 second part (ms)": _p99(self.starts, times[0], times[-1]),
        }.items():
            tally.gauge(name, round(value, 3))
        if seconds < _JUDGED_FROM_S:
            return []
        grown = []
        if rss.surely_above(_RSS_MB_A_DAY) and a_run > _RSS_BYTES_A_RUN:
            grown.append(f"memory grows by {rss.per_day:.0f} MB a day, {a_run:.0f} bytes a run")
        if descriptors.surely_above(_DESCRIPTORS_A_DAY):
            grown.append(f"open descriptors grow by {descriptors.per_day:.0f} a day")
        if threads.surely_above(_THREADS_A_DAY):
            grown.append(f"threads grow by {threads.per_day:.0f} a day")
        if later[-1].threads > _THREADS:
            grown.append(f"there are {later[-1].threads} threads")
        if events_second > _EVENTS_MORE * events_first:
            grown.append(f"a run leaves {events_first:.1f} events in the first part, {events_second:.1f} in the second")
        if wal > _WAL_MB:
            grown.append(f"the write-ahead log grew to {wal:.0f} MB")
        return grown


def _p99(measured: Sequence[tuple[float, float]], since: float, until: float) -> float:
    return percentile([took for at, took in measured if since <= at <= until], 0.99) * 1_000


class _Soaking:
    """Everything that goes on beside the callers.

    Args:
        file: a client on the database itself, beside the server.

    Attributes:
        held: how many runs killed workers held, all together.
    """

    def __init__(
        self, world: World, nursery: Nursery, callers: Callers, file: Client, chance: random.Random, tally: Tally
    ) -> None:
        self._world = world
        self._nursery = nursery
        self._callers = callers
        self._file = file
        self._fed = 0
        self._chance = chance
        self._tally = tally
        self._began = time.monotonic()
        self.soak = Soak()
        self.server = Life(nursery, world.words("serve"), world.database, world.ledger)
        self.worker: Life | None = None
        self.held = 0

    def _now(self) -> float:
        return time.monotonic() - self._began

    async def measuring(self, seconds: float) -> None:
        """Look at the server at even times."""
        while True:
            await asyncio.sleep(seconds / _SAMPLES)
            self.soak.samples.append(sample(self._now(), self.server.pid, self._world.database))
            self.soak.finished.append(_one(self._world, "SELECT count(*) FROM runs WHERE ended_at IS NOT NULL"))
            self.soak.events.append(_one(self._world, "SELECT ifnull(max(id), 0) FROM journal"))
            self._tally.count("samples")

    async def probing(self) -> None:
        """How long a read and a start take."""
        headers = {"Authorization": f"Bearer {self._world.tokens['root']}", "Content-Type": "application/json"}
        body = {"workflow": "lab.chain", "input": ""}
        number = 0
        async with httpx2.AsyncClient(base_url=self._world.url(), headers=headers, timeout=30, trust_env=False) as http:
            while True:
                number += 1
                body["input"] = f"probe{number}"
                began = self._now()
                (await http.post("/api/v1/runs", json=body)).raise_for_status()
                self.soak.starts.append((began, self._now() - began))
                began = self._now()
                (await http.get("/api/v1/runs?limit=20")).raise_for_status()
                self.soak.reads.append((began, self._now() - began))
                self._tally.count("probes")
                await asyncio.sleep(_PROBE_S)

    async def flooding(self, every_s: float) -> None:
        """Runs that write log lines as fast as they can."""
        while True:
            body = {"workflow": "lab.flood", "input": _FLOOD_LINES}
            await self._callers.change("/runs", "root", body, "floods", f"flood-{self._chance.random()}")
            self._tally.mark("runs that flood their log")
            await asyncio.sleep(every_s)

    async def killing(self, between: tuple[float, float]) -> None:
        """A second worker that lives for some seconds at a time, and is killed while it executes something."""
        while True:
            self.worker = Life(self._nursery, self._world.words("worker"), self._world.database, self._world.ledger)
            await asyncio.sleep(self._chance.uniform(*between))
            held = await self._freeze_at_work(self.worker)
            self.worker.signal(signal.SIGKILL)
            self.held += held
            await asyncio.to_thread(self.worker.wait)
            self._tally.mark("workers killed beside the server")
            if held:
                self._tally.mark("workers killed while they held runs")

    async def _freeze_at_work(self, worker: Life) -> int:
        """Stop it at an instant at which it executes a run; how many runs it holds then."""
        until = time.monotonic() + _AT_WORK_S
        while time.monotonic() < until:
            await self._feed()
            for _ in range(_LOOKS):
                await asyncio.sleep(_LOOK_S)
                if self._held_by(worker, executing=True):
                    worker.freeze()  # not in a thread: it would go on doing so after the end of this
                    if self._held_by(worker, executing=True):
                        return self._held_by(worker)
                    worker.go_on()
        return 0

    async def _feed(self) -> None:
        """Start a run past the server, which has to be as quick as the worker to get it."""
        self._fed += 1
        start = Start("root", "lab.slow", f"fed{self._fed}")
        self._callers.history.starts.append(start)
        start.told.append((await self._file.create_run(slow, start.label).start()).id)

    def _held_by(self, worker: Life, *, executing: bool = False) -> int:
        held = (
            "SELECT count(*) FROM runs r JOIN workers w ON w.key = r.owner "
            f"WHERE w.status = 'alive' AND w.name LIKE '%:{worker.pid}'"
        )
        return _one(self._world, f"{held} AND r.executing" if executing else held)

    async def hanging(self, every_s: float, *, slow: bool) -> None:
        """A stream client that reads slowly, or not at all, for some seconds; then it is gone without a word."""
        token = self._world.tokens["rob" if slow else "ray"]
        asked = (
            f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{self._world.ports[0]}\r\n"
            f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\nLast-Event-ID: 1\r\n\r\n"
        )
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._world.ports[0], limit=1_024)
            try:
                writer.write(asked.encode())
                self._tally.mark("slow stream clients" if slow else "stream clients that never read")
                until = time.monotonic() + every_s
                while time.monotonic() < until:
                    if slow and not await reader.read(1_024):
                        break
                    await asyncio.sleep(min(0.05, every_s / 20))
            finally:
                writer.transport.abort()

    async def quiet(self) -> None:
        """Until every run is final."""
        until = time.monotonic() + _QUIET_S
        while self._callers.tasks or _one(self._world, "SELECT count(*) FROM runs WHERE ended_at IS NULL"):
            if time.monotonic() > until:
                raise Violation(f"runs are not final {_QUIET_S:.0f} s after the load")
            await asyncio.sleep(0.05)

    def end(self) -> None:
        """Kill what still lives."""
        for life in (self.server, self.worker):
            if life is not None:
                life.kill()


def _one(world: World, query: str) -> int:
    connection = apsw.Connection(str(world.database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(5_000)
        return int(connection.execute(query).get)
    finally:
        connection.close()


async def _up(world: World) -> None:
    async with httpx2.AsyncClient(timeout=_QUIET_S, trust_env=False) as http:
        until = time.monotonic() + _QUIET_S
        while time.monotonic() < until:
            try:
                if (await http.get(f"{world.url()}/healthz")).status_code == 200:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.01)
    raise Violation(f"the server does not start:\n{world.output()[-2_000:]}")


async def _soak(world: World, nursery: Nursery, number: int, seconds: float, tally: Tally) -> list[str]:
    chance = random.Random(f"soak {number}")
    scale = min(1.0, seconds / 90.0)
    callers = Callers(world, 1, random.Random(chance.random()), tally)
    async with connect(world.database, worker=False) as file:
        soaking = _Soaking(world, nursery, callers, file, chance, tally)
        try:
            await _up(world)
            callers.begin(_PACE_S)
            works = [
                soaking.measuring(seconds),
                soaking.probing(),
                soaking.flooding(_FLOOD_S * scale),
                soaking.killing((_KILL_S[0] * scale, _KILL_S[1] * scale)),
                soaking.hanging(_DEAD_S * scale, slow=True),
                soaking.hanging(_DEAD_S * scale, slow=False),
            ]
            tasks = [asyncio.create_task(work) for work in works]
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            callers.is_over = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if soaking.worker is not None:
                soaking.worker.go_on()
            for task in done:
                task.result()
            if soaking.server.has_ended():
                raise Violation(f"the server ended by itself with {soaking.server.ended}:\n{world.output()[-2_000:]}")
            await soaking.quiet()
            await callers.close()
            soaking.server.signal(signal.SIGTERM)
            soaking.server.wait()
            if soaking.server.ended != 0:
                raise Violation(f"the server ended with {soaking.server.ended} at SIGTERM")
        finally:
            await callers.close()
            soaking.end()
    found = soaking.soak.judge(tally, seconds)
    return found + _left(world, callers, soaking.held, tally)


def _left(world: World, callers: Callers, held: int, tally: Tally) -> list[str]:
    """What stays in the file of every run, what became of killed workers' runs, and what the callers were told."""
    runs = max(1, _one(world, "SELECT count(*) FROM runs"))
    events = _one(world, "SELECT count(*) FROM journal") / runs
    lines = _one(world, "SELECT coalesce(max(n), 0) FROM (SELECT count(*) n FROM logs GROUP BY run)")
    tally.count("runs", runs)
    tally.gauge("events a run", round(events, 2))
    tally.gauge("log lines of the longest log", lines)
    found = [] if events < _EVENTS_A_RUN else [f"a run leaves {events:.0f} events"]
    recovered = _one(world, "SELECT count(*) FROM journal WHERE type = 'run.recovered'")
    tally.mark("runs recovered from killed workers", recovered)
    if recovered != held:
        found.append(f"killed workers held {held} runs, {recovered} were recovered")
    if lines > 10_001:
        found.append(f"a run has {lines} log lines")
    verifier = Verifier(world.database, world.ledger, callers.history, set(), tally)
    return found + verifier.told_truly()


def _case(number: int, tally: Tally) -> None:
    seconds = float(os.environ.get(SECONDS) or _DEFAULT_S)
    with new_world() as world, Nursery() as nursery:
        found = asyncio.run(_soak(world, nursery, number, seconds, tally))
    if found:
        raise Violation("\n".join(found[:20]))


HARNESS = Harness(
    name="soak",
    title="a server under steady load: nothing grows",
    case=_case,
    full=1,
    small=1,
    beside=True,
    quotas={
        "workers killed while they held runs": 15,
        "runs recovered from killed workers": 15,
        "runs that flood their log": 30,
        "slow stream clients": 50,
        "stream clients that never read": 50,
    },
    small_marks=("runs that flood their log", "workers killed beside the server", "slow stream clients"),
)

if __name__ == "__main__":
    main(HARNESS)
