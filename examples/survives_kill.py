"""A run that survives kill -9: every file of a folder gets one line in a ledger, never two.

    python examples/survives_kill.py          kill it as often as you like, then start it again

The idempotency key makes every start find the same run. Its journal says which files are done. The one file that was
between its effect (the line in the ledger) and its commit when the process died is started again: the ledger knows
the step's own key by then, and so does not take the line twice.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from osprotocol import Context, RunOptions, connect, current_step, step, workflow
from osprotocol.errors import OSProtocolError

HERE = Path(__file__).resolve().parent


@dataclass
class Job:
    folder: str
    ledger: str
    pause_ms: int


@step
def list_files(folder: str) -> list[str]:
    root = Path(folder)
    files = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file())
    return [path.as_posix() for path in files if "__pycache__" not in path.parts]


@step
def enter(folder: str, name: str, ledger: str, pause_ms: int) -> str:
    """The effect: one line in the ledger. Gives the file's digest."""
    digest = hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest()
    key = current_step().idempotency_key
    path = Path(ledger)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    if f"{key} " not in known:
        line = f"{key} {name} {digest}\n".encode()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    time.sleep(pause_ms / 1_000)  # between the effect and its commit: the worst moment to die in
    return digest


@workflow
async def keep_ledger(ctx: Context, job: Job) -> int:
    """Enter every file of a folder into a ledger, one after the other."""
    names = await ctx.step(list_files, job.folder)
    for number, name in enumerate(names, 1):
        await ctx.step(enter, job.folder, name, job.ledger, job.pause_ms)
        ctx.report_progress(number, len(names), name)
    return len(names)


async def main(options: argparse.Namespace) -> None:
    job = Job(str(Path(options.folder).resolve()), str(Path(options.ledger).resolve()), options.pause_ms)
    async with connect():
        execution = await keep_ledger.start(job, RunOptions(idempotency_key=options.key))
        if execution.status.is_final:
            print(f"Run {execution.id} was finished before; start another one with --key NAME")
        elif execution.progress.current:
            print(f"Going on with run {execution.id}: {execution.progress.current} files are done")
        else:
            print(f"Run {execution.id}: process {os.getpid()}; kill -9 it and start it again")
        sys.stdout.flush()
        count = await execution.result
    lines = Path(job.ledger).read_text(encoding="utf-8").splitlines()
    ours = [line for line in lines if line.startswith(f"{execution.id}:")]
    print(f"{count} files, {len(ours)} lines in {job.ledger}, {len(ours) - len(set(ours))} of them twice")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Enter every file of a folder into a ledger.")
    parser.add_argument("folder", nargs="?", default=str(HERE.parent / "src"))
    parser.add_argument("--ledger", default=str(HERE / "out" / "ledger.txt"))
    parser.add_argument("--pause-ms", type=int, default=50, help="how long each step takes after its effect")
    parser.add_argument("--key", default="survives-kill", help="another key is another run")
    try:
        asyncio.run(main(parser.parse_args()))
    except OSProtocolError as error:
        sys.exit(f"survives_kill: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
