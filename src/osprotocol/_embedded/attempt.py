"""One attempt of a run in this process: its branches, what they wait for, and what is handed to them in which order.

The rule that makes replay exact: an outcome is handed to the code only while all of its branches stand still, one
outcome at a time, in the order in which the outcomes entered the journal. Live and replayed outcomes go the same way.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from osprotocol import _limits
from osprotocol._clock import Timer
from osprotocol._embedded.driver import Drive, Wait, where
from osprotocol._embedded.replay import CANCEL, Recorded, Replay, describe
from osprotocol._embedded.store import Operation
from osprotocol._embedded.transaction import Transaction
from osprotocol._json import digest as digest_of
from osprotocol._json import encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.state import Event, RunState
from osprotocol.errors import (
    FencedError,
    ForeignAwaitError,
    JournalMismatchError,
    StoreError,
    WrongTaskError,
)

if TYPE_CHECKING:
    from osprotocol._embedded.worker import Worker
    from osprotocol.workflow import Workflow


class Unwind(BaseException):
    """Takes a run's code out of memory. Not an `Exception`, so that ``except Exception`` cannot swallow it."""


class BranchStopped(BaseException):
    """Ends a branch of a gather in which another branch failed."""


class Branch:
    """One line of execution of a run's code: the workflow itself, or a coroutine in a gather."""

    __slots__ = ("count", "group", "is_joining", "parent", "prefix", "step", "task", "wait")

    def __init__(self, prefix: str, parent: Branch | None, group: Any) -> None:
        self.prefix = prefix
        self.parent = parent
        self.group = group
        self.count = 0
        self.step: str | None = None
        self.task: asyncio.Task[Any] | None = None
        self.wait: Wait | None = None
        self.is_joining = False

    def next_position(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    @property
    def is_stopped(self) -> bool:
        branch: Branch | None = self
        while branch is not None and branch.group is not None:
            if branch.group.is_stopped:
                return True
            branch = branch.parent
        return False


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
        self._stood = _stands_before(state)
        self.positions = set(replay.recorded)
        self.seen = state.event
        self.executing = True
        self.root: Branch | None = None
        self.asking = 0
        self.draining: set[str] = set()
        self.answers: dict[str, Callable[[], None]] = {}
        self._timed: dict[Wait, tuple[int, Callable[[], None], Timer | None]] = {}
        self._deliveries: deque[tuple[Wait, Any]] = deque()
        self._gate: list[Wait] = []
        self._unsynced = 0
        self._sync_waits: list[Wait] = []
        self._entries: list[c.Entry] = []
        self._entries_round = -1
        self._entries_critical = True
        self._linger: asyncio.TimerHandle | None = None
        self._foreign_told: set[str] = set()

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

    def enter(self, operation: str) -> Branch:
        """The branch that calls a context operation now.

        Raises:
            WrongTaskError: the calling task is none of this run's.
        """
        task = asyncio.current_task()
        branch = self.branches.get(task) if task is not None else None
        if branch is None or branch.step is not None:
            raise WrongTaskError(operation)
        if self.unwinding:
            raise Unwind
        return branch

    def foreign_await(self, coroutine: Any, awaited: Any) -> Exception | None:
        """The code awaits something that its context did not make: tell it, or give the error for a strict workflow."""
        if self.unwinding:
            return None
        place, what = where(coroutine), _name_of(awaited)
        error = ForeignAwaitError(self.workflow.name, place, what)
        if self.workflow.strict:
            return error
        if place not in self._foreign_told:
            self._foreign_told.add(place)
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)
            self.worker.log(self, "warning", str(error), None, {})
        return None

    # ------------------------------------------------------------------ waiting

    def stands(self, branch: Branch) -> None:
        """A branch begins to wait. Called by the driver."""
        self.runnable -= 1
        if self.runnable == 0:
            self.pump()

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
        return self._unsynced > 0

    async def _synced(self, branch: Branch) -> None:
        wait = Wait(loop=self.loop)
        self._sync_waits.append(wait)
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
            self._disarm(wait)

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
        elif self._must_cancel():
            self._deliver_cancel(live=True)
        elif self.is_held:
            self._stand_still()
        elif self._deliveries:
            wait, value = self._deliveries.popleft()
            if wait.done():
                self.pump()
                return
            self.activate()
            self.resolve(wait, value)
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
                self.mismatch(position, recorded, "nothing")
            return
        replay.cursor += 1
        self.resolve(wait, recorded.completed)

    def _must_cancel(self) -> bool:
        return self.state.cancel == "cancelling" and not self.cancel_delivered

    def _deliver_cancel(self, *, live: bool) -> None:
        self.cancel_delivered = True
        if live:
            self.record(c.Entry(CANCEL))
            self.activate()
        assert self.root is not None
        self.cancel_branch(self.root)

    def cancel_branch(self, branch: Branch) -> None:
        """Raise `asyncio.CancelledError` where a branch waits now."""
        if branch.wait is not None and not branch.wait.done():
            self.throw(branch.wait, asyncio.CancelledError(self.state.cancel_reason or "cancelled"))
        elif branch.step is not None and branch.task is not None:
            branch.task.cancel(self.state.cancel_reason or "cancelled")

    # ------------------------------------------------------------------- timers

    def call_at(self, wait: Wait, due: int, on_due: Callable[[], None]) -> None:
        """Call when `due` has come, unless the wait ends before or the run is held; a pause moves `due`."""

        def fire() -> None:
            if not (wait.done() or self.unwinding or self.is_held):
                self._timed.pop(wait, None)
                on_due()

        timer = None if self.state.pause_settled_at is not None else self.worker.clock.call_at(due, fire)
        self._timed[wait] = (due, on_due, timer)

    def _disarm(self, wait: Wait) -> None:
        _, _, timer = self._timed.pop(wait, (0, None, None))
        if timer is not None:
            timer.cancel()

    def _shift_timers(self, by: int) -> None:
        """What held the run is gone: what was to wake then wakes later by the time that stood still."""
        for wait, (due, on_due, _) in list(self._timed.items()):
            self._disarm(wait)
            self.call_at(wait, due + by, on_due)

    @property
    def wake_at(self) -> int | None:
        """When the earliest timer of the code is due."""
        return min((due for due, _, _ in self._timed.values()), default=None)

    # ------------------------------------------------------- standing and leaving

    def _stand_still(self) -> None:
        """Nothing runs and nothing is to be handed out: the run waits for a person, a timer or another run."""
        if self.busy or self._must_cancel() or self.judging:
            return
        foreign = any(branch.wait is None for branch in self.branches.values())
        if foreign:
            return
        wake_at = self.wake_at
        if wake_at is not None and wake_at <= self.worker.clock.now() and not self.is_held:
            return  # a timer is due: it fires as soon as the loop gets to it
        state = self.state
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
            self.command(c.Yield(self.epoch, self.seen))
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
            self.command(c.Activate(self.epoch, self.seen))

    def park(self) -> None:
        """Leave memory; the journal brings the run back when there is something to do."""
        self._linger = None
        if self.unwinding or not self.is_still or not self.replay.is_over:
            return
        self.park_now()

    def park_now(self) -> None:
        """Give the run back, to be gone on with as soon as nothing holds it if there is something to go on with."""
        more = bool(self.busy or self.runnable or self._gate or self._deliveries or not self.replay.is_over)
        wake_at = None if more else self.wake_at
        self.leave(c.Yield(self.epoch, self.seen, wake_at, release=True, runnable=more))

    def leave(self, command: c.Command | None) -> None:
        """Unwind the code; with a command, give the run back with it."""
        if self.unwinding:
            return
        if command is not None:
            self.command(command)
        self.unwinding = True
        if self._linger is not None:
            self._linger.cancel()
        self.worker.leaves(self)
        for wait in list(self._timed):
            self._disarm(wait)
        for branch in list(self.branches.values()):
            if branch.wait is not None:
                self.throw(branch.wait, Unwind())
            elif branch.step is not None and branch.task is not None:
                branch.task.cancel("the run no longer runs here")

    # ------------------------------------------------------------------ journal

    def record_delivery(self, entry: c.Entry) -> None:
        """Add that an outcome from outside is handed out. Effects wait for it only where its order is a question."""
        self.record(entry, critical=len(self.branches) > 1)

    def record(self, entry: c.Entry, *, critical: bool = True) -> None:
        """Add to the journal; what is added in one round of the loop goes in one command.

        No effect begins before a `critical` record is durable.
        """
        if self.unwinding:
            raise Unwind
        if entry.position is not None:
            self.positions.add(entry.position)
        writer = self.worker.writer
        if self._entries_round == writer.round and self._entries_critical >= critical:
            self._entries.append(entry)
            return
        self._entries = entries = [entry]
        key, epoch = self.key, self.epoch
        self._put(lambda transaction: transaction.apply(key, c.Record(epoch, tuple(entries))), critical=critical)
        self._entries_round, self._entries_critical = writer.round, critical

    def command(self, command: c.Command, done: Callable[[Operation], None] | None = None) -> None:
        """Send a command of this attempt, after everything that it sent before."""
        key = self.key
        self._put(lambda transaction: transaction.apply(key, command), done)

    def transact(
        self, position: str, run: Callable[[Transaction], Any], done: Callable[[Operation], None] | None = None
    ) -> None:
        """Begin the operation at a position, in order with everything else that this attempt sends."""
        self.positions.add(position)
        self._put(run, done)

    def _put(
        self,
        run: Callable[[Transaction], Any],
        done: Callable[[Operation], None] | None = None,
        *,
        critical: bool = True,
    ) -> None:
        self._unsynced += critical
        self._entries_round = -1  # what is recorded from here on comes after this

        def finished(operation: Operation) -> None:
            self._unsynced -= critical
            if operation.error is None:
                decision_error = getattr(operation.result, "error", None)
                if isinstance(decision_error, FencedError):
                    self.fence()
            if done is not None:
                done(operation)
            elif operation.error is not None:
                self.refused(operation.error)
            if not self._unsynced and self._sync_waits and not self.unwinding:
                waiting, self._sync_waits = self._sync_waits, []
                for wait in waiting:
                    self.resolve(wait)

        self.worker.writer.put(Operation(run, finished), lazy=not critical)

    def refused(self, error: BaseException) -> None:
        """What the attempt sent was not taken: it is no longer its run, or the store is in trouble."""
        if isinstance(error, StoreError):
            self.worker.lost(self)
        self.fence()

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

    def check(self, position: str, kind: str, name: str, digest: str | None) -> Recorded | None:
        """What the journal holds at a position, if it is what the code asks for.

        Raises:
            JournalMismatchError: it is something else; the run is stopped before any further effect.
        """
        recorded = self.replay.recorded.get(position)
        if recorded is None:
            return None
        same_digest = digest is None or recorded.digest is None or recorded.digest == digest
        if recorded.kind != kind or recorded.name != name or not same_digest:
            self.mismatch(position, recorded, describe(kind, name, digest))
            raise Unwind
        return recorded

    def mismatch(self, position: str, recorded: Recorded, asked: str) -> None:
        """The code and its journal disagree: stop and ask a person."""
        error = JournalMismatchError(self.id, position, recorded.describe(), asked)
        payload = {"reason": "mismatch", "key": position, "recorded": error.recorded, "asked": error.asked}
        self.attend(str(error), payload)

    def late(self, entry: c.Entry) -> None:
        """A step ended after nobody waited for it any more: the journal tells it, the run does not use it."""
        # A note, never a record: this attempt may still own the run, and a record would become the step's outcome.
        told = encode({"key": entry.position, "type": entry.type, "epoch": self.epoch})
        key, note = self.key, c.Note("attempt.late-result", told, name=entry.name)
        self.worker.put_quietly(lambda transaction: transaction.apply(key, note))

    def attend(self, prompt: str, payload: dict[str, Any]) -> None:
        """Give the run back and ask a person what to do with it."""
        text = encode(payload)
        key, epoch = self.key, self.epoch

        def ask(transaction: Transaction) -> Any:
            request_key = transaction.next_request_key()
            command = c.OpenRequest(
                epoch, request_key, "attention", None, prompt, text, digest_of(text.encode()), release=True
            )
            return transaction.apply(key, command)

        self._put(ask)
        if not self.unwinding:
            self.leave(None)

    # -------------------------------------------------------------- notification

    def on_change(self, state: RunState, events: list[Event]) -> None:
        """Something was committed for this run, by us or by anybody."""
        before, self.state = self.state, state
        if self.unwinding:
            return
        if state.epoch != self.epoch or state.is_final or state.owner is None:
            self.fence()
            return
        if state.executing and not self.executing:
            self.executing = True
            self._stop_lingering()
        for event in events:
            if event.type == "request.closed" and event.position is not None:
                self._answer(event.position)
            elif event.type == "child.ended" and event.name is not None:
                self._answer(event.name)
            if event.number == state.wake:
                self.seen = event.number
        stood, self._stood = self._stood, _stands_before(state)
        if stood and not self._stood:
            self._shift_timers(state.paused_us - before.paused_us)
        if state.cancel == "asked" and not self.judging:
            self.worker.judge_cancel(self)
        if self.runnable == 0:
            self.pump()

    def _answer(self, position: str) -> None:
        handler = self.answers.get(position)
        if handler is not None:
            handler()


