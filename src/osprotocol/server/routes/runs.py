"""Runs: start, list, read, steer and delete them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import AwareDatetime
from starlette.responses import Response

from osprotocol import _limits
from osprotocol import errors as e
from osprotocol._ids import derived_id
from osprotocol.client import _filter
from osprotocol.execution import Execution
from osprotocol.protocol.events import LogLine, Page, StepRecord
from osprotocol.protocol.http import CancelBody, ForkBody, ReasonBody, RunDetail, StartBody
from osprotocol.protocol.run import RunSnapshot, RunStatus
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.identity import acting_as
from osprotocol.server.openapi import FINDING, POSTING, READING, answers
from osprotocol.server.replies import API, Answer, Call, detail_of, once, reply_items, takes
from osprotocol.server.routes import api_router
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import engine_of, find_execution, find_run, list_runs
from osprotocol.workflow import known_workflows

router = api_router("runs")

Reader = Annotated[Principal, allow(Permission.READ)]
Steerer = Annotated[Principal, allow(Permission.STEER)]
Limit = Annotated[int, Query(ge=1, le=_limits.PAGE_SIZE)]


@router.post(
    "/runs",
    status_code=201,
    responses=answers(
        RunDetail, *POSTING, e.UnknownWorkflowError, e.IdempotencyConflictError, e.WorkflowDefinitionError,
        status=201, also=200,
    ),
)  # fmt: skip
async def start_run(
    here: Here,
    who: Annotated[Principal, allow(Permission.START)],
    call: Annotated[Call[StartBody], takes(StartBody)],
) -> Response:
    """Start a run. Answers 200 when the run of ``options.idempotencyKey`` exists already."""
    body, engine = call.body, engine_of(here)
    if not who.sees(body.workflow):
        raise e.UnknownWorkflowError(body.workflow, tuple(sorted(who.workflows or ())))
    known = known_workflows().get(body.workflow)
    if known is None:
        there = tuple(info.name for info in here.client.workflows() if who.sees(info.name))
        raise e.UnknownWorkflowError(body.workflow, there)
    data = known.dump_input(body.input)

    async def act(key: str | None) -> Answer:
        is_new = not await _exists(here, body)
        update = await engine.start(known, data, body.options)
        return Answer(detail_of(update), 201 if is_new else 200, f"{API}/runs/{update.run_id}" if is_new else None)

    async def again(run_id: str | None) -> Answer:
        return await _detail(here, run_id or "", 201)

    return await once(here, who, call, act, again)


async def _exists(here: Serving, body: StartBody) -> bool:
    if body.options is None or body.options.idempotency_key is None:
        return False
    try:
        await engine_of(here).get(derived_id(body.workflow, body.options.idempotency_key))
    except e.RunNotFoundError:
        return False
    return True


async def _detail(here: Serving, run_id: str, status: int = 200) -> Answer:
    update = await engine_of(here).get(run_id)
    return Answer(detail_of(update), status, f"{API}/runs/{update.run_id}" if status == 201 else None)


@router.get("/runs", responses=answers(Page[RunSnapshot], *READING, e.InvalidOptionError))
async def list_all_runs(
    here: Here,
    who: Reader,
    status: Annotated[list[RunStatus] | None, Query(description="One status, or several.")] = None,
    workflow: str | None = None,
    label: Annotated[list[str] | None, Query(description="``NAME=VALUE``; all have to match.")] = None,
    text: Annotated[
        str | None, Query(description="Part of the id, workflow, progress message, error or labels.")
    ] = None,
    started_after: Annotated[AwareDatetime | None, Query(alias="startedAfter")] = None,
    started_before: Annotated[AwareDatetime | None, Query(alias="startedBefore")] = None,
    parent: Annotated[str | None, Query(description="Only children of that run.")] = None,
    limit: Limit = _limits.PAGE_SIZE_DEFAULT,
    cursor: Annotated[str | None, Query(description="``nextCursor`` of an earlier page.")] = None,
) -> Response:
    """List runs, newest first."""
    chosen = _filter(status, workflow, label, text, started_after, started_before, parent)
    page = await list_runs(here, who, chosen, limit, cursor)
    return reply_items(page.items, page.next_cursor)


@router.get("/runs/{run_id}", responses=answers(RunDetail, *FINDING))
async def get_run(run_id: str, here: Here, who: Reader) -> Response:
    """Get a run. Its id may be shortened while it is unambiguous."""
    return Answer(detail_of(await find_run(here, who, run_id))).response()


@router.delete(
    "/runs/{run_id}", status_code=204, responses=answers(None, *FINDING, e.InvalidTransitionError, status=204)
)
async def delete_run(run_id: str, here: Here, who: Annotated[Principal, allow(Permission.DELETE)]) -> Response:
    """Delete a final run, its children and everything of them."""
    update = await find_run(here, who, run_id)
    with acting_as(who):
        await here.client.delete(update.run_id)
    return Response(status_code=204)


@router.get("/runs/{run_id}/steps", responses=answers(Page[StepRecord], *FINDING))
async def list_steps(run_id: str, here: Here, who: Reader) -> Response:
    """List what the journal holds: steps, sleeps, requests and child runs, in the order in which they began."""
    update = await find_run(here, who, run_id)
    return reply_items(await engine_of(here).steps(update.run_id))


@router.get("/runs/{run_id}/logs", responses=answers(Page[LogLine], *FINDING))
async def list_logs(
    run_id: str,
    here: Here,
    who: Reader,
    after: Annotated[int, Query(ge=0, le=2**53, description="Only lines with a higher number.")] = 0,
    limit: Limit = _limits.PAGE_SIZE_DEFAULT,
    newest: Annotated[bool, Query(description="The newest lines instead of those after a number.")] = False,
) -> Response:
    """List lines of a run's log, oldest first. ``nextCursor`` is the ``after`` of the next page."""
    update = await find_run(here, who, run_id)
    lines = await engine_of(here).logs(update.run_id, after, -limit if newest else limit)
    more = len(lines) == limit and not newest
    return reply_items(lines, str(lines[-1].number) if more else None)


