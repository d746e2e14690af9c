"""Being told by the operating system that a file was written, so that an idle process need not look.

inotify on Linux, kqueue on macOS. Where neither can be had the caller looks from time to time instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import sys
from pathlib import Path
from typing import Any, Protocol

_IN_MODIFY = 0x2
_IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


class FileWatch(Protocol):
    """A descriptor that becomes readable when the file is written."""

    def fileno(self) -> int: ...

    def drain(self) -> None:
        """Take what has been told so far, so that the descriptor is not readable any more."""

    def close(self) -> None: ...


class _Inotify:
    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = int(libc.inotify_init1(_IN_NONBLOCK_CLOEXEC))
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_MODIFY) < 0:
            os.close(self._descriptor)
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def fileno(self) -> int:
        return self._descriptor

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, 65_536):
                pass

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Kqueue:
    def __init__(self, path: Path) -> None:
        module: Any = select
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._queue = module.kqueue()
        event = module.kevent(
            self._file,
            filter=module.KQ_FILTER_VNODE,
            flags=module.KQ_EV_ADD | module.KQ_EV_CLEAR,
            fflags=module.KQ_NOTE_WRITE | module.KQ_NOTE_EXTEND,
        )
        self._queue.control([event], 0)

    def fileno(self) -> int:
        return int(self._queue.fileno())

    def drain(self) -> None:
        while self._queue.control(None, 16, 0):
            pass

    def close(self) -> None:
        self._queue.close()
        # Kept open until here: POSIX locks of a file go when any descriptor of it is closed. SQLite locks the
        # database and its shared-memory file, not the log that is watched, so closing this one drops none.
        os.close(self._file)


def watch_file(path: Path) -> FileWatch | None:
    """A watch on a file; None where the system offers none."""
    try:
        return _Kqueue(path) if sys.platform == "darwin" else _Inotify(path)
    except (OSError, AttributeError):
        return None
