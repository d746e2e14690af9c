"""Disks, files and neighbours that misbehave: a clear error each, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from osprotocol import RunStatus, connect, step, workflow
from osprotocol._clock import SystemClock
from osprotocol._embedded import database
from osprotocol._embedded.database import check_filesystem, filesystem_of, find_database
from osprotocol.context import Context
from osprotocol.errors import (
    CorruptDatabaseError,
    EngineClosedError,
    EngineError,
    ReadOnlyError,
    StorageFullError,
    StoreError,
    UnsupportedFilesystemError,
)
from tests.store.stores import Small, commit, open_store, recording, starting

NOBODY = 65534


@workflow(name="store-trouble-hello")
async def hello(ctx: Context, name: str) -> str:
    return await ctx.step(greet, name)


@step
async def greet(name: str) -> str:
    return f"hello {name}"


# ------------------------------------------------------------------------------------------ places and modes


def test_the_folder_and_the_file_are_private(tmp_path: Path) -> None:
    """0700 and 0600, and version control does not see them."""
    path = tmp_path / ".osp" / "runs.db"
    open_store(path).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (path.parent / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_the_nearest_database_upward_is_found(tmp_path: Path) -> None:
    """From a folder far below; without one, a new one goes into the folder itself."""
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_database(below) == below / ".osp" / "runs.db"
    open_store(tmp_path / ".osp" / "runs.db").close()
    assert find_database(below) == tmp_path / ".osp" / "runs.db"


@pytest.mark.parametrize("kind", ["folder", "file as folder", "missing device"])
def test_a_place_that_cannot_hold_a_database_is_refused(tmp_path: Path, kind: str) -> None:
    """The error is ours and names the path."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    path = {
        "folder": tmp_path,
        "file as folder": tmp_path / "file" / "runs.db",
        "missing device": Path("/dev/null/runs.db"),
    }[kind]
    with pytest.raises(StoreError, match=str(path)):
        open_store(path)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that another user can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_ordinary_user(path: Path) -> str:
    """What opening the database says to a user who is not root."""
    code = (
        "import os, sys, pathlib\n"
        "from osprotocol._embedded.store import Store; from osprotocol._clock import SystemClock\n"
        f"if os.geteuid() == 0: os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: Store(pathlib.Path(sys.argv[1]), SystemClock()); print('opened')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", code, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ran.stdout + ran.stderr


def test_a_file_that_cannot_be_written_is_refused(shared_folder: Path) -> None:
    """At connect, not at the first run."""
    path = shared_folder / "runs.db"
    open_store(path).close()
    path.chmod(0o444)
    assert as_ordinary_user(path).startswith("ReadOnlyError")


def test_a_file_that_cannot_be_written_in_a_folder_that_can_is_refused(shared_folder: Path) -> None:
    """SQLite would open it for reading only and fail at the first run."""
    path = shared_folder / "runs.db"
    open_store(path).close()
    path.chmod(0o444)
    shared_folder.chmod(0o777)
    assert as_ordinary_user(path).startswith("ReadOnlyError")


def test_a_folder_that_cannot_be_written_is_refused(shared_folder: Path) -> None:
    """A new database cannot be made there."""
    shared_folder.chmod(0o555)
    said = as_ordinary_user(shared_folder / "runs.db")
    assert said.startswith("ReadOnlyError")
    assert "check the owner and mode" in said


@pytest.mark.parametrize("durability", ["", "FULL", "sometimes"])
def test_an_unknown_durability_is_refused(tmp_path: Path, durability: str) -> None:
    """The error names those that exist."""
    from osprotocol._embedded.store import Store

    with pytest.raises(EngineError, match="full, normal"):
        Store(tmp_path / "runs.db", SystemClock(), durability)


# ------------------------------------------------------------------------------------------- file systems


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """SQLite's locks cannot be trusted there; the error names the kind and what to do."""
    monkeypatch.setattr(database, "filesystem_of", lambda path: kind)
    with pytest.raises(UnsupportedFilesystemError, match=f"{kind} file system.*local disk"):
        check_filesystem(tmp_path)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "apfs", "tmpfs", "overlay", None])
