"""Single bits flip in a real file: what was damaged in a run's journal is found before the run goes on.

Every case flips one bit of a file in which runs wait for an approval or sleep, and then lets the engine work on it: all
are approved, and the time of waking has come. What a plain connection reads of the damaged file says which journals are
not as they were. Such a run must not have another effect; runs whose rows are as they were go on.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw

from osprotocol import Context, RunOptions, step, workflow
from osprotocol._embedded.queries import QUERIES
from osprotocol._ids import Ids
from osprotocol.errors import OSProtocolError, StoreError
from tests.crash.clock import ManualClock
from tests.crash.life import Life
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.memory_disk import folder_in_memory

RUNS = 16
_FINISHED = 4
_SLEEPING = 4
_TOLD = ("quarantined", "CorruptDatabaseError")
"""Outcomes by which a person learns that a run is damaged."""
_IN_JOURNAL = 0.7
"""Which part of the cases aims at the pages of the journal and its index."""
_DISPLAYED = 9
"""The column `started_at`: shown to people, never replayed, and not in the checksum."""
_TEXT = "A sentence that a step returned, with an ä and a 漢 in it, for run "

REGRESSIONS = (
    0,  # opening such a file raised apsw's error as it was
    20,  # a text that is none: whatever was in the same commit failed with it
    294,  # a record that cannot be written: no timer fired any more that was due with it
    784,  # a result that could not be found was None
    1450,  # an event number that is a text: the run could not even be looked at
)

_effects: Counter[int] = Counter()
_writes: Counter[int] = Counter()


@step(name="rot.write")
async def write(number: int, part: int) -> str:
    _writes[number] += 1
    return f"{_TEXT}{number}, part {part}"


@step(name="rot.publish")
async def publish(number: int, text: str) -> str:
    _effects[number] += 1
    return f"{number}: {text}"


@workflow(name="lab.rot")
async def rot(ctx: Context, number: int) -> str:
    """Three steps, a wait unless it is one that finishes, and the effect that must not follow a damaged journal."""
    parts = [await ctx.step(write, number, part) for part in range(3)]
    if number >= RUNS - _SLEEPING:
        await ctx.sleep(timedelta(days=1))
    elif number >= _FINISHED:
        await ctx.wait_for_approval(f"Publish {number}?", payload={"parts": parts})
    return await ctx.step(publish, number, " ".join(parts))


def expected(number: int) -> str:
    """The result of a run."""
    return f"{number}: " + " ".join(f"{_TEXT}{number}, part {part}" for part in range(3))


@dataclass(frozen=True)
class Image:
    """The file before it is damaged.

    Attributes:
        runs: the id of each run, by its number.
        page_of: for each page, what it belongs to.
    """

    data: bytes
    page_size: int
    runs: dict[int, str]
    page_of: dict[int, str]
    rows: dict[str, Rows]


@dataclass(frozen=True)
class Rows:
    """What a plain connection reads of a run.

    Attributes:
        journal: its records, from the table alone.
        found: those that the index leads to. Where it is damaged, that can change with each new entry.
        others: its rows in other tables.
    """

    journal: list[Any] | None
    found: list[Any] | None
    others: list[Any] | None


@dataclass
class Outcome:
    """What the engine made of a damaged file.

    Attributes:
        refused: the error with which it was not opened.
        told: runs of which whoever approved them was told that they are damaged.
        raw: errors that people met.
    """

    refused: str | None = None
    status: dict[int, str] = field(default_factory=dict)
    result: dict[int, Any] = field(default_factory=dict)
    effects: Counter[int] = field(default_factory=Counter)
    writes: int = 0
    told: set[int] = field(default_factory=set)
    raw: list[Exception] = field(default_factory=list)


@functools.cache
def image() -> Image:
    """The undamaged file; the same in every process, so that a case number means the same flip."""
    with folder_in_memory() as folder:
        path = folder / "runs.db"
        runs = asyncio.run(_build(path))
        connection = apsw.Connection(str(path))
        connection.execute("UPDATE workers SET name = 'somewhere', id = 'some-worker'")
        connection.execute("PRAGMA journal_mode = DELETE; VACUUM; PRAGMA journal_mode = WAL")
        page_size = int(connection.execute("PRAGMA page_size").get)
        found: list[tuple[Any, ...]] = connection.execute("SELECT pageno, name FROM dbstat").fetchall()
        pages: dict[int, str] = dict(found)
        connection.close()
        rows = {run_id: read_rows(path, run_id) for run_id in runs.values()}
        return Image(path.read_bytes(), page_size, runs, pages, rows)


async def _build(path: Path) -> dict[int, str]:
    life = Life(path, ManualClock(), linger_ms=0, ids=Ids(1))
    await life.client.open()
    runs = {}
    for number in range(RUNS):
        options = RunOptions(idempotency_key=f"rot {number}")
        runs[number] = (await life.client.create_run(rot, number, options).start()).id
        await life.settle()
    await life.close()
    return runs


def read_rows(path: Path, run_id: str) -> Rows:
    """What the file says of a run, without the engine; None for what cannot be read."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        keyed = "(SELECT key FROM runs WHERE id = ?)"
        by_index = QUERIES["events_of_run"]
        by_table = by_index.replace("FROM journal", "FROM journal NOT INDEXED")
        found, journal = (_read(connection, query, (image_key(run_id), 0, -1)) for query in (by_index, by_table))
        others = [
            _read(connection, f"SELECT * FROM runs WHERE key = {keyed}", (run_id,)),
            _read(connection, f"SELECT * FROM requests WHERE run = {keyed} ORDER BY key", (run_id,)),
        ]
        return Rows(journal, found, None if None in others else others)
    finally:
        with suppress(apsw.Error):
            connection.close()


