"""The engine on Restate keeps the contract, sentence by sentence, with one copy on a machine and with one each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from osprotocol._restate import following, ingress
from osprotocol._restate.address import Address
from osprotocol._restate.joining import Host
from osprotocol.testing.conformance import SCENARIOS, Scenario
from osprotocol.testing.conformance.restate import RestateHarness
from tests.restate.nodes import RestateNode

pytestmark = pytest.mark.restate


@pytest.fixture(scope="module")
def served_node(restate_node: RestateNode) -> Iterator[RestateNode]:
    """A server whose ledgers this process serves, also when no client works."""
    host = Host(Address.parse(restate_node.url(), {}))
    yield restate_node
    host.leave()


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients hear of each other through Restate only, and believe soon that one is dead."""
    monkeypatch.setattr(following, "listen", lambda namespace, told: lambda: None)
    monkeypatch.setattr(ingress, "here", lambda: "elsewhere")
    monkeypatch.setattr(following, "_BEAT_S", 0.1)
    monkeypatch.setattr(following, "DEAD_S", 0.5)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_members_with_one_copy_keep_the_sentence(scenario: Scenario, served_node: RestateNode) -> None:
    """What the scenario's sentence says is true of processes of one machine."""
    async with RestateHarness(served_node.url(secrets.token_hex(8))) as harness:
        assert scenario.needs <= harness.capabilities
        await scenario.check(harness)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_members_with_a_copy_each_keep_the_sentence(
    scenario: Scenario, served_node: RestateNode, far_away: None
) -> None:
    """What the scenario's sentence says is true of processes of several machines."""
    async with RestateHarness(served_node.url(secrets.token_hex(8)), apart=True) as harness:
        await scenario.check(harness)
