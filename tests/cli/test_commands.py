"""The commands that look, answer, steer and tidy, in one process."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Osp


def request_of(osp: Osp, run_id: str) -> str:
    found = osp("inbox", "--json", "--run", run_id).json["id"]
    assert isinstance(found, str)
    return found


def test_where_there_is_no_database_none_is_made(osp: Osp, folder: Path) -> None:
    """Only commands that start runs make one: exit code 4."""
    said = osp("list")
    assert (said.code, len(said.err.splitlines())) == (4, 1)
    assert json.loads(osp("list", "--json").err)["code"] == "no-database"
    assert not (folder / ".osp").exists()


def test_list_is_one_line_a_run(osp: Osp) -> None:
    """Newest first; columns parted by tabs."""
    for word in ("a", "b"):
        osp("run", "flow.py:echo", word, "--label", f"word={word}")
    rows = [line.split("\t") for line in osp("list").out.splitlines()]
    assert [row[1:3] for row in rows] == [["echo", "completed"]] * 2
    assert [run["labels"]["word"] for run in osp("list", "--json").lines] == ["b", "a"]


def test_list_is_narrowed_by_its_options(osp: Osp, waiting: str) -> None:
    """Status, workflow, label, text, time, number."""
    osp("run", "flow.py:echo", "--label", "env=test")
    for words, workflows in (
        (("--status", "awaiting"), ["publish"]),
        (("--status", "awaiting", "--status", "completed"), ["echo", "publish"]),
        (("--workflow", "echo"), ["echo"]),
        (("--label", "env=test"), ["echo"]),
        (("--text", "draft written"), ["publish"]),
        (("--since", "1h"), ["echo", "publish"]),
        (("--since", "2100-01-01"), []),
        (("--limit", "1"), ["echo"]),
        (("--limit", "1", "--all"), ["echo", "publish"]),
    ):
        assert [run["workflow"] for run in osp("list", "--json", *words).lines] == workflows, words


@pytest.mark.parametrize("words", [("--status", "done"), ("--label", "x"), ("--since", "soon"), ("--limit", "0")])
def test_a_wrong_filter_is_a_usage_error(osp: Osp, waiting: str, words: tuple[str, str]) -> None:
    """Exit code 2, one line."""
    said = osp("list", *words)
    assert (said.code, len(said.err.splitlines())) == (2, 1)


def test_show_tells_all_about_a_run(osp: Osp, waiting: str) -> None:
    """Input, steps and open requests stand beside the run."""
    shown = osp("show", waiting, "--json").json
    assert (shown["id"], shown["input"], shown["status"]) == (waiting, "Tokyo", "awaiting")
    assert [step["name"] for step in shown["steps"]] == ["write_draft", "approval"]
    assert [request["kind"] for request in shown["requests"]] == ["approval"]
    text = osp("show", waiting).out
    assert "awaiting approval" in text
    assert "draft about Tokyo" in text


def test_show_tells_all_about_a_request(osp: Osp, waiting: str) -> None:
    """Prompt and payload, by the request's id."""
    said = osp("show", request_of(osp, waiting))
    assert "Publish 'draft about Tokyo'?" in said.out
    assert "Payload:" in said.out


def test_ids_may_be_shortened(osp: Osp, waiting: str) -> None:
    """As long as they are unambiguous; an ambiguous one is a conflict."""
    assert osp("show", waiting[:12], "--json").json["id"] == waiting
    osp("run", "flow.py:echo")
    assert osp("show", waiting[:2]).code == 5


@pytest.mark.parametrize("command", ["show", "logs", "events", "approve", "pause", "cancel", "retry", "fork", "delete"])
def test_a_run_that_is_not_there_is_exit_code_4(osp: Osp, waiting: str, command: str) -> None:
    """One line; with `--json` an object that names the run."""
    said = osp(command, "nowhere")
    assert (said.code, len(said.err.splitlines())) == (4, 1)
    error = json.loads(osp(command, "nowhere", "--json").err)
    assert (error["code"], error["runId"]) == ("run-not-found", "nowhere")


def test_logs_are_the_lines_of_the_run(osp: Osp, waiting: str) -> None:
    """With their fields."""
    (line,) = osp("logs", waiting, "--json").lines
    assert (line["message"], line["fields"]) == ("drafted", {"topic": "Tokyo"})
    assert "drafted topic=Tokyo" in osp("logs", waiting, "--tail", "1").out


def test_logs_follow_until_the_run_has_ended(osp: Osp) -> None:
    """A run that has ended already ends it at once."""
    run_id = osp("run", "flow.py:echo", "--json").json["id"]
    assert osp("logs", run_id, "-f").code == 0


