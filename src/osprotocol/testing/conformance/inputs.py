"""Section 8: typed inputs, and attention."""

from typing import Any

from pydantic import BaseModel, Field

from osprotocol.context import Context
from osprotocol.errors import InvalidAnswerError, RequestClosedError, RequestNotFoundError
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import CRASH, Harness, Latch, refused
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import step


class Person(BaseModel):
    """What is asked for."""

    name: str = Field(min_length=2)
    age: int = Field(ge=0)


class Even(BaseModel):
    """What only its code can judge."""

    number: int

    def model_post_init(self, context: Any) -> None:
        """Refuse odd numbers."""
        if self.number % 2:
            raise ValueError("must be even")


@scenario(8)
async def the_schema_of_the_type_makes_the_form(h: Harness) -> None:
    """The request of an input carries the JSON Schema of its type."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_input("who?", Person)).name

    execution = await h.start(flow)
    (request,) = execution.requests
    assert request.kind == "input"
    assert request.schema_ == Person.model_json_schema()
    await execution.respond({"name": "mia", "age": 3})
    assert await h.result(execution) == "mia"


@scenario(8)
async def an_invalid_answer_is_refused_with_every_path(h: Harness) -> None:
    """An invalid answer is refused with 422 and each field's path; nothing is stored, the request stays open."""

    @h.workflow
    async def flow(ctx: Context) -> int:
        return (await ctx.wait_for_input("who?", Person)).age

    execution = await h.start(flow)
    before = await h.types(execution)
    with refused(InvalidAnswerError) as caught:
        await execution.respond({"name": "m", "age": -1})
    assert caught.error.http_status == 422
    assert {path for path, _ in caught.error.problems} == {"$.name", "$.age"}
    assert await h.types(execution) == before
    assert [request.revision for request in execution.requests] == [1]
    await execution.respond({"name": "mia", "age": 3})
    assert await h.result(execution) == 3


@scenario(8)
async def the_worker_has_the_last_word(h: Harness) -> None:
    """An answer that fits the schema but not the type is refused by the worker: next revision, with the message."""

    @h.workflow
    async def flow(ctx: Context) -> int:
        return (await ctx.wait_for_input("number?", Even)).number

    execution = await h.start(flow)
    try:
        await execution.respond({"number": 3})
    except InvalidAnswerError:
        expected = 1
    else:
        expected = 2
    assert await h.status(execution) is RunStatus.AWAITING
    (request,) = execution.requests
    assert request.revision == expected
    if expected == 2:
        assert "even" in (request.message or "")
    await execution.respond({"number": 4})
    assert await h.result(execution) == 4


@scenario(8)
async def the_first_valid_answer_wins(h: Harness) -> None:
    """The first valid answer wins; a second is told that it was answered."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.wait_for_input("name?")

    execution = await h.start(flow)
    request = await execution.respond("a", by="mia")
    with refused(RequestClosedError) as caught:
        await execution.respond("b", by="bo", request_id=request.id)
    assert (caught.error.outcome, caught.error.closed_by) == ("answered", "mia")
    assert await h.result(execution) == "a"


@scenario(8, CRASH)
async def an_answer_has_its_type_on_replay(h: Harness) -> None:
    """The answer is the same typed value on the first pass and on replay."""
    seen: list[Person] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        seen.append(await ctx.wait_for_input("who?", Person))
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await execution.respond({"name": "mia", "age": 3})
    await h.settle()
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert len(seen) >= 2
    assert all(one == Person(name="mia", age=3) for one in seen)


@scenario(8)
async def an_input_takes_no_vote(h: Harness) -> None:
    """An approval takes no value, an input no vote: the other kind is not found."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.wait_for_input("name?")

    execution = await h.start(flow)
    with refused(RequestNotFoundError):
        await execution.approve(request_id=execution.requests[0].id)
    await execution.respond("x")
    assert await h.result(execution) == "x"


@scenario(8, CRASH)
async def attention_takes_only_what_makes_sense(h: Harness) -> None:
    """Attention takes retry, or skip with a value that fits; anything else is refused and it stays open."""
    latch = Latch()

    async def pay() -> int:
        await latch.step()
        return 1

    once = step(at_most_once=True)(pay)

    @h.workflow
    async def flow(ctx: Context) -> int:
        return await ctx.step(once)

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.restart()
    execution = await h.again(execution)
    await h.settle()
    for nonsense in ("maybe", {"action": "skip"}, 7, None):
        with refused(InvalidAnswerError):
            await execution.respond(nonsense)
    await execution.refresh()
    assert [request.kind for request in execution.requests] == ["attention"]
    await execution.respond({"action": "skip", "value": "no number"})
    assert await h.status(execution) is RunStatus.AWAITING
    assert execution.requests[0].revision == 2
    await execution.respond({"action": "skip", "value": 5})
    assert await h.result(execution) == 5
