"""`Harness`: what a scenario needs of an engine, and small things that make scenarios short."""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from osprotocol.client import Client
from osprotocol.execution import Execution
from osprotocol.protocol.events import Event
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.workflow import Workflow, known_workflows, register

E = TypeVar("E", bound=BaseException)
PATIENCE_S = 10.0
"""How long, in real time, something that must happen may take before the scenario fails."""

CRASH = "crash"
CLOCK = "clock"
CALLBACKS = "callbacks"
SEVERAL_CLIENTS = "several-clients"


class Latch:
    """A place in a step where it stops until the scenario lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.passes = 0

    async def step(self, value: str = "done") -> str:
        """The step that stops here."""
        self.reached.set()
        await self.opened.wait()
        self.passes += 1
        return value


class Caught(Generic[E]):
    """The error that a block raised."""

    error: E


@contextmanager
def refused(kind: type[E]) -> Iterator[Caught[E]]:
    """The block must raise an error of that kind."""
    caught: Caught[E] = Caught()
    try:
        yield caught
    except kind as error:
        caught.error = error
    else:
        raise AssertionError(f"{kind.__name__} was expected, and nothing was raised")


def _marking_steps(
    ledger: list[str],
) -> tuple[Callable[[str], Awaitable[str]], Callable[[str], Awaitable[str]]]:
    async def note(what: str) -> str:
        ledger.append(what)
        return what

    async def fail(what: str) -> str:
        ledger.append(what)
        raise ValueError(what)

    return note, fail


class Harness(ABC):
    """One engine with a fresh store, for one scenario. Use it with ``async with``.

    Attributes:
        capabilities: what the engine and this harness can do; a scenario that needs more is skipped.
        client: the client that scenarios use.
        ledger: what steps did, in order, whoever executed them: the outside world.
        note: a step that leaves its mark in the ledger, and gives it back.
        fail: a step that leaves its mark in the ledger, and fails with a ValueError.
    """

    capabilities: frozenset[str] = frozenset()
    client: Client

    def __init__(self) -> None:
        self.ledger: list[str] = []
        self._defined: set[str] = set()
        self.note, self.fail = _marking_steps(self.ledger)

    # ------------------------------------------------------- what an engine gives

    @abstractmethod
    async def begin(self) -> None:
        """Connect `client` to an empty store."""

    @abstractmethod
    async def end(self) -> None:
        """Disconnect everything and remove the store."""

    @abstractmethod
    async def connect(self, **settings: Any) -> Client:
        """One more client of the same store, closed by `end`."""

    @abstractmethod
    async def crash(self, client: Client) -> None:
        """The process of that client dies: nothing is parked, nothing more is written."""

    @abstractmethod
    async def settle(self) -> None:
        """Wait until nothing happens any more without time, people, or a step that is still at work."""

    @abstractmethod
    async def advance(self, duration: timedelta | None = None, *, ms: int | None = None) -> None:
        """Let time pass, and wait until what was due has happened."""

    @abstractmethod
    def set_clock(self, moment: datetime) -> None:
        """Set the clock forwards or back; what is due happens after that, not at once."""

    @abstractmethod
    def now(self) -> datetime:
        """The engine's time."""

    async def __aenter__(self) -> Harness:
        await self.begin()
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self.end()
        finally:
            for name in self._defined:
                known_workflows().pop(name, None)

    # ----------------------------------------------------------------- workflows

    def workflow(self, function: Callable[..., Awaitable[Any]]) -> Workflow[Any, Any]:
        """Define a workflow for this scenario, under a name of its own; a decorator."""
        return self.define(function)

    def define(
        self, function: Callable[..., Awaitable[Any]], *, name: str | None = None, **settings: Any
    ) -> Workflow[Any, Any]:
        """Define a workflow, with settings of `@workflow`; the same name again is changed code."""
        name = name or "-".join(function.__qualname__.split(".<locals>."))
        known_workflows().pop(name, None)
        self._defined.add(name)
        return register(Workflow(function, name=name, **settings))

    def forget(self, workflow: Workflow[Any, Any]) -> None:
        """No process knows the workflow any more."""
        known_workflows().pop(workflow.name, None)

    # ---------------------------------------------------------------------- runs

    async def start(
        self, workflow: Workflow[Any, Any], input: Any = None, options: RunOptions | None = None
    ) -> Execution[Any]:
        """Start a run and let it go as far as it comes by itself.

        Where whoever starts a run cannot give it functions, those in the options become code of the workflow.
        """
        if options is not None and options.has_functions and CALLBACKS not in self.capabilities:
            workflow, options = self.define(workflow.function, name=workflow.name, options=options), None
        execution = await self.client.create_run(workflow, input, options).start()
        await self.settle()
        return execution

    async def start_pending(self, workflow: Workflow[Any, Any], input: Any = None) -> Execution[Any]:
        """Start a run that stays pending: `client` is closed, and the one that takes its place does no work."""
        await self.client.close()
        self.client = await self.connect(worker=False)
        return await self.client.create_run(workflow, input).start()

    async def restart(self) -> None:
        """The process of `client` dies, and another takes its place."""
        await self.crash(self.client)
        self.client = await self.connect()
        await self.settle()

    async def again(self, execution: Execution[Any]) -> Execution[Any]:
        """The same run, from `client` as it is now."""
        return await self.client.get(execution.id)

    async def status(self, execution: Execution[Any]) -> RunStatus:
        """Where the run stands when everything has settled."""
        await self.settle()
        await execution.refresh()
        return execution.status

    async def result(self, execution: Execution[Any]) -> Any:
        """The run's result, or the error that `result` raises, within reason."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await execution.result
        except TimeoutError:
            raise AssertionError(f"the run does not end:\n{await self._story(execution)}") from None

    async def error(self, execution: Execution[Any], kind: type[E]) -> E:
        """The error of that kind that `result` raises."""
        with refused(kind) as caught:
            await self.result(execution)
        return caught.error

    async def events(self, execution: Execution[Any]) -> list[Event]:
        """Everything that has happened to the run so far."""
        await self.settle()
        await execution.refresh()
        last, found = execution.snapshot.event, []
        if last:
            async for event in execution.events():
                found.append(event)
                if event.number >= last:
                    break
        return found

    async def statuses(self, execution: Execution[Any]) -> list[str]:
        """The statuses that the run has entered, in order."""
        return [event.status.value for event in await self.events(execution) if event.status is not None]

    async def types(self, execution: Execution[Any]) -> list[str]:
        """The types of the run's events, in order."""
        return [event.type for event in await self.events(execution)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait, in real time, until something is so that another process or a thread brings about."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():  # noqa: ASYNC110 - a thread or another process brings it about
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError("what was waited for did not come") from None

    async def log(self, execution: Execution[Any]) -> list[str]:
        """The run's whole log, once everything written has arrived."""
        await self.settle()
        known = -1
        while known != len(lines := await execution.read_logs()):
            known = len(lines)
            await asyncio.sleep(0.1)
        return [line.message for line in lines]

    async def _story(self, execution: Execution[Any]) -> str:
        told = [f"{execution.snapshot!r}"]
        for event in await self.events(execution):
            told.append(f"{event.number} {event.type} {event.status or ''} {event.key or ''} {event.data}")
        return "\n".join(told)


class Shaky:
    """A step that fails as often as it is told."""

    def __init__(self, h: Harness, failures: int, error: type[Exception] = ValueError) -> None:
        async def shaky(what: str = "shaky") -> str:
            h.ledger.append(what)
            self.tries.append(h.now().timestamp())
            if len(self.tries) <= failures:
                raise error(f"try {len(self.tries)}")
            return what

        self.tries: list[float] = []
        self.step = shaky

    @property
    def gaps_ms(self) -> list[int]:
        """Milliseconds between the tries."""
        return [round((after - before) * 1_000) for before, after in itertools.pairwise(self.tries)]
