"""A folder with `flow.py`, and `osp` in this process."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from osprotocol.cli import main
from osprotocol.workflow import known_workflows


@dataclass(frozen=True)
class Said:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Osp = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project with `flow.py`, the working directory."""
    shutil.copy(Path(__file__).with_name("flow.py"), tmp_path / "flow.py")
    monkeypatch.chdir(tmp_path)
    modules, path, known = set(sys.modules), list(sys.path), dict(known_workflows())
    known_workflows().clear()
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path[:] = path
    known_workflows().clear()
    known_workflows().update(known)


@pytest.fixture
def osp(folder: Path, capsys: pytest.CaptureFixture[str]) -> Osp:
    """Runs a command line in this process."""

    def run(*words: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, out, err)

    return run


@pytest.fixture
def waiting(osp: Osp) -> str:
    """A run of `publish` that waits for its approval, with nobody working on it; its id."""
    said = osp("run", "flow.py:publish", "Tokyo", "--no-wait", "--quiet", "--json")
    assert said.code == 7, said
    run_id = said.json["id"]
    assert isinstance(run_id, str)
    return run_id