def image_key(run_id: str) -> int:
    """Runs are started in the order of their numbers, so keys follow from ids without asking the file."""
    known = _keys.setdefault(run_id, len(_keys) + 1)
    return known


_keys: dict[str, int] = {}


def _read(connection: apsw.Connection, query: str, arguments: tuple[Any, ...]) -> list[Any] | None:
    try:
        return [row[:_DISPLAYED] + row[_DISPLAYED + 1 :] for row in connection.execute(query, arguments)]
    except (apsw.Error, UnicodeDecodeError):
        return None


def flip(number: int) -> tuple[int, int]:
    """The byte and the bit that a case flips."""
    chance, whole = random.Random(f"bit_rot {number}"), image()
    if chance.random() < _IN_JOURNAL:
        pages = [page for page, name in whole.page_of.items() if name.startswith("journal")]
        place = (chance.choice(sorted(pages)) - 1) * whole.page_size + chance.randrange(whole.page_size)
    else:
        place = chance.randrange(len(whole.data))
    return place, chance.randrange(8)


def case(number: int, tally: Tally) -> None:
    """Flip one bit, let the engine work, judge."""
    whole = image()
    place, bit = flip(number)
    damaged = bytearray(whole.data)
    damaged[place] ^= 1 << bit
    with folder_in_memory() as folder:
        path = folder / "runs.db"
        path.write_bytes(damaged)
        path.chmod(0o600)
        read = {run_id: read_rows(path, run_id) for run_id in whole.runs.values()}
        check = _is_sound(path)
        outcome = asyncio.run(_work(path, whole))
    owner = whole.page_of.get(place // whole.page_size + 1, "free")
    told = f"bit {bit} of byte {place} ({owner})"
    _judge(told, owner, whole, read, check, outcome, tally)


def _is_sound(path: Path) -> bool:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return [row[0] for row in connection.execute("PRAGMA integrity_check(3)")] == ["ok"]
    except (apsw.Error, UnicodeDecodeError):
        return False
    finally:
        with suppress(apsw.Error):
            connection.close()


async def _work(path: Path, whole: Image) -> Outcome:
    """Open, approve everything, and see where each run stands."""
    outcome = Outcome()
    _effects.clear()
    _writes.clear()
    clock = ManualClock()
    clock.set(clock.now() + 25 * 3_600_000_000)
    life = Life(path, clock, linger_ms=0, ids=Ids(2))
    try:
        await life.client.open()
        await life.settle()
    except OSProtocolError as error:
        outcome.refused = type(error).__name__
        await life.die()
        return outcome
    for number, run_id in whole.runs.items():
        if _FINISHED <= number < RUNS - _SLEEPING:
            try:
                await (await life.client.get(run_id)).approve(by="ann")
            except StoreError:
                outcome.told.add(number)
            except Exception as error:  # noqa: BLE001 - judged by where the flip was
                outcome.raw.append(error)
    await life.settle()
    for number, run_id in whole.runs.items():
        try:
            execution = await life.client.get(run_id)
            reasons = [one.payload.get("reason") for one in execution.requests if one.kind == "attention"]
            outcome.status[number] = "quarantined" if "damaged" in reasons else execution.status.value
            if execution.status == "completed":
                outcome.result[number] = await execution.result
        except Exception as error:  # noqa: BLE001 - judged by where the flip was
            outcome.status[number] = type(error).__name__
            outcome.raw.append(error)
    outcome.effects, outcome.writes = Counter(_effects), _writes.total()
    await life.die()
    return outcome


def _is_whole(now: Rows, before: Rows) -> bool:
    """Whether the journal can be read as it was: run and number come from the index, the rest from the table."""
    return before.journal in (now.journal, now.found)


def _judge(
    told: str,
    owner: str,
    whole: Image,
    read: dict[str, Rows],
    is_sound: bool,
    outcome: Outcome,
    tally: Tally,
) -> None:
    tally.count("flips")
    tally.count(f"flips in {'journal' if owner.startswith('journal') else 'other pages'}")
    if outcome.refused is not None:
        tally.count("the file was refused")
        tally.mark("refused")
        return
    runs = whole.runs.items()
    journals = {number for number, run_id in runs if not _is_whole(read[run_id], whole.rows[run_id])}
    same = {number for number, run_id in runs if read[run_id] == whole.rows[run_id]}
    waiting = set(range(_FINISHED, RUNS))
    for number in sorted(journals & waiting):
        tally.count("damaged journals")
        read_now = read[whole.runs[number]]
        if outcome.status[number] == "completed" and None in (read_now.journal, read_now.found):
            tally.count("journals that could be read again after others were written")
        elif outcome.effects[number] or outcome.status[number] == "completed":
            raise Violation(f"{told}: run {number} went on although its journal is not as it was")
        tally.count(f"damaged journals: {outcome.status[number]}")
        if outcome.status[number] == "quarantined":
            tally.mark("quarantined")
    for number in sorted(outcome.effects):
        if number < _FINISHED:
            raise Violation(f"{told}: run {number} had its effect again although it is completed")
        tally.count("effects again because their commit failed", outcome.effects[number] - 1)
    for number, result in outcome.result.items():
        if result != expected(number):
            raise Violation(f"{told}: run {number} completed with {result!r}")
    if outcome.writes:
        raise Violation(f"{told}: {outcome.writes} steps were done again that are in the journal")
    if outcome.told >= set(range(_FINISHED, RUNS - _SLEEPING)):
        tally.count("files that took no more commits, which everybody was told")
        return
    held = {number for number in same & waiting if outcome.status[number] != "completed"}
    # Where the file's structure is damaged, a neighbour may be found damaged too: then a person is told.
    told_of = outcome.told | {number for number in held if outcome.status[number] in _TOLD}
    stuck = held if is_sound else held - told_of
    if stuck and journals and owner.startswith("journal"):
        states = {number: outcome.status[number] for number in sorted(held)}
        raise Violation(f"{told}: only runs {sorted(journals)} are damaged, and these did not go on: {states}")
    if held:
        tally.count("flips that also held runs whose rows are as they were")
    if journals & waiting and not held:
        tally.mark("neighbours went on")
    if not journals and len(same) == RUNS:
        tally.mark("harmless")
    for error in outcome.raw:
        if not isinstance(error, OSProtocolError):
            if owner.startswith("journal"):
                raise Violation(f"{told}: a person met {error!r}") from error
            tally.count("errors of damaged rows outside of the journal that are none of ours")
    if not is_sound:
        tally.count("seen by SQLite's own check")


HARNESS = Harness(
    name="bit_rot",
    title="single bits flip in a file",
    case=case,
    full=1_600,
    share=800,
    small=40,
    quotas={"quarantined": 150, "neighbours went on": 150, "refused": 2, "harmless": 50},
    small_marks=("quarantined", "neighbours went on", "harmless"),
)

if __name__ == "__main__":
    main(HARNESS)
