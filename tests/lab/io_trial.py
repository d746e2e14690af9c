"""One process with runs on a disk that fails once or for a while: what callers are told, against what the file says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import apsw

from osprotocol import Execution, RunOptions
from osprotocol._ids import Ids
from osprotocol.client import Client
from osprotocol.errors import CorruptDatabaseError, OSProtocolError, RunCancelledError, StorageFullError, StoreError
from tests.crash.checks import problems
from tests.crash.clock import ManualClock
from tests.lab.faulty_disk import ONCE, Fault, FaultyDisk
from tests.lab.harness import Tally, Violation
from tests.lab.io_process import AttemptLedger, ErrorLog, JumpingLoop, Process

T = TypeVar("T")

_MOST_ROUNDS = 250
_MOST_TRIES = 6
_MOST_AGAIN = 3
_TROUBLE_S = 1.5
_RETRY_S = 0.3


@dataclass(frozen=True)
class Fact:
    """A question to the file that has a row for an answer exactly if something is so."""

    query: str
    values: tuple[Any, ...]

    def holds(self, connection: apsw.Connection) -> bool:
        return connection.execute(self.query, self.values).fetchone() is not None


@dataclass(frozen=True)
class Play:
    """Runs, their people, and how all has to end.

    Attributes:
        act: does the next thing that somebody wants; False when there is nothing to do.
        ends: whether status and value of the run are as they must be.
        labels: effects that must have happened.
        from_start: whether the disk may fail while the process starts.
        version: of the schema in the file at first; 0 for no file.
    """

    name: str
    workflow: Any
    input: Any
    act: Callable[[Trial], Awaitable[bool]]
    ends: Callable[[str, Any], bool]
    labels: tuple[str, ...]
    linger_ms: int = 60_000
    durability: str = "full"
    from_start: bool = False
    version: int = 2


class Trial:
    """One play on a disk with one fault.

    Attributes:
        told_failed: how often a caller was told of a failure.
        done_anyway: how often what was told as failed turned out to be done, under a fault that lasts.
    """

    def __init__(self, play: Play, fault: Fault | None, at: int, times: int, path: Path, disk: FaultyDisk) -> None:
        self.play, self.fault, self.at, self.times, self.path, self.disk = play, fault, at, times, path, disk
        self.clock = ManualClock()
        self.ledger = AttemptLedger(path)
        self.ids = Ids(seed=at)
        self.did: set[str] = set()
        self.told_failed = self.done_anyway = 0
        self.troubles = 0
        self.facts: list[tuple[str, Fact]] = []
        self._outside: apsw.Connection | None = None
        self._process: Process | None = None
        self.run: Execution[Any] | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    @property
    def client(self) -> Client:
        return self.process.client

    # ------------------------------------------------------------------ what callers are told

    async def ask(self, what: str, doing: Awaitable[T], fact: Fact | None = None, *, stays: bool = True) -> T | None:
        """Do something as a caller; None when it was refused for want of a disk. A fact that stays holds at the end.

        Raises:
            Violation: what the caller was told is not so, or the error is none of ours.
        """
        before = self.disk.fired
        was_failing = self.disk.is_failing
        try:
            value = await doing
        except Violation:
            raise
        except OSProtocolError as error:
            self._check_error(what, error, self.disk.fired > before or was_failing)
            self._check_refusal(what, fact)
            return None
        except Exception as error:
            raise Violation(f"{what}: the caller gets {type(error).__name__}: {error}") from error
        if fact is not None:
            self.facts += [(what, fact)] * stays
            if self._outside is not None and not fact.holds(self._outside):
                raise Violation(f"{what} was told as done, and the file does not have it")
        return value

    def _check_error(self, what: str, error: OSProtocolError, has_cause: bool) -> None:
        text = str(error)
        self.told_failed += 1
        if not isinstance(error, StoreError):
            if not self.done_anyway:
                raise Violation(f"{what}: the caller gets {type(error).__name__}: {text}") from error
            return  # an answer to what was done already
        if not has_cause:
            raise Violation(f"{what}: failed while the disk was well: {text}") from error
        if "\n" in text or str(self.path.parent) not in text:
            raise Violation(f"{what}: the error does not say what is wrong where: {text!r}") from error
        if isinstance(error, CorruptDatabaseError):
            raise Violation(f"{what}: a disk that fails is called a damaged file: {text}") from error
        assert self.fault is not None
        if isinstance(error, StorageFullError) != self.fault.is_full:
            raise Violation(f"{what}: {self.fault.name} is told as {type(error).__name__}: {text}") from error

    def _check_refusal(self, what: str, fact: Fact | None) -> None:
        if fact is None or self._outside is None or not fact.holds(self._outside):
            return
        if self.times == ONCE:
            raise Violation(f"{what} was told as failed, and is in the file")
        self.done_anyway += 1

    def is_fact(self, fact: Fact) -> bool:
        """Whether the file has it, whatever was told."""
        assert self._outside is not None
        return fact.holds(self._outside)

    # ------------------------------------------------------------------ the process

    async def play_all(self, loop: JumpingLoop, log: ErrorLog) -> None:
        """From opening to close, then the file is looked at.

        Raises:
            Violation: something does not hold.
        """
        if self.play.from_start:
            self._arm()
        try:
            await self._open()
            self._outside = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            if not self.play.from_start:
                self._arm()
            self.run = await self._started()
            await self._work()
            await self._check_result()
        finally:
            self.ledger.close()
            if self._outside is not None:
                self._outside.close()
                self._outside = None
            await self._close()
        self._check_file()
        for line in (*self.ledger.wrong, *log.lines, *loop.mishaps):
            raise Violation(line)

    def _arm(self) -> None:
        self.disk.arm(self.fault, self.at, self.times)

    async def _open(self) -> None:
        for _ in range(_MOST_TRIES):
            process = Process(self.path, self.clock, self.disk, self.ids, self.play.linger_ms, self.play.durability)
            if await self.ask("connect", process.client.open()) is not None:
                self._process = process
                self.ledger.begin_life(process)
                return
            if self.disk.is_failing:
                self.troubles += 1
                self.disk.clear()
        raise Violation("the process cannot be started although the disk is well")

    async def _close(self) -> None:
        if self._process is None:
            return
        try:
            await self.client.close()
        except OSProtocolError as error:
            self._check_error("close", error, self.disk.fired > 0)
        except Exception as error:
            raise Violation(f"close: the caller gets {type(error).__name__}: {error}") from error
        finally:
            self.disk.clear()
            self.clock.forget()

    async def _started(self) -> Execution[Any]:
        for _ in range(_MOST_TRIES):
            run = await self.start("the-run")
            if run is not None:
                return run
            await self._meet_trouble()
        raise Violation("no run can be started although the disk is well")

    async def start(self, key: str) -> Execution[Any] | None:
        """Start the play's run, or find it by its key."""
        options = RunOptions(idempotency_key=key)
        fact = Fact("SELECT 1 FROM runs WHERE idempotency_key = ?", (key,))
        run = self.client.create_run(self.play.workflow, self.play.input, options)
        return await self.ask(f"start of {key}", run.start(), fact)

    async def _work(self) -> None:
        """Until every run is final: people act, retries get their time, timers become due."""
        for _ in range(_MOST_ROUNDS):
            await self._settle()
            await self._meet_trouble()
            if await self.play.act(self):
                continue
            if self._is_over():
                break
            await self._give_time()
            self.clock.jump()
        else:
            raise Violation(f"work stands still although the disk is well: {self._unfinished()}")
        await asyncio.sleep(_RETRY_S)
        await self._settle()
        assert self.run is not None
        if not self.run.status.is_final:
            raise Violation(f"who waits for the run is never told: {self.run.status} here, final in the file")

    async def _give_time(self) -> None:
        """What failed lately is tried again before any timer is due."""
        known = -1
        while known != self.disk.fired and not self.disk.is_failing:
            known = self.disk.fired
            await asyncio.sleep(_RETRY_S if not known else _TROUBLE_S)
            await self._settle()

    async def _settle(self) -> None:
        for _ in range(_MOST_TRIES):
            if await self.process.settle():
                return
            await asyncio.sleep(_RETRY_S)
        raise Violation("the process is busy for ever")

    def _unfinished(self) -> list[tuple[Any, ...]]:
        assert self._outside is not None
        return self._outside.execute("SELECT id, status, owner FROM runs WHERE ended_at IS NULL").fetchall()

    def _is_over(self) -> bool:
        return not self._unfinished()

    # ------------------------------------------------------------------ while the disk fails

    async def _meet_trouble(self) -> None:
        """While the fault lasts: reading goes on, readiness tells; then the disk is well again."""
        if not self.disk.is_failing:
            return
        assert self.fault is not None
        self.troubles += 1
        told = await self._problems()
        if self.fault.stops and not told:
            raise Violation(f"readiness says that all is well while every commit meets: {self.fault.name}")
        if not self.fault.blinds:
            await self._read()
        await self.start("while the disk fails")
        await self.play.act(self)
        await asyncio.sleep(_TROUBLE_S)
        await self._settle()
        self.disk.clear()
        told = await self._problems()
        if told:
            raise Violation(f"the disk is well, and readiness says: {told}")
        if await self.start("while the disk fails") is None:
            raise Violation("the disk is well, and a start is refused")

    async def _problems(self) -> list[str]:
        return await self.ask("readiness", self.client._engine.problems()) or []

    async def _read(self) -> None:
        """What needs no call that fails is answered."""
        reads: list[tuple[str, Awaitable[Any]]] = [
            ("a list of runs", self.client.list()),
            ("a list of requests", self.client.requests()),
        ]
        if self.run is not None:
            reads += [("a run", self.client.get(self.run.id)), ("its steps", self.run.steps())]
        for what, reading in reads:
            if await self.ask(what, reading) is None:
                with contextlib.suppress(RuntimeError):
                    for _, rest in reads:
                        getattr(rest, "close", lambda: None)()
                raise Violation(f"{what} cannot be read while only writing fails: {self.fault}")

    # ------------------------------------------------------------------ the end

    async def _check_result(self) -> None:
        """Every run ended as it must, and no effect happened oftener than an attempt was lost."""
        assert self.run is not None
        for _ in range(_MOST_TRIES):
            ended = await self.ask("the result", self._outcome(self.run))
            if ended is not None:
                break
            self.disk.clear()
        else:
            raise Violation("the result cannot be had although the disk is well")
        if not self.play.ends(*ended):
            raise Violation(f"the run ended as {ended}")
        for label in self.play.labels:
            if not self.ledger.labels[label]:
                raise Violation(f"effect {label} never happened")
        again = max(self.ledger.effects.values(), default=1)
        if again > 1 + _MOST_AGAIN:
            raise Violation(f"an effect happened {again} times")

    async def _outcome(self, run: Execution[Any]) -> tuple[str, Any]:
        try:
            return str(run.status), await run.result
        except RunCancelledError as error:
            return str(run.status), error.reason

    def _check_file(self) -> None:
        """What the file says after the process is gone, read by the system's own VFS."""
        for problem in problems(self.path):
            raise Violation(problem)
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            integrity = connection.execute("PRAGMA integrity_check").fetchall()
            if integrity != [("ok",)]:
                raise Violation(f"the file is damaged: {integrity}")
            for what, fact in self.facts:
                if not fact.holds(connection):
                    raise Violation(f"{what} was told as done, and is lost")
            ended = connection.execute("SELECT idempotency_key, status FROM runs").fetchall()
        finally:
            connection.close()
        for key, status in ended:
            if status not in ("completed", "cancelled"):
                raise Violation(f"run {key} ended as {status}")


def count_case(trial: Trial, tally: Tally) -> None:
    """Add what a trial reached."""
    tally.count("calls failed", trial.disk.fired)
    tally.count("callers told of a failure", trial.told_failed)
    for mark, is_reached in (
        ("fault met", trial.disk.fired > 0),
        ("caller told of a failure", trial.told_failed > 0),
        ("told as failed, done, and found done", trial.done_anyway > 0),
        ("fault that lasts lived through", trial.troubles > 0),
        ("error that SQLite could tell nobody", trial.disk.swallowed > 0),
        ("step done again", max(trial.ledger.effects.values(), default=1) > 1),
    ):
        if is_reached:
            tally.mark(mark)
