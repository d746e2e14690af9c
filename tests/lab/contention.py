"""Eight processes claim the runs of one file, beside a long reader and a program that holds the write lock."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import apsw

from tests.crash.checks import problems
from tests.lab import contention_flows as flows
from tests.lab.crowd import ended, start, wait_until
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.memory_disk import folder_in_memory

_SMALL = 1
"""The first case is small, for `make test`; the others are full."""
_PATIENCE_S = 180.0
_PAGE_BYTES = 4_096
_AUTOCHECKPOINT_PAGES = 1_000
SHAPES = tuple(flows.SHAPES)


def size_of(number: int) -> tuple[str, int, int]:
    """Shape, runs and processes of a case."""
    shape = SHAPES[number % len(SHAPES)]
    if number < _SMALL:
        return "sleeper", 60, 3
    claims = {"single": 1, "sleeper": 3, "family": 5, "asking": 2}[shape]
    return shape, 2_000 // claims, 8


def case(number: int, tally: Tally) -> None:
    """Work off many runs of one shape, and compare what was done with what was accepted."""
    shape, runs, processes = size_of(number)
    with folder_in_memory() as folder, ended() as alive:
        alive.extend(start(flows.work, str(folder)) for _ in range(processes))
        wait_until(lambda: len(_lines(folder / "ready")) == processes, _PATIENCE_S, lambda: "workers do not start")
        alive.append(start(flows.disturb, str(folder), 0.5))
        began = time.monotonic()
        alive.append(start(flows.begin, str(folder), shape, runs))
        peak = _Peak(folder / "runs.db-wal")
        total = runs * (4 if shape == "family" else 1)
        wait_until(lambda: peak.look() and _finished(folder) >= total, _PATIENCE_S, lambda: _stuck(folder, total))
        seconds = time.monotonic() - began
        (folder / "calm").touch()
        alive[processes].join()
        _judge(folder, shape, runs, tally)
        _judge_log(folder, peak.bytes, tally)
    tally.gauge("slowest case, s", seconds)
    tally.gauge("worst wait of a caller, s", max(float(line) for line in _lines_in(peak.begun)))
    tally.mark(shape)


class _Peak:
    """How large the log became."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.begun: list[str] = []

    def look(self) -> bool:
        if self.path.exists():
            self.bytes = max(self.bytes, self.path.stat().st_size)
        self.begun = _lines(self.path.parent / "begun")
        return True


def _lines_in(lines: list[str]) -> list[str]:
    return lines or ["0"]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _ask(folder: Path, query: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(folder / "runs.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(10_000)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _finished(folder: Path) -> int:
    time.sleep(0.04)
    return int(_ask(folder, "SELECT count(*) FROM runs WHERE ended_at IS NOT NULL")[0][0])


def _stuck(folder: Path, total: int) -> str:
    return f"only some of {total} runs ended: {_ask(folder, 'SELECT status, count(*) FROM runs GROUP BY status')}"


def _judge(folder: Path, shape: str, runs: int, tally: Tally) -> None:
    effects = flows.SHAPES[shape][1]
    accepted = _lines(folder / "accepted")
    done = Counter(_lines(folder / "ledger"))
    results: dict[str, int] = dict(
        _ask(
            folder,
            "SELECT r.id, j.value FROM runs r JOIN journal j ON j.run = r.key AND j.type = 'run.completed' "
            "WHERE r.parent IS NULL",
        )
    )
    if len(set(accepted)) != runs or set(results) != set(accepted):
        raise Violation(f"{shape}: {len(set(accepted))} runs were accepted, {len(results)} completed of {runs}")
    if wrong := [run_id for run_id, value in results.items() if json.loads(str(value)) != effects]:
        raise Violation(f"{shape}: the sum of run {wrong[0]} is {results[wrong[0]]}, not {effects}")
    if again := [key for key, times in done.items() if times > 1]:
        raise Violation(f"{shape}: {len(again)} effects happened more than once: {again[:3]}")
    if done.total() != effects * runs:
        raise Violation(f"{shape}: {done.total()} effects happened, not {effects * runs}")
    if busy := [line for line in _lines(folder / "log") if "locked" in line or "busy" in line.lower()]:
        raise Violation(f"{shape}: {len(busy)} times the database was busy: {busy[0]}")
    if wrong_now := problems(folder / "runs.db"):
        raise Violation(f"{shape}: {wrong_now[0]}")
    ((claims, workers),) = _ask(
        folder,
        "SELECT count(*), count(DISTINCT json_extract(value, '$.worker')) FROM journal WHERE type = 'run.claimed'",
    )
    tally.count("claims", int(claims))
    tally.count("runs", len(results))
    tally.count("effects", done.total())
    tally.mark("several processes claimed", int(workers) > 1)
    tally.mark("a long reader was there", len(_lines(folder / "disturbed")))


def _judge_log(folder: Path, peak: int, tally: Tally) -> None:
    """Once the reader has gone the log does not grow any more: its space is used again."""
    tally.gauge("largest log beside a long reader, MB", peak / 1e6)
    with ended() as helpers:
        helpers.append(start(flows.settle_log, str(folder)))
        helpers[0].join()
    ((_, held, moved),) = _ask(folder, "PRAGMA wal_checkpoint(PASSIVE)")
    tally.gauge("pages in the log after the reader ended", float(held))
    if held != moved:
        raise Violation(f"the log holds {held} pages, of which only {moved} could be put into the file")
    if held > 2 * _AUTOCHECKPOINT_PAGES:
        raise Violation(f"the log still holds {held} pages after the long reader has gone")


HARNESS = Harness(
    name="contention",
    title="eight processes claim the runs of one file",
    case=case,
    full=30,
    share=15,
    small=1,
    quotas={**dict.fromkeys(SHAPES, 6), "several processes claimed": 24, "a long reader was there": 24},
    small_marks=("sleeper", "several processes claimed"),
)

if __name__ == "__main__":
    main(HARNESS)
