"""Commands about the database: delete, backup, prune, doctor."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from osprotocol.cli.command import command
from osprotocol.cli.exits import CommandError, ExitCode, exit_code_of
from osprotocol.cli.output import clean, say, to_json, write
from osprotocol.cli.session import Session
from osprotocol.cli.values import moment
from osprotocol.errors import OSProtocolError


@command("delete")
async def delete(
    session: Session, runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids of runs that have ended.")]
) -> int:
    """Remove ended runs and their children."""
    worst = ExitCode.SUCCESS
    async with session.connect() as client:
        for run in runs:
            try:
                run_id = (await client.get(run)).id
                await client.delete(run_id)
            except OSProtocolError as error:
                if len(runs) == 1:
                    raise
                say(to_json({"code": error.code, "message": str(error)}) if session.json else f"osp: {clean(error)}")
                worst = max(worst, exit_code_of(error))
                continue
            write(to_json({"runId": run_id, "deleted": True}) if session.json else f"{run_id} deleted")
    return worst


@command("backup")
async def backup(
    session: Session, target: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.")]
) -> None:
    """Copy the whole database to a new file while work goes on.

    Of a ledger, and with --db of this machine's copy of one, it becomes a database of its own.
    """
    from osprotocol._embedded.upkeep import save_copy

    path = session.database()
    if path is None or target.exists() or not await asyncio.to_thread(save_copy, path, target):
        async with session.connect() as client:
            if target.exists():
                raise CommandError(f"{target} exists already; name a new file", "exists", ExitCode.CONFLICT)
            await client.backup(target)
    size = target.stat().st_size
    write(to_json({"file": str(target), "bytes": size}) if session.json else f"{clean(target)} ({size} bytes)")


@command("prune")
async def prune(
    session: Session,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="WHEN", help="Ended longer ago than this: 30d, or before an instant.")
    ],
) -> None:
    """Remove runs that ended long ago."""
    async with session.connect() as client:
        count = await client.prune(older_than=moment(older_than, "--older-than"))
    write(to_json({"runs": count}) if session.json else f"{count} runs removed")


@command("doctor")
async def doctor(session: Session) -> int:
    """Check the database and what lives on it.

    The exit code is 1 when something is wrong.
    """
    from osprotocol.cli.checks import check_everything

    findings = await check_everything(session)
    for finding in findings:
        write(
            to_json(asdict(finding))
            if session.json
            else f"{finding.level:<5}{finding.check:<12}{clean(finding.message)}"
        )
    return ExitCode.FAILED if any(finding.level == "bad" for finding in findings) else ExitCode.SUCCESS
