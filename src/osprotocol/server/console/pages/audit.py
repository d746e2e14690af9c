"""Audit: what people did, as a list with filters and as a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from osprotocol import _limits
from osprotocol._json import encode
from osprotocol.errors import InvalidOptionError
from osprotocol.server.access import Permission, Principal, allow
from osprotocol.server.console.rendering import Given, render
from osprotocol.server.console.routing import check_filters, page_router
from osprotocol.server.routes.people import read_audit
from osprotocol.server.serving import Here

router = page_router()

Auditor = Annotated[Principal, allow(Permission.AUDIT)]
_FIELDS = ("by", "run", "request")


def _asked(request: Request) -> dict[str, str]:
    """The filter in the address."""
    found = {name: request.query_params.get(name, "").strip()[: _limits.ID_CHARACTERS] for name in _FIELDS}
    return {name: value for name, value in found.items() if value}


@router.get("/audit")
async def audit_page(request: Request, here: Here, who: Auditor) -> HTMLResponse:
    """The newest records, or those before a number."""
    problem: InvalidOptionError | None = None
    try:
        check_filters(request, (*_FIELDS, "before", "verify"))
    except InvalidOptionError as error:
        problem = error
    before = request.query_params.get("before", "")
    start = int(before) if before.isdecimal() and before.isascii() and len(before) < 16 else None
    asked = _asked(request)
    entries, following = await read_audit(here, who, **asked, before=start, limit=_limits.PAGE_SIZE_DEFAULT)
    return await render(
        request,
        "audit.html",
        status=200 if problem is None else problem.http_status,
        problem=problem,
        entries=entries,
        following=following,
        asked=Given(asked),
        before=start,
        people=sorted(user.name for user in here.books.users()),
        head=here.books.audit_head(),
        checked=await here.books.verify_audit() if "verify" in request.query_params else "",
    )


@router.get("/audit/export.ndjson")
async def export(request: Request, here: Here, who: Auditor) -> Response:
    """Every record under the filter, a JSON object a line, newest first."""
    asked = _asked(request)

    async def lines() -> AsyncIterator[bytes]:
        before: int | None = None
        while True:
            entries, before = await read_audit(here, who, **asked, before=before, limit=_limits.PAGE_SIZE)
            if entries:
                yield "".join(f"{encode(entry.to_wire())}\n" for entry in entries).encode()
            if before is None:
                return

    headers = {"Content-Disposition": 'attachment; filename="audit.ndjson"'}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)
