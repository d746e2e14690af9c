"""For tests of workflows: time that is set, people who answer by script, a database that is gone afterwards.

Nothing of osprotocol itself imports this package.
"""

from osprotocol.testing.client import VirtualClient, connect
from osprotocol.testing.clock import VirtualClock
from osprotocol.testing.people import Given, People, Person

__all__ = ["Given", "People", "Person", "VirtualClient", "VirtualClock", "connect"]
