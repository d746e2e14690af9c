"""Journals that released versions wrote are replayed to the end by the code as it is now.

``python -m tests.lab.golden --write VERSION`` keeps a file for each stage, as SQL, in tests/lab/golden/VERSION. That is
done once, when the version is released. A case loads one of the files and lets people, time and deaths come: the run
ends as it had to, and no step that its journal holds is done again.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import apsw

from osprotocol import Execution
from osprotocol._embedded import suspects
from osprotocol._ids import Ids
from osprotocol.errors import OSProtocolError, RunCancelledError, RunFailedError
from tests.crash.checks import problems
from tests.crash.clock import ManualClock
from tests.crash.life import Died, Life
from tests.lab import golden_flows as flows
from tests.lab.golden_flows import STAGES, Stage
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.memory_disk import folder_in_memory

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(__file__).with_name("golden")
_TABLES = ("workers", "runs", "journal", "requests", "logs", "hooks", "audit")
_DEATHS = 12
"""A case dies at one of so many first commits, or not at all."""
_ROUNDS = 200
_DONE = """
SELECT r.id || ':' || j.position FROM journal j JOIN runs r ON r.key = j.run
WHERE j.type IN ('step.completed', 'step.failed') AND j.name <> 'golden.unsure'
"""

# ---------------------------------------------------------------------- keeping


def write(version: str) -> None:
    """Keep the files of a version."""
    folder = FOLDER / version
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        with folder_in_memory() as scratch:
            path = scratch / "runs.db"
            run_id, now = asyncio.run(reach(stage, path))
            connection = apsw.Connection(str(path))
            (folder / "schema.sql").write_text("\n".join(_schema(connection)) + "\n", encoding="utf-8")
            text = "\n".join((f"-- run {run_id}", f"-- now {now}", *_rows(connection)))
            text = text.replace(f"{ROOT}/", "")  # a traceback in a log names where it was written
            (folder / f"{stage.name}.sql").write_text(text + "\n", encoding="utf-8")
            connection.close()


async def reach(stage: Stage, path: Path) -> tuple[str, int]:
    """Bring a run to its stage; its id, and the instant then."""
    clock, ids, run_id = ManualClock(), Ids(11), ""
    flows.world = flows.World(blocked=set(stage.blocked), is_down=stage.is_down)
    for number in range(stage.lives):
        life = Life(path, clock, linger_ms=0, worker=stage.works, ids=ids)
        await life.client.open()
        if number == 0:
            execution = await life.client.create_run(stage.workflow).start()
            run_id = execution.id
            await stage.reach(life, execution)
        await life.settle()
        await (life.close() if stage.closes else life.die())
    return run_id, clock.now()


def _schema(connection: apsw.Connection) -> Iterator[str]:
    for name in ("application_id", "user_version"):
        yield f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').get};"
    rows: list[tuple[Any, ...]] = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    yield from (f"{sql};" for (sql,) in rows)


def _rows(connection: apsw.Connection) -> Iterator[str]:
    connection.execute("UPDATE workers SET name = 'somewhere:1'")
    for table in _TABLES:
        columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
        for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1"):
            values = ", ".join(apsw.format_sql_value(value) for value in row)
            yield f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values});"


# -------------------------------------------------------------------- replaying


def kept() -> list[tuple[str, Stage]]:
    """Every kept file: its version and its stage."""
    by_name = {stage.name: stage for stage in STAGES}
    files = sorted(file for file in FOLDER.glob("*/*.sql") if file.stem != "schema")
    return [(file.parent.name, by_name[file.stem]) for file in files]


def load(version: str, stage: Stage, path: Path) -> tuple[str, int]:
    """Make the database that was kept; the run's id, and the instant then."""
    text = (FOLDER / version / f"{stage.name}.sql").read_text(encoding="utf-8")
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA foreign_keys = 0; PRAGMA journal_mode = WAL")
    connection.execute((FOLDER / version / "schema.sql").read_text(encoding="utf-8"))
    connection.execute(text)
    connection.close()
    path.chmod(0o600)
    run_id, now = re.findall(r"^-- (?:run|now) (\S+)$", text, flags=re.MULTILINE)
    return run_id, int(now)


