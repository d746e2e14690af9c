"""`osp watch`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from osprotocol import _limits
from osprotocol.cli.command import command
from osprotocol.cli.display import count_text, progress_text, state_text
from osprotocol.cli.interrupt import Interrupts
from osprotocol.cli.output import ago, clean, on_terminal, to_json, write
from osprotocol.cli.reading import Label, Status, Text, WorkflowName
from osprotocol.cli.session import Session
from osprotocol.client import Client
from osprotocol.protocol.run import FINAL_STATUSES, RunSnapshot, RunStatus

if TYPE_CHECKING:
    from rich.table import Table

_EVERY_S = 0.5
_ENDED_SHOWN = 10


@command("watch")
async def watch(
    session: Session, status: Status = None, workflow: WorkflowName = None, label: Label = None, text: Text = None
) -> None:
    """Show runs live until Ctrl-C.

    A table with progress bars; in a pipe, or with --json, a line for each change.
    """
    chosen: dict[str, Any] = {"workflow": workflow, "label": label, "text": text}
    known = {one.value for one in RunStatus}
    wanted = {RunStatus(one) for one in status} if status and set(status) <= known else None
    with Interrupts() as interrupts:
        async with session.connect() as client:
            if status and wanted is None:
                await client.list(status=status)  # names the wrong one
            live = _Live() if on_terminal() and not session.json else _Changes(session.json)
            try:
                while interrupts.received is None:
                    live.show(await _runs(client, chosen, wanted or set(RunStatus)))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(interrupts.came.wait(), _EVERY_S)
            finally:
                live.close()


async def _runs(client: Client, chosen: dict[str, Any], wanted: set[RunStatus]) -> list[RunSnapshot]:
    """What is not final, then the newest that ended."""
    runs: list[RunSnapshot] = []
    for statuses, limit in ((wanted - FINAL_STATUSES, _limits.PAGE_SIZE), (wanted & FINAL_STATUSES, _ENDED_SHOWN)):
        if statuses:
            page = await client.list(status=sorted(statuses), limit=limit, **chosen)
            runs += page.items
    return runs


class _Changes:
    """A line for each change, for pipes."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._shown: dict[str, int] = {}

    def show(self, runs: list[RunSnapshot]) -> None:
        """Write those that changed, oldest first."""
        for run in reversed(runs):
            if self._shown.get(run.id) != run.event:
                self._shown[run.id] = run.event
                text = "\t".join((run.id, run.workflow, state_text(run), clean(progress_text(run).strip())))
                write(to_json(run) if self._json else text)

    def close(self) -> None:
        """Nothing is left to tidy."""


class _Live(_Changes):
    """A table that is drawn anew, for terminals."""

    def __init__(self) -> None:
        super().__init__(as_json=False)
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, screen=False, transient=False)
        self._live.start()

    def show(self, runs: list[RunSnapshot]) -> None:
        """Draw as many runs as the screen has room for."""
        room = max(3, self._console.size.height - 3)
        self._live.update(_table(runs[:room], len(runs) - room), refresh=True)

    def close(self) -> None:
        """Give the cursor back; the last picture stays."""
        self._live.stop()


def _table(runs: list[RunSnapshot], hidden: int) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("RUN", "WORKFLOW", "STATUS", "", "PROGRESS", "MESSAGE", "ACCEPTED"):
        table.add_column(title, no_wrap=True)
    for run in runs:
        total = run.progress.total
        done = run.status is RunStatus.COMPLETED and not total
        bar = ProgressBar(
            total=total or 1, completed=min(run.progress.current, total) if total else int(done), width=20
        )
        message = clean(run.progress.message or "")[:60]
        cells = [Text(clean(cell)) for cell in (run.id, run.workflow, state_text(run))]
        table.add_row(*cells, bar, Text(count_text(run)), Text(message), Text(ago(run.created_at)))
    if not runs:
        table.add_row(Text("no runs yet"))
    if hidden > 0:
        table.caption = f"and {hidden} more"
    return table
