"""Positions: where in the code of a run something was asked for.

A position is dotted numbers from 1: ``3`` is the third operation of the workflow; ``3.2.1`` is the first operation
in the second branch of the gather that was the third. Odd places count operations, even places name branches.
"""

from __future__ import annotations

from collections.abc import Iterable


def parts(position: str) -> tuple[int, ...]:
    """The numbers of a position."""
    return tuple(int(part) for part in position.split("."))


def saw(position: str, failure: str) -> bool:
    """Whether the code that asked at `position` had seen the outcome of the operation at `failure`.

    Code sees an outcome when it stands later in the same branch, or behind the gather that joined that branch.
    Branches that ran beside it have not seen it.
    """
    mine, theirs = parts(position), parts(failure)
    for place, (here, there) in enumerate(zip(mine, theirs, strict=False)):
        if here != there:
            return place % 2 == 0 and here > there
    return False


def forgotten(positions: Iterable[str], failure: str) -> list[str]:
    """What a new attempt does not keep: the failed operation itself and all that was asked for after it was seen."""
    return [position for position in positions if position == failure or saw(position, failure)]
