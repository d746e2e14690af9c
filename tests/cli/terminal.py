"""`osp` as a real process: on a terminal of its own, or on pipes."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path
from types import TracebackType
from typing import Self

COMMAND = (sys.executable, "-c", "from osprotocol.cli import main; main()")
PATIENCE_S = 30
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OSP_")}
    return {**clean, "TERM": "xterm", "COLUMNS": "120", "LINES": "30", "PYTHONWARNINGS": "error::ResourceWarning"}


def osp_process(folder: Path, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `osp` to its end on pipes."""
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, env=environment(), capture_output=True, text=True, input=stdin or "",
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class OnTerminal:
    """`osp` whose standard streams are a terminal that the test holds the other end of."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *words], cwd=folder, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""
        self._read_until = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        """All that was shown, without colours and cursor movements."""
        return _ESCAPES.sub("", self.seen).replace("\r", "")

    def expect(self, text: str) -> None:
        """Wait until the text is shown, after what was expected before."""
        while True:
            found = self.text.find(text, self._read_until)
            if found >= 0:
                self._read_until = found + len(text)
                return
            if not self._read():
                raise AssertionError(f"{text!r} was not shown:\n{self.text}")

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], PATIENCE_S)[0]:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # Linux's way to say that nobody has the other end open any more
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def type(self, text: str) -> None:
        """Type as a person does."""
        os.write(self._ours, text.encode())

    def press_ctrl_c(self) -> None:
        """The terminal turns the character into a SIGINT."""
        self.type("\x03")

    def end(self) -> int:
        """Read to the end; gives the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)


class InBackground:
    """`osp` on pipes, while the test goes on."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *words], cwd=folder, env=environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def expect(self, text: str) -> str:
        """Wait for a line on standard error that holds the text; gives it."""
        assert self.process.stderr is not None
        seen: list[str] = []
        for line in self.process.stderr:
            seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not said:\n{''.join(seen)}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit code and what else was written."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err
