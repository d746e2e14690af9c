"""The server: the HTTP API, live events and the console over one client. Needs ``osprotocol[server]``."""
