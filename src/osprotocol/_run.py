"""`Run`: configured, not yet started."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

from osprotocol.engine import Engine
from osprotocol.execution import Execution
from osprotocol.protocol.run import RunOptions, RunStatus, no_options
from osprotocol.workflow import Workflow

O = TypeVar("O")  # noqa: E741 - the output


class Run(Generic[O]):
    """A configured run. Nothing is stored before `start()`.

    Attributes:
        workflow: what it will execute.
        options: how it will behave.
    """

    def __init__(
        self, workflow: Workflow[Any, O], data: bytes, options: RunOptions | None = None, engine: Engine | None = None
    ) -> None:
        self.workflow = workflow
        self.options = options or no_options()
        self._data = data
        self._engine = engine
        self._execution: Execution[O] | None = None
        self._starting: asyncio.Future[Execution[O]] | None = None

    @property
    def id(self) -> str | None:
        """The run's id once it is started; None before."""
        return None if self._execution is None else self._execution.id

    @property
    def status(self) -> RunStatus:
        """`pending` before the start, the execution's status after."""
        return RunStatus.PENDING if self._execution is None else self._execution.status

    async def start(self) -> Execution[O]:
        """Store the run and give its handle. Starting the same `Run` again gives the same handle.

        Survives a crash: once this returns, the run exists and will be executed.

        Raises:
            NoClientError: no client is connected.
            IdempotencyConflictError: the idempotency key was used with another input.
        """
        if self._execution is not None:
            return self._execution
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        try:
            return await asyncio.shield(self._starting)
        finally:
            if self._starting.done() and self._execution is None:
                self._starting = None

    async def _start(self) -> Execution[O]:
        engine = self._engine
        if engine is None:
            from osprotocol.client import current_client

            engine = current_client()._engine
        execution: Execution[O] = Execution(engine, self.workflow)
        update = await engine.start(self.workflow, self._data, self.options, execution._on_update)
        execution._begin(update)
        if update.status.is_final:
            await execution.refresh()
        self._execution = execution
        return execution


Workflow.make_run = staticmethod(Run)
