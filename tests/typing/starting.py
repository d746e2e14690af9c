"""Checked, never run: the output type flows from the function to `await execution.result`."""

from __future__ import annotations

from typing import Any, assert_type

from osprotocol import Client, Execution, Run, RunOptions, RunSnapshot, RunStatus, Workflow, connect, run
from osprotocol.protocol.events import Page
from osprotocol.protocol.request import Request
from tests.typing.definitions import Order, Receipt, publish, publish_again, sell, tick, tick_again


async def create_and_start() -> None:
    created = publish.create_run("Tokyo", RunOptions())
    assert_type(created, Run[str])
    execution = await created.start()
    assert_type(execution, Execution[str])
    assert_type(await execution.result, str)
    assert_type(execution.status, RunStatus)
    assert_type(execution.logs, list[str])
    assert_type(execution.requests, list[Request])


async def start_at_once() -> None:
    assert_type(await publish.start("Tokyo"), Execution[str])
    assert_type(await (await sell.start(Order(1, 2.0))).result, Receipt)
    assert_type(await tick.start(), Execution[int])
    assert_type(tick.create_run(), Run[int])
    assert_type(tick.create_run(options=RunOptions()), Run[int])


async def with_settings() -> None:
    assert_type(publish_again, Workflow[str, str])
    assert_type(tick_again, Workflow[None, int])
    assert_type(await (await publish_again.create_run("x").start()).result, str)
    assert_type(await (await tick_again.create_run().start()).result, int)


async def on_a_server() -> None:
    async with connect("http://127.0.0.1:8321", token="osp_x") as client:
        assert_type(client, Client)
        assert_type(await client.create_run(publish, "x").start(), Execution[str])
        assert_type(client.person, str)


async def with_a_client(client: Client) -> None:
    assert_type(client.create_run(publish, "x"), Run[str])
    assert_type(client.create_run(tick), Run[int])
    assert_type(await client.get("id"), Execution[Any])
    assert_type(await client.get("id", sell), Execution[Receipt])
    assert_type(await (await client.get("id", sell)).retry(), Execution[Receipt])
    assert_type(await (await client.get("id", sell)).fork("load"), Execution[Receipt])
    assert_type(await client.list(), Page[RunSnapshot])
    async with connect() as connected:
        assert_type(connected, Client)


async def gates(execution: Execution[str]) -> None:
    assert_type(await execution.wait_for_input("Sure?", bool), bool)
    assert_type((await execution.wait_for_approval("Sure?")).approved, bool)


def scripts() -> None:
    assert_type(run(publish, "x"), str)
    assert_type(run(tick), int)
    assert_type(run(sell, Order(1, 2.0), url="runs.db"), Receipt)


async def refused(client: Client) -> None:
    publish.create_run(5)  # type: ignore[arg-type]
    publish.create_run()  # type: ignore[call-arg]
    await publish.start(b"x")  # type: ignore[arg-type]
    sell.create_run("x")  # type: ignore[arg-type]
    tick.create_run(3)  # type: ignore[call-overload]
    client.create_run(publish, 5)  # type: ignore[misc]
    run(sell, "x")  # type: ignore[misc]
    await client.list(status=3)  # type: ignore[arg-type]
    text: str = await (await sell.start(Order(1, 2.0))).result  # type: ignore[assignment]
    assert_type(text, str)
