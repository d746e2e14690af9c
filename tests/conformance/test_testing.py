"""`osprotocol.testing` itself: the clock, the people, the client, and its page in the documents."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from osprotocol import ApprovalConfig, Context, testing
from osprotocol.errors import RequestClosedError
from osprotocol.workflow import Workflow, known_workflows

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_runs_as_written(number: int, tmp_path: Path) -> None:
    """Each block of docs/testing.md runs as written."""
    before = set(known_workflows())
    try:
        exec(compile(EXAMPLES[number], f"{DOCUMENT}:{number}", "exec"), {"__name__": f"testing_page_{number}"})
    finally:
        for name in set(known_workflows()) - before:
            del known_workflows()[name]


async def _sleeps(ctx: Context) -> str:
    await ctx.sleep(timedelta(days=30))
    return "awake"


async def _asks(ctx: Context) -> str:
    approval = await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000))
    name = await ctx.wait_for_input("name?")
    return f"{approval.outcome} {name}"


async def test_a_long_sleep_takes_no_time() -> None:
    """With autojump a sleep of thirty days is over when nothing else happens."""
    async with testing.connect() as client:
        began = client.clock.moment
        workflow: Workflow[None, Any] = Workflow(_sleeps, name="testing-sleeps")
        run = client.create_run(workflow)
        with _known(run.workflow):
            assert await (await run.start()).result == "awake"
        assert client.clock.moment - began >= timedelta(days=30)


async def test_timers_fire_in_order_at_their_instants() -> None:
    """Advance fires every timer on the way at its own instant, those included that a timer sets."""
    clock, seen = testing.VirtualClock(), list[tuple[str, int]]()
    start = clock.now()

    def first() -> None:
        seen.append(("first", clock.now() - start))
        clock.call_at(start + 2_000, lambda: seen.append(("nested", clock.now() - start)))

    clock.call_at(start + 3_000, lambda: seen.append(("last", clock.now() - start)))
    clock.call_at(start + 1_000, first)
    clock.call_at(start + 1_500, lambda: seen.append(("cancelled", 0))).cancel()
    await clock.advance(ms=10)
    assert seen == [("first", 1_000), ("nested", 2_000), ("last", 3_000)]
    assert clock.now() - start == 10_000


async def test_people_answer_by_their_script() -> None:
    """People answer the prompts that their lines name, after their time, and record what they were shown."""
    mia = testing.Person("mia").respond("x", "name?").approve(re.compile("^go"), after=4_999, reason="fine")
    bo = testing.Person("bo").reject(after=6_000)
    workflow: Workflow[None, Any] = Workflow(_asks, name="testing-asks")
    async with testing.connect(people=testing.People(mia, bo)) as client:
        with _known(workflow):
            assert await (await client.create_run(workflow).start()).result == "approved x"
        await client.clock.advance(ms=2_000)
    assert [request.prompt for request in mia.shown] == ["go?", "name?"]
    assert [given.action for given in mia.given] == ["approve", "respond"]
    assert [type(given.error) for given in bo.given] == [RequestClosedError]


async def test_the_database_goes_with_the_client() -> None:
    """A client made without a path leaves nothing behind."""
    async with testing.connect() as client:
        folder = client.path.parent
        assert client.path.exists()
    assert not folder.exists()


async def test_ids_are_the_same_in_each_run_of_a_test() -> None:
    """The same seed gives the same ids, another seed others."""
    ids = []
    workflow: Workflow[None, Any] = Workflow(_sleeps, name="testing-sleeps")
    with _known(workflow):
        for seed in (1, 1, 2):
            async with testing.connect(seed=seed) as client:
                ids.append((await client.create_run(workflow).start()).id)
    assert ids[0] == ids[1] != ids[2]


async def test_no_jump_happens_while_a_step_is_at_work() -> None:
    """The clock stands still while a step waits for something outside."""
    go = asyncio.Event()

    async def step() -> None:
        await go.wait()

    async def flow(ctx: Context) -> None:
        await ctx.gather(ctx.step(step), ctx.sleep(timedelta(days=1)))

    workflow: Workflow[None, Any] = Workflow(flow, name="testing-flow")
    async with testing.connect() as client:
        began = client.clock.moment
        with _known(workflow):
            execution = await client.create_run(workflow).start()
            await asyncio.sleep(0.05)
            assert client.clock.moment == began
            go.set()
            await execution.result
        assert client.clock.moment >= began + timedelta(days=1)


class _known:
    """The workflow is known inside the block."""

    def __init__(self, workflow: Workflow[None, Any]) -> None:
        self._workflow = workflow

    def __enter__(self) -> None:
        known_workflows()[self._workflow.name] = self._workflow

    def __exit__(self, *error: object) -> None:
        known_workflows().pop(self._workflow.name, None)
