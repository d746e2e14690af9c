"""What a hand-made bug is, and what has to catch it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cases:
    """Cases of a harness of the lab."""

    harness: str
    count: int
    first: int = 0

    def __str__(self) -> str:
        last = self.first + self.count - 1
        return f"{self.harness} {self.first}" + (f" to {last}" if last != self.first else "")

    def command(self, out: Path) -> list[str]:
        """Module and arguments that do them and leave a result."""
        return [f"tests.lab.{self.harness}", "--first", str(self.first), "--count", str(self.count), "--out", str(out)]


@dataclass(frozen=True)
class Node:
    """A test of the suite, by its pytest node id."""

    node: str

    def __str__(self) -> str:
        return self.node

    def command(self, out: Path) -> list[str]:
        """Module and arguments that run it, alone and in the order of the file, and leave a result."""
        plain = ["-p", "no:randomly", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-n", "0", "-x", "-q"]
        return ["pytest", *plain, f"--junitxml={out}", self.node]


@dataclass(frozen=True)
class Bug:
    """One change of the code that breaks a promise.

    Attributes:
        name: of the bug, in a few words.
        suffers: what a user would meet.
        kind: number of its class in the catalogue.
        file: below src/osprotocol.
        old: text that is in the file exactly once.
        new: what stands there instead.
        caught_by: what has to fail.
        says: pattern of what it says then, so that it fails for that reason and no other.
        hangs: it may also not come to an end.
    """

    name: str
    suffers: str
    kind: str
    file: str
    old: str
    new: str
    caught_by: Cases | Node
    says: str
    hangs: bool = False
