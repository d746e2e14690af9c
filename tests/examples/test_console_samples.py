"""The sample runs that `make serve` shows: one of each kind, made once, from what the checkout holds."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "console_samples.py"


def make(folder: Path, example: Path = EXAMPLE, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(example)],
        env={**os.environ, "CONSOLE_SAMPLES": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def runs_in(folder: Path) -> list[dict[str, Any]]:
    command = [str(Path(sys.executable).with_name("osp")), "list", "--db", str(folder / "runs.db"), "--json", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    make(folder)
    return folder


def test_every_kind_of_state_has_a_sample(samples: Path) -> None:
    """A visitor sees runs that wait for approval, for input and for a resume, and runs that ended in each way."""
    runs = runs_in(samples)
    kinds = {waiting["kind"] for run in runs for waiting in run["waitingOn"]}
    assert {run["status"] for run in runs} == {"in-progress", "awaiting", "completed", "failed", "cancelled"}
    assert kinds == {"approval", "input", "paused"}


def test_the_failed_sample_says_what_to_do(samples: Path) -> None:
    """The invoice that cannot be paid names the wrong account number."""
    (failed,) = [run for run in runs_in(samples) if run["status"] == "failed"]
    assert "its check digits are wrong, ask Weiss Software" in failed["error"]["message"]


def test_a_second_call_makes_no_second_set(samples: Path) -> None:
    """The runs of before stay, and only one migration moves."""
    before = Counter(run["workflow"] for run in runs_in(samples))
    assert "The sample runs of before are in" in make(samples).stdout
    assert Counter(run["workflow"] for run in runs_in(samples)) == before


def test_without_commits_the_other_samples_are_made(tmp_path: Path) -> None:
    """In an unpacked archive the samples that need a git history are left out, and said to be; once, as otherwise."""
    for part in ("examples", "docs"):
        shutil.copytree(EXAMPLE.parents[1] / part, tmp_path / "project" / part)
    example = tmp_path / "project" / "examples" / EXAMPLE.name
    first = make(tmp_path / "samples", example, GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert "has no git commits: left out are the samples that need them (" in first.stdout
    before = Counter(run["workflow"] for run in runs_in(tmp_path / "samples"))
    assert set(before) == {"pay_invoice", "publish_article"}
    assert (
        "The sample runs of before" in make(tmp_path / "samples", example, GIT_CEILING_DIRECTORIES=str(tmp_path)).stdout
    )
    assert Counter(run["workflow"] for run in runs_in(tmp_path / "samples")) == before