def test_a_local_file_system_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None) -> None:
    """Also one that the operating system does not name."""
    monkeypatch.setattr(database, "filesystem_of", lambda path: kind)
    check_filesystem(tmp_path)


def test_who_knows_better_may_insist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an environment variable that says what it is."""
    monkeypatch.setattr(database, "filesystem_of", lambda path: "nfs")
    monkeypatch.setenv("OSP_UNSAFE_FILESYSTEM", "1")
    check_filesystem(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of mounts")
def test_the_deepest_mount_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share mounted inside a local folder is a share; a name that only begins alike is none."""
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:30 / /data/my\\040share rw,relatime shared:1 - nfs4 server:/x rw\n"
        "3 1 0:31 / /data/sub rw - tmpfs none rw\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda self, encoding=None: mounts)
    monkeypatch.setattr(os.path, "realpath", str)
    assert filesystem_of(Path("/data/my share/runs.db")) == "nfs4"
    assert filesystem_of(Path("/data/subject/runs.db")) == "ext4"
    assert filesystem_of(Path("/data/sub/runs.db")) == "tmpfs"


# ------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("content", [b"long enough to look like a database" * 100, b"SQLite format 3\x00" * 300])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """And left as it is."""
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    with pytest.raises(CorruptDatabaseError, match="restore a backup"):
        open_store(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """It may be somebody's data."""
    path = tmp_path / "runs.db"
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    with pytest.raises(CorruptDatabaseError, match="another program's database"):
        open_store(path)
    other = apsw.Connection(str(path))
    assert other.execute("SELECT count(*) FROM sqlite_schema").get == 1
    other.close()


async def test_a_damaged_journal_stops_only_its_run(tmp_path: Path) -> None:
    """That run awaits attention with the reason, nothing of it is executed; the others complete."""
    path = tmp_path / "runs.db"
    async with connect(path, worker=False) as client:
        bad = await client.create_run(hello, "bad").start()
        good = await client.create_run(hello, "good").start()
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE journal SET value = '\"evil\"' WHERE type = 'run.started' AND value = '\"bad\"'")
    connection.close()
    async with connect(path) as client:
        assert await (await client.get(good.id, hello)).result == "hello good"
        found = await client.get(bad.id)
        while not found.requests:
            await asyncio.sleep(0.005)
            await found.refresh()
        assert found.requests[0].kind == "attention"
        assert "damaged" in found.requests[0].prompt
        assert await found.steps() == []


def test_a_missing_record_is_damage(tmp_path: Path) -> None:
    """Numbers without gaps are checked when a journal is read."""
    store = open_store(tmp_path / "runs.db")
    commit(store, starting("run1"), recording(1, '"a"'), recording(1, '"b"'))
    store.close()
    connection = apsw.Connection(str(tmp_path / "runs.db"))
    connection.execute("DELETE FROM journal WHERE number = 2")
    connection.close()
    store = open_store(tmp_path / "runs.db")
    group = commit(store, lambda transaction: transaction.journal(1))
    assert isinstance(group.operations[0].error, CorruptDatabaseError)
    store.close()


# ---------------------------------------------------------------------------------------------- no space


def test_a_full_disk_is_told_and_cleared_by_itself(tmp_path: Path) -> None:
    """What was committed stays, what was refused is not there, and with space work goes on."""
    store = Small(tmp_path / "runs.db", SystemClock(), "off")
    commit(store, starting("run1"))
    store.resize(60)
    large = '"' + "x" * 200_000 + '"'
    for _ in range(2):
        group = commit(store, recording(1, large))
        assert isinstance(group.operations[0].error, StorageFullError)
    assert [row[0] for row in store.rows("SELECT number FROM journal ORDER BY id")] == [1]
    store.resize(1_000_000)
    assert commit(store, recording(1, large)).operations[0].error is None
    assert [row[0] for row in store.rows("SELECT number FROM journal ORDER BY id")] == [1, 2]
    store.close()


def test_a_full_disk_fails_every_operation_of_the_group(tmp_path: Path) -> None:
    """None of them is told that it happened."""
    store = Small(tmp_path / "runs.db", SystemClock(), "off")
    commit(store, starting("run1"))
    store.resize(60)
    group = commit(store, recording(1, '"' + "x" * 300_000 + '"'), starting("run2"))
    assert all(isinstance(operation.error, StorageFullError) for operation in group.operations)
    assert store.find("run2") is None
    store.close()


async def test_a_run_goes_on_after_the_disk_was_full(tmp_path: Path) -> None:
    """The step's result could not be committed at first; the run completes all the same."""

    async with connect(tmp_path / "runs.db") as client:
        filled: list[int] = []

        @step(name="fill")
        async def fill() -> str:
            filled.append(1)
            if len(filled) == 1:
                # The connection that meets the limit is given up; the next one has none.
                client._engine.store._writer.execute("PRAGMA max_page_count = 60")  # type: ignore[attr-defined]
            return "x" * 500_000

        @workflow(name="store-trouble-full")
        async def full(ctx: Context) -> int:
            return len(await ctx.step(fill))

        execution = await client.create_run(full).start()
        assert await execution.result == 500_000
        assert execution.status is RunStatus.COMPLETED


# ----------------------------------------------------------------------------------------- closed, locked


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Nothing works on it any more, and closing again is fine."""
    store = open_store(tmp_path / "runs.db")
    store.close()
    store.close()
    with pytest.raises(EngineClosedError):
        store.find("run1")


def test_what_another_process_commits_is_noticed(tmp_path: Path) -> None:
    """Its events come with the next look, and ids go on after them."""
    one, two = open_store(tmp_path / "runs.db"), open_store(tmp_path / "runs.db")
    commit(one, starting("run1"))
    changes = two.poll()
    assert changes is not None
    assert [event.type for event in changes[1].events] == ["run.started"]
    assert commit(two, starting("run2")).operations[0].error is None
    one.close()
    two.close()


def test_a_database_that_is_locked_for_long_is_a_store_error(tmp_path: Path) -> None:
    """Retryable: the same call may work later."""
    path = tmp_path / "runs.db"
    store = open_store(path)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    store._connected().set_busy_timeout(1)
    error = commit(store, starting("run1")).operations[0].error
    assert isinstance(error, StoreError)
    assert error.retryable
    assert not isinstance(error, ReadOnlyError)
    other.execute("ROLLBACK")
    assert commit(store, starting("run1")).operations[0].error is None
    other.close()
    store.close()


# ------------------------------------------------------------------------------------------ a file that was swapped


@pytest.mark.parametrize("there", ["nothing", "another"])
def test_nothing_is_written_into_a_file_that_was_removed(tmp_path: Path, there: str) -> None:
    """Nor into another that took its place; once the file is back, it goes on."""
    path, aside = tmp_path / "runs.db", tmp_path / "aside.db"
    store = open_store(path)
    assert commit(store, starting("a")).operations[0].error is None
    path.rename(aside)
    if there == "another":
        open_store(path).close()
    for _ in range(2):
        error = commit(store, starting("b")).operations[0].error
        assert isinstance(error, StoreError)
        assert "is not the file any more that this process has open; start it again" in str(error)
    for leftover in tmp_path.glob("runs.db*"):
        if leftover == path or there == "nothing":
            leftover.unlink(missing_ok=True)
    aside.rename(path)
    assert commit(store, starting("c")).operations[0].error is None
    store.close()


async def test_a_removed_file_is_a_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Readiness and, once, the log tell, and starts are refused."""
    async with connect(tmp_path / "runs.db", worker=False) as client:
        assert await client._engine.problems() == []
        (tmp_path / "runs.db").rename(tmp_path / "aside.db")
        (problem,) = await client._engine.problems()
        assert "is not the file any more" in problem
        with pytest.raises(StoreError):
            await client.create_run(hello, "x").start()
    assert ["is not the file any more" in record.message for record in caplog.records] == [True]
