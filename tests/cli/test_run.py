"""`osp run`: input, options, result and exit code."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Osp


def test_the_result_goes_to_standard_output(osp: Osp) -> None:
    """A text as it is; what is told on the way goes to standard error."""
    said = osp("run", "flow.py:echo", "hi")
    assert (said.code, said.out) == (0, "hi\n")
    assert "completed" in said.err


def test_a_result_that_is_no_text_is_json(osp: Osp) -> None:
    """Indented, for people."""
    said = osp("run", "flow.py:order", "item=x", "count=2", "--quiet")
    assert json.loads(said.out) == {"item": "x", "count": 2, "express": False}
    assert said.err == ""


def test_json_is_the_run_with_its_result(osp: Osp) -> None:
    """One object: the wire form of the run, and `result`."""
    said = osp("run", "flow.py:echo", "hi", "--json", "--label", "env=test")
    assert said.json["status"] == "completed"
    assert said.json["result"] == "hi"
    assert said.json["labels"] == {"env": "test"}
    assert said.err == ""


def test_the_options_work_before_the_command_too(osp: Osp, folder: Path) -> None:
    """`--db` and `--json` may stand on either side."""
    assert osp("--json", "--db", "other.db", "run", "flow.py:echo").json["result"] == "hello"
    assert (folder / "other.db").exists()
    assert osp("list", "--db", "other.db", "--json").json["workflow"] == "echo"


def test_the_variable_names_the_database(osp: Osp, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`OSP_URL`, where `--db` is not given."""
    monkeypatch.setenv("OSP_URL", "sqlite:named.db")
    osp("run", "flow.py:echo")
    assert (folder / "named.db").exists()


def test_a_failed_run_is_exit_code_1(osp: Osp) -> None:
    """One line on standard error, with the escape sequences of its message made harmless."""
    said = osp("run", "flow.py:echo", "boom", "-q")
    assert (said.code, said.out) == (1, "")
    assert len(said.err.splitlines()) == 1
    assert "evil \\x1b[31m text \\u202e here" in said.err


def test_a_failed_run_as_json_is_the_run(osp: Osp) -> None:
    """The error is in the object."""
    said = osp("run", "flow.py:echo", "boom", "--json")
    assert (said.code, said.json["status"], said.json["result"]) == (1, "failed", None)
    assert said.json["error"]["message"].startswith("step 'fail_on' failed")


def test_a_run_that_is_cancelled_is_exit_code_3(osp: Osp) -> None:
    """Here by its timeout."""
    assert osp("run", "flow.py:long", "-q", "--timeout", "100ms", "--on-timeout", "cancel").code == 3


def test_a_timeout_fails_the_run(osp: Osp) -> None:
    """That is the default of `--on-timeout`."""
    said = osp("run", "flow.py:long", "-q", "--timeout", "100ms")
    assert said.code == 1
    assert "timed out" in said.err


def test_retries_are_tried(osp: Osp) -> None:
    """`--retry 2:1ms` makes three attempts."""
    assert osp("run", "flow.py:echo", "boom", "--json", "--retry", "2:1ms").json["attempt"] == 3


def test_a_default_input_needs_no_word(osp: Osp) -> None:
    """`osp run` takes the default of the workflow's parameter."""
    assert osp("run", "flow.py:echo").out == "hello\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "flow.py:publish"), "is missing"),
        (("run", "flow.py:order"), r"item=... count=... [express=...]"),
        (("run", "flow.py:order", "item=x", "count=two"), "$.count"),
        (("run", "flow.py:order", "item=x"), "$.count"),
        (("run", "flow.py:order", "[1]"), "$"),
        (("run", "flow.py:long", "x"), "takes no input"),
        (("run", "flow.py:echo", "--timeout", "soon"), "--timeout"),
        (("run", "flow.py:echo", "--timeout", "0"), "Timeout.ms"),
        (("run", "flow.py:echo", "--on-timeout", "panic"), "--on-timeout"),
        (("run", "flow.py:echo", "--retry", "often"), "--retry"),
        (("run", "flow.py:echo", "--label", "x"), "--label"),
        (("run", "flow.py:echo", "--nonsense"), "--nonsense"),
        (("run",), "TARGET"),
    ],
)
def test_a_wrong_command_line_stores_nothing(osp: Osp, folder: Path, words: tuple[str, ...], told: str) -> None:
    """Exit code 2, one line that names what is wrong, and no database."""
    said = osp(*words)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert told in said.err
    assert not (folder / ".osp").exists()


def test_a_wrong_command_line_as_json(osp: Osp) -> None:
    """The error is an object with code and message."""
    error = json.loads(osp("run", "flow.py:order", "item=x", "count=two", "--json").err)
    assert error["code"] == "invalid-value"
    assert error["problems"][0]["path"] == "$.count"


def test_the_same_key_is_the_same_run(osp: Osp) -> None:
    """Once completed, its result is given again."""
    first = osp("run", "flow.py:echo", "a", "--key", "k", "--json").json
    assert osp("run", "flow.py:echo", "a", "--key", "k", "--json").json == first


def test_the_same_key_with_another_input_is_a_conflict(osp: Osp) -> None:
    """Exit code 5."""
    osp("run", "flow.py:echo", "a", "--key", "k")
    said = osp("run", "flow.py:echo", "b", "--key", "k")
    assert (said.code, len(said.err.splitlines())) == (5, 1)


def test_detached_a_run_is_only_stored(osp: Osp) -> None:
    """Its id is the only thing on standard output, and nothing is executed."""
    said = osp("run", "flow.py:echo", "--detach")
    assert osp("show", said.out.strip(), "--json").json["status"] == "pending"
    assert "osp worker" in said.err


def test_without_a_person_the_command_says_how_to_answer(osp: Osp) -> None:
    """`--no-wait` leaves the run that waits: exit code 7."""
    said = osp("run", "flow.py:publish", "Tokyo", "--no-wait", "--db", "x.db")
    run_id = osp("list", "--db", "x.db", "--json").json["id"]
    assert said.code == 7
    assert f"osp --db x.db approve {run_id}-" in said.err
