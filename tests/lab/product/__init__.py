"""The whole product under load: server processes as the command line starts them, callers, and what they were told."""
