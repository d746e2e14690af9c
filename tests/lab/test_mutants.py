"""The bugs made by hand: every one can still be put in, is caught for its reason, and two of them are, here and now."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from dataclasses import replace

import pytest

from osprotocol.testing.conformance import SCENARIOS
from tests.lab import mutants
from tests.lab.bugs import BUGS, Bug, Cases, Node
from tests.lab.harness import Harness, Tally, Violation, check_small

_EVERY_BUG = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
_ARGUMENTS = {f"{one.name}-{way}" for one in SCENARIOS for way in ("lingering", "parking")}


def test_small_share() -> None:
    check_small(mutants.HARNESS)


@_EVERY_BUG
def test_a_bug_can_be_put_in(bug: Bug) -> None:
    """Its place is there once, and what comes of it is Python."""
    path = mutants.SOURCE / "osprotocol" / bug.file
    broken = mutants.with_bug(path.read_text(encoding="utf-8"), bug)
    assert bug.old != bug.new
    compile(broken, str(path), "exec")


@_EVERY_BUG
def test_what_catches_a_bug_is_there(bug: Bug) -> None:
    named = bug.caught_by
    if isinstance(named, Cases):
        harness: Harness = importlib.import_module(f"tests.lab.{named.harness}").HARNESS
        assert (harness.name, named.count > 0) == (named.harness, True)
        return
    path, _, function = named.node.partition("::")
    name, _, arguments = function.partition("[")
    tree = ast.parse((mutants.ROOT / path).read_text(encoding="utf-8"))
    functions = {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions
    assert not arguments or arguments.removesuffix("]") in _ARGUMENTS


@_EVERY_BUG
def test_a_bug_says_what_it_is(bug: Bug) -> None:
    """What a user suffers, its class, and words by which its failure is known."""
    assert bug.suffers
    assert re.fullmatch(r"[BS][1-9][0-9]?", bug.kind)
    assert len(bug.says) >= 5
    assert re.compile(bug.says).groups == 0


def test_every_bug_is_another() -> None:
    assert max(Counter(bug.name for bug in BUGS).values()) == 1
    assert max(Counter((bug.file, bug.old, bug.new) for bug in BUGS).values()) == 1
    assert len(BUGS) >= 40


def test_the_lab_catches_at_least_half() -> None:
    assert sum(isinstance(bug.caught_by, Cases) for bug in BUGS) * 2 >= len(BUGS)


class _Told(mutants.Copy):
    """Instead of running a test it says what came of it."""

    def __init__(self, outcome: mutants.Outcome) -> None:
        super().__init__()
        self.outcome = outcome

    def run(self, test: Cases | Node) -> mutants.Outcome:
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (mutants.Outcome(3, []), "it survives; 3 tests or cases hold"),
        (mutants.Outcome(1, ["ImportError: no module"]), "does not say"),
        (mutants.Outcome(0, [], "it ended with 4 and left no result"), "left no result"),
        (mutants.Outcome(0, [], "it did not end", hung=True), "did not end"),
    ],
    ids=["nothing failed", "another reason", "nothing was collected", "no end"],
)
def test_what_is_not_caught_is_a_violation(
    outcome: mutants.Outcome, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = _Told(outcome)
    monkeypatch.setattr(mutants, "_copies", [copy])
    try:
        with pytest.raises(Violation, match=told):
            mutants.case(0, Tally())
    finally:
        copy.close()


def test_a_place_that_is_gone_or_there_twice_is_a_violation() -> None:
    for text in ("", BUGS[0].old * 2):
        with pytest.raises(Violation, match="it has to be there once"):
            mutants.with_bug(text, BUGS[0])


def test_the_code_is_as_it_was_after_a_bug() -> None:
    copy, bug = mutants.Copy(), replace(BUGS[0])
    try:
        path = copy.source / "osprotocol" / bug.file
        before = path.read_bytes()
        with copy.broken(bug):
            assert bug.new in path.read_text(encoding="utf-8")
        assert path.read_bytes() == before == (mutants.SOURCE / "osprotocol" / bug.file).read_bytes()
    finally:
        copy.close()
