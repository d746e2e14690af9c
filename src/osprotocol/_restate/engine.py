"""The distributed engine: the embedded one on a copy of a ledger that Restate keeps."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw

from osprotocol import _limits
from osprotocol._clock import Clock, monotonic_s
from osprotocol._embedded.duties import Membership
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.upstream import make_independent
from osprotocol._ids import Ids
from osprotocol._restate import snapshots
from osprotocol._restate.address import Address
from osprotocol._restate.checks import check
from osprotocol._restate.following import Follower, Pulse
from osprotocol._restate.ingress import PATIENCE_S, Ingress
from osprotocol._restate.joining import Host
from osprotocol._restate.replica import Replica
from osprotocol.errors import OSProtocolError, RequestNotFoundError, RunNotFoundError, WorkerNotFoundError

P = ParamSpec("P")
T = TypeVar("T")

_SWEEP_S: Final = 60.0
_HELLO_S: Final = 8.0
"""How long joining waits for a ledger that does not answer."""
_GOODBYE_S: Final = 5.0
"""How long leaving waits for a ledger that does not answer; others notice anyway."""

_log = logging.getLogger("osprotocol")


def _looking_again(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[RestateEngine, P], Coroutine[Any, Any, T]]:
    """The same method; what is not found in the copy is looked for again once the copy has caught up."""

    async def asking(self: RestateEngine, /, *args: P.args, **kwargs: P.kwargs) -> T:
        seen = self._replica.reached
        try:
            return await method(self, *args, **kwargs)
        except (RunNotFoundError, RequestNotFoundError, WorkerNotFoundError):
            await self.catch_up()
            if self._replica.reached == seen:
                raise
        return await method(self, *args, **kwargs)

    functools.update_wrapper(asking, method)
    return asking


class RestateEngine(EmbeddedEngine):
    """Runs in a ledger on Restate. Make it with `open_engine`, on the event loop that will use it."""

    name = "restate"

    def __init__(self, ingress: Ingress, replica: Replica, host: Host | None, **settings: Any) -> None:
        super().__init__(replica.path, durability="normal", upstream=replica, **settings)
        self._ingress = ingress
        self._replica = replica
        self._host = host
        self._keeping = threading.Lock()
        self._swept_s = monotonic_s()
        self._follower: Follower | None = None
        self._pulse: Pulse | None = None

    async def begin(self, *, worker: bool, log_level: int) -> None:
        """Start working (or only listening)."""
        loop = asyncio.get_running_loop()
        self._pulse = Pulse(self._ingress, self._worker_id, self._unanswered, self._counted)

        def told() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed without leaving the client's block
                loop.call_soon_threadsafe(self._poll.look)

        self._follower = Follower(self._replica, self._ingress, self.store.lock, told)
        await super().begin(worker=worker, log_level=log_level)

    def _new_membership(self) -> Membership:
        assert self._pulse is not None
        return Membership(self.store, self.writer, self.worker, self.clock, self.ids, self._pulse.is_alive)

    def _worker_id(self) -> str | None:
        if self._membership is None or self.store.is_lost:
            return None  # a worker whose copy was removed gives no sign of life: its runs go on elsewhere
        return self._membership.worker_id

    def _unanswered(self) -> None:
        if self._host is not None:
            self._host.take_over()

    def _counted(self, workers: Mapping[str, int]) -> None:
        """From time to time one of the workers, the one that comes first, keeps house."""
        if self._worker_id() != min(workers, default=None) or not self._keeping.acquire(blocking=False):
            return
        if snapshots.is_due(self._replica.head) or monotonic_s() - self._swept_s > _SWEEP_S:
            threading.Thread(target=self._keep_house, name="osprotocol-house", daemon=True).start()
        else:
            self._keeping.release()

    def _keep_house(self) -> None:
        try:
            if snapshots.is_due(self._replica.head):
                snapshots.make(self._ingress, self._replica.path, self._replica.head, self._worker_id() or "")
            if self._host is not None:
                self._host.sweep()
        except (OSProtocolError, apsw.Error, OSError) as error:
            _log.warning("no snapshot of the ledger could be made: %s", error)
        finally:
            self._swept_s = monotonic_s()
            self._keeping.release()

    async def catch_up(self) -> None:
        """Bring the copy up to what the ledger holds now."""
        assert self._follower is not None
        while await asyncio.to_thread(self._follower.look):
            pass
        self._poll.look()

    get = _looking_again(EmbeddedEngine.get)
    execute = _looking_again(EmbeddedEngine.execute)
    take_over = _looking_again(EmbeddedEngine.take_over)
    find_request = _looking_again(EmbeddedEngine.find_request)
    steps = _looking_again(EmbeddedEngine.steps)
    logs = _looking_again(EmbeddedEngine.logs)
    read_events = _looking_again(EmbeddedEngine.read_events)
    delete = _looking_again(EmbeddedEngine.delete)
    evict = _looking_again(EmbeddedEngine.evict)

    async def problems(self) -> list[str]:
        found = await super().problems()
        if self._follower is not None and self._follower.problem is not None:
            found.append(self._follower.problem)
        return found

    async def backup(self, target: Path) -> None:
        """Copy everything into a database of the embedded engine."""
        await super().backup(target)
        await asyncio.to_thread(make_independent, target)

    async def close(self) -> None:
        if self._closed:
            return
        self._ingress.patience_s = _GOODBYE_S
        try:
            await super().close()
        finally:
            await asyncio.to_thread(self.let_go)

    def let_go(self, *, goodbye: bool = True) -> None:
        """Stop everything that is not the embedded engine."""
        if self._pulse is not None:
            self._pulse.stop(goodbye=goodbye)
        self._keeping.acquire(timeout=_GOODBYE_S)  # nobody keeps house any more
        if self._follower is not None:
            self._follower.stop()
        if self._host is not None:
            self._host.leave()
        self._replica.close()
        self._ingress.close()


async def open_engine(
    address: Address,
    folder: Path,
    *,
    worker: bool,
    log_level: int,
    concurrency: int = 100,
    clock: Clock | None = None,
    ids: Ids | None = None,
    linger_ms: int = _limits.LINGER_MS,
) -> RestateEngine:
    """Join a ledger: check Restate, serve the ledger if this process works, fetch what the copy lacks.

    Args:
        address: where Restate is, and which ledger.
        folder: where to look for, or make, the folder of the copy.
        worker: whether this process works on runs; it then also serves the ledger to Restate.
        log_level: as in `osprotocol.connect`.
        concurrency: as in `osprotocol.connect`.
        clock: as in `osprotocol.connect`.
        ids: as in `osprotocol.connect`.
        linger_ms: how long a waiting run stays in memory.

    Raises:
        EngineError: Restate cannot be used; the text says what to do.
    """
    for warning in await asyncio.to_thread(check, address, worker):
        _log.warning("%s", warning)
    host = await asyncio.to_thread(Host, address) if worker else None
    ingress = Ingress(address.ingress, address.namespace)
    replica: Replica | None = None
    try:
        replica = await asyncio.to_thread(Replica, address.copy_path(folder), ingress)
        ingress.patience_s = _HELLO_S
        await asyncio.to_thread(replica.catch_up)
        ingress.patience_s = PATIENCE_S
        settings = {"concurrency": concurrency, "clock": clock, "ids": ids, "linger_ms": linger_ms}
        engine = RestateEngine(ingress, replica, host, **settings)
    except BaseException:
        ingress.close()  # first: when this was cancelled a thread may still be asking, and has the copy
        if replica is not None:
            replica.close()
        if host is not None:
            host.leave()
        raise
    try:
        await engine.begin(worker=worker, log_level=log_level)
    except BaseException:
        await engine.close()
        raise
    return engine
