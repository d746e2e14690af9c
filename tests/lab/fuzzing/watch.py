"""What an input may not cause: code that is loaded or run, files, sockets, processes, memory and time without end."""

from __future__ import annotations

import encodings.idna
import encodings.punycode  # noqa: F401 - what a host name may need is loaded before anybody watches
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.harness import Violation

HANG_S = 20
MOST_BYTES = 64 * 1_048_576
_WATCHED = (
    "import", "exec", "compile", "open", "subprocess.", "socket.", "os.", "ctypes.", "pickle.", "marshal.", "shutil.",
    "pty.", "urllib.", "http.", "ftplib.", "smtplib.", "tempfile.", "glob.", "webbrowser.", "code.", "sys._getframe.",
    "function.", "winreg.", "mmap.",
)  # fmt: skip
_HARMLESS = frozenset(("os.listdir", "os.scandir"))
_RESET = Path("/proc/self/clear_refs")
"""Where Linux forgets how much memory a process had at most."""


class _Watch:
    """The audit hook of this process: it cannot be removed, so it is asleep most of the time."""

    def __init__(self) -> None:
        self.is_installed = False
        self.is_awake = False
        self.allowed: tuple[str, ...] = ()
        self.seen: list[str] = []

    def look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_awake and event.startswith(_WATCHED) and event not in _HARMLESS:
            self.is_awake = False  # what follows may itself be audited
            told = f"{event} {arguments[:2]!r}"
            if not told.startswith(self.allowed):
                self.seen.append(told[:300])
            self.is_awake = True


_watch = _Watch()


@contextmanager
def watched(allowed: tuple[str, ...] = ()) -> Iterator[None]:
    """Raise if what is done inside loads or runs code, or opens anything.

    Args:
        allowed: beginnings of audit events with their arguments that are what it is for.

    Raises:
        Violation: it did.
    """
    if not _watch.is_installed:
        sys.addaudithook(_watch.look)
        _watch.is_installed = True
    _watch.allowed, _watch.seen, _watch.is_awake = allowed or ("\x00",), [], True
    try:
        yield
    finally:
        _watch.is_awake = False
    if _watch.seen:
        raise Violation(f"it caused {_watch.seen[0]}")


class Hang(BaseException):
    """Something does not end. No `Exception`, so that what is watched cannot catch it."""


def _peak_of_memory(*, anew: bool) -> int:
    """The most memory that this process had, in bytes; where the system can, since this was asked `anew`."""
    if not _RESET.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
    if anew:
        _RESET.write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1_024


@contextmanager
def bounded() -> Iterator[None]:
    """Raise if what is done inside in the main thread takes too long, or too much memory.

    Raises:
        Hang: it takes longer than `HANG_S`.
        Violation: it takes more than `MOST_BYTES`.
    """

    def hang(number: int, frame: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    memory = _peak_of_memory(anew=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    grown = _peak_of_memory(anew=False) - memory
    if grown > MOST_BYTES:
        raise Violation(f"it took {grown:,} bytes of memory")


def seconds_of_cpu() -> float:
    """Of this thread: what others do on the machine does not count."""
    return time.thread_time()
