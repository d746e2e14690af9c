"""The embedded engine keeps the contract, sentence by sentence, lingering in memory and parked at every wait."""

import pytest

from osprotocol.testing.conformance import SCENARIOS, EmbeddedHarness, Scenario


@pytest.mark.parametrize("always_park", [False, True], ids=["lingering", "parking"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_the_embedded_engine_keeps_the_sentence(scenario: Scenario, always_park: bool) -> None:
    """What the scenario's sentence says is true on the embedded engine."""
    async with EmbeddedHarness(always_park=always_park) as harness:
        assert scenario.needs <= harness.capabilities
        await scenario.check(harness)


def test_there_is_a_scenario_for_each_section_about_behaviour() -> None:
    """Every section of the contract has scenarios."""
    assert {scenario.section for scenario in SCENARIOS} == set(range(1, 11))
