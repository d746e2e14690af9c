"""Power fails at any moment: what the disk then holds opens, is whole, and has everything that anybody was told.

A case is one image of the disk of a recorded workload. At durability ``full`` nothing that was told is lost; at
``normal`` only the newest commits are, never a person's decision, a start, or what was told before one of those.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from random import Random

import apsw

from osprotocol import Execution
from osprotocol.errors import RunCancelledError, RunFailedError
from tests.crash import scenarios
from tests.crash.checks import problems
from tests.crash.clock import ManualClock
from tests.crash.ledger import Ledger
from tests.crash.life import Life, live
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.lab.disk.contents import FactKey, digest, facts, run_of
from tests.lab.disk.images import History, Image
from tests.lab.disk.workload import BACKUP, DATABASE, Fact, Recording, fast_folder, go_on, recorded
from tests.lab.harness import Harness, Tally, Violation, main

IMAGES_AT_ONCE = 25
"""So many images in turn of a recording at full, then of one at normal."""
IMAGES = 250
"""So many images of a pair of recordings."""
_RECOVERED = 0.1
_MOST_MOVES = 2_000
_TOP_RUNS = "SELECT id, workflow FROM runs WHERE parent IS NULL AND workflow LIKE 'crash.%' ORDER BY key"

REGRESSIONS = (0, 276, 279)
"""A new folder's name was not synced; nor was a backup's; nor, at ``normal``, the deletion of a run."""


class Story:
    """A recording with what follows from it for every point.

    Attributes:
        told: what was told, with the number of ops before it.
        commits: number of ops before each commit had returned, and the state that it made.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.history = History(recording.recorder.ops)
        self.told: list[tuple[int, Fact]] = []
        self.commits: list[tuple[int, int]] = []
        self.effects: list[tuple[int, str]] = []
        self.states = {state: number for number, state in enumerate(recording.states)}
        self.known: dict[int, frozenset[FactKey]] = {}
        for index, op in enumerate(self.history.ops):
            if op.kind == "fact":
                self.told.append((index, op.about))
            elif op.kind == "commit":
                self.commits.append((index, op.about))
            elif op.kind == "effect":
                self.effects.append((index, op.about))

    @cached_property
    def interesting(self) -> list[list[int]]:
        """Points right after a person was told something; around a sync, around an answer, around a change of names."""
        found = [[index + 1 for index, fact in self.told if fact.human]]
        for kinds in (("sync",), ("fact",), ("enter", "leave", "move", "sync folder")):
            numbers = [index for index, op in enumerate(self.history.ops) if op.kind in kinds]
            found.append([number + after for number in numbers for after in (0, 1)])
        return found

    def point(self, chance: Random) -> int:
        """When the power fails: before the op of that number."""
        if chance.random() < 0.5:
            return chance.choice(chance.choice(self.interesting))
        return chance.randint(0, len(self.history.ops))

    def last_commit(self, point: int) -> int:
        """The state that the last commit made which had returned by then; -1 when there was none."""
        place = bisect_left(self.commits, (point, -1))
        return self.commits[place - 1][1] if place else -1

    def promised(self, point: int) -> tuple[list[FactKey], int]:
        """What no power cut at that point may take back: what was told, and a commit."""
        told = self.told[: bisect_left(self.told, point, key=lambda one: one[0])]
        if self.recording.durability == "full":
            return [fact.key for _, fact in told], self.last_commit(point)
        since = max((fact.since for _, fact in told if fact.human), default=0)
        return [fact.key for index, fact in told if fact.human or index < since], self.last_commit(since)


