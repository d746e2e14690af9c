"""Threads of a member: following the ledger, and knowing which workers live."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Final

from osprotocol._clock import monotonic_s
from osprotocol._restate.ingress import Ingress
from osprotocol._restate.ledger import listen
from osprotocol._restate.replica import Replica
from osprotocol.errors import OSProtocolError

_LOOK_S: Final = 2.0
"""How long a look waits for something new."""
_TROUBLE_S: Final = 0.5
_BEAT_S: Final = 1.5
_BEAT_ANSWER_S: Final = 3.0
DEAD_S: Final = 10.0
"""How long a worker on another machine may be silent before its runs go on elsewhere."""

_log = logging.getLogger("osprotocol")


class Follower:
    """Writes what others append into this member's copy as it happens.

    Args:
        replica: the copy.
        ingress: the ledger.
        lock: held while the copy is written; the store's, so that the two do not wait for each other in SQLite.
        told: called, from a thread, after something was written.
    """

    def __init__(self, replica: Replica, ingress: Ingress, lock: threading.Lock, told: Callable[[], None]) -> None:
        self._replica = replica
        self._ingress = ingress
        self._lock = lock
        self._told = told
        self._stopped = threading.Event()
        self._heard: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self.problem: str | None = None
        self._deaf = listen(ingress.namespace, lambda version, entry: self._heard.put((version, entry)))
        self._threads = [
            threading.Thread(target=target, name="osprotocol-follower", daemon=True)
            for target in (self._look, self._hear)
        ]
        for thread in self._threads:
            thread.start()

    def _look(self) -> None:
        while not self._stopped.is_set():
            try:
                if self.look(_LOOK_S):
                    self._told()
                if self.problem is not None:
                    _log.warning("the ledger answers again")
                self.problem = None
            except Exception as error:  # noqa: BLE001 - nobody else would look
                if not self._stopped.is_set():
                    self._tell(error)
                self._stopped.wait(_TROUBLE_S)

    def look(self, wait_s: float = 0.0) -> bool:
        """Write what others have appended by now into the copy; whether there was something new."""
        base, chain = self._replica.place()
        reply, entries = self._ingress.read(base, chain, wait_s)
        with self._lock:
            if self._stopped.is_set():
                return False
            self._replica.take(reply, base, entries)
        return bool(entries) or reply["status"] != "current"

    def _tell(self, error: Exception) -> None:
        if self.problem is None:
            _log.warning("%s; what is shown here is as of entry %d", error, self._replica.reached)
        self.problem = str(error)

    def _hear(self) -> None:
        """What is appended by way of this process need not be asked for."""
        while (heard := self._heard.get()) is not None:
            try:
                if self._write(*heard):
                    self._told()
            except Exception:  # noqa: BLE001 - looking brings it
                continue

    def _write(self, version: int, entry: bytes) -> bool:
        # With the lock: a commit of ours that was accepted before this entry has got into the copy.
        with self._lock:
            if self._stopped.is_set() or version <= self._replica.reached:
                return False
            # The first entry does not tell whose it is: another ledger of that name may be served here.
            if version == self._replica.reached + 1 and version > 1:
                return self._replica.apply(version - 1, [entry])
        return self.look()

    def stop(self) -> None:
        """Follow no more; a look under way ends by itself."""
        self._stopped.set()
        self._deaf()
        self._heard.put(None)
        self._threads[1].join()


class Pulse:
    """Counts this worker's signs of life, and watches whether those of the others go on.

    Silence is measured by our own clock, and only while our own signs arrive: no clocks are compared.

    Args:
        ingress: the ledger.
        worker: tells our id; None while this process is no worker.
        unanswered: called, from the thread, when a sign of ours got no answer.
        counted: called, from the thread, with all counts after each sign.
    """

    def __init__(
        self,
        ingress: Ingress,
        worker: Callable[[], str | None],
        unanswered: Callable[[], None],
        counted: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._worker = worker
        self._ingress = ingress
        self._unanswered = unanswered
        self._counted = counted
        self._heard: dict[str, tuple[int, float]] = {}
        self._gone: set[str] = set()
        self._answered_s = monotonic_s()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="osprotocol-pulse", daemon=True)
        self._thread.start()

    def is_alive(self, worker: str) -> bool:
        """False once a worker has been silent for so long; one that we have not heard of gets the same time."""
        if worker == self._worker():
            return True
        _, since = self._heard.setdefault(worker, (-1, monotonic_s()))
        if self._is_blind() or monotonic_s() - since < DEAD_S:
            return True
        self._gone.add(worker)
        return False

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._beat()
            except Exception:  # noqa: BLE001 - without the next sign we would count as dead
                _log.exception("a sign of life failed")
            self._stopped.wait(_BEAT_S)

    def _beat(self) -> None:
        gone = sorted(self._gone)
        try:
            beats = self._ingress.beat(self._worker(), gone, _BEAT_ANSWER_S)
        except OSProtocolError:
            self._begin_again()
            if not self._stopped.is_set():
                self._unanswered()
        else:
            if self._is_blind():
                self._begin_again()
            self._answered_s = monotonic_s()
            self._gone.difference_update(gone)
            for worker, count in beats.items():
                if self._heard.get(worker, (None,))[0] != count:
                    self._heard[worker] = (count, monotonic_s())
            # Nobody asks about one whose lock told its death, or who was evicted: its count would stay for ever.
            silent = {worker for worker in beats if monotonic_s() - self._heard[worker][1] >= DEAD_S}
            self._gone |= silent
            self._counted({worker: count for worker, count in beats.items() if worker not in silent})

    def _is_blind(self) -> bool:
        """No sign of ours was answered lately, or this process stood still."""
        return monotonic_s() - self._answered_s > DEAD_S / 2

    def _begin_again(self) -> None:
        """Nobody's silence up to now counts."""
        self._heard = {worker: (count, monotonic_s()) for worker, (count, _) in list(self._heard.items())}

    def stop(self, *, goodbye: bool = True) -> None:
        """End, and say goodbye, so that nobody waits for our next sign."""
        self._stopped.set()
        self._thread.join(_BEAT_ANSWER_S)
        worker = self._worker()
        if goodbye and worker is not None:
            with contextlib.suppress(OSProtocolError):  # they notice
                self._ingress.beat(None, [worker], _BEAT_ANSWER_S)
