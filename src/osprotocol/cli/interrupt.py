"""Ctrl-C and the signals that end a process: the first asks the command to stop, a second Ctrl-C stops it at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from osprotocol.cli.exits import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = b"\x1b[?25h\r"


class Interrupts:
    """Signals of this process while the block lasts. Enter it before connecting, on the event loop.

    Attributes:
        received: the first signal; None while there was none.
        came: set when it came.
        last_words: what a second Ctrl-C says before it stops the process.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.came = asyncio.Event()
        self.last_words = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # as `nohup` and shells want it for what runs in the background
            # Not loop.add_signal_handler: a second Ctrl-C must work even while code blocks the loop.
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGINT:
                self._stop_at_once()
            return
        self.received = signal.Signals(number)
        self._loop.call_soon_threadsafe(self.came.set)

    def _stop_at_once(self) -> None:
        # What is committed is committed, and the operating system gives the worker's lock back: another worker, or
        # the next start, goes on from there. So there is nothing to tidy but the cursor.
        with suppress(OSError, ValueError):
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR)
            os.write(sys.stderr.fileno(), f"\nosp: stopped at once{self.last_words}\n".encode())
        os._exit(ExitCode.INTERRUPTED)

    @property
    def exit_code(self) -> int:
        """What a process that such a signal ended exits with."""
        return 128 + (self.received or signal.SIGINT)
