"""What a connected process does from time to time: due timers, dead workers, others' commits, a sign of life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from osprotocol import _limits
from osprotocol._clock import US_PER_S, Clock, Timer, loop_s, monotonic_s
from osprotocol._embedded import locks
from osprotocol._embedded.filewatch import FileWatch
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.store import Operation, Store
from osprotocol._embedded.transaction import Change, Transaction
from osprotocol._embedded.worker import Worker
from osprotocol._embedded.writer import Writer
from osprotocol._ids import Ids
from osprotocol._json import encode
from osprotocol._lifecycle import commands as c
from osprotocol.errors import CorruptDatabaseError, OSProtocolError
from osprotocol.workflow import known_workflows

_DUE_AT_ONCE = 500
_OTHERS_DUE_US = US_PER_S
_TAKEOVER_S = 0.5
_ALONE_S = 1.0
_LIFE_SIGN_US = 2 * US_PER_S
_POLL_S = 0.025
_AWAKE_S = 0.5
_WRITTEN_S = 10.0

_log = logging.getLogger("osprotocol")


class DueTimers:
    """One timer for the whole database: the earliest of the index of what is due."""

    def __init__(self, worker: Worker, writer: Writer, clock: Clock) -> None:
        self._worker = worker
        self._writer = writer
        self._clock = clock
        self._timer: Timer | None = None
        self._when: int | None = None
        self._sweeping = False
        self._noted: int | None = None
        self._stopped = False
        self._at_once = _DUE_AT_ONCE
        self._sweeping_keys: list[int] = []
        self._damaged: set[int] = set()

    def note(self, due: int | None) -> None:
        """Something is due then."""
        if due is None or self._stopped:
            return
        if self._sweeping:
            self._noted = due if self._noted is None else min(self._noted, due)
        elif self._when is None or due < self._when:
            self._arm(due)

    def _arm(self, when: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._when = when
        self._timer = self._clock.call_at(when, self.sweep)

    def sweep(self) -> None:
        """Do what is due, a bounded number at a time, and set the timer for the next."""
        if self._sweeping or self._stopped:
            return
        self._sweeping, self._when, self._noted = True, None, None
        self._writer.put(Operation(self._do_due, self._done))

    def _do_due(self, transaction: Transaction) -> tuple[list[int], int | None]:
        me, now = self._worker.key, transaction.now
        ours: list[int] = []
        self._sweeping_keys = []
        most = self._at_once + len(self._damaged)
        found = transaction.keys("due_runs", now, me, now - _OTHERS_DUE_US, most)
        keys = self._sweeping_keys = [key for key in found if key not in self._damaged][: self._at_once]
        for key in keys:
            try:
                is_ours = transaction.state(key).owner == me
            except (OSProtocolError, ValueError, TypeError):
                continue  # its row is damaged: the others' timers go on
            if is_ours:
                ours.append(key)
            transaction.try_apply(key, c.TimerDue())
        upcoming = [state.due_at for state in transaction.states() if state.due_at is not None and state.due_at > now]
        row = transaction.connection.execute(QUERIES["next_due"], (now,)).get
        if row is not None:
            upcoming.append(row)
        row = transaction.connection.execute(QUERIES["due_elsewhere"], (now - _OTHERS_DUE_US, now, me)).get
        if row is not None:
            upcoming.append(row + _OTHERS_DUE_US)
        if keys:
            # More may be due, or a timeout is another worker's to judge: look again, soon or in a while.
            upcoming.append(now if len(keys) == self._at_once else now + _OTHERS_DUE_US)
        return ours, min(upcoming, default=None)

    def _done(self, operation: Operation) -> None:
        self._sweeping = False
        if self._stopped:
            return
        self.note(self._noted)
        if isinstance(operation.error, CorruptDatabaseError) and self._sweeping_keys:
            self._pass_by_damage(operation.error)
            return
        if operation.error is not None:
            self._arm(self._clock.now() + US_PER_S)
            return
        self._at_once = min(2 * self._at_once, _DUE_AT_ONCE)
        ours, upcoming = operation.result
        for key in ours:
            self._worker.timer_due(key)
        if upcoming is not None:
            self.note(upcoming)

    def _pass_by_damage(self, error: CorruptDatabaseError) -> None:
        """One of those that were due is damaged: they are done one by one until it is found, and it is left alone."""
        if len(self._sweeping_keys) == 1:
            self._damaged.update(self._sweeping_keys)
            _log.error("the timer of the run in row %d cannot fire: %s", self._sweeping_keys[0], error)
        self._at_once = 1
        self._arm(self._clock.now())

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()


class Membership:
    """This process as a worker among others: registered, alive while its lock is held, heir of the dead."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        worker: Worker,
        clock: Clock,
        ids: Ids,
        lives_elsewhere: Callable[[str], bool] = lambda worker_id: False,
    ) -> None:
        self._store = store
        self._writer = writer
        self._worker = worker
        self._clock = clock
        self._ids = ids
        self._lives_elsewhere = lives_elsewhere
        # One folder whatever the path is spelled like: by it we know which lock files are our own.
        self.folder = Path(f"{os.path.realpath(store.path)}-workers")
        self.worker_id: str | None = None
        self._lock: locks.WorkerLock | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._seen_at = 0
        self._names = ""
        self._has_neighbours = True
        self._stopped = False
        worker.on_evicted = self._evicted

    async def join(self) -> None:
        """Register this process and take over what dead ones held."""
        worker_id = self.worker_id = self._ids.run_id(self._clock.now())
        self._lock = locks.WorkerLock(self.folder, worker_id)
        name = f"{socket.gethostname()}:{os.getpid()}"
        names = self._names = encode(sorted(known_workflows()))
        now = self._clock.now()
        self._seen_at = now

        def register(transaction: Transaction) -> int:
            transaction.connection.execute(QUERIES["forget_workers"])
            row = transaction.connection.execute(QUERIES["add_worker"], (worker_id, name, now, now, names)).get
            return int(row)

        try:
            self._worker.key = self._store.owner = await self._writer.execute(register)
            await self._bury_dead()
        except BaseException:
            self._lock.release()  # whoever tries again takes another
            raise
        self._worker.accepts = self._worker.backlog = True
        self._worker.claim_more()
        self._worker.on_joined()
        self._next()

    def _next(self) -> None:
        if not self._stopped:
            if self._handle is not None:
                self._handle.cancel()
            wait_s = _TAKEOVER_S if self._has_neighbours else _ALONE_S
            self._handle = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        self._worker.spawn(self._look_once())

    async def _look_once(self) -> None:
        try:
            self._store.check_file()
            now = self._clock.now()
            if self._worker.executing and now - self._seen_at > _LIFE_SIGN_US:
                self._seen_at = now
                self._touch(now)
            elif self._names != encode(sorted(known_workflows())):
                # A workflow was defined since: there may be runs that wait for just that.
                self._touch(now)
                self._worker.backlog = True
                self._worker.claim_more()
            await self._bury_dead()
        except OSProtocolError:
            pass  # the store is in trouble; we look again
        finally:
            self._next()

    def _touch(self, now: int) -> None:
        self._names = encode(sorted(known_workflows()))
        arguments = (self._worker.key, now, self._names)
        self._writer.put(
            Operation(lambda transaction: transaction.connection.execute(QUERIES["touch_worker"], arguments))
        )

    async def _bury_dead(self) -> None:
        for (key,) in self._store.rows("orphans"):
            await self._writer.execute(partial(bury, key=key, last_seen=0, status="dead"))
        living = self._store.rows("living_workers")
        self._has_neighbours = len(living) > 1
        for key, worker_id, seen_at, _ in living:
            if key != self._worker.key and not self._is_alive(worker_id):
                await self._writer.execute(partial(bury, key=key, last_seen=seen_at, status="dead"))
                locks.remove(self.folder, worker_id)

    def _is_alive(self, worker_id: str) -> bool:
        """Workers of this machine are known by their locks; of others, if there are any, whoever watches them says."""
        if locks.exists(self.folder, worker_id):
            return locks.is_alive(self.folder, worker_id)
        return self._lives_elsewhere(worker_id)

    def _evicted(self) -> None:
        """Another process took our runs: what we execute is fenced; we go on as a new worker."""
        for attempt in list(self._worker.attempts.values()):
            attempt.fence()
        if self._lock is not None:
            self._lock.release()
        if not self._stopped:
            if self._handle is not None:
                self._handle.cancel()
            self._worker.spawn(self._join_again())

    async def _join_again(self) -> None:
        while not self._stopped:
            try:
                return await self.join()
            except OSProtocolError:
                await asyncio.sleep(_TAKEOVER_S)  # the store is in trouble; we try again

    def rest(self) -> None:
        """Look after nobody any more: what nobody waits for would keep a store that hangs busy for ever."""
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()

    async def leave(self) -> None:
        """Say that this worker has stopped."""
        self.rest()
        key = self._worker.key
        if key is not None:
            with contextlib.suppress(OSProtocolError):  # the lock tells it too
                await self._writer.execute(lambda transaction: bury(transaction, key, self._clock.now(), "stopped"))
        if self._lock is not None:
            self._lock.release()


