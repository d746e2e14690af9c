"""Section 1: starting, handles, options, logs, the context's small things."""

import asyncio
import logging

from osprotocol.context import Context, current_step
from osprotocol.errors import (
    DuplicateWorkflowError,
    IdempotencyConflictError,
    InvalidValueError,
    WorkflowDefinitionError,
)
from osprotocol.execution import Execution
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.testing.conformance.harness import CRASH, SEVERAL_CLIENTS, Harness, Latch, refused
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import Workflow, register, step


@scenario(1)
async def create_run_stores_nothing(h: Harness) -> None:
    """create_run is synchronous, stores nothing, and gives a run in pending."""

    @h.workflow
    async def flow(ctx: Context) -> None: ...

    run = h.client.create_run(flow)
    assert (run.status, run.id) == (RunStatus.PENDING, None)
    await h.settle()
    assert (await h.client.list()).items == ()


@scenario(1)
async def the_same_run_started_again_is_the_same_execution(h: Harness) -> None:
    """Starting the same run again, even at the same time, returns the same execution."""

    @h.workflow
    async def flow(ctx: Context) -> None: ...

    run = h.client.create_run(flow)
    first, second = await asyncio.gather(run.start(), run.start())
    assert first is second
    assert await run.start() is first
    assert len((await h.client.list()).items) == 1


@scenario(1)
async def an_input_that_does_not_fit_is_refused_at_once(h: Harness) -> None:
    """An input that does not fit its type is refused by create_run with the path."""

    @h.workflow
    async def flow(ctx: Context, counts: dict[str, int]) -> None: ...

    with refused(InvalidValueError) as caught:
        h.client.create_run(flow, {"a": "many"})
    assert caught.error.problems[0][0] == "$.a"


@scenario(1)
async def a_result_that_does_not_fit_fails_the_run(h: Harness) -> None:
    """A result that does not fit the declared type fails the run, with the path."""

    @h.workflow
    async def flow(ctx: Context) -> dict[str, int]:
        return {"a": "many"}  # type: ignore[dict-item]

    execution = await h.start(flow)
    assert await h.status(execution) is RunStatus.FAILED
    assert execution.snapshot.error is not None
    assert "$.a" in execution.snapshot.error.message


@scenario(1)
async def a_function_that_takes_no_context_is_no_workflow(h: Harness) -> None:
    """A workflow takes a context and at most one input, and is an async function."""

    async def nothing() -> None: ...

    async def three(ctx: Context, a: int, b: int) -> None: ...

    def plain(ctx: Context) -> None: ...

    for function in (nothing, three, plain):
        with refused(WorkflowDefinitionError):
            h.define(function)  # type: ignore[arg-type]


@scenario(1)
async def two_functions_of_one_name_are_an_error(h: Harness) -> None:
    """Two different functions of one name are an error; the same one defined again replaces."""

    async def one(ctx: Context) -> None: ...

    async def other(ctx: Context) -> None: ...

    first = h.define(one)
    register(Workflow(one, name=first.name))
    with refused(DuplicateWorkflowError):
        register(Workflow(other, name=first.name))


@scenario(1)
async def the_version_is_stored_with_each_run(h: Harness) -> None:
    """The workflow's version is stored with each run."""

    async def flow(ctx: Context) -> None: ...

    execution = await h.start(h.define(flow, version="1.2"))
    assert execution.snapshot.version == "1.2"


@scenario(1, CRASH, SEVERAL_CLIENTS)
async def a_run_that_nobody_knows_says_so(h: Harness) -> None:
    """A run whose workflow no living worker knows stays where it is and says so, until one comes that knows it."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(h.note, "a")

    execution = await h.start_pending(flow)
    h.forget(flow)
    h.client = await h.connect()
    assert await h.status(execution) is RunStatus.PENDING
    assert flow.name in (execution.snapshot.stuck or "")
    h.define(flow.function, name=flow.name)
    await h.restart()
    assert await h.result(await h.again(execution)) == "a"


@scenario(1, SEVERAL_CLIENTS)
async def a_client_without_a_worker_executes_nothing(h: Harness) -> None:
    """A client with worker=False starts and reads runs, and executes none."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return "a"

    execution = await h.start_pending(flow)
    await h.settle()
    await execution.refresh()
    assert execution.status is RunStatus.PENDING
    h.client = await h.connect()
    assert await h.result(execution) == "a"


@scenario(1, SEVERAL_CLIENTS)
async def leaving_cancels_nothing(h: Harness) -> None:
    """Leaving the block lets a running step finish and parks the rest; everything goes on at the next start."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        first = await ctx.step(latch.step)
        return await ctx.step(h.note, first)

    execution = await h.start(flow)
    await latch.reached.wait()
    closing = asyncio.create_task(h.client.close())
    await asyncio.sleep(0)
    latch.opened.set()
    await closing
    assert h.ledger == []
    h.client = await h.connect()
    assert await h.result(await h.again(execution)) == "done"
    assert latch.passes == 1


@scenario(1)
async def many_tasks_may_await_one_result(h: Harness) -> None:
    """Any number of tasks may await the result, and cancelling one of them does not touch the run."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?")).outcome

    execution: Execution[str] = await h.start(flow)

    async def wait() -> str:
        return await execution.result

    tasks = [asyncio.create_task(wait()) for _ in range(5)]
    await h.settle()
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.approve()
    assert await asyncio.gather(*tasks[1:]) == ["approved"] * 4
    assert await execution.result == "approved"


