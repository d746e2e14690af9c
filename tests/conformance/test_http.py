"""The engine over HTTP keeps the contract, sentence by sentence, through a real server."""

import pytest

from osprotocol.testing.conformance import SCENARIOS, Scenario
from osprotocol.testing.conformance.harness import CALLBACKS
from osprotocol.testing.conformance.http import HttpHarness

POSSIBLE = [scenario for scenario in SCENARIOS if scenario.needs <= HttpHarness.capabilities]

# Functions do not travel: who starts a run over HTTP cannot give it any (contract, section 9).
NOT_OVER_HTTP = {
    "async_callbacks_are_awaited_before_the_result",
    "callbacks_of_the_workflow_work_after_a_restart",
    "functions_that_could_not_be_called_are_refused",
}


@pytest.mark.parametrize("scenario", POSSIBLE, ids=[scenario.name for scenario in POSSIBLE])
async def test_the_engine_over_http_keeps_the_sentence(scenario: Scenario) -> None:
    """What the scenario's sentence says is true over HTTP."""
    async with HttpHarness() as harness:
        await scenario.check(harness)


def test_only_callbacks_of_the_starting_process_are_left_out() -> None:
    """Nothing is left out but the scenarios whose functions live in the process that starts the run."""
    left_out = [scenario for scenario in SCENARIOS if scenario not in POSSIBLE]
    assert {scenario.name for scenario in left_out} == NOT_OVER_HTTP
    assert all(CALLBACKS in scenario.needs for scenario in left_out)
