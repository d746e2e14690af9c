"""The driver: environments, rounds, tables. Standard library only."""
