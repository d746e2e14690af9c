"""One run: what it does in words, its waterfall, logs, values, requests, events and audit; steering it."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal, assert_never
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from osprotocol import _limits
from osprotocol.engine import Filter, RequestFilter, Update
from osprotocol.errors import OSProtocolError
from osprotocol.protocol.events import Event
from osprotocol.protocol.request import Request as AskedRequest
from osprotocol.protocol.run import RunSnapshot, RunStatus
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.console.answering import question_of
from osprotocol.server.console.headline import headline, may_answer
from osprotocol.server.console.histories import Histories
from osprotocol.server.console.logs import lines_after, log_page, log_text
from osprotocol.server.console.rendering import Given, now, render
from osprotocol.server.console.routing import page_router, see
from osprotocol.server.console.timeline import Bar, Timeline, clocks
from osprotocol.server.console.waterfall import ROWS_PER_PAGE, waterfall
from osprotocol.server.identity import acting_as
from osprotocol.server.redaction import sees_redacted
from osprotocol.server.routes.people import read_audit
from osprotocol.server.serving import Here, Serving
from osprotocol.server.visibility import engine_of, find_execution, find_run, list_requests, list_runs

router = page_router()

TABS = (
    ("timeline", "Timeline"),
    ("logs", "Logs"),
    ("values", "Input and output"),
    ("requests", "Requests"),
    ("events", "Events"),
    ("audit", "Audit"),
)
_SHOW_ALL_ROWS = 5_000
_EVENTS_PER_PAGE = 100
_MOST = 200

Reader = Annotated[Principal, allow(Permission.READ)]
Action = Literal["pause", "resume", "cancel", "retry", "fork"]
Steerer = Annotated[Principal, allow(Permission.STEER)]


@router.get("/runs/{run_id}")
async def run_page(run_id: str, request: Request, here: Here, who: Reader) -> HTMLResponse:
    """The run's page."""
    update = await find_run(here, who, run_id)
    return await _page(request, here, who, update)


async def _page(
    request: Request,
    here: Serving,
    who: Principal,
    update: Update,
    *,
    problem: OSProtocolError | None = None,
    values: dict[str, str] | None = None,
) -> HTMLResponse:
    moment = now(request)
    run, open_requests = update.read(), update.requests()
    timeline = await histories_of(request, who).read(engine_of(here), run.id, run.created_at)
    tab = request.query_params.get("tab", "timeline")
    tabs = [(key, word) for key, word in TABS if key != "audit" or who.may(Permission.AUDIT)]
    if tab not in dict(tabs):
        tab = "timeline"
    shown = await _TAB_VALUES[tab](request, here, who, run, timeline)
    answerable = [one for one in open_requests if who.may(Permission.ANSWER) and may_answer(one, who.name)]
    question = None
    if answerable:
        question = await question_of(here, who, answerable[0])
    answer = question.request if question is not None and question.can_answer else None
    return await render(
        request,
        "run.html",
        status=200 if problem is None else problem.http_status,
        run=run,
        tab=tab,
        tabs=tabs,
        headline=headline(run, open_requests, timeline, moment),
        clocks=clocks(timeline, moment),
        timeline=timeline,
        is_paused=any(wait.kind == "paused" and wait.run_id is None for wait in run.waiting_on),
        may_steer=who.may(Permission.STEER),
        answerable=answerable,
        question=question,
        open_requests=open_requests,
        commands=commands_for(run, str(here.settings.public_url or request.base_url).rstrip("/"), who, answer),
        problem=problem,
        values=Given(values or {}),
        **shown,
    )


def histories_of(request: Request, who: Principal) -> Histories:
    """The timelines that this server remembers: those read with secrets blacked out are not for everybody."""
    if not hasattr(request.app.state, "histories"):
        request.app.state.histories = {True: Histories(), False: Histories()}
    found: Histories = request.app.state.histories[sees_redacted(who)]
    return found


# ----------------------------------------------------------------------- tabs


async def _timeline_tab(
    request: Request, here: Serving, who: Principal, run: RunSnapshot, timeline: Timeline
) -> dict[str, Any]:
    asked = request.query_params
    selected = timeline.find(asked["step"]) if "step" in asked else None
    everything = asked.get("rows") == "all"
    picture = waterfall(
        timeline,
        now(request),
        page=int(asked["page"]) if asked.get("page", "").isdecimal() and len(asked["page"]) < 7 else None,
        selected=selected,
        folded={"real": False, "cut": True}.get(asked.get("scale", "")),
        rows_per_page=_SHOW_ALL_ROWS if everything else ROWS_PER_PAGE,
    )
    detail = None if selected is None else await _detail(here, who, run, selected)
    shown = {"picture": picture, "selected": selected, "detail": detail, "everything": everything}
    return {**shown, "link": _linker(asked)}


