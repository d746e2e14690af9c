"""Analyse every file of a folder, several at a time; some may fail, the report tells which.

    python examples/fan_out.py                 the source of this project
    python examples/fan_out.py ../other/folder

Each file is one step: its result is kept, a failing one is tried again, and one that keeps failing does not stop the
others. Killed in the middle and started again, the run goes on with the files that are left.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from osprotocol import Context, Retry, RunOptions, RunStatus, TerminalError, connect, step, workflow
from osprotocol.errors import OSProtocolError, RunFailedError, StepFailedError

SOURCE = Path(__file__).resolve().parent.parent / "src"
MOST_FILES = 10_000
FILES_AT_ONCE = 8
LABEL_CHARACTERS = 256


@dataclass
class FileFacts:
    path: str
    digest: str
    lines: int
    bytes: int


@dataclass
class Failure:
    path: str
    tries: int
    error: str


@dataclass
class Report:
    folder: str
    files: int
    lines: int
    bytes: int
    lines_by_suffix: dict[str, int]
    duplicates: list[list[str]]
    failures: list[Failure]


@step
def list_files(folder: str) -> list[str]:
    """Every file below the folder, without hidden ones and caches. A step, because tomorrow there may be others."""
    root = Path(folder)
    if not root.is_dir():
        raise TerminalError(f"{folder} is not a folder")
    found = []
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if not hidden and (path.is_file() or path.is_symlink()):
            found.append(inside.as_posix())
    if len(found) > MOST_FILES:
        raise TerminalError(f"{folder} has {len(found)} files, more than {MOST_FILES}; name a smaller folder")
    return found


# A file that is locked or about to be replaced is worth another try; a file that is no text never becomes one.
@step(retry=Retry(attempts=2, delay_ms=50, backoff="exponential"))
def analyse(path: str) -> FileFacts:
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TerminalError(f"is no UTF-8 text (byte {error.start})") from None
    return FileFacts(path, hashlib.sha256(data).hexdigest(), len(text.splitlines()), len(data))


@workflow
async def analyse_folder(ctx: Context, folder: str) -> Report:
    """Analyse every file of a folder."""
    names = await ctx.step(list_files, folder)
    ctx.report_progress(0, len(names), "analysing")
    paths = [str(Path(folder) / name) for name in names]
    outcomes = await ctx.map(analyse, paths, max_concurrency=FILES_AT_ONCE, return_exceptions=True)

    facts: list[FileFacts] = []
    failures: list[Failure] = []
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, FileFacts):
            facts.append(outcome)
        elif isinstance(outcome, StepFailedError):
            failures.append(Failure(name, outcome.attempts, f"{outcome.error_type}: {outcome.message}"))
        else:
            raise outcome
    ctx.report_progress(len(names), len(names), f"{len(failures)} failed")
    return summarize(folder, facts, failures)


def summarize(folder: str, facts: list[FileFacts], failures: list[Failure]) -> Report:
    lines_by_suffix: dict[str, int] = {}
    paths_by_digest: dict[str, list[str]] = {}
    for fact in facts:
        suffix = Path(fact.path).suffix or "(none)"
        lines_by_suffix[suffix] = lines_by_suffix.get(suffix, 0) + fact.lines
        paths_by_digest.setdefault(fact.digest, []).append(str(Path(fact.path).relative_to(folder)))
    return Report(
        folder=folder,
        files=len(facts),
        lines=sum(fact.lines for fact in facts),
        bytes=sum(fact.bytes for fact in facts),
        lines_by_suffix=lines_by_suffix,
        duplicates=[paths for paths in paths_by_digest.values() if len(paths) > 1],
        failures=failures,
    )


def show(report: Report) -> None:
    print(f"{report.folder}: {report.files} text files, {report.lines} lines, {report.bytes} bytes")
    for suffix, lines in sorted(report.lines_by_suffix.items(), key=lambda item: -item[1]):
        print(f"  {suffix:10} {lines:8} lines")
    for paths in report.duplicates:
        print(f"  same content: {', '.join(paths)}")
    for failure in report.failures:
        tries = "1 try" if failure.tries == 1 else f"{failure.tries} tries"
        print(f"  failed after {tries}: {failure.path}: {failure.error}")


async def main(folder: str) -> int:
    path = str(Path(folder).resolve())
    labels = {"folder": path[-LABEL_CHARACTERS:]}
    async with connect() as client:
        unfinished = [RunStatus.PENDING, RunStatus.IN_PROGRESS, RunStatus.AWAITING]
        found = await client.list(workflow=analyse_folder, status=unfinished, label=labels, limit=1)
        if found.items:
            execution = await client.get(found.items[0].id, analyse_folder)
            print(f"Going on with run {execution.id}")
        else:
            execution = await analyse_folder.start(path, RunOptions(labels=labels))
        try:
            show(await execution.result)
        except RunFailedError as error:
            print(f"fan_out: {error.message}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Analyse every file of a folder.")
    parser.add_argument("folder", nargs="?", default=str(SOURCE))
    try:
        sys.exit(asyncio.run(main(parser.parse_args().folder)))
    except OSProtocolError as error:
        sys.exit(f"fan_out: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
