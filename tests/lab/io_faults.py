"""Every call of a disk fails: each kind of fault, once and for a while, at every place of every play."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from osprotocol._clock import SystemClock
from osprotocol._embedded import database
from osprotocol._embedded.queries import read_sql
from osprotocol._embedded.store import Store
from tests.crash import scenarios
from tests.lab.faulty_disk import FAULTS, LASTING, ONCE, TIMES, Fault, FaultyDisk
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.io_plays import PLAYS
from tests.lab.io_process import JumpingLoop, error_log, on_disk, run_on
from tests.lab.io_trial import Play, Trial, count_case


def shared_memory() -> str | None:
    """The folder for files that need no disk; None if the machine has none."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class Bench:
    """What all cases of a share use: the disk, and files to begin with."""

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self._folder = tempfile.TemporaryDirectory(prefix="lab-io-", dir=shared_memory())
        self.root = Path(self._folder.name)
        self._numbers = itertools.count()
        self._measured: dict[str, Counter[str]] = {}
        Store(self.root / "2.db", SystemClock()).close()
        old = apsw.Connection(str(self.root / "1.db"))
        old.execute("PRAGMA journal_mode = WAL").fetchall()
        old.execute(read_sql("schema.sql"))
        old.execute(f"PRAGMA application_id = {database._APPLICATION_ID}; PRAGMA user_version = 1")
        old.close()

    def close(self) -> None:
        self._folder.cleanup()

    @contextlib.contextmanager
    def folder(self, play: Play) -> Iterator[Path]:
        """A database to play with."""
        folder = self.root / f"case-{next(self._numbers)}"
        folder.mkdir()
        path = folder / "runs.db"
        if play.version:
            shutil.copyfile(self.root / f"{play.version}.db", path)
            path.chmod(0o600)
        try:
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def play(self, play: Play, fault: Fault | None, at: int, times: int) -> Trial:
        """Play once with that fault.

        Raises:
            Violation: something did not hold.
        """
        self.disk.arm(None, 0, ONCE)
        with self.folder(play) as path, error_log() as log:
            loop = JumpingLoop()
            trial = Trial(play, fault, at, times, path, self.disk)
            scenarios.set_world(trial.ledger)
            with on_disk(self.disk, loop):
                run_on(loop, trial.play_all(loop, log))
        return trial

    def measured(self, play: Play) -> Counter[str]:
        """The same, measured once."""
        if play.name not in self._measured:
            self._measured[play.name] = self.measure(play)
        return self._measured[play.name]

    def measure(self, play: Play) -> Counter[str]:
        """How many calls the play makes when nothing fails."""
        self.play(play, None, 0, ONCE)
        return Counter(self.disk.calls)


CALLS = ("write", "read", "sync", "lock", "truncate", "delete", "open")
ROOM = {
    "steps": (56, 19, 12, 4, 3, 3, 0),
    "waiting": (61, 23, 14, 4, 3, 3, 0),
    "waiting, linger_ms 0": (149, 37, 25, 4, 5, 3, 0),
    "people": (206, 88, 22, 4, 5, 3, 0),
    "people, linger_ms 0": (204, 84, 22, 4, 5, 3, 0),
    "people, durability normal": (206, 88, 15, 4, 5, 3, 0),
    "family": (222, 96, 34, 4, 6, 3, 0),
    "family, linger_ms 0": (238, 99, 35, 4, 6, 3, 0),
    "family, durability normal": (222, 96, 17, 4, 6, 3, 0),
    "cancelled": (149, 59, 24, 4, 5, 3, 0),
    "cancelled, linger_ms 0": (172, 61, 24, 4, 5, 3, 0),
    "attempts": (117, 33, 22, 4, 4, 3, 0),
    "attempts, linger_ms 0": (117, 33, 22, 4, 4, 3, 0),
    "asked": (128, 66, 17, 4, 4, 3, 0),
    "asked, linger_ms 0": (134, 64, 17, 4, 4, 3, 0),
    "upkeep": (164, 155, 23, 19, 4, 6, 13),
    "new file": (186, 66, 22, 10, 4, 4, 7),
    "old file": (133, 68, 18, 6, 4, 3, 6),
}
"""How many calls of each kind the cases of a play reach: an eighth more than it makes. The numbers of cases follow."""

