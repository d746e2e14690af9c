"""A process dies at every named point of every scenario, and at every pair of points of the shortest ones.

What a killed process leaves is its files, as they are at that instant: so at each point an image is taken of them, of
the time and of what the world outside knows, while the process lives on. Then each image is opened by a next process,
which has to bring the run to its end. Points between which nothing changed leave the same image; it is lived once.

Cases: 0 to 19 are the first image of each point for each scenario and way of waiting, 20 to 39 all other images, and
from 40 on each is one image of a first life and the images of the life that goes on from it.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osprotocol import Execution
from tests.crash.checks import problems
from tests.crash.clock import ManualClock
from tests.crash.life import Life
from tests.crash.scenarios import Scenario
from tests.crash.world import World
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.point_scenarios import ALL, SHORTEST, Memory, broken_words, is_made, keep_house, repeated_calls
from tests.lab.points import ACKNOWLEDGED, CALLS, POINTS, is_committing, watched

_LINGERS = (60_000, 0)
COMBINATIONS = tuple(
    (scenario, _LINGERS[(number + turn) % 2]) for turn in range(2) for number, scenario in enumerate(ALL)
)
"""Each scenario once with one way of waiting, then with the other."""
_MOST_IMAGES = 60
_SAMPLED = 12
_SPREAD = 5
_RECOVERY = {
    f"{when} {name}"
    for when in ("before", "after")
    for name in ("a worker is buried", "a dead worker's lock file is removed")
}
_images_of: dict[int, int] = {}
"""How many images the lives of a combination left, as far as they were lived here: a case beyond them is none."""

_FIRST_PAIR = 2 * len(COMBINATIONS)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory, if there is one: the disk is not the point here."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="osp-lab-", dir=shared if shared.is_dir() else None)


@dataclass
class Image:
    """What a process leaves that dies at some points.

    Attributes:
        points: the first of them, and all others that leave the same.
    """

    files: dict[str, bytes]
    now: int
    memory: Memory
    points: list[str]
    is_first: bool


@dataclass
class Album:
    """Takes the images of one life.

    Attributes:
        wanted: whether to take one of an instant with that number; others are only counted.
    """

    wanted: Callable[[int], bool] = lambda number: True
    images: list[Image] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    _known: dict[Any, Image | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def instants(self) -> int:
        """How many different images there were to take."""
        return len(self._known)

    def take(self, point: str, life: Life, memory: Memory) -> None:
        """The process may die here. Called on any of its threads."""
        engine = life.engine
        if engine is None or is_committing():
            self._take(point, life, memory, 0 if engine is None else engine.store.commits)
            return
        with engine.store.lock:
            self._take(point, life, memory, engine.store.commits)

    def _take(self, point: str, life: Life, memory: Memory, commits: int) -> None:
        with self._lock:
            self.reached[point] += 1
            is_first = self.reached[point] == 1
            folder = life.path.parent
            files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith("-shm")]
            sizes = tuple((str(path.relative_to(folder)), path.stat().st_size) for path in files)
            key = (commits, sizes, life.clock.now(), memory.size)
            if key in self._known:
                known = self._known[key]
                if known is not None:
                    known.points.append(point)
                    known.is_first = known.is_first or is_first
                return
            self._known[key] = image = None
            if self.wanted(len(self._known) - 1):
                contents = {str(path.relative_to(folder)): path.read_bytes() for path in files}
                image = Image(contents, life.clock.now(), memory.at(memory.path), [point], is_first)
                self.images.append(image)
                self._known[key] = image


class Scene(World):
    """A scenario in a folder; every point that its processes reach goes into the album."""

    def __init__(self, folder: Path, scenario: Scenario, linger_ms: int, image: Image | None = None) -> None:
        folder.mkdir()
        path = folder / "runs.db"
        clock, memory = ManualClock(), Memory(path)
        if image is not None:
            for name, content in image.files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(content)
            clock, memory = ManualClock(image.now), image.memory.at(path)
        super().__init__(path, scenario, linger_ms, clock=clock, ledger=memory)
        self.memory = memory
        self.album: Album | None = None
        self._life: Life | None = None

    def most(self, label: str) -> int:
        # A fork does it again, and a run that was pruned is started anew by whoever was not told of it.
        if self.scenario.name == "upkeep":
            return 2 * (1 + self.deaths) + self.deaths
        # Nobody lets a step begin again that begins once at most: it is skipped.
        return 1 if self.scenario.name == "careful" else super().most(label)

    def opening(self, life: Life) -> None:
        self._life = life

    async def afterwards(self, life: Life, execution: Execution[Any]) -> None:
        self.memory.told.append(("ended", execution.id, str(execution.status)))
        if self.scenario.name == "upkeep":
            await keep_house(life, execution, self.memory)

    def reached(self, point: str, arguments: tuple[Any, ...]) -> None:
        """Take an image; what is acknowledged now is known outside from here on."""
        life = self._life
        if life is None:
            return
        if self.album is not None:
            self.album.take(point, life, self.memory)
        if point == f"after {ACKNOWLEDGED.name}":
            _, run_id, command = arguments
            self.memory.told.append((type(command).__name__, run_id, str(getattr(command, "by", ""))))

    def live_on(self, deaths: int, told: str) -> None:
        """Another process opens what is there, and the run has to end as it should."""
        self.deaths = deaths
        if is_made(self.path):
            wrong = [*problems(self.path), *broken_words(self.path, self.memory)]
            if wrong:
                raise Violation(f"{told}: right after the death: {'; '.join(wrong)}")
        try:
            with watched(self.reached, CALLS if self.album is not None else (ACKNOWLEDGED,)):
                ended = asyncio.run(self.live())
            assert ended is not None
            self.check_end(ended, told)
        except AssertionError as error:
            raise Violation(f"{told}: {error}; wrong: {self.memory.wrong}") from error
        finally:
            self._life = None
            self.memory.close()
        wrong = [*broken_words(self.path, self.memory), *repeated_calls(self.path, self.memory)]
        copy = self.path.with_name("copy.db")
        wrong += problems(copy) if copy.exists() else []
        if wrong:
            raise Violation(f"{told}: in the end: {'; '.join(wrong)}")


class Case:
    """All lives of one case, each in a folder of its own."""

    def __init__(self, folder: Path, number: int, tally: Tally) -> None:
        self.scenario, self.linger_ms = COMBINATIONS[number % len(COMBINATIONS)]
        self.tally = tally
        self.images = 0
        self._folder = folder
        self._lives = 0

    def first_life(self, wanted: Callable[[int], bool]) -> Album:
        """An undisturbed life, and the images of it that are wanted."""
        album = Album(wanted)
        self._live(None, album, [])
        self.images = album.instants
        self.tally.mark(f"undisturbed: {self.scenario.name}")
        for point, times in album.reached.items():
            self.tally.mark(f"reached: {point}", times)
        return album

    def next_life(self, image: Image, before: list[Image], album: Album | None = None) -> None:
        """The life of the process after the one that died."""
        self._live(image, album, [*before, image])
        self.tally.count("deaths")
        self.tally.count("points died at", len(image.points))
        if before:
            self.tally.count("pairs of deaths")
        for point in image.points:
            self.tally.mark(f"died {point}")

    def _live(self, image: Image | None, album: Album | None, deaths: list[Image]) -> None:
        self._lives += 1
        scene = Scene(self._folder / str(self._lives), self.scenario, self.linger_ms, image)
        scene.album = album
        died = ", then ".join(repr(one.points[0]) for one in deaths) or "nowhere"
        scene.live_on(len(deaths), f"{self.scenario.name}, linger {self.linger_ms} ms, died {died}")
        self.tally.count("lives")


def case(number: int, tally: Tally) -> None:
    """Die where the number says."""
    combination = number % len(COMBINATIONS)
    which = (number - _FIRST_PAIR) // len(COMBINATIONS)
    if which > _images_of.get(combination, _MOST_IMAGES) + _SPREAD:
        tally.count("pairs beyond the end")
        return
    with scratch() as folder:
        lives = Case(Path(folder), number, tally)
        if number < _FIRST_PAIR:
            _die_once(lives, firsts=number < len(COMBINATIONS))
        else:
            _die_twice(lives, which, random.Random(f"named_points {number}"))
        _images_of[combination] = lives.images


def _die_once(lives: Case, *, firsts: bool) -> None:
    """At the first image of each point and then in the recovery from one of them; or at all other images."""
    images = lives.first_life(lambda number: True).images
    held = next(image for image in images if "before a step executes" in image.points)
    for image in images:
        if image.is_first == firsts:
            album = Album() if firsts and image is held else None
            lives.next_life(image, [], album)
            for second in album.images if album is not None else ():
                if not _RECOVERY.isdisjoint(second.points):
                    lives.next_life(second, [image])


def _die_twice(lives: Case, which: int, chance: random.Random) -> None:
    """At one image of the first life, and at those of the second, or at some of them."""
    images = lives.first_life(lambda number: number == which).images
    if not images:
        lives.tally.count("pairs beyond the end")
        return
    album = Album()
    lives.next_life(images[0], [], album)
    seconds = album.images
    if lives.scenario.name not in SHORTEST:
        seconds = chance.sample(seconds, min(_SAMPLED, len(seconds)))
    for second in seconds:
        lives.next_life(second, images)


HARNESS = Harness(
    name="named_points",
    title="Death at every named point, and at pairs of points",
    case=case,
    full=_FIRST_PAIR + _MOST_IMAGES * len(COMBINATIONS),
    small=len(ALL),
    share=160,
    quotas={f"died {point}": 4 for point in POINTS},
    small_marks=tuple(f"died {point}" for point in POINTS),
)

if __name__ == "__main__":
    main(HARNESS)
