"""Runs: the list with its filters, and what is done to many at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse

from osprotocol import _limits
from osprotocol.client import _filter
from osprotocol.engine import Filter
from osprotocol.errors import InvalidOptionError, OSProtocolError
from osprotocol.protocol.events import BulkResult
from osprotocol.protocol.run import RunSnapshot, RunStatus
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.console.headline import held_by
from osprotocol.server.console.pages.home import counts_for, known_workflows
from osprotocol.server.console.rendering import Given, now, render
from osprotocol.server.console.routing import check_filters, page_router
from osprotocol.server.identity import acting_as
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import find_execution, list_runs

router = page_router()

PERIODS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
_FIELDS = ("status", "workflow", "label", "text", "since", "startedAfter", "startedBefore", "parent")

Action = Literal["pause", "resume", "cancel", "retry"]


@router.get("/runs")
async def runs_page(request: Request, here: Here, who: Annotated[Principal, allow(Permission.READ)]) -> HTMLResponse:
    """The list of runs; its filters are in the address."""
    asked = {key: request.query_params[key].strip() for key in _FIELDS if request.query_params.get(key, "").strip()}
    problem: OSProtocolError | None = None
    try:
        check_filters(request, (*_FIELDS, "cursor"))
        chosen = _chosen(request, asked)
        page = await list_runs(here, who, chosen, _limits.PAGE_SIZE_DEFAULT, request.query_params.get("cursor"))
    except InvalidOptionError as error:
        problem, chosen = error, Filter()
        page = await list_runs(here, who, chosen, _limits.PAGE_SIZE_DEFAULT, None)
    statistics, moment = await here.client.statistics(), now(request)
    workflow = asked.get("workflow")
    narrowed = asked.keys() - {"status", "workflow"}
    return await render(
        request,
        "runs.html",
        status=200 if problem is None else problem.http_status,
        problem=problem,
        page=page,
        held={run.id: held_by(run, moment) for run in page.items},
        lengths={run.id: length_of(run, moment) for run in page.items},
        asked=Given(asked),
        labels=request.query_params.getlist("label"),
        counts=None if narrowed else counts_for(who, statistics, workflow),
        statuses=[status.value for status in RunStatus],
        workflows=known_workflows(here, who, statistics),
        periods=PERIODS,
        may_steer=who.may(Permission.STEER),
        may_start=who.may(Permission.START),
        link=_linker(request),
        paged="cursor" in request.query_params,
    )


def _chosen(request: Request, asked: dict[str, str]) -> Filter:
    """The filter that an address asks for.

    Raises:
        InvalidOptionError: a part of it makes no sense.
    """
    statuses = [value for value in request.query_params.getlist("status") if value]
    labels = [value.strip() for value in request.query_params.getlist("label") if value.strip()]
    after, before = _moment(asked, "startedAfter"), _moment(asked, "startedBefore")
    if after is None and "since" in asked:
        if asked["since"] not in PERIODS:
            raise InvalidOptionError("since", f"is one of {', '.join(PERIODS)}")
        after = now(request) - PERIODS[asked["since"]]
    workflow, text, parent = asked.get("workflow"), asked.get("text"), asked.get("parent")
    return _filter(statuses or None, workflow, labels or None, text, after, before, parent)


def _moment(asked: dict[str, str], name: str) -> datetime | None:
    if name not in asked:
        return None
    try:
        moment = datetime.fromisoformat(asked[name])
    except ValueError:
        raise InvalidOptionError(name, f"{asked[name][:40]!r} is no instant like 2026-11-01T12:00:00Z") from None
    if moment.tzinfo is None:
        raise InvalidOptionError(name, "needs a time zone, for example Z at its end")
    return moment


def length_of(run: RunSnapshot, moment: datetime) -> timedelta:
    """How long a run took, or takes so far."""
    return max(timedelta(0), (run.ended_at or moment) - run.created_at)


def _linker(request: Request) -> Any:
    """Makes addresses of the list with some parameters changed; a change goes back to the first page."""

    def link(**changes: str | None) -> str:
        kept = [
            (key, value)
            for key, value in request.query_params.multi_items()
            if key not in ("fragment", "done", "cursor") and key not in changes and value
        ]
        kept += [(key, value) for key, value in changes.items() if value]
        return f"/runs?{urlencode(kept)}" if kept else "/runs"

    return link


@router.post("/runs/bulk")
async def steer_many(request: Request, here: Here, who: Annotated[Principal, allow(Permission.STEER)]) -> HTMLResponse:
    """Do one thing to each selected run; the answer tells for each what became of it."""
    form = await request.form(max_files=0, max_fields=_limits.PAGE_SIZE + 10)
    runs = list(dict.fromkeys(str(run_id) for run_id in form.getlist("run")))[: _limits.PAGE_SIZE]
    action, reason = str(form.get("action", "")), str(form.get("reason", "")).strip() or None
    back = urlencode([pair for pair in parse_qsl(str(form.get("back", ""))) if pair[0] in (*_FIELDS, "cursor")])
    if action not in ("pause", "resume", "cancel", "retry"):
        raise InvalidOptionError("action", "is one of pause, resume, cancel, retry")
    if reason is not None and len(reason) > _limits.TEXT_CHARACTERS:
        raise InvalidOptionError("reason", f"is longer than TEXT_CHARACTERS = {_limits.TEXT_CHARACTERS}")
    results = [await _one(here, who, run_id, action, reason) for run_id in runs]
    return await render(
        request,
        "runs_done.html",
        action=action,
        results=results,
        done=sum(result.ok for result in results),
        back=f"/runs?{back}" if back else "/runs",
    )


async def _one(here: Serving, who: Principal, run_id: str, action: Any, reason: str | None) -> BulkResult:
    try:
        execution = await find_execution(here, who, run_id)
        with acting_as(who):
            match action:
                case "pause":
                    await execution.pause(reason, by=who.name)
                case "resume":
                    await execution.resume(by=who.name)
                case "cancel":
                    await execution.cancel(reason, by=who.name)
                case _:
                    execution = await execution.retry()
    except OSProtocolError as error:
        return BulkResult(run_id=run_id, ok=False, code=error.code, message=str(error))
    return BulkResult(run_id=execution.id, ok=True, status=execution.status)