def _linker(asked: Any) -> Any:
    """Makes addresses of this page with some of its parameters changed; None leaves one out."""

    def link(**changes: Any) -> str:
        kept = {key: value for key, value in asked.items() if key not in ("fragment", "done")}
        kept |= {key: str(value) for key, value in changes.items() if value is not None}
        for key, value in changes.items():
            if value is None:
                kept.pop(key, None)
        return f"?{urlencode(kept)}"

    return link


async def _detail(here: Serving, who: Principal, run: RunSnapshot, bar: Bar) -> dict[str, Any]:
    """What is known of one bar: its result or error, the question, the child."""
    engine = engine_of(here)
    events: list[Event] = await engine.read_events(run.id, bar.event - 1, 1) if bar.event else []
    data = events[0].data if events and isinstance(events[0].data, dict) else {}
    detail: dict[str, Any] = {"result": None, "has_result": False, "error": None, "request": None}
    if bar.is_human:
        try:
            detail["request"] = await engine.find_request(bar.key)
        except OSProtocolError:
            detail["request"] = None  # asked in the run that this one was made from
    elif bar.outcome == "failed" or (bar.kind == "child" and bar.outcome not in ("", "completed")):
        error = data.get("error") if bar.kind == "child" else data
        detail["error"] = error or {"type": "", "message": bar.outcome}
    elif bar.outcome == "completed" and "result" in data:
        detail |= {"result": data["result"], "has_result": True}
    elif bar.failures and isinstance(data.get("error"), dict):
        detail["error"] = data["error"]
    is_over = bar.outcome not in ("", "abandoned") and not bar.is_forgotten
    detail["can_fork"] = is_over and bar.position is not None and bar.kind != "attention"
    return detail


async def _logs_tab(
    request: Request, here: Serving, who: Principal, run: RunSnapshot, timeline: Timeline
) -> dict[str, Any]:
    asked = request.query_params
    if asked.get("after", "").isdecimal() and len(asked["after"]) < 16:
        # The script follows: only what is new.
        return {"logs": await lines_after(engine_of(here), run.id, int(asked["after"])), "link": _linker(asked)}
    page = await log_page(
        engine_of(here),
        run.id,
        level=asked.get("level", ""),
        text=asked.get("q", ""),
        page=int(asked["page"]) if asked.get("page", "").isdecimal() and len(asked["page"]) < 7 else 1,
    )
    return {"logs": page, "link": _linker(asked)}


async def _values_tab(
    request: Request, here: Serving, who: Principal, run: RunSnapshot, timeline: Timeline
) -> dict[str, Any]:
    engine = engine_of(here)
    first = await engine.read_events(run.id, 0, 1)
    given = first[0].data.get("input") if first and isinstance(first[0].data, dict) else None
    result = None
    if run.status is RunStatus.COMPLETED:
        last = await engine.read_events(run.id, 0, -1)
        result = last[-1].data.get("result") if last and isinstance(last[-1].data, dict) else None
    children = await list_runs(here, who, Filter(parent_id=run.id), _limits.PAGE_SIZE_DEFAULT, None)
    return {"input": given, "result": result, "children": children.items, "more_children": children.next_cursor}


async def _requests_tab(
    request: Request, here: Serving, who: Principal, run: RunSnapshot, timeline: Timeline
) -> dict[str, Any]:
    cursor = request.query_params.get("cursor")
    page = await list_requests(here, who, RequestFilter(open=None, run_id=run.id), _limits.PAGE_SIZE_DEFAULT, cursor)
    return {"asked": page, "link": _linker(request.query_params)}