_STRIDE = 7_919
"""Neighbouring numbers are cases far apart, so that any share is a sample."""


@dataclass(frozen=True)
class Case:
    """Play, fault, and from which call on it is met how often."""

    play: str
    fault: str
    times: int
    at: int

    def __str__(self) -> str:
        return f"{self.play}: {self.fault} at call {self.at}, {TIMES[self.times]}"


@functools.cache
def cases() -> list[Case]:
    """All cases in order."""
    return [
        Case(play.name, fault.name, times, at)
        for play in PLAYS
        for fault in FAULTS
        for times in TIMES
        for at in range(1, ROOM[play.name][CALLS.index(fault.call)] + 1)
    ]


def case_of(number: int) -> Case:
    """The case of a number."""
    return cases()[number * _STRIDE % len(cases())]


def number_of(case: Case) -> int:
    """The number of a case."""
    return cases().index(case) * pow(_STRIDE, -1, len(cases())) % len(cases())


REGRESSIONS = (
    # Closing told a failed copy of the log into the file as an error of SQLite.
    Case("steps", "disk full", ONCE, 41),
    # A run failed for good because its log could not be counted.
    Case("steps", "read error", ONCE, 5),
    # The same while the disk went on failing: the run stood still for ever.
    Case("steps", "read error", LASTING, 5),
    # A child's start could not be committed: the parent stood still for ever.
    Case("family", "disk full", ONCE, 16),
    # A claim was committed and could not be read back: the run stood still for ever.
    Case("people", "read error", LASTING, 61),
    Case("old file", "read error", LASTING, 26),
    # A backup's failure hid behind another.
    Case("upkeep", "read error", LASTING, 76),
    # At durability normal readiness looked at a commit that is not synced, while every start failed.
    Case("family, durability normal", "failed sync", LASTING, 5),
    # Examining a file failed where it was closed.
    Case("upkeep", "failed lock", ONCE, 4),
)

_bench: list[Bench] = []


def _prepare(tally: Tally) -> None:
    _bench[:] = [Bench()]


def _finish(tally: Tally) -> None:
    for bench in _bench:
        bench.close()
    _bench.clear()


def _do(number: int, tally: Tally) -> None:
    case = case_of(number)
    (bench,) = _bench
    play = next(play for play in PLAYS if play.name == case.play)
    fault = next(fault for fault in FAULTS if fault.name == case.fault)
    made = bench.measured(play)
    for call, room in zip(CALLS, ROOM[play.name], strict=True):
        tally.gauge("calls without room", made[call] - room)
    if case.at > made[fault.call]:
        tally.count("beyond the last call")
        return
    try:
        trial = bench.play(play, fault, case.at, case.times)
    except Violation as violation:
        raise Violation(f"{case}: {violation}") from violation
    tally.count(f"cases: {fault.name}, {TIMES[case.times]}")
    count_case(trial, tally)


def _room(tally: Tally) -> str | None:
    missing = tally.gauges.get("calls without room", 0)
    return f"a play makes {missing:.0f} calls more than ROOM has; raise it" if missing > 0 else None


HARNESS = Harness(
    name="io_faults",
    title="I/O faults: every call of the disk fails, once, in a burst and for a while",
    case=_do,
    full=len(cases()),
    share=4_000,
    small=90,
    quotas={
        "fault met": 20_000,
        "caller told of a failure": 10_000,
        "fault that lasts lived through": 7_000,
        "step done again": 5_000,
        "told as failed, done, and found done": 100,
    },
    small_marks=("fault met", "caller told of a failure", "fault that lasts lived through", "step done again"),
    prepare=_prepare,
    finish=_finish,
    checks=(_room,),
)

if __name__ == "__main__":
    main(HARNESS)
