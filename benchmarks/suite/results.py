"""What was measured, by contender and figure."""

from __future__ import annotations

import statistics
from typing import Any

from suite.phases import Outcome


class Results:
    """All values of all rounds, notes on what a contender cannot do, and failures."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}
        self.notes: dict[str, dict[str, str]] = {}
        self.failures: dict[str, dict[str, str]] = {}
        self.environments: dict[str, dict[str, str]] = {}

    def add(self, contender: str, phase: str, outcome: Outcome) -> None:
        """Keep what a phase gave."""
        values = self._values.setdefault(contender, {})
        for name, value in outcome.figures.items():
            values.setdefault(name, []).append(value)
        if outcome.note is not None:
            self.notes.setdefault(contender, {})[phase] = outcome.note
        if outcome.environment:
            self.environments[contender] = outcome.environment

    def fail(self, contender: str, phase: str, reason: str) -> None:
        """Keep why a phase gave nothing."""
        self.failures.setdefault(contender, {})[phase] = reason

    def medians(self) -> dict[str, dict[str, float]]:
        """The median over the rounds, by contender and figure."""
        return {
            contender: {name: statistics.median(values) for name, values in figures.items()}
            for contender, figures in self._values.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "medians": self.medians(),
            "rounds": self._values,
            "notes": self.notes,
            "failures": self.failures,
            "environments": self.environments,
        }
