"""The example that survives kill -9, killed for real."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "survives_kill.py"
FILES = 40
WAIT_S = 60.0


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:02}.txt").write_text(f"{number}\n", encoding="utf-8")
    return folder


def arguments(tmp_path: Path, files: Path) -> list[str]:
    ledger = str(tmp_path / "ledger.txt")
    return [sys.executable, str(EXAMPLE), str(files), "--ledger", ledger, "--pause-ms", "20"]


def lines_of(ledger: Path) -> list[str]:
    return ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []


def kill_after(tmp_path: Path, files: Path, lines: int) -> None:
    """Start it and kill it as soon as the ledger has that many lines."""
    process = subprocess.Popen(arguments(tmp_path, files), cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + WAIT_S
    while len(lines_of(tmp_path / "ledger.txt")) < lines:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(WAIT_S)


def test_killed_twice_it_does_everything_once(tmp_path: Path, files: Path) -> None:
    """After two kills in the middle, every file is in the ledger, none twice, by the same run."""
    kill_after(tmp_path, files, 7)
    kill_after(tmp_path, files, 20)
    done = subprocess.run(arguments(tmp_path, files), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Going on with run" in done.stdout
    names = [line.split()[1] for line in lines_of(tmp_path / "ledger.txt")]
    assert names == [f"{number:02}.txt" for number in range(FILES)]
    assert f"{FILES} files, {FILES} lines in" in done.stdout


def test_a_finished_run_is_not_started_again(tmp_path: Path, files: Path) -> None:
    """The same key finds the finished run; nothing is done."""
    subprocess.run(arguments(tmp_path, files), cwd=tmp_path, capture_output=True, check=True)
    done = subprocess.run(arguments(tmp_path, files), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "was finished before" in done.stdout
    assert len(lines_of(tmp_path / "ledger.txt")) == FILES
