"""`Target`: something that reads bytes from outside, and how one input is given to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from osprotocol.errors import OSProtocolError
from tests.lab.fuzzing.mutation import FIELD

Try = Callable[[bytes], bool]
"""Give an input to a target. True if it was accepted; refusing is an error of ours, or False."""


@dataclass(frozen=True)
class Target:
    """Something that reads bytes from outside.

    Attributes:
        seeds: inputs to begin with.
        open: makes what one batch of inputs needs.
        batch: inputs of one case.
        small: inputs of its case in the small share.
        may: beginnings of audit events that are what the target is for.
        refusals: what a refusal is.
        grows: whether long inputs are tried too.
    """

    name: str
    seeds: tuple[bytes, ...]
    open: Callable[[], AbstractContextManager[Try]]
    batch: int = 2_000
    small: int = 100
    may: tuple[str, ...] = ()
    refusals: tuple[type[Exception], ...] = (OSProtocolError,)
    grows: bool = True


def plain(name: str, seeds: tuple[bytes, ...], attempt: Try, **more: Any) -> Target:
    """A target that needs nothing but its input."""
    return Target(name, seeds, lambda: nullcontext(attempt), **more)


def fields_of(data: bytes, count: int) -> list[bytes]:
    """The fields of an input; those that are missing are empty."""
    found = data.split(FIELD, count - 1)
    return found + [b""] * (count - len(found))


def text_of(data: bytes) -> str:
    """Text as it comes from an operating system: bytes that are no UTF-8 become surrogates."""
    return data.decode("utf-8", "surrogateescape")


def joined(*parts: bytes | str) -> bytes:
    """An input of several fields."""
    return FIELD.join(part.encode() if isinstance(part, str) else part for part in parts)
