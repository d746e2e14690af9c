"""What is decided is told before Restate has stored it: nobody who acts on it at once is turned away."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from osprotocol._restate import ledger
from osprotocol._restate.address import Address
from osprotocol._restate.ingress import Ingress
from osprotocol._restate.joining import Host
from osprotocol._restate.ledger import GENESIS, chained
from tests.restate.nodes import RestateNode

pytestmark = pytest.mark.restate

CHANGE = b"a change"


@pytest.fixture
def ingress(restate_node: RestateNode) -> Iterator[Ingress]:
    """Of an empty ledger that this process serves."""
    host = Host(Address.parse(restate_node.url(), {}))
    ingress = Ingress(restate_node.ingresses, secrets.token_hex(8))
    yield ingress
    ingress.close()
    host.leave()


@pytest.fixture
def slow_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restate gets what was appended only some time after it was decided."""
    handler = ledger.ledger.handlers["append"]
    decide = handler.fn

    async def decide_and_wait(*args: object) -> object:
        reply = await decide(*args)
        await asyncio.sleep(0.3)
        return reply

    monkeypatch.setattr(handler, "fn", decide_and_wait)


def test_who_reads_behind_an_entry_that_is_not_stored_yet_has_not_left_the_ledger(
    ingress: Ingress, slow_store: None
) -> None:
    """The answer waits until the entry is stored."""
    reply, _ = ingress.append(0, GENESIS, "token", 1, CHANGE)
    assert reply["status"] == "accepted"
    reply, entries = ingress.read(1, chained(GENESIS, "token", CHANGE))
    assert (reply["status"], reply["head"]["version"], entries) == ("current", 1, [])


def test_who_appends_behind_an_entry_that_is_not_stored_yet_is_accepted(ingress: Ingress, slow_store: None) -> None:
    """One append comes after the other."""
    ingress.append(0, GENESIS, "first", 1, CHANGE)
    reply, _ = ingress.append(1, chained(GENESIS, "first", CHANGE), "second", 1, CHANGE)
    assert (reply["status"], reply["head"]["version"]) == ("accepted", 2)


def test_who_has_more_than_was_ever_appended_is_told_so(ingress: Ingress) -> None:
    """Reading and appending: the copy is of another ledger, or of this one before it was reset."""
    chain = chained(GENESIS, "token", CHANGE)
    assert ingress.read(1, chain)[0]["status"] == "ahead"
    assert ingress.append(1, chain, "another", 1, CHANGE)[0]["status"] == "ahead"


def test_who_has_another_entry_is_told_so(ingress: Ingress) -> None:
    """The number is right, and the hash is not."""
    ingress.append(0, GENESIS, "token", 1, CHANGE)
    assert ingress.read(1, chained(GENESIS, "other", CHANGE))[0]["status"] == "diverged"
