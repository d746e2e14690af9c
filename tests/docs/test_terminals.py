"""The demonstrations in two terminals: a worker in one, the answers from the other, as the documents show them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs.test_blocks import Block, all_blocks

WAIT_S = 60.0
WORKERS = [block for block in all_blocks() if block.mark == "terminal 1"]
ANSWERS = [block for block in all_blocks() if block.mark == "terminal 2"]


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(command: str, expected: str, folder: Path) -> None:
    """A person looks again until it is there."""
    deadline = time.monotonic() + WAIT_S
    while expected not in shell(command, folder):
        assert time.monotonic() < deadline, f"{command} never showed {expected}"


@pytest.mark.parametrize(("first", "second"), list(zip(WORKERS, ANSWERS, strict=True)), ids=str)
def test_a_worker_in_one_terminal_is_answered_from_another(first: Block, second: Block, tmp_path: Path) -> None:
    """Typed line by line, the commands of both terminals lead to a completed run."""
    for name, code in second.files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    worker = subprocess.Popen(
        ["bash", "-c", f"exec {first.code}"], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        lines = second.code.splitlines()
        assert lines[0].startswith("RUN=$(")
        run_id = shell(f"{lines[0]} && echo $RUN", tmp_path).strip()
        for line in lines[1:]:
            if line.startswith(("osp approve", "osp respond")):
                kind = "approval" if "approve" in line else "input"
                wait_for("osp inbox", kind, tmp_path)
            shell(f"RUN={run_id}; {line}", tmp_path)
        wait_for(f"osp show {run_id}", "Status:       completed", tmp_path)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(WAIT_S)
