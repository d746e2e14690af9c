"""A worker's part in serving the ledger: an endpoint, known to Restate, and heir of endpoints that are gone."""

from __future__ import annotations

import logging
import threading

from osprotocol._restate import endpoint
from osprotocol._restate.address import Address
from osprotocol._restate.admin import Admin
from osprotocol._restate.ledger import SERVICES
from osprotocol.errors import OSProtocolError

_log = logging.getLogger("osprotocol")


class Host:
    """Serves the ledger in this process, as long as somebody here works on it.

    Args:
        address: where Restate is, and where it finds us.

    Raises:
        EngineError: we cannot listen, or Restate does not answer or cannot reach us.
    """

    def __init__(self, address: Address) -> None:
        self._admin = Admin(address.admin)
        self._taking_over = threading.Lock()
        self._trouble = ""
        self._endpoint = endpoint.join(address, SERVICES)
        try:
            self._admin.register(self._endpoint.uri)
        except BaseException:
            endpoint.leave(self._endpoint)
            self._admin.close()
            raise
        self.take_over()  # wakes what was given up while no worker lived

    def take_over(self) -> None:
        """The ledger does not answer: if its endpoint is gone, serve it here and free what hangs on the other one."""
        if not self._taking_over.acquire(blocking=False):
            return
        try:
            freed = self._admin.take_over(self._endpoint.uri)
            if freed:
                _log.warning("the ledger is served here now; %d calls that hung on another endpoint go on", freed)
            self._trouble = ""
        except OSProtocolError as error:
            if self._trouble != str(error):  # once, and not with every sign of life
                _log.warning("%s", error)
            self._trouble = str(error)
        finally:
            self._taking_over.release()

    def sweep(self) -> None:
        """Remove what Restate still knows of endpoints that are long gone."""
        try:
            self._admin.sweep()
        except OSProtocolError as error:
            _log.debug("%s", error)

    def leave(self) -> None:
        """Serve no more; if another endpoint lives, Restate calls that one from now on."""
        endpoint.leave(self._endpoint, self._step_down)
        self._admin.close()

    def _step_down(self) -> None:
        try:
            self._admin.step_down(self._endpoint.uri)
        except OSProtocolError as error:
            _log.debug("%s", error)
