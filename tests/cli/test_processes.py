"""`osp` as several processes: workers, signals, kills, pipes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.cli.terminal import COMMAND, PATIENCE_S, InBackground, environment, osp_process
from tests.freezing import freeze


def shown(folder: Path, run_id: str) -> Any:
    return json.loads(osp_process(folder, "show", run_id, "--json").stdout)


def wait_until(folder: Path, run_id: str, wanted: Any) -> Any:
    """Poll another process's run until it is as wanted."""
    end, run = time.monotonic() + PATIENCE_S, None
    while time.monotonic() < end:
        run = shown(folder, run_id)
        if wanted(run):
            return run
    raise AssertionError(run)


def detached(folder: Path, *words: str) -> str:
    return osp_process(folder, "run", *words, "--detach").stdout.strip()


def test_a_worker_works_until_it_is_told_to_stop(folder: Path) -> None:
    """SIGTERM parks what runs and ends it with success."""
    quick, slow = detached(folder, "flow.py:echo"), detached(folder, "flow.py:long")
    with InBackground(folder, "worker", "flow.py") as worker:
        worker.expect("working on")
        assert wait_until(folder, quick, lambda run: run["status"] == "completed")["result"] == "hello"
        wait_until(folder, slow, lambda run: run["progress"]["current"] > 2)
        worker.signal(signal.SIGTERM)
        assert worker.end()[0] == 0
    left = shown(folder, slow)
    assert (left["status"], left["cancelling"]) == ("in-progress", False)


def test_a_killed_workers_runs_go_on_elsewhere(folder: Path) -> None:
    """kill -9, then another worker: no completed step runs again."""
    run_id = detached(folder, "flow.py:long")
    with InBackground(folder, "worker", "flow.py:long") as first:
        before = wait_until(folder, run_id, lambda run: run["progress"]["current"] > 2)["progress"]["current"]
        first.signal(signal.SIGKILL)
        first.end()
    with InBackground(folder, "worker", "flow.py:long"):
        after = wait_until(folder, run_id, lambda run: run["progress"]["current"] > before + 2)
    steps = [step["key"] for step in after["steps"]]
    assert len(steps) == len(set(steps))
    assert {step["attempts"] for step in after["steps"]} == {1}


def test_a_killed_run_goes_on_with_the_same_key(folder: Path) -> None:
    """`osp run --key`, kill -9, the same command again: one run, its answer is enough."""
    words = ("run", "flow.py:publish", "Tokyo", "--key", "tokyo")
    with InBackground(folder, *words) as first:
        first.expect("osp approve")
        first.signal(signal.SIGKILL)
        first.end()
    Path(folder, "answers").write_text("approve\n1.0\n", encoding="utf-8")
    said = osp_process(folder, *words, "--answers", "answers")
    assert (said.returncode, said.stdout) == (0, "1.0: draft about Tokyo\n")
    assert len(osp_process(folder, "list").stdout.splitlines()) == 1


def test_a_run_without_a_terminal_waits_for_an_answer_from_elsewhere(folder: Path) -> None:
    """It says the command; once that is given, the run goes on."""
    with InBackground(folder, "run", "flow.py:count", "--json") as running:
        line = running.expect("osp respond")
        request = line.partition("osp respond ")[2].split()[0]
        assert osp_process(folder, "respond", request, "5").returncode == 0
        code, out, _ = running.end()
    assert (code, json.loads(out)["result"]) == (0, 5)


def test_an_interrupted_run_without_a_terminal_is_left(folder: Path) -> None:
    """There is nobody to ask: SIGINT leaves it and says how it goes on."""
    with InBackground(folder, "run", "flow.py:long") as running:
        running.expect("item 1")
        running.signal(signal.SIGINT)
        running.expect("osp worker flow.py:long")
        assert running.end()[0] == 130
    run = json.loads(osp_process(folder, "list", "--json").stdout)
    assert (run["status"], run["cancelling"]) == ("in-progress", False)


def test_a_terminated_run_is_left(folder: Path) -> None:
    """SIGTERM asks nobody."""
    with InBackground(folder, "run", "flow.py:long") as running:
        running.expect("item 1")
        running.signal(signal.SIGTERM)
        assert running.end()[0] == 143


