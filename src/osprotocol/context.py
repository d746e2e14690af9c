"""`Context`: what a workflow does durable things with, and `current_step`: what a step knows of itself."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload
from uuid import UUID

from pydantic import TypeAdapter

from osprotocol.errors import NoClientError
from osprotocol.protocol.approval import Approval, ApprovalConfig
from osprotocol.protocol.run import RunOptions
from osprotocol.workflow import Workflow

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


class Context(ABC):
    """A run, seen from its own code. Every engine has its own; workflows never make one."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The run's id."""

    @property
    @abstractmethod
    def attempt(self) -> int:
        """Number of the current try of the run, from 1."""

    @overload
    async def step(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def step(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @abstractmethod
    async def step(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Execute a step and give its result; a step whose result is committed is not executed again.

        Survives a crash: a committed result. A step that was running is executed again.

        Raises:
            StepFailedError: it failed on every try. Types declared with ``raises=`` come through as themselves.
        """

    @abstractmethod
    async def sleep(self, duration: timedelta | None = None, *, ms: int | None = None) -> None:
        """Wait without holding a process.

        Survives a crash: the instant of waking is stored when the sleep begins; a pause prolongs it.
        """

    @overload
    async def gather(
        self, first: Coroutine[Any, Any, T1], /, *, return_exceptions: Literal[False] = False
    ) -> tuple[T1]: ...
    @overload
    async def gather(
        self,
        first: Coroutine[Any, Any, T1],
        second: Coroutine[Any, Any, T2],
        /,
        *,
        return_exceptions: Literal[False] = False,
    ) -> tuple[T1, T2]: ...
    @overload
    async def gather(
        self,
        first: Coroutine[Any, Any, T1],
        second: Coroutine[Any, Any, T2],
        third: Coroutine[Any, Any, T3],
        /,
        *,
        return_exceptions: Literal[False] = False,
    ) -> tuple[T1, T2, T3]: ...
    @overload
    async def gather(
        self, *operations: Coroutine[Any, Any, T], return_exceptions: Literal[False] = False
    ) -> tuple[T, ...]: ...
    @overload
    async def gather(
        self, *operations: Coroutine[Any, Any, T], return_exceptions: bool
    ) -> tuple[T | BaseException, ...]: ...
    @abstractmethod
    async def gather(self, *operations: Coroutine[Any, Any, Any], return_exceptions: bool = False) -> Any:
        """Do several things at once and give their results in order.

        At the first failure nothing new starts, what runs is finished and recorded, then the failure is raised.
        With ``return_exceptions=True`` everything goes on and failures stand among the results.
        """

    @overload
    async def map(
        self,
        fn: Workflow[T, R],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: Workflow[T, R],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        return_exceptions: bool,
    ) -> list[R | BaseException]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        return_exceptions: bool,
    ) -> list[R | BaseException]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        return_exceptions: bool,
    ) -> list[R | BaseException]: ...
    @abstractmethod
    async def map(
        self,
        fn: Callable[[Any], Any] | Workflow[Any, Any],
        items: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Any:
        """Execute a step, or a child run of a workflow, for each item, at most `max_concurrency` at a time.

        Results come in the order of the items. Failures as in `gather`.
        """

    @abstractmethod
    async def run(self, workflow: Workflow[I, O], input: I | None = None, options: RunOptions | None = None) -> O:
        """Execute a child run and give its output. The child follows this run's pause and cancel.

        Survives a crash: the child is a run of its own and is not started twice.

        Raises:
            ChildFailedError: the child did not complete.
        """

    @abstractmethod
    async def wait_for_approval(
        self, message: str, config: ApprovalConfig | None = None, payload: Any = None
    ) -> Approval:
        """Ask for a decision and wait for it, without holding a process.

        Survives a crash: the question, every vote, the deadline and the decision.
        """

    @overload
    async def wait_for_input(self, prompt: str, *, timeout_ms: int | timedelta | None = None) -> str: ...
    @overload
    async def wait_for_input(
        self, prompt: str, type: type[T] | TypeAdapter[T], timeout_ms: int | timedelta | None = None
    ) -> T: ...
    @abstractmethod
    async def wait_for_input(self, prompt: str, type: Any = str, timeout_ms: int | timedelta | None = None) -> Any:
        """Ask a person for a value of a type and wait for it, without holding a process.

        Raises:
            InputExpiredError: nobody answered in time.
        """

    @abstractmethod
    def report_progress(self, current: int, total: int = 0, message: str | None = None) -> None:
        """Tell how far the run is; `total` 0 means unknown. Survives a crash once the next effect is committed."""

    @abstractmethod
    def log(self, message: str, **fields: Any) -> None:
        """Add a line to the run's log. Lines of replayed code are not repeated."""

    @abstractmethod
    def now(self) -> datetime:
        """The current time in UTC; the same on replay."""

    @abstractmethod
    def uuid(self) -> UUID:
        """A random UUID; the same on replay."""

    @abstractmethod
    def random(self) -> float:
        """A random number from 0 up to, not including, 1; the same on replay."""


class CurrentStep(ABC):
    """The step that executes now, seen from its own code.

    Attributes:
        attempt: number of the current try of the step, from 1.
    """

    attempt: int

    @property
    @abstractmethod
    def idempotency_key(self) -> str:
        """The same on every try of that step in that run; for receivers that honour such a key."""

    @property
    @abstractmethod
    def cancelled(self) -> threading.Event:
        """Set when the step's run is cancelled or its time is up; usable from a thread."""

    @abstractmethod
    def report_progress(self, current: int, total: int = 0, message: str | None = None) -> None:
        """Tell how far the run is, from inside the step."""

    @abstractmethod
    def log(self, message: str, **fields: Any) -> None:
        """Add a line to the run's log, marked with the step's name."""


running_step: ContextVar[CurrentStep | None] = ContextVar("running_step", default=None)


def current_step() -> CurrentStep:
    """The step that executes now, in a coroutine or a thread of it.

    Raises:
        NoClientError: no step executes here.
    """
    found = running_step.get()
    if found is None:
        raise NoClientError("current_step() was called outside of a step")
    return found
