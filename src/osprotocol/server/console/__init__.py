"""The console: pages for people who watch runs and answer them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.routing import BaseRoute

from osprotocol.server.access import Permission, allow
from osprotocol.server.console.pages import audit, home, inbox, request, run, runs, settings, sign_in, workflows
from osprotocol.server.console.rendering import error_page
from osprotocol.server.console.routing import headers_of
from osprotocol.server.console.static_files import MANIFEST

__all__ = ["error_page", "routes"]

_PAGES = (home, inbox, request, run, runs, workflows, audit, settings, sign_in)
_files = APIRouter(include_in_schema=False)


@_files.api_route("/static/{name}", methods=["GET", "HEAD"], dependencies=[allow(Permission.PUBLIC)])
async def static_file(name: str, asked: Request) -> Response:
    """One of the files that pages load; their names change with their content, so they never get stale."""
    file = MANIFEST.get(name)
    if file is None:
        return Response("no such file\n", 404, media_type="text/plain")
    headers = {"ETag": file.etag, "Cache-Control": "public, max-age=31536000, immutable"}
    if asked.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    response = Response(file.content, headers=headers, media_type=file.media_type)
    return headers_of(response) if asked.method == "HEAD" else response


def routes() -> list[BaseRoute]:
    """Every page, and the files that they load."""
    return [route for router in (*(page.router for page in _PAGES), _files) for route in router.routes]
