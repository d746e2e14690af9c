"""What people do in the chaos run: they start runs, vote, answer, pause and cancel, and note what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from osprotocol import Client, Execution, RunOptions, RunStatus, Timeout, Workflow
from osprotocol.errors import InvalidTransitionError, OSProtocolError, RequestClosedError, RequestNotFoundError
from osprotocol.protocol.request import Request
from tests.restate import chaos_flows as flows
from tests.restate.chaos_member import Member
from tests.restate.ledger_file import note

_LOOK_S = 0.4

Vote = tuple[str, bool]


@dataclass
class Ask:
    """An approval that a run will ask for, and who votes on it how; those of one wave vote at the same moment."""

    approvers: tuple[str, ...]
    required: int
    threshold: int
    waves: list[list[Vote]]
    outcomes: tuple[str, ...]


@dataclass
class Plan:
    """A run, what people do to it, and how it may end."""

    key: str
    kind: str
    workflow: Workflow[Any, Any]
    input: dict[str, Any]
    statuses: tuple[RunStatus, ...] = (RunStatus.COMPLETED,)
    timeout: Timeout | None = None
    asks: list[Ask] = field(default_factory=list)
    starts: str = "once"
    cancels: tuple[bool, ...] = ()
    """Each cancel: whether it is graceful. Several come at the same moment."""
    pauses: int = 0
    run_id: str = ""

    @property
    def options(self) -> RunOptions:
        return RunOptions(idempotency_key=self.key, timeout=self.timeout)


_PEOPLE = ("ann", "bob", "cleo", "dora")
_KINDS = {"chain": 5, "votes": 6, "inputs": 2, "graceful": 2, "forced": 2, "timeout": 1, "paused": 2, "family": 1}


def plans(chance: random.Random, count: int) -> list[Plan]:
    """So many runs; the first of each kind come first, then by weight."""
    kinds = list(_KINDS)[:count]
    kinds += chance.choices(list(_KINDS), list(_KINDS.values()), k=count - len(kinds))
    chance.shuffle(kinds)
    return [_plan(chance, kind, f"k{number}") for number, kind in enumerate(kinds)]


def _plan(chance: random.Random, kind: str, key: str) -> Plan:
    ms = chance.choice((5, 20, 80, 300))
    plan = Plan(key, kind, flows.chain, {"ms": ms}, starts=chance.choice(("once", "twice", "later")))
    match kind:
        case "chain":
            plan.input["sleeps"] = [chance.choice((20, 200, 900)) for _ in range(chance.randint(2, 4))]
        case "paused":
            plan.input["sleeps"] = [600, 900, 600, 900]
            plan.pauses = 2
        case "votes":
            plan.workflow = flows.votes
            plan.asks = [_ask(chance) for _ in range(chance.randint(1, 2))]
            plan.input["asks"] = [
                {"approvers": ask.approvers, "required": ask.required, "threshold": ask.threshold} for ask in plan.asks
            ]
        case "inputs":
            plan.workflow = flows.inputs
        case "graceful" | "forced":
            plan.workflow = flows.reserved
            plan.input["rounds"] = chance.randint(1, 8)
            plan.statuses = (RunStatus.CANCELLED,)
            plan.cancels = ((kind == "graceful"),) * chance.randint(1, 2)
        case "timeout":
            plan.workflow = flows.endless
            plan.timeout = Timeout(chance.randint(600, 2_500), on_timeout=chance.choice(("fail", "cancel")))
            plan.statuses = (RunStatus.FAILED if plan.timeout.on_timeout == "fail" else RunStatus.CANCELLED,)
        case _:
            plan.workflow = flows.family
            plan.input["items"] = chance.randint(2, 6)
    return plan


def _ask(chance: random.Random) -> Ask:
    ann, bob, cleo, dora = chance.sample(_PEOPLE, 4)
    match chance.choice(("quorum", "rejected", "twice", "clash", "clash of four")):
        case "quorum":
            return Ask((ann, bob, cleo), 2, 2, [[(ann, True)], [(bob, True)], [(cleo, False)]], ("approved",))
        case "rejected":
            return Ask((ann, bob, cleo), 2, 2, [[(ann, False), (bob, False)]], ("rejected",))
        case "twice":
            both = [[(ann, True), (ann, True)], [(ann, True)], [(bob, True), (bob, True)]]
            return Ask((ann, bob, cleo), 2, 2, both, ("approved",))
        case "clash":
            return Ask((ann, bob), 1, 1, [[(ann, True), (bob, False)]], ("approved", "rejected"))
        case _:
            four = [[(ann, True), (bob, False), (cleo, True), (dora, False)]]
            return Ask((ann, bob, cleo, dora), 2, 2, four, ("approved", "rejected"))


class People:
    """Those who carry the plans out.

    Attributes:
        unexpected: sentences about answers that nobody should get.
    """

    def __init__(self, member: Member, chance: random.Random) -> None:
        self.unexpected: list[str] = []
        self._member = member
        self._chance = chance

    async def carry_out(self, plan: Plan, after_s: float) -> None:
        """Start a run and stay with it until it is final."""
        await asyncio.sleep(after_s)
        try:
            await self._start(plan)
            doing = {
                "votes": self._vote_all,
                "inputs": self._answer,
                "graceful": self._cancel,
                "forced": self._cancel,
                "paused": self._pause,
            }
            if plan.kind in doing:
                await doing[plan.kind](plan)
            await self._until(plan, lambda execution: execution.status.is_final)
            if plan.starts == "later":
                await self._start_once(plan)
        except OSProtocolError as error:
            self.unexpected.append(f"{plan.key} {plan.kind} {plan.run_id}: {type(error).__name__}: {error}")

    async def _start(self, plan: Plan) -> None:
        if plan.starts == "twice":
            await asyncio.gather(self._start_once(plan), self._start_once(plan))
        else:
            await self._start_once(plan)

    async def _start_once(self, plan: Plan) -> None:
        async def act(client: Client) -> Execution[Any]:
            run = client.create_run(plan.workflow, plan.input, plan.options)
            try:
                return await run.start()
            except asyncio.CancelledError:
                if run._starting is not None:
                    run._starting.cancel()  # nobody answers it any more
                raise

        execution = await self._member.insist("start", act)
        note("accepted", run=execution.id, key=plan.key)
        plan.run_id = plan.run_id or execution.id

    async def _until(self, plan: Plan, holds: Callable[[Execution[Any]], bool]) -> Execution[Any]:
        while True:
            execution: Execution[Any] = await self._member.look(plan.run_id)
            if holds(execution) or execution.status.is_final:
                return execution
            await asyncio.sleep(_LOOK_S)

    async def _request(self, plan: Plan, prompt: str) -> Request | None:
        """The open question with that text, once it is asked; None if the run ended before."""

        def found(execution: Execution[Any]) -> list[Request]:
            return [request for request in execution.requests if request.prompt == prompt]

        execution = await self._until(plan, lambda execution: bool(found(execution)))
        return next(iter(found(execution)), None)

    # ---------------------------------------------------------------- what they do

    async def _vote_all(self, plan: Plan) -> None:
        for number, ask in enumerate(plan.asks):
            request = await self._request(plan, f"question {number}")
            if request is None:
                self.unexpected.append(f"{plan.key}: ended before question {number}")
                return
            for wave in ask.waves:
                await asyncio.gather(*(self._vote(plan, request.id, by, approved) for by, approved in wave))

    async def _vote(self, plan: Plan, request_id: str, by: str, approved: bool) -> None:
        async def act(client: Client) -> Request:
            execution = await client.get(plan.run_id)
            vote = execution.approve if approved else execution.reject
            return await vote(request_id=request_id, by=by)

        told: dict[str, Any] = {"run": plan.run_id, "request": request_id, "by": by, "approved": approved}
        try:
            request = await self._member.insist("vote", act)
        except RequestClosedError as error:
            note("vote", **told, outcome=error.outcome, counted=False)
            return
        counted = any(one.by == by and one.approved == approved for one in request.responses)
        note("vote", **told, outcome=request.status, counted=counted)

    async def _answer(self, plan: Plan) -> None:
        for prompt in ("first", "second"):
            request = await self._request(plan, prompt)
            if request is None:
                self.unexpected.append(f"{plan.key}: ended before {prompt}")
                return
            number = self._chance.randint(1, 1_000)
            await asyncio.gather(*(self._respond(plan, request.id, one) for one in (number, number + 1_000)))

    async def _respond(self, plan: Plan, request_id: str, number: int) -> None:
        async def act(client: Client) -> Request:
            return await (await client.get(plan.run_id)).respond(number, request_id=request_id, by="ann")

        told: dict[str, Any] = {"run": plan.run_id, "request": request_id, "number": number}
        try:
            request = await self._member.insist("answer", act)
        except RequestClosedError as error:
            note("answer", **told, outcome=error.outcome, taken=None)
        else:
            note("answer", **told, outcome=request.status, taken=request.answer)

    async def _cancel(self, plan: Plan) -> None:
        if self._chance.random() < 0.8:
            await self._until(plan, lambda execution: execution.status is not RunStatus.PENDING)
        await asyncio.sleep(self._chance.uniform(0, 3))
        await asyncio.gather(*(self._cancel_once(plan, graceful) for graceful in plan.cancels))

    async def _cancel_once(self, plan: Plan, graceful: bool) -> None:
        async def act(client: Client) -> str:
            return await (await client.get(plan.run_id)).cancel(plan.key, by="ann", graceful=graceful)

        note("cancel asked", run=plan.run_id, graceful=graceful)
        try:
            reply = await self._member.insist("cancel", act)
        except InvalidTransitionError as error:
            reply = error.status
        note("cancelled", run=plan.run_id, graceful=graceful, reply=reply)

    async def _pause(self, plan: Plan) -> None:
        for _ in range(plan.pauses):
            await asyncio.sleep(self._chance.uniform(0.2, 1.5))
            if not await self._steer(plan, "pause", lambda execution: execution.pause(plan.key, by="ann")):
                return

            def is_settled(execution: Execution[Any]) -> bool:
                return any(one.kind == "paused" and one.settled for one in execution.waiting_on)

            execution = await self._until(plan, is_settled)
            if is_settled(execution):
                note("settled", run=plan.run_id)
            await asyncio.sleep(self._chance.uniform(0.2, 2.5))
            note("resume asked", run=plan.run_id)
            await self._steer(plan, "resume", lambda execution: execution.resume(by="ann"))

    async def _steer(self, plan: Plan, what: str, verb: Callable[[Execution[Any]], Awaitable[None]]) -> bool:
        """Pause or resume; False if the run has ended. One that was done by an earlier try is done."""
        try:
            await self._member.insist(what, lambda client: _on_run(client, plan.run_id, verb))
        except InvalidTransitionError as error:
            return not RunStatus(error.status).is_final
        return True

    async def attend(self) -> None:
        """Whenever a run is held because workers died under it, let it try again."""
        while True:
            page = await self._member.insist("list", lambda client: client.requests(kind="attention"))
            for request in page.items:
                note("attention", run=request.run_id, payload=request.payload)
                await self._let_try_again(request)
            await asyncio.sleep(1.0)

    async def _let_try_again(self, request: Request) -> None:
        async def act(client: Client) -> Request:
            return await (await client.get(request.run_id)).respond("retry", request_id=request.id, by="ann")

        with contextlib.suppress(RequestClosedError, RequestNotFoundError):
            await self._member.insist("attention", act)


async def _on_run(client: Client, run_id: str, verb: Callable[[Execution[Any]], Awaitable[None]]) -> None:
    await verb(await client.get(run_id))
