"""What every harness of the lab is: numbered cases that hold or do not, and a count of what they reached.

A case is a number. Everything that a case does by chance follows from its number, so that
``python -m tests.lab.NAME --first N --count 1`` does the same again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MOST_FAILURES = 10
"""After so many a harness stops: more of the same help nobody."""


class Violation(AssertionError):
    """A guarantee did not hold; the text says which and how."""


@dataclass
class Tally:
    """What a harness did and reached.

    Attributes:
        counts: how much was done: images, kills, votes. Shares of a harness are added up.
        marks: how often something came to pass that must come to pass sometimes; also added up.
        gauges: what was measured, of which the largest of all shares is kept.
    """

    counts: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    gauges: dict[str, float] = field(default_factory=dict)

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] += number

    def mark(self, name: str, number: int = 1) -> None:
        self.marks[name] += number

    def gauge(self, name: str, value: float) -> None:
        self.gauges[name] = max(value, self.gauges.get(name, value))

    def add(self, other: Tally) -> None:
        """Add what another share did."""
        self.counts.update(other.counts)
        self.marks.update(other.marks)
        for name, value in other.gauges.items():
            self.gauge(name, value)


@dataclass(frozen=True)
class Harness:
    """A way to look for violations.

    Attributes:
        name: of its module in tests.lab.
        title: what it does, in a few words, for the report.
        case: does the case of that number; raises `Violation`, or whatever else went wrong.
        full: how many cases `make lab` does.
        share: how many of them one process does; 0 for all.
        beside: it waits more than it works, so it has a lane of its own beside the others.
        small: how many cases `make test` does.
        quotas: how often each mark has to be reached in `make lab`; each has to be reached in the small share at least
            once if `small_marks` names it.
        small_marks: marks that the small share reaches for certain.
        prepare: called once before the first case of a share, and given the tally.
        finish: called once after the last case of a share; may raise as a case does.
        checks: what has to be true of the numbers of all shares together: name by function of the tally that gives a
            sentence when it is not.
    """

    name: str
    title: str
    case: Callable[[int, Tally], None]
    full: int
    small: int
    share: int = 0
    beside: bool = False
    quotas: Mapping[str, int] = field(default_factory=dict)
    small_marks: tuple[str, ...] = ()
    prepare: Callable[[Tally], None] = lambda tally: None
    finish: Callable[[Tally], None] = lambda tally: None
    checks: tuple[Callable[[Tally], str | None], ...] = ()

    def replay(self, number: int) -> str:
        """The command that does one case again."""
        return f".venv/bin/python -m tests.lab.{self.name} --first {number} --count 1"


@dataclass
class Failure:
    """One case that did not hold."""

    case: int
    what: str
    replay: str


@dataclass
class Share:
    """What came of a number of cases."""

    harness: str
    first: int
    cases: int
    seconds: float
    tally: Tally
    failures: list[Failure]

    def to_json(self) -> dict[str, Any]:
        tally = {name: dict(value) for name, value in vars(self.tally).items()}
        return {**vars(self), "tally": tally, "failures": [asdict(failure) for failure in self.failures]}


def work(harness: Harness, first: int, count: int, *, told: Callable[[str], None] = lambda line: None) -> Share:
    """Do that many cases from a number on; failures are kept, not raised."""
    tally, failures = Tally(), list[Failure]()
    began = time.monotonic()

    def failed(number: int, error: Exception) -> None:
        what = str(error) if isinstance(error, Violation) else "".join(traceback.format_exception(error))
        failures.append(Failure(number, what, harness.replay(number)))
        told(f"{harness.name} case {number}: {what.strip().splitlines()[-1]}; replay: {harness.replay(number)}")

    done = 0
    try:
        harness.prepare(tally)
        for number in range(first, first + count):
            try:
                harness.case(number, tally)
            except Exception as error:  # noqa: BLE001 - whatever a case raises is its failure
                failed(number, error)
            done += 1
            if len(failures) >= MOST_FAILURES:
                break
    finally:
        try:
            harness.finish(tally)
        except Exception as error:  # noqa: BLE001
            failed(first, error)
    return Share(harness.name, first, done, time.monotonic() - began, tally, failures)


def check_small(harness: Harness, first: int = 0) -> None:
    """The share of a harness that `make test` does.

    Raises:
        AssertionError: a case did not hold, or something that the share reaches for certain was not reached.
    """
    share = work(harness, first, harness.small)
    assert not share.failures, "\n".join(f"{one.what}\nreplay: {one.replay}" for one in share.failures)
    missed = [mark for mark in harness.small_marks if not share.tally.marks[mark]]
    assert not missed, f"never reached: {missed}"


def main(harness: Harness) -> None:
    """The command line of one harness; exit code 1 when a case did not hold."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.lab.{harness.name}", description=harness.title)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, default=harness.small, help="how many cases")
    parser.add_argument("--out", type=Path, help="where the share goes, as JSON")
    options = parser.parse_args()
    share = work(harness, options.first, options.count, told=lambda line: print(line, file=sys.stderr, flush=True))
    if options.out is not None:
        options.out.write_text(json.dumps(share.to_json()), encoding="utf-8")
    else:
        print(f"{harness.title}: {share.cases} cases in {share.seconds:.1f} s")
        for kind in (share.tally.counts, share.tally.marks, share.tally.gauges):
            for name, value in sorted(kind.items()):
                print(f"  {name}: {value:,}")
        for failure in share.failures:
            print(f"\ncase {failure.case}: {failure.what}\nreplay: {failure.replay}")
    sys.exit(1 if share.failures else 0)
