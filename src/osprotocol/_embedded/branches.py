"""Branches of a run's code, the signals that end them, and what an error of theirs says."""

from __future__ import annotations

import asyncio
from typing import Any

from osprotocol import _limits
from osprotocol._embedded.driver import Wait
from osprotocol._json import encode
from osprotocol._lifecycle.state import RunState


class Branch:
    """One line of execution of a run's code: the workflow itself, or a coroutine in a gather."""

    __slots__ = ("count", "group", "is_foreign", "is_joining", "parent", "prefix", "step", "task", "wait")

    def __init__(self, prefix: str, parent: Branch | None, group: Any) -> None:
        self.prefix = prefix
        self.parent = parent
        self.group = group
        self.count = 0
        self.step: str | None = None
        self.task: asyncio.Task[Any] | None = None
        self.wait: Wait | None = None
        self.is_joining = False
        self.is_foreign = False

    def next_position(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    @property
    def is_stopped(self) -> bool:
        branch: Branch | None = self
        while branch is not None and branch.group is not None:
            if branch.group.is_stopped:
                return True
            branch = branch.parent
        return False


def failure_position(error: BaseException) -> str | None:
    """Where the step or child failed that ended an attempt: the last one in the chain of causes, groups included."""
    seen: set[int] = set()
    pending: list[BaseException] = [error]
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        position: str | None = getattr(current, "__osp_position__", None)
        if position is not None:
            return position
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        context = None if current.__suppress_context__ else current.__context__
        pending.extend(cause for cause in (current.__cause__, context) if cause is not None)
    return None


def text_of(error: BaseException) -> str:
    """An exception's text, also of one that cannot tell it."""
    try:
        return str(error)[: _limits.TEXT_CHARACTERS]
    except Exception as failed:  # noqa: BLE001 - the user's code may raise anything
        return f"(its text cannot be had: {type(failed).__name__})"


def error_info(error: BaseException) -> str:
    """JSON of what ended a run or step."""
    info: dict[str, Any] = {"type": type(error).__name__, "message": text_of(error)}
    code = getattr(type(error), "code", None)
    if isinstance(code, str):
        info["code"] = code
    info["message"] = info["message"].encode("utf-8", "replace").decode()
    return encode(info)


def stands_before(state: RunState) -> bool:
    """Whether a pause or a request holds the run; a cancel goes past both."""
    held = state.pause_at is not None or any(request.holds for request in state.requests)
    return held and state.cancel != "cancelling"
