"""The root of the tree, and the error that workflow code raises."""

from __future__ import annotations

from typing import ClassVar

PUBLIC = "osprotocol.errors"
"""The module that all of them are part of."""


class OSProtocolError(Exception):
    """The root of the tree."""

    __module__ = PUBLIC

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__module__.startswith(f"{PUBLIC}."):
            return
        cls.__module__ = PUBLIC  # where everybody imports it from, pickled ones and tracebacks too
        text = vars(cls).get("__str__")
        if text is not None:
            # Facts come from anywhere and may have line breaks; the text is one line all the same.
            cls.__str__ = lambda self: " ".join(text(self).splitlines())  # type: ignore[method-assign]

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class TerminalError(OSProtocolError):
    """Raise it in a workflow or a step when trying again cannot help: the run ends `failed` and is not retried."""

    code = "terminal"
    http_status = 409
