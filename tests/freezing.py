"""Freezing a process between its commits: one that is stopped inside a commit holds SQLite's lock against everybody."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import apsw

_PATIENCE_S = 20.0


def freeze(pid: int, database: Path) -> None:
    """Stop a process, at an instruction at which it does not hold the database's write lock."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        os.kill(pid, signal.SIGSTOP)
        _wait_stopped(pid, until)
        if not _is_locked(database):
            return
        os.kill(pid, signal.SIGCONT)
    raise AssertionError(f"process {pid} is never outside of a commit")


def _wait_stopped(pid: int, until: float) -> None:
    status = Path(f"/proc/{pid}/stat")
    while status.exists() and time.monotonic() < until:
        if status.read_text().rpartition(") ")[2].startswith(("T", "t")):
            return


def _is_locked(database: Path) -> bool:
    connection = apsw.Connection(str(database))
    try:
        connection.set_busy_timeout(0)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except apsw.BusyError:
        return True
    finally:
        connection.close()
    return False