@scenario(1, SEVERAL_CLIENTS)
async def another_client_sees_the_same_run(h: Harness) -> None:
    """A handle in another client moves forward by itself, and commands given there count."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        ctx.report_progress(1, 2, "half")
        return (await ctx.wait_for_approval("go?")).outcome

    execution = await h.start(flow)
    teller = await h.connect(worker=False)
    told = await teller.get(execution.id, flow)
    assert (told.status, told.progress.message) == (RunStatus.AWAITING, "half")
    await told.approve(by="mia")
    assert await h.result(told) == "approved"
    assert await h.result(execution) == "approved"


@scenario(1)
async def the_idempotency_key_makes_one_run(h: Harness) -> None:
    """The same key and input give the same run, another input is a conflict, another key another run."""

    @h.workflow
    async def flow(ctx: Context, what: str) -> str:
        return await ctx.step(h.note, what)

    first = await h.start(flow, "a", RunOptions(idempotency_key="k"))
    again = await h.start(flow, "a", RunOptions(idempotency_key="k"))
    assert again.id == first.id
    assert await h.result(again) == "a"
    with refused(IdempotencyConflictError):
        await h.start(flow, "b", RunOptions(idempotency_key="k"))
    assert (await h.start(flow, "b", RunOptions(idempotency_key="other"))).id != first.id
    assert h.ledger == ["a", "b"]


@scenario(1)
async def the_idempotency_key_belongs_to_its_workflow(h: Harness) -> None:
    """The same key of two workflows gives two runs."""

    @h.workflow
    async def one(ctx: Context) -> None: ...

    @h.workflow
    async def other(ctx: Context) -> None: ...

    options = RunOptions(idempotency_key="k")
    assert (await h.start(one, options=options)).id != (await h.start(other, options=options)).id


@scenario(1)
async def progress_and_logs_are_live(h: Harness) -> None:
    """Progress and log lines of code and steps are seen while the run still works."""
    latch = Latch()

    async def work() -> None:
        current_step().report_progress(2, 3, "in the step")
        current_step().log("from the step", size=3)
        await latch.step()

    @h.workflow
    async def flow(ctx: Context) -> None:
        ctx.report_progress(1, 3, "begun")
        ctx.log("from the code")
        await ctx.step(work)

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.settle()
    assert (execution.progress.current, execution.progress.total) == (2, 3)
    assert await h.log(execution) == ["from the code", "from the step"]
    line = (await execution.read_logs())[1]
    assert (line.step, line.fields) == ("work", {"size": 3})
    assert [one.message for one in await execution.read_logs(after=(await execution.read_logs())[0].number)] == [
        "from the step"
    ]
    assert execution.logs == ["from the code", "from the step"]
    latch.opened.set()
    await h.result(execution)


@scenario(1, CRASH)
async def log_lines_of_replayed_code_are_not_repeated(h: Harness) -> None:
    """Lines by ctx.log and by the logging module appear once, however often the code is replayed."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        ctx.log("one")
        logging.getLogger("conformance").warning("two")
        await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")
        ctx.log("three")

    execution = await h.start(flow)
    await h.log(execution)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert await h.log(execution) == ["one", "two", "three"]


@scenario(1)
async def with_options_gives_a_step_of_another_name(h: Harness) -> None:
    """with_options gives a step with other options, and leaves the original alone."""

    @step
    async def write(what: str) -> str:
        return what

    renamed = write.with_options(name="draft")

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(renamed, "a")
        await ctx.step(write, "b")

    execution = await h.start(flow)
    await h.result(execution)
    assert [record.name for record in await execution.steps()] == ["draft", "write"]


@scenario(1)
async def the_wire_form_is_camel_case(h: Harness) -> None:
    """A snapshot's wire form has camelCase names and instants in UTC with milliseconds."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.status(execution)
    wire = execution.snapshot.to_wire()
    assert wire["status"] == "awaiting"
    assert wire["waitingOn"][0]["requestId"]
    assert len(wire["createdAt"]) == len("2026-01-01T00:00:00.000Z")
    assert wire["createdAt"].endswith("Z")


@scenario(1, SEVERAL_CLIENTS)
async def workflows_are_listed_with_their_schemas(h: Harness) -> None:
    """client.workflows gives name, version and the JSON Schemas of input and output."""

    async def flow(ctx: Context, n: int) -> str:
        """Count."""
        return str(n)

    defined = h.define(flow, version="7")
    # A client of a server learns what can be started when it connects.
    [info] = [one for one in (await h.connect()).workflows() if one.name == defined.name]
    assert (info.version, info.description) == ("7", "Count.")
    assert (info.input_schema, info.output_schema) == ({"type": "integer"}, {"type": "string"})
