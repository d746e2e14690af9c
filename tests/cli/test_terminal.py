"""`osp run` in a real terminal: questions, answers from elsewhere, Ctrl-C."""

import json
from pathlib import Path
from typing import Any

from tests.cli.terminal import OnTerminal, osp_process


def runs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in osp_process(folder, "list", "--json").stdout.splitlines()]


def test_a_person_is_asked_for_input_approval_and_answers(folder: Path) -> None:
    """Everything is asked in the terminal; what makes no sense is asked again."""
    with OnTerminal(folder, "run", "flow.py:publish") as terminal:
        terminal.expect("publish: ")
        terminal.type("Tokyo\n")
        terminal.expect("draft: draft about Tokyo")
        terminal.expect("Approve?")
        terminal.type("maybe\n")
        terminal.expect("neither y nor n")
        terminal.expect("Approve?")
        terminal.type("y looks good\n")
        terminal.expect("Answer: ")
        terminal.type("1.0\n")
        terminal.expect("1.0: draft about Tokyo")
        assert terminal.end() == 0


def test_what_the_schema_demands_is_asked_field_by_field(folder: Path) -> None:
    """What is given on the command line or has a default is not; what does not fit is asked again."""
    with OnTerminal(folder, "run", "flow.py:order", "item=x") as terminal:
        terminal.expect("count (integer): ")
        terminal.type("many\n")
        terminal.expect("must be an integer")
        terminal.type("3\n")
        terminal.expect('"count": 3')
        assert terminal.end() == 0
    assert "item:" not in terminal.text
    assert "express:" not in terminal.text


def test_an_approval_from_elsewhere_takes_the_question_back(folder: Path) -> None:
    """Two terminals: the second one approves, the first one goes on."""
    with OnTerminal(folder, "run", "flow.py:publish", "Osaka") as terminal:
        terminal.expect("Approve?")
        request = json.loads(osp_process(folder, "inbox", "--json").stdout)
        assert osp_process(folder, "approve", request["id"]).returncode == 0
        terminal.expect("Answered elsewhere.")
        terminal.expect("Answer: ")
        terminal.type("2.0\n")
        terminal.expect("2.0: draft about Osaka")
        assert terminal.end() == 0


def test_a_quorum_is_told_before_and_after_the_own_vote(folder: Path) -> None:
    """How many, who, until when, and the command for the next person, which works."""
    with OnTerminal(folder, "run", "flow.py:consent") as terminal:
        terminal.expect("0 of 2 approvals; waiting for 2 people; expires in ")
        terminal.expect("Approve?")
        terminal.type("y\n")
        terminal.expect("1 of 2 approvals; waiting for 1 more person; expires in ")
        request = json.loads(osp_process(folder, "inbox", "--json").stdout)
        terminal.expect(f"others answer with: osp approve {request['id']} --by NAME")
        assert osp_process(folder, "approve", request["id"], "--by", "somebody else").returncode == 0
        terminal.expect("approved")
        assert terminal.end() == 0


def test_named_approvers_are_told(folder: Path) -> None:
    """By name, those who have not voted."""
    with OnTerminal(folder, "run", "flow.py:agree") as terminal:
        terminal.expect("0 of 2 approvals; waiting for ann, bob")
        terminal.expect("Approve?")
        request = json.loads(osp_process(folder, "inbox", "--json").stdout)
        for name in ("ann", "bob"):
            assert osp_process(folder, "approve", request["id"], "--by", name).returncode == 0
        terminal.expect("Answered elsewhere.")
        assert terminal.end() == 0


def test_a_question_of_a_cancelled_run_is_taken_back(folder: Path) -> None:
    """It says that the run was cancelled, not that somebody answered."""
    with OnTerminal(folder, "run", "flow.py:publish", "Osaka") as terminal:
        terminal.expect("Approve?")
        assert osp_process(folder, "cancel", runs(folder)[0]["id"]).returncode == 0
        terminal.expect("The run was cancelled")
        assert terminal.end() == 3
    assert "Answered elsewhere" not in terminal.text


def test_a_question_that_expires_is_taken_back(folder: Path) -> None:
    """It says that nobody answered in time."""
    with OnTerminal(folder, "run", "flow.py:hurry") as terminal:
        terminal.expect("Approve?")
        terminal.expect("Nobody answered in time: the approval expired.")
        terminal.expect("expired")
        assert terminal.end() == 0
    assert "Answered elsewhere" not in terminal.text


