"""What goes wrong in the chaos run: nodes and workers are killed, stopped and restarted, the client is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from tests.restate.chaos_member import Member
from tests.restate.ledger_file import LEDGER_VARIABLE, note
from tests.restate.nodes import CHECKOUT, INHERITED, Port, RestateNode, guard_of

_FLOWS = Path(__file__).with_name("chaos_flows.py")
_KINDS = ("kill", "stop", "term")
_STOPPED_S = (2.0, 8.0)
_AWAY_S = (0.0, 3.0)
_LONG_S = (12.0, 16.0)
_LONG = 0.2
_ENDS_S = 25.0


class WorkerProcess:
    """``osp worker`` with a copy and an endpoint of its own, as on a machine of its own; it ends with this process.

    Args:
        url: of the ledger.
        folder: where its copy and its log are.
        name: what the report calls it.

    Attributes:
        copy: its copy, which it keeps over restarts.
        wanted: whether it should run now.
        surprises: how often it ended although nobody ended it.
    """

    def __init__(self, url: str, folder: Path, name: str) -> None:
        self.name = name
        self.copy = folder / f"{name}.db"
        self.log = folder / f"{name}.log"
        self.wanted = False
        self.surprises: list[str] = []
        self._port = Port()
        self._url = f"{url}&replica={quote(str(self.copy))}&endpoint={quote(self._port.url)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self._end()
        environment = {name: os.environ[name] for name in (*INHERITED, LEDGER_VARIABLE) if name in os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("osp"), "worker", "--url", self._url, str(_FLOWS)],
                cwd=CHECKOUT,
                env={**environment, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = guard_of(self._process.pid)
        self.wanted = True
        note("worker", name=self.name, worker=self.pid)

    def signal(self, number: int) -> None:
        if self._process is not None and self.is_running:
            self._process.send_signal(number)

    def kill(self) -> None:
        self.wanted = False
        self.signal(signal.SIGKILL)
        self._end()

    def terminate(self) -> int | None:
        """SIGTERM; gives its exit code, None if it had to be killed."""
        self.wanted = False
        self.signal(signal.SIGTERM)
        code = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_ENDS_S)
        self.kill()
        return code

    def close(self) -> None:
        self.kill()
        self._port.release()

    def check(self) -> None:
        """Start it again if it ended by itself."""
        if self.wanted and self._process is not None and not self.is_running:
            end = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            self.surprises.append(f"{self.name} ended by itself with {self._process.returncode}: {' '.join(end)}")
            note("fault", what="surprise", target=self.name, worker=self.pid)
            self.start()

    def tracebacks(self) -> Counter[str]:
        """The errors that it has in its log with where they come from: how often each."""
        found: Counter[str] = Counter()
        is_within = False
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Traceback "):
                is_within = True
            elif is_within and line and not line.startswith(" "):
                found[line[:160]] += 1
                is_within = False
        return found

    def _end(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._guard = self._process = None


class Faults:
    """Does harm until it is told to end, and then puts everything in order.

    Attributes:
        nodes: the servers.
        counts: by what was harmed and how.
        take_over_s: how long it took until a killed worker's registration was ended, by whichever worker.
        slow_ends: workers that SIGTERM did not end in time.
    """

    def __init__(
        self,
        chance: random.Random,
        nodes: tuple[RestateNode, ...],
        nodes_are_ready: Callable[[], None],
        workers: list[WorkerProcess],
        member: Member,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.take_over_s: list[float] = []
        self.slow_ends: list[str] = []
        self._chance = chance
        self.nodes = nodes
        self._nodes_are_ready = nodes_are_ready
        self._workers = workers
        self._member = member
        self._over = asyncio.Event()
        self._watching: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """All kinds of harm side by side for so long; returns when everything runs again."""
        kinds = [self._harm_nodes(), self._harm_client(), self._revive(), *map(self._harm_worker, self._workers)]
        tasks = [asyncio.ensure_future(kind) for kind in kinds]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        self._over.set()
        await asyncio.gather(*tasks)
        for worker in self._workers:
            if not worker.is_running:
                worker.start()

    async def watched(self) -> None:
        """Wait until everything that was to be measured is."""
        if self._watching:
            await asyncio.wait(self._watching)

    async def _pause(self, least_s: float, most_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), self._chance.uniform(least_s, most_s))

    def count(self, what: str, target: str, kind: str, pid: int | None) -> None:
        """Note what is done to a process, before it is done."""
        self.counts[f"{what} {kind}"] += 1
        note("fault", what=kind, target=target, worker=pid)

    async def _harm_nodes(self) -> None:
        while not self._over.is_set():
            await self._pause(1.0, 3.5)
            if self._over.is_set():
                break
            node, kind = self._chance.choice(self.nodes), self._chance.choices(_KINDS, (4, 4, 2))[0]
            self.count("node", node.name, kind, node.pid)
            if kind == "stop":
                node.stop()
                await self._pause(*_STOPPED_S)
                node.cont()
            else:
                await asyncio.to_thread(node.kill if kind == "kill" else node.terminate)
                await self._pause(0.0, 4.0)
                node.start()
            await asyncio.to_thread(self._nodes_are_ready)
            note("fault over", what=kind, target=node.name)

    async def _harm_worker(self, worker: WorkerProcess) -> None:
        while not self._over.is_set():
            await self._pause(1.5, 7.0)
            if self._over.is_set():
                break
            kind = self._chance.choices(_KINDS, (6, 3, 2))[0]
            self.count("worker", worker.name, kind, worker.pid)
            # Sometimes gone for so long that the other one has to believe that it is dead.
            is_long = self._chance.random() < _LONG
            if kind == "stop":
                worker.signal(signal.SIGSTOP)
                await self._pause(*(_LONG_S if is_long else _STOPPED_S))
                note("fault over", what=kind, target=worker.name, worker=worker.pid)
                worker.signal(signal.SIGCONT)
                continue
            self._watch(worker.pid, kind)
            await asyncio.to_thread(self._end, worker, kind)
            await self._pause(*(_LONG_S if is_long else _AWAY_S))
            worker.start()

    def _end(self, worker: WorkerProcess, kind: str) -> None:
        if kind == "kill":
            worker.kill()
        elif worker.terminate() is None:
            self.slow_ends.append(f"{worker.name} was not ended by SIGTERM within {_ENDS_S:g} s")

    async def _harm_client(self) -> None:
        while not self._over.is_set():
            await self._pause(12.0, 30.0)
            if not self._over.is_set():
                self.counts["client connection dropped"] += 1
                await self._member.reopen(abruptly=self._chance.random() < 0.5)

    async def _revive(self) -> None:
        while not self._over.is_set():
            await self._pause(0.5, 0.5)
            for worker in self._workers:
                worker.check()

    def _watch(self, pid: int, kind: str) -> None:
        if kind == "kill":
            task = asyncio.ensure_future(self._measure_take_over(pid))
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)

    async def _measure_take_over(self, pid: int) -> None:
        begun, was_alive = time.monotonic(), False
        while True:
            workers = await self._member.insist("list", lambda client: client.workers())
            is_alive = any(one.name.endswith(f":{pid}") and one.status == "alive" for one in workers)
            if not is_alive:
                if was_alive:  # else it was killed before it had joined
                    self.take_over_s.append(time.monotonic() - begun)
                return
            was_alive = True
            await asyncio.sleep(0.1)
