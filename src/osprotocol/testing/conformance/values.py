"""Section 2: what a step gives is what it gives again, and what cannot be given again is refused."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, SecretStr

from osprotocol.context import Context
from osprotocol.errors import InvalidValueError, RunFailedError, StepFailedError
from osprotocol.protocol.retry import Retry
from osprotocol.testing.conformance.harness import CRASH, Harness, refused
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import step


class Draft(BaseModel):
    """A typed result."""

    title: str
    price: Decimal


@dataclass
class Pair:
    """A typed result."""

    left: int
    right: tuple[int, ...]


class OutOfStock(Exception):
    """An error of the shop."""


@scenario(2, CRASH)
async def a_step_gives_on_replay_what_it_gave_first(h: Harness) -> None:
    """A typed result is the same value of the same type on the first pass and on replay."""
    seen: list[Any] = []

    async def draft() -> Draft:
        return Draft(title="x", price=Decimal("1.10"))

    def pair() -> Pair:
        return Pair(1, (2, 3))

    @h.workflow
    async def flow(ctx: Context) -> None:
        seen.append((await ctx.step(draft), await ctx.step(pair)))
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert len(seen) >= 2
    assert all(one == (Draft(title="x", price=Decimal("1.10")), Pair(1, (2, 3))) for one in seen)


@scenario(2)
async def an_untyped_result_is_plain_json_on_the_first_pass_too(h: Harness) -> None:
    """What a step without a declared type returns is what JSON gives back, at once."""

    async def give():  # type: ignore[no-untyped-def]
        return {"a": (1, 2)}

    @h.workflow
    async def flow(ctx: Context) -> bool:
        return bool(await ctx.step(give) == {"a": [1, 2]})

    assert await h.result(await h.start(flow)) is True


@scenario(2)
async def values_that_do_not_survive_json_are_refused_with_their_path(h: Harness) -> None:
    """NaN, infinity, keys that are no text and secrets are refused, and the error names where they are."""
    bad: dict[str, Any] = {
        "nan": {"a": [1.0, float("nan")]},
        "infinity": {"a": [1.0, float("inf")]},
        "keys": {"a": [0, {1: "x"}]},
        "secret": {"a": [0, SecretStr("x")]},
        "object": {"a": [0, object()]},
    }

    async def give(name: str):  # type: ignore[no-untyped-def]
        return bad[name]

    @h.workflow
    async def flow(ctx: Context, name: str) -> None:
        await ctx.step(give, name)

    for name in bad:
        error = await h.error(await h.start(flow, name), RunFailedError)
        assert "$.a[1]" in str(error), name


@scenario(2)
async def a_typed_result_that_does_not_survive_is_refused(h: Harness) -> None:
    """A typed result with a NaN is refused with its path, and not retried."""

    async def give() -> dict[str, float]:
        h.ledger.append("try")
        return {"x": float("nan")}

    tried = step(retry=Retry(attempts=3, delay_ms=0))(give)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(tried)

    error = await h.error(await h.start(flow), RunFailedError)
    assert "$.x" in str(error)
    assert h.ledger == ["try"]


@scenario(2)
async def a_secret_is_refused_as_an_input(h: Harness) -> None:
    """An input with a secret is refused when the run is created."""

    @h.workflow
    async def flow(ctx: Context, value: SecretStr) -> None: ...

    with refused(InvalidValueError) as caught:
        h.client.create_run(flow, SecretStr("hush"))
    assert "hush" not in str(caught.error)


@scenario(2)
async def a_failed_step_raises_step_failed(h: Harness) -> None:
    """A failed step raises StepFailedError with step, error type, message and attempts."""
    seen: list[tuple[str, str, str, int]] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.step(h.fail, "lost")
        except StepFailedError as error:
            seen.append((error.step, error.error_type, error.message, error.attempts))

    await h.result(await h.start(flow))
    assert set(seen) == {("fail", "ValueError", "lost", 1)}


@scenario(2, CRASH)
async def a_failed_step_raises_alike_on_replay(h: Harness) -> None:
    """A failed step raises the same error on replay, and does not run again."""
    seen: list[str] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.step(h.fail, "lost")
        except StepFailedError as error:
            seen.append(str(error))
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert len(seen) >= 2
    assert len(set(seen)) == 1
    assert h.ledger == ["lost"]


@scenario(2, CRASH)
async def declared_exceptions_are_raised_as_themselves(h: Harness) -> None:
    """A declared exception type comes through as itself, live and on replay."""
    seen: list[tuple[Any, ...]] = []

    async def take(article: str) -> None:
        h.ledger.append(article)
        raise OutOfStock(article, 3)

    taken = step(raises=(OutOfStock,))(take)

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.step(taken, "pen")
        except OutOfStock as error:
            seen.append(error.args)
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert len(seen) >= 2
    assert set(seen) == {("pen", 3)}
    assert h.ledger == ["pen"]


@scenario(2)
async def should_retry_of_a_step_sees_the_original(h: Harness) -> None:
    """The step's own should_retry is called with the exception that the function raised."""
    seen: list[Exception] = []

    def judge(error: Exception) -> bool:
        seen.append(error)
        return False

    tried = step(retry=Retry(attempts=3, delay_ms=0, should_retry=judge))(h.fail)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(tried, "broken")

    await h.error(await h.start(flow), RunFailedError)
    assert [type(error) for error in seen] == [ValueError]
    assert h.ledger == ["broken"]


@scenario(2, CRASH)
async def time_and_chance_are_the_same_on_replay(h: Harness) -> None:
    """ctx.now, ctx.uuid and ctx.random give on replay what they gave first, and differ from call to call."""
    seen: list[tuple[Any, ...]] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        values = (ctx.now(), ctx.uuid(), ctx.uuid(), ctx.random(), ctx.random())
        await ctx.wait_for_approval("go?")
        seen.append(values)

    execution = await h.start(flow)
    await h.advance(ms=5_000)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    (values,) = set(seen)
    assert values[1] != values[2]
    assert values[3] != values[4]
    assert (h.now() - values[0]).total_seconds() == 5
