"""Reading lines from the terminal on the event loop, so that a question can be withdrawn while it waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys


class Terminal:
    """The person at standard input, asked on standard error. One question at a time."""

    def __init__(self) -> None:
        self._buffer = b""

    async def ask(self, question: str, *, fresh: bool = False) -> str | None:
        """The line that the person types after the question; None at the end of the input (Ctrl-D).

        Cancelling the task that waits withdraws the question; what was typed so far is dropped.

        Args:
            question: already cleaned.
            fresh: True forgets what was typed before the question was shown, for decisions.
        """
        descriptor = sys.stdin.fileno()
        if fresh:
            self._forget(descriptor)
        print(question, end="", file=sys.stderr, flush=True)
        try:
            return await self._line(descriptor)
        except asyncio.CancelledError:
            self._forget(descriptor)
            print(file=sys.stderr, flush=True)
            raise

    def _forget(self, descriptor: int) -> None:
        import termios

        self._buffer = b""
        with contextlib.suppress(termios.error):
            termios.tcflush(descriptor, termios.TCIFLUSH)

    async def _line(self, descriptor: int) -> str | None:
        loop = asyncio.get_running_loop()
        while b"\n" not in self._buffer:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(descriptor, _settle, ready)
            try:
                await ready
            finally:
                loop.remove_reader(descriptor)
            data = os.read(descriptor, 4_096)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
