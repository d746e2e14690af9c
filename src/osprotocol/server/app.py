"""`create_app`: the API and the console over one client, as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

from fastapi import FastAPI

from osprotocol import __version__
from osprotocol.client import Client
from osprotocol.server import console, guard, problems
from osprotocol.server.hub import Hub
from osprotocol.server.identity import Gate
from osprotocol.server.metrics import Measured, Metrics
from osprotocol.server.openapi import describe
from osprotocol.server.routes import events, health, operations, people, requests, runs, workflows
from osprotocol.server.serving import Serving
from osprotocol.server.settings import ServerSettings

if TYPE_CHECKING:
    from osprotocol._embedded.books import Books

# "/runs/bulk" has to come before "/runs/{run_id}".
API_ROUTERS = tuple(module.router for module in (workflows, operations, runs, requests, events, people, health))


def create_app(client: Client, books: Books, settings: ServerSettings) -> FastAPI:
    """The server's application. The caller opens and closes the client and the books.

    Args:
        client: the runs; connected.
        books: people, tokens and the audit log.
        settings: how it behaves.
    """
    app = api()
    hub = Hub(client, settings)
    serving = app.state.serving = Serving(client, books, settings, hub)
    gate = Gate(serving)
    hub.watch_rights(gate.revocations)
    app.state.identify = gate.identify
    metrics = app.state.metrics = Metrics(hub)
    app.state.readiness = health.Readiness()
    problems.install(app)
    app.router.routes.extend(console.routes())
    guard.install(app, settings)
    app.middleware_stack = Measured(app.middleware_stack, metrics)  # type: ignore[arg-type]
    return app


def api() -> FastAPI:
    """The routes of the API and their description, without anything behind them."""
    app = FastAPI(
        title="osprotocol",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    # As they are: `include_router` would analyse every one of them again, for every application.
    app.router.routes.extend(route for router in API_ROUTERS for route in router.routes)
    app.state.description = cache(lambda: describe(app, API_ROUTERS))
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.serving.hub.close()