def _stands_before(state: RunState) -> bool:
    """Whether a pause or a request holds the run; a cancel goes past both."""
    held = state.pause_at is not None or any(request.holds for request in state.requests)
    return held and state.cancel != "cancelling"


def _name_of(awaited: Any) -> str:
    if awaited is None:
        return "a bare yield (asyncio.sleep(0))"
    return f"a {type(awaited).__name__} that its context did not make (asyncio.sleep, asyncio.gather, a socket ...)"


def failure_position(error: BaseException) -> str | None:
    """Where the step or child failed that ended an attempt: the last one in the chain of causes, groups included."""
    seen: set[int] = set()
    pending: list[BaseException] = [error]
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        position: str | None = getattr(current, "__osp_position__", None)
        if position is not None:
            return position
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        context = None if current.__suppress_context__ else current.__context__
        pending.extend(cause for cause in (current.__cause__, context) if cause is not None)
    return None


def error_info(error: BaseException) -> str:
    """JSON of what ended a run or step."""
    info: dict[str, Any] = {"type": type(error).__name__, "message": str(error)[: _limits.TEXT_CHARACTERS]}
    code = getattr(type(error), "code", None)
    if isinstance(code, str):
        info["code"] = code
    info["message"] = info["message"].encode("utf-8", "replace").decode()
    return encode(info)
