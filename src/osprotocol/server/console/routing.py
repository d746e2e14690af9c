"""Routers for pages: what goes wrong is answered as a page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from osprotocol.errors import NotSignedInError, OSProtocolError
from osprotocol.server.console.rendering import error_page


class PageRoute(APIRoute):
    """A route of a page. Somebody who is not signed in is sent to sign in by the application."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with errors as pages."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except NotSignedInError:
                raise
            except OSProtocolError as error:
                return await error_page(request, error)

        return answer


def page_router() -> APIRouter:
    """A router for pages; they are no part of the API's description."""
    return APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)


def see(path: str) -> RedirectResponse:
    """Answer a form: the browser gets the page there, and loading it again sends nothing again."""
    return RedirectResponse(path, 303)
