"""Pages from templates: the one Jinja environment, its filters, and what every page needs around its content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import osprotocol
from osprotocol._clock import from_datetime, to_datetime, to_iso
from osprotocol.errors import OSProtocolError
from osprotocol.protocol._wire import Wire
from osprotocol.server.access import Permission, Principal
from osprotocol.server.console import words
from osprotocol.server.console.answering import could_answer
from osprotocol.server.console.headline import error_text
from osprotocol.server.console.static_files import static_url
from osprotocol.server.console.trouble import trouble_of
from osprotocol.server.console.visible import folded, visible
from osprotocol.server.identity import csrf_token, gate_of
from osprotocol.server.redaction import redact, sees_redacted
from osprotocol.server.serving import Serving

NAVIGATION = (
    ("/", "Home", "h"),
    ("/inbox", "Inbox", "i"),
    ("/runs", "Runs", "r"),
    ("/workflows", "Workflows", "w"),
    ("/audit", "Audit", ""),
)
NOTICES = {
    "paused": "Paused. Running steps finish, nothing new starts.",
    "resumed": "Resumed.",
    "cancelled": "Cancelled.",
    "cancelling": "Cancelling: its cleanup is under way.",
    "retried": "This is the new run. It goes on from what the other one had finished.",
    "forked": "This is the new run. It took over the journal of the other one.",
    "started": "Started.",
    "answered": "Your answer is recorded.",
    "saved": "Saved.",
    "revoked": "The token is revoked.",
}
"""What a page may say after a redirect: ``?done=paused``. The words come from here, never from the address."""

_INBOX_COUNTED = 100
_THEMES = ("light", "dark")
THEME_COOKIE = "osp_theme"


class Given(dict[str, Any]):
    """What an address or a form gave; what it did not give is "" in a template."""

    def __missing__(self, key: str) -> str:
        return ""


def now(request: Request) -> datetime:
    """The time of rendering, by the clock of the runs."""
    return to_datetime(gate_of(request).clock.now())


def json_text(value: Any) -> str:
    """A value as people read it: indented JSON, text in its own characters."""
    return json.dumps(value.to_wire() if isinstance(value, Wire) else value, ensure_ascii=False, indent=2)


def as_text(value: Any) -> str:
    """Text as it is, anything else as JSON in one line; escaped afterwards, as all text is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fact(value: Any) -> str:
    """A fact in a table: yes and no, names with commas; anything else as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return as_text(value)


def in_words(name: str) -> str:
    """A name of the wire as people write it: ``answerDigest`` is "answer digest"."""
    return "".join(f" {one.lower()}" if one.isupper() else one for one in name).strip()


def brief(text: str) -> str:
    """A fact in a table: a digest is shortened, everything else stays whole."""
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else text


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return to_iso(from_datetime(moment))


def utc(moment: datetime) -> str:
    """An instant in words, in UTC, for readers without script."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def short_id(run_id: str) -> str:
    """An id as lists show it: its end, where ids differ; the whole is in the title."""
    return run_id if len(run_id) <= 14 else f"…{run_id[-10:]}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        visible=visible,
        folded=folded,
        json_text=json_text,
        as_text=as_text,
        fact=fact,
        in_words=in_words,
        brief=brief,
        iso=iso,
        utc=utc,
        short_id=short_id,
        ago=words.ago,
        duration=words.duration,
        listed=words.listed,
        thousands=lambda number: f"{number:,}",
    )
    environment.globals.update(
        static_url=static_url,
        csrf_token=csrf_token,
        count=words.count,
        error_text=error_text,
        nav=NAVIGATION,
        version=osprotocol.__version__,
        Permission=Permission,
    )
    return environment


environment = _environment()


async def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A page for whoever is signed in.

    With ``?fragment=`` in the address the page comes without its surroundings: the script exchanges its parts then.

    Args:
        request: what was asked.
        template: name of a file in ``templates/``.
        status: of the answer.
        headers: more headers of the answer.
        values: for the template, besides those that every page has.
    """
    who: Principal | None = getattr(request.state, "principal", None)
    page = {**_surroundings(request, who), **values}
    if who is not None:
        page["inbox_count"], page["inbox_text"] = await _inbox(request.app.state.serving, who)
        page["cursor"] = await newest_cursor(request.app.state.serving)
    return HTMLResponse(environment.get_template(template).render(page), status, headers)


def _surroundings(request: Request, who: Principal | None) -> dict[str, Any]:
    path = request.url.path
    section = next((href for href, _, _ in NAVIGATION[1:] if path == href or path.startswith(f"{href}/")), path)
    theme = request.cookies.get(THEME_COOKIE)
    fully = who is None or sees_redacted(who)
    return {
        "request": request,
        "who": who,
        # Of steps, events, logs and errors nobody sees tokens; of inputs and results only those who do more than look.
        "redacted": lambda value: redact(value, fully=fully),
        "shown": lambda value: redact(value, fully=True) if fully else value,
        "section": "/inbox" if path.startswith("/requests/") else section,
        "theme": theme if theme in _THEMES else None,
        "now": now(request),
        "fragment": "fragment" in request.query_params,
        "notice": NOTICES.get(request.query_params.get("done", "")),
        "inbox_count": 0,
        "inbox_text": "",
        "cursor": 0,
    }


async def _inbox(serving: Serving, who: Principal) -> tuple[int, str]:
    """How many requests wait for this person, and how the badge says it."""
    if not who.may(Permission.ANSWER):
        return 0, ""
    page = await serving.client.requests(person=who.name, limit=_INBOX_COUNTED)
    number = sum(who.sees(request.workflow) and could_answer(who, request) for request in page.items)
    return number, f"{number}+" if page.next_cursor is not None else str(number)


async def newest_cursor(serving: Serving) -> int:
    """Where the live stream has to begin so that a page that is rendered now misses nothing."""
    newest = await serving.client._engine.read_events(None, 0, -1)
    return newest[-1].cursor if newest else 0


async def error_page(request: Request, error: OSProtocolError) -> HTMLResponse:
    """What a browser shows for an error that a page could not handle; with the navigation of whoever is signed in."""
    if getattr(request.state, "principal", None) is None:
        request.state.principal = await gate_of(request).still(request)
    return await render(request, "error.html", status=error.http_status, trouble=trouble_of(error, request.url.path))
