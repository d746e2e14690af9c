"""The release notes example, as a user starts it: without a terminal, in one, and on repositories that are none."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WAIT_S = 60.0


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "garden"
    folder.mkdir()
    git(folder, "init", "-q")
    for number, subject in enumerate(("Lay the paths", "Add a pond", "Fix the *gate*", "docs: name the trees")):
        (folder / f"{number}.txt").write_text(f"{number}\n", encoding="utf-8")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", subject)
        if number == 1:
            git(folder, "tag", "v1.2.0")
    return folder


def arguments(*more: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / "release_notes.py"), *map(str, more)]


def start(folder: Path, *more: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        arguments(*more), cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_without_a_terminal_the_answers_come_from_the_file(tmp_path: Path, repository: Path) -> None:
    """Without a terminal it says where the answers come from and writes the notes."""
    done = start(tmp_path, repository, "--folder", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "No terminal here: the answers come from" in done.stdout
    notes = (tmp_path / "out" / "garden-0.1.0.md").read_text(encoding="utf-8")
    assert notes.startswith("# garden 0.1.0\n")


def test_the_notes_group_the_commits_since_the_last_tag(tmp_path: Path, repository: Path) -> None:
    """Only what came after the last tag is in the notes, grouped, with Markdown in subjects made harmless."""
    start(tmp_path, repository, "--folder", tmp_path / "out")
    notes = (tmp_path / "out" / "garden-0.1.0.md").read_text(encoding="utf-8")
    assert "2 commits by 1 person since v1.2.0: 2 file changes, 2 lines added, 0 removed." in notes
    assert "## Fixed\n\n- Fix the \\*gate\\* (" in notes
    assert "## Documentation\n\n- docs: name the trees (" in notes
    assert "pond" not in notes


def test_a_date_chooses_the_commits(tmp_path: Path, repository: Path) -> None:
    """A date instead of a tag reaches behind the tag."""
    done = start(tmp_path, repository, "--since", "2020-01-01", "--folder", tmp_path / "out")
    assert "4 commits since 2020-01-01" in done.stdout


def test_this_repository_works_without_arguments(tmp_path: Path) -> None:
    """Started without arguments it takes the history of the checkout that it is in."""
    if not (EXAMPLES.parent / ".git").exists():
        pytest.skip("this is no git checkout")
    done = start(tmp_path, "--folder", tmp_path / "out")
    assert done.returncode == 0 or "has no commits since" in done.stderr


def test_it_works_when_standard_input_is_closed(tmp_path: Path, repository: Path) -> None:
    """A process that was started without any standard input takes the answers from the file too."""
    command = 'exec "$@" <&-'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *arguments(repository, "--folder", tmp_path / "out")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("make", "more", "complaint"),
    [
        ("nothing", (), "is not a folder"),
        ("folder", (), "is not a git repository"),
        ("empty", (), "has no commits yet"),
        ("garden", ("--since=HEAD",), "has no commits since HEAD; give an earlier tag or date with --since"),
        ("garden", ("--since=--all",), "'--all' is neither a tag of"),
        ("garden", ("--since=yesteryear",), "'yesteryear' is neither a tag of"),
    ],
)
def test_what_cannot_work_is_one_line(
    tmp_path: Path, repository: Path, make: str, more: tuple[str, ...], complaint: str
) -> None:
    """What git cannot give ends with status 1 and one line that says why."""
    folder = tmp_path / make
    if make != "nothing":
        folder.mkdir(exist_ok=True)
    if make == "empty":
        git(folder, "init", "-q")
    done = start(tmp_path, folder, *more)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_rejection_writes_nothing(tmp_path: Path, repository: Path) -> None:
    """Rejected notes are not written, and the reason is told."""
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"approval": {"approved": False, "reason": "too long"}}), encoding="utf-8")
    done = start(tmp_path, repository, "--answers", answers, "--folder", tmp_path / "out")
    assert done.stderr == "release_notes: not published: too long\n"
    assert not (tmp_path / "out").exists()


def test_a_wrong_answer_leaves_the_run_to_be_gone_on_with(tmp_path: Path, repository: Path) -> None:
    """An answer that is no version is refused; the next start goes on with the same run at that question."""
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"approval": {"approved": True}, "input": "banana"}), encoding="utf-8")
    refused = start(tmp_path, repository, "--answers", answers, "--folder", tmp_path / "out")
    assert refused.returncode == 1
    assert "the answer does not fit" in refused.stderr
    done = start(tmp_path, repository, "--folder", tmp_path / "out")
    assert "Going on with run" in done.stdout
    assert "Publish these notes" not in done.stdout
    assert (tmp_path / "out" / "garden-0.1.0.md").exists()


class Terminal:
    """A program in a terminal of its own, and a person who reads and types."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        self.seen = ""

    def read_until(self, text: str) -> str:
        """What the terminal has shown when `text` appears after what was read before."""
        read, deadline = "", time.monotonic() + WAIT_S
        while text not in read:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear in {read!r}"
            assert time.monotonic() < deadline, f"{text!r} did not appear in {read!r}"
            try:
                data = os.read(self._ours, 65_536)
            except OSError:
                data = b""
            assert data, f"the program ended without {text!r}: {read!r}"
            read += data.decode("utf-8", "replace")
        self.seen += read
        return read

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def end(self) -> int:
        code = self.process.wait(WAIT_S)
        os.close(self._ours)
        return code