def bury(transaction: Transaction, key: int, last_seen: int, status: str) -> int:
    """A worker is gone: mark it, and make its runs claimable. Gives how many they were."""
    worker_status = transaction.connection.execute(QUERIES["worker_status"], (key,)).get
    if worker_status == "alive":
        transaction.connection.execute(QUERIES["end_worker"], (key, status))
    claimed = [state.key for state in transaction.states() if state.owner == key]
    held = list(dict.fromkeys((*transaction.keys("owned_runs", key), *claimed)))
    for run in held:
        worked = max(last_seen, transaction.connection.execute(QUERIES["last_at"], (run,)).get or 0)
        transaction.try_apply(run, c.WorkerDied(key, worked, transaction.next_request_key()))
    return len(held)


class Poll:
    """Notices what other processes commit, as long as anybody here would want to know.

    The system tells when the log is written; from then on we look every few milliseconds for a while, because a commit
    is visible only some time after its first write. Nothing is looked at while nothing is written.
    """

    def __init__(
        self,
        store: Store,
        wanted: Callable[[], bool],
        is_free: Callable[[], bool],
        distribute: Callable[[dict[int, Change]], None],
        watch: FileWatch | None,
    ) -> None:
        self._store = store
        # With a group in flight its own look would be told after ours, the older state after the newer.
        self._is_free = is_free
        self._wanted = wanted
        self._distribute = distribute
        self._handle: asyncio.TimerHandle | None = None
        self._stopped = False
        self._watch = watch
        self._asleep = False
        self._commits = 0
        self._until_s = 0.0
        self._loop = asyncio.get_running_loop()

    def ensure(self) -> None:
        """Start looking, if not already."""
        if self._handle is None and not self._asleep and not self._stopped and self._wanted():
            self._until_s = max(self._until_s, loop_s(self._loop) + _AWAKE_S)
            self._handle = self._loop.call_later(_POLL_S, self._look)

    def look(self) -> None:
        """Somebody says that there is something: look at once."""
        if self._stopped:
            return
        if self._handle is not None:
            self._handle.cancel()
        if self._asleep and self._watch is not None:
            self._loop.remove_reader(self._watch.fileno())
            self._asleep = False
        self._until_s = loop_s(self._loop) + _AWAKE_S
        self._look()

    def _look(self) -> None:
        self._handle = None
        changes = None
        if self._is_free():
            with contextlib.suppress(OSProtocolError):
                changes = self._store.poll()
        if changes is not None:
            if changes:
                self._until_s = loop_s(self._loop) + _AWAKE_S
            self._distribute(changes)
        if self._stopped or not self._wanted():
            return
        if self._watch is not None and loop_s(self._loop) > self._until_s:
            self._sleep(self._watch)
        else:
            self._handle = self._loop.call_later(_POLL_S, self._look)

    def _sleep(self, watch: FileWatch) -> None:
        watch.drain()
        self._asleep, self._commits = True, self._store.commits
        self._loop.add_reader(watch.fileno(), self._written)
        if self._store.is_behind():
            self._written()  # written between the last look and the watch

    def _written(self) -> None:
        assert self._watch is not None
        self._loop.remove_reader(self._watch.fileno())
        self._asleep = False
        if self._store.commits == self._commits:
            # Somebody else writes: their commit is visible only after its sync, which a slow disk takes long for.
            self._until_s = loop_s(self._loop) + _WRITTEN_S
        self.ensure()

    def stop(self) -> None:
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()
        if self._watch is not None:
            if self._asleep:
                self._loop.remove_reader(self._watch.fileno())
            self._watch.close()


