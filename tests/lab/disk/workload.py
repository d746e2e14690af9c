"""Real runs on a recorded disk: steps, timers, children, votes, inputs, cancels, pauses, all in flight together.

Everything follows from a number. Commits are made on the event loop, so that the same number makes the same groups.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import apsw

from osprotocol import Execution, current_step
from osprotocol._clock import Clock
from osprotocol._embedded import database
from osprotocol._embedded.books import Books
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.store import Group, Operation, Store
from osprotocol._embedded.transaction import checksum
from osprotocol._embedded.upstream import Upstream
from osprotocol._ids import Ids
from osprotocol._lifecycle import commands as c
from osprotocol.engine import Engine, Update
from osprotocol.errors import RunError
from tests.crash import scenarios
from tests.crash.clock import ManualClock
from tests.crash.ledger import Ledger
from tests.crash.life import Life, MortalMachine, MortalStore, live
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.lab.disk.contents import FactKey, digest
from tests.lab.disk.recorder import Recorder
from tests.lifecycle.situations import SITUATIONS

DATABASE = "home/runs.db"
BACKUP = "home/backup.db"
_OLD_SCHEMA = Path(__file__).parents[2] / "store" / "schema-1.sql"
_MOST_MOVES = 2_000
_CHILDLESS = ("steps", "waiting", "people", "attempts")


def fast_folder() -> str | None:
    """Memory, where there is some: the cut is ours, not the disk's."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class Fact(NamedTuple):
    """What somebody was told.

    Attributes:
        key: what, as `contents.facts` names it.
        human: a person's decision or a start, which no power cut may take back at any durability.
        since: how much had happened when it was asked for; all that was told before then a decision makes durable.
    """

    key: FactKey
    human: bool
    since: int


@dataclass
class Recording:
    """What a workload asked of its disk, and what the database said after each commit.

    Attributes:
        durability: of the engine that was recorded.
        states: digests of the database by number of the commit; the empty one and an old one come first.
        now: the time at the end.
        begins_old: it began with a file that an older version made.
    """

    number: int
    durability: str
    recorder: Recorder
    states: list[str] = field(default_factory=list)
    now: int = 0
    begins_old: bool = False

    def told(self, key: FactKey, *, human: bool = False, since: int | None = None) -> None:
        """Somebody is told something, now."""
        self.recorder.add("fact", about=Fact(key, human, len(self.recorder.ops) if since is None else since))

    def committed(self, connection: apsw.Connection) -> None:
        """A commit has returned: what the database says now."""
        state = digest(connection)
        if not self.states or state != self.states[-1]:
            self.states.append(state)
        self.recorder.add("commit", about=len(self.states) - 1)


class RecordedStore(MortalStore):
    """The real store on a recorded disk, with checkpoints after so few pages that there are many."""

    recording: Recording
    pages = 1_000

    def _open(self) -> apsw.Connection:
        connection = super()._open()
        connection.execute(f"PRAGMA wal_autocheckpoint = {self.pages}")
        return connection

    def commit(self, operations: list[Operation]) -> Group:
        before = self.commits
        group = super().commit(operations)
        if self.commits > before:
            self.recording.committed(self.reader)
        return group


class RecordedEngine(EmbeddedEngine):
    """The real engine; what its callers are told is written down at the moment they are."""

    recording: Recording
    asked: Counter[tuple[str, str]]

    async def start(self, *arguments: Any, **options: Any) -> Update:
        since = len(self.recording.recorder.ops)
        update = await super().start(*arguments, **options)
        self.recording.told(("run", update.run_id), human=True, since=since)
        return update

    async def execute(self, run_id: str, command: c.Command) -> Update:
        since = len(self.recording.recorder.ops)
        update = await super().execute(run_id, command)
        key: FactKey | None = None
        if isinstance(command, c.Vote | c.Respond):
            key = ("response", update.reply.id, command.by.casefold())
        elif isinstance(command, c.Cancel):
            key = ("cancel", update.run_id)
        elif isinstance(command, c.Pause | c.Resume):
            verb = "pause" if isinstance(command, c.Pause) else "resume"
            self.asked[verb, update.run_id] += 1
            key = (verb, update.run_id, self.asked[verb, update.run_id])
        if key is not None:
            self.recording.told(key, human=True, since=since)
        return update

    async def backup(self, target: Path) -> None:
        await super().backup(target)
        self.recording.told(("backup",), human=True, since=0)  # it makes itself last, not what it copied

    async def delete(self, run_id: str) -> None:
        since = len(self.recording.recorder.ops)
        await super().delete(run_id)
        self.recording.told(("deleted", run_id), human=True, since=since)

    async def enlist(self, name: str) -> None:
        """Write a person down in the books of a server."""
        since = len(self.recording.recorder.ops)
        await (await Books.open(self)).add_user(name, ["approver"], by="root")
        self.recording.told(("user", name), human=True, since=since)


