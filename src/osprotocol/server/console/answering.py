"""A request as a person sees it: what is asked, whether they can answer, what each answer means; and answering it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from osprotocol import _limits
from osprotocol._lifecycle.people import identity
from osprotocol.errors import InvalidAnswerError, NotPermittedError, RunNotFoundError
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunSnapshot
from osprotocol.server.access import Permission, Principal
from osprotocol.server.console import words
from osprotocol.server.console.entries import Entries, edited, read
from osprotocol.server.console.forms import Form, form_of
from osprotocol.server.console.payload import folded_in, payload
from osprotocol.server.console.shapes import ABSENT
from osprotocol.server.console.visible import folded
from osprotocol.server.identity import acting_as, check_self_approval
from osprotocol.server.serving import Serving

_SKIP_SCHEMA: dict[str, Any] = {"title": "Value that stands for the step's result"}
_STARTS = ("run.start", "run.retry", "run.fork")
OUTCOMES = {
    "approved": "Approved",
    "rejected": "Rejected",
    "expired": "Expired",
    "answered": "Answered",
    "cancelled": "Withdrawn",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A request, ready for a page.

    Attributes:
        request: as it is now.
        run: the run that asks; None when it is gone.
        started_by: who started the run, if a person did.
        prompt: what is asked, as markup.
        payload: what the decision is about, as markup; None without one.
        form: of an input's answer, or of the value that an attention request may be skipped with.
        blocked: why this person cannot answer, in words; empty when they can.
        on_yes, on_no, on_nothing: what happens then.
        can_skip: whether an attention request takes a value instead of another try.
        reason: what was typed as the reason.
    """

    request: Request
    run: RunSnapshot | None
    started_by: str | None
    prompt: Markup
    payload: Markup | None
    form: Form | None
    blocked: str
    on_yes: str
    on_no: str
    on_nothing: str
    can_skip: bool = False
    reason: str = ""

    @property
    def id(self) -> str:
        """Of the request."""
        return self.request.id

    @property
    def can_answer(self) -> bool:
        """Whether this person's answer would count now."""
        return self.request.status == "open" and not self.blocked

    @property
    def folded(self) -> str:
        """How much of what is asked is folded, in words; empty when all of it is in sight."""
        return folded_in(self.prompt, self.payload or Markup(""))

    @property
    def outcome(self) -> str:
        """What came of it, in a sentence."""
        return receipt(self.request)

    @property
    def answer(self) -> Markup:
        """What an input was answered with."""
        return payload(self.request.answer)

    @property
    def mark(self) -> str:
        """What changes whenever the request does; the script compares it."""
        return mark_of(self.request)

    @property
    def approvals(self) -> int:
        """How many said yes."""
        return sum(response.approved is True for response in self.request.responses)

    @property
    def waiting_for(self) -> list[str]:
        """Named approvers who have not voted."""
        voted = {identity(response.by) for response in self.request.responses}
        return [name for name in self.request.approvers if identity(name) not in voted]


def mark_of(request: Request) -> str:
    """What changes whenever a request does."""
    return f"{request.seen}:{request.status}:{len(request.responses)}"


async def question_of(
    here: Serving,
    who: Principal,
    request: Request,
    *,
    entries: Entries | None = None,
    problems: Iterable[tuple[str, str]] = (),
    reason: str = "",
) -> Question:
    """Everything that a page shows of a request.

    Args:
        here: the server.
        who: for whom.
        request: as it is now.
        entries: what was typed in, when an answer comes back.
        problems: what is wrong with it.
        reason: what was typed as the reason.
    """
    try:
        run: RunSnapshot | None = (await here.client._engine.get(request.run_id)).read()
    except RunNotFoundError:
        run = None
    can_skip = request.kind == "attention" and isinstance(request.payload, dict) and "step" in request.payload
    schema = schema_of(request)
    is_shown = request.status == "open" and (request.kind == "input" or can_skip)
    return Question(
        request=request,
        run=run,
        started_by=starter_of(here, request.run_id),
        prompt=prompt_of(request),
        payload=None if request.payload is None else payload(request.payload),
        form=form_of(schema, entries, problems, prefix=f"q-{request.id}-") if is_shown else None,
        blocked=await blocked(here, who, request),
        on_yes=_on_yes(request),
        on_no=_on_no(request),
        on_nothing=_on_nothing(request),
        can_skip=can_skip,
        reason=reason,
    )


def prompt_of(request: Request) -> Markup:
    """What is asked; folded when it is very long."""
    return folded(request.prompt, characters=2_000, lines=30)


def folded_of(request: Request) -> str:
    """How much of a request its page folds, in words; empty when all of it is in sight."""
    return folded_in(prompt_of(request), Markup("") if request.payload is None else payload(request.payload))


def schema_of(request: Request) -> dict[str, Any]:
    """Of the answer that a request wants."""
    return (request.schema_ or {}) if request.kind == "input" else _SKIP_SCHEMA


def starter_of(here: Serving, run_id: str) -> str | None:
    """The person who started a run; None when code did."""
    entries = here.books.audit(run=run_id, limit=_limits.PAGE_SIZE)
    return next((entry.by for entry in reversed(entries) if entry.action in _STARTS), None)


