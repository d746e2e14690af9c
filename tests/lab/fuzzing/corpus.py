"""The inputs that mutation begins with: seeds, and what reached new code when the corpus was grown.

``python -m tests.lab.fuzzing.corpus`` grows it: of a target's mutated inputs those are kept that make our code take a
step from one line to another that no input made before.
"""

from __future__ import annotations

import argparse
import ast
import sys
from functools import cache
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import osprotocol
from tests.lab.fuzzing.found import FOUND
from tests.lab.fuzzing.mutation import mutated
from tests.lab.fuzzing.target import Target

FOLDER = Path(__file__).parent / "corpus"
MOST = 40
"""Grown inputs of a target."""
MOST_BYTES = 600
"""Of an input that is kept."""
_OURS = str(Path(osprotocol.__file__).parent)


def inputs_of(target: Target) -> tuple[bytes, ...]:
    """Seeds of a target, what found something, and what was grown."""
    return target.seeds + FOUND.get(target.name, ()) + grown_inputs(target.name)


@cache
def grown_inputs(name: str) -> tuple[bytes, ...]:
    """What the file of a target holds: an input a line, as Python writes bytes."""
    file = FOLDER / f"{name}.txt"
    if not file.exists():
        return ()
    return tuple(ast.literal_eval(line) for line in file.read_text(encoding="ascii").splitlines())


class _Steps:
    """The steps from line to line that our code takes in one thread."""

    def __init__(self) -> None:
        self.taken: set[tuple[str, int, int]] = set()
        self._last: dict[FrameType, int] = {}

    def look(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        if event == "line":
            self.taken.add((frame.f_code.co_filename, self._last.get(frame, 0), frame.f_lineno))
            self._last[frame] = frame.f_lineno
        elif event == "return":
            self._last.pop(frame, None)
        return self.look


def grow(target: Target, inputs: int, seed: int) -> tuple[bytes, ...]:
    """Inputs that reached what the seeds and those before them did not."""
    chance, known = Random(f"corpus {target.name} {seed}"), list(inputs_of(target))
    reached: set[tuple[str, int, int]] = set()
    found = list(grown_inputs(target.name))
    with target.open() as attempt:

        def is_new(data: bytes) -> bool:
            steps = _Steps()
            sys.settrace(steps.look)
            try:
                attempt(data)
            except Exception:  # noqa: BLE001 - whether it may is for the harness to say
                pass
            finally:
                sys.settrace(None)
            new = not steps.taken <= reached
            reached.update(steps.taken)
            return new

        for data in known:
            is_new(data)
        for _ in range(inputs):
            data = mutated(chance.choice(known), chance, known)
            if len(data) <= MOST_BYTES and is_new(data) and len(found) < MOST:
                known.append(data)
                found.append(data)
    return tuple(found)


def main() -> None:
    """Grow the corpus of some targets, or of all."""
    from tests.lab.fuzzing import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.lab.fuzzing.corpus", description=grow.__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--inputs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for target in TARGETS:
        if not options.targets or target.name in options.targets:
            found = grow(target, options.inputs, options.seed)
            (FOLDER / f"{target.name}.txt").write_text("".join(f"{one!r}\n" for one in found), encoding="ascii")
            print(f"{target.name}: {len(found)} inputs")


if __name__ == "__main__":
    main()
