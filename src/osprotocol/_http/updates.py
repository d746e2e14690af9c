"""What a server tells of a run, as the engine's `Update`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from osprotocol._json import encode
from osprotocol.engine import Update
from osprotocol.protocol._wire import Wire
from osprotocol.protocol.events import Event
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunSnapshot, RunStatus

W = TypeVar("W", bound=Wire)


def update_of(detail: dict[str, Any], events: Sequence[Event] = (), reply: Any = None) -> Update:
    """Where a run stands, from its `RunDetail` as it came."""
    status = RunStatus(detail["status"])
    read: list[RunSnapshot] = []
    asked: list[list[Request]] = []
    return Update(
        run_id=detail["id"],
        status=status,
        event=detail["event"],
        read=_once(read, lambda: load(RunSnapshot, detail)),
        requests=_once(asked, lambda: [load(Request, one) for one in detail.get("requests", ())]),
        events=lambda: events,
        result=encode(detail.get("result")) if status is RunStatus.COMPLETED else None,
        reply=reply,
    )


R = TypeVar("R")


def _once(made: list[R], make: Callable[[], R]) -> Callable[[], R]:
    def read() -> R:
        if not made:
            made.append(make())
        return made[0]

    return read


def load(kind: type[W], data: dict[str, Any]) -> W:
    """A shape from its wire form; what a newer server adds to it is left out."""
    names = _names(kind)
    return kind.model_validate({name: value for name, value in data.items() if name in names})


@lru_cache(maxsize=64)
def _names(kind: type[Wire]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in kind.model_fields.items())
