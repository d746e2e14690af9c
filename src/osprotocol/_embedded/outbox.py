"""What an attempt sends to the store, in order; and which of it an effect has to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from osprotocol._embedded.attention import check_length
from osprotocol._embedded.driver import Wait
from osprotocol._embedded.signals import Unwind
from osprotocol._embedded.store import Operation
from osprotocol._embedded.transaction import Transaction
from osprotocol._json import encode
from osprotocol._lifecycle import commands as c
from osprotocol.errors import FencedError, StoreError

if TYPE_CHECKING:
    from osprotocol._embedded.attempt import Attempt


class Outbox:
    """The commands and journal records of one attempt on their way into commits.

    Attributes:
        positions: where the run's code asked for something, in this attempt or before.
    """

    def __init__(self, attempt: Attempt, positions: set[str]) -> None:
        self._attempt = attempt
        self._writer = attempt.worker.writer
        self._unsynced = 0
        self._waits: list[Wait] = []
        self._entries: list[c.Entry] = []
        self._round = -1
        self._critical = True
        self._is_broken = False
        self.positions = positions

    @property
    def is_synced(self) -> bool:
        """Everything that an effect depends on is durable."""
        return self._unsynced == 0

    def when_synced(self, wait: Wait) -> None:
        """Resolve the wait once everything that was sent is durable."""
        self._waits.append(wait)

    def record_delivery(self, entry: c.Entry) -> None:
        """Add that an outcome from outside is handed out. Effects wait for it only where its order is a question."""
        self.record(entry, critical=len(self._attempt.branches) > 1)

    def record(self, entry: c.Entry, *, critical: bool = True) -> None:
        """Add to the journal; what is added in one round of the loop goes in one command.

        No effect begins before a `critical` record is durable.
        """
        attempt = self._attempt
        if attempt.unwinding:
            raise Unwind
        if entry.position is not None:
            self.positions.add(entry.position)
        check_length(attempt)
        if self._round == self._writer.round and self._critical >= critical:
            self._entries.append(entry)
            return
        self._entries = entries = [entry]
        key, epoch = attempt.key, attempt.epoch
        self._put(lambda transaction: transaction.apply(key, c.Record(epoch, tuple(entries))), critical=critical)
        self._round, self._critical = self._writer.round, critical

    def send(self, command: c.Command, done: Callable[[Operation], None] | None = None) -> None:
        """Send a command, after everything that was sent before."""
        key = self._attempt.key
        self._put(lambda transaction: transaction.apply(key, command), done)

    def begin(
        self, position: str, run: Callable[[Transaction], Any], done: Callable[[Operation], None] | None = None
    ) -> None:
        """Begin the operation at a position, in order with everything else that is sent."""
        self.positions.add(position)
        self._put(run, done)

    def transact(self, run: Callable[[Transaction], Any], done: Callable[[Operation], None] | None = None) -> None:
        """Do something in a transaction, in order with everything else that is sent."""
        self._put(run, done)

    def _put(
        self,
        run: Callable[[Transaction], Any],
        done: Callable[[Operation], None] | None = None,
        *,
        critical: bool = True,
    ) -> None:
        attempt = self._attempt
        self._unsynced += critical

        def unless_broken(transaction: Transaction) -> Any:
            if self._is_broken:
                raise FencedError(attempt.id)  # what this stands on was not committed
            return run(transaction)

        self._round = -1  # what is recorded from here on comes after this

        def finished(operation: Operation) -> None:
            self._unsynced -= critical
            if isinstance(operation.error, StoreError):
                self._is_broken = True
            if operation.error is None and isinstance(getattr(operation.result, "error", None), FencedError):
                attempt.fence()
            if done is not None:
                done(operation)
            elif operation.error is not None:
                attempt.refused(operation.error)
            if not self._unsynced and self._waits and not attempt.unwinding:
                waiting, self._waits = self._waits, []
                for wait in waiting:
                    attempt.resolve(wait)

        self._writer.put(Operation(unless_broken, finished), lazy=not critical)

    def late(self, entry: c.Entry) -> None:
        """A step ended after nobody waited for it any more: the journal tells it, the run does not use it."""
        # A note, never a record: this attempt may still own the run, and a record would become the step's outcome.
        attempt = self._attempt
        told = encode({"key": entry.position, "type": entry.type, "epoch": attempt.epoch})
        note = c.Note("attempt.late-result", told, None, entry.name)
        key = attempt.key
        attempt.worker.put_quietly(lambda transaction: transaction.apply(key, note))
