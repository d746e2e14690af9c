"""The floor as a contender: variants `group` (a writer thread) and `inline` (the loop's own thread)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import apsw
from floor import GroupJournal, InlineJournal, Statement, connect
from pydantic_core import from_json, to_json
from workload.contender import Contender, step_body
from workload.script import main

INSERT_RUN = "INSERT INTO runs (id, workflow, status, input) VALUES (?, 'bench', 'in-progress', ?)"
INSERT_ENTRY = "INSERT INTO journal (run, kind, name, body) VALUES (?, ?, ?, ?)"
COMPLETE_RUN = "UPDATE runs SET status = 'completed', output = ? WHERE id = ?"
SET_STATUS = "UPDATE runs SET status = ? WHERE id = ?"
INSERT_REQUEST = "INSERT INTO requests (run, status, message) VALUES (?, 'open', 'Go on?')"
ANSWER_REQUEST = "UPDATE requests SET status = 'approved', answer = ? WHERE run = ? AND status = 'open'"
READ_RUN = "SELECT status, input FROM runs WHERE id = ?"
READ_JOURNAL = "SELECT kind, name, body FROM journal WHERE run = ? ORDER BY number"
NEXT_RUN = "SELECT coalesce(max(id), 0) + 1 FROM runs"


class Floor(Contender):
    """Runs on the floor. A waiting run that lingers is a future; a parked one is only its rows."""

    def __init__(self, variant: str) -> None:
        self._make_journal = GroupJournal if variant == "group" else InlineJournal
        self._approvals: dict[int, asyncio.Future[None]] = {}
        self._results: dict[int, asyncio.Task[bytes]] = {}

    async def open(self, directory: Path) -> None:
        file = directory / "floor.db"
        self._journal = self._make_journal(file)
        self._reader = connect(file)
        self._next_run = self._reader.execute(NEXT_RUN).fetchone()[0]

    async def close(self) -> None:
        self._journal.close()
        self._reader.close()

    async def run(self, steps: int) -> None:
        run = await self._start(steps)
        for number in range(1, steps):
            body = to_json(await step_body())
            await self._journal.commit([(INSERT_ENTRY, (run, "step", f"step-{number}", body))])
        from_json(await self._last_step(run))

    async def ask(self, *, linger: bool) -> str:
        run = await self._start(1)
        await self._journal.commit(
            [
                (INSERT_REQUEST, (run,)),
                (SET_STATUS, ("awaiting", run)),
                (INSERT_ENTRY, (run, "event", "awaiting", b"{}")),
            ]
        )
        if linger:
            approval = self._approvals[run] = asyncio.get_running_loop().create_future()
            self._results[run] = asyncio.create_task(self._wait_and_finish(run, approval))
        return str(run)

    async def wait_until_waiting(self, run_id: str) -> None:
        status, _ = self._reader.execute(READ_RUN, (int(run_id),)).fetchone()
        assert status == "awaiting"

    async def park(self, run_ids: Iterable[str]) -> None:
        """Nothing to do: a run that does not linger was never kept."""

    async def vote(self, run_id: str) -> None:
        run = int(run_id)
        await self._journal.commit(
            [
                (ANSWER_REQUEST, (to_json({"approved": True, "by": "bench"}), run)),
                (SET_STATUS, ("in-progress", run)),
                (INSERT_ENTRY, (run, "event", "approved", b'{"approved":true,"by":"bench"}')),
            ]
        )
        approval = self._approvals.pop(run, None)
        if approval is not None:
            approval.set_result(None)
            from_json(await self._results.pop(run))
        else:
            from_json(await self._resume(run))

    async def _start(self, steps: int) -> int:
        run = self._next_run
        self._next_run += 1
        await self._journal.commit(
            [(INSERT_RUN, (run, to_json(steps))), (INSERT_ENTRY, (run, "event", "started", b"{}"))]
        )
        return run

    async def _last_step(self, run: int) -> bytes:
        body = to_json(await step_body())
        statements: list[Statement] = [
            (INSERT_ENTRY, (run, "step", "last", body)),
            (COMPLETE_RUN, (body, run)),
            (INSERT_ENTRY, (run, "event", "completed", b"{}")),
        ]
        await self._journal.commit(statements)
        return body

    async def _wait_and_finish(self, run: int, approval: asyncio.Future[None]) -> bytes:
        await approval
        return await self._last_step(run)

    async def _resume(self, run: int) -> bytes:
        """Go on from the disk alone: the run's row, its journal, then the step that is left."""
        self._reader.execute(READ_RUN, (run,)).fetchone()
        for _, _, body in self._reader.execute(READ_JOURNAL, (run,)):
            from_json(body)
        return await self._last_step(run)


def environment() -> dict[str, str]:
    """The versions that were used."""
    return {"apsw": apsw.apsw_version(), "sqlite": apsw.sqlite_lib_version(), "json": "pydantic_core"}


if __name__ == "__main__":
    main(Floor, environment)
