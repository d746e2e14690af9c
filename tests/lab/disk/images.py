"""What a disk may hold when the power fails: all that was synced, and of what came later any part.

Each later write is there, is not, or is torn at sectors of 512 bytes; a new length may have come without the bytes.
A new, removed or renamed file may have reached its folder or not. Only a sync puts an end to that.
"""

from __future__ import annotations

import shutil
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

from tests.lab.disk.recorder import Op, folder_of

SECTOR = 512


@dataclass
class Image:
    """One possible content of the disk.

    Attributes:
        files: bytes by name.
        kept: how many writes came through whole that were not synced.
        dropped: how many did not.
        torn: how many came through in part.
    """

    files: dict[str, bytes]
    kept: int = 0
    dropped: int = 0
    torn: int = 0

    def write(self, root: Path) -> None:
        """Make the files in a folder, and nothing else there."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        for name, content in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)


@dataclass
class _File:
    """What happened to one file: its changes, and its content at each sync."""

    changes: list[Op] = field(default_factory=list)
    when: list[int] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)
    contents: list[tuple[int, bytes]] = field(default_factory=list)

    def durable(self, point: int) -> tuple[bytes, list[Op]]:
        """What is on the disk for certain before that op, and the changes that may be."""
        last = bisect_left(self.syncs, point) - 1
        count, content = self.contents[last] if last >= 0 else (0, b"")
        return content, self.changes[count : bisect_left(self.when, point)]


class History:
    """A recording, made ready for images of any of its points."""

    def __init__(self, ops: list[Op]) -> None:
        self.ops = ops
        self._files: dict[int, _File] = {}
        self._names: list[tuple[int, Op]] = []
        self._folder_syncs: dict[str, list[int]] = {}
        now: dict[int, bytearray] = {}
        for index, op in enumerate(ops):
            if op.kind in ("enter", "leave", "move"):
                self._names.append((index, op))
            elif op.kind == "sync folder":
                self._folder_syncs.setdefault(op.name, []).append(index)
            if op.kind in ("enter", "write", "truncate", "sync") and op.file:
                file = self._files.setdefault(op.file, _File())
                content = now.setdefault(op.file, bytearray())
                if op.kind in ("write", "truncate"):
                    file.changes.append(op)
                    file.when.append(index)
                    _apply(content, op)
                elif op.kind == "sync":
                    file.syncs.append(index)
                    file.contents.append((len(file.changes), bytes(content)))

    def image(self, point: int, chance: Random) -> Image:
        """One disk as it may be when the power fails right before that op; often one that did nothing unasked."""
        image = Image({})
        is_lazy = chance.random() < 0.25
        for name, file in self._names_at(point, chance).items():
            content, pending = self._files[file].durable(point)
            image.files[name] = content if is_lazy else _content(content, pending, chance, image)
            image.dropped += len(pending) if is_lazy else 0
        return image

    def _names_at(self, point: int, chance: Random) -> dict[str, int]:
        found: dict[str, int] = {}
        folders = {""}
        likely = chance.choice((0.0, 0.5, 1.0))
        for index, op in self._names[: bisect_left(self._names, point, key=lambda one: one[0])]:
            syncs = self._folder_syncs.get(folder_of(op.name), ())
            is_durable = bisect_left(syncs, point) > bisect_left(syncs, index)
            if not is_durable and chance.random() >= likely:
                continue
            if op.kind == "enter" and op.file:
                found[op.name] = op.file
            elif op.kind == "enter":
                folders.add(op.name)
            elif op.kind == "leave":
                found.pop(op.name, None)
            else:
                found.pop(op.name, None)
                found[op.about] = op.file
        return {name: file for name, file in found.items() if folder_of(name) in folders}


def _apply(content: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        if op.offset < len(content):
            del content[op.offset :]
        else:
            content.extend(bytes(op.offset - len(content)))
        return
    if op.offset > len(content):
        content.extend(bytes(op.offset - len(content)))
    content[op.offset : op.offset + len(op.data)] = op.data


def _content(durable: bytes, pending: list[Op], chance: Random, image: Image) -> bytes:
    """The durable bytes and some of the later changes."""
    if not pending:
        return durable
    content = bytearray(durable)
    in_order = chance.random() < 0.25
    cut = chance.randint(0, len(pending))
    likely = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    tearing = chance.choice((0.0, 0.0, 0.2, 1.0))
    for number, op in enumerate(pending):
        if number >= cut if in_order else chance.random() >= likely:
            image.dropped += 1
            if chance.random() < 0.1 and op.kind == "write" and op.offset + len(op.data) > len(content):
                content.extend(bytes(op.offset + len(op.data) - len(content)))  # its length came, its bytes did not
        elif (
            op.kind == "write"
            and len(op.data) > SECTOR
            and (number == cut - 1 if in_order else chance.random() < tearing)
        ):
            image.torn += 1
            for part in _torn(op, chance):
                _apply(content, part)
        else:
            image.kept += 1
            _apply(content, op)
    return bytes(content)


def _torn(op: Op, chance: Random) -> list[Op]:
    """Some of the sectors of a write: its beginning, its end, or any."""
    edges = list(range(op.offset - op.offset % SECTOR + SECTOR, op.offset + len(op.data), SECTOR))
    bounds = [op.offset, *edges, op.offset + len(op.data)]
    sectors = list(pairwise(bounds))
    cut = chance.randint(1, len(sectors)) if len(sectors) > 1 else 0
    kept = chance.choice((sectors[:cut], sectors[cut:], [one for one in sectors if chance.random() < 0.5]))
    return [op._replace(offset=first, data=op.data[first - op.offset : last - op.offset]) for first, last in kept]
