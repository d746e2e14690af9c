"""A run in words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from osprotocol.protocol.request import Request
from osprotocol.protocol.run import ErrorInfo, RunSnapshot, RunStatus, Waiting
from osprotocol.server.console import words
from osprotocol.server.console.headline import headline, held_by, may_answer
from tests.server.console.test_timeline import BEGUN, START, event, timeline

NOW = START + timedelta(hours=3)


def run(status: str, **fields: Any) -> RunSnapshot:
    return RunSnapshot(id="r", workflow="w", status=RunStatus(status), created_at=START, updated_at=START, **fields)


def request(kind: str = "approval", **fields: Any) -> Request:
    given = {
        "id": "r-3",
        "run_id": "r",
        "workflow": "w",
        "status": "open",
        "prompt": "Go?",
        "digest": "d",
        "opened_at": START,
    }
    return Request(kind=kind, **(given | fields))  # type: ignore[arg-type]


def waits(kind: str, **fields: Any) -> Waiting:
    return Waiting(kind=kind, since=START, **fields)  # type: ignore[arg-type]


def test_missing_approvals_are_counted() -> None:
    """Those that were given, those that are needed, and since when."""
    asked = request(required_approvals=2, responses=({"by": "ada", "approved": True, "at": START},))
    said = headline(run("awaiting", waiting_on=(waits("approval"),)), [asked], timeline(*BEGUN), NOW)
    assert said.text == "Awaiting: 1 of 2 approvals, 3 h"


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({}, "rejected"),
        ({"auto_approve_on_timeout": True}, "approved"),
        ({"kind": "input"}, "an error in the run"),
    ],
    ids=["approval", "auto-approval", "input"],
)
def test_the_deadline_says_what_happens_then(fields: dict[str, Any], end: str) -> None:
    """If nobody answers."""
    asked = request(expires_at=NOW + timedelta(hours=2), **fields)
    said = headline(run("awaiting", waiting_on=(waits("approval"),)), [asked], timeline(*BEGUN), NOW)
    assert said.more == (f"Expires in 2 h; if nobody answers: {end}.",)


def test_a_pause_names_who_and_why() -> None:
    """And comes before what else is waited for."""
    made = timeline(*BEGUN, event(3, "run.paused", 0, by="ada", reason="lunch"))
    paused = run("awaiting", waiting_on=(waits("paused", prompt="lunch"), waits("approval")))
    said = headline(paused, [request()], made, NOW)
    assert said.text == "Paused by ada, 3 h: lunch"
    assert said.more == ("Awaiting: 0 of 1 approval, 3 h",)


def test_a_pause_that_is_not_settled_says_so() -> None:
    """Running steps finish first."""
    made = timeline(*BEGUN, event(3, "run.paused", 0, by="ada"))
    said = headline(run("in-progress", waiting_on=(waits("paused", settled=False),)), [], made, NOW)
    assert said.text == "Pausing, asked by ada, 3 h"


@pytest.mark.parametrize(
    ("snapshot", "text"),
    [
        (run("pending"), "Waiting for a worker, 3 h"),
        (run("pending", stuck="no living worker knows it"), "Nothing moves this run"),
        (run("in-progress", attempt=2), "Working, attempt 2, 2 h"),
        (run("in-progress", cancelling=True, cancelled_by="ada", cancel_reason="old"), "Cancelling, asked by ada: old"),
        (run("cancelled", cancelled_by="ada", cancel_reason="old"), "Cancelled by ada: old"),
        (
            run("failed", attempt=3, error=ErrorInfo(type="OSError", message="full")),
            "Failed after 3 attempts: OSError: full",
        ),
    ],
    ids=["pending", "stuck", "working", "cancelling", "cancelled", "failed"],
)
def test_each_state_has_its_words(snapshot: RunSnapshot, text: str) -> None:
    """Short ones."""
    assert headline(snapshot, [], timeline(*BEGUN), NOW).text == text


def test_completed_says_how_long_it_took() -> None:
    """From its start to its end."""
    made = timeline(*BEGUN, event(3, "run.completed", 90, status="completed"))
    assert headline(run("completed"), [], made, NOW).text == "Completed in 1 min 30 s"


def test_children_that_wait_are_counted() -> None:
    """A parent waits for what its children wait for."""
    parent = run("awaiting", waiting_on=(waits("approval", run_id="c1"), waits("input", run_id="c2")))
    assert headline(parent, [], timeline(*BEGUN), NOW).text == "Awaiting: 2 answers for 2 child runs, 3 h"


def test_a_list_says_who_holds_a_run() -> None:
    """Names where there are some."""
    assert held_by(run("awaiting", waiting_on=(waits("approval", who=("Ada", "Ben")),)), NOW) == (
        "approval from Ada and Ben", START,
    )  # fmt: skip
    assert held_by(run("awaiting", waiting_on=(waits("input"),)), NOW) == ("answer from anyone", START)
    assert held_by(run("awaiting", waiting_on=(waits("paused"),)), NOW) == ("paused", START)
    assert held_by(run("in-progress"), NOW) is None


def test_who_voted_is_not_asked_again() -> None:
    """However the name is spelled."""
    voted = request(required_approvals=2, responses=({"by": "Ada", "approved": True, "at": START},))
    assert not may_answer(voted, "ada")
    assert may_answer(voted, "ben")


def test_who_is_not_named_is_not_asked() -> None:
    """A request with approvers is for those."""
    assert may_answer(request(approvers=("Ada",)), "ADA")
    assert not may_answer(request(approvers=("Ada",)), "ben")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0 ms"), (420, "420 ms"), (999.7, "1.0 s"), (2_400, "2.4 s"), (9_960, "10 s"), (65_000, "1 min 5 s"),
     (3_600_000, "1 h"), (12_000_000, "3 h 20 min"), (180_000_000, "2 d 2 h")],
    ids=str,
)  # fmt: skip
def test_lengths_have_two_units_at_most(milliseconds: float, text: str) -> None:
    """Of the largest that fit."""
    assert words.duration(milliseconds) == text


def test_instants_are_said_from_now() -> None:
    """In the past and in the future."""
    said = [words.ago(NOW + timedelta(seconds=at), NOW) for at in (-7200, -2, 3, 120)]
    assert said == ["2 h ago", "just now", "just now", "in 2 min"]


def test_a_failed_step_is_told_without_the_name_of_our_own_error() -> None:
    """Nor with the id of the run whose page it is."""
    error = ErrorInfo(type="StepFailedError", message="step 'post' failed: OSError: full (run r)")
    said = headline(run("failed", attempt=1, error=error), [], timeline(*BEGUN), NOW)
    assert said.text == "Failed: step 'post' failed: OSError: full"
