"""The outside ledger of the chaos run: an append-only file in which workers, people and faults note what they do.

It knows nothing of engines. A line is there, on the disk, when `note` returns, and the order of lines is the order in
which they were written, by whichever process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEDGER_VARIABLE = "OSP_CHAOS_LEDGER"

_descriptors: dict[str, int] = {}


def note(kind: str, **facts: Any) -> None:
    """Append a line to the ledger that the environment names."""
    path = os.environ[LEDGER_VARIABLE]
    descriptor = _descriptors.get(path)
    if descriptor is None:
        descriptor = _descriptors[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    line = json.dumps({"kind": kind, "at": time.time(), "pid": os.getpid(), **facts}, separators=(",", ":"))
    os.write(descriptor, line.encode() + b"\n")
    os.fsync(descriptor)


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        number: its place in the file.
        kind: what it tells of.
        at: when, in seconds since 1970, by the machine's clock.
        pid: the process that wrote it.
        facts: the rest.
    """

    number: int
    kind: str
    at: float
    pid: int
    facts: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]


def read(path: Path) -> list[Line]:
    """All lines, in their order."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file):
            facts = json.loads(text)
            yield Line(number, facts.pop("kind"), facts.pop("at"), facts.pop("pid"), facts)
