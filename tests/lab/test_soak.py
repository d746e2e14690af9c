"""The small share of the soak, and that what grows is seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.harness import Tally, check_small
from tests.lab.product.measuring import Sample, percentile, sample, slope_of
from tests.lab.soak import HARNESS, SECONDS, Soak


def test_small_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machinery: a few seconds say nothing about what grows."""
    monkeypatch.setenv(SECONDS, "3")
    check_small(HARNESS)


def test_a_line_is_found_in_noise() -> None:
    """Two megabytes an hour, with half a megabyte of noise."""
    times = [float(number) for number in range(450)]
    values = [60 + 2 * time / 3_600 + (0.5 if int(time) % 2 else -0.5) for time in times]
    slope = slope_of(times, values)
    assert slope.per_day == pytest.approx(48, abs=slope.error_per_day)
    assert not slope.surely_above(48)
    assert slope_of(times, [60 + time for time in times]).surely_above(86_000)


def test_percentiles() -> None:
    """Of a hundred values, and of none."""
    assert percentile(list(range(100)), 0.99) == 99
    assert percentile([], 0.99) == 0


def test_a_process_is_measured(tmp_path: Path) -> None:
    """This one: an open file more is one descriptor more."""
    before = sample(0, os.getpid(), tmp_path / "runs.db")
    with (tmp_path / "runs.db-wal").open("wb") as file:
        file.write(b"x" * 2_000_000)
        file.flush()
        after = sample(1, os.getpid(), tmp_path / "runs.db")
    assert before.rss_mb > 1
    assert after.descriptors == before.descriptors + 1
    assert after.wal_mb == 2


@pytest.mark.parametrize(
    ("leak", "told"),
    [
        (Sample(1, 0.1, 0, 0, 0), "memory"),
        (Sample(1, 0, 1, 0, 0), "descriptors"),
        (Sample(1, 0, 0, 1, 0), "threads"),
        (Sample(1, 0, 0, 0, 1), "write-ahead log"),
    ],
)
def test_what_grows_is_judged(leak: Sample, told: str) -> None:
    """A little more with every sample, over a soak of 300 seconds, is found; the same without it is not."""
    steady, growing = Soak(), Soak()
    for number in range(200):
        at, noise = number * 1.5, number % 3 * 0.2
        steady.samples.append(Sample(at, 70 + noise, 30, 9, 4))
        growing.samples.append(
            Sample(
                at, 70 + noise + leak.rss_mb * number, 30 + leak.descriptors * number, 9 + leak.threads * number,
                4 + leak.wal_mb * number,
            )
        )  # fmt: skip
        for soak in (steady, growing):
            soak.finished.append(10 * number)
            soak.events.append(100 * number)
    assert steady.judge(Tally(), 300) == []
    found = growing.judge(Tally(), 300)
    assert found
    assert all(told in one for one in found)
    assert growing.judge(Tally(), 4) == []


def test_runs_that_leave_more_and_more_are_judged() -> None:
    """Ten events a run in the first part, fifteen in the second."""
    soak = Soak()
    for number in range(200):
        soak.samples.append(Sample(number * 1.5, 70, 30, 9, 4))
        soak.finished.append(10 * number)
        soak.events.append(100 * number + max(0, number - 100) * 50)
    (found,) = soak.judge(Tally(), 300)
    assert "10.0 events in the first part, 15.0 in the second" in found