def test_an_empty_line_is_no_text(folder: Path) -> None:
    """It is asked again; two quotes are the empty text."""
    with OnTerminal(folder, "run", "flow.py:order", "count=1") as terminal:
        terminal.expect("item: ")
        terminal.type("\n")
        terminal.expect('"" is an empty text')
        terminal.expect("item: ")
        terminal.type('""\n')
        terminal.expect('"item": ""')
        assert terminal.end() == 0


def test_leaving_a_paused_run_names_resume(folder: Path) -> None:
    """A worker alone would not go on with it."""
    with OnTerminal(folder, "run", "flow.py:long") as terminal:
        terminal.expect("item 1")
        run_id = runs(folder)[0]["id"]
        assert osp_process(folder, "pause", run_id).returncode == 0
        terminal.expect("awaiting paused")
        terminal.press_ctrl_c()
        terminal.expect("(c/l")
        terminal.type("l\n")
        terminal.expect(f"it goes on with: osp resume {run_id}  and then: osp worker flow.py:long")
        assert terminal.end() == 130


def test_ctrl_c_cancels_if_the_person_says_so(folder: Path) -> None:
    """It asks once; the run ends cancelled: exit code 3."""
    with OnTerminal(folder, "run", "flow.py:long") as terminal:
        terminal.expect("item 1")
        terminal.press_ctrl_c()
        terminal.expect("(c/l")
        terminal.type("c\n")
        terminal.expect("was cancelled")
        assert terminal.end() == 3
    assert [run["status"] for run in runs(folder)] == ["cancelled"]


def test_ctrl_c_leaves_the_run_otherwise(folder: Path) -> None:
    """Exit code 130; a worker goes on with it where it stood."""
    with OnTerminal(folder, "run", "flow.py:long") as terminal:
        terminal.expect("item 1")
        terminal.press_ctrl_c()
        terminal.expect("(c/l")
        terminal.type("\n")
        terminal.expect("osp worker flow.py:long")
        assert terminal.end() == 130
    (run,) = runs(folder)
    assert (run["status"], run["cancelling"], run["progress"]["current"] >= 2) == ("in-progress", False, True)


def test_a_second_ctrl_c_stops_at_once(folder: Path) -> None:
    """Nothing is lost: what was committed is there, and nothing is cancelled."""
    with OnTerminal(folder, "run", "flow.py:long") as terminal:
        terminal.expect("item 1")
        terminal.press_ctrl_c()
        terminal.expect("(c/l")
        terminal.press_ctrl_c()
        terminal.expect("stopped at once")
        assert terminal.end() == 130
    (run,) = runs(folder)
    assert (run["status"], run["cancelling"], run["progress"]["current"] >= 2) == ("in-progress", False, True)


def test_ctrl_c_at_a_question_is_asked_about_too(folder: Path) -> None:
    """The open approval stays open."""
    with OnTerminal(folder, "run", "flow.py:publish", "Kyoto") as terminal:
        terminal.expect("Approve?")
        terminal.press_ctrl_c()
        terminal.expect("(c/l")
        terminal.type("l\n")
        assert terminal.end() == 130
    assert json.loads(osp_process(folder, "inbox", "--json").stdout)["status"] == "open"


def test_the_end_of_input_leaves_the_question_open(folder: Path) -> None:
    """Ctrl-D answers nothing; the command then says how to answer from elsewhere."""
    with OnTerminal(folder, "run", "flow.py:count", "--no-wait") as terminal:
        terminal.expect("Answer (integer): ")
        terminal.type("\x04")
        terminal.expect("osp respond")
        assert terminal.end() == 7


def test_a_list_in_a_terminal_is_a_table(folder: Path) -> None:
    """With titles."""
    osp_process(folder, "run", "flow.py:echo")
    with OnTerminal(folder, "list") as terminal:
        terminal.expect("WORKFLOW")
        terminal.expect("echo")
        assert terminal.end() == 0


def test_watch_shows_bars_until_ctrl_c(folder: Path) -> None:
    """And ends with success, its cursor given back."""
    osp_process(folder, "run", "flow.py:publish", "Tokyo", "--no-wait")
    with OnTerminal(folder, "watch") as terminal:
        terminal.expect("awaiting approval")
        terminal.expect("1/3")
        terminal.press_ctrl_c()
        assert terminal.end() == 0
    assert terminal.seen.rstrip().endswith("\x1b[?25h")


def test_respond_asks_for_the_value(folder: Path) -> None:
    """By the schema of the request."""
    osp_process(folder, "run", "flow.py:count", "--no-wait")
    run_id = runs(folder)[0]["id"]
    with OnTerminal(folder, "respond", run_id) as terminal:
        terminal.expect("Answer (integer): ")
        terminal.type("4\n")
        terminal.expect("answered")
        assert terminal.end() == 0