def test_a_stopped_worker_is_evicted(folder: Path) -> None:
    """Its runs go to another one although its process is still there."""
    run_id = detached(folder, "flow.py:long")
    with InBackground(folder, "worker", "flow.py:long") as hanging:
        wait_until(folder, run_id, lambda run: run["progress"]["current"] > 1)
        freeze(hanging.process.pid, folder / ".osp" / "runs.db")
        alive = [json.loads(line) for line in osp_process(folder, "workers", "--json").stdout.splitlines()]
        (worker,) = [one for one in alive if one["status"] == "alive"]
        said = osp_process(folder, "evict", worker["id"], "--json")
        assert json.loads(said.stdout) == {"worker": worker["id"], "runs": 1}
        with InBackground(folder, "worker", "flow.py:long"):
            before = shown(folder, run_id)["progress"]["current"]
            wait_until(folder, run_id, lambda run: run["progress"]["current"] > before + 2)
            hanging.signal(signal.SIGKILL)


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    """`osp ... | head -1` says nothing on standard error."""
    for number in range(3):
        detached(folder, "flow.py:echo", f"{number}")
    pipe = subprocess.Popen(
        [*COMMAND, "events", "-f"], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    pipe.stdout.readline()
    pipe.stdout.close()
    detached(folder, "flow.py:echo", "one more")
    said = pipe.stderr.read()
    pipe.stderr.close()
    assert (pipe.wait(PATIENCE_S), said) == (141, b"")


def test_events_follow_what_other_processes_do(folder: Path) -> None:
    """`events -f` of a run ends when it is final."""
    run_id = detached(folder, "flow.py:echo")
    with InBackground(folder, "events", run_id, "-f", "--json") as following, InBackground(folder, "worker", "flow.py"):
        code, out, _ = following.end()
    assert code == 0
    assert json.loads(out.splitlines()[-1])["type"] == "run.completed"


def test_logs_follow_what_other_processes_do(folder: Path) -> None:
    """`logs -f` shows what is logged after it was started."""
    run_id = detached(folder, "flow.py:publish", "Tokyo")
    with InBackground(folder, "logs", run_id, "-f") as following:
        assert osp_process(folder, "run", "flow.py:echo", "--no-wait").returncode == 0
        with InBackground(folder, "worker", "flow.py"):
            wait_until(folder, run_id, lambda run: run["status"] == "awaiting")
            osp_process(folder, "cancel", run_id, "--force")
            code, out, _ = following.end()
    assert code == 0
    assert "drafted topic=Tokyo" in out


def test_watch_in_a_pipe_is_a_line_for_each_change(folder: Path) -> None:
    """As JSON, the run."""
    detached(folder, "flow.py:echo")
    with InBackground(folder, "watch", "--json") as watching:
        assert watching.process.stdout is not None
        assert json.loads(watching.process.stdout.readline())["status"] == "pending"
        with InBackground(folder, "worker", "flow.py"):
            following = json.loads(watching.process.stdout.readline())
        watching.signal(signal.SIGINT)
        assert watching.end()[0] == 0
    assert following["status"] in ("in-progress", "completed")


def test_without_typer_one_line_says_what_to_install(tmp_path: Path) -> None:
    """And the exit code is 2."""
    (tmp_path / "typer.py").write_text("raise ImportError('not here')", encoding="utf-8")
    said = subprocess.run(
        [*COMMAND, "list"], cwd=tmp_path, env={**environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stdout, len(said.stderr.splitlines())) == (2, "", 1)
    assert "osprotocol[cli]" in said.stderr


def test_importing_the_terminal_imports_nothing_heavy() -> None:
    """`import osprotocol.cli` needs neither Typer nor Rich nor SQLite, and the commands load without Rich."""
    code = (
        "import sys, osprotocol.cli; assert not {'typer', 'rich', 'apsw'} & set(sys.modules);"
        "import osprotocol.cli.app; assert not {'rich.console', 'rich.live', 'apsw'} & set(sys.modules), sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_following_ends_with_ctrl_c(folder: Path) -> None:
    """Exit code 130, nothing on standard error."""
    run_id = detached(folder, "flow.py:echo")
    with InBackground(folder, "events", run_id, "-f", "--json") as following:
        assert following.process.stdout is not None
        assert json.loads(following.process.stdout.readline())["type"] == "run.started"
        following.signal(signal.SIGINT)
        code, _, err = following.end()
    assert (code, err) == (130, "")


def test_an_argument_that_is_no_text_is_a_usage_error(folder: Path) -> None:
    """Bytes that are not UTF-8 never reach the database."""
    said = osp_process(folder, "run", "flow.py:echo", os.fsdecode(b"\xff"))
    assert (said.returncode, len(said.stderr.splitlines())) == (2, 1)


def test_a_closed_standard_error_leaves_standard_output_clean(folder: Path) -> None:
    """What is for people does not get among the data."""
    words = ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "run", "flow.py:echo"]
    said = subprocess.run(
        words, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False
    )
    assert (said.returncode, said.stdout) == (0, "hello\n")


def test_an_unexpected_error_is_one_line(folder: Path) -> None:
    """No traceback, unless the variable asks for it."""
    code = (
        "import osprotocol.cli.working as w, osprotocol.cli as c\n"
        "def broken(*_): raise RuntimeError('two\\nlines')\n"
        "w.load_workflows = broken\nc.main(['workflows', 'x'])"
    )
    words = [sys.executable, "-c", code]
    said = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert (said.returncode, len(said.stderr.splitlines())) == (6, 1)
    traced = {**environment(), "OSP_TRACEBACK": "1"}
    said = subprocess.run(words, cwd=folder, env=traced, capture_output=True, text=True, check=False)
    assert "Traceback" in said.stderr


def test_help_is_there_for_every_command(folder: Path) -> None:
    """`osp` alone shows it too, with exit code 2."""
    assert osp_process(folder, "--help").returncode == 0
    assert osp_process(folder).returncode == 2
    assert "Usage: osp run" in osp_process(folder, "run", "--help").stdout
    assert osp_process(folder, "--version").stdout.startswith("osprotocol ")


def test_ctrl_c_while_it_imports_leaves_no_traceback(folder: Path) -> None:
    """Exit code 130 and not a word."""
    code = (
        "import sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'osprotocol.cli.app': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "from osprotocol.cli import main\n"
        "main(['list'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_run_tells_what_else_it_goes_on_with(folder: Path) -> None:
    """Older unfinished runs of the file, which it takes over as the only worker."""
    older = detached(folder, "flow.py:long")
    done = osp_process(folder, "run", "flow.py:echo")
    assert done.returncode == 0
    assert "also going on with 1 unfinished run of this file" in done.stderr
    assert "also going on" not in osp_process(folder, "run", "flow.py:echo", "--quiet").stderr
    assert shown(folder, older)["status"] == "in-progress"
