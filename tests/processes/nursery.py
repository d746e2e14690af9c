"""Processes for tests: a parent that has imported everything forks a child, before any database is open.

Run as a program it reads one JSON command a line and answers with one: `fork` gives a pid, `wait` how that child ended.
When the test goes away, so do the children.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.freezing import freeze

_ROOT = Path(__file__).parents[2]


class Child:
    """A process of the nursery."""

    def __init__(self, nursery: Nursery, pid: int, database: Path) -> None:
        self.pid = pid
        self._database = database
        self._nursery = nursery
        self._ended: int | None = None

    def kill(self) -> None:
        """End it at whatever instruction it is."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Freeze it, between its commits."""
        freeze(self.pid, self._database)

    def go_on(self) -> None:
        """Let it go on after `stop`."""
        self.signal(signal.SIGCONT)

    def terminate(self) -> int:
        """Ask it to end, and wait; gives how it did."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end: its exit code, or minus the number of the signal that ended it."""
        if self._ended is None:
            self._ended = int(self._nursery.ask({"wait": self.pid}))
        return self._ended

    def has_ended(self) -> bool:
        """Whether it is gone."""
        if self._ended is None:
            ended = self._nursery.ask({"poll": self.pid})
            self._ended = None if ended is None else int(ended)
        return self._ended is not None


class Nursery:
    """Forks children that run a function of `tests.processes.programs`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.nursery"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.signal(signal.SIGCONT)
            child.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, command: dict[str, Any]) -> Any:
        """One command, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def fork(self, program: str, *arguments: object) -> Child:
        """A new process that runs the function of that name."""
        pid = int(self.ask({"fork": program, "arguments": [str(one) for one in arguments]}))
        child = Child(self, pid, Path(str(arguments[0])))
        self._children.append(child)
        return child


def _run(program: str, arguments: Sequence[str]) -> None:
    from tests.processes import programs

    code = 1
    try:
        # The pipes to the test belong to the parent.
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        getattr(programs, program)(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def _ended(status: int) -> int:
    return os.waitstatus_to_exitcode(status)


def serve() -> None:
    """Fork and reap until the test closes the pipe."""
    for module in ("tests.processes.programs", "osprotocol._embedded.engine"):
        importlib.import_module(module)  # else every child would do it
    alive: set[int] = set()
    for line in sys.stdin:
        command = json.loads(line)
        answer: int | None
        if "fork" in command:
            answer = os.fork()
            if answer == 0:
                _run(command["fork"], command["arguments"])
            alive.add(answer)
        elif "wait" in command:
            _, status = os.waitpid(command["wait"], 0)
            alive.discard(command["wait"])
            answer = _ended(status)
        else:
            pid, status = os.waitpid(command["poll"], os.WNOHANG)
            answer = None if pid == 0 else _ended(status)
            alive.discard(pid)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve()
