"""Workflows: what can be started here, how its runs went, and the form that starts one."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse, Response

from osprotocol._json import parse
from osprotocol.engine import Filter
from osprotocol.errors import (
    InvalidValueError,
    LimitExceededError,
    OSProtocolError,
    RunError,
    UnknownWorkflowError,
    UsageError,
)
from osprotocol.protocol.events import WorkflowInfo
from osprotocol.protocol.run import RunStatus
from osprotocol.protocol.statistics import WorkflowStatistics
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.console.entries import Entries, edited, entries_of
from osprotocol.server.console.forms import form_of
from osprotocol.server.console.rendering import render
from osprotocol.server.console.routing import page_router, see
from osprotocol.server.console.starting import ACTIONS, Wish, first_entries, new_form, options_of, start
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import list_runs

router = page_router()

Reader = Annotated[Principal, allow(Permission.READ)]
Starter = Annotated[Principal, allow(Permission.START)]
_RECENT = 10


def _find(here: Serving, who: Principal, name: str) -> WorkflowInfo:
    known = [info for info in here.client.workflows() if who.sees(info.name)]
    for info in known:
        if info.name == name:
            return info
    raise UnknownWorkflowError(name, tuple(info.name for info in known))


async def _counts(here: Serving) -> dict[str, WorkflowStatistics]:
    return {one.workflow: one for one in (await here.client.statistics()).workflows}


@router.get("/workflows")
async def workflows_page(http: HttpRequest, here: Here, who: Reader) -> HTMLResponse:
    """The registry: each workflow, how its runs stand, how long people take to answer it."""
    known = [info for info in here.client.workflows() if who.sees(info.name)]
    counts = await _counts(here)
    others = sorted(name for name in counts if who.sees(name) and name not in {info.name for info in known})
    return await render(
        http, "workflows.html", workflows=known, counts=counts, others=others, statuses=tuple(RunStatus)
    )


@router.get("/workflows/{name}")
async def workflow_page(name: str, http: HttpRequest, here: Here, who: Reader) -> HTMLResponse:
    """One workflow: what it takes and gives, and its newest runs."""
    info = _find(here, who, name)
    runs = await list_runs(here, who, Filter(workflow=name), _RECENT, None)
    counts = (await _counts(here)).get(name)
    form = None if info.input_schema is None else form_of(info.input_schema, label="Input")
    return await render(http, "workflow.html", workflow=info, runs=runs.items, counts=counts, form=form)


@router.get("/workflows/{name}/start")
async def start_page(name: str, http: HttpRequest, here: Here, who: Starter, input: str | None = None) -> HTMLResponse:
    """The form that starts a run; ``?input=JSON`` fills it in."""
    info = _find(here, who, name)
    entries: Entries | None = None
    if info.input_schema is not None:
        schema = info.input_schema
        entries = first_entries(name, schema) if input is None else entries_of(schema, parse(input, "input"))
    return await _show(http, info, entries, new_form())


@router.post("/workflows/{name}/start")
async def start_run(name: str, http: HttpRequest, here: Here, who: Starter) -> Response:
    """Start a run, or show the form again with what is wrong and what was typed."""
    info = _find(here, who, name)
    entries: dict[str, list[str]] = {}
    for key, text in (await http.form()).multi_items():
        if isinstance(text, str):
            entries.setdefault(key, []).append(text)
    wish, schema = Wish.of(entries), info.input_schema
    changed = None if schema is None else edited(schema, entries, (entries.get("decision") or [""])[0])
    if changed is not None:
        return await _show(http, info, changed[0], wish)
    options, wrong = options_of(wish)
    problems: tuple[tuple[str, str], ...] = ()
    try:
        if options is not None:
            run_id = await start(here, who, name, schema, entries, options, wish.once)
            return see(f"/runs/{quote(run_id, safe='')}?done=started")
        return await _show(http, info, entries, wish, wrong=wrong, status=422)
    except InvalidValueError as error:
        problems = error.problems
        return await _show(http, info, entries, wish, problems=problems, status=422)
    except (LimitExceededError, UsageError, RunError) as error:
        return await _show(http, info, entries, wish, trouble=error, status=error.http_status)


async def _show(
    http: HttpRequest,
    info: WorkflowInfo,
    entries: Entries | None,
    wish: Wish,
    *,
    problems: tuple[tuple[str, str], ...] = (),
    wrong: list[tuple[str, str]] | None = None,
    trouble: OSProtocolError | None = None,
    status: int = 200,
) -> HTMLResponse:
    form = None if info.input_schema is None else form_of(info.input_schema, entries, problems, label="Input")
    summary = [(one, f"{label}: {message}") for one, label, message in (form.problems if form else ())]
    summary += [(f"start-{field}", message) for field, message in wrong or ()]
    if trouble is not None:
        summary.append(("", str(trouble)))
    return await render(
        http, "start.html", status=status, workflow=info, form=form, wish=wish, actions=ACTIONS, problems=summary
    )
