"""The engine over HTTP: the port of `osprotocol.engine` on a server's API. Needs ``osprotocol[http]``."""
