"""LangGraph: a StateGraph over AsyncSqliteSaver, sync durability, write-ahead log, a sync at every commit."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from workload.contender import Contender, step_body
from workload.script import main

STEPS_BEYOND_LIMIT = 10


class State(TypedDict):
    """Only the newest result is kept, which is the least that a graph can store per step."""

    left: int
    result: str


async def noop(state: State) -> dict[str, Any]:
    """One no-op step."""
    return {"left": state["left"] - 1, "result": await step_body()}


async def approval(state: State) -> dict[str, Any]:
    """Wait for an approval."""
    interrupt({"message": "Go on?"})
    return {"left": 1}


def _next(state: State) -> str:
    return "noop" if state["left"] > 0 else END


class LangGraph(Contender):
    """Each run is a thread of its own. An interrupted graph is unwound: nothing of it stays in memory."""

    can_linger = False

    def __init__(self, variant: str) -> None:
        assert variant == "sync"

    async def open(self, directory: Path) -> None:
        self._connection = await aiosqlite.connect(directory / "langgraph.sqlite")
        await self._connection.execute("PRAGMA journal_mode = WAL")
        await self._connection.execute("PRAGMA synchronous = FULL")
        saver = AsyncSqliteSaver(self._connection)
        await saver.setup()
        steps = StateGraph(State)
        steps.add_node("noop", noop)
        steps.add_edge(START, "noop")
        steps.add_conditional_edges("noop", _next)
        self._steps = steps.compile(checkpointer=saver)
        approvals = StateGraph(State)
        approvals.add_node("approval", approval)
        approvals.add_node("noop", noop)
        approvals.add_edge(START, "approval")
        approvals.add_edge("approval", "noop")
        approvals.add_edge("noop", END)
        self._approvals = approvals.compile(checkpointer=saver)

    async def close(self) -> None:
        await self._connection.close()

    async def run(self, steps: int) -> None:
        config = _config(uuid.uuid4().hex)
        config["recursion_limit"] = steps + STEPS_BEYOND_LIMIT
        await self._steps.ainvoke({"left": steps, "result": ""}, config, durability="sync")

    async def ask(self, *, linger: bool) -> str:
        run_id = uuid.uuid4().hex
        await self._approvals.ainvoke({"left": 0, "result": ""}, _config(run_id), durability="sync")
        return run_id

    async def wait_until_waiting(self, run_id: str) -> None:
        snapshot = await self._approvals.aget_state(_config(run_id))
        assert snapshot.next == ("approval",)

    async def park(self, run_ids: Iterable[str]) -> None:
        """Nothing to do: an interrupted graph is only its checkpoints."""

    async def vote(self, run_id: str) -> None:
        await self._approvals.ainvoke(Command(resume=True), _config(run_id), durability="sync")


def _config(run_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": run_id}}


def environment() -> dict[str, str]:
    """The versions that were used."""
    return {
        "langgraph": version("langgraph"),
        "langgraph-checkpoint-sqlite": version("langgraph-checkpoint-sqlite"),
        "sqlite": sqlite3.sqlite_version,
        "json": "msgpack, LangGraph's default",
    }


if __name__ == "__main__":
    main(LangGraph, environment)
