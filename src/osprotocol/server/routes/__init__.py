"""The HTTP API, version 1: one module for each kind of thing. docs/http-api.md is made from it."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.routing import APIRoute

from osprotocol.server.replies import API


def api_router(tag: str, prefix: str = API) -> APIRouter:
    """A router whose routes are whole: they know their full path, and are analysed once, when they are declared.

    Args:
        tag: under which the description lists them.
        prefix: of every path.
    """
    return APIRouter(prefix=prefix, tags=[tag], generate_unique_id_function=_name_of)


def _name_of(route: APIRoute) -> str:
    return route.name
