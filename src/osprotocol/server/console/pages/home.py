"""Home: what needs this person, how all runs stand, who works."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from osprotocol.engine import Filter, RequestFilter
from osprotocol.protocol.run import RunStatus
from osprotocol.protocol.statistics import Statistics
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.console.rendering import now, render
from osprotocol.server.console.routing import page_router
from osprotocol.server.serving import Here
from osprotocol.server.visibility import list_requests, list_runs

router = page_router()

_SHOWN = 6
_COUNTED = 100
_WORKERS = 8


@router.get("/")
async def home_page(request: Request, here: Here, who: Annotated[Principal, allow(Permission.READ)]) -> HTMLResponse:
    """The page that people begin with."""
    statistics, moment = await here.client.statistics(), now(request)
    may_answer = who.may(Permission.ANSWER)
    chosen = RequestFilter(open=True, person=who.name if may_answer else None)
    asked = await list_requests(here, who, chosen, _COUNTED, None)
    ends = sorted(one.expires_at for one in asked.items if one.expires_at is not None)
    failed = await list_runs(here, who, Filter(status=(RunStatus.FAILED,)), _SHOWN, None)
    going = await list_runs(
        here, who, Filter(status=(RunStatus.IN_PROGRESS, RunStatus.AWAITING, RunStatus.PENDING)), _SHOWN, None
    )
    workers = await here.client.workers()
    living = [worker for worker in workers if worker.status == "alive"]
    return await render(
        request,
        "home.html",
        counts=counts_for(who, statistics),
        statistics=statistics,
        sees_all=who.workflows is None,
        may_answer=may_answer,
        asked=sorted(
            asked.items,
            key=lambda one: (one.expires_at is None, one.expires_at or one.opened_at),
        )[:_SHOWN],
        asked_count=len(asked.items),
        asked_more=asked.next_cursor is not None,
        oldest=min((one.opened_at for one in asked.items), default=None),
        expiring=sum(end - moment < timedelta(hours=1) for end in ends),
        failed=failed.items,
        going=going.items,
        workers=[*living, *(worker for worker in workers if worker.status != "alive")][:_WORKERS],
        living=len(living),
    )


def counts_for(who: Principal, statistics: Statistics, workflow: str | None = None) -> dict[str, int]:
    """How many runs are in each status, of those that somebody sees; of one workflow, or of all."""
    if workflow is None and who.workflows is None:
        return dict(statistics.runs)
    counts: dict[str, int] = dict.fromkeys((status.value for status in RunStatus), 0)
    for one in statistics.workflows:
        if who.sees(one.workflow) and workflow in (None, one.workflow):
            for status, number in one.runs.items():
                counts[status] += number
    return counts


def known_workflows(here: Any, who: Principal, statistics: Statistics) -> list[str]:
    """Names of the workflows that can be started here or have runs, as far as somebody sees them."""
    names = {info.name for info in here.client.workflows()} | {one.workflow for one in statistics.workflows}
    return sorted(name for name in names if who.sees(name))
