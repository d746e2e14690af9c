"""Scenarios with what those of the crash tests leave out: callbacks, steps that begin once at most, and upkeep."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw

from osprotocol import Cancel, Context, Execution, Retry, RunOptions, Timeout, step, workflow
from osprotocol.errors import RunNotFoundError
from tests.crash import scenarios
from tests.crash.ledger import Ledger
from tests.crash.life import Life
from tests.crash.scenarios import SCENARIOS, Scenario, flaky, nobody, work

_PATIENCE = 400


class Memory(Ledger):
    """The outside ledger, with what callers were told and which callbacks were called.

    Attributes:
        told: what was acknowledged: kind, id of the run, and what else.
        calls: how often each callback was called.
        asked: what somebody wants, and may or may not have got.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.told: list[tuple[str, ...]] = []
        self.calls: Counter[str] = Counter()
        self.asked: set[str] = set()

    def at(self, path: Path) -> Memory:
        """The same, for another copy of the database."""
        other = Memory(path)
        other.effects, other.labels = self.effects.copy(), self.labels.copy()
        other.wrong, other.told = list(self.wrong), list(self.told)
        other.calls, other.asked = self.calls.copy(), set(self.asked)
        return other

    @property
    def size(self) -> int:
        """Grows with whatever is added."""
        return self.effects.total() + self.calls.total() + len(self.told) + len(self.asked) + len(self.wrong)


def _called(name: str) -> None:
    ledger = scenarios._world[0]
    assert isinstance(ledger, Memory)
    if ledger.life is not None and not ledger.life.is_dead:
        ledger.calls[name] += 1


def _says_yes(error: Exception) -> bool:
    _called("should_retry")
    return True


@step
def threaded(label: str) -> str:
    """Runs in a thread."""
    scenarios._world[0].labels[label] += 1
    return label


@step
async def second_time(label: str) -> str:
    """Fails the first time, by the world's count."""
    await scenarios._happens(label)
    if scenarios._world[0].labels[label] < 2:
        raise ConnectionError(label)
    return label


@workflow(
    name="points.callbacks",
    options=RunOptions(
        retry=Retry(
            attempts=5, delay_ms=100, should_retry=_says_yes, on_retry=lambda error, number: _called("on_retry")
        ),
        timeout=Timeout(ms=60_000, on_timeout="continue", on_timeout_callback=lambda: _called("on_timeout")),
        on_status_change=lambda status: _called(f"status {status.value}"),
        on_complete=lambda result: _called("on_complete"),
    ),
)
async def callbacks(ctx: Context) -> list[str]:
    """Fails once, then sleeps for longer than its time."""
    said = await ctx.step(second_time, "unsure")
    await ctx.sleep(timedelta(minutes=2))
    return [said, await ctx.step(threaded, "in a thread"), await ctx.step(flaky, "late")]


@workflow(
    name="points.refund",
    options=RunOptions(
        cancel=Cancel(
            before_cancel=lambda: _called("before_cancel"), after_cancel=lambda reason: _called("after_cancel")
        )
    ),
)
async def refund(ctx: Context) -> str:
    """Waits for a person, who cancels."""
    await ctx.step(work, "reserve")
    try:
        await ctx.wait_for_approval("Ship?")
    finally:
        await ctx.step(work, "refund")
    return "never"


async def _cancels(execution: Execution[Any], ledger: Ledger) -> bool:
    await execution.refresh()
    if execution.cancelling or execution.status != "awaiting":
        return False
    await execution.cancel("too late", by="ann")
    return True


@step(at_most_once=True)
async def once(label: str) -> str:
    """May have had its effect when its process died: only a person lets it begin again."""
    await scenarios._happens(label)
    return label


@workflow(name="points.careful")
async def careful(ctx: Context) -> list[str]:
    return [await ctx.step(once, "pay"), await ctx.step(once, "ship")]


async def _skips(execution: Execution[Any], ledger: Ledger) -> bool:
    await execution.refresh()
    for request in execution.requests:
        await execution.respond({"action": "skip", "value": "skipped"}, request_id=request.id, by="cleo")
        return True
    return False


@workflow(name="points.small")
async def small(ctx: Context, label: str) -> int:
    return await ctx.step(work, label)


@workflow(name="points.kept")
async def kept(ctx: Context, label: str) -> int:
    """A run with a child."""
    return await ctx.step(work, label) + await ctx.run(small, f"{label} child")


MORE = (
    Scenario(
        "callbacks", callbacks, None, nobody, "completed",
        lambda value: value == ["unsure", "in a thread", "late after 3"], ("unsure", "in a thread"),
    ),
    Scenario("refund", refund, None, _cancels, "cancelled", lambda value: value == "too late", ("reserve", "refund")),
    Scenario("careful", careful, None, _skips, "completed", lambda value: len(value) == 2),
    Scenario("upkeep", kept, "kept", nobody, "completed", lambda value: value == 2, ("kept", "kept child")),
)  # fmt: skip
ALL = (*SCENARIOS, *MORE)
SHORTEST = ("steps", "careful", "refund")
"""Whose pairs of points are all tried."""


