"""A process of the product, `osp serve` or `osp worker`, from its start to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.freezing import freeze
from tests.lab.product.nursery import Nursery
from tests.lab.product.workflows import LEDGER

_COLD = "from osprotocol.cli import main; main()"
_PATIENCE_S = 60.0
_LOOK_S = 0.002


class Life:
    """One process.

    Args:
        nursery: forks it; None starts it cold, as a shell does.
        words: what the command `osp` gets.
        database: which file it works on; its output goes into a file beside it.
        ledger: where effects go.

    Attributes:
        ended: its exit code, or minus the number of the signal that ended it, once that is known.
    """

    def __init__(self, nursery: Nursery | None, words: Sequence[str], database: Path, ledger: Path) -> None:
        self.began = time.monotonic()
        self.ended: int | None = None
        self.is_stopped = False
        self._database = database
        folder, settings = database.parent, {LEDGER: str(ledger)}
        self._poll: Callable[[], int | None]
        if nursery is None:
            with (folder / "output").open("ab") as output:
                cold = subprocess.Popen(
                    [sys.executable, "-c", _COLD, *words],
                    cwd=folder, env={**os.environ, **settings}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
            self.pid, self._poll = cold.pid, cold.poll
        else:
            pid = nursery.fork(words, folder, settings)
            self.pid, self._poll = pid, lambda: nursery.poll(pid)

    def has_ended(self) -> bool:
        """Whether it is gone."""
        if self.ended is None:
            self.ended = self._poll()
        return self.ended is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if not self.has_ended():
            os.kill(self.pid, number)

    def wait(self, seconds: float = _PATIENCE_S) -> bool:
        """Wait for its end; False when it still lives then."""
        until = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK_S)
        return True

    def kill(self) -> None:
        """End it at whatever instruction it is."""
        self.signal(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """Stop it at an instruction outside of a commit."""
        freeze(self.pid, self._database)
        self.is_stopped = True

    def stop(self) -> None:
        """Stop it at whatever instruction it is."""
        self.signal(signal.SIGSTOP)
        self.is_stopped = True

    def go_on(self) -> None:
        """Let it go on."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
        self.is_stopped = False
