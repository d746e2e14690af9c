"""A small share of the power cuts, and what the recorded disk itself has to be."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from osprotocol import Context, workflow
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.upkeep import backup
from osprotocol.client import Client
from osprotocol.engine import Engine
from tests.lab.disk.images import SECTOR, History, Image
from tests.lab.disk.recorder import Op, Recorder
from tests.lab.disk.workload import recorded
from tests.lab.harness import Tally, check_small
from tests.lab.power_loss import HARNESS, REGRESSIONS

_OLD, _NEW = b"o" * 4 * SECTOR, b"n" * 4 * SECTOR


@workflow(name="power.nothing")
async def nothing(ctx: Context) -> None:
    return None


def test_power_cuts() -> None:
    """A small share of the harness holds, and it loses, drops and tears something."""
    check_small(HARNESS)


@pytest.mark.parametrize("number", REGRESSIONS)
def test_a_case_that_found_something(number: int) -> None:
    """It holds by now."""
    tally = Tally()
    HARNESS.prepare(tally)
    try:
        HARNESS.case(number, tally)
    finally:
        HARNESS.finish(tally)


def images(ops: list[Op], count: int = 200, point: int | None = None) -> list[Image]:
    history = History(ops)
    return [history.image(len(ops) if point is None else point, Random(number)) for number in range(count)]


def file_with(*ops: Op) -> list[Op]:
    """A file of old content that lasts, and what is done to it after that."""
    begin = [Op("enter", 1, name="a"), Op("write", 1, 0, _OLD), Op("sync", 1), Op("sync folder", name="")]
    return [*begin, *ops]


def test_what_is_synced_is_in_every_image() -> None:
    """Whatever else happens."""
    assert {image.files["a"] for image in images(file_with())} == {_OLD}
    assert {image.files["a"] for image in images(file_with(Op("write", 1, 0, _NEW), Op("sync", 1)))} == {_NEW}


def test_a_sync_that_has_not_returned_promises_nothing() -> None:
    """The power may fail in the middle of it."""
    ops = file_with(Op("write", 1, 0, _NEW), Op("sync", 1))
    assert {_OLD, _NEW} < {image.files["a"] for image in images(ops, point=len(ops) - 1)}


def test_a_later_write_is_there_or_not_or_torn_at_sectors() -> None:
    """Each sector is old or new, never something between."""
    found = {image.files["a"] for image in images(file_with(Op("write", 1, 0, _NEW)))}
    assert {_OLD, _NEW} < found
    for content in found:
        sectors = {content[first : first + SECTOR] for first in range(0, len(content), SECTOR)}
        assert sectors <= {_OLD[:SECTOR], _NEW[:SECTOR]}


def test_a_later_write_may_outlive_an_earlier_one() -> None:
    """A disk has its own order."""
    two = (Op("write", 1, 0, b"1" * SECTOR), Op("write", 1, SECTOR, b"2" * SECTOR))
    found = {image.files["a"][: 2 * SECTOR] for image in images(file_with(*two))}
    assert {b"o" * SECTOR + b"2" * SECTOR, b"1" * SECTOR + b"o" * SECTOR} <= found


def test_a_length_may_come_back() -> None:
    """A truncate is like a write until it is synced."""
    assert {image.files["a"] for image in images(file_with(Op("truncate", 1, SECTOR)))} == {_OLD, _OLD[:SECTOR]}


def test_a_name_lasts_from_the_sync_of_its_folder_on() -> None:
    """A new file may be gone, a removed one back, a renamed one under either name."""
    new = [Op("enter", 1, name="a"), Op("write", 1, 0, _OLD), Op("sync", 1)]
    assert {frozenset(image.files) for image in images(new)} == {frozenset(), frozenset("a")}
    left = file_with(Op("leave", name="a"))
    assert {frozenset(image.files) for image in images(left)} == {frozenset(), frozenset("a")}
    moved = file_with(Op("move", 1, name="a", about="b"))
    assert {frozenset(image.files) for image in images(moved)} == {frozenset("b"), frozenset("a")}
    assert {frozenset(image.files) for image in images([*moved, Op("sync folder", name="")])} == {frozenset("b")}


def test_a_file_in_a_folder_that_is_gone_is_gone() -> None:
    """Its own folder's sync does not help."""
    ops = [Op("enter", name="f"), Op("enter", 1, name="f/a"), Op("sync", 1), Op("sync folder", name="f")]
    assert {frozenset(image.files) for image in images(ops)} == {frozenset(), frozenset({"f/a"})}


