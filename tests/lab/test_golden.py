"""The small share of the kept journals, and that each stage is what its name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osprotocol.testing.conformance import SCENARIOS
from tests.conformance import test_embedded
from tests.lab.golden import FOLDER, HARNESS, kept, load
from tests.lab.golden_flows import STAGES
from tests.lab.harness import check_small

# An event that a stage's journal must hold, or the last one that it ends with.
HOLDS = {
    "approved-in-step": "request.completed",
    "attention": "request.opened",
    "child": "child.started",
    "cleanup": "cancel.delivered",
    "gather": "child.started",
    "one-vote": "request.voted",
    "paused": "run.paused",
    "run-retry": "run.retrying",
    "step-retry": "step.retrying",
    "values": "value.recorded",
}


def test_small_share() -> None:
    """Every kept journal ends as it had to, in memory and parked."""
    check_small(HARNESS)


def test_every_stage_is_kept_for_every_version() -> None:
    """A version's folder is whole."""
    versions = {folder.name for folder in FOLDER.iterdir() if folder.is_dir()}
    assert versions
    assert {(version, stage.name) for version, stage in kept()} == {
        (version, stage.name) for version in versions for stage in STAGES
    }


@pytest.mark.parametrize("name", HOLDS)
def test_a_kept_journal_holds_its_stage(name: str, tmp_path: Path) -> None:
    """So that a stage is not passed over unseen."""
    for version, stage in kept():
        if stage.name == name:
            load(version, stage, tmp_path / f"{version}.db")
            assert f"'{HOLDS[name]}'" in (FOLDER / version / f"{name}.sql").read_text(encoding="utf-8")


def test_conformance_runs_lingering_and_parking() -> None:
    """Each sentence of the contract is checked twice on the embedded engine: in memory, and parked at every wait."""
    checked: Any = test_embedded.test_the_embedded_engine_keeps_the_sentence
    marks = {mark.args[0]: mark for mark in checked.pytestmark}
    assert marks["always_park"].args[1] == [False, True]
    assert len(marks["scenario"].args[1]) == len(SCENARIOS) > 100
