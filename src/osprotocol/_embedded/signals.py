"""The signals that end code which is not to go on. No `Exception`s: ``except Exception`` cannot swallow them."""

from __future__ import annotations


class Unwind(BaseException):
    """Takes a run's code out of memory. Not an `Exception`, so that ``except Exception`` cannot swallow it."""


class BranchStopped(BaseException):
    """Ends a branch of a gather in which another branch failed."""