async def keep_house(life: Life, execution: Execution[Any], memory: Memory) -> None:
    """Back up, fork and delete the fork, then prune everything; whoever does it again after a death may do so."""
    client, target = life.client, life.path.with_name("copy.db")
    if "pruned" not in memory.asked:
        if not target.exists():
            await client.backup(target)
            memory.told.append(("backup", execution.id))
        fork = await execution.fork()
        memory.told.append(("fork", fork.id))
        waited = 0
        while not fork.status.is_final:
            if await life.settle() and not life.clock.jump():
                waited += 1
                assert waited < _PATIENCE, f"the fork stands still: {fork.snapshot}"
        memory.asked.add(fork.id)
        await client.delete(fork.id)
        memory.told.append(("deleted", fork.id))
    memory.asked.add("pruned")
    await client.prune(older_than=timedelta(seconds=-1))
    try:
        await client.get(execution.id)
    except RunNotFoundError:
        return
    raise AssertionError("a final run outlived the pruning of all")


_TABLES = "SELECT count(*) FROM sqlite_schema WHERE name = 'runs'"
_STRAYS = """
SELECT 'journal', run FROM journal WHERE run != 0 AND run NOT IN (SELECT key FROM runs)
UNION ALL SELECT 'requests', run FROM requests WHERE run NOT IN (SELECT key FROM runs)
UNION ALL SELECT 'logs', run FROM logs WHERE run NOT IN (SELECT key FROM runs)
"""
_CLAIMS = """
SELECT r.id, json_extract(j.value, '$.epoch') FROM journal j JOIN runs r ON r.key = j.run
WHERE j.type = 'run.claimed' GROUP BY 1, 2 HAVING count(*) > 1
"""
_ANSWERS = """
SELECT count(*) FROM requests q JOIN runs r ON r.key = q.run, json_each(q.responses) one
WHERE r.id = ? AND lower(json_extract(one.value, '$.by')) = lower(?)
"""


def is_made(path: Path) -> bool:
    """Whether the database has its tables: a process may die before."""
    if not path.exists():
        return False
    connection = apsw.Connection(str(path))
    try:
        return bool(connection.execute(_TABLES).get)
    finally:
        connection.close()


def broken_words(path: Path, memory: Memory) -> list[str]:
    """What callers were told and the database does not know of; and rows that belong to no run."""
    connection = apsw.Connection(str(path))
    try:
        runs: dict[str, tuple[str, str]] = {
            run_id: (status, cancel)
            for run_id, status, cancel in connection.execute("SELECT id, status, cancel FROM runs")
        }
        wrong = [f"a row of {table} belongs to no run: {run}" for table, run in connection.execute(_STRAYS)]
        wrong += [f"run {run_id} was claimed twice for epoch {epoch}" for run_id, epoch in connection.execute(_CLAIMS)]
        for kind, run_id, *more in memory.told:
            if "pruned" in memory.asked or run_id in memory.asked:
                if kind == "deleted" and run_id in runs:
                    wrong.append(f"run {run_id} is there although its deletion was acknowledged")
                continue
            if run_id not in runs:
                wrong.append(f"{kind} of run {run_id} was acknowledged, and there is no such run")
            elif kind == "Cancel" and runs[run_id][1] == "none" and runs[run_id][0] != "cancelled":
                wrong.append(f"the cancel of run {run_id} was acknowledged, and it is {runs[run_id]}")
            elif kind in ("Vote", "Respond") and not connection.execute(_ANSWERS, (run_id, more[0])).get:
                wrong.append(f"the {kind} of {more[0]} on run {run_id} was acknowledged, and is not there")
            elif kind == "ended" and runs[run_id][0] != more[0]:
                wrong.append(f"run {run_id} was {more[0]} to a caller, and is {runs[run_id][0]}")
        return wrong
    finally:
        connection.close()


def repeated_calls(path: Path, memory: Memory) -> list[str]:
    """Callbacks that are called at most once, and were called more often than there was something to tell."""
    connection = apsw.Connection(str(path))
    try:
        rows = connection.execute("SELECT status, count(*) FROM journal WHERE status IS NOT NULL GROUP BY 1").fetchall()
    finally:
        connection.close()
    most = {"on_complete": 1, "after_cancel": 1, **{f"status {status}": int(str(count)) for status, count in rows}}
    return [
        f"{name} was called {count} times, at most {most[name]} are right"
        for name, count in memory.calls.items()
        if name in most and count > most[name]
    ]
