"""A parent that has imported the whole product and forks a child for each life; in the child runs the real `osp`.

Run as a program it reads one JSON command a line and answers with one: `osp` gives a pid, `wait` and `poll` how that
child ended. When the harness goes away, however it does, so do the children.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

_ROOT = Path(__file__).parents[3]
_IMPORTED = (
    "osprotocol.cli.app", "osprotocol.cli.serving", "osprotocol.cli.working", "osprotocol.server.serve",
    "osprotocol._embedded.engine", "osprotocol._embedded.books", "typer.main", "rich.console",
)  # fmt: skip


class Nursery:
    """Forks processes of the product. Use it as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.product.nursery"],
            cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it and all its children."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def fork(self, words: Sequence[str], folder: Path, settings: dict[str, str]) -> int:
        """A new process that runs `osp` with these words; gives its pid. Its output goes into a file there."""
        return int(self._ask({"osp": list(words), "folder": str(folder), "settings": settings}))

    def wait(self, pid: int) -> int:
        """Wait for the end of a child: its exit code, or minus the number of the signal that ended it."""
        return int(self._ask({"wait": pid}))

    def poll(self, pid: int) -> int | None:
        """How a child ended; None while it lives."""
        ended = self._ask({"poll": pid})
        return None if ended is None else int(ended)

    def _ask(self, command: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _live(words: Sequence[str], folder: str, settings: dict[str, str]) -> NoReturn:
    from osprotocol.cli import main

    os.chdir(folder)
    os.environ.update(settings)
    output = os.open("output", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in ((null, 0), (output, 1), (output, 2)):
        os.dup2(number, descriptor)
    code = 70
    try:
        main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Fork and reap until the harness closes the pipe."""
    for name in _IMPORTED:
        importlib.import_module(name)
    alive: set[int] = set()
    for line in sys.stdin:
        command = json.loads(line)
        answer: int | None
        if "osp" in command:
            sys.stdout.flush()
            answer = os.fork()
            if answer == 0:
                _live(command["osp"], command["folder"], command["settings"])
            alive.add(answer)
        else:
            options = 0 if "wait" in command else os.WNOHANG
            pid, status = os.waitpid(command.get("wait") or command["poll"], options)
            answer = None if pid == 0 else os.waitstatus_to_exitcode(status)
            alive.discard(pid)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve()
