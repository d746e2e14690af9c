"""The published guarantees: every one names what holds it, and what it names exists."""

import re
from pathlib import Path

import pytest

from tests.lab.__main__ import NAMES
from tests.lab.guarantees import HELD, UNITS, report

_ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_guarantee_says_what_holds_it() -> None:
    text = (_ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (G\d+):", text, re.MULTILINE) == list(HELD)


@pytest.mark.parametrize("test", sorted({test for held in HELD.values() for test in held.tests}))
def test_a_named_test_exists(test: str) -> None:
    file, _, function = test.partition("::")
    assert function in (_ROOT / "tests" / file).read_text(encoding="utf-8")


def test_every_harness_is_in_the_lab_and_in_the_report() -> None:
    known = {name for held in HELD.values() for name in held.harnesses}
    assert known <= set(NAMES)
    assert set(UNITS) == set(NAMES) == set(report()["harnesses"])
