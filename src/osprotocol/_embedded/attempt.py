"""One attempt of a run in this process: its branches, what they wait for, and what is handed to them in which order.

The rule that makes replay exact: an outcome is handed to the code only while all of its branches stand still, one
outcome at a time, in the order in which the outcomes entered the journal. Live and replayed outcomes go the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from osprotocol._embedded.attention import damaged, mismatch
from osprotocol._embedded.branches import Branch, stands_before
from osprotocol._embedded.driver import Drive, Wait
from osprotocol._embedded.outbox import Outbox
from osprotocol._embedded.replay import CANCEL, Replay
from osprotocol._embedded.signals import BranchStopped, Unwind
from osprotocol._embedded.store import Operation
from osprotocol._embedded.timers import AttemptTimers
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.change import timeout_at
from osprotocol._lifecycle.state import Event, RunState
from osprotocol.errors import (
    CorruptDatabaseError,
    StoreError,
    WrongTaskError,
)

if TYPE_CHECKING:
    from osprotocol._embedded.worker import Worker
    from osprotocol.workflow import Workflow

T = TypeVar("T")

_SIGNALS = 64
"""How often code that leaves memory is told so by its context operations, before it is abandoned where it stands.
Cleanup that stands in other cleanup is told once for each, and swallows nothing."""


class Attempt:
    """The execution of a claimed run. Lives on the loop; everything that it decides goes through the writer.

    Attributes:
        runnable: branches whose code runs or is about to; outcomes are handed out when it is 0.
        busy: steps that execute and commits that a branch waits for.
    """

    def __init__(self, worker: Worker, workflow: Workflow[Any, Any], state: RunState, replay: Replay) -> None:
        self.worker = worker
        self.workflow = workflow
        self.key = state.key
        self.id = state.id
        self.epoch = state.epoch
        self.state = state
        self.replay = replay
        self.stall = worker.stall
        self.loop = worker.loop
        self.runnable = 0
        self.busy = 0
        self.branches: dict[asyncio.Task[Any], Branch] = {}
        self.waits: dict[str, Wait] = {}
        self.unwinding = False
        self.fenced = False
        self.cancel_delivered = False
        self.judging = False
        self.timing_out = False
        self.stopping = False
        self._stood = stands_before(state)
        self.seen = state.event
        self.executing = True
        self.root: Branch | None = None
        self.asking = 0
        self.draining: set[str] = set()
        self.answers: dict[str, Callable[[], None]] = {}
        self.timers = AttemptTimers(self)
        self._deliveries: deque[tuple[Wait, Any]] = deque()
        self._gate: list[Wait] = []
        self.out = Outbox(self, set(replay.recorded))
        self._linger: asyncio.TimerHandle | None = None
        self._swallowed = 0
        self.foreign_told: set[str] = set()

    # ----------------------------------------------------------------- branches

    def start(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begin to run the workflow's code."""
        self.root = self.spawn(make(), "", None, None)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], prefix: str, parent: Branch | None, group: Any) -> Branch:
        """A new branch whose operations have positions that begin with `prefix`."""
        branch = Branch(prefix, parent, group)
        self.runnable += 1

        async def main() -> None:
            result, error = None, None
            try:
                result = await Drive(coroutine, self, branch)
            except BaseException as raised:  # noqa: BLE001 - whatever the user's code raises ends its attempt
                error = raised
            finally:
                if coroutine not in self.worker.abandoned:
                    coroutine.close()
                self._leave(branch)
            if group is None:
                # Not in a callback of the task: what the code returned shares a commit with its last step.
                self.worker.attempt_ended(self, error, result)

        task = self.loop.create_task(main())
        branch.task = task
        self.branches[task] = branch
        return branch

    def _leave(self, branch: Branch) -> None:
        self.runnable -= 1
        assert branch.task is not None
        self.branches.pop(branch.task, None)
        if self.runnable == 0 and branch.group is None:
            return
        if self.runnable == 0:
            self.loop.call_soon(self.pump)

    def enter(self, operation: str) -> Branch | None:
        """The branch that calls a context operation now; None when its code swallows every signal that it is over.

        Raises:
            WrongTaskError: the calling task is none of this run's.
        """
        if self.unwinding and self._swallowed >= _SIGNALS:
            return None
        return self.enter_at_once(operation)

    def enter_at_once(self, operation: str) -> Branch:
        """As `enter`, for operations that are not awaited."""
        task = asyncio.current_task()
        branch = self.branches.get(task) if task is not None else None
        if branch is None or branch.step is not None:
            raise WrongTaskError(operation)
        if self.unwinding:
            self._swallowed += 1
            raise Unwind
        return branch

    def is_new(self, branch: Branch | None) -> bool:
        """Whether the code that a branch executes now runs for the first time: what it tells was not told before."""
        if not self.replay.is_over:
            return False
        # A branch that came to its next operation once has told before that what it tells now.
        return branch is None or f"{branch.prefix}{branch.count + 1}" not in self.replay.recorded

    # ------------------------------------------------------------------ waiting

    def stands(self, branch: Branch) -> None:
        """A branch begins to wait. Called by the driver."""
        self.runnable -= 1
        if self.runnable == 0:
            self.pump()

    def awaits_foreign(self, branch: Branch, awaits: bool) -> None:
        """A branch begins, or ends, to await what its context did not make. Called by the driver."""
        branch.is_foreign = awaits
        self.runnable += -1 if awaits else 1
        if self.runnable == 0:
            self.loop.call_soon(self.pump)

    def has_outcome(self, position: str) -> bool:
        """Whether the journal holds an outcome for a position that is yet to be handed out."""
        recorded = self.replay.recorded.get(position)
        return recorded is not None and recorded.completed is not None and not self.replay.is_over

    def resolve(self, wait: Wait, value: Any = None) -> None:
        """Let a branch go on with a value."""
        if not wait.done():
            self.runnable += 1
            wait.set_result(value)

    def throw(self, wait: Wait, error: BaseException) -> None:
        """Let a branch go on with an error."""
        if not wait.done():
            self.runnable += 1
            wait.set_exception(error)

    async def pass_boundary(self, branch: Branch, *, durable: bool) -> None:
        """Wait until something new may start: replay is over, nothing holds the run, with `durable` all is committed.

        Raises:
            Unwind: the run leaves memory. BranchStopped: another branch failed.
        """
        while True:
            if self.unwinding:
                raise Unwind
            if branch.is_stopped:
                raise BranchStopped
            if not self.replay.is_over or self._deliveries or self.is_held or self._must_cancel():
                wait = Wait(loop=self.loop)
                self._gate.append(wait)
                await self.wait_on(branch, wait)
            elif durable and self._needs_sync():
                await self._synced(branch)
            else:
                return

    def _needs_sync(self) -> bool:
        self.activate()
        return not self.out.is_synced

    async def _synced(self, branch: Branch) -> None:
        wait = Wait(loop=self.loop)
        self.out.when_synced(wait)
        self.busy += 1
        try:
            await self.wait_on(branch, wait)
        finally:
            self.busy -= 1

    async def wait_on(self, branch: Branch, wait: Wait) -> Any:
        branch.wait = wait
        try:
            return await wait
        finally:
            branch.wait = None

    async def outcome(self, branch: Branch, position: str, wait: Wait | None = None) -> Any:
        """Wait for the outcome of the operation at a position."""
        wait = wait or Wait(loop=self.loop)
        self.waits[position] = wait
        try:
            return await self.wait_on(branch, wait)
        finally:
            self.waits.pop(position, None)
            self.answers.pop(position, None)
            self.timers.disarm(wait)

    def replayed(self, branch: Branch, position: str) -> bool:
        """Hand out a recorded outcome at once if it is the next and nobody else can run: replay without waiting."""
        replay = self.replay
        if (
            self.runnable == 1
            and not self._deliveries
            and not replay.is_over
            and replay.order[replay.cursor] == position
        ):
            replay.cursor += 1
            return True
        return False

    @property
    def is_held(self) -> bool:
        """The run is paused, or a request stands in front of it: nothing new starts, no outcome is handed out."""
        return self.stopping or self._stood

    def begin_step(self, branch: Branch, name: str) -> None:
        """The branch executes a step now: its code stands still meanwhile, the others may go on."""
        branch.step = name
        self.busy += 1
        self.runnable -= 1
        if self.runnable == 0 and (self._deliveries or self._gate):
            self.loop.call_soon(self.pump)

    def end_step(self, branch: Branch) -> None:
        """The step has ended, one way or another; its branch runs again."""
        branch.step = None
        self.busy -= 1
        self.runnable += 1

    async def take_turn(self, branch: Branch, position: str) -> None:
        """An outcome is recorded; hand it to the code once it is its turn."""
        alone = self.runnable == 1 and not self._deliveries
        if not alone or self.is_held or self._must_cancel():
            wait = Wait(loop=self.loop)
            self._deliveries.append((wait, None))
            await self.outcome(branch, position, wait)

    # ---------------------------------------------------------------- hand-outs

    def deliver(self, wait: Wait, value: Any) -> None:
        """Queue an outcome whose record is in the journal; it is handed out in turn."""
        self._deliveries.append((wait, value))
        if self.runnable == 0:
            self.pump()

    def pump(self) -> None:
        """All branches stand still: hand out what is next."""
        if self.runnable or self.unwinding:
            return
        if not self.replay.is_over:
            self._replay_next()
        elif self._deliveries and not self.is_held:
            wait, value = self._deliveries.popleft()
            if wait.done():
                self.pump()
                return
            self.activate()
            self.resolve(wait, value)
        elif self._must_cancel():
            # After what is in the journal before it: replay hands out in that order.
            self._deliver_cancel(live=True)
        elif self.is_held:
            self._stand_still()
        elif self._gate:
            gate, self._gate = self._gate, []
            for wait in gate:
                self.resolve(wait)
        else:
            self._stand_still()

    def _replay_next(self) -> None:
        replay = self.replay
        position = replay.order[replay.cursor]
        if position == CANCEL:
            replay.cursor += 1
            self._deliver_cancel(live=False)
            return
        wait = self.waits.get(position)
        recorded = replay.recorded[position]
        if wait is None:
            if self.busy == 0 and not any(branch.wait is None for branch in self.branches.values()):
                mismatch(self, position, recorded, "nothing")
            return
        replay.cursor += 1
        self.resolve(wait, recorded.completed)

    def _must_cancel(self) -> bool:
        return self.state.cancel == "cancelling" and not self.cancel_delivered

    def _deliver_cancel(self, *, live: bool) -> None:
        self.cancel_delivered = True
        if live:
            with contextlib.suppress(Unwind):
                self.out.record(c.Entry(CANCEL))
                self.activate()
        assert self.root is not None
        self.cancel_branch(self.root)

    def cancel_branch(self, branch: Branch) -> None:
        """Raise `asyncio.CancelledError` where a branch waits now."""
        if branch.wait is not None and not branch.wait.done():
            self.throw(branch.wait, asyncio.CancelledError(self.state.cancel_reason or "cancelled"))
        elif (branch.step is not None or branch.is_foreign) and branch.task is not None:
            branch.task.cancel(self.state.cancel_reason or "cancelled")

    # ------------------------------------------------------- standing and leaving

    def _stand_still(self) -> None:
        """Nothing runs and nothing is to be handed out: the run waits for a person, a timer or another run."""
        if self.busy or self._must_cancel() or self.judging:
            return
        foreign = any(branch.wait is None for branch in self.branches.values())
        if foreign:
            return
        state = self.state
        due = min((at for at in (self.timers.wake_at, timeout_at(state)) if at is not None), default=None)
        if due is not None and due <= self.worker.clock.now() and not self.is_held:
            return  # it fires, or is judged, as soon as the loop gets to it
        for_people = self.asking or state.open_requests or state.pause_at is not None or state.children_waiting
        linger_s = self.worker.linger_s
        if self.stopping:
            self.park_now()
            return
        if linger_s <= 0:
            self.park()
            return
        if self.executing and for_people:
            self.executing = False
            more = bool(self._gate or self._deliveries)
            self.out.send(c.Yield(self.epoch, self.seen, self.timers.wake_at, runnable=more))
        if self._linger is None:
            self._linger = self.loop.call_later(linger_s, self.park)
            self.worker.lingers(self)

    @property
    def is_still(self) -> bool:
        """Whether the attempt could be taken out of memory now."""
        return self.runnable == 0 and self.busy == 0 and not (self._deliveries and not self.is_held)

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
            self.worker.works(self)

    def activate(self) -> None:
        """The code goes on."""
        self._stop_lingering()
        if not self.executing:
            self.executing = True
            self.out.send(c.Activate(self.epoch, self.seen))

    def park(self) -> None:
        """Leave memory; the journal brings the run back when there is something to do."""
        self._linger = None
        if self.unwinding or not self.is_still or not self.replay.is_over:
            return
        self.park_now()

    def park_now(self) -> None:
        """Give the run back, to be gone on with as soon as nothing holds it if there is something to go on with."""
        more = bool(self.busy or self.runnable or self._gate or self._deliveries or not self.replay.is_over)
        wake_at = None if more else self.timers.wake_at
        self.leave(c.Yield(self.epoch, self.seen, wake_at, release=True, runnable=more))

    def leave(self, command: c.Command | None, done: Callable[[Operation], None] | None = None) -> None:
        """Unwind the code; with a command, give the run back with it."""
        if self.unwinding:
            return
        if command is not None:
            self.out.send(command, done)
        self.unwinding = True
        if self._linger is not None:
            self._linger.cancel()
        self.timers.disarm_all()
        for branch in list(self.branches.values()):
            if branch.wait is not None:
                self.throw(branch.wait, Unwind())
            elif (branch.step is not None or branch.is_foreign) and branch.task is not None:
                branch.task.cancel("the run no longer runs here")

    # ------------------------------------------------------------------ trouble

    def refused(self, error: BaseException) -> None:
        """What the attempt sent was not taken: it is no longer its run, or the store is in trouble."""
        if isinstance(error, StoreError):
            self.worker.lost(self)
        self.fence()

    def read(self, question: Callable[..., T], *arguments: Any) -> T:
        """Ask the store what the code needs to go on; if it cannot say, the run is given back as when a commit fails.

        Damage does not pass: a person is asked.

        Raises:
            Unwind: it could not.
        """
        try:
            return question(*arguments)
        except CorruptDatabaseError as error:
            damaged(self, error)
            raise Unwind from error
        except StoreError as error:
            self.refused(error)
            raise Unwind from error

    def fence(self) -> None:
        """The run is no longer ours: nothing that its code does here counts any more."""
        if not self.fenced:
            self.fenced = True
            self.leave(None)

    def judged(self, operation: Operation) -> None:
        """What before_cancel said is committed."""
        self.judging = False
        if operation.error is not None:
            self.refused(operation.error)
        else:
            self.pump()

    # -------------------------------------------------------------- notification

    def on_change(self, state: RunState, events: list[Event]) -> None:
        """Something was committed for this run, by us or by anybody."""
        self.state = state
        if self.unwinding:
            return
        if state.epoch != self.epoch or state.is_final or state.owner is None:
            self.fence()
            return
        self.seen = state.event
        if state.executing and not self.executing:
            self.executing = True
            self._stop_lingering()
        # Before the answers: one that came with a pause, or after it, is not handed out in it.
        stood, self._stood = self._stood, stands_before(state)
        if stood and not self._stood:
            self.timers.shift()
        for event in events:
            if event.type == "request.closed" and event.position is not None:
                self._answer(event.position)
            elif event.type == "child.ended" and event.name is not None:
                self._answer(event.name)
        if state.cancel == "asked" and not self.judging:
            self.worker.judge_cancel(self)
        if self.runnable == 0:
            self.pump()

    def _answer(self, position: str) -> None:
        handler = self.answers.get(position)
        if handler is not None:
            with contextlib.suppress(Unwind):  # the run was stopped on the way
                handler()
