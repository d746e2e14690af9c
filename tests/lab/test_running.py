"""The lab as somebody at a terminal meets it: wrong arguments, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _lab(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.lab", *arguments, "--out", str(folder / "report")]
    told = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.Popen(command, cwd=ROOT, env=told, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("wrong", ["--lanes=0", "--scale=0", "--minutes=0", "--first=-1", "--only"])
def test_arguments_with_which_nothing_would_be_done_are_refused(tmp_path: Path, wrong: str) -> None:
    """Nothing is said to have held that was not tried."""
    lab = _lab(tmp_path, wrong)
    assert "above 0" in lab.communicate(timeout=60)[1]
    assert lab.returncode == 2
    assert not (tmp_path / "report").exists()


def test_an_interrupted_lab_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C ends the shares that run, begins no other, and removes what was for a time."""
    lab = _lab(tmp_path, "--only", "simulation", "--lanes", "1", "--scale", "0.02")
    ends_at = time.monotonic() + 30
    while not list(tmp_path.glob("osp-lab-*/*.log")):
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(lab.pid, signal.SIGINT)
    assert "interrupted" in lab.communicate(timeout=60)[1]
    assert lab.returncode == 1
    assert list(tmp_path.glob("osp-lab-*")) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(lab.pid, 0)
