"""Release notes for a git repository: collected, drafted, approved by a person, written.

    python examples/release_notes.py                          this repository, since its last tag
    python examples/release_notes.py ../other --since v1.2.0
    python examples/release_notes.py --since 2026-11-01

In a terminal the questions are asked in the terminal; anybody may also answer them from a second one with `osp`.
Without a terminal the answers come from examples/release_notes_answers.json. Stop it at any time, even with kill -9:
started again it goes on with the same run, and what was done is not done again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from osprotocol import Context, Execution, Request, RunOptions, RunStatus, TerminalError, connect, step, workflow
from osprotocol.errors import InvalidAnswerError, OSProtocolError, RequestError, RunCancelledError, RunFailedError

HERE = Path(__file__).resolve().parent
ANSWERS = HERE / "release_notes_answers.json"
MOST_COMMITS = 1_000
COMMITS_AT_ONCE = 25
MOST_CHARACTERS = 200
LABEL_CHARACTERS = 256

VERSION: TypeAdapter[str] = TypeAdapter(
    Annotated[str, StringConstraints(pattern=r"^v?[0-9]+\.[0-9]+\.[0-9]+([.+-][0-9A-Za-z.+-]+)?$", max_length=64)]
)


class GitError(TerminalError):
    """Git cannot give what was asked for; another try gives the same."""


@dataclass
class ReleaseInput:
    repository: str
    since: str | None = None
    folder: str = str(HERE / "out")


@dataclass
class Commit:
    hash: str
    author: str
    day: str
    subject: str


@dataclass
class History:
    since: str
    last_tag: str | None
    commits: list[Commit]
    older: int


@dataclass
class Size:
    files: int = 0
    added: int = 0
    removed: int = 0


@dataclass
class ReleaseNotes:
    version: str
    commits: int
    path: str


# ---------------------------------------------------------------------------------------------------- steps


def git(repository: str, *arguments: str) -> str:
    """What git prints; its complaint as a `GitError` of one line."""
    command = ["git", "-C", repository, "-c", "log.showSignature=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise GitError(f"{repository}: git {arguments[0]} failed: {lines[0].removeprefix('fatal: ')}")
    return done.stdout.decode("utf-8", "replace")


def resolves(repository: str, revision: str) -> bool:
    try:
        git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except GitError:
        return False
    return True


def check_repository(repository: str) -> None:
    if not Path(repository).is_dir():
        raise GitError(f"{repository} is not a folder")
    try:
        git(repository, "rev-parse", "--git-dir")
    except GitError as error:
        if "not a git repository" in str(error):
            raise GitError(f"{repository} is not a git repository") from None
        raise
    if not resolves(repository, "HEAD"):
        raise GitError(f"{repository} has no commits yet")


def revisions(repository: str, since: str | None, last_tag: str | None) -> list[str]:
    """The arguments of `git log` for "since": a tag or another revision, a date, or the last tag."""
    if since is None:
        return ["HEAD"] if last_tag is None else [f"{last_tag}..HEAD"]
    if resolves(repository, since):
        return [f"{since}..HEAD"]
    try:
        return [f"--since={date.fromisoformat(since).isoformat()}T00:00:00", "HEAD"]
    except ValueError:
        raise GitError(f"{since!r} is neither a tag of {repository} nor a date like 2026-11-01") from None


@step(raises=(GitError,))
def collect_commits(repository: str, since: str | None) -> History:
    check_repository(repository)
    try:
        last_tag = git(repository, "describe", "--tags", "--abbrev=0").strip()
    except GitError:
        last_tag = None
    wanted = revisions(repository, since, last_tag)
    count = int(git(repository, "rev-list", "--count", "--no-merges", *wanted, "--"))
    shown_since = since or last_tag or "the beginning"
    if not count:
        raise GitError(f"{repository} has no commits since {shown_since}; give an earlier tag or date with --since")
    form = "--format=%H%x1f%an%x1f%as%x1f%s"
    log = git(repository, "log", "-z", "--no-merges", f"--max-count={MOST_COMMITS}", form, *wanted, "--")
    commits = []
    for line in log.split("\0"):
        fields = line.strip("\n").split("\x1f", 3)
        if len(fields) == 4:
            commits.append(Commit(*(field[:MOST_CHARACTERS] for field in fields)))
    return History(shown_since, last_tag, commits, max(0, count - MOST_COMMITS))


@step(raises=(GitError,))
def measure_commits(repository: str, hashes: list[str]) -> Size:
    size = Size()
    for line in git(repository, "log", "--no-walk", "--shortstat", "--format=", *hashes, "--").splitlines():
        for number, unit in re.findall(r"(\d+) (file|insertion|deletion)", line):
            name = {"file": "files", "insertion": "added", "deletion": "removed"}[unit]
            setattr(size, name, getattr(size, name) + int(number))
    return size


GROUPS = {
    "Added": r"feat|add|introduce|implement|support|allow|lay|create",
    "Fixed": r"fix|bugfix|repair|correct|prevent|avoid|hotfix",
    "Removed": r"remove|drop|delete|revert",
    "Documentation": r"docs?|document|readme|changelog",
    "Maintenance": r"tests?|ci|build|chore|bump|upgrade|refactor|style|format|lint|release",
}


@step
def group_commits(commits: list[Commit]) -> dict[str, list[Commit]]:
    groups: dict[str, list[Commit]] = {}
    for commit in commits:
        first = commit.subject.lower()
        name = next((name for name, words in GROUPS.items() if re.match(rf"({words})(e?[sd])?\b", first)), "Changed")
        groups.setdefault(name, []).append(commit)
    order = ["Added", "Changed", "Fixed", "Removed", "Documentation", "Maintenance"]
    return {name: groups[name] for name in order if name in groups}


def commits_text(count: int) -> str:
    return f"{count} commit{'' if count == 1 else 's'}"


@step
def write_draft(repository: str, history: History, groups: dict[str, list[Commit]], size: Size) -> str:
    def clean(text: str) -> str:
        text = "".join(character for character in text if character.isprintable())
        return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", text)

    authors = len({commit.author for commit in history.commits})
    lines = [
        f"# {clean(Path(repository).name)} VERSION",
        "",
        f"{commits_text(len(history.commits))} by {authors} {'people' if authors > 1 else 'person'} since "
        f"{clean(history.since)}: {size.files} file changes, {size.added} lines added, {size.removed} removed.",
    ]
    if history.older:
        lines.append(f"Only the newest {MOST_COMMITS} commits are listed; {history.older} older ones are not.")
    for name, commits in groups.items():
        lines += ["", f"## {name}", ""]
        lines += [f"- {clean(commit.subject)} ({commit.hash[:8]}, {commit.day})" for commit in commits]
    return "\n".join(lines) + "\n"


@step
def write_notes(folder: str, repository: str, version: str, draft: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", Path(repository).name)
    target = Path(folder) / f"{name}-{version}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_text(draft.replace(" VERSION", f" {version}", 1), encoding="utf-8")
    part.replace(target)
    return str(target)


# ------------------------------------------------------------------------------------------------- workflow


@workflow
async def release_notes(ctx: Context, request: ReleaseInput) -> ReleaseNotes:
    """Collect a repository's commits, draft its release notes, have them approved, write them."""
    history = await ctx.step(collect_commits, request.repository, request.since)
    hashes = [commit.hash for commit in history.commits]
    batches = [hashes[start : start + COMMITS_AT_ONCE] for start in range(0, len(hashes), COMMITS_AT_ONCE)]
    total = len(batches) + 5
    ctx.report_progress(1, total, f"{commits_text(len(hashes))} since {history.since}")
    size = Size()
    for number, batch in enumerate(batches, 1):
        part = await ctx.step(measure_commits, request.repository, batch)
        size = Size(size.files + part.files, size.added + part.added, size.removed + part.removed)
        ctx.report_progress(1 + number, total, f"{commits_text(min(number * COMMITS_AT_ONCE, len(hashes)))} measured")
    groups = await ctx.step(group_commits, history.commits)
    draft = await ctx.step(write_draft, request.repository, history, groups, size)
    ctx.report_progress(total - 3, total, "draft written")

    question = f"Publish these notes of {commits_text(len(hashes))}?"
    approval = await ctx.wait_for_approval(question, payload={"draft": draft})
    approval.require()
    ctx.report_progress(total - 2, total, f"approved by {approval.approved_by}")
    version = await ctx.wait_for_input(f"Which version is it? (last tag: {history.last_tag or 'none yet'})", VERSION)
    ctx.report_progress(total - 1, total, f"version {version}")

    path = await ctx.step(write_notes, request.folder, request.repository, version, draft)
    ctx.report_progress(total, total, "written")
    return ReleaseNotes(version, len(hashes), path)