class RecordedLife(Life):
    """One process's life on a recorded disk."""

    def __init__(self, recording: Recording, clock: ManualClock, pages: int, linger_ms: int, ids: Ids) -> None:
        self.recording = recording
        self.pages = pages
        self.asked: Counter[tuple[str, str]] = Counter()
        super().__init__(recording.recorder.root / DATABASE, clock, linger_ms=linger_ms, ids=ids)

    async def _open(self) -> Engine:
        recording = self.recording
        engine = RecordedEngine(
            self.path,
            durability=recording.durability,
            clock=self.clock,
            linger_ms=self._linger_ms,
            ids=self._ids,
            vfs=recording.recorder.vfs,
            machine=RecordedMachine(self),
        )
        engine.recording, engine.asked = recording, self.asked
        engine.writer._busy = lambda: 0  # every commit on the loop
        self.engine = engine
        await engine.begin(worker=True, log_level=logging.INFO)
        assert engine._membership is not None
        engine._membership.rest()  # it looks at the clock on the wall
        return engine


class RecordedMachine(MortalMachine):
    """A machine whose disk is recorded."""

    def __init__(self, life: RecordedLife) -> None:
        super().__init__(life)
        self._recorded = life

    def open_store(
        self, path: Path, clock: Clock, durability: str, vfs: str | None, upstream: Upstream | None
    ) -> Store:
        store = RecordedStore(path, clock, durability, vfs)
        store.life, store.recording, store.pages = self._recorded, self._recorded.recording, self._recorded.pages
        store._connected().execute(f"PRAGMA wal_autocheckpoint = {store.pages}")
        store.recording.committed(store.reader)
        return store