class Replaying:
    """A kept run on its way to its end."""

    def __init__(self, version: str, stage: Stage, path: Path, linger_ms: int, dies_at: int) -> None:
        self.told = f"{stage.name} of {version}, linger {linger_ms} ms, death at commit {dies_at}"
        self.stage = stage
        self.path = path
        self.run_id, now = load(version, stage, path)
        self.clock = ManualClock(now)
        self.linger_ms = linger_ms
        self.dies_at = dies_at
        self.done = self._done()
        self.died = False
        flows.world = flows.World()

    def _done(self) -> set[str]:
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return {str(row[0]) for row in connection.execute(_DONE)}
        finally:
            connection.close()

    async def replay(self) -> None:
        """To the end, through the death if there is one."""
        if self.dies_at:
            life = self._life(self.dies_at)
            try:
                await life.until_death(self._to_the_end(life))
                await life.until_death(life.close())
            except Died:
                self.died = True
                await life.die()
        life = self._life(0)
        await self._to_the_end(life)
        await life.close()

    def _life(self, dies_at: int) -> Life:
        seed = 12 if dies_at else 13
        return Life(self.path, self.clock, linger_ms=self.linger_ms, dies_at=dies_at, ids=Ids(seed))

    async def _to_the_end(self, life: Life) -> None:
        await life.client.open()
        execution = await life.client.get(self.run_id, self.stage.workflow)
        for _ in range(_ROUNDS):
            await life.settle()
            if (await execution.refresh()).status.is_final:
                break
            if not await self._help(life, execution) and not self.clock.jump():
                await asyncio.sleep(0.001)
        await self._judge(execution)

    async def _help(self, life: Life, execution: Execution[Any]) -> bool:
        """Do what a person would do next; False when nobody is needed."""
        if any(wait.kind == "paused" for wait in execution.waiting_on):
            await execution.resume()
            return True
        children = (await life.client.list(parent=self.run_id, status="awaiting")).items
        for run in (execution, *[await life.client.get(snapshot.id) for snapshot in children]):
            for request in run.requests:
                if request.kind != "approval":
                    await run.respond(41 if request.kind == "input" else "retry", request_id=request.id, by="ann")
                    return True
                if all(response.by != "ann" for response in request.responses):
                    await run.approve(request_id=request.id, by="ann")
                    return True
        return False

    async def _judge(self, execution: Execution[Any]) -> None:
        if execution.status != self.stage.status:
            raise Violation(f"{self.told}: the run is {execution.status} and waits for {execution.waiting_on}")
        try:
            result = await execution.result
        except RunCancelledError:
            result = flows._CANCELLED if execution.status == "cancelled" else None
        except RunFailedError as error:
            result = self.stage.result if str(self.stage.result) in str(error) else str(error)
        except OSProtocolError as error:
            result = repr(error)
        if result != self.stage.result:
            raise Violation(f"{self.told}: the result is {result!r}, not {self.stage.result!r}")
        again = self.done & set(flows.world.begun)
        if again:
            raise Violation(f"{self.told}: steps were done again that the journal holds: {sorted(again)}")
        if wrong := problems(self.path):
            raise Violation(f"{self.told}: {wrong[0]}")


def case(number: int, tally: Tally) -> None:
    """One kept file, in memory or parked, with a death or without."""
    files = kept()
    version, stage = files[number % len(files)]
    turn = number // len(files)
    linger_ms, dies_at = (0, 600_000)[turn % 2], turn // 2
    with folder_in_memory() as folder, mock.patch.object(suspects, "_PROBATION_S", 0.0):
        replaying = Replaying(version, stage, folder / "runs.db", linger_ms, dies_at)
        asyncio.run(replaying.replay())
    tally.count("journals replayed")
    tally.count("steps that the journals held", len(replaying.done))
    tally.count("steps done after that", Counter(flows.world.begun).total())
    tally.mark(f"from {stage.name}")
    if replaying.died:
        tally.mark("a death in the replay")
    if replaying.done and flows.world.begun:
        tally.mark("a journal went on")


HARNESS = Harness(
    name="golden",
    title="kept journals of released versions end as they had to",
    case=case,
    full=len(kept()) * 2 * (1 + _DEATHS),
    small=len(kept()) * 2,
    quotas={**{f"from {stage.name}": 20 for stage in STAGES}, "a death in the replay": 100, "a journal went on": 200},
    small_marks=(*(f"from {stage.name}" for stage in STAGES), "a journal went on"),
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2])
    else:
        main(HARNESS)
