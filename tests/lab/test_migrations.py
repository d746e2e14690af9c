"""The small share of the migrations, and that every statement is among the cases."""

from __future__ import annotations

from tests.lab.harness import check_small
from tests.lab.migrations import HARNESS, STATEMENTS, kind_of, statements_of_migration


def test_small_share() -> None:
    """Old or new, never between."""
    check_small(HARNESS)


def test_every_statement_has_a_case() -> None:
    """The number of statements is not guessed."""
    assert len(statements_of_migration()) == STATEMENTS
    kinds = [kind_of(number) for number in range(HARNESS.full)]
    assert {at for kind, at in kinds if kind == "statement"} == set(range(STATEMENTS))
