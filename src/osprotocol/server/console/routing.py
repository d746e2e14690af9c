"""Routers for pages: what goes wrong is answered as a page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from osprotocol.errors import InvalidOptionError, NotSignedInError, OSProtocolError
from osprotocol.server.console.rendering import error_page

_OURS = ("fragment", "done")
"""What every page's address may have."""


class PageRoute(APIRoute):
    """A route of a page. Somebody who is not signed in is sent to sign in by the application.

    What can be read with GET can be asked for with HEAD.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        methods = set(options.pop("methods", None) or ("GET",))
        super().__init__(path, endpoint, methods=methods | ({"HEAD"} if "GET" in methods else set()), **options)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the address and the method are this route's; where forms are sent to, there is nothing to read."""
        match, found = super().matches(scope)
        is_reading = scope.get("method") in ("GET", "HEAD")
        return (Match.NONE, {}) if match is Match.PARTIAL and is_reading else (match, found)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with errors as pages."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except NotSignedInError:
                raise
            except OSProtocolError as error:
                response = await error_page(request, error)
            return headers_of(response) if request.method == "HEAD" else response

        return answer


def headers_of(response: Response) -> Response:
    """The same answer without its body."""
    bare = Response(status_code=response.status_code)
    bare.raw_headers = response.raw_headers
    return bare


def page_router() -> APIRouter:
    """A router for pages; they are no part of the API's description."""
    return APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)


def check_filters(request: Request, known: Collection[str]) -> None:
    """Refuse an address that asks for a filter that its page does not have; it would filter nothing.

    Raises:
        InvalidOptionError: with its name, and those that there are.
    """
    for name in request.query_params:
        if name not in known and name not in _OURS:
            raise InvalidOptionError(name[:40], f"there is no such filter; there are {', '.join(known)}")


def see(path: str) -> RedirectResponse:
    """Answer a form: the browser gets the page there, and loading it again sends nothing again."""
    return RedirectResponse(path, 303)
