"""Bytes from outside, by the million: whatever comes is refused with an error of ours, or comes back as it was.

A case is a batch of inputs of one target. The inputs follow from the case's number: a known input, changed at random.
What holds of every input: no other error, no hang, no more than 64 MB, nothing loaded, run, opened or connected; and
time does not grow faster than the input.
`tests/lab/fuzzing` has the targets, `fuzzing/corpus` what reached new code, `fuzzing/found.py` what found something.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

from tests.lab.fuzzing import TARGETS
from tests.lab.fuzzing.corpus import inputs_of
from tests.lab.fuzzing.mutation import grown, mutated
from tests.lab.fuzzing.target import Target, Try
from tests.lab.fuzzing.watch import Hang, bounded, seconds_of_cpu, watched
from tests.lab.harness import Harness, Tally, Violation, main

SHORT, LONG = 8_192, 131_072
SLOW_S = 0.4
"""Time that a long input may take, however it compares with a short one."""
SUPERLINEAR = 48
"""A long input is 16 times as long as a short one; n log n is 20 times the time, a square is 256 times."""

_warm: set[str] = set()


@contextmanager
def _named(target: Target, data: bytes) -> Iterator[None]:
    """Whatever is wrong with an input is told with the input."""
    shown = f"{data[:400]!r}" + (f" and {len(data) - 400} bytes more" if len(data) > 400 else "")
    try:
        yield
    except Violation as violation:
        raise Violation(f"{target.name}: {violation}\ninput: {shown}") from None
    except Hang:
        raise Violation(f"{target.name}: it does not end\ninput: {shown}") from None
    except Exception as error:
        error.add_note(f"target {target.name}, input: {shown}")
        raise


def give(target: Target, attempt: Try, data: bytes) -> bool:
    """Whether the target accepts an input.

    Raises:
        Violation: something happened that must not. Any other error is one too.
    """
    with _named(target, data):
        try:
            with watched(target.may):
                return attempt(data)
        except target.refusals as refusal:
            str(refusal)
            return False


def _time(target: Target, attempt: Try, data: bytes) -> float:
    began = seconds_of_cpu()
    give(target, attempt, data)
    return seconds_of_cpu() - began


def check_growth(target: Target, attempt: Try, data: bytes, chance: Random, tally: Tally) -> None:
    """Time grows with the length of an input as the length does, or hardly faster.

    Raises:
        Violation: three times it did not.
    """
    state, short, long = chance.getstate(), 0.0, 0.0
    for _ in range(3):
        chance.setstate(state)
        short = _time(target, attempt, grown(data, chance, SHORT))
        chance.setstate(state)
        long = _time(target, attempt, grown(data, chance, LONG))
        tally.gauge("slowest long input, s", long)
        if long < SLOW_S or long < SUPERLINEAR * short:
            return
    with _named(target, data):
        raise Violation(f"{SHORT} bytes take {short:.3f} s, {LONG} bytes {long:.3f} s")


def batch(target: Target, number: int, size: int, tally: Tally) -> None:
    """Give a target so many inputs that follow from a number."""
    chance = Random(f"fuzz {target.name} {number}")
    known = inputs_of(target)
    with target.open() as attempt:
        if target.name not in _warm:  # loads whatever is loaded on first use
            with bounded():
                for data in known:
                    with _named(target, data), suppress(*target.refusals):
                        attempt(data)
            _warm.add(target.name)
        for start in range(0, size, 50):
            with bounded():
                for _ in range(min(size - start, 50)):
                    data = mutated(chance.choice(known), chance, known)
                    began = seconds_of_cpu()
                    accepted = give(target, attempt, data)
                    tally.gauge("slowest short input, s", seconds_of_cpu() - began)
                    tally.mark(f"{target.name} {'accepted' if accepted else 'refused'}")
                    tally.count("inputs")
        if target.grows:
            with bounded():
                check_growth(target, attempt, chance.choice(known), chance, tally)
                tally.count("long inputs", 2)


def case(number: int, tally: Tally) -> None:
    """A batch of inputs of one target; the first cases, which `make test` does, are small."""
    target = TARGETS[number % len(TARGETS)]
    size = target.batch if number >= len(TARGETS) else target.small
    batch(target, number, size, tally)


def _enough(tally: Tally) -> str | None:
    done = tally.counts["inputs"]
    return None if done >= 1_000_000 else f"{done:,} inputs, fewer than 1,000,000"


MARKS = tuple(f"{target.name} {what}" for target in TARGETS for what in ("accepted", "refused"))
HARNESS = Harness(
    name="fuzz",
    title="Bytes from outside by the million are refused as such or come back as they were",
    case=case,
    full=40 * len(TARGETS),
    share=20 * len(TARGETS),
    small=len(TARGETS),
    quotas=dict.fromkeys(MARKS, 40) | {"row accepted": 5},
    small_marks=tuple(mark for mark in MARKS if mark != "row accepted"),
    checks=(_enough,),
)

if __name__ == "__main__":
    main(HARNESS)
