"""Steps that behave oddly: what their run makes of it."""

from __future__ import annotations

import sys

import pytest

from osprotocol import Context, step, testing, workflow
from osprotocol.errors import RunFailedError, WorkflowDefinitionError


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Counter:
    def __init__(self, first: int) -> None:
        self.first = first

    @step
    async def plus(self, more: int) -> int:
        return self.first + more


@step
def runs_dry() -> int:
    return next(iter([]))


@step
async def leaves() -> None:
    sys.exit(3)


@step
async def says_nothing() -> None:
    raise Mute


@workflow(name="odd.dry")
async def dry(ctx: Context) -> int:
    return await ctx.step(runs_dry)


@workflow(name="odd.exit")
async def exits(ctx: Context) -> None:
    await ctx.step(leaves)


@workflow(name="odd.mute")
async def mute(ctx: Context) -> None:
    await ctx.step(says_nothing)


@workflow(name="odd.method")
async def method(ctx: Context) -> int:
    return await ctx.step(Counter(40).plus, 2)


async def test_a_threaded_step_that_raises_stop_iteration_fails() -> None:
    """StopIteration from a step in a thread is a failure like any other, not a silent end."""
    async with testing.connect():
        with pytest.raises(RunFailedError, match="StopIteration"):
            await (await dry.start()).result


async def test_a_step_that_exits_fails_by_its_name() -> None:
    """sys.exit() in a step fails that step; the process goes on."""
    async with testing.connect():
        execution = await exits.start()
        with pytest.raises(RunFailedError, match="'leaves' failed: RuntimeError: the step raised SystemExit: 3"):
            await execution.result


async def test_an_error_whose_text_cannot_be_had_is_recorded() -> None:
    """An exception whose own text raises is recorded as the step's failure."""
    async with testing.connect():
        execution = await mute.start()
        with pytest.raises(RunFailedError, match="Mute"):
            await execution.result
        assert [record.status for record in await execution.steps()] == ["failed"]


async def test_a_method_can_be_a_step() -> None:
    """A decorated method is called on its object."""
    async with testing.connect():
        assert await (await method.start()).result == 42


def test_a_generator_cannot_be_a_step() -> None:
    """A generator function is refused where it is decorated."""
    with pytest.raises(WorkflowDefinitionError, match="generator"):

        @step
        def endless():  # type: ignore[no-untyped-def]
            yield 1
