"""What a server tells of a run, as the engine's `Update`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from osprotocol._json import encode
from osprotocol.engine import Update
from osprotocol.errors import EngineError, OSProtocolError
from osprotocol.protocol._wire import Wire
from osprotocol.protocol.events import Event
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunSnapshot, RunStatus

W = TypeVar("W", bound=Wire)
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def as_promised() -> Iterator[None]:
    """Around the reading of an answer: one that is none of a server of ours is told as such.

    Raises:
        EngineError: something in it is missing, or is something else.
    """
    try:
        yield
    except OSProtocolError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise EngineError("the server", f"answers, but not as osp serve does ({type(error).__name__})") from error


def reads_answers(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A coroutine function whose every answer is read `as_promised`."""

    @wraps(method)
    async def read(*args: P.args, **kwargs: P.kwargs) -> T:
        with as_promised():
            return await method(*args, **kwargs)

    return read


def update_of(detail: dict[str, Any], events: Sequence[Event] = (), reply: Any = None) -> Update:
    """Where a run stands, from its `RunDetail` as it came."""
    read: list[RunSnapshot] = []
    asked: list[list[Request]] = []
    with as_promised():
        run_id, event, status = detail["id"], detail["event"], RunStatus(detail["status"])
        if not isinstance(run_id, str) or type(event) is not int:
            raise TypeError("id or event")
        return Update(
            run_id=run_id,
            status=status,
            event=event,
            read=_once(read, lambda: _snapshot_of(detail)),
            requests=_once(asked, lambda: _requests_of(detail)),
            events=lambda: events,
            result=encode(detail.get("result")) if status is RunStatus.COMPLETED else None,
            reply=reply,
        )


def _snapshot_of(detail: dict[str, Any]) -> RunSnapshot:
    with as_promised():
        return load(RunSnapshot, detail)


def _requests_of(detail: dict[str, Any]) -> list[Request]:
    with as_promised():
        return [load(Request, one) for one in detail.get("requests", ())]


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
