"""Commands for people who are asked: inbox, approve, reject, respond."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osprotocol import _limits
from osprotocol.cli.command import command
from osprotocol.cli.exits import CommandError
from osprotocol.cli.forms import NobodyAnswersError, ask_value, show_payload
from osprotocol.cli.output import ago, clean, say, short, to_json, until, write, write_json, write_table
from osprotocol.cli.reading import find
from osprotocol.cli.session import Session
from osprotocol.cli.terminal import Terminal
from osprotocol.cli.values import read_source, value_for
from osprotocol.errors import AmbiguousRequestError, RequestNotFoundError
from osprotocol.execution import Execution
from osprotocol.protocol.request import Request

RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST|RUN", help="Id of a request, or of a run with one open request of that kind.")
]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who does it. Default: you.")]
Reason = Annotated[str | None, typer.Option("--reason", "-r", metavar="TEXT", help="Kept with it, for others to read.")]
Seen = Annotated[
    str | None, typer.Option("--seen", metavar="SEEN", help="What was looked at ('osp show' tells); refused if stale.")
]


@command("inbox")
async def inbox(
    session: Session,
    person: Annotated[
        str | None, typer.Option("--person", "-p", metavar="NAME", help="Only what this person may answer.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", "-k", metavar="KIND", help="approval, input or attention.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only of this run.")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="Those that are decided, instead.")] = False,
) -> None:
    """List what waits for people, oldest first."""
    if kind not in (None, "approval", "input", "attention"):
        raise CommandError(f"--kind: {kind!r} is not approval, input or attention")
    requests: list[Request] = []
    async with session.connect() as client:
        run_id = (await client.get(run)).id if run is not None else None
        cursor: str | None = None
        while True:
            page = await client.requests(
                open=not closed, person=person, kind=kind, run_id=run_id, limit=_limits.PAGE_SIZE, cursor=cursor
            )
            requests += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
    if session.json:
        write_json(requests)
        return
    rows = [_row(request, closed) for request in requests]
    titles = ("REQUEST", "KIND", "WORKFLOW", "PROMPT", "WHO", "ASKED", "OUTCOME" if closed else "EXPIRES")
    write_table(titles, rows, "nothing waits for people" if not closed else "nothing was decided yet")


def _row(request: Request, closed: bool) -> tuple[object, ...]:
    who = ", ".join(request.approvers)
    if request.required_approvals > 1:
        given = sum(1 for response in request.responses if response.approved)
        who = f"{who or 'anyone'} ({given}/{request.required_approvals})"
    end = request.status if closed else until(request.expires_at)
    return request.id, request.kind, request.workflow, short(request.prompt), who, ago(request.opened_at), end


@command("approve")
async def approve(
    session: Session, request: RequestId, reason: Reason = None, by: By = None, seen: Seen = None
) -> None:
    """Approve what a run asks to have approved."""
    async with session.connect() as client:
        execution, found = await find(client, request)
        answered = await execution.approve(reason, request_id=found.id if found else None, by=by, seen=seen)
        _tell(session, answered)


@command("reject")
async def reject(session: Session, request: RequestId, reason: Reason = None, by: By = None, seen: Seen = None) -> None:
    """Reject what a run asks to have approved."""
    async with session.connect() as client:
        execution, found = await find(client, request)
        answered = await execution.reject(reason, request_id=found.id if found else None, by=by, seen=seen)
        _tell(session, answered)


@command("respond")
async def respond(
    session: Session,
    request: RequestId,
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="JSON or a text, @FILE or -; asked for in a terminal.")
    ] = None,
    by: By = None,
    seen: Seen = None,
) -> None:
    """Answer what a run asks for.

    An input: with a value. Attention: with retry, or with {"action": "skip", "value": ...}.
    """
    async with session.connect() as client:
        execution, found = await find(client, request)
        asked = found or _only(execution)
        answer = await _answer(session, asked, value)
        _tell(session, await execution.respond(answer, request_id=asked.id, by=by, seen=seen))


def _only(execution: Execution[Any]) -> Request:
    """The only open request of a run that `respond` can answer."""
    asked = [request for request in execution.requests if request.kind != "approval"]
    if not asked:
        raise RequestNotFoundError(execution.id, "", "input")
    if len(asked) > 1:
        raise AmbiguousRequestError(execution.id, "", "input", tuple(request.id for request in asked))
    return asked[0]


async def _answer(session: Session, request: Request, word: str | None) -> Any:
    schema = request.schema_ or {}
    if word is not None:
        source = read_source(word)
        return value_for(word if source is None else source.removesuffix("\n"), schema, "answer")
    if not session.interactive:
        raise CommandError(f"the answer to {short(request.prompt)!r} is missing: osp respond {request.id} VALUE")
    say(clean(request.prompt, lines=True))
    show_payload(request.payload)
    try:
        return await ask_value(Terminal(), "Answer", schema)
    except NobodyAnswersError:
        raise CommandError("no answer was given; the request stays open") from None


def _tell(session: Session, request: Request) -> None:
    if session.json:
        write(to_json(request))
    elif request.status == "open":
        votes = sum(1 for response in request.responses if response.approved)
        write(f"{request.id} counted; {votes} of {request.required_approvals} approvals, still open")
    else:
        write(f"{request.id} {request.status}")