def test_in_a_terminal_it_asks_there(tmp_path: Path, repository: Path) -> None:
    """In a terminal the draft is shown and the questions are asked; an invalid version is asked for again."""
    terminal = Terminal(tmp_path, arguments(repository, "--folder", tmp_path / "out"))
    terminal.read_until("Publish these notes of 2 commits? [y/n]")
    assert "## Fixed" in terminal.seen
    terminal.type("perhaps")
    terminal.read_until("please answer y or n")
    terminal.type("y")
    terminal.read_until("Which version is it?")
    terminal.type("banana")
    terminal.read_until("must match")
    terminal.type("v1.3.0")
    terminal.read_until("garden-v1.3.0.md")
    assert terminal.end() == 0
    assert (tmp_path / "out" / "garden-v1.3.0.md").exists()


def test_one_commit_and_no_tag_are_told_as_such(tmp_path: Path) -> None:
    """One commit is no "commits", and where there is no tag the question does not name one."""
    folder = tmp_path / "seed"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-qm", "Plant it", "--allow-empty")
    done = start(tmp_path, folder, "--folder", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Asked: Publish these notes of 1 commit?" in done.stdout
    assert "Asked: Which version is it? (last tag: none yet)" in done.stdout
    assert "1 commits" not in done.stdout + (tmp_path / "out" / "seed-0.1.0.md").read_text(encoding="utf-8")


def test_leaving_the_terminal_loses_nothing(tmp_path: Path, repository: Path) -> None:
    """Ctrl-D at a question leaves the run waiting; the next start goes on with it."""
    terminal = Terminal(tmp_path, arguments(repository, "--folder", tmp_path / "out"))
    terminal.read_until("[y/n]")
    os.write(terminal._ours, b"\x04")
    terminal.read_until("start this again to go on with it")
    assert terminal.end() == 1
    assert "Going on with run" in start(tmp_path, repository, "--folder", tmp_path / "out").stdout


def test_ctrl_c_loses_nothing(tmp_path: Path, repository: Path) -> None:
    """An interrupt at a question leaves the run waiting; the next start goes on with it."""
    terminal = Terminal(tmp_path, arguments(repository, "--folder", tmp_path / "out"))
    terminal.read_until("[y/n]")
    terminal.process.send_signal(2)
    terminal.end()
    assert "Going on with run" in start(tmp_path, repository, "--folder", tmp_path / "out").stdout
