"""A small share of the I/O faults, what they found before, a disk that is really full, and the tools themselves."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.lab.faulty_disk import BURST, FAULTS, LASTING, ONCE, Fault, FaultyDisk
from tests.lab.harness import Tally, check_small
from tests.lab.io_faults import CALLS, HARNESS, REGRESSIONS, ROOM, Case, case_of, cases, number_of
from tests.lab.io_plays import PLAYS
from tests.lab.io_process import error_log


def test_a_small_share_holds() -> None:
    """No false ack, no limbo, no hang, and work goes on by itself."""
    check_small(HARNESS)


@pytest.fixture
def prepared() -> Iterator[Tally]:
    """A bench for single cases."""
    tally = Tally()
    HARNESS.prepare(tally)
    yield tally
    HARNESS.finish(tally)


@pytest.mark.parametrize("case", REGRESSIONS, ids=str)
def test_what_was_found_once_holds(case: Case, prepared: Tally) -> None:
    """Each case that a fault of ours once did not survive; it meets its fault."""
    HARNESS.case(number_of(case), prepared)
    assert prepared.marks["fault met"] == 1


# ------------------------------------------------------------------------------------------------ a full disk

FILLING = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from osprotocol import connect, step, workflow
from osprotocol.errors import StoreError

path = Path(sys.argv[1])
ballast = path.with_name("ballast")
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def fill():
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("runs.db-wal").stat().st_size, most))
        return
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 4_096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass

def clear():
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    ballast.unlink(missing_ok=True)

filled = asyncio.Event()
steps = []

@step
async def big() -> str:
    steps.append(1)
    if len(steps) == 1:
        fill()
        filled.set()
    return "x" * 150_000

@workflow(name="fills")
async def fills(ctx) -> int:
    return len(await ctx.step(big))

async def main():
    async with connect(path) as client:
        run = await client.create_run(fills).start()
        await filled.wait()
        try:
            await client.create_run(fills).start()
            print("started")
        except StoreError as error:
            print(type(error).__name__, error)
        print("problems", len(await client._engine.problems()))
        print("runs", len((await client.list()).items))
        clear()
        print("result", await run.result)
        print("problems", len(await client._engine.problems()))

asyncio.run(main())
"""


def _fill(folder: Path, kind: str) -> list[str]:
    path = folder / "runs.db"
    command = [sys.executable, "-c", FILLING, str(path), kind]
    if kind == "tmpfs":
        mounted = f"mount -t tmpfs -o size=1m tmpfs {folder}"
        if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "sh", "-c", mounted]).returncode:
            pytest.skip("a file system of its own needs root")
        # The mount is this process's alone and goes with it.
        command = ["unshare", "-m", "sh", "-c", f'{mounted} && exec "$@"', "sh", *command]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's tmpfs and limit")
@pytest.mark.parametrize(("kind", "error"), [("tmpfs", "StorageFullError"), ("limit", "StoreError")])
def test_a_real_disk_that_is_full(tmp_path: Path, kind: str, error: str) -> None:
    """A start is refused, readiness tells, reading goes on; with space again the run completes in the same process."""
    refused, *rest = _fill(tmp_path, kind)
    assert refused.startswith(f"{error} {tmp_path}")
    assert rest == ["problems 1", "runs 1", "result 150000", "problems 0"]


# ------------------------------------------------------------------------------------------------- the tools


def test_every_number_is_one_case() -> None:
    """Numbers and cases go both ways, and every play, fault and duration is among them."""
    assert sorted(number_of(case) for case in cases()[::500]) == sorted({number_of(case) for case in cases()[::500]})
    assert all(case_of(number_of(case)) == case for case in cases()[::500])
    assert len({case_of(number) for number in range(len(cases()))}) == len(cases()) == HARNESS.full
    assert set(ROOM) == {play.name for play in PLAYS}
    assert {fault.call for fault in FAULTS} == set(CALLS)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    disk = FaultyDisk()
    yield disk
    disk.unregister()


@pytest.fixture
def connection(disk: FaultyDisk, tmp_path: Path) -> Iterator[apsw.Connection]:
    """A connection to a file on the disk, with a table."""
    connection = apsw.Connection(str(tmp_path / "x.db"), vfs=disk.name)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("CREATE TABLE t (x)")
    yield connection
    disk.clear()
    connection.close()


def _insert(connection: apsw.Connection) -> None:
    connection.execute("INSERT INTO t VALUES (zeroblob(9000))")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.call in ("write", "sync")], ids=lambda f: f.name)
@pytest.mark.parametrize("times", [ONCE, BURST, LASTING])
def test_a_fault_is_met_as_often_as_was_said(
    disk: FaultyDisk, connection: apsw.Connection, fault: Fault, times: int
) -> None:
    """At the call that was said and then as often, and the disk is well afterwards."""
    disk.arm(fault, 1, times)
    for _ in range(5):
        try:
            _insert(connection)
        except fault.error:
            continue
        break
    assert disk.fired == min(times, 5)
    assert disk.is_failing == (times == LASTING)
    disk.clear()
    _insert(connection)
    assert connection.execute("SELECT count(*) FROM t").get == (2 if times < LASTING else 1)


def test_a_short_write_leaves_half_behind(disk: FaultyDisk, connection: apsw.Connection, tmp_path: Path) -> None:
    """The file has grown, and the commit is not in it."""
    log = tmp_path / "x.db-wal"
    before = log.stat().st_size
    short = next(fault for fault in FAULTS if fault.name == "short write")
    disk.arm(short, 2, ONCE)
    with pytest.raises(apsw.FullError):
        _insert(connection)
    assert log.stat().st_size > before
    assert connection.execute("SELECT count(*) FROM t").get == 0


def test_what_is_logged_as_an_error_is_kept() -> None:
    """Also with its traceback."""
    with error_log() as log:
        logging.getLogger("osprotocol").warning("fine")
        try:
            raise KeyError("x")
        except KeyError:
            logging.getLogger("osprotocol").exception("telling failed")
    assert [line.splitlines()[0] for line in log.lines] == ["telling failed"]
    assert "KeyError" in log.lines[0]
