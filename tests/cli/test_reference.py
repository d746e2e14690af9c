"""`docs/cli.md` tells what `osp` does now."""

import re
from pathlib import Path

from osprotocol.cli.exits import ExitCode
from osprotocol.cli.reference import updated
from tests.cli.conftest import Osp

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def test_the_reference_is_current() -> None:
    """``python -m osprotocol.cli.reference docs/cli.md`` mends it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == updated(text)


def test_every_exit_code_has_a_meaning() -> None:
    """No code without a sentence."""
    assert all(code.meaning.endswith(".") for code in ExitCode)


def test_the_first_example_runs_as_written(osp: Osp, folder: Path) -> None:
    """With the answers of each of the three files that the document shows."""
    blocks = re.findall(r"```(python|text|json)\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "written.py").write_text(blocks[0][1], encoding="utf-8")
    answers = [text for kind, text in blocks[1:] if kind in ("text", "json")]
    assert len(answers) == 3
    for text in answers:
        (folder / "answers").write_text(text, encoding="utf-8")
        said = osp("run", "written.py:publish", "Tokyo", "--answers", "answers", "--no-wait", "-q")
        assert (said.code, said.out) == (0, "Travel: A few words about Tokyo\n")
