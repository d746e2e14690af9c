"""Steps that do to their process what steps should not: fork it, hold its event loop, flood its log."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osprotocol import Client, Context, connect, step, workflow
from osprotocol import _limits as limits
from osprotocol.client import current_client
from osprotocol.errors import OSProtocolError
from osprotocol.protocol.events import LogLine

# ------------------------------------------------------------------------------------------------------- fork


def _in_child(use: Callable[[], Any]) -> str:
    """The name of the error that a forked child gets when it does this."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forking a process with threads is what is tried here
        pid = os.fork()
    if pid == 0:
        try:
            use()
            said = "no error"
        except OSProtocolError as error:
            said = type(error).__name__
        except BaseException as error:  # noqa: BLE001 - the child must not go on as the test
            said = f"other: {error!r}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


@step
def list_in_child() -> str:
    client = current_client()
    return _in_child(lambda: asyncio.run(_nothing_but(client.list())))


@step
def start_in_child() -> str:
    return _in_child(lambda: asyncio.run(_nothing_but(forking.create_run("nothing").start())))


@step
def close_in_child() -> str:
    client = current_client()
    return _in_child(lambda: asyncio.run(_nothing_but(client.workers())))


async def _nothing_but(doing: Awaitable[Any]) -> Any:
    return await doing


@workflow(name="engine.forking")
async def forking(ctx: Context, what: str) -> str:
    if what == "list":
        return await ctx.step(list_in_child)
    if what == "start":
        return await ctx.step(start_in_child)
    if what == "workers":
        return await ctx.step(close_in_child)
    return "nothing"


@pytest.mark.parametrize("what", ["list", "start", "workers"])
async def test_a_forked_child_cannot_use_the_client(what: str, tmp_path: Path) -> None:
    """Whatever a step's forked child asks of the client, it gets ForkedProcessError."""
    async with connect(tmp_path / "runs.db", durability="off") as client:
        assert await (await client.create_run(forking, what).start()).result == "ForkedProcessError"


async def test_a_fork_leaves_the_parent_unharmed(tmp_path: Path) -> None:
    """After a child has tried to use the client, the parent's runs and commits go on as before."""
    async with connect(tmp_path / "runs.db", durability="off") as client:
        for what in ("list", "start", "workers"):
            await (await client.create_run(forking, what).start()).result
        assert await (await client.create_run(forking, "nothing").start()).result == "nothing"
    async with connect(tmp_path / "runs.db", durability="off") as client:
        assert [run.status for run in (await client.list()).items] == ["completed"] * 4


# ------------------------------------------------------------------------------------------------ blocked loop


class _Warnings(logging.Handler):
    """Sets an event when the library warns."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.came = threading.Event()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.came.set()


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Warnings]:
    """What the library logs as a warning; the loop counts as blocked after a few milliseconds."""
    monkeypatch.setattr(limits, "BLOCKED_LOOP_MS", 20)
    handler = _Warnings()
    logging.getLogger("osprotocol").addHandler(handler)
    _warnings[:] = [handler]
    yield handler
    logging.getLogger("osprotocol").removeHandler(handler)


_warnings: list[_Warnings] = []


@step
async def hold_the_loop() -> str:
    """Blocks the event loop until somebody complains."""
    _warnings[0].came.wait()
    return "done"


@workflow(name="engine.blocking")
async def blocking(ctx: Context, where: str) -> str:
    if where == "code":
        _warnings[0].came.wait()
        return "done"
    return await ctx.step(hold_the_loop)


async def _log_until(client: Client, run_id: str, part: str) -> LogLine:
    execution = await client.get(run_id)
    while True:
        for line in await execution.read_logs():
            if part in line.message:
                return line
        await asyncio.sleep(0.005)


async def test_a_step_that_holds_the_event_loop_is_named(warned: _Warnings, tmp_path: Path) -> None:
    """While a step blocks the loop, a warning names run, step, file and line."""
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.create_run(blocking, "step").start()
        assert await execution.result == "done"
        assert execution.id in warned.messages[0]
        assert "step 'hold_the_loop' has held the event loop" in warned.messages[0]
        line = await _log_until(client, execution.id, "held the event loop")
        assert (line.level, line.step) == ("warning", "hold_the_loop")


async def test_workflow_code_that_holds_the_event_loop_is_named(warned: _Warnings, tmp_path: Path) -> None:
    """Code outside of steps that blocks the loop is named by its workflow."""
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.create_run(blocking, "code").start()
        assert await execution.result == "done"
        assert "code of workflow 'engine.blocking' has held the event loop" in warned.messages[0]


# -------------------------------------------------------------------------------------------------- log flood


@step
def flood(lines: int) -> int:
    log = logging.getLogger("tests.flood")
    for number in range(lines):
        log.warning("line %d", number)
    return lines


@workflow(name="engine.flooding")
async def flooding(ctx: Context, lines: int) -> int:
    return await ctx.step(flood, lines)


async def _all_lines(client: Client, run_id: str) -> list[LogLine]:
    execution, lines = await client.get(run_id), list[LogLine]()
    while True:
        more = await execution.read_logs(after=lines[-1].number if lines else 0)
        if not more:
            return lines
        lines += more


async def test_a_flood_of_log_lines_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run's log keeps LOG_LINES_PER_RUN lines; one more says that the rest is dropped."""
    monkeypatch.setattr(limits, "LOG_LINES_PER_RUN", 500)
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.create_run(flooding, 5_000).start()
        assert await execution.result == 5_000
        await _log_until_full(client, execution.id)
        lines = await _all_lines(client, execution.id)
    assert len(lines) == 501
    assert [line.message for line in lines[:500]] == [f"line {number}" for number in range(500)]
    assert "LOG_LINES_PER_RUN" in lines[-1].message


async def _log_until_full(client: Client, run_id: str) -> None:
    while len(await _all_lines(client, run_id)) <= 500:  # noqa: ASYNC110 - log lines have no event
        await asyncio.sleep(0.005)


async def test_other_runs_go_on_beside_a_flood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While one step writes twenty thousand lines, the runs of others start and finish."""
    monkeypatch.setattr(limits, "LOG_LINES_PER_RUN", 1_000)
    async with connect(tmp_path / "runs.db", durability="off") as client:
        flooded = await client.create_run(flooding, 20_000).start()
        for _ in range(20):
            assert await (await client.create_run(flooding, 0).start()).result == 0
        assert await flooded.result == 20_000