def test_a_traceback_stands_below_its_line(osp: Osp) -> None:
    """Line by line and indented, without the frames of the engine, and as harmless as all that a run wrote."""
    run_id = osp("run", "flow.py:echo", "boom", "--json", "--quiet").json["id"]
    shown = osp("logs", run_id).out
    first, name, *rest = shown.splitlines()
    assert "step fail_on failed (try 1): ValueError: evil" in first
    assert "traceback" not in first
    assert (name, rest[0]) == ("  traceback:", "    Traceback (most recent call last):")
    assert "flow.py" in rest[1]
    assert "osprotocol" not in shown
    assert not {"\x1b", "\u202e"} & set(shown)


def test_events_are_the_whole_history(osp: Osp, waiting: str) -> None:
    """Numbered from 1 without gaps; `--after` leaves out what is known."""
    events = osp("events", waiting, "--json").lines
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert osp("events", waiting, "--json", "--after", "2").lines == events[2:]
    assert osp("events", waiting, "--json", "--after", str(len(events))).lines == []


def test_events_of_all_runs(osp: Osp, waiting: str) -> None:
    """Without an id, in the order of the database."""
    osp("run", "flow.py:echo")
    events = osp("events", "--json").lines
    assert [event["cursor"] for event in events] == sorted(event["cursor"] for event in events)
    assert len({event["runId"] for event in events}) == 2


def test_the_inbox_holds_what_waits(osp: Osp, waiting: str) -> None:
    """Its columns are parted by tabs; `--kind` and `--closed` narrow it."""
    assert osp("inbox").out.split("\t")[1:3] == ["approval", "publish"]
    assert osp("inbox", "--kind", "input").out == ""
    assert osp("inbox", "--closed").out == ""
    assert osp("inbox", "--kind", "wish").code == 2


def test_the_inbox_of_one_person(osp: Osp) -> None:
    """Only what this person may answer."""
    osp("run", "flow.py:agree", "--no-wait", "-q")
    assert osp("inbox", "--person", "ann", "--json").json["approvers"] == ["ann", "bob"]
    assert osp("inbox", "--person", "eve", "--json").lines == []


def test_an_approval_by_the_id_of_its_run(osp: Osp, waiting: str) -> None:
    """The only open approval is meant."""
    said = osp("approve", waiting, "--reason", "fine", "--by", "ann", "--json")
    assert said.json["status"] == "approved"
    assert said.json["responses"][0] | {"at": None} == {"by": "ann", "approved": True, "reason": "fine", "at": None}


def test_a_rejection_by_the_id_of_its_request(osp: Osp, waiting: str) -> None:
    """Shortened, too."""
    assert osp("reject", request_of(osp, waiting)).out.endswith(" rejected\n")


def test_a_vote_that_is_not_the_last_says_so(osp: Osp) -> None:
    """One of two approvals leaves the request open."""
    run_id = osp("run", "flow.py:agree", "--no-wait", "-q", "--json").json["id"]
    assert "1 of 2" in osp("approve", run_id, "--by", "ann").out
    assert osp("approve", run_id, "--by", "eve").code == 5


def test_a_stale_vote_is_refused(osp: Osp, waiting: str) -> None:
    """`--seen` names what was looked at."""
    request = osp("inbox", "--json").json
    assert osp("approve", waiting, "--seen", "9:none").code == 5
    assert osp("approve", waiting, "--seen", f"{request['revision']}:{request['digest']}").code == 0


def test_a_decided_request_is_a_conflict(osp: Osp, waiting: str) -> None:
    """Exit code 5 for another answer to it."""
    request = request_of(osp, waiting)
    osp("approve", request, "--by", "ann")
    assert osp("reject", request, "--by", "bob").code == 5


def test_an_input_is_checked(osp: Osp) -> None:
    """What does not fit is refused with exit code 2 and stays open."""
    run_id = osp("run", "flow.py:count", "--no-wait", "-q", "--json").json["id"]
    assert osp("respond", run_id, "many").code == 2
    assert osp("respond", run_id).code == 2
    assert osp("respond", run_id, "3").out.endswith(" answered\n")
    assert osp("respond", run_id, "3").code == 4


def test_pause_and_resume(osp: Osp, waiting: str) -> None:
    """Each once; a second time is a conflict."""
    assert osp("pause", waiting, "--reason", "lunch").out == f"{waiting} paused\n"
    assert "lunch" in osp("show", waiting).out
    assert osp("pause", waiting).code == 5
    assert osp("resume", waiting).code == 0
    assert osp("resume", waiting).code == 5


