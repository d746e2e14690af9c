"""Commands that steer runs: pause, resume, cancel, retry, fork."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from osprotocol.cli.command import command
from osprotocol.cli.exits import CommandError, ExitCode, exit_code_of
from osprotocol.cli.output import clean, say, to_json, write
from osprotocol.cli.people import By, Reason
from osprotocol.cli.reading import Label, RunId, Status, Text, WorkflowName
from osprotocol.cli.session import Session
from osprotocol.client import Client
from osprotocol.errors import OSProtocolError
from osprotocol.execution import Execution
from osprotocol.protocol.events import BulkResult
from osprotocol.protocol.run import RunStatus

RunIds = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN]...", help="Run ids; or none, and a filter such as --label.")
]
_CODES = {"run-not-found": ExitCode.NOT_FOUND}


@command("pause")
async def pause(
    session: Session,
    runs: RunIds = None,
    reason: Reason = None,
    by: By = None,
    status: Status = None,
    workflow: WorkflowName = None,
    label: Label = None,
    text: Text = None,
) -> int:
    """Pause runs: running steps finish, nothing new starts."""

    async def act(execution: Execution[Any]) -> str:
        await execution.pause(reason, by=by)
        waits = [wait for wait in execution.waiting_on if wait.kind == "paused"]
        return "paused" if all(wait.settled for wait in waits) else "pausing; running steps finish first"

    async def many(client: Client, chosen: dict[str, Any]) -> list[BulkResult]:
        return await client.pause_many(reason=reason, by=by, **chosen)

    return await _each(session, runs, act, many, _filter(status, workflow, label, text))


@command("resume")
async def resume(
    session: Session,
    runs: RunIds = None,
    by: By = None,
    status: Status = None,
    workflow: WorkflowName = None,
    label: Label = None,
    text: Text = None,
) -> int:
    """Let paused runs go on. It answers no request."""

    async def act(execution: Execution[Any]) -> str:
        await execution.resume(by=by)
        return "resumed"

    async def many(client: Client, chosen: dict[str, Any]) -> list[BulkResult]:
        return await client.resume_many(by=by, **chosen)

    return await _each(session, runs, act, many, _filter(status, workflow, label, text))


@command("cancel")
async def cancel(
    session: Session,
    runs: RunIds = None,
    reason: Reason = None,
    by: By = None,
    force: Annotated[bool, typer.Option("--force", help="At once, without cleanup.")] = False,
    status: Status = None,
    workflow: WorkflowName = None,
    label: Label = None,
    text: Text = None,
) -> int:
    """Cancel runs: their cleanup runs first, unless --force."""
    graceful = False if force else None

    async def act(execution: Execution[Any]) -> str:
        outcome = await execution.cancel(reason, by=by, graceful=graceful)
        return outcome if outcome == "cancelled" else "cancelling; its cleanup is under way or waits for a worker"

    async def many(client: Client, chosen: dict[str, Any]) -> list[BulkResult]:
        return await client.cancel_many(reason=reason, by=by, graceful=graceful, **chosen)

    return await _each(session, runs, act, many, _filter(status, workflow, label, text))


@command("retry")
async def retry(session: Session, run: RunId) -> None:
    """Start a failed or cancelled run anew.

    Completed steps are kept, the failed one runs again. It is a new run, which names its origin.
    """
    async with session.connect() as client:
        old = await client.get(run)
        _tell_new(session, await old.retry(), f"retry of {old.id}")


@command("fork")
async def fork(
    session: Session,
    run: RunId,
    after: Annotated[
        str | None, typer.Option("--after", metavar="STEP", help="Keep the journal up to this step: its name or key.")
    ] = None,
) -> None:
    """Start a new run from part of another.

    It takes over the other's journal up to a step, or only its input.
    """
    async with session.connect() as client:
        old = await client.get(run)
        _tell_new(session, await old.fork(after), f"fork of {old.id}")


def _tell_new(session: Session, execution: Execution[Any], what: str) -> None:
    snapshot = execution.snapshot
    write(to_json(snapshot) if session.json else snapshot.id)
    if not session.json:
        say(f"{what} is stored" + (f"; {clean(snapshot.stuck)}" if snapshot.stuck else ""))


def _filter(
    status: list[str] | None, workflow: str | None, label: list[str] | None, text: str | None
) -> dict[str, Any]:
    given = {"status": status, "workflow": workflow, "label": label, "text": text}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value}
    if chosen:
        chosen.setdefault("status", [one for one in RunStatus if not one.is_final])  # the others cannot be meant
    return chosen


async def _each(
    session: Session,
    runs: list[str] | None,
    act: Callable[[Execution[Any]], Awaitable[str]],
    many: Callable[[Client, dict[str, Any]], Awaitable[list[BulkResult]]],
    chosen: dict[str, Any],
) -> int:
    """Act on each run that is named, or on all that the filter finds; the worst exit code counts."""
    if bool(runs) == bool(chosen):
        raise CommandError("name runs, or give a filter such as --label NAME=VALUE" + (", not both" if runs else ""))
    async with session.connect() as client:
        if chosen:
            return _tell_many(session, await many(client, chosen))
        if runs is not None and len(runs) == 1:
            execution = await client.get(runs[0])
            told = await act(execution)
            write(to_json(execution.snapshot) if session.json else f"{execution.id} {told}")
            return ExitCode.SUCCESS
        worst = ExitCode.SUCCESS
        for run in runs or ():
            worst = max(worst, await _one(session, client, run, act))
        return worst


async def _one(session: Session, client: Client, run: str, act: Callable[[Execution[Any]], Awaitable[str]]) -> ExitCode:
    """One of several runs: an error is told and the next one has its turn."""
    try:
        execution = await client.get(run)
        told = await act(execution)
    except OSProtocolError as error:
        result = BulkResult(run_id=run, ok=False, code=error.code, message=str(error))
        write(to_json(result)) if session.json else say(f"osp: {clean(error)}")
        return exit_code_of(error)
    result = BulkResult(run_id=execution.id, ok=True, status=execution.status)
    write(to_json(result) if session.json else f"{execution.id} {told}")
    return ExitCode.SUCCESS


def _tell_many(session: Session, results: list[BulkResult]) -> int:
    for result in results:
        if session.json:
            write(to_json(result))
        elif result.ok:
            write(f"{result.run_id} {result.status}")
        else:
            say(f"osp: {clean(result.message or result.code or '')}")
    if not results:
        say("no run fits the filter")
    return ExitCode.SUCCESS if all(result.ok for result in results) else ExitCode.CONFLICT
