"""DBOS Transact on SQLite.

Variants: `shipped` is its defaults; `wal` has the write-ahead log turned on by hand; `tuned` also polls
every 10 ms and has a small connection pool: fastest while few workflows wait, slowest when thousands do.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, WorkflowHandleAsync
from workload.contender import Contender, step_body
from workload.script import main

FILE = "dbos.sqlite"
TOPIC = "approval"
APPROVAL_TIMEOUT_S = 86_400.0
DEFAULT_POLL_S = 1.0
TUNED_POLL_S = 0.01
TUNED_POOL_SIZE = 2
"""Fewer connections fight less for SQLite's one write lock: 1 to 3 are fastest here, the default is 20."""
REGISTRATION_S = 0.05
COUNT_FINISHED = "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"

noop = DBOS.step(name="noop")(step_body)


@DBOS.workflow()
async def steps_workflow(steps: int) -> str:
    """That many no-op steps, one after the other."""
    result = ""
    for _ in range(steps):
        result = await noop()
    return result


@DBOS.workflow()
async def approval_workflow() -> str:
    """Wait for an approval, then one step."""
    await DBOS.recv_async(TOPIC, timeout_seconds=APPROVAL_TIMEOUT_S)
    return await noop()


class Dbos(Contender):
    """One DBOS process. A waiting workflow is a coroutine that stays in memory; DBOS cannot unwind it."""

    can_park = False

    def __init__(self, variant: str) -> None:
        self._write_ahead_log = variant != "shipped"
        self._tuned = variant == "tuned"
        self._poll_s = TUNED_POLL_S if self._tuned else DEFAULT_POLL_S
        self._handles: dict[str, WorkflowHandleAsync[str]] = {}

    async def open(self, directory: Path) -> None:
        self._file = directory / FILE
        if self._write_ahead_log:
            with sqlite3.connect(self._file) as connection:  # The mode stays with the file.
                connection.execute("PRAGMA journal_mode = WAL")
        config: DBOSConfig = {
            "name": "benchmark",
            "system_database_url": f"sqlite:///{self._file}",
            "application_version": "benchmark",
            "log_level": "ERROR",
            "notification_listener_polling_interval_sec": self._poll_s,
        }
        if self._tuned:
            config["sys_db_pool_size"] = TUNED_POOL_SIZE
        DBOS(config=config)
        DBOS.launch()

    async def close(self) -> None:
        """Nothing: the process ends here, and waiting workflows go on at the next launch."""

    async def run(self, steps: int) -> None:
        handle = await DBOS.start_workflow_async(steps_workflow, steps)
        await handle.get_result()

    async def ask(self, *, linger: bool) -> str:
        handle = await DBOS.start_workflow_async(approval_workflow)
        run_id = handle.get_workflow_id()
        if linger:
            self._handles[run_id] = handle
        return run_id

    async def wait_until_waiting(self, run_id: str) -> None:
        """DBOS does not tell when a workflow waits; give it time, and meet its poll at any phase."""
        if run_id in self._handles:
            await asyncio.sleep(REGISTRATION_S + random.uniform(0, self._poll_s))
        else:
            await DBOS.get_workflow_status_async(run_id)

    async def park(self, run_ids: Iterable[str]) -> None:
        raise NotImplementedError

    async def vote(self, run_id: str) -> None:
        await DBOS.send_async(run_id, True, TOPIC)
        handle: WorkflowHandleAsync[Any] | None = self._handles.pop(run_id, None)
        if handle is None:
            handle = await DBOS.retrieve_workflow_async(run_id)
        await handle.get_result(polling_interval_sec=self._poll_s)

    async def vote_all(self, run_ids: list[str], limit_s: float) -> int:
        """Send every vote without waiting for results, and count finished workflows in the file."""
        reader = sqlite3.connect(self._file)
        before: int = reader.execute(COUNT_FINISHED).fetchone()[0]
        deadline = time.perf_counter() + limit_s
        pending = iter(run_ids)

        async def send() -> None:
            for run_id in pending:
                if time.perf_counter() > deadline:
                    return
                await DBOS.send_async(run_id, True, TOPIC)

        senders = [asyncio.create_task(send()) for _ in range(self.waiting_parallelism)]
        finished = 0
        while finished < len(run_ids) and time.perf_counter() < deadline:
            await asyncio.sleep(0.1)
            finished = reader.execute(COUNT_FINISHED).fetchone()[0] - before
        await asyncio.gather(*senders)
        return finished


def environment() -> dict[str, str]:
    """The versions that were used."""
    return {"dbos": version("dbos"), "sqlite": sqlite3.sqlite_version, "json": "pickle, DBOS's default"}


if __name__ == "__main__":
    main(Dbos, environment)