class Witness(Ledger):
    """The ledger of effects, which also knows what the beginning of an effect promises."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording.recorder.root / DATABASE)
        self.recording = recording

    async def effect(self, label: str) -> None:
        """Before an effect begins, the results of what was done before it are durable."""
        await super().effect(label)
        for run_id, returned in self._returned.items():
            if run_id == current_step().idempotency_key.rpartition(":")[0]:
                for position in returned:
                    self.recording.told(("step", run_id, position))
        self.recording.recorder.add("effect", about=label)


class _SteadyLoop(asyncio.SelectorEventLoop):
    """A loop whose clock counts its rounds, and goes on to the next timer when there is nothing to do."""

    _seconds = 0.0
    _ready: Any
    _scheduled: Any

    def time(self) -> float:
        return self._seconds

    def _run_once(self) -> None:
        self._seconds += 0.0005
        if not self._ready and self._scheduled:
            self._seconds = max(self._seconds, self._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


async def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """In place of `asyncio.to_thread`."""
    return function(*arguments)


@contextmanager
def recorded(number: int) -> Iterator[Recording]:
    """The recording of that number; its folder is gone afterwards."""
    chance = Random(f"power_loss recording {number}")
    with tempfile.TemporaryDirectory(prefix="osp-power-", dir=fast_folder()) as folder:
        recorder = Recorder(Path(folder))
        recording = Recording(number, "normal" if number % 2 else "full", recorder)
        with (
            recorder.recording(),
            mock.patch("osprotocol._embedded.writer._QUICK_COMMIT_S", float("inf")),
            mock.patch("osprotocol._embedded.writer._INLINE_OPERATIONS", 1 << 30),
            mock.patch("asyncio.to_thread", _at_once),
        ):
            if chance.random() < 0.3:
                _begin_with_old_file(recording)
            with asyncio.Runner(loop_factory=_SteadyLoop) as runner:
                runner.run(_record(recording, chance))
        yield recording


def _begin_with_old_file(recording: Recording) -> None:
    """A file of schema version 1 with a run that waits for a person; it has been on the disk for long."""
    recording.begins_old = True
    path = recording.recorder.root / DATABASE
    path.parent.mkdir()
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()  # it is FULL by itself
    connection.execute("BEGIN")
    connection.execute(_OLD_SCHEMA.read_text(encoding="utf-8"))
    connection.execute(f"PRAGMA application_id = {database._APPLICATION_ID}; PRAGMA user_version = 1")
    story = SITUATIONS["asks an approval"]()
    connection.execute(QUERIES["insert_run"], story.state._replace(owner=None, executing=False, ready_at=None)[:-1])
    for number, event in enumerate(story.events, 1):
        connection.execute(QUERIES["append"], (number, 1, *event, checksum(1, event)))
    for request in story.requests.values():
        connection.execute(QUERIES["put_request"], tuple(request))
    connection.execute("COMMIT")
    recording.recorder.settle()
    recording.committed(connection)
    connection.close()
    recording.recorder.settle()
    recording.told(("run", story.state.id), human=True)


async def _record(recording: Recording, chance: Random) -> None:
    clock, ids = ManualClock(), Ids(chance.getrandbits(32))
    ledger = Witness(recording)
    scenarios.set_world(ledger)
    chosen = chance.sample(SCENARIOS, chance.randint(3, len(SCENARIOS)))
    lives = chance.choice((1, 2))
    for number in range(lives):
        pages, linger_ms = chance.choice((6, 20, 60, 1_000)), chance.choice((0, 60_000))
        life = RecordedLife(recording, clock, pages, linger_ms, ids)
        ledger.begin_life(life)
        part = chosen[number::lives]
        try:
            ended = await live(life, functools.partial(_script, recording, part, ledger, chance, number == 0))
        finally:
            ledger.close()
        assert ended is not None
    recording.now = clock.now()


async def _script(
    recording: Recording, chosen: list[Scenario], ledger: Witness, chance: Random, first: bool, life: RecordedLife
) -> bool:
    engine, names = life.engine, 1_000 if first else 0
    assert isinstance(engine, RecordedEngine)
    async with _reading_events(recording, life):
        running: list[tuple[Scenario, Execution[Any]]] = []
        waiting = list(chosen)
        saves = first and chance.random() < 0.3
        for _ in range(_MOST_MOVES):
            if not waiting and not running:
                break
            if waiting and (not running or chance.random() < 0.4):
                scenario = waiting.pop()
                running.append((scenario, await life.client.create_run(scenario.workflow, scenario.input).start()))
            await go_on(life, running, ledger, chance)
            if chance.random() < 0.03:
                names += 1
                await engine.enlist(f"user-{names}-{recording.number}")
            if saves and chance.random() < 0.1:
                saves = False
                await life.client.backup(recording.recorder.root / BACKUP)
            for scenario, execution in list(running):
                if execution.status.is_final:
                    running.remove((scenario, execution))
                    with suppress(RunError):
                        await execution.result
                    recording.told(("ended", execution.id, str(execution.status)))
                    if scenario.name in _CHILDLESS and chance.random() < 0.3:
                        await life.client.delete(execution.id)
        else:
            raise AssertionError(f"the workload stands still: {running}")
    ledger.close()
    return True


async def go_on(
    life: Life, running: list[tuple[Scenario, Execution[Any]]], ledger: Ledger, chance: Random, *, pauses: bool = True
) -> None:
    """One move in the life of some runs: a person does something, or time passes."""
    still = await life.settle()
    acting = [one for one in running if not one[1].status.is_final]
    chance.shuffle(acting)
    for scenario, execution in acting:
        await execution.refresh()
        if any(waiting.kind == "paused" for waiting in execution.waiting_on):
            if not pauses or chance.random() < 0.5:
                await execution.resume(by="paula")
                return
            continue
        if execution.status.is_final:
            continue
        if pauses and chance.random() < 0.05 and not execution.cancelling:
            await execution.pause("a moment", by="paula")
            return
        if await scenario.people(execution, ledger):
            return
    if still and not life.clock.jump():
        await asyncio.sleep(0)


@asynccontextmanager
async def _reading_events(recording: Recording, life: RecordedLife) -> AsyncIterator[None]:
    """Somebody follows the events of all runs; what is told is a fact."""

    async def read() -> None:
        async for event in life.client.events():
            if event.run_id:
                recording.told(("event", event.run_id, event.number, event.type))

    task = asyncio.ensure_future(read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()
