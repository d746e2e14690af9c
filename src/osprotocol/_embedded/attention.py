"""Stopping a run because only a person can tell how it goes on: its code and journal disagree, or it grows too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osprotocol import _limits
from osprotocol._embedded.replay import Recorded, describe
from osprotocol._embedded.signals import Unwind
from osprotocol._embedded.transaction import Transaction
from osprotocol._json import digest as digest_of
from osprotocol._json import encode
from osprotocol._lifecycle import commands as c
from osprotocol.errors import CorruptDatabaseError, JournalMismatchError

if TYPE_CHECKING:
    from osprotocol._embedded.attempt import Attempt


def check_recorded(attempt: Attempt, position: str, kind: str, name: str, digest: str | None) -> Recorded | None:
    """What the journal holds at a position, if it is what the code asks for.

    Raises:
        JournalMismatchError: it is something else; the run is stopped before any further effect.
    """
    recorded = attempt.replay.recorded.get(position)
    if recorded is None:
        return None
    same_digest = digest is None or recorded.digest is None or recorded.digest == digest
    if recorded.kind != kind or recorded.name != name or not same_digest:
        mismatch(attempt, position, recorded, describe(kind, name, digest))
        raise Unwind
    return recorded


def mismatch(attempt: Attempt, position: str, recorded: Recorded, asked: str) -> None:
    """The code and its journal disagree: stop and ask a person."""
    error = JournalMismatchError(attempt.id, position, recorded.describe(), asked)
    payload = {"reason": "mismatch", "key": position, "recorded": error.recorded, "asked": error.asked}
    attend(attempt, str(error), payload)


def damaged(attempt: Attempt, error: CorruptDatabaseError) -> None:
    """What the code needs from another record, a child's result or an answer, is damaged: stop and ask a person."""
    prompt = f"What this run waited for is damaged ({error}); it was stopped. Cancel it, or restore a backup."
    attend(attempt, prompt, {"reason": "damaged"})


def check_length(attempt: Attempt) -> None:
    """Stop a run whose journal grows without end.

    Raises:
        Unwind: it is as long as it may get; a person is asked.
    """
    if attempt.state.event >= _limits.EVENTS_PER_RUN:
        limit = f"EVENTS_PER_RUN = {_limits.EVENTS_PER_RUN}"
        prompt = (
            f"The journal of this run has {attempt.state.event} events, the limit is {limit}. It was stopped. "
            f"Cancel it, and split its work into child runs."
        )
        attend(attempt, prompt, {"reason": "limit", "limit": "EVENTS_PER_RUN"})
        raise Unwind


def attend(attempt: Attempt, prompt: str, payload: dict[str, Any]) -> None:
    """Give the run back and ask a person what to do with it."""
    text = encode(payload)
    key, epoch = attempt.key, attempt.epoch

    def ask(transaction: Transaction) -> Any:
        request_key = transaction.next_request_key()
        command = c.OpenRequest(
            epoch, request_key, "attention", None, prompt, text, digest_of(text.encode()), release=True
        )
        return transaction.apply(key, command)

    attempt.out.transact(ask)
    if not attempt.unwinding:
        attempt.leave(None)