def test_the_recorder_sees_everything_that_sqlite_writes(tmp_path: Path) -> None:
    """If nothing gets lost, the image is the files, also after checkpoints and a log that was removed."""
    recorder = Recorder(tmp_path)
    with recorder.recording():
        connection = apsw.Connection(str(tmp_path / "a.db"), vfs=recorder.vfs)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 3", "CREATE TABLE t (x)"):
            connection.execute(statement).fetchall()
        for number in range(20):
            connection.execute("INSERT INTO t VALUES (randomblob(?))", (number * 400,))
        logged = {name: (tmp_path / name).read_bytes() for name in ("a.db", "a.db-wal")}
        last = len(recorder.ops)
        recorder.settle()
        settled = len(recorder.ops)
        connection.close()
    assert images(recorder.ops[:settled], 1)[0].files == logged
    assert last < settled < len(recorder.ops)
    recorder.settle()
    assert images(recorder.ops, 1)[0].files == {"a.db": (tmp_path / "a.db").read_bytes()}


def test_a_number_makes_the_same_recording_again() -> None:
    """Every write has the same place and length, and the same is told, in the same order."""
    seen: list[Any] = []
    for _ in range(2):
        with recorded(5) as recording:
            told = [op.about.key if op.kind == "fact" else None for op in recording.recorder.ops]
            seen.append([(op.kind, op.file, op.offset, len(op.data), op.name) for op in recording.recorder.ops])
            seen.append(told)
    assert seen[:2] == seen[2:]


async def opened(recorder: Recorder, durability: str) -> Client:
    async def engine() -> Engine:
        made = EmbeddedEngine(recorder.root / "new" / "runs.db", durability=durability, vfs=recorder.vfs)
        await made.begin(worker=True, log_level=logging.INFO)
        return made

    return await Client(engine).open()


async def test_a_database_in_a_new_folder_is_there_after_a_power_cut(tmp_path: Path) -> None:
    """With the first run that was accepted: the folder's own name is synced too."""
    recorder = Recorder(tmp_path)
    with recorder.recording():
        client = await opened(recorder, "full")
        await client.create_run(nothing).start()
        point = len(recorder.ops)
        await client.close()
    assert all("new/runs.db" in image.files for image in images(recorder.ops, point=point))


async def test_a_backup_is_there_after_a_power_cut(tmp_path: Path) -> None:
    """From the moment on that it is told of: its name is synced as well as its content."""
    recorder = Recorder(tmp_path)
    with recorder.recording():
        client = await opened(recorder, "full")
        await client.close()
        backup(tmp_path / "new" / "runs.db", tmp_path / "copy.db")
        point, content = len(recorder.ops), (tmp_path / "copy.db").read_bytes()
    assert {image.files.get("copy.db") for image in images(recorder.ops, point=point)} == {content}


@pytest.mark.parametrize("verb", ["delete", "prune"])
async def test_a_deletion_is_synced_at_normal(verb: str, tmp_path: Path) -> None:
    """A run that a person was told is gone does not come back with a power cut."""
    recorder = Recorder(tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    with recorder.recording():
        client = await opened(recorder, "normal")
        execution = await client.create_run(nothing).start()
        await execution.result
        await (client.delete(execution.id) if verb == "delete" else client.prune(older_than=timedelta(0)))
        point = len(recorder.ops)
        await client.close()
    for image in images(recorder.ops, 20, point=point):
        image.write(tmp_path / "image")
        connection = apsw.Connection(str(tmp_path / "image" / "new" / "runs.db"))
        assert connection.execute("SELECT count(*) FROM runs").get == 0
        connection.close()