# --------------------------------------------------------------------- steering

_STEERING = (*POSTING, *FINDING, e.InvalidTransitionError)


async def _steered(here: Serving, who: Principal, call: Call[Any], execution: Execution[Any], act: Any) -> Response:
    async def steer(key: str | None) -> Answer:
        await act()
        return await _detail(here, execution.id)

    async def again(run_id: str | None) -> Answer:
        return await _detail(here, execution.id)

    return await once(here, who, call, steer, again)


@router.post("/runs/{run_id}/pause", responses=answers(RunDetail, *_STEERING))
async def pause_run(
    run_id: str, here: Here, who: Steerer, call: Annotated[Call[ReasonBody], takes(ReasonBody, optional=True)]
) -> Response:
    """Pause a run: it stops at its next boundaries."""
    execution = await find_execution(here, who, run_id)
    return await _steered(here, who, call, execution, lambda: execution.pause(call.body.reason, by=who.name))


@router.post("/runs/{run_id}/resume", responses=answers(RunDetail, *_STEERING))
async def resume_run(
    run_id: str, here: Here, who: Steerer, call: Annotated[Call[ReasonBody], takes(ReasonBody, optional=True)]
) -> Response:
    """Resume a paused run. Answers no request."""
    execution = await find_execution(here, who, run_id)
    return await _steered(here, who, call, execution, lambda: execution.resume(by=who.name))


@router.post("/runs/{run_id}/cancel", responses=answers(RunDetail, *_STEERING, e.CancelVetoedError))
async def cancel_run(
    run_id: str, here: Here, who: Steerer, call: Annotated[Call[CancelBody], takes(CancelBody, optional=True)]
) -> Response:
    """Cancel a run. The answer waits for its ``before_cancel``; ``cancelling`` tells of a cleanup under way."""
    execution, body = await find_execution(here, who, run_id), call.body

    async def cancel(key: str | None) -> Answer:
        await execution.cancel(body.reason, by=who.name, graceful=body.graceful)
        return await _detail(here, execution.id)

    async def again(run_id: str | None) -> Answer:
        await execution.refresh()
        check_not_vetoed(execution)
        return await _detail(here, execution.id)

    return await once(here, who, call, cancel, again)


def check_not_vetoed(execution: Execution[Any]) -> None:
    """Tell of a cancel that was accepted some time ago whether it was refused later.

    Raises:
        CancelVetoedError: its `before_cancel` returned False.
    """
    if not execution.status.is_final and not execution.snapshot.cancelling:
        raise e.CancelVetoedError(execution.id)


async def _taken_over(
    here: Serving, who: Principal, call: Call[Any], run_id: str, kind: str, after: str | None
) -> Response:
    origin = (await find_run(here, who, run_id)).run_id

    async def act(key: str | None) -> Answer:
        update = await engine_of(here).take_over(origin, kind, after)
        return Answer(detail_of(update), 201, f"{API}/runs/{update.run_id}")

    async def again(made: str | None) -> Answer:
        return await _detail(here, made or origin, 201)

    return await once(here, who, call, act, again)


@router.post("/runs/{run_id}/retry", status_code=201, responses=answers(RunDetail, *_STEERING, status=201))
async def retry_run(
    run_id: str, here: Here, who: Steerer, call: Annotated[Call[ReasonBody], takes(ReasonBody, optional=True)]
) -> Response:
    """Go on from a failed or cancelled run with a new one."""
    return await _taken_over(here, who, call, run_id, "retry", None)


@router.post("/runs/{run_id}/fork", status_code=201, responses=answers(RunDetail, *_STEERING, status=201))
async def fork_run(
    run_id: str, here: Here, who: Steerer, call: Annotated[Call[ForkBody], takes(ForkBody, optional=True)]
) -> Response:
    """Start a new run that takes over the journal up to a completed step."""
    return await _taken_over(here, who, call, run_id, "fork", call.body.after_step)
