"""`osp run --answers FILE` answers what a run asks."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Osp


def run(osp: Osp, target: str, text: str, *words: str) -> Any:
    Path("answers").write_text(text, encoding="utf-8")
    return osp("run", f"flow.py:{target}", *words, "--answers", "answers", "--no-wait", "--quiet")


@pytest.mark.parametrize(
    "text",
    [
        "# who answers what\n\napprove\n1.0\n",
        "yes\n1.0",
        '["approve", "1.0"]',
        '[true, "1.0"]',
        '{"Publish": true, "Title": "1.0"}',
        '{"title?": {"answer": "1.0"}, "publish": {"approve": true, "reason": "fine"}}',
        '[{"prompt": "Title", "answer": "1.0"}, {"prompt": "Publish", "approve": true}]',
        '{"approve": true}\n{"answer": "1.0"}\n',
    ],
)
def test_answers_come_in_order_or_by_prompt(osp: Osp, text: str) -> None:
    """Lines, a list and an object of prompts all answer an approval and an input."""
    said = run(osp, "publish", text, "Tokyo")
    assert (said.code, said.out) == (0, "1.0: draft about Tokyo\n"), said


def test_a_line_means_what_the_schema_wants(osp: Osp) -> None:
    """The same line is a number where a number is asked for."""
    assert run(osp, "count", "12").out == "12\n"


def test_a_rejection_has_its_reason(osp: Osp) -> None:
    """Rejecting is an answer too, and the run's code sees why."""
    said = run(osp, "publish", '[{"approve": false, "reason": "too long"}]', "Tokyo")
    assert said.code == 1
    assert "rejected: too long" in said.err


def test_an_answer_may_name_who_gives_it(osp: Osp) -> None:
    """Two approvers can be played."""
    answers = [{"approve": True, "by": "ann"}, {"approve": True, "by": "bob"}]
    assert run(osp, "agree", json.dumps(answers)).out == "approved\n"


def test_what_a_child_asks_is_answered_too(osp: Osp) -> None:
    """The requests of child runs count as the run's."""
    assert run(osp, "parent", "3").out == "3\n"


def test_without_an_answer_the_run_waits(osp: Osp) -> None:
    """The command says how to answer, and `--no-wait` leaves the run: exit code 7."""
    said = run(osp, "publish", "approve\n", "Tokyo")
    assert said.code == 7
    assert "osp respond" in said.err


@pytest.mark.parametrize(("text", "told"), [("perhaps", "approve or reject"), ('["approve", 5]', "must be a string")])
def test_an_answer_that_does_not_fit_is_a_usage_error(osp: Osp, text: str, told: str) -> None:
    """The run stays as it is, and the error says how to answer it."""
    said = run(osp, "publish", text, "Tokyo")
    assert said.code == 2
    assert told in said.err
    assert "still waits" in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("text", ['["approve"', '[{"approve": true, "by": 5}]'])
def test_a_broken_file_starts_no_run(osp: Osp, folder: Path, text: str) -> None:
    """It is read before anything is stored."""
    said = run(osp, "publish", text, "Tokyo")
    assert said.code == 2
    assert "--answers" in said.err
    assert not (folder / ".osp").exists()


def test_a_file_that_is_not_there_starts_no_run(osp: Osp, folder: Path) -> None:
    """Exit code 2, one line."""
    said = osp("run", "flow.py:publish", "Tokyo", "--answers", "none")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert not (folder / ".osp").exists()
