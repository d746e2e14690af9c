"""What `osp doctor` checks: the file by itself, then what lives on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from osprotocol import _limits
from osprotocol._embedded.doctor import Finding, Level, examine
from osprotocol.cli.session import Session
from osprotocol.client import Client
from osprotocol.errors import NotSupportedError, OSProtocolError
from osprotocol.protocol.run import FINAL_STATUSES, RunSnapshot, RunStatus

_NAMED = 5
_OPEN = tuple(status for status in RunStatus if status not in FINAL_STATUSES)


async def check_everything(session: Session) -> list[Finding]:
    """All findings, in order; what cannot be checked because of an earlier one is left out."""
    path = _copy_of(session) if session.is_ledger else session.database()
    if path is None:
        raise NotSupportedError("doctor", session.scheme, "run it where the database file is, with --db PATH")
    findings = await asyncio.to_thread(lambda: list(examine(path)))
    old = any(one.check == "schema" and one.level == "note" for one in findings)
    if not path.exists() or old or any(one.level == "bad" for one in findings):
        return findings  # opening a database of an older version would bring it up to date
    try:
        async with session.connect() as client:
            findings += [one async for one in _inhabitants(client)]
    except OSProtocolError as error:
        findings.append(Finding("opening", "bad", str(error)))
    return findings


def _copy_of(session: Session) -> Path:
    """The file with this machine's copy of a ledger."""
    from osprotocol._restate.address import Address

    return Address.parse(session.address or "", os.environ).copy_path(Path.cwd())


async def _inhabitants(client: Client) -> AsyncIterator[Finding]:
    workers = await client.workers()
    alive = [one for one in workers if one.status == "alive"]
    names = ", ".join(f"{one.id} ({one.runs} runs)" for one in alive[:_NAMED])
    yield Finding("workers", "good" if alive else "note", f"{len(alive)} alive{f': {names}' if names else ''}")
    total, stuck, by_status = await _runs(client)
    counts = ", ".join(f"{count} {status}" for status, count in by_status.items())
    yield Finding("runs", "good", f"{total} not ended{f': {counts}' if counts else ''}")
    if stuck:
        reasons = "; ".join(f"{run.id}: {run.stuck}" for run in stuck[:_NAMED])
        more = f"; and {len(stuck) - _NAMED} more" if len(stuck) > _NAMED else ""
        yield Finding("stuck", "bad", f"{len(stuck)} runs do not move: {reasons}{more}")
    else:
        yield Finding("stuck", "good", "no run is stuck")
    counted = {kind: await _requests(client, kind) for kind in ("approval", "input", "attention")}
    level: Level = "note" if counted["attention"] else "good"
    told = ", ".join(f"{count} {kind}" for kind, count in counted.items())
    yield Finding("requests", level, f"open: {told}; 'osp inbox' lists them")


async def _runs(client: Client) -> tuple[int, list[RunSnapshot], dict[str, int]]:
    stuck: list[RunSnapshot] = []
    by_status: dict[str, int] = {}
    cursor: str | None = None
    while True:
        page = await client.list(status=_OPEN, limit=_limits.PAGE_SIZE, cursor=cursor)
        for run in page.items:
            by_status[run.status.value] = by_status.get(run.status.value, 0) + 1
        stuck += [run for run in page.items if run.stuck]
        cursor = page.next_cursor
        if cursor is None:
            return sum(by_status.values()), stuck, by_status


async def _requests(client: Client, kind: str) -> int:
    count, cursor = 0, None
    while True:
        page: Any = await client.requests(kind=kind, limit=_limits.PAGE_SIZE, cursor=cursor)
        count += len(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return count