async def blocked(here: Serving, who: Principal, request: Request) -> str:
    """Why this person's answer would not count, in words; empty when it would."""
    if request.status != "open":
        return ""
    if not who.may(Permission.ANSWER):
        return "You can read this, but only people with the role approver can answer."
    vote = vote_of(who, request)
    if vote is not None:
        return f"You {'approved' if vote else 'rejected'} this already. A vote is final; others have to vote now."
    if request.approvers and identity(who.name) not in {identity(name) for name in request.approvers}:
        return f"Only {words.listed(list(request.approvers), most=8)} can answer this."
    try:
        await check_self_approval(here, who, request)
    except NotPermittedError:
        return "You started this run, so somebody else has to decide."
    return ""


def could_answer(who: Principal, request: Request) -> bool:
    """Whether a request waits for this person: it is open, for them, and they have not voted. Asks nobody."""
    named = {identity(name) for name in request.approvers}
    is_theirs = not named or identity(who.name) in named
    return request.status == "open" and is_theirs and who.may(Permission.ANSWER) and vote_of(who, request) is None


def vote_of(who: Principal, request: Request) -> bool | None:
    """How this person voted; None without a vote."""
    person = identity(who.name)
    votes = [one.approved for one in request.responses if identity(one.by) == person]
    return votes[-1] if votes else None


def has_answered(who: Principal, request: Request) -> bool:
    """Whether this person voted, or gave the answer."""
    return any(identity(one.by) == identity(who.name) for one in request.responses)


def _on_yes(request: Request) -> str:
    if request.kind == "input":
        return "The run goes on with your answer."
    if request.kind == "attention":
        return "The run goes on and tries again."
    given = sum(one.approved is True for one in request.responses)
    left = request.required_approvals - given
    if left > 1:
        return f"Yours is approval {given + 1} of {request.required_approvals}; the run then waits for {left - 1} more."
    return "The run goes on."


def _on_no(request: Request) -> str:
    against = sum(one.approved is False for one in request.responses)
    left = request.reject_threshold - against
    named = len({identity(name) for name in request.approvers})
    unreachable = named and named - against - 1 < request.required_approvals
    if left > 1 and not unreachable:
        return f"Yours is rejection {against + 1} of {request.reject_threshold}; the run keeps waiting."
    if request.gate:
        return "The run is told no. A question put on a run from outside ends the run then, unless set otherwise."
    return "The run is told no, with your reason, and acts on it."


def _on_nothing(request: Request) -> str:
    if request.expires_at is None:
        return "It waits. There is no deadline."
    if request.kind != "approval":
        return "The run is told that nobody answered."
    return "It is approved by itself." if request.auto_approve_on_timeout else "It counts as rejected."


# ---------------------------------------------------------------------------------------------------- answering


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person sent.

    Attributes:
        decision: approve, reject, respond, retry, skip, or an edit of the form's rows.
        seen: revision and digest of what the page showed.
        viewed: whether they say that they have seen what was folded.
        entries: what was typed in.
    """

    decision: str
    seen: str
    reason: str
    entries: Mapping[str, Sequence[str]]
    viewed: bool = False

    def edit(self, request: Request) -> tuple[dict[str, list[str]], str] | None:
        """What was typed in with a row more or less, and where; None when this is an answer."""
        return edited(schema_of(request), self.entries, self.decision)


async def answer(here: Serving, who: Principal, request: Request, given: Answer) -> Request:
    """Write an answer for a person. Gives the request as it is then.

    Raises:
        InvalidAnswerError: what was typed in is no answer to the question.
        NotPermittedError, RequestError: it does not count, and why.
    """
    execution = await here.client.get(request.run_id)
    with acting_as(who):
        if given.decision in ("approve", "reject"):
            await check_self_approval(here, who, request)
            vote = execution.approve if given.decision == "approve" else execution.reject
            return await vote(given.reason.strip() or None, request_id=request.id, by=who.name, seen=given.seen)
        value = "retry" if given.decision == "retry" else _value(request, given)
        return await execution.respond(value, request_id=request.id, by=who.name, seen=given.seen)


def _value(request: Request, given: Answer) -> Any:
    is_answer = given.decision == "respond" or (request.kind == "input" and not given.decision)
    if not is_answer and not (request.kind == "attention" and given.decision == "skip"):
        raise InvalidAnswerError(request.run_id, request.id, (("$", "say whether you approve, reject or answer"),))
    reading = read(schema_of(request), given.entries)
    if reading.value is ABSENT or reading.problems:
        raise InvalidAnswerError(request.run_id, request.id, reading.problems)
    return {"action": "skip", "value": reading.value} if given.decision == "skip" else reading.value


def receipt(request: Request, who: Principal | None = None) -> str:
    """What came of a request, in a sentence without its time: ``Approved by Ada and Ben``."""
    word = OUTCOMES.get(request.status, "")
    deciding = {"approved": True, "rejected": False, "answered": None}
    if request.status in deciding:
        by = [one.by for one in request.responses if one.approved is deciding[request.status]]
        return f"{word} by {words.listed(by, most=8)}" if by else word
    if request.status == "expired":
        if request.kind == "approval":
            fate = "it was approved by itself" if request.auto_approve_on_timeout else "it counts as rejected"
            return f"Expired: nobody decided in time, {fate}"
        return "Expired: nobody answered in time"
    if request.status == "cancelled":
        return "Withdrawn: the run ended, or no longer needs an answer"
    return "Still open"


def urgency(request: Request) -> tuple[bool, datetime, datetime]:
    """Sorts by deadline, then by age; what has no deadline comes last."""
    return request.expires_at is None, request.expires_at or request.opened_at, request.opened_at
