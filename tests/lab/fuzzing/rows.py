"""The database as a target: a row of it holds what nobody wrote, and the worker goes on with the others.

The first input field says where: table, column and row; the second is the value. Rows of the journal get the checksum
of what they hold then, so that the damage is not seen by that. Whatever the row says, other runs go on, what can be
read is read or refused as damaged, and nothing is loaded or run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from osprotocol import Context, step, workflow
from osprotocol._embedded.transaction import checksum, event_of_row
from osprotocol.errors import CorruptDatabaseError, OSProtocolError
from osprotocol.protocol.approval import ApprovalConfig
from osprotocol.testing import connect
from osprotocol.testing.client import VirtualClient
from tests.lab.fuzzing.target import Target, Try, fields_of, joined
from tests.lab.harness import Violation

CELLS = (
    ("journal", "value"), ("journal", "type"), ("journal", "position"), ("journal", "name"), ("journal", "digest"),
    ("journal", "status"), ("runs", "labels"), ("runs", "policy"), ("runs", "error"), ("runs", "progress_message"),
    ("runs", "seed"), ("runs", "origin"), ("requests", "payload"), ("requests", "schema"), ("requests", "approvers"),
    ("requests", "responses"), ("requests", "prompt"), ("requests", "digest"), ("logs", "fields"), ("logs", "message"),
)  # fmt: skip
_EVENT = "number, at, type, status, position, name, digest, started_at, value"


@step(name="fuzz.load")
async def load(number: int) -> dict[str, int]:
    return {"number": number}


@workflow(name="fuzz.victim")
async def victim(ctx: Context, number: int) -> str:
    loaded = await ctx.step(load, number)
    ctx.log("loaded", number=number)
    answer = await ctx.wait_for_approval("Go?", ApprovalConfig(approvers=("ann",)), payload=loaded)
    await ctx.step(load, number)
    return str(answer.approved)


@workflow(name="fuzz.neighbour")
async def neighbour(ctx: Context, number: int) -> int:
    return (await ctx.step(load, number))["number"]


def _plant(path: Path, run: int, cell: tuple[str, str], which: int, value: str | None) -> None:
    """Put a value into a row of a run."""
    table, column = cell
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(5_000)
        own = "key" if table in ("runs", "requests") else "id"
        of_run = "key" if table == "runs" else "run"
        rows = [
            row[0] for row in connection.execute(f"SELECT {own} FROM {table} WHERE {of_run} = ? ORDER BY 1", (run,))
        ]
        if not rows:
            return
        key = rows[which % len(rows)]
        try:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {own} = ?", (value, key))
        except apsw.ConstraintError:
            return  # the schema holds that none can be planted
        if table == "journal":
            connection.create_scalar_function("sum_of", lambda *row: checksum(run, event_of_row(row)), 9)
            connection.execute(f"UPDATE journal SET checksum = sum_of({_EVENT}) WHERE id = ?", (key,))
    finally:
        connection.close()


async def _read_all(client: VirtualClient, run_id: str) -> bool:
    """Read everything of a run; False if something of it is refused as damaged."""
    fine = True
    engine = client._engine

    async def update() -> None:
        found = await engine.get(run_id)
        found.read()
        found.requests()

    for read in (
        update,
        lambda: engine.read_events(run_id, 0, 100),
        lambda: engine.steps(run_id),
        lambda: engine.logs(run_id, 0, 100),
        lambda: client.list(limit=5),
        lambda: client.requests(run_id=run_id, open=None),
    ):
        try:
            await read()
        except OSProtocolError:
            fine = False
    return fine


@contextmanager
def _database() -> Iterator[Try]:
    """A worker that has a run in front of a question, for each input a new one."""
    numbers = iter(range(1_000_000))

    async def opened(stack: AsyncExitStack) -> VirtualClient:
        return await stack.enter_async_context(connect(autojump=False, linger_ms=0))

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        client = runner.run(opened(stack))

        async def try_one(data: bytes) -> bool:
            place, value = fields_of(data, 2)
            table, which = (place or b"\0")[0], (place[1:2] or b"\0")[0]
            number = next(numbers)
            execution = await client.create_run(victim, number).start()
            await client.clock.settle()
            key = apsw_key(client.path, execution.id)
            text = None if value == b"-" else value.decode("utf-8", "replace")
            _plant(client.path, key, CELLS[table % len(CELLS)], which, text)
            fine = await _read_all(client, execution.id)
            for act in (execution.approve(by="ann"), execution.cancel("enough", graceful=False)):
                # Together: what is damaged must not take others' changes of the same commit with it.
                start = client.create_run(neighbour, number).start()
                acted, other = await asyncio.gather(act, start, return_exceptions=True)
                fine = fine and not isinstance(acted, BaseException)
                if isinstance(acted, CorruptDatabaseError) and CELLS[table % len(CELLS)][0] == "journal":
                    raise Violation(
                        f"{text!r:.200} in the journal: the run is not held, its person is refused: {acted}"
                    )
                if isinstance(other, BaseException):
                    raise Violation(
                        f"{CELLS[table % len(CELLS)]} = {text!r:.200}: no other run can be started: {other!r}"
                    )
                await client.clock.settle()
                if not other.status.is_final or await other.result != number:
                    raise Violation(f"{CELLS[table % len(CELLS)]} = {text!r:.200}: another run stands still")
                if _is_left_ready(client, key):
                    raise Violation(f"{CELLS[table % len(CELLS)]} = {text!r:.200}: it is ready, and nobody takes it")
            return fine and await _read_all(client, execution.id)

        try:
            yield lambda data: runner.run(try_one(data))
        finally:
            with suppress(OSProtocolError):  # who answers questions there meets the damage too
                runner.run(stack.aclose())


def _is_left_ready(client: VirtualClient, key: int) -> bool:
    """Whether a run could be claimed and is not, although it was not set aside as one that cannot even be held."""
    connection = apsw.Connection(str(client.path))
    try:
        ready_at = connection.execute("SELECT ready_at FROM runs WHERE key = ?", (key,)).get
    finally:
        connection.close()
    worker: Any = getattr(client._engine, "worker", None)
    return ready_at is not None and key not in worker._unusable


def apsw_key(path: Path, run_id: str) -> int:
    """The row of a run."""
    connection = apsw.Connection(str(path))
    try:
        return int(connection.execute("SELECT key FROM runs WHERE id = ?", (run_id,)).get)
    finally:
        connection.close()


_VALUES = (
    '"x"',
    "{}",
    '{"number":1}',
    '{"forgotten":["1"]}',
    '["ann"]',
    '[{"by":"ann","approved":true,"at":"x"}]',
    "-",
    "text",
    '{"py/object":"os.system"}',
    '{"timeout_ms":5}',
    "run.retrying",
    "step.completed",
    "1",
    '{"type":"integer"}',
)
TARGETS = (
    Target(
        "row",
        tuple(joined(bytes([cell, n]), value) for cell in range(len(CELLS)) for n, value in enumerate(_VALUES))[::5],
        _database,
        batch=40,
        small=8,
        grows=False,
    ),
)
