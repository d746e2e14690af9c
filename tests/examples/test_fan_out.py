"""The fan-out example on real folders: results, retries, partial failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fan_out.py"


def start(folder: Path, *more: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *map(str, more)], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("one\ntwo\n", encoding="utf-8")
    (folder / "inner" / "b.txt").write_text("one\ntwo\n", encoding="utf-8")
    (folder / "c.bin").write_bytes(b"ok \xff")
    os.symlink("nowhere", folder / "gone.txt")
    return folder


def test_this_projects_source_works(tmp_path: Path) -> None:
    """Without arguments it analyses the source of this project."""
    done = start(tmp_path)
    assert done.returncode == 0, done.stderr
    assert " text files, " in done.stdout
    assert "failed" not in done.stdout


def test_the_report_has_totals_and_duplicates(tmp_path: Path, files: Path) -> None:
    """The good files are counted although others failed."""
    done = start(tmp_path, files)
    assert f"{files}: 2 text files, 4 lines, 16 bytes" in done.stdout
    assert "same content: a.txt, inner/b.txt" in done.stdout


def test_a_failure_that_may_pass_is_tried_again(tmp_path: Path, files: Path) -> None:
    """A file that cannot be read is tried three times, then reported."""
    assert "failed after 3 tries: gone.txt: FileNotFoundError" in start(tmp_path, files).stdout


def test_a_failure_that_cannot_pass_is_not_tried_again(tmp_path: Path, files: Path) -> None:
    """A file that is no text is tried once."""
    assert "failed after 1 try: c.bin: TerminalError: is no UTF-8 text (byte 3)" in start(tmp_path, files).stdout


def test_an_empty_folder_gives_an_empty_report(tmp_path: Path) -> None:
    """Nothing to do is no error."""
    (tmp_path / "empty").mkdir()
    assert "0 text files, 0 lines, 0 bytes" in start(tmp_path, tmp_path / "empty").stdout


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    """A folder that does not exist ends with status 1 and one line."""
    done = start(tmp_path, tmp_path / "missing")
    assert done.returncode == 1
    assert "missing is not a folder" in done.stderr
    assert done.stderr.count("\n") == 1
