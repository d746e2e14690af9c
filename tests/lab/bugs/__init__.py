"""Bugs made by hand, each with the test that has to catch it."""

from __future__ import annotations

from tests.lab.bugs.rules import BUGS as _RULES
from tests.lab.bugs.running import BUGS as _RUNNING
from tests.lab.bugs.serving import BUGS as _SERVING
from tests.lab.bugs.shape import Bug, Cases, Node
from tests.lab.bugs.storing import BUGS as _STORING

BUGS: tuple[Bug, ...] = (*_RULES, *_RUNNING, *_STORING, *_SERVING)

__all__ = ["BUGS", "Bug", "Cases", "Node"]
