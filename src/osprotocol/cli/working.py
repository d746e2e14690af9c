"""Commands about work: worker, workers, evict, workflows."""

from __future__ import annotations

from typing import Annotated

import typer

from osprotocol.cli.command import command
from osprotocol.cli.exits import CommandError, ExitCode
from osprotocol.cli.interrupt import Interrupts
from osprotocol.cli.output import ago, clean, say, short, to_json, write, write_json, write_table
from osprotocol.cli.session import Session
from osprotocol.cli.target import load_workflows
from osprotocol.errors import NotSupportedError

Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TARGET]...", help="module, file.py, module:workflow or file.py:workflow."),
]


@command("worker")
async def worker(
    session: Session,
    targets: Targets = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Runs that execute at once; waiting ones do not count.")
    ] = 100,
) -> int:
    """Work on runs until Ctrl-C or SIGTERM.

    Then running steps get five seconds to finish and the rest is parked: nothing is cancelled or lost. On Restate a
    worker also serves the ledger; one without a TARGET does only that.
    """
    if session.is_remote:
        raise NotSupportedError("worker", "http", "a server's own workers execute its runs; start 'osp serve' there")
    if not targets and not session.is_ledger:
        raise CommandError("name a TARGET whose workflows this worker executes", "input")
    workflows = load_workflows(targets or [])
    with Interrupts() as interrupts:
        interrupts.last_words = "; what ran goes on with the next worker"
        async with session.connect(worker=True, create=True, concurrency=concurrency) as client:
            known = [one.name for one in client.workflows()]
            if session.json:
                write(to_json({"workflows": known}))
            else:
                say(f"working on {', '.join(known)}; Ctrl-C stops" if known else "serving the ledger; Ctrl-C stops")
            assert {one.name for one in workflows} <= set(known), "loading a workflow makes it known"
            await interrupts.came.wait()
            if not session.json:
                say("stopping; running steps get 5 s to finish, Ctrl-C again stops at once")
    return ExitCode.SUCCESS


@command("workers")
async def workers(session: Session) -> None:
    """List the processes that work here, or did."""
    async with session.connect() as client:
        found = await client.workers()
    if session.json:
        write_json(found)
        return
    rows = [(one.id, one.name, one.status, one.runs, ago(one.seen_at), ", ".join(one.workflows)) for one in found]
    write_table(("WORKER", "NAME", "STATUS", "RUNS", "SEEN", "WORKFLOWS"), rows, "no workers yet")


@command("evict")
async def evict(
    session: Session,
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Worker id; may be shortened.")],
) -> None:
    """Take all runs away from a worker.

    For one that hangs or is stopped; what it still writes is refused.
    """
    async with session.connect() as client:
        alive = [
            one for one in await client.workers() if worker and one.id.startswith(worker) and one.status == "alive"
        ]
        if not alive:
            raise CommandError(
                f"worker {worker!r} is not alive here; 'osp workers' lists them", "worker-not-found", ExitCode.NOT_FOUND
            )
        if len(alive) > 1:
            names = ", ".join(one.id for one in alive)
            raise CommandError(f"worker {worker!r} is short for {names}", "ambiguous-worker", ExitCode.CONFLICT)
        count = await client.evict(alive[0].id)
    write(to_json({"worker": alive[0].id, "runs": count}) if session.json else f"{alive[0].id} evicted, {count} runs")


@command("workflows")
async def workflows(
    session: Session,
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="module, file.py, module:workflow or file.py:workflow."),
    ] = None,
) -> None:
    """List the workflows of modules or files, or those of a server."""
    if targets:
        infos = [one.info for one in load_workflows(targets)]
    elif session.is_remote:
        async with session.connect() as client:
            infos = client.workflows()
    else:
        raise CommandError("name a TARGET, or a server with --url")
    if session.json:
        write_json(infos)
        return
    rows = [
        (info.name, info.version, _type(info.input_schema), _type(info.output_schema), short(info.description or ""))
        for info in infos
    ]
    write_table(("WORKFLOW", "VERSION", "TAKES", "GIVES", "ABOUT"), rows, "no workflows")


def _type(schema: dict[str, object] | None) -> str:
    if schema is None:
        return "nothing"
    return clean(schema.get("title") or schema.get("type") or "any JSON")
