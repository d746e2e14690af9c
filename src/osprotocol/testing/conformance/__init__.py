"""The contract as scenarios: one for each sentence, runnable against every engine.

`SCENARIOS` has them all. Give each one's `check` a fresh `Harness`::

    async with EmbeddedHarness() as harness:
        await scenario.check(harness)

The harness over HTTP, which needs ``osprotocol[server]``, is `osprotocol.testing.conformance.http.HttpHarness`.
"""

from importlib import import_module

from osprotocol.testing.conformance.embedded import EmbeddedHarness
from osprotocol.testing.conformance.harness import Harness
from osprotocol.testing.conformance.scenario import SCENARIOS, Scenario

# By section of the contract.
_FILES = (
    "surface",
    "listing",
    "journal",
    "values",
    "replay",
    "branches",
    "statuses",
    "pause",
    "paused_time",
    "cancel",
    "cleanup",
    "timeout",
    "retry",
    "going_on",
    "people",
    "inputs",
    "expiry",
    "callbacks",
    "errors",
)
for _name in _FILES:
    import_module(f"osprotocol.testing.conformance.{_name}")

__all__ = ["SCENARIOS", "EmbeddedHarness", "Harness", "Scenario"]
