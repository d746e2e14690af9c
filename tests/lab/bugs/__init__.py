"""Bugs made by hand, each with the test that has to catch it."""

from __future__ import annotations

from tests.lab.bugs import rules, running, serving, storing
from tests.lab.bugs.shape import Bug, Cases, Tests

BUGS: tuple[Bug, ...] = (*rules.BUGS, *running.BUGS, *storing.BUGS, *serving.BUGS)

__all__ = ["BUGS", "Bug", "Cases", "Tests"]
