"""Targets on the command line name workflows."""

from pathlib import Path

import pytest

from osprotocol.cli.exits import CommandError, ExitCode
from osprotocol.cli.target import load_workflow, load_workflows

ONE = "from osprotocol import Context, workflow\n@workflow\nasync def only_one(ctx: Context) -> None: ...\n"


def test_a_file_and_a_name(folder: Path) -> None:
    """``file.py:workflow``."""
    assert load_workflow("flow.py:publish").name == "publish"


def test_a_module_and_a_name(folder: Path) -> None:
    """``module:workflow``, looked for in the working directory too."""
    assert load_workflow("flow:publish").name == "publish"


def test_a_workflow_is_found_by_its_variable_and_by_its_name(folder: Path) -> None:
    """``@workflow(name=...)`` may differ from the function."""
    (folder / "named.py").write_text(ONE.replace("@workflow\n", '@workflow(name="other")\n'), encoding="utf-8")
    assert load_workflow("named.py:only_one").name == load_workflow("named.py:other").name == "other"


def test_a_file_with_one_workflow_needs_no_name(folder: Path) -> None:
    """There is nothing to choose."""
    (folder / "one.py").write_text(ONE, encoding="utf-8")
    assert load_workflow("one.py").name == "only_one"


def test_a_file_with_several_workflows_needs_a_name(folder: Path) -> None:
    """The error lists them."""
    with pytest.raises(CommandError, match=r"publish.*flow\.py:WORKFLOW"):
        load_workflow("flow.py")


def test_a_worker_takes_all_workflows_of_a_file(folder: Path) -> None:
    """Without a name, all of them, sorted."""
    names = [one.name for one in load_workflows(["flow.py"])]
    assert names == sorted(names)
    assert "publish" in names


@pytest.mark.parametrize("target", ["none.py:x", "no_such_module:x", "flow.py:nothing"])
def test_what_is_not_there_is_not_found(folder: Path, target: str) -> None:
    """File, module and workflow alike: exit code 4."""
    with pytest.raises(CommandError) as refused:
        load_workflow(target)
    assert refused.value.exit_code is ExitCode.NOT_FOUND


@pytest.mark.parametrize("target", ["", ":", "flow.py:", ":publish"])
def test_half_a_target_is_a_usage_error(folder: Path, target: str) -> None:
    """Exit code 2."""
    with pytest.raises(CommandError) as refused:
        load_workflow(target)
    assert refused.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("1 / 0", r"ZeroDivisionError: division by zero at .*broken\.py:1"),
        ("def (", r"SyntaxError: .* at .*broken\.py:1"),
        ("import not_installed_here", "ModuleNotFoundError: No module named 'not_installed_here'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_breaks_is_told_with_its_place(folder: Path, code: str, told: str) -> None:
    """One line with file and line of the user's code, whatever it raised."""
    (folder / "broken.py").write_text(code, encoding="utf-8")
    with pytest.raises(CommandError, match=told):
        load_workflow("broken.py:x")


def test_a_file_named_like_a_module_is_that_file(folder: Path) -> None:
    """A user's `json.py` is loaded, and does not become everybody's `json`."""
    import json
    import sys

    (folder / "json.py").write_text(ONE, encoding="utf-8")
    assert load_workflow("json.py").name == "only_one"
    assert sys.modules["json"] is json
