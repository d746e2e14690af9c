"""A disk that fails when a test says so: a VFS under the real engine, with the real files behind it."""

from __future__ import annotations

import itertools
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import apsw

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Fault:
    """A way to fail.

    Attributes:
        name: what it is called in reports.
        call: which call of the disk fails: write, sync, read, truncate, open, lock or delete.
        error: the kind of error that SQLite is told.
        code: its extended code, 0 for the plain one.
        is_full: whether there is no space, so that the error that people see has to say so.
        blinds: whether reading may need the failing call.
        stops: whether every commit needs the failing call.
    """

    name: str
    call: str
    error: type[apsw.Error]
    code: int = 0
    is_full: bool = False
    blinds: bool = False
    stops: bool = False

    def make(self) -> apsw.Error:
        failure = self.error(f"{self.name} (made by the lab)")
        if self.code:
            setattr(failure, "extendedresult", self.code)  # noqa: B010 - the stubs do not know it
        return failure


FAULTS = (
    Fault("disk full", "write", apsw.FullError, is_full=True, stops=True),
    Fault("short write", "write", apsw.FullError, is_full=True, stops=True),
    Fault("write error", "write", apsw.IOError, apsw.SQLITE_IOERR_WRITE, stops=True),
    Fault("failed sync", "sync", apsw.IOError, apsw.SQLITE_IOERR_FSYNC, stops=True),
    Fault("read error", "read", apsw.IOError, apsw.SQLITE_IOERR_READ, blinds=True),
    Fault("failed truncate", "truncate", apsw.IOError, apsw.SQLITE_IOERR_TRUNCATE),
    Fault("failed open", "open", apsw.CantOpenError, blinds=True),
    Fault("failed lock", "lock", apsw.IOError, apsw.SQLITE_IOERR_LOCK, blinds=True),
    Fault("failed delete", "delete", apsw.IOError, apsw.SQLITE_IOERR_DELETE),
)
SHORT = FAULTS[1]

ONCE = 1
BURST = 3
"""So many calls in a row that reading back what a failed commit did fails too."""
LASTING = 1_000_000_000
TIMES = {ONCE: "once", BURST: "in a burst", LASTING: "until it is over"}


class FaultyDisk(apsw.VFS):
    """The system's VFS, of which calls of one kind fail: some from a chosen one on, or all until `clear`.

    Attributes:
        name: what the engine is told as ``vfs``.
        calls: how many calls there were since `count_anew`, by kind.
        fired: how many calls failed.
        swallowed: errors that SQLite could tell nobody.
    """

    def __init__(self) -> None:
        self.name = f"osprotocol-lab-{next(_numbers)}"
        super().__init__(self.name, "")
        self.calls: Counter[str] = Counter()
        self.fired = 0
        self.swallowed = 0
        self._fault: Fault | None = None
        self._at = self._times = 0

    def arm(self, fault: Fault | None, at: int, times: int) -> None:
        """Count anew, and fail at so many calls of the fault's kind from that one on, counted from 1."""
        self.calls.clear()
        self.fired = self.swallowed = 0
        self._fault, self._at, self._times = fault, at, times

    @property
    def is_failing(self) -> bool:
        """Whether calls fail and will go on to until `clear`."""
        return self._times == LASTING and self.fired > 0 and self._fault is not None

    def clear(self) -> None:
        """The disk is well again."""
        self._fault = None

    def meets(self, call: str) -> Fault | None:
        """Count a call; the fault that it has to fail with, if it has to."""
        self.calls[call] += 1
        fault = self._fault
        if fault is None or fault.call != call:
            return None
        if not self._at <= self.calls[call] < self._at + self._times:
            return None
        self.fired += 1
        return fault

    def check(self, call: str) -> None:
        """Count a call, and fail if it has to."""
        fault = self.meets(call)
        if fault is not None:
            raise fault.make()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self.check("open")
        return FaultyFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.check("delete")
        super().xDelete(filename, syncdir)

    def excepthook(
        self, etype: type[BaseException] | None, evalue: BaseException | None, etraceback: types.TracebackType | None
    ) -> bool:
        """SQLite had nobody to tell an error to, as when a connection is closed."""
        if isinstance(evalue, apsw.Error):
            self.swallowed += 1
            return False
        return super().excepthook(etype, evalue, etraceback)


class FaultyFile(apsw.VFSFile):
    """A file on a `FaultyDisk`. Shared memory goes past it, as it goes past a disk."""

    def __init__(self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._meets: Callable[[str], Fault | None] = disk.meets
        self._check: Callable[[str], None] = disk.check
        self._disk = disk

    def xRead(self, amount: int, offset: int) -> bytes:
        self._check("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        fault = self._meets("write")
        if fault is not None:
            if fault is SHORT:
                super().xWrite(bytes(data)[: len(bytes(data)) // 2], offset)
            raise fault.make()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._check("sync")
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        self._check("truncate")
        super().xTruncate(newsize)

    def xLock(self, level: int) -> None:
        self._check("lock")
        super().xLock(level)

    def excepthook(
        self, etype: type[BaseException] | None, evalue: BaseException | None, etraceback: types.TracebackType | None
    ) -> bool:
        """As of the disk."""
        return self._disk.excepthook(etype, evalue, etraceback)
