"""Asking a person in the terminal: values by their JSON Schema, and the requests of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osprotocol._lifecycle.schema import problems_in
from osprotocol.cli.output import clean, pretty, say, short, until
from osprotocol.cli.terminal import Terminal
from osprotocol.cli.values import resolve, value_for
from osprotocol.errors import InvalidValueError
from osprotocol.execution import Execution
from osprotocol.protocol.request import Request

_PAYLOAD_LINES = 40


class NobodyAnswersError(Exception):
    """The person ended the input (Ctrl-D) instead of answering."""


async def ask_value(terminal: Terminal, prompt: str, schema: Any, root: Any = None) -> Any:
    """Ask until there is a value that fits the schema; an object is asked field by field, those that are required.

    Raises:
        NobodyAnswersError: the input ended.
    """
    root = schema if root is None else root
    plain = resolve(schema, root)
    if plain.get("type") == "object" and plain.get("properties"):
        say(f"{clean(prompt)}")
        return await ask_missing(terminal, {}, plain, root)
    while True:
        value = await _ask_once(terminal, prompt, plain, schema, root)
        if isinstance(value, _Again):
            continue
        wanted = {**schema, "$defs": root.get("$defs", {})} if isinstance(schema, Mapping) else schema
        problems = problems_in(value, wanted)
        if not problems:
            return value
        say("  " + "; ".join(clean(f"{path}: {message}") for path, message in problems))


async def ask_missing(terminal: Terminal, value: dict[str, Any], schema: dict[str, Any], root: Any) -> dict[str, Any]:
    """The object with the required fields that it lacks, asked one by one."""
    filled = dict(value)
    for name in schema.get("required", ()):
        if name not in filled:
            filled[name] = await ask_value(terminal, name, schema.get("properties", {}).get(name, {}), root)
    return filled


class _Again:
    """Nothing usable was typed."""


async def _ask_once(terminal: Terminal, prompt: str, plain: dict[str, Any], schema: Any, root: Any) -> Any:
    kind = plain.get("type")
    hint = _hint(plain, kind)
    text = await terminal.ask(f"{clean(prompt, lines=True)}{f' ({clean(hint)})' if hint else ''}: ")
    if text is None:
        raise NobodyAnswersError
    if kind == "boolean" and text.strip().lower() in ("y", "yes", "n", "no"):
        return text.strip().lower() in ("y", "yes")
    if not text.strip():
        if kind == "string":
            say('  nothing was typed; "" is an empty text')
        return _Again()
    try:
        return value_for(text, schema, prompt, root)
    except InvalidValueError:
        say(f"  not a value of type {clean(kind or 'JSON')}")
        return _Again()


def _hint(plain: dict[str, Any], kind: Any) -> str:
    if plain.get("enum"):
        return " | ".join(str(one) for one in plain["enum"])
    if kind == "boolean":
        return "y/n"
    if isinstance(kind, str) and kind != "string":
        return kind if kind in ("integer", "number") else f"{kind}, as JSON"
    return str(plain.get("format") or plain.get("description") or "")


async def ask_request(terminal: Terminal, execution: Execution[Any], request: Request) -> Request:
    """Show a request of a run, ask the person, and give the answer. Gives the request as it is after that.

    Raises:
        NobodyAnswersError: the input ended.
        OSProtocolError: the answer was refused.
    """
    say(f"\n{clean(request.workflow)} asks for {_article(request.kind)}: {clean(request.prompt, lines=True)}")
    if request.message:
        say(f"  The last answer was refused: {clean(request.message)}")
    show_payload(request.payload)
    if standing := standing_text(request):
        say(f"  {standing}")
    if request.kind == "approval":
        return await _ask_approval(terminal, execution, request)
    if request.kind == "input":
        value = await ask_value(terminal, "Answer", request.schema_ or {})
    else:
        say('  Answer retry, or {"action": "skip", "value": ...} where a step can be skipped.')
        value = await ask_value(terminal, "Answer", {})
    return await execution.respond(value, request_id=request.id, seen=request.seen)


def standing_text(request: Request) -> str:
    """Votes, who is waited for and until when; empty where one answer of anyone decides and nothing expires."""
    parts = []
    if request.approvers or max(request.required_approvals, request.reject_threshold) > 1:
        given = sum(1 for response in request.responses if response.approved)
        against = len(request.responses) - given
        parts.append(f"{given} of {_count(request.required_approvals, 'approval')}")
        if against:
            parts[0] += f", {against} of {_count(request.reject_threshold, 'rejection')}"
        parts.append(f"waiting for {_missing(request, request.required_approvals - given)}")
    if request.expires_at is not None:
        fate = "approved by itself" if request.auto_approve_on_timeout else "expires"
        parts.append(f"{fate} {until(request.expires_at)}")
    return "; ".join(parts)


def _missing(request: Request, count: int) -> str:
    voted = {response.by for response in request.responses}
    if not request.approvers:
        return f"{count}{' more' if voted else ''} {'person' if count == 1 else 'people'}"
    left = [name for name in request.approvers if name not in voted]
    names = clean(", ".join(left))
    return names if len(left) <= count else f"{count} of {names}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _article(kind: str) -> str:
    return "attention" if kind == "attention" else f"an {kind}"


def show_payload(payload: Any) -> None:
    """What a decision is about, indented and bounded."""
    if payload is None:
        return
    parts = payload.items() if isinstance(payload, dict) else [("", payload)]
    lines: list[str] = []
    for name, value in parts:
        text = pretty(value).splitlines() or [""]
        if len(text) == 1:
            lines.append(f"{clean(name)}: {text[0]}" if name else text[0])
        else:
            lines += [f"{clean(name)}:"] if name else []
            lines += [f"  {line}" for line in text]
    for line in lines[:_PAYLOAD_LINES]:
        say(f"  | {line}")
    if len(lines) > _PAYLOAD_LINES:
        say(f"  | ... {len(lines) - _PAYLOAD_LINES} lines more; 'osp show' has them all")


async def _ask_approval(terminal: Terminal, execution: Execution[Any], request: Request) -> Request:
    while True:
        line = await terminal.ask("Approve? (y/n, then a reason if you like): ", fresh=True)
        if line is None:
            raise NobodyAnswersError
        word, _, reason = line.strip().partition(" ")
        if word.lower() in ("y", "yes", "n", "no"):
            break
        if word:
            say(f"  {short(word)!r} is neither y nor n")
    vote = execution.approve if word.lower() in ("y", "yes") else execution.reject
    return await vote(reason.strip() or None, request_id=request.id, seen=request.seen)