# --------------------------------------------------------------------------------------------------- people


class PlainFrontend:
    """No terminal: progress as lines, answers from a file."""

    def __init__(self, console: Console, answers: Path) -> None:
        self._console = console
        self._answers = answers
        self._shown = ""
        console.print(f"No terminal here: the answers come from {answers}.")

    def show(self, execution: Execution[Any]) -> None:
        progress = execution.progress
        line = f"[{progress.current}/{progress.total}] {progress.message}"
        if progress.message and line != self._shown:
            self._shown = line
            self._console.print(line)

    async def ask(self, execution: Execution[Any], request: Request) -> None:
        self._console.print(f"Asked: {request.prompt}")
        answers = json.loads(self._answers.read_text(encoding="utf-8"))
        if request.kind == "approval":
            told = answers["approval"]
            vote = execution.approve if told["approved"] else execution.reject
            await vote(told.get("reason"), request_id=request.id, seen=request.seen)
        else:
            await execution.respond(answers["input"], request_id=request.id, seen=request.seen)

    def close(self) -> None:
        """Nothing to put away."""


class TerminalFrontend:
    """A live progress bar, and questions on the keyboard."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        text = TextColumn("{task.description}", markup=False)
        self._progress = Progress(*columns, text, console=console, transient=True)
        self._task = self._progress.add_task("starting", total=None)
        self._progress.start()

    def show(self, execution: Execution[Any]) -> None:
        progress = execution.progress
        self._progress.update(
            self._task,
            completed=progress.current,
            total=progress.total or None,
            description=progress.message or execution.status.value,
        )

    async def ask(self, execution: Execution[Any], request: Request) -> None:
        self._progress.stop()
        try:
            if request.payload is not None and "draft" in request.payload:
                self._console.print(Text(request.payload["draft"]), highlight=False)
            while True:
                try:
                    await self._ask_once(execution, request)
                    return
                except InvalidAnswerError as error:
                    self._console.print(Text("; ".join(message for _, message in error.problems), style="red"))
        finally:
            self._progress.start()

    async def _ask_once(self, execution: Execution[Any], request: Request) -> None:
        choices = " [y/n]" if request.kind == "approval" else ""
        self._console.print(Text(f"{request.prompt}{choices} ", style="bold"), end="")
        line = (await read_line()).strip()
        if request.kind == "input":
            await execution.respond(line, request_id=request.id, seen=request.seen)
        elif line.lower() in ("y", "yes"):
            await execution.approve(request_id=request.id, seen=request.seen)
        elif line.lower() in ("n", "no"):
            await execution.reject("not published", request_id=request.id, seen=request.seen)
        else:
            raise InvalidAnswerError(execution.id, request.id, (("$", "please answer y or n"),))

    def close(self) -> None:
        self._progress.stop()


async def read_line() -> str:
    """A line from the terminal; the loop, and so the run, goes on meanwhile.

    Raises:
        EOFError: the terminal was closed, or Ctrl-D was pressed.
    """
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def typed() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin.fileno(), typed)
    try:
        text = await line
    finally:
        loop.remove_reader(sys.stdin.fileno())
    if not text:
        raise EOFError("no more answers")
    return text


async def accompany(execution: Execution[ReleaseNotes], frontend: PlainFrontend | TerminalFrontend) -> None:
    """Show the run and answer its questions until it ends, also when somebody else answers first."""
    events = aiter(execution.events())
    upcoming = asyncio.ensure_future(anext(events, None))
    asking: asyncio.Task[None] | None = None
    asked = ""
    try:
        while True:
            both = {upcoming} if asking is None else {upcoming, asking}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if asking is not None and asking.done():
                asking.result()  # a person who leaves, or an answer that does not fit, ends this too
                asking = None
            if not upcoming.done():
                continue
            if upcoming.result() is None:
                return
            upcoming = asyncio.ensure_future(anext(events, None))
            frontend.show(execution)
            request = next(iter(execution.requests), None)
            if asking is not None and (request is None or request.id != asked):
                asking.cancel()  # answered from elsewhere
                asking = None
            if request is not None and request.id != asked:
                asked = request.id
                asking = asyncio.create_task(frontend.ask(execution, request))
    finally:
        left = [upcoming] if asking is None else [upcoming, asking]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        frontend.close()


async def publish(options: argparse.Namespace, console: Console, frontend: PlainFrontend | TerminalFrontend) -> int:
    repository = str(Path(options.repository).resolve())
    labels = {"repository": repository[-LABEL_CHARACTERS:], "since": options.since or "last tag"}
    unfinished = [RunStatus.PENDING, RunStatus.IN_PROGRESS, RunStatus.AWAITING]
    async with connect() as client:
        found = await client.list(workflow=release_notes, status=unfinished, label=labels, limit=1)
        if found.items:
            execution = await client.get(found.items[0].id, release_notes)
            console.print(f"Going on with run {execution.id}, which was not finished.")
        else:
            request = ReleaseInput(repository, options.since, str(Path(options.folder).resolve()))
            execution = await release_notes.start(request, RunOptions(labels=labels))
            console.print(f"Run {execution.id}")
        try:
            await accompany(execution, frontend)
            notes = await execution.result
        except RunFailedError as error:
            return complain(error.message)
        except RunCancelledError as error:
            return complain(f"not published: {error.reason}")
        except (EOFError, asyncio.CancelledError):
            return complain(f"run {execution.id} waits; start this again to go on with it, or answer it with osp")
    console.print(f"Version {notes.version}, {commits_text(notes.commits)}: {notes.path}", soft_wrap=True)
    return 0


def complain(message: str) -> int:
    print(f"release_notes: {message}", file=sys.stderr)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Write release notes for a git repository.")
    parser.add_argument("repository", nargs="?", default=str(HERE.parent), help="path of a git repository")
    parser.add_argument("--since", metavar="TAG_OR_DATE", help="the last tag, or the beginning, by default")
    parser.add_argument("--answers", type=Path, default=ANSWERS, help="answers for when there is no terminal")
    parser.add_argument("--folder", default=str(HERE / "out"), help="where the notes go")
    options = parser.parse_args()
    in_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    console = Console(highlight=False, soft_wrap=True)
    try:
        frontend = TerminalFrontend(console) if in_terminal else PlainFrontend(console, options.answers)
        return asyncio.run(publish(options, console, frontend))
    except (RequestError, KeyError, ValueError) as error:
        return complain(f"{options.answers}: {error}; mend it and start this again, the run waits")
    except (OSProtocolError, OSError) as error:
        return complain(str(error))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
