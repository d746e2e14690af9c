"""Every block of the documents that can run does run, and prints what the documents say.

The marks are HTML comments on the line above a block; CONTRIBUTING.md explains them.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("run_block.py")
DOCUMENTS = [*sorted(ROOT.glob("[A-Z]*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARKS = re.compile(r"continues|not run: .+|prints|run|file: [\w.]+|terminal [12]|generated: .+")
# What a block finds below `src`: a part, since one of them takes its time over every file.
SOURCES = "src/osprotocol/server"
LIMIT_S = 120


@dataclass
class Block:
    """A fenced block: its code with what it continues, and what it has to print."""

    document: str
    line: int
    language: str
    mark: str
    code: str
    prints: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a document, those that only say what another prints joined to it."""
    text = path.read_text(encoding="utf-8")
    found: list[Block] = []
    files: dict[str, str] = {}
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        block = Block(path.relative_to(ROOT).as_posix(), line, match["language"], match["mark"] or "", match["code"])
        if block.mark == "prints":
            found[-1].prints = block.code.splitlines()
            continue
        if block.mark == "continues":
            before = next(earlier for earlier in reversed(found) if earlier.language == block.language)
            block.code = before.code + "\n" + block.code
        if block.mark.startswith("file: "):
            files[block.mark.removeprefix("file: ")] = block.code
        block.files = dict(files)
        found.append(block)
    return found


def all_blocks() -> Iterator[Block]:
    for path in DOCUMENTS:
        if path.exists():
            yield from blocks_of(path)


PYTHON = [block for block in all_blocks() if block.language == "python"]
SHELL = [block for block in all_blocks() if block.language == "sh" and block.mark == "run"]


@pytest.mark.parametrize("block", [block for block in PYTHON if not block.mark.startswith("not run")], ids=str)
def test_a_python_block_runs_and_prints_what_is_shown(block: Block, tmp_path: Path) -> None:
    """A block runs in an empty folder without an error, and its output is what the document shows."""
    script = tmp_path / "block.py"
    script.write_text(block.code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(RUNNER), str(script)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_output(done.stdout, block)


@pytest.mark.parametrize("block", [block for block in PYTHON if block.mark.startswith("not run")] or [None], ids=str)
def test_a_python_block_that_cannot_run_is_at_least_python(block: Block | None) -> None:
    """A block that is marked as not to be run has no syntax error."""
    if block is not None:
        compile(block.code, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_shell_block_works_when_pasted(block: Block, tmp_path: Path) -> None:
    """A shell block that is marked to be run works in a checkout, with the files that the document told to write."""
    for name in ("examples", SOURCES):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "out", ".osp"))
    binaries = Path(sys.executable).parent
    os.symlink(binaries.parent, tmp_path / ".venv")
    for name, code in block.files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", block.code],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_output(done.stdout, block)


def check_output(output: str, block: Block) -> None:
    """Compare line by line; `...` stands for anything in a line, and alone in a line for any number of lines."""
    if not block.prints:
        return
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r" *\n"
        for line in block.prints
    )
    assert re.fullmatch(pattern, output), f"{block} shows\n{chr(10).join(block.prints)}\nbut printed\n{output}"


def test_every_mark_is_known() -> None:
    """A misspelled mark would silently change what is tested."""
    unknown = [f"{block}: {block.mark}" for block in all_blocks() if block.mark and not MARKS.fullmatch(block.mark)]
    assert not unknown


def test_every_link_to_a_file_leads_somewhere() -> None:
    """Links between the documents and into the code point to files that exist."""
    dead = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", text):
            if not (path.parent / target).exists():
                dead.append(f"{path.name}: {target}")
    assert not dead
