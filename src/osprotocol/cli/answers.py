"""Answers from a file: what people would say, for runs without people.

A file is one of three things: a JSON list (answers in order), a JSON object (prompt -> answer), or lines (answers in
order; JSON where a line is JSON, else text; empty lines and lines that begin with ``#`` do not count).

An answer is ``approve`` or ``reject`` (also true, false, yes, no) for an approval and the value itself for an input. An
object with ``approve`` or ``answer`` says more: ``{"prompt": ..., "approve": true, "reason": ..., "by": ...}`` or
``{"prompt": ..., "answer": ..., "by": ...}``. With ``prompt`` it is only for requests whose prompt contains that text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osprotocol._json import parse
from osprotocol.cli.exits import CommandError
from osprotocol.cli.output import short, to_json
from osprotocol.cli.values import value_for
from osprotocol.errors import InvalidValueError, OSProtocolError
from osprotocol.execution import Execution
from osprotocol.protocol.request import Request

_KEYS = frozenset(("prompt", "approve", "answer", "reason", "by"))
_VOTES = {
    **dict.fromkeys(("approve", "approved", "yes", "y", "true"), True),
    **dict.fromkeys(("reject", "rejected", "no", "n", "false"), False),
}


@dataclass(slots=True)
class _Answer:
    """One answer of the file.

    Attributes:
        value: a vote for approvals, else the value.
        prompt: part of the prompts that it is for; None for the next request, whatever it is.
        reusable: whether it stays after it was given.
    """

    value: Any
    prompt: str | None = None
    reason: str | None = None
    by: str | None = None
    reusable: bool = False


class Answers:
    """The answers of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--answers: {path}: {getattr(error, 'strerror', None) or error}", "answers") from None
        self._answers = _read(text, path)
        self._given: set[tuple[str, int]] = set()

    async def give(self, execution: Execution[Any], request: Request) -> bool:
        """Answer a request; False when the file has no answer for it. Several people's votes are several answers.

        Raises:
            CommandError: it has one that does not fit.
        """
        found = self._find(request)
        if found is None:
            return False
        try:
            await _respond(execution, request, found)
        except (InvalidValueError, OSProtocolError) as error:
            raise CommandError(f"{self.path}: the answer to {short(request.prompt)!r}: {error}", "answers") from None
        if found.reusable:
            self._given.add((request.id, request.revision))
        else:
            self._answers.remove(found)
        return True

    def _find(self, request: Request) -> _Answer | None:
        prompt, given = request.prompt.lower(), (request.id, request.revision) in self._given
        for one in self._answers:
            if one.prompt is not None and one.prompt.lower() in prompt and not (one.reusable and given):
                return one
        return next((one for one in self._answers if one.prompt is None), None)


async def _respond(execution: Execution[Any], request: Request, answer: _Answer) -> None:
    if request.kind == "approval":
        vote = _VOTES.get(answer.value.lower()) if isinstance(answer.value, str) else answer.value
        if not isinstance(vote, bool):
            raise CommandError(f"the answer to approval {short(request.prompt)!r} is approve or reject, not "
                               f"{short(to_json(answer.value))}", "answers")  # fmt: skip
        act = execution.approve if vote else execution.reject
        await act(answer.reason, request_id=request.id, by=answer.by)
        return
    value = answer.value
    if isinstance(value, str):
        value = value_for(value, request.schema_ or {}, "answer")
    await execution.respond(value, request_id=request.id, by=answer.by)


def _read(text: str, path: Path) -> list[_Answer]:
    stripped = text.strip()
    whole: Any = None
    if stripped[:1] in ("[", "{"):
        try:
            whole = parse(stripped, "answers")
        except InvalidValueError as error:
            if "\n" not in stripped:
                raise CommandError(f"--answers: {path}: {error}", "answers") from None
    if isinstance(whole, list):
        return [_answer(one) for one in whole]
    if isinstance(whole, dict) and not _is_detailed(whole):
        return [_named(prompt, value) for prompt, value in whole.items()]
    return [_answer(_line(line)) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _line(line: str) -> Any:
    text = line.strip()
    try:
        value = parse(text, "answer")
    except InvalidValueError:
        return text
    return value if _is_detailed(value) else text  # what the text means, the request's schema tells


def _is_detailed(value: Any) -> bool:
    return isinstance(value, dict) and _KEYS.issuperset(value) and ("approve" in value) != ("answer" in value)


def _answer(value: Any) -> _Answer:
    if not _is_detailed(value):
        return _Answer(value)
    said = value["approve"] if "approve" in value else value["answer"]
    for name in ("prompt", "reason", "by"):
        if not isinstance(value.get(name), str | None):
            raise CommandError(f"--answers: {name!r} is a text, not {short(to_json(value[name]))}", "answers")
    return _Answer(said, value.get("prompt"), value.get("reason"), value.get("by"))


def _named(prompt: str, value: Any) -> _Answer:
    answer = _answer(value)
    answer.prompt, answer.reusable = prompt, True
    return answer
