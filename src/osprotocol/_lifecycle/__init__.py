"""The pure core: a run's state, the commands it takes, and `decide(state, command, now)`.

Nothing here does I/O, reads a clock or draws a random number; every engine stands on it.
"""
