"""Commands that look: list, show, logs, events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from osprotocol import _limits
from osprotocol.cli.command import command
from osprotocol.cli.display import log_text, progress_text, state_text
from osprotocol.cli.output import (
    ago,
    clean,
    duration,
    instant,
    on_terminal,
    pretty,
    say,
    short,
    to_json,
    write,
    write_json,
    write_table,
)
from osprotocol.cli.session import Session
from osprotocol.cli.values import moment
from osprotocol.client import Client
from osprotocol.errors import RequestNotFoundError, RunNotFoundError
from osprotocol.execution import Execution
from osprotocol.protocol._wire import Wire
from osprotocol.protocol.events import Event, StepRecord
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunSnapshot, RunStatus

_FOLLOW_S = 0.2

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Run id; may be shortened while it is unambiguous.")]
Status = Annotated[list[str] | None, typer.Option("--status", "-s", metavar="STATUS", help="Only these. Repeatable.")]
WorkflowName = Annotated[str | None, typer.Option("--workflow", "-w", metavar="NAME", help="Only runs of it.")]
Label = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="Only with it. Repeatable.")
]
Text = Annotated[
    str | None, typer.Option("--text", "-t", metavar="TEXT", help="Part of the id, workflow, message, error or label.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until the run has ended.")]


@command("list")
async def list_runs(
    session: Session,
    status: Status = None,
    workflow: WorkflowName = None,
    label: Label = None,
    text: Text = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Accepted since: 2h, 7d or an ISO 8601 instant.")
    ] = None,
    parent: Annotated[str | None, typer.Option("--parent", metavar="RUN", help="Only children of that run.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")] = _limits.PAGE_SIZE_DEFAULT,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Every run, however many there are.")] = False,
) -> None:
    """List runs, newest first."""
    chosen: dict[str, Any] = {"status": status, "workflow": workflow, "label": label, "text": text}
    chosen["started_after"] = moment(since, "--since") if since else None
    async with session.connect() as client:
        if parent is not None:
            chosen["parent"] = (await client.get(parent)).id
        runs, more = await _pages(client, chosen, None if everything else limit)
    if session.json:
        write_json(runs)
        return
    rows = [(run.id, run.workflow, state_text(run), progress_text(run).strip(), ago(run.created_at)) for run in runs]
    write_table(("RUN", "WORKFLOW", "STATUS", "PROGRESS", "ACCEPTED"), rows, "no runs")
    if more:
        say("there are more: --limit or --all")


async def _pages(client: Client, chosen: dict[str, Any], limit: int | None) -> tuple[list[RunSnapshot], bool]:
    runs: list[RunSnapshot] = []
    cursor: str | None = None
    while True:
        size = _limits.PAGE_SIZE if limit is None else min(limit - len(runs), _limits.PAGE_SIZE)
        page = await client.list(**chosen, limit=size, cursor=cursor)
        runs += page.items
        cursor = page.next_cursor
        if cursor is None or len(runs) == limit:
            return runs, cursor is not None


async def find(client: Client, id: str) -> tuple[Execution[Any], Request | None]:
    """A run by its id, or a request by its id and its run.

    Raises:
        RunNotFoundError: neither has that id.
    """
    try:
        return await client.get(id), None
    except RunNotFoundError:
        try:
            return await client.find_request(id)
        except RequestNotFoundError:
            pass
        raise


@command("show")
async def show(
    session: Session,
    id: Annotated[str, typer.Argument(metavar="RUN|REQUEST", help="Id of a run or a request; may be shortened.")],
) -> None:
    """Show a run or a request.

    Of a run: input, steps, open requests, result. Of a request: prompt, payload, votes, and what `--seen` takes.
    """
    async with session.connect() as client:
        execution, request = await find(client, id)
        if request is not None:
            write(to_json(request)) if session.json else _write_request(request)
            return
        run, steps = execution.snapshot, await execution.steps()
        value = await _input_of(execution)
        result = await _result_of(execution)
        requests = execution.requests
        children = (await client.list(parent=run.id, limit=_limits.PAGE_SIZE)).items
    if session.json:
        parts: dict[str, Sequence[Wire]] = {"requests": requests, "steps": steps, "children": children}
        lists = {name: [one.to_wire() for one in ones] for name, ones in parts.items()}
        write(to_json({**run.to_wire(), "input": value, "result": result, **lists}))
        return
    _write_run(run, value, children)
    for asked in requests:
        say_to = f"  {asked.id}  {asked.kind}: {short(asked.prompt)}"
        write("Open request:\n" + say_to)
    if steps:
        write("Steps:")
        write_table(("KEY", "KIND", "NAME", "STATUS", "TRIES", "TOOK", "RESULT"), [_step_row(one) for one in steps], "")
    if result is not None:
        write("Result:\n" + pretty(result))


async def _input_of(execution: Execution[Any]) -> Any:
    stream = execution.events()
    async for event in stream:
        return (event.data or {}).get("input") if isinstance(event.data, dict) else None
    return None


async def _result_of(execution: Execution[Any]) -> Any:
    return await execution.result if execution.status is RunStatus.COMPLETED else None


def _step_row(step: StepRecord) -> tuple[object, ...]:
    took = duration(step.ended_at - step.started_at) if step.ended_at and step.started_at else ""
    outcome = f"{step.error.type}: {step.error.message}" if step.error else (
        "" if step.result is None else (step.result if isinstance(step.result, str) else to_json(step.result))
    )  # fmt: skip
    return step.key, step.kind, step.name, step.status, step.attempts, took, short(outcome)


def _write_run(run: RunSnapshot, value: Any, children: tuple[RunSnapshot, ...]) -> None:
    origin = f"{run.origin.kind} of {run.origin.run_id}" if run.origin else None
    if run.origin and run.origin.after_step:
        origin = f"{origin} after {run.origin.after_step}"
    _write_facts(
        {
            "Run": run.id,
            "Workflow": run.workflow + (f" (version {run.version})" if run.version else ""),
            "Status": state_text(run),
            "Stuck": run.stuck,
            "Progress": progress_text(run).strip(),
            "Attempt": run.attempt or None,
            "Input": None if value is None else short(value if isinstance(value, str) else to_json(value), 200),
            "Labels": ", ".join(f"{name}={text}" for name, text in run.labels.items()),
            "Key": run.idempotency_key,
            "Origin": origin,
            "Parent": run.parent_id,
            "Children": ", ".join(child.id for child in children),
            "Worker": run.worker,
            "Accepted": instant(run.created_at),
            "Ended": instant(run.ended_at) if run.ended_at else None,
            "Cancelled by": run.cancelled_by,
            "Reason": run.cancel_reason,
            "Paused": next((wait.prompt or "yes" for wait in run.waiting_on if wait.kind == "paused"), None),
            "Error": f"{run.error.type}: {run.error.message}" if run.error else None,
        }
    )


def _write_request(request: Request) -> None:
    _write_facts(
        {
            "Request": request.id,
            "Run": request.run_id,
            "Workflow": request.workflow,
            "Kind": request.kind,
            "Status": request.status,
            "Prompt": request.prompt,
            "Approvers": ", ".join(request.approvers),
            "Needed": request.required_approvals if request.kind == "approval" else None,
            "Asked": instant(request.opened_at),
            "Expires": instant(request.expires_at) if request.expires_at else None,
            "Closed": instant(request.closed_at) if request.closed_at else None,
            "Seen": request.seen,
            "Schema": to_json(request.schema_) if request.schema_ else None,
            "Last refusal": request.message,
            "Answer": None if request.answer is None else to_json(request.answer),
        }
    )
    for response in request.responses:
        vote = {True: "approved", False: "rejected", None: "answered"}[response.approved]
        write(f"{clean(response.by)} {vote} {instant(response.at)} {clean(response.reason or '')}".rstrip())
    if request.payload is not None:
        write("Payload:\n" + pretty(request.payload))


def _write_facts(facts: dict[str, object]) -> None:
    width = max(len(name) for name in facts) + 2
    for name, fact in facts.items():
        if fact not in (None, ""):
            write(f"{name + ':':<{width}}{clean(fact)}")


@command("logs")
async def logs(
    session: Session,
    run: RunId,
    follow: Follow = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=1, help="Only the newest lines.")] = None,
) -> None:
    """Print the log of a run."""
    async with session.connect() as client:
        execution = await client.get(run)
        number = 0
        if tail is not None:
            newest = await execution.read_logs(limit=-tail)
            number = newest[0].number - 1 if newest else 0
        while True:
            ended = execution.status.is_final  # asked before reading, so that nothing is missed
            while lines := await execution.read_logs(after=number):
                for line in lines:
                    write(to_json(line) if session.json else log_text(line))
                number = lines[-1].number
            if ended or not follow:
                return
            await asyncio.sleep(_FOLLOW_S)
            await execution.refresh()


@command("events")
async def events(
    session: Session,
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Run id; all runs without it.")] = None,
    follow: Follow = False,
    after: Annotated[int, typer.Option("--after", min=0, help="Only above this number (of all runs: cursor).")] = 0,
) -> None:
    """Print the history of a run, or of all runs."""
    async with session.connect() as client:
        if run is None:
            await _all_events(session, client, after, follow)
            return
        execution = await client.get(run)
        last = execution.snapshot.event
        if not follow and after >= last:
            return
        async for event in execution.events(after):
            _write_event(session, event, with_run=False)
            if not follow and event.number >= last:
                return


async def _all_events(session: Session, client: Client, after: int, follow: bool) -> None:
    if follow:
        async for event in client.events(after):
            _write_event(session, event, with_run=True)
        return
    while found := await client._engine.read_events(None, after, _limits.PAGE_SIZE):
        for event in found:
            _write_event(session, event, with_run=True)
        after = found[-1].cursor


def _write_event(session: Session, event: Event, *, with_run: bool) -> None:
    if session.json:
        write(to_json(event))
        return
    data = "" if event.data is None else short(to_json(event.data), 100)
    parts = [event.run_id] if with_run else []
    parts += [f"{event.cursor if with_run else event.number}", instant(event.at), event.type]
    parts += [event.key or "", event.name or "", event.status.value if event.status else "", data]
    if on_terminal():
        write("  ".join(clean(part) for part in parts if part))
    else:
        write("\t".join(clean(part) for part in parts))
