"""A lock file for each worker: held for as long as its process lives, so that a death is known and never guessed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system; connect() refuses before this matters
    fcntl = None  # type: ignore[assignment]

_held_here: set[str] = set()
"""Lock files of this process. POSIX record locks do not conflict within a process, and opening and closing such a file
drops the lock: a file of our own is never touched to ask who holds it."""


def _forget_after_fork() -> None:
    _held_here.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


class WorkerLock:
    """The lock of one worker, on a file of its own beside the database."""

    def __init__(self, folder: Path, worker_id: str) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path = folder / f"{worker_id}.lock"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # A record lock, not flock: a forked child does not inherit it, so it cannot keep a dead worker alive.
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._pid = os.getpid()
        _held_here.add(str(self.path))

    def release(self) -> None:
        """Give it up and remove the file."""
        if self._descriptor >= 0 and os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._descriptor)
            _held_here.discard(str(self.path))
            self._descriptor = -1


def exists(folder: Path, worker_id: str) -> bool:
    """Whether the worker is, or was, one of this machine."""
    return (folder / f"{worker_id}.lock").exists()


def is_alive(folder: Path, worker_id: str) -> bool:
    """Whether the worker's process lives: its lock cannot be taken."""
    path = folder / f"{worker_id}.lock"
    if str(path) in _held_here:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove(folder: Path, worker_id: str) -> None:
    """Remove the lock file of a worker that is dead."""
    with contextlib.suppress(OSError):
        (folder / f"{worker_id}.lock").unlink()
