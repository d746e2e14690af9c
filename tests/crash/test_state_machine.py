"""Hypothesis against the embedded engine: people, time, crashes and restarts in any order keep every invariant."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from osprotocol import ApprovalConfig, Client, Context, Retry, RunOptions, Timeout, workflow
from osprotocol._ids import Ids
from osprotocol.errors import OSProtocolError, RequestClosedError, RunError
from tests.conftest import BUDGET_S
from tests.crash import scenarios
from tests.crash.checks import problems, status_of
from tests.crash.clock import ManualClock
from tests.crash.ledger import Ledger
from tests.crash.life import Died, Life
from tests.crash.scenarios import child, family, flaky, helpful, people, steps, waiting, work

T = TypeVar("T")
_FINAL = ("completed", "failed", "cancelled")
_MOVING = ("pending", "in-progress", "awaiting")
_MOST_ROUNDS = 500
_SECOND = 1_000_000


@workflow(name="crash.timed", options=RunOptions(timeout=Timeout(ms=5_000, on_timeout="cancel")))
async def timed(ctx: Context, sleep_ms: int) -> str:
    """Sleeps, asks with a deadline, and cleans up with a step."""
    try:
        await ctx.sleep(ms=sleep_ms)
        await ctx.step(flaky, "timed")
        approval = await ctx.wait_for_approval("In time?", ApprovalConfig(timeout_ms=8_000, required_approvals=2))
        return approval.outcome
    finally:
        await ctx.step(work, "cleanup")


@workflow(name="crash.branches", options=RunOptions(retry=Retry(attempts=1, delay_ms=700)))
async def branches(ctx: Context) -> list[Any]:
    """A person, a sleep and a child beside each other."""
    running = ctx.run(child, "of branches")
    outcomes = await ctx.gather(ctx.wait_for_approval("Left?"), ctx.sleep(ms=3_000), running, ctx.step(work, "beside"))
    return [type(outcome).__name__ for outcome in outcomes]


_WORKFLOWS: dict[str, tuple[Any, Any]] = {
    "steps": (steps, 1),
    "waiting": (waiting, None),
    "people": (people, None),
    "family": (family, None),
    "timed short": (timed, 1_000),
    "timed long": (timed, 9_000),
    "branches": (branches, None),
}
_ACTS = st.sampled_from(("approve", "time", "cancel"))
_PEOPLE = st.sampled_from(("ann", "bob", "Ann"))


class Engines(RuleBasedStateMachine):
    """One database and the processes that open it one after the other."""

    runs = Bundle("runs")

    @initialize(linger_ms=st.sampled_from((0, 600_000)), seed=st.integers(0, 1_000))
    def open_first(self, linger_ms: int, seed: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="osp-machine-"))
        self.path = self.folder / "runs.db"
        self.clock, self.ids, self.linger_ms = ManualClock(), Ids(seed), linger_ms
        self.ledger = Ledger(self.path)
        scenarios.set_world(self.ledger)
        self.final: dict[str, str] = {}
        self.known: list[str] = []
        self.runner = asyncio.Runner()
        self._open()

    def _do(self, doing: Awaitable[T]) -> T:
        async def main() -> T:
            return await doing

        return self.runner.run(main())

    def _open(self) -> None:
        async def opening() -> Life:
            life = Life(self.path, self.clock, linger_ms=self.linger_ms, ids=self.ids)
            self.ledger.begin_life(life)
            await life.client.open()
            await life.settle()
            return life

        self.life = self._do(opening())

    def _command(self, run_id: str, command: str, *arguments: Any, **named: Any) -> Any:
        """Do it and let the engine come to rest; a refusal is an answer too."""

        async def doing() -> Any:
            execution = await self.life.client.get(run_id)
            try:
                return await getattr(execution, command)(*arguments, **named)
            except RunError as error:
                return error
            finally:
                await self.life.settle()

        return self._do(doing())

    # ------------------------------------------------------------------------ people

    @rule(target=runs, name=st.sampled_from(sorted(_WORKFLOWS)), key=st.integers(0, 5))
    def start(self, name: str, key: int) -> str:
        """The same key is the same run, also over crashes."""
        defined, value = _WORKFLOWS[name]

        async def starting() -> str:
            options = RunOptions(idempotency_key=f"{name} {key}")
            execution = await self.life.client.create_run(defined, value, options).start()
            await self.life.settle()
            return execution.id

        run_id = self._do(starting())
        if run_id not in self.known:
            self.known.append(run_id)
        return run_id

    @rule(target=runs)
    def find_children(self) -> Any:
        """Children are steered like any run."""

        async def finding() -> list[str]:
            page = await self.life.client.list(workflow="crash.child", limit=200)
            return [snapshot.id for snapshot in page.items]

        return multiple(*self._do(finding()))

    @rule(run_id=runs, by=_PEOPLE, approved=st.booleans(), newest=st.booleans())
    def vote(self, run_id: str, by: str, approved: bool, newest: bool) -> None:
        """An answer that was accepted is never counted a second time, under whatever spelling of the name."""

        async def voting() -> None:
            execution = await self.life.client.get(run_id)
            asked = [request for request in execution.requests if request.kind == "approval"]
            if not asked:
                return
            request = asked[-1 if newest else 0]
            voting = execution.approve if approved else execution.reject
            try:
                answered = await voting(request_id=request.id, by=by)
            except RunError:
                return
            people = [response.by.casefold() for response in answered.responses]
            assert len(people) == len(set(people))
            await self.life.settle()

        self._do(voting())

    @rule(run_id=runs)
    def help_on(self, run_id: str) -> None:
        """Somebody answers one thing that the run or a child of it asks."""

        async def helping() -> None:
            with contextlib.suppress(RequestClosedError):
                await helpful(await self.life.client.get(run_id), self.ledger)
            await self.life.settle()

        self._do(helping())

    @rule(run_id=runs)
    def answer(self, run_id: str) -> None:
        self._command(run_id, "respond", 7, by="cleo")

    @rule(run_id=runs)
    def attend(self, run_id: str) -> None:
        self._command(run_id, "respond", "retry", by="cleo")

    @rule(run_id=runs)
    def pause(self, run_id: str) -> None:
        self._command(run_id, "pause", "wait", by="ann")

    @rule(run_id=runs)
    def resume(self, run_id: str) -> None:
        self._command(run_id, "resume", by="ann")

    @rule(run_id=runs, graceful=st.sampled_from((None, True, False)))
    def cancel(self, run_id: str, graceful: bool | None) -> None:
        answer = self._command(run_id, "cancel", "enough", by="ann", graceful=graceful)
        if answer == "cancelled":
            assert status_of(self.path, run_id) == "cancelled"

    # -------------------------------------------------------------------------- time

    @rule(seconds=st.sampled_from((0.001, 0.01, 1, 4, 60, 40 * 86_400)))
    def time_passes(self, seconds: float) -> None:
        self._set(self.clock.now() + int(seconds * _SECOND))

    @rule()
    def next_timer_comes(self) -> None:
        async def jumping() -> None:
            self.clock.jump()
            await self.life.settle()

        self._do(jumping())

    @rule(seconds=st.sampled_from((1, 3_600, 400 * 86_400)))
    def clock_is_set_back(self, seconds: int) -> None:
        self._set(self.clock.now() - seconds * _SECOND)

    def _set(self, now: int) -> None:
        async def setting() -> None:
            self.clock.set(now)
            await self.life.settle()

        self._do(setting())

    # -------------------------------------------------------------- crash and restart

    @rule()
    def crash(self) -> None:
        """The process dies while nothing happens in it."""
        self._do(self.life.die())
        self._open()

    @rule(run_id=runs, commits=st.integers(1, 4), after=st.booleans(), act=_ACTS)
    def crash_in_the_middle(self, run_id: str, commits: int, after: bool, act: str) -> None:
        """The process dies at one of the next commits that something causes."""
        life = self.life

        async def acting() -> None:
            life.dies_at, life.dies_after = life.commits + commits, after
            execution = await life.client.get(run_id)
            if act == "time":
                self.clock.jump()
            elif act == "cancel":
                await execution.cancel("crashing", by="bob")
            else:
                await execution.approve(by="dora")
            await life.settle()

        async def until_death() -> None:
            with contextlib.suppress(Died, OSProtocolError):
                await life.until_death(acting())
            life.dies_at = 0
            await life.die()

        self._do(until_death())
        self._open()

    @rule()
    def restart(self) -> None:
        """The process ends as it should, and a new one begins."""
        self._do(self.life.close())
        self._open()

    # --------------------------------------------------------------------- invariants

    @precondition(lambda self: hasattr(self, "life"))
    @invariant()
    def nothing_is_wrong(self) -> None:
        assert problems(self.path) == []
        assert self.ledger.wrong == []

    @precondition(lambda self: hasattr(self, "life"))
    @invariant()
    def what_is_final_stays(self) -> None:
        for run_id in self.known:
            status = status_of(self.path, run_id)
            assert self.final.get(run_id, status) == status
            if status in _FINAL:
                self.final[run_id] = status

    async def _bring_to_an_end(self) -> None:
        """With people who answer, and time, every run becomes final: none is stuck, whatever happened to it."""
        client, rounds = self.life.client, 0
        while await self._help_all(client):
            rounds += 1
            assert rounds < _MOST_ROUNDS, (await client.list(status=_MOVING)).items
            if await self.life.settle() and not self.clock.jump():
                await asyncio.sleep(0.001)

    async def _help_all(self, client: Client) -> bool:
        """Whether there is a run that is not final; whoever can be helped is."""
        unfinished = (await client.list(status=_MOVING, limit=200)).items
        for snapshot in unfinished:
            execution = await client.get(snapshot.id)
            if any(wait.kind == "paused" for wait in snapshot.waiting_on):
                with contextlib.suppress(RunError):  # it may only follow its parent's pause
                    await execution.resume()
            with contextlib.suppress(RequestClosedError):  # it expired in the same instant
                if not execution.status.is_final and await helpful(execution, self.ledger):
                    return True
        return bool(unfinished)

    def teardown(self) -> None:
        if hasattr(self, "life"):
            for run_id in self.known:
                event(f"a run is {status_of(self.path, run_id)} before people help it on")
            self._do(self._bring_to_an_end())
            self.nothing_is_wrong()
            self._do(self.life.die())
            self.runner.close()
            self.ledger.close()
            shutil.rmtree(self.folder)


class LongEngines(Engines):
    """The same, for as long as there is time."""


TestEngines = Engines.TestCase
TestEngines.settings = settings(max_examples=30, stateful_step_count=30)
TestLongEngines = pytest.mark.long(LongEngines.TestCase)
# An example takes less than a second.
TestLongEngines.settings = settings(max_examples=int(BUDGET_S), stateful_step_count=50)
