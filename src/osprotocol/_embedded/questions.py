"""Asking people from workflow code: approvals, inputs, and attention for one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from osprotocol._embedded.attempt import Attempt
from osprotocol._embedded.attention import check_recorded
from osprotocol._embedded.branches import Branch
from osprotocol._embedded.driver import Wait
from osprotocol._embedded.replay import Recorded
from osprotocol._embedded.signals import BranchStopped
from osprotocol._embedded.store import Operation
from osprotocol._embedded.transaction import Transaction
from osprotocol._json import Codec, arguments_digest, decode, encode, problems_of
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.asking import (
    approval_of,
    approval_request,
    check_config,
    check_prompt,
    input_request,
    payload_text,
    shown_digest,
)
from osprotocol._lifecycle.snapshot import request_of
from osprotocol._lifecycle.state import Event, RequestState
from osprotocol.errors import FencedError, InputExpiredError, InvalidTransitionError, InvalidValueError, StoreError
from osprotocol.protocol.approval import Approval, ApprovalConfig


async def ask_approval(
    attempt: Attempt, branch: Branch, message: str, config: ApprovalConfig, payload: Any
) -> Approval:
    """Ask for an approval at the next position of a branch."""
    check_config(config)
    check_prompt(message, "message of wait_for_approval")
    shown = payload_text(payload, "payload of wait_for_approval")
    position = branch.next_position()
    digest = arguments_digest((message, shown, *_facts(config)), {})

    def taken(request: RequestState) -> str:
        return approval_of(request_of(request, attempt.id, attempt.workflow.name)).model_dump_json(by_alias=True)

    def command(key: int) -> c.OpenRequest:
        return approval_request(key, attempt.epoch, position, message, config, shown)

    value = await _ask(attempt, branch, position, "approval", digest, command, taken)
    return Approval.model_validate_json(value)


def _facts(config: ApprovalConfig) -> tuple[Any, ...]:
    return (
        config.timeout_ms,
        config.auto_approve_on_timeout,
        list(config.approvers),
        config.required_approvals,
        config.reject_threshold,
    )


async def ask_input(
    attempt: Attempt, branch: Branch, prompt: str, adapter: TypeAdapter[Any], timeout_ms: int | None
) -> Any:
    """Ask for a value at the next position of a branch."""
    check_prompt(prompt, "prompt of wait_for_input")
    position = branch.next_position()
    digest = arguments_digest((prompt, adapter.json_schema(), timeout_ms), {})

    def taken(request: RequestState) -> str | None:
        if request.status == "expired":
            return encode({"expired": True})
        try:
            adapter.validate_json(request.answer or "null")
        except ValidationError as error:
            problems = "; ".join(f"{path}: {message}" for path, message in problems_of(error))
            attempt.activate()
            attempt.out.send(c.RefuseAnswer(attempt.epoch, request.id, problems))
            return None
        return encode({"expired": False, "value": decode(request.answer)})

    def command(key: int) -> c.OpenRequest:
        return input_request(key, attempt.epoch, position, prompt, adapter, timeout_ms)

    value = decode(await _ask(attempt, branch, position, "input", digest, command, taken))
    if value["expired"]:
        raise InputExpiredError(attempt.id, prompt, timeout_ms)
    return adapter.validate_json(encode(value["value"]))


async def _ask(
    attempt: Attempt,
    branch: Branch,
    position: str,
    kind: str,
    digest: str,
    command: Callable[[int], c.OpenRequest],
    taken: Callable[[RequestState], str | None],
) -> str:
    """Ask, wait, and give what `taken` makes of the closed request: the value that goes into the journal."""
    recorded = check_recorded(attempt, position, "request", kind, digest)
    if recorded is not None and recorded.completed is not None:
        event = recorded.completed
        if not attempt.replayed(branch, position):
            event = await attempt.outcome(branch, position)
        return event.value or "null"
    await attempt.pass_boundary(branch, durable=False)
    granted = attempt.replay.granted.get((position, digest))
    if granted is not None and granted.value is not None:
        attempt.out.record(c.Entry("request.completed", position, kind, digest, None, granted.value))
        await attempt.take_turn(branch, position)
        return granted.value
    wait = Wait(loop=attempt.loop)

    def answered(request: RequestState | None = None) -> None:
        request = request or attempt.read(attempt.worker.request_at, attempt.key, position)
        if request is None or request.status in ("open", "cancelled") or wait.done() or attempt.unwinding:
            return
        value = taken(request)
        if value is not None:
            attempt.answers.pop(position, None)
            attempt.activate()
            attempt.out.record_delivery(c.Entry("request.completed", position, kind, digest, None, value))
            attempt.deliver(wait, value)

    value = await _wait_for_answer(attempt, branch, position, wait, answered, recorded, command, digest)
    return value.value or "null" if isinstance(value, Event) else str(value)


async def _wait_for_answer(
    attempt: Attempt,
    branch: Branch,
    position: str,
    wait: Wait,
    answered: Callable[..., None],
    recorded: Recorded | None,
    command: Callable[[int], c.OpenRequest],
    digest: str = "",
) -> Any:
    def opened(operation: Operation) -> None:
        if isinstance(operation.error, StoreError | FencedError):
            attempt.refused(operation.error)
        elif isinstance(operation.error, InvalidTransitionError) and not attempt.cancel_delivered:
            pass  # a cancel was first: it is delivered to this wait
        elif operation.error is not None:
            attempt.throw(wait, operation.error)

    attempt.answers[position] = answered
    attempt.asking += 1
    try:
        asked = attempt.read(attempt.worker.request_at, attempt.key, position) if recorded is not None else None
        if asked is None or asked.status == "cancelled":
            attempt.out.begin(position, lambda transaction: _open(transaction, attempt, command, digest), opened)
        elif asked.status != "open":
            answered(asked)
        return await attempt.outcome(branch, position, wait)
    except BranchStopped:
        attempt.out.send(c.Withdraw(attempt.epoch, position))
        raise
    finally:
        attempt.asking -= 1


def _open(transaction: Transaction, attempt: Attempt, command: Callable[[int], c.OpenRequest], digest: str) -> Any:
    asked = command(transaction.next_request_key())
    return transaction.apply(attempt.key, asked._replace(ask_digest=digest))


async def ask_attention(
    attempt: Attempt,
    branch: Branch,
    position: str,
    prompt: str,
    payload: dict[str, Any],
    result: Codec[Any],
    is_asked: bool,
) -> str | None:
    """Ask what became of an interrupted step: None to run it again, or JSON of the value that stands for its result."""
    text = encode(payload)
    wait = Wait(loop=attempt.loop)

    def command(key: int) -> c.OpenRequest:
        return c.OpenRequest(attempt.epoch, key, "attention", position, prompt, text, shown_digest(prompt, text))

    def answered(request: RequestState | None = None) -> None:
        request = request or attempt.read(attempt.worker.request_at, attempt.key, position)
        if request is None or request.status in ("open", "cancelled") or wait.done() or attempt.unwinding:
            return
        answer = decode(request.answer)
        value: str | None = None
        if isinstance(answer, dict) and answer.get("action") == "skip":
            try:
                value = encode(answer["value"])
                result.load(value)
            except InvalidValueError as error:
                attempt.activate()
                attempt.out.send(c.RefuseAnswer(attempt.epoch, request.id, str(error)))
                return
        attempt.activate()
        attempt.answers.pop(position, None)
        attempt.deliver(wait, value)

    recorded = Recorded("request", "attention", None) if is_asked else None
    answer: str | None = await _wait_for_answer(attempt, branch, position, wait, answered, recorded, command)
    return answer
