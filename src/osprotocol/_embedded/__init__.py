"""The embedded engine: durable runs in one SQLite file, shared by the processes of one machine."""
