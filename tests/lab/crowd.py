"""Processes for harnesses: forked from a server that has imported everything, before any database is open."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_forks = multiprocessing.get_context("forkserver")
_PRELOADED = ["osprotocol", "tests.lab.contention_flows", "tests.lab.parked_flows", "tests.crash.checks"]


def start(function: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """A new process that calls a function of a module."""
    _forks.set_forkserver_preload(_PRELOADED)
    process = _forks.Process(target=_run, args=(function, arguments), daemon=True)
    process.start()
    return process


def _run(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    function(*arguments)


@contextlib.contextmanager
def ended() -> Iterator[list[ForkServerProcess]]:
    """A list of processes of which none outlives the block."""
    processes: list[ForkServerProcess] = []
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
            process.close()


def log_into(path: Path) -> None:
    """What the engine warns of in this process goes into a file that all processes share."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(process)d %(levelname)s %(message)s"))
    log = logging.getLogger("osprotocol")
    log.addHandler(handler)
    log.setLevel(logging.WARNING)


def append(path: Path, *words: object) -> None:
    """Add a line to a file; lines of several processes do not mix."""
    descriptor = _open.get(path)
    if descriptor is None:
        descriptor = _open[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())


_open: dict[Path, int] = {}


def wait_until(condition: Callable[[], bool], limit_s: float, complaint: Callable[[], str]) -> float:
    """Wait for what other processes do; gives how long it took.

    Raises:
        TimeoutError: it did not happen in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit_s:
            raise TimeoutError(complaint())
        time.sleep(0.01)
    return time.monotonic() - began
