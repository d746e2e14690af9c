"""An engine as somebody may see it: everything that is read through it has its secrets blacked out.

Routes and pages read through the client of `Here`, so none of them can forget to. What is blacked out for whom is in
`redaction`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from osprotocol.client import Client
from osprotocol.engine import Engine, Filter, Listener, RequestFilter, Update
from osprotocol.protocol.events import Event, LogLine, Page, StepRecord
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunSnapshot
from osprotocol.server.redaction import MASK, redact, redact_json, redact_text
from osprotocol.workflow import Workflow, known_workflows

M = TypeVar("M", bound=BaseModel)


def clean_model(model: M, *, fully: bool, skipped: frozenset[str] = frozenset()) -> M:
    """A shape without secrets; the same object when there is nothing to black out."""
    changed = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        clean = value if name in skipped else _clean(value, fully)
        if clean is not value:
            changed[name] = clean
    return model.model_copy(update=changed) if changed else model


def _clean(value: Any, fully: bool) -> Any:
    if isinstance(value, BaseModel):
        return clean_model(value, fully=fully)
    if type(value) is str:
        return redact_text(value, fully=fully)
    if isinstance(value, tuple):
        items = tuple(_clean(item, fully) for item in value)
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return redact(value, fully=fully) if isinstance(value, dict | list) else value


def clean_event(event: Event, *, fully: bool, workflow: str | None = None) -> Event:
    """An event without secrets.

    Args:
        event: it.
        fully: for somebody who may only look.
        workflow: of its run, whose schema tells what is secret in a result; without it all of a result is.
    """
    clean = clean_model(event, fully=fully)
    if not fully or not isinstance(clean.data, dict):
        return clean
    data = dict(clean.data)
    if event.type == "run.started" and "input" in data:
        data["input"] = redact(data["input"], fully=True, schema=_schemas(event.name)[0])
    elif event.type == "run.completed" and data.get("result") is not None:
        known = workflow in known_workflows()
        data["result"] = redact(data["result"], fully=True, schema=_schemas(workflow)[1]) if known else MASK
    elif "answer" in data:
        data["answer"] = MASK  # whose schema is in the request
    return clean.model_copy(update={"data": data})


def _schemas(workflow: str | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    known: Workflow[Any, Any] | None = known_workflows().get(workflow or "")
    return (None, None) if known is None else (known.info.input_schema, known.info.output_schema)


class SeenEngine:
    """The readings of an engine, cleaned; everything else is the engine's.

    Args:
        engine: what is read.
        fully: for somebody who may only look. Else requests and results are exact: they are there to be decided on
            and worked with.
    """

    def __init__(self, engine: Engine, *, fully: bool) -> None:
        self._engine = engine
        self._fully = fully

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    # ------------------------------------------------------------------ updates

    async def start(self, *arguments: Any, **named: Any) -> Update:
        """As of the engine."""
        return self._update(await self._engine.start(*arguments, **named))

    async def take_over(self, *arguments: Any, **named: Any) -> Update:
        """As of the engine."""
        return self._update(await self._engine.take_over(*arguments, **named))

    async def execute(self, *arguments: Any) -> Update:
        """As of the engine."""
        return self._update(await self._engine.execute(*arguments))

    async def get(self, run_id: str, listener: Listener | None = None) -> Update:
        """As of the engine."""
        # Who may only look waits for nothing, and gets nothing uncleaned.
        return self._update(await self._engine.get(run_id, None if self._fully else listener))

    def _update(self, update: Update) -> Update:
        result, reply = update.result, update.reply
        if self._fully and result is not None:
            schema = _schemas(update.read().workflow)[1]
            result = redact_json(result.encode(), fully=True, schema=schema).decode()
        return dataclasses.replace(
            update,
            read=lambda: self._snapshot(update.read()),
            requests=lambda: [self._request(request) for request in update.requests()],
            events=lambda: [clean_event(event, fully=self._fully) for event in update.events()],
            result=result,
            reply=self._request(reply) if isinstance(reply, Request) else reply,
        )

    def _snapshot(self, snapshot: RunSnapshot) -> RunSnapshot:
        return clean_model(snapshot, fully=self._fully)

    def _request(self, request: Request) -> Request:
        if not self._fully:
            return request
        clean = clean_model(request, fully=True, skipped=frozenset(("schema_",)))
        answer = redact(request.answer, fully=True, schema=request.schema_)
        return clean if answer is clean.answer else clean.model_copy(update={"answer": answer})

    # ------------------------------------------------------------------ reading

    async def list_runs(self, filter: Filter, limit: int, cursor: str | None) -> Page[RunSnapshot]:
        """As of the engine."""
        page = await self._engine.list_runs(filter, limit, cursor)
        items = []
        for run in page.items:
            clean = self._snapshot(run)
            # Found by what is blacked out, it is left out: else a secret could be guessed letter by letter.
            if clean is run or not filter.text or filter.text.lower() in clean.model_dump_json(by_alias=True).lower():
                items.append(clean)
        return Page(items=tuple(items), next_cursor=page.next_cursor)

    async def requests(self, filter: RequestFilter, limit: int, cursor: str | None) -> Page[Request]:
        """As of the engine."""
        page = await self._engine.requests(filter, limit, cursor)
        return Page(items=tuple(map(self._request, page.items)), next_cursor=page.next_cursor)

    async def find_request(self, request_id: str) -> Request:
        """As of the engine."""
        return self._request(await self._engine.find_request(request_id))

    def recent_logs(self, run_id: str) -> list[str]:
        """As of the engine."""
        return [redact_text(line, fully=self._fully) for line in self._engine.recent_logs(run_id)]

    async def logs(self, run_id: str, after: int, limit: int) -> list[LogLine]:
        """As of the engine."""
        return [clean_model(line, fully=self._fully) for line in await self._engine.logs(run_id, after, limit)]

    async def steps(self, run_id: str) -> list[StepRecord]:
        """As of the engine."""
        return [clean_model(step, fully=self._fully) for step in await self._engine.steps(run_id)]

    async def events(self, run_id: str | None, after: int) -> AsyncIterator[Event]:
        """As of the engine."""
        workflow = await self._workflow_of(run_id)
        async for event in self._engine.events(run_id, after):
            yield clean_event(event, fully=self._fully, workflow=workflow)

    async def read_events(self, run_id: str | None, after: int, limit: int) -> list[Event]:
        """As of the engine."""
        workflow = await self._workflow_of(run_id)
        events = await self._engine.read_events(run_id, after, limit)
        return [clean_event(event, fully=self._fully, workflow=workflow) for event in events]

    async def _workflow_of(self, run_id: str | None) -> str | None:
        if run_id is None or not self._fully:
            return None
        return (await self._engine.get(run_id)).read().workflow


def seen_client(client: Client, *, fully: bool) -> Client:
    """The client, as somebody may see it. It is open when the other is, and is not closed."""
    engine = cast(Engine, SeenEngine(client._engine, fully=fully))

    async def open_engine() -> Engine:
        return engine

    seen = Client(open_engine)
    seen._opened = engine
    return seen