def test_cancel_without_a_worker(osp: Osp, waiting: str) -> None:
    """The cleanup waits for a worker; `--force` does without."""
    assert osp("cancel", waiting, "--json").json["cancelling"] is True
    assert osp("cancel", waiting, "--force").out == f"{waiting} cancelled\n"
    assert osp("cancel", waiting).code == 5


def test_several_runs_by_id(osp: Osp, waiting: str) -> None:
    """Each is tried; the worst exit code counts."""
    said = osp("pause", "nowhere", waiting)
    assert said.code == 4
    assert said.out == f"{waiting} paused\n"


def test_several_runs_by_filter(osp: Osp, waiting: str) -> None:
    """A result for each; ids and a filter together are refused, neither as well."""
    osp("run", "flow.py:count", "--no-wait", "-q")
    results = osp("cancel", "--status", "awaiting", "--force", "--json").lines
    assert [(one["ok"], one["status"]) for one in results] == [(True, "cancelled")] * 2
    assert osp("cancel", waiting, "--status", "awaiting").code == 2
    assert osp("cancel").code == 2


def test_a_failed_run_is_retried_as_a_new_one(osp: Osp) -> None:
    """Its id is printed; it names its origin."""
    failed = osp("run", "flow.py:echo", "boom", "--json").json["id"]
    new = osp("retry", failed).out.strip()
    assert osp("show", new, "--json").json["origin"]["runId"] == failed


def test_a_fork_keeps_what_came_before(osp: Osp, waiting: str) -> None:
    """`--after` names a completed step; what is none is a usage error."""
    new = osp("fork", waiting, "--after", "write_draft", "--json").json
    assert new["origin"] == {"kind": "fork", "runId": waiting, "afterStep": "write_draft"}
    assert osp("fork", waiting, "--after", "nothing").code == 2


def test_delete_removes_runs_that_have_ended(osp: Osp, waiting: str) -> None:
    """One that has not is a conflict."""
    done = osp("run", "flow.py:echo", "--json").json["id"]
    assert osp("delete", done).code == 0
    assert osp("show", done).code == 4
    assert osp("delete", waiting).code == 5


def test_prune_removes_what_ended_long_ago(osp: Osp, waiting: str) -> None:
    """And leaves what has not ended."""
    osp("run", "flow.py:echo")
    assert osp("prune", "--older-than", "1h", "--json").json == {"runs": 0}
    assert osp("prune", "--older-than", "0s", "--json").json == {"runs": 1}
    assert osp("list", "--json").json["id"] == waiting


def test_a_backup_is_a_database(osp: Osp, waiting: str, folder: Path) -> None:
    """A file that is there is never overwritten."""
    assert osp("backup", "copy.db").code == 0
    assert osp("list", "--db", "copy.db", "--json").json["id"] == waiting
    assert osp("backup", "copy.db").code == 5


def test_workflows_need_no_database(osp: Osp, folder: Path) -> None:
    """Names, and the schemas with `--json`."""
    infos = {info["name"]: info for info in osp("workflows", "flow.py", "--json").lines}
    assert infos["order"]["inputSchema"]["title"] == "Order"
    assert "Publish a text about a topic." in osp("workflows", "flow.py:publish").out
    assert not (folder / ".osp").exists()


def test_workers_that_were_here_are_listed(osp: Osp, waiting: str) -> None:
    """One that stopped is not alive, so it cannot be evicted."""
    (worker,) = osp("workers", "--json").lines
    assert (worker["status"], "publish" in worker["workflows"]) == ("stopped", True)
    assert osp("evict", worker["id"]).code == 4


def test_watch_in_a_pipe_refuses_a_wrong_status(osp: Osp, waiting: str) -> None:
    """Before it begins to watch."""
    assert osp("watch", "--status", "done").code == 2


def test_a_ledger_that_does_not_answer_is_told_in_one_line(osp: Osp) -> None:
    """Exit code 6, and which address it is."""
    said = osp("list", "--db", "restate:http://127.0.0.1:1")
    assert (said.code, len(said.err.splitlines())) == (6, 1)
    assert "http://127.0.0.1:1" in said.err


def test_an_address_of_no_ledger_is_refused(osp: Osp) -> None:
    """Exit code 2, and how it is written."""
    said = osp("list", "--db", "restate:somewhere")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "'somewhere' is not usable; write http://HOST:PORT" in said.err


def test_two_places_are_refused(osp: Osp) -> None:
    """--db and --url are one option: none of two is ignored."""
    said = osp("list", "--url", "http://127.0.0.1:1", "--db", "runs.db")
    assert (said.code, said.out) == (2, "")
    assert "--db and --url name one place together" in said.err
    assert osp("--db", "none.db", "list").code == 4
