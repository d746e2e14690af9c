"""The worker: claims runs that are ready, keeps their attempts, and is what an attempt sees of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from osprotocol import _limits
from osprotocol._clock import Clock
from osprotocol._embedded import endings
from osprotocol._embedded.attempt import Attempt
from osprotocol._embedded.body import EmbeddedContext
from osprotocol._embedded.driver import Stall
from osprotocol._embedded.foreign import where
from osprotocol._embedded.logs import RunLogs, executing_attempt
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.replay import read_journal
from osprotocol._embedded.store import Operation, Store
from osprotocol._embedded.suspects import Suspects
from osprotocol._embedded.transaction import Change, Transaction
from osprotocol._embedded.writer import Writer
from osprotocol._ids import Ids
from osprotocol._json import digest, encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.policy import policy_text
from osprotocol._lifecycle.state import Event, RequestState, RunState
from osprotocol.engine import for_nobody
from osprotocol.errors import CorruptDatabaseError, FencedError, OSProtocolError, StoreError, UnknownWorkflowError
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions, RunStatus, no_options
from osprotocol.workflow import Workflow, find_workflow, known_workflows

_TROUBLE_S = 0.2


class Worker:
    """Executes runs of the workflows that this process knows.

    Args:
        concurrency: how many runs execute at once; runs that wait for people or timers do not count.
        linger_s: seconds that a waiting run stays in memory; 0 is the always-park mode for tests.
        options_by_run: options with functions, of runs that this process started.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        clock: Clock,
        ids: Ids,
        logs: RunLogs,
        *,
        concurrency: int,
        linger_s: float,
        options_by_run: dict[str, RunOptions],
    ) -> None:
        self.store = store
        self.writer = writer
        self.clock = clock
        self.ids = ids
        self.logs = logs
        self.loop = asyncio.get_running_loop()
        self.linger_s = linger_s
        self.concurrency = concurrency
        self.stall = Stall()
        self.attempts: dict[int, Attempt] = {}
        self.options_by_run = options_by_run
        self.key: int | None = None
        self.accepts = False
        self.free = concurrency
        self.backlog = False
        self._lingering: dict[Attempt, None] = {}
        self._suspects = Suspects(self.loop, self._claim_backlog)
        self._executor: ThreadPoolExecutor | None = None
        self._claim_queued = False
        self._unusable: set[int] = set()
        self._giving_back: set[tuple[int, int]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.abandoned: list[Any] = []
        self.on_evicted: Callable[[], None] = lambda: None
        self.on_joined: Callable[[], None] = lambda: None
        self.call_in_turn: Callable[[str, int, str, Callable[[], Any]], None] = lambda *_: None
        self._ended: asyncio.Event = asyncio.Event()

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The threads that synchronous steps run in."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=self.concurrency, thread_name_prefix="osprotocol-step")
        return self._executor

    @property
    def executing(self) -> int:
        """Attempts in memory that do not just wait."""
        return len(self.attempts) - len(self._lingering)

    # ----------------------------------------------------------------- claiming

    def claim_touched(self, transaction: Transaction) -> None:
        """In the transaction that made runs ready: take those that we can execute. No second commit, no polling."""
        if not self.accepts or self.key is None:
            return
        if not self._is_registered(transaction):
            return
        for key in dict.fromkeys(transaction.touched):
            state = transaction.state(key)
            if state.ready_at is None or state.workflow not in known_workflows():
                continue
            if self._room_in(transaction) > 0 and not state.deaths:
                self.claim(transaction, key)
            else:
                self.backlog = True

    def _is_registered(self, transaction: Transaction) -> bool:
        """Whether nobody has evicted this worker; looked up again whenever another process wrote."""
        if self.store.others_wrote:
            status = transaction.connection.execute(QUERIES["worker_status"], (self.key,)).get
            if status != "alive":
                self.accepts = False
                self.loop.call_soon_threadsafe(self.on_evicted)
                return False
            self.store.others_wrote = False
        return True

    def claim(self, transaction: Transaction, key: int) -> None:
        """Take a run: owner and epoch change, and its journal is read, in this transaction."""
        assert self.key is not None
        try:
            events = transaction.journal(key)
            if any(event.type == "run.retrying" for event in events):
                read_journal(events)  # what a retry forgets is the only thing in it that may make no sense
            decision = transaction.apply(key, c.Claim(self.key))
        except FencedError:
            return
        except (CorruptDatabaseError, ValueError, KeyError, TypeError) as error:
            transaction.drop()
            self._set_aside(transaction, key, str(error))
            return
        transaction.keep()
        transaction.claimed.append((decision.state, [*events, *decision.events]))

    def _set_aside(self, transaction: Transaction, key: int, problem: str) -> None:
        """A run is damaged: it is held if that can still be written, and nobody else is kept from going on."""
        try:
            self._quarantine(transaction, key, problem)
        except (OSProtocolError, ValueError, KeyError, TypeError) as error:
            transaction.drop()
            if key not in self._unusable:
                self._unusable.add(key)
                logging.getLogger("osprotocol").error("run in row %d cannot be executed: %s (%s)", key, problem, error)

    def _room_in(self, transaction: Transaction) -> int:
        """How many more this transaction may claim; places are taken when it is committed, in `begin`."""
        return self.free - len(transaction.claimed)

    def _quarantine(self, transaction: Transaction, key: int, problem: str) -> None:
        prompt = (
            f"The journal of this run is damaged ({problem}); nothing was executed. Cancel it, or restore a backup."
        )
        payload = encode({"reason": "damaged"})
        if transaction.state(key).cancel != "none":
            transaction.apply(key, c.Cancel("damaged journal", graceful=False))
            transaction.keep()
            return
        transaction.apply(
            key,
            c.OpenRequest(
                None, transaction.next_request_key(), "attention", None, prompt, payload, digest(prompt.encode())
            ),
        )
        transaction.keep()

    def claim_more(self) -> None:
        """Look for ready runs in the database, if there may be some and there is room."""
        if self._claim_queued or not self.accepts or not self.backlog or self.free <= 0:
            return
        self._claim_queued, self.backlog = True, False
        self.writer.put(Operation(self._claim_ready, self._claimed_ready))

    def _claim_backlog(self) -> None:
        self.backlog = True
        self.claim_more()

    def _claim_ready(self, transaction: Transaction) -> bool:
        """Claim what there is room for; whether there may be more."""
        found = 0
        if not self.accepts or not self._is_registered(transaction):
            return False
        most_by_query = {**self._suspects.room_by_query(), "ready_runs": self.free}
        for query, most in most_by_query.items():
            room = min(most, self._room_in(transaction))
            if room <= 0 or (query == "ready_prime_suspects" and found):
                continue
            # Those that are ready longest, whatever their workflow: a busy workflow starves no other.
            most_rows = room + len(self._unusable)
            rows = [row for name in list(known_workflows()) for row in transaction.rows(query, name, most_rows)]
            usable = [row for row in sorted(rows) if row[1] not in self._unusable]
            for _, key in usable[:room]:
                self.claim(transaction, key)
                found += 1
        return found > 0 or self._room_in(transaction) <= 0  # without room nobody has looked

    def _claimed_ready(self, operation: Operation) -> None:
        self._claim_queued = False
        if operation.error is None:
            self.backlog = self.backlog or operation.result
            self.claim_more()
        else:
            self.backlog = True
            self.loop.call_later(_TROUBLE_S, self.claim_more)

    def begin(self, claimed: list[tuple[RunState, list[Event]]]) -> None:
        """Start the attempts of runs whose claim is committed."""
        for state, events in claimed:
            if state.owner != self.key:
                continue  # it ended, or was taken away, in the same transaction
            # A claim that was in doubt did not happen if this one, which is committed, has its epoch.
            self._giving_back.discard((state.key, state.epoch))
            self.free -= 1
            self._suspects.begins(state)
            known = self.attempts.get(state.key)
            if known is not None:
                known.fence()
            try:
                workflow = find_workflow(state.workflow)
            except UnknownWorkflowError:
                self.free += 1
                continue
            self._begin(workflow, state, events)

    def _begin(self, workflow: Workflow[Any, Any], state: RunState, events: list[Event]) -> None:
        attempt = Attempt(self, workflow, state, read_journal(events))
        attempt.stopping = not self.accepts
        self.attempts[state.key] = attempt

        async def code() -> Any:
            arguments = workflow.load_input(attempt.replay.input)
            return await workflow.function(EmbeddedContext(attempt), *arguments)

        variables = for_nobody()
        variables.run(executing_attempt.set, attempt)
        variables.run(attempt.start, code)
        if state.cancel == "asked":
            self.judge_cancel(attempt)
        self._watch_timeout(attempt)

    # -------------------------------------------------- what an attempt tells us

    def attempt_ended(self, attempt: Attempt, error: BaseException | None, result: Any) -> None:
        """The code of an attempt returned or raised."""
        if self.attempts.get(attempt.key) is attempt:
            del self.attempts[attempt.key]
        if not attempt.unwinding:
            attempt.unwinding = True
            if error is not None:
                self.spawn(endings.end_with_error(self, attempt, error))
            else:
                endings.end_with_result(self, attempt, result)
        self._room(attempt)

    def _room(self, attempt: Attempt) -> None:
        if attempt not in self._lingering:
            self.free += 1
        self._lingering.pop(attempt, None)
        self._suspects.stops(attempt.key)
        self.claim_more()
        if not self.attempts:
            self._ended.set()

    def lingers(self, attempt: Attempt) -> None:
        """The attempt only waits now: its place is free for another."""
        if attempt not in self._lingering:
            self._lingering[attempt] = None
            self.free += 1
            self._suspects.stops(attempt.key)
            self.claim_more()
        if len(self._lingering) > _limits.LINGERING_RUNS:
            next(iter(self._lingering)).park()

    def works(self, attempt: Attempt) -> None:
        """The attempt goes on after it only waited."""
        if attempt in self._lingering:
            del self._lingering[attempt]
            self.free -= 1

    def abandon(self, attempt: Attempt, coroutine: Any) -> None:
        """Code that cannot be taken out of memory stays where it is, never resumed; its run goes on without it."""
        self.abandoned.append(coroutine)
        # Never freed, not even when the interpreter ends: that would close it, and so run the code that swallows all.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))
        logging.getLogger("osprotocol").warning(
            "run %s: workflow %s swallows the signal that takes it out of memory, at %s; catch Exception instead of "
            "using a bare 'except:' or 'except BaseException:'",
            attempt.id,
            attempt.workflow.name,
            where(coroutine),
        )

    def lost(self, attempt: Attempt) -> None:
        """The store failed under the attempt: give the run back as soon as the store works again."""
        self.give_back(attempt.state._replace(epoch=attempt.epoch))

    def give_back(self, claimed: RunState) -> None:
        """Let anybody go on with a run, if it is still ours as claimed; tried until the store works."""
        claim = claimed.key, claimed.epoch
        self._giving_back.add(claim)

        def release(transaction: Transaction) -> None:
            if claim not in self._giving_back:
                return
            state = transaction.state(claimed.key)
            is_ours = state.id == claimed.id and state.owner == self.key and state.epoch == claimed.epoch
            if is_ours and not state.is_final:
                transaction.apply(state.key, c.Yield(state.epoch, state.event, release=True, runnable=True))

        def released(operation: Operation) -> None:
            if isinstance(operation.error, StoreError) and self.accepts:
                self.loop.call_later(_TROUBLE_S, again)
            else:
                self._giving_back.discard(claim)

        def again() -> None:
            if self.accepts:
                self.writer.put(Operation(release, released))

        self.writer.put(Operation(release, released))

    def put_quietly(self, run: Callable[[Transaction], Any]) -> None:
        """Do something in a transaction that nobody waits for."""
        if self.accepts:
            self.writer.put(Operation(run))

    def spawn(self, coroutine: Any) -> None:
        """Run something of ours beside the attempts; kept until it ends."""
        task = self.loop.create_task(coroutine, context=for_nobody())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def on_loop(self, function: Callable[..., Any], *args: Any) -> None:
        """Call on the event loop, from whichever thread this is."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self.loop:
            function(*args)
        else:
            self.loop.call_soon_threadsafe(function, *args)

    # ------------------------------------------------------ what an attempt asks

    def request_at(self, key: int, position: str) -> RequestState | None:
        """The newest request that a run's code asked at a position, as committed now."""
        rows = self.store.rows("request_at", (key, position))
        return RequestState._make(rows[0]) if rows else None

    def final_outcome(self, run_id: str) -> str | None:
        """JSON of how a child ended; None while it has not."""
        state = self.store.find(run_id)
        if state is None or not state.is_final:
            return None
        result = "null"
        if state.status is RunStatus.COMPLETED:
            result = self.store.result_of(state) or "null"
        told = encode({"runId": run_id, "status": state.status.value})
        return f'{told[:-1]},"error":{state.error or "null"},"result":{result}}}'

    def start_command(self, workflow: Workflow[Any, Any], data: bytes, options: RunOptions | None) -> c.Start:
        """The command that starts a run, with a new id."""
        options, default = options or no_options(), workflow.options
        cancel = options.cancel or default.cancel
        return c.Start(
            key=0,
            id=self.ids.run_id(self.clock.now()),
            workflow=workflow.name,
            version=workflow.version,
            input=data.decode(),
            input_digest=digest(data),
            policy=policy_text(options.timeout or default.timeout, options.retry or default.retry, cancel),
            labels=encode({**default.labels, **options.labels}) if options.labels or default.labels else "{}",
            idempotency_key=options.idempotency_key,
            judged=cancel is not None and cancel.before_cancel is not None,
        )

    def with_parent(self, start: c.Start, key: int, parent: RunState, position: str) -> c.Start:
        """The same start for a child of a run."""
        return start._replace(
            key=key, parent=parent.key, parent_id=parent.id, position=position, depth=parent.depth + 1
        )

    def remember_options(self, run_id: str, options: RunOptions | None) -> None:
        """Keep options with functions for as long as this process lives."""
        if options is not None and options.has_functions:
            self.options_by_run[run_id] = options

    def options_of(self, attempt: Attempt) -> RunOptions:
        """The options whose functions apply to a run: its starter's, else its workflow's."""
        given = self.options_by_run.get(attempt.id) or RunOptions()
        default = attempt.workflow.options
        return RunOptions(
            timeout=given.timeout or default.timeout,
            retry=given.retry or default.retry,
            cancel=given.cancel or default.cancel,
        )

    def report_progress(self, attempt: Attempt, current: int, total: int, message: str | None) -> None:
        """Store how far the run is."""
        if not attempt.unwinding:
            text = None if message is None else str(message)[: _limits.TEXT_CHARACTERS]
            attempt.out.send(c.SetProgress(attempt.epoch, int(current), int(total), text))

    def log(self, attempt: Attempt, level: str, message: str, step: str | None, fields: dict[str, Any]) -> None:
        """Add a line to the run's log."""
        self.logs.add(attempt.key, attempt.id, attempt.state.attempt, level, message, step, fields)

    async def should_retry(self, attempt: Attempt, retry: Retry, error: Exception) -> bool:
        """What the retry's function says; True without one, False when it fails itself."""
        if retry.should_retry is None:
            return True
        return bool(await self.call_back(attempt.key, "should_retry", retry.should_retry, error, default=False))

    async def call_back(
        self, key: int, name: str, function: Callable[..., Any], *args: Any, default: Any = None
    ) -> Any:
        """Call a user's function, plain or async; an exception is told as an event and changes nothing."""
        try:
            value = function(*args)
            return await value if inspect.isawaitable(value) else value
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            logging.getLogger("osprotocol").warning("callback %s failed: %s: %s", name, type(error).__name__, error)
            told = encode({"callback": name, "error": type(error).__name__, "message": str(error)[:1_000]})
            self.put_quietly(lambda transaction: transaction.apply(key, c.Note("callback.error", told)))
            return default

    def judge_cancel(self, attempt: Attempt) -> None:
        """Ask before_cancel, and tell the run what it said."""
        attempt.judging = True
        self.spawn(endings.judge_cancel(self, attempt))

    def _watch_timeout(self, attempt: Attempt) -> None:
        state = attempt.state
        if state.due_at is not None and state.due_at <= self.clock.now():
            self.loop.call_soon(self.timer_due, state.key)

    def timer_due(self, key: int) -> None:
        """A timer of a run that we hold is due: its timeout is judged here, by the one that holds it."""
        attempt = self.attempts.get(key)
        if attempt is not None and not attempt.unwinding:
            self.spawn(endings.judge_timeout(self, attempt))

    # -------------------------------------------------------------- distribution

    def on_changes(self, changes: dict[int, Change]) -> None:
        """Tell the attempts what was committed for their runs."""
        for key, change in changes.items():
            attempt = self.attempts.get(key)
            if attempt is not None:
                attempt.on_change(change.state, change.events)
            if change.state.ready_at is not None:
                # Also when an attempt was here: it has just been fenced, and the run is anybody's.
                self.backlog = True
        if self.backlog:
            self.claim_more()

    def _stop_attempts(self) -> None:
        for attempt in list(self.attempts.values()):
            attempt.stopping = True
            if attempt.is_still:
                attempt.park_now()

    async def stop(self, grace_s: float) -> None:
        """Take no more work, let running steps finish for a while, park the rest. Nothing is cancelled."""
        self.accepts = False
        self._stop_attempts()
        with contextlib.suppress(OSProtocolError):
            await self.writer.drain()  # what was being claimed begins, and is given back
        self._stop_attempts()
        if self.attempts:
            self._ended.clear()
            try:
                await asyncio.wait_for(self._ended.wait(), grace_s)
            except TimeoutError:
                for attempt in list(self.attempts.values()):
                    attempt.park_now()
        for _ in range(3):
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=grace_s)
        stuck = [branch.task for attempt in list(self.attempts.values()) for branch in attempt.branches.values()]
        for task in stuck:
            if task is not None:
                task.cancel()
        if stuck:
            await asyncio.wait([task for task in stuck if task is not None], timeout=1.0)
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
