"""The work that every contender does and how it is measured, with the standard library only."""