class Watchdog:
    """A thread that names whatever holds the event loop: a step or workflow code that blocks."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._stop = threading.Event()
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="osprotocol-watchdog", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        stall, told = self._worker.stall, 0.0
        limit_s = _limits.BLOCKED_LOOP_MS / 1_000
        while not self._stop.wait(limit_s):
            branch, since = stall.branch, stall.since
            step = None if branch is None else branch.step
            if branch is None or since == told or monotonic_s() - since < limit_s:
                continue
            told = since
            attempt = next((a for a in list(self._worker.attempts.values()) if branch in a.branches.values()), None)
            if attempt is None:
                continue
            what = f"step {step!r}" if step else f"code of workflow {attempt.workflow.name!r}"
            message = (
                f"{what} has held the event loop for over {limit_s:g} s at {self._where()}; everything else of this "
                f"process waits for it; make it a plain 'def' step, which runs in a thread, or await in it"
            )
            _log.warning("run %s: %s", attempt.id, message)
            self._worker.on_loop(self._worker.log, attempt, "warning", message, step, {})

    def _where(self) -> str:
        frame: Any = sys._current_frames().get(self._loop_thread)
        if frame is None:
            return "an unknown place"
        last = traceback.extract_stack(frame)[-1]
        return f"{last.filename}:{last.lineno}"

    def stop(self) -> None:
        self._stop.set()
