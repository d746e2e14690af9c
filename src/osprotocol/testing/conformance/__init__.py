"""The contract as scenarios: one for each sentence, runnable against every engine.

`SCENARIOS` has them all. Give each one's `check` a fresh `Harness`::

    async with EmbeddedHarness() as harness:
        await scenario.check(harness)
"""

from osprotocol.testing.conformance import cancel as _cancel
from osprotocol.testing.conformance import journal as _journal
from osprotocol.testing.conformance import pause as _pause
from osprotocol.testing.conformance import replay as _replay
from osprotocol.testing.conformance import retry as _retry
from osprotocol.testing.conformance import statuses as _statuses
from osprotocol.testing.conformance import timeout as _timeout
from osprotocol.testing.conformance.embedded import EmbeddedHarness
from osprotocol.testing.conformance.harness import Harness
from osprotocol.testing.conformance.scenario import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "EmbeddedHarness", "Harness", "Scenario"]
