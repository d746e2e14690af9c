"""`Scenario`: one sentence of the contract, and the list of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from osprotocol.testing.conformance.harness import Harness

Check = Callable[[Harness], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One sentence of the contract as a check.

    Attributes:
        name: unique, and a readable test id.
        section: of the contract.
        sentence: what must be true.
        check: makes it happen on a harness, and asserts it.
        needs: capabilities without which an engine is excused.
    """

    name: str
    section: int
    sentence: str
    check: Check
    needs: frozenset[str]


SCENARIOS: list[Scenario] = []
"""Every scenario, by section."""


def scenario(section: int, *needs: str) -> Callable[[Check], Check]:
    """Register a check; its docstring is the sentence, its needs are capabilities of the harness."""

    def add(check: Check) -> Check:
        name = getattr(check, "__name__", "")
        sentence = inspect.getdoc(check) or ""
        assert sentence.endswith("."), f"{name} needs a docstring of one sentence"
        assert all(known.name != name for known in SCENARIOS), f"two scenarios are called {name}"
        SCENARIOS.append(Scenario(name, section, sentence, check, frozenset(needs)))
        return check

    return add
