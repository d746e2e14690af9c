"""The lifecycle table: every situation x every command, against what is written down in table.txt."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import get_args

import pytest

from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.decide import decide
from osprotocol.errors import OSProtocolError, RunNotFoundError
from osprotocol.protocol.run import RunStatus
from tests.lifecycle.situations import COMMANDS, FINAL, SITUATIONS, T0, Story, outcome


def read_table() -> dict[tuple[str, str], str]:
    """What is expected, by command and situation; a pair that is written twice is an error."""
    expected: dict[tuple[str, str], str] = {}
    command = result = ""
    for line in Path(__file__).with_name("table.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            command = line.strip("[]")
        elif line.startswith("    "):
            for situation in line.strip().split(" | "):
                assert (command, situation) not in expected, f"twice in the table: {command}, {situation}"
                expected[command, situation] = result
        elif line:
            result = line.removesuffix(":")
    return expected


TABLE = read_table()


def test_the_table_has_a_row_for_every_situation_and_command() -> None:
    """No pair is missing and none is of something that does not exist."""
    assert set(TABLE) == {(command, situation) for command in COMMANDS for situation in SITUATIONS}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_does_in_each_situation_what_the_table_says(command: str) -> None:
    """A command is accepted, changes the status or is refused with a code exactly as written down."""
    found = {situation: outcome(situation, command) for situation in SITUATIONS}
    assert found == {situation: TABLE[command, situation] for situation in SITUATIONS}


def test_the_situations_cover_every_status() -> None:
    """Each of the six statuses is among the situations."""
    assert {make().state.status for make in SITUATIONS.values()} == set(RunStatus)


def test_the_table_covers_every_kind_of_command() -> None:
    """A command type that `decide` knows and the table does not would be untested."""
    covered = {type(make(SITUATIONS["asks an input"]())) for make in COMMANDS.values()}
    assert covered | {c.Start} == set(get_args(c.Command))


@pytest.mark.parametrize("situation", FINAL)
def test_only_notes_and_late_results_are_added_to_a_final_run(situation: str) -> None:
    """Every other command leaves a final run's row exactly as it was."""
    for name, make in COMMANDS.items():
        story = SITUATIONS[situation]()
        before = story.state
        with contextlib.suppress(OSProtocolError):  # refusals are in the table
            story.do(make(story), after_us=5)
        if name in ("note", "record"):
            before = before._replace(event=before.event + 1, updated_at=story.now)
        assert story.state == before, name


def test_a_refused_command_changes_nothing() -> None:
    """Whatever the table shows as refused leaves state, events and requests alone."""
    for (command, situation), result in TABLE.items():
        if result.startswith("!"):
            story = SITUATIONS[situation]()
            state, events, requests = story.state, list(story.events), dict(story.requests)
            with pytest.raises(Exception):  # noqa: B017, PT011 - which one is in the table
                story.do(COMMANDS[command](story))
            assert (story.state, story.events, story.requests) == (state, events, requests)


def test_every_command_but_start_needs_a_run() -> None:
    """Without a run the answer is that it does not exist."""
    for make in COMMANDS.values():
        with pytest.raises(RunNotFoundError):
            decide(None, make(Story()), T0)


def test_deciding_is_pure() -> None:
    """The same state, command and instant give the same decision."""
    for situation, make_story in SITUATIONS.items():
        for name, make in COMMANDS.items():
            if TABLE[name, situation].startswith("!"):
                continue
            one, two = make_story(), make_story()
            first, second = one.do(make(one)), two.do(make(two))
            assert first._replace(error=None) == second._replace(error=None)
