"""`osp run`."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from osprotocol._json import encode
from osprotocol.cli.answers import Answers
from osprotocol.cli.command import command
from osprotocol.cli.display import Bar, Lines, Silence
from osprotocol.cli.exits import CommandError, ExitCode
from osprotocol.cli.following import Follower, LeftError
from osprotocol.cli.forms import NobodyAnswersError, ask_missing, ask_value
from osprotocol.cli.interrupt import Interrupts
from osprotocol.cli.output import clean, pretty, say, to_json, write
from osprotocol.cli.session import Session
from osprotocol.cli.target import load_workflow
from osprotocol.cli.terminal import Terminal
from osprotocol.cli.values import duration, input_of, labels, resolve, retry
from osprotocol.client import Client
from osprotocol.errors import OSProtocolError, UnknownWorkflowError
from osprotocol.execution import Execution
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.protocol.timeout import Timeout
from osprotocol.workflow import Workflow, served_workflow

_ENDS = {
    RunStatus.COMPLETED: ExitCode.SUCCESS,
    RunStatus.FAILED: ExitCode.FAILED,
    RunStatus.CANCELLED: ExitCode.CANCELLED,
}


@command("run")
async def run(
    session: Session,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="module:workflow or file.py:workflow; of a server, its name.")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUT]...", help="JSON, key=value pairs, @FILE, - (standard input) or a text."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Store the run, print its id, do not work.")] = False,
    answers: Annotated[
        Path | None, typer.Option("--answers", metavar="FILE", help="Answers to approvals and inputs.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay while the run waits for a person who is not here.")
    ] = True,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Limit of each attempt, such as 30s or 5m.")
    ] = None,
    on_timeout: Annotated[
        str, typer.Option("--on-timeout", metavar="ACTION", help="fail, cancel or continue.")
    ] = "fail",
    retries: Annotated[
        str | None,
        typer.Option("--retry", metavar="N[:DELAY[:BACKOFF]]", help="Retries of the run, such as 3:1s:exponential."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="To find the run by. Repeatable.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="The same key and input give the same run.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no log lines.")] = False,
) -> int:
    """Start a run and follow it to its result.

    On a file this process works on it; of a server and on Restate their workers do. A run that was killed goes on:
    start it again with the same --key, or start a worker.
    """
    workflow, schema = await _find(session, target)
    if on_timeout not in ("fail", "cancel", "continue"):
        raise CommandError(f"--on-timeout: {on_timeout!r} is not fail, cancel or continue")
    options = RunOptions(
        timeout=Timeout(duration(timeout, "--timeout"), on_timeout=on_timeout) if timeout else None,  # type: ignore[arg-type]
        retry=retry(retries) if retries else None,
        labels=labels(label or []),
        idempotency_key=key,
    )
    given = Answers(answers) if answers is not None else None
    value = await _input(session, workflow, schema, words or [])
    if detach:
        return await _detach(session, workflow, value, options, target)
    works = not session.is_remote and not session.is_ledger
    with Interrupts() as interrupts:
        async with session.connect(worker=works, create=True) as client:
            execution = await client.create_run(workflow, value, options).start()
            if not quiet and not session.json and works:
                await _tell_company(client, execution)
            if not quiet and not session.json and not works and execution.snapshot.stuck:
                say(f"stored; {clean(execution.snapshot.stuck)}")
            display = Silence() if quiet or session.json else (Bar() if session.interactive else Lines())
            follower = Follower(session, client, execution, interrupts, display, target, given, wait)
            try:
                status = await follower.to_end()
            except LeftError as left:
                if session.json:
                    write(to_json(execution.snapshot))
                return left.exit_code
            await _print_end(session, workflow, execution)
            return _ENDS[status]


async def _find(session: Session, target: str) -> tuple[Workflow[Any, Any], dict[str, Any] | None]:
    """The workflow that a target names, and the schema of its input."""
    if session.is_remote:
        async with session.connect() as client:
            for info in client.workflows():
                if info.name == target:
                    return served_workflow(info), info.input_schema
            if ":" not in target and not target.endswith(".py"):
                raise UnknownWorkflowError(target, tuple(info.name for info in client.workflows()))
    workflow = load_workflow(target)
    return workflow, workflow.input.schema() if workflow.has_input else None


async def _input(
    session: Session, workflow: Workflow[Any, Any], schema: dict[str, Any] | None, words: list[str]
) -> Any:
    """The input as the workflow's type: from the command line, and what is missing from the person."""
    what = f"input of workflow {workflow.name!r}"
    if schema is None:
        if words:
            raise CommandError(f"workflow {workflow.name!r} takes no input, but was given {words[0]!r}", "input")
        return None
    value = input_of(words, schema, what) if words else None
    plain = resolve(schema)
    if not words:
        if workflow.default is not inspect.Parameter.empty:
            return None
        if session.is_remote and not session.interactive:
            return None  # whether it may be left out is the server's to say
        if not session.interactive:
            raise CommandError(f"{what} is missing; it is {_wanted(plain)}", "input")
    try:
        if not words:
            value = await ask_value(Terminal(), workflow.name, schema)
        elif isinstance(value, dict) and session.interactive:
            value = await ask_missing(Terminal(), value, plain, schema)
    except NobodyAnswersError:
        raise CommandError(f"{what} is missing", "input") from None
    return workflow.input.load(encode(value))


def _wanted(schema: dict[str, Any]) -> str:
    if schema.get("properties"):
        required = schema.get("required", ())
        return " ".join(f"{name}=..." if name in required else f"[{name}=...]" for name in schema["properties"])
    return f"a value of type {schema.get('type', 'JSON')}"


async def _detach(session: Session, workflow: Workflow[Any, Any], value: Any, options: RunOptions, target: str) -> int:
    async with session.connect(create=True) as client:
        execution = await client.create_run(workflow, value, options).start()
        snapshot = execution.snapshot
    write(to_json(snapshot) if session.json else snapshot.id)
    if snapshot.stuck and not session.is_remote:
        say(f"stored; {clean(snapshot.stuck)}: osp worker {clean(target)}")
    return ExitCode.SUCCESS


async def _tell_company(client: Client, execution: Execution[Any]) -> None:
    """Say that this process, a worker while it lasts, has taken over unfinished runs of the same file."""
    held = await client.list(status=[RunStatus.IN_PROGRESS])
    ours = f":{os.getpid()}"  # a worker's name is host:process
    count = sum(
        1 for one in held.items if (one.worker or "").endswith(ours) and execution.id not in (one.id, one.parent_id)
    )
    if count:
        runs = f"{count}{'+' if held.next_cursor else ''} unfinished {'run' if count == 1 else 'runs'}"
        say(f"also going on with {runs} of this file, until run {execution.id} ends")


async def _print_end(session: Session, workflow: Workflow[Any, Any], execution: Execution[Any]) -> None:
    result, error = None, None
    try:
        result = json.loads(workflow.output.dump(await execution.result)[0])
    except OSProtocolError as caught:
        error = caught
    if session.json:
        write(to_json({**execution.snapshot.to_wire(), "result": result}))
    elif error is not None:
        say(f"osp: {clean(error)}")
    elif result is not None:
        write(pretty(result))