async def _events_tab(
    request: Request, here: Serving, who: Principal, run: RunSnapshot, timeline: Timeline
) -> dict[str, Any]:
    pages = max(1, -(-run.event // _EVENTS_PER_PAGE))
    wanted = request.query_params.get("page", "")
    page = min(max(int(wanted), 1), pages) if wanted.isdecimal() and len(wanted) < 7 else pages
    events = await engine_of(here).read_events(run.id, (page - 1) * _EVENTS_PER_PAGE, _EVENTS_PER_PAGE)
    return {"events": events, "page": page, "pages": pages, "link": _linker(request.query_params)}


async def _audit_tab(
    request: Request, here: Serving, who: Principal, run: RunSnapshot, timeline: Timeline
) -> dict[str, Any]:
    entries, _ = await read_audit(here, who, run=run.id, limit=_MOST)
    return {"entries": entries}


_TAB_VALUES = {
    "timeline": _timeline_tab,
    "logs": _logs_tab,
    "values": _values_tab,
    "requests": _requests_tab,
    "events": _events_tab,
    "audit": _audit_tab,
}


@router.get("/runs/{run_id}/log.txt")
async def log_file(run_id: str, here: Here, who: Reader) -> Response:
    """All lines of the run's log, as text."""
    update = await find_run(here, who, run_id)
    engine = engine_of(here)

    async def lines() -> Any:
        after = 0
        while True:
            page = await engine.logs(update.run_id, after, _limits.PAGE_SIZE)
            if not page:
                return
            yield "".join(log_text(line) + "\n" for line in page).encode("utf-8", "backslashreplace")
            after = page[-1].number

    headers = {"Content-Disposition": f'attachment; filename="{update.run_id}.log"'}
    return StreamingResponse(lines(), media_type="text/plain; charset=utf-8", headers=headers)


# -------------------------------------------------------------------- steering


@router.post("/runs/{run_id}/{action}")
async def steer(run_id: str, action: Action, request: Request, here: Here, who: Steerer) -> Response:
    """Pause, resume, cancel, retry or fork, as a button of the run's page asks."""
    update = await find_run(here, who, run_id)
    form = await request.form(max_files=0)
    values = {key: value for key, value in form.items() if isinstance(value, str) and key != "csrf"}
    try:
        there, done = await _steer(here, who, update, action, values)
    except OSProtocolError as error:
        again = await find_run(here, who, update.run_id)
        return await _page(request, here, who, again, problem=error, values={**values, "action": action})
    return see(f"/runs/{quote(there)}?done={done}")


async def _steer(
    here: Serving, who: Principal, update: Update, action: Action, values: dict[str, str]
) -> tuple[str, str]:
    """Do it; gives the run to show then and what to say."""
    execution = await find_execution(here, who, update.run_id)
    reason = values.get("reason", "").strip() or None
    with acting_as(who):
        match action:
            case "pause":
                await execution.pause(reason, by=who.name)
                return update.run_id, "paused"
            case "resume":
                await execution.resume(by=who.name)
                return update.run_id, "resumed"
            case "cancel":
                graceful = False if values.get("force") else None
                return update.run_id, await execution.cancel(reason, by=who.name, graceful=graceful)
            case "retry":
                return (await execution.retry()).id, "retried"
            case "fork":
                return (await execution.fork(values.get("after_step") or None)).id, "forked"
    assert_never(action)


def commands_for(
    run: RunSnapshot, address: str, who: Principal, asked: AskedRequest | None = None
) -> list[tuple[str, str, str]]:
    """What does the same in a terminal: word, command of the CLI, call with curl.

    Args:
        run: of the page.
        address: of this server.
        who: gets what they may do.
        asked: what this person could answer.
    """
    run_id, url = shlex.quote(run.id), f"{address}/api/v1/runs/{run.id}"
    bearer = '-H "Authorization: Bearer $OSP_TOKEN"'

    def post(verb: str, body: str = "") -> str:
        data = f" --json {shlex.quote(body)}" if body else " -X POST"
        return f"curl{data} {bearer} {shlex.quote(f'{url}/{verb}')}"

    def cli(verb: str, more: str = "") -> str:
        return f"osp --url {shlex.quote(address)} {verb} {run_id}{more}"

    found = [("Show", cli("show"), f"curl {bearer} {shlex.quote(url)}")]
    if asked is not None and asked.kind == "approval":
        found += [(verb.capitalize(), cli(verb), post(verb)) for verb in ("approve", "reject")]
    elif asked is not None:
        value = "ANSWER" if asked.kind == "input" else "retry"
        found.append(("Respond", cli("respond", f" {value}"), post("respond", f'{{"value": "{value}"}}')))
    if not who.may(Permission.STEER):
        return found
    if not run.status.is_final:
        paused = any(wait.kind == "paused" for wait in run.waiting_on)
        verb = "resume" if paused else "pause"
        found += [(verb.capitalize(), cli(verb), post(verb)), ("Cancel", cli("cancel"), post("cancel"))]
    elif run.status is not RunStatus.COMPLETED:
        found.append(("Retry", cli("retry"), post("retry")))
    else:
        found.append(("Fork", cli("fork"), post("fork")))
    return found