class Bench:
    """Where the images of a share are put together and tried; recordings are made as they are needed."""

    def __init__(self) -> None:
        self._stories: dict[int, Story] = {}
        self._folder: Path | None = None

    def story(self, number: int, tally: Tally) -> Story:
        """The recording of that number; the newest two are kept."""
        if number not in self._stories:
            with recorded(number) as recording:
                story = Story(recording)
            while len(self._stories) > 1:
                del self._stories[next(iter(self._stories))]
            self._stories[number] = story
            tally.count("recordings")
            tally.count("recorded commits", len(story.commits))
            tally.count("recorded answers", len(story.told))
        return self._stories[number]

    @property
    def folder(self) -> Path:
        """A folder for the image of now."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="osp-power-", dir=fast_folder()))
        return self._folder

    def clear(self) -> None:
        """Leave nothing behind."""
        self._stories.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


_bench = Bench()


def recording_of(number: int) -> int:
    """Of which recording that case is an image; even ones are at ``full``, odd ones at ``normal``."""
    return number // IMAGES * 2 + number // IMAGES_AT_ONCE % 2


def case(number: int, tally: Tally) -> None:
    """One image of one recording, opened and compared with what was told."""
    chance = Random(f"power_loss {number}")
    story = _bench.story(recording_of(number), tally)
    point = story.point(chance)
    image = story.history.image(point, chance)
    root = _bench.folder
    image.write(root)
    tally.count("images")
    tally.count("writes dropped", image.dropped)
    tally.count("writes torn", image.torn)
    durability = story.recording.durability
    if image.torn:
        tally.mark(f"torn write at {durability}")
    if image.dropped:
        tally.mark(f"dropped write at {durability}")
    where = f"at {durability}, recording {story.recording.number}, power off before op {point}"
    state = _check_database(story, image, point, root, where, tally)
    _check_backup(story, image, point, root, where, tally)
    if state >= 0 and chance.random() < _RECOVERED:
        asyncio.run(_recover(story, point, root / DATABASE, chance, where))
        tally.mark("recovered to the end")


def _check_database(story: Story, image: Image, point: int, root: Path, where: str, tally: Tally) -> int:
    """The database is whole and is as it was after some commit; gives which, or -1 when there is none yet."""
    durability = story.recording.durability
    promised, least = story.promised(point)
    last = story.last_commit(point)
    state = -1
    if image.files.get(DATABASE) or image.files.get(f"{DATABASE}-wal"):
        with _opened(root / DATABASE, where) as connection:
            _check_whole(connection, where)
            found = digest(connection)
            if found != digest_of_nothing():
                if found not in story.states:
                    raise Violation(f"{where}: the database is as it was after no commit")
                state = story.states[found]
                if state not in story.known:
                    story.known[state] = _facts_of_whole(connection, root / DATABASE, where)
    if state > last + 1:
        raise Violation(f"{where}: state {state} is newer than anything that was written")
    known = story.known[state] if state >= 0 else frozenset()
    missing = [
        key for key in promised if key not in known and key[0] != "backup" and ("deleted", run_of(key)) not in known
    ]
    if missing:
        raise Violation(f"{where}: commit {state} of {last} is left, and lost is what was told: {missing[:3]}")
    if state < least:
        raise Violation(f"{where}: only commit {state} is left, and {least} had to last")
    if state < last:
        tally.mark("lost tail at normal")
        tally.gauge("commits lost at normal", last - state)
    if state > last:
        tally.mark("kept commit that had not returned")
    if last < 0:
        tally.mark("cut while the schema was made")
    elif last == 0 and story.recording.begins_old:
        tally.mark("cut while the schema was migrated")
    if 0 < last < len(story.recording.states) - 1:
        tally.mark(f"cut in mid-flight at {durability}")
    return state


def _facts_of_whole(connection: apsw.Connection, path: Path, where: str) -> frozenset[FactKey]:
    """What a state says, once it is known that it contradicts itself nowhere."""
    known = frozenset(facts(connection))
    wrong = problems(path) if known else []
    if wrong:
        raise Violation(f"{where}: {'; '.join(wrong)}")
    return known


def _check_backup(story: Story, image: Image, point: int, root: Path, where: str, tally: Tally) -> None:
    """A backup is there whole or not at all, and for certain once somebody was told that it is."""
    if BACKUP in image.files:
        with _opened(root / BACKUP, f"{where}: backup") as connection:
            _check_whole(connection, f"{where}: backup")
            if digest(connection) not in story.states:
                raise Violation(f"{where}: the backup is as the database was after no commit")
        tally.mark("backup in the image")
    elif ("backup",) in story.promised(point)[0]:
        raise Violation(f"{where}: the backup is gone that somebody was told of")


@contextlib.contextmanager
def _opened(path: Path, where: str) -> Iterator[apsw.Connection]:
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            yield connection
        finally:
            connection.close()
    except apsw.Error as error:
        raise Violation(f"{where}: {type(error).__name__}: {error}") from error


def _check_whole(connection: apsw.Connection, where: str) -> None:
    said = connection.execute("PRAGMA integrity_check").get
    if said != "ok":
        raise Violation(f"{where}: {said}")


_nothing: list[str] = []


def digest_of_nothing() -> str:
    """The digest of a database without a table."""
    if not _nothing:
        connection = apsw.Connection(":memory:")
        _nothing.append(digest(connection))
        connection.close()
    return _nothing[0]


# ---------------------------------------------------------------------- going on after it


async def _recover(story: Story, point: int, path: Path, chance: Random, where: str) -> None:
    """A new engine brings every run of the image to its end, and does nothing again whose result is there."""
    clock, ledger = ManualClock(story.recording.now), Ledger(path)
    ledger.labels = Counter(label for index, label in story.effects if index < point)
    scenarios.set_world(ledger)
    life = Life(path, clock, linger_ms=chance.choice((0, 60_000)))
    ledger.begin_life(life)
    by_name = {scenario.workflow.name: scenario for scenario in SCENARIOS}

    async def script(life: Life) -> list[str]:
        assert life.engine is not None
        rows = life.engine.store.rows(_TOP_RUNS)
        running = [(by_name[name], await life.client.get(run_id)) for run_id, name in rows]
        for _ in range(_MOST_MOVES):
            await go_on(life, running, ledger, chance, pauses=False)
            if all(execution.status.is_final for _, execution in running):
                break
        else:
            return [f"{execution} stands still" for _, execution in running if not execution.status.is_final]
        return [wrong for scenario, execution in running for wrong in await _wrong_ends(scenario, execution)]

    try:
        wrong = await live(life, script)
    finally:
        ledger.close()
    wrong = [*(wrong or ()), *ledger.wrong, *problems(path)]
    if wrong:
        raise Violation(f"{where}: after recovery {'; '.join(wrong)}")


async def _wrong_ends(scenario: Scenario, execution: Execution[object]) -> list[str]:
    value: object
    try:
        value = await execution.result
    except RunCancelledError as error:
        value = error.reason
    except RunFailedError as error:
        value = str(error)
    is_right = execution.status == scenario.status and scenario.result(value)
    return [] if is_right else [f"{scenario.name} ended {execution.status} with {value}"]


# ---------------------------------------------------------------------- the harness


def _at_least(mark: str, share: float) -> Callable[[Tally], str | None]:
    """A mark has to be reached by that share of all images."""

    def check(tally: Tally) -> str | None:
        images, reached = tally.counts["images"], tally.marks[mark]
        return None if reached >= share * images else f"{mark}: only {reached} of {images} images"

    return check


HARNESS = Harness(
    name="power_loss",
    title="images of disks after a power cut",
    case=case,
    full=50_000,
    share=6_250,
    small=250,
    quotas={
        "lost tail at normal": 2_000,
        "torn write at full": 1_000,
        "torn write at normal": 1_000,
        "dropped write at full": 3_000,
        "dropped write at normal": 3_000,
        "kept commit that had not returned": 2_000,
        "backup in the image": 1_000,
        "cut while the schema was made": 2_000,
        "cut while the schema was migrated": 400,
        "recovered to the end": 2_000,
    },
    small_marks=("lost tail at normal", "torn write at full", "dropped write at full", "torn write at normal"),
    finish=lambda tally: _bench.clear(),
    checks=(_at_least("cut in mid-flight at full", 0.3), _at_least("cut in mid-flight at normal", 0.3)),
)

if __name__ == "__main__":
    main(HARNESS)
